//! Stopping a function for certain: it has forgotten every address it was given.
//!
//! VirtIO's own reset is asked for first, and goes without a look at the bus: a device that says that it is reset touches
//! no queue until a driver begins with it again (VirtIO 1.2, 2.4.1). Taking the bus from a function and giving it back
//! has a virtual machine work out twice which device reaches what, which takes it longer than all else in a recovery. So
//! only a function that stays off loses the bus then, and one that does not reset itself before harder means are used.
//!
//! What takes time is waited for by the clock, not in place: [`Stop::step`] says when it wants to be called again, and
//! other functions go on meanwhile. Whatever a device does, it ends: each wait has an end, and leads to the next, harder
//! way.
//!
//! ```text
//!  appear ──▶ VirtIO's own reset ──▶ done             VirtIO 1.2, 4.1.4.3.1: status 0, read back
//!    │                │ no, or not in time
//!    │                ▼
//!    │     bus mastering off ──▶ no transaction pending ──▶ function reset ──▶ there again ──▶ done
//!    │                                       │                                       PCIe 5.0, 6.6.2
//!    ▼                                       │ cannot, or not in time
//!  reset of the bus, if nothing else is on it ◀───┘ ──▶ there again ──▶ done         PCIe 5.0, 6.6.1
//!                     │ cannot, or not in time
//!                     ▼
//!                not stopped
//! ```

use crate::Bdf;
use crate::config::{Machine, NOTHING, Register, SECONDARY_BUS_RESET, Width, command, offset};
use crate::function::Function;

/// How long a function may take to answer after a reset (PCIe 5.0, 6.6.1: 1 s).
const TO_APPEAR: u64 = 1_000_000;
/// How long a VirtIO device may take to reset itself before harder means are used. The standard names no time.
const TO_RESET_ITSELF: u64 = 100_000;
/// How long transactions may be pending before a function reset (PCIe 5.0, 6.6.2).
const TO_DRAIN: u64 = 100_000;
/// How long a function is left alone after its reset (PCIe 5.0, 6.6.2), and after that of its bus (6.6.1).
const TO_SETTLE: u64 = 100_000;
/// How long the reset of a bus is held (PCIe 5.0, 7.5.1.3.13: at least 1 ms).
const TO_HOLD: u64 = 2_000;
/// How often is looked, for what is quick and for what is not.
const SOON: u64 = 50;
const LATER: u64 = 1_000;

/// In the capability of PCI Express: device control with its reset, device status with "transactions pending".
const DEVICE_CONTROL: u16 = 8;
const RESET: u32 = 1 << 15;
const PENDING: u32 = 1 << 21;

/// What stopping one function needs beside it.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    /// `device_status` of a VirtIO device, if its Frame was given.
    pub status: Option<Register>,
    /// The bridge whose bus only this function is on.
    pub bridge: Option<Bdf>,
    /// It is to stay off, without the bus; otherwise it goes on at once, and may keep it.
    pub stays_off: bool,
}

/// How it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// To be looked at again at this time.
    At(u64),
    /// It is stopped.
    Stopped,
    /// It could not be stopped.
    NotStopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Appear,
    ResetItself,
    Drain,
    FunctionReset,
    AfterFunctionReset,
    HoldBus,
    ReleaseBus,
    AfterBusReset,
}

/// The stopping of one function.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    stage: Stage,
    /// When the stage ends at the latest, or at the earliest where it is a time of rest.
    until: u64,
}

/// What a stage leads to.
enum Next {
    Wait(u64),
    Stage(Stage, u64),
    End(Progress),
}

impl Stop {
    /// Begins at time `now`.
    pub fn new(now: u64) -> Stop {
        Stop { stage: Stage::Appear, until: now.saturating_add(TO_APPEAR) }
    }

    /// Goes on as far as possible without waiting.
    pub fn step(&mut self, machine: &mut impl Machine, function: &Function, means: &Means) -> Progress {
        loop {
            let now = machine.now();
            match self.next(machine, function, means, now) {
                Next::Wait(time) => return Progress::At(now.saturating_add(time)),
                Next::End(progress) => return progress,
                Next::Stage(stage, time) => *self = Stop { stage, until: now.saturating_add(time) },
            }
        }
    }

