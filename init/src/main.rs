//! The root task.
#![no_std]
#![no_main]

use abi::boot::slots;
use abi::{CPtr, Error};
use init::serve::Init;
use init::{guardian, log, machine};

rt::root!(main);

fn main() -> ! {
    rt::panic::report_to(last_words);
    log!("init: starts");
    let machine = machine::take_over();
    if let Err(error) = guardian::start(&machine) {
        panic!("no memory for init itself: {error}");
    }
    guardian::die_if_asked(&machine);
    let mut init = match Init::new(machine) {
        Ok(init) => init,
        Err(error) => panic!("no memory for init itself: {error}"),
    };
    let endpoint = init.endpoint();
    loop {
        let error = ipc::serve::serve(endpoint, &mut init);
        // A wait that was broken off is no reason to stop; anything else would go on for ever.
        assert!(error == Error::Cancelled, "init cannot receive: {}", error.name());
    }
}

/// A panic of init is the end of the system: say why, and stop the machine.
fn last_words(message: &str) -> ! {
    log!("init: panic: {message}");
    loop {
        // Where the machine does not go down, nothing is left to do.
        let _ = ipc::System(CPtr(slots::SYSTEM)).shutdown(u64::from(proto::host::EXIT_INIT_PANIC));
        ipc::yield_now();
    }
}
