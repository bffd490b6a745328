//! Shows what init gave it: arguments, capabilities, memory.
#![no_std]
#![no_main]

use abi::CPtr;
use ipc::CNode;
use rt::alloc::AllocError;
use rt::{env, memory};

rt::entry!(main);

fn main() -> Result<(), AllocError> {
    for (at, argument) in env::arguments().enumerate() {
        rt::println!("argument {at}: {argument}");
    }
    let cnode = CNode(env::required(proto::start::names::CNODE));
    let (bits, first_free) = env::slots();
    rt::println!("{} slots, from {first_free} on free", 1u32 << bits);
    for slot in abi::object::FIRST_SLOT..first_free {
        let found = cnode.describe(u64::from(slot))?;
        let name = env::name_of(CPtr(slot)).unwrap_or("");
        rt::println!("{slot:4} {:14} {name}", found.kind.name());
    }
    let (bytes, slots) = memory::with(|objects| Ok((objects.free_bytes(), objects.free_slots())))?;
    rt::println!("{} KiB of memory and {slots} slots free", bytes >> 10);
    Ok(())
}