    fn next(&self, machine: &mut impl Machine, function: &Function, means: &Means, now: u64) -> Next {
        let over = now >= self.until;
        let rest = Next::Wait(self.until.saturating_sub(now));
        match self.stage {
            Stage::Appear if function.is_there(machine) => begin(machine, function, means),
            Stage::ResetItself if is_reset(machine, function, means) => {
                match !means.stays_off || function.quiet(machine).is_some() {
                    true => Next::End(Progress::Stopped),
                    false => take_bus(machine, function),
                }
            }
            Stage::ResetItself if over => take_bus(machine, function),
            Stage::ResetItself => Next::Wait(SOON),
            Stage::Drain if over || !is_pending(machine, function) => {
                reset_function(machine, function, means)
            }
            Stage::Drain => Next::Wait(SOON),
            Stage::FunctionReset if over => Next::Stage(Stage::AfterFunctionReset, TO_APPEAR),
            Stage::AfterFunctionReset | Stage::AfterBusReset if function.is_there(machine) => {
                end(machine, function)
            }
            Stage::Appear | Stage::AfterFunctionReset if over => hold_bus(machine, means),
            Stage::AfterBusReset if over => Next::End(Progress::NotStopped),
            Stage::Appear | Stage::AfterFunctionReset | Stage::AfterBusReset => Next::Wait(LATER),
            Stage::HoldBus if over => release_bus(machine, means),
            Stage::ReleaseBus if over => Next::Stage(Stage::AfterBusReset, TO_APPEAR),
            Stage::FunctionReset | Stage::HoldBus | Stage::ReleaseBus => rest,
        }
    }
}

fn begin(machine: &mut impl Machine, function: &Function, means: &Means) -> Next {
    let asked = means.status.is_some_and(|register| {
        function.silence(machine);
        function.decode(machine).is_some() && machine.set_register(register, 0).is_some()
    });
    match asked {
        true => Next::Stage(Stage::ResetItself, TO_RESET_ITSELF),
        false => take_bus(machine, function),
    }
}

/// A function that does not reset itself begins nothing new, and has what it has begun ended.
fn take_bus(machine: &mut impl Machine, function: &Function) -> Next {
    // Whether it obeyed is looked at when it has been reset.
    let _ = function.quiet(machine);
    Next::Stage(Stage::Drain, TO_DRAIN)
}

fn is_reset(machine: &mut impl Machine, function: &Function, means: &Means) -> bool {
    let status = means.status.and_then(|register| machine.register(register));
    status == Some(0) && function.is_there(machine)
}

fn is_pending(machine: &mut impl Machine, function: &Function) -> bool {
    let word = function.express.map(|express| machine.read(function.at, express + DEVICE_CONTROL));
    word.is_some_and(|word| word & PENDING != 0)
}

fn reset_function(machine: &mut impl Machine, function: &Function, means: &Means) -> Next {
    let Some(express) = function.express.filter(|_| function.resets) else {
        return hold_bus(machine, means);
    };
    let control = machine.read(function.at, express + DEVICE_CONTROL) & 0xffff;
    machine.write(function.at, express + DEVICE_CONTROL, control | RESET);
    Next::Stage(Stage::FunctionReset, TO_SETTLE)
}

fn hold_bus(machine: &mut impl Machine, means: &Means) -> Next {
    let Some(bridge) = means.bridge else { return Next::End(Progress::NotStopped) };
    let control = machine.read(bridge, offset::BRIDGE_CONTROL);
    if control == NOTHING {
        return Next::End(Progress::NotStopped);
    }
    machine.write(bridge, offset::BRIDGE_CONTROL, control | SECONDARY_BUS_RESET);
    Next::Stage(Stage::HoldBus, TO_HOLD)
}

fn release_bus(machine: &mut impl Machine, means: &Means) -> Next {
    if let Some(bridge) = means.bridge {
        release(machine, bridge);
    }
    Next::Stage(Stage::ReleaseBus, TO_SETTLE)
}

/// Ends the reset of the bus behind `bridge`, if there is one going on.
pub fn release(machine: &mut impl Machine, bridge: Bdf) {
    let control = machine.read(bridge, offset::BRIDGE_CONTROL);
    if control != NOTHING && control & SECONDARY_BUS_RESET != 0 {
        machine.write(bridge, offset::BRIDGE_CONTROL, control & !SECONDARY_BUS_RESET);
    }
}

/// A function that has been reset is quiet, has its addresses back, and does not master the bus.
fn end(machine: &mut impl Machine, function: &Function) -> Next {
    let quiet = function.quiet(machine).is_some();
    if function.usable && quiet {
        function.decode(machine);
    }
    let after = machine.read(function.at, offset::COMMAND);
    let stopped = quiet && after != NOTHING && after & command::BUS_MASTER == 0;
    Next::End(if stopped { Progress::Stopped } else { Progress::NotStopped })
}

/// The register by which a VirtIO device is reset, if its Frame is in `slot` (0: there is none).
pub fn status(function: &Function, slot: u32) -> Option<Register> {
    let address = function.device_status().filter(|_| slot != 0)?;
    Some(Register { slot, address, width: Width::Byte })
}
