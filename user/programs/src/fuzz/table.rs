//! What the interface says of each call, in the form that the fuzzer wants it: one row for each system call
//! and method, with the statuses it may end with, and what its arguments are.

use abi::table::{CallInfo, METHODS, SYSCALLS};
use abi::{Error, Kind, Syscall};

/// Rows: the system calls, foreign calls, the methods.
pub const ROWS: usize = SYSCALLS.len() + 1 + METHODS.len();
/// The row of foreign calls.
pub const FOREIGN: usize = SYSCALLS.len();
/// The row of the first method.
pub const FIRST_METHOD: usize = FOREIGN + 1;
/// Statuses: success, each error, anything else.
pub const STATUSES: usize = Error::ALL.len() + 2;

/// What an argument of a method is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A capability for an object of this kind.
    Capability(Kind),
    /// A kind of object.
    Kind,
    /// Rights.
    Rights,
    /// How to map.
    MapFlags,
    /// log2 of a size.
    Bits,
    /// A slot that should be empty.
    EmptySlot,
    /// A slot that should be filled.
    FullSlot,
    /// A few.
    Count,
    /// A badge.
    Badge,
    /// A user address.
    Address,
    /// An offset into a Frame.
    Offset,
    /// A number of pages.
    Pages,
    /// Where code is.
    Code,
    /// An interrupt line.
    Line,
    /// A CPU.
    Cpu,
    /// A device.
    Source,
    /// An I/O port.
    Port,
    /// Bytes, at most some hundred.
    Size,
    /// TSC ticks.
    Ticks,
    /// A priority.
    Priority,
    /// A small number or bits.
    Small,
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

const NAMES: &[(&str, Argument)] = &[
    ("cnode", Argument::Capability(Kind::CNode)),
    ("from", Argument::Capability(Kind::CNode)),
    ("cspace", Argument::Capability(Kind::CNode)),
    ("vspace", Argument::Capability(Kind::VSpace)),
    ("buffer", Argument::Capability(Kind::Frame)),
    ("frame", Argument::Capability(Kind::Frame)),
    ("untyped", Argument::Capability(Kind::Untyped)),
    ("endpoint", Argument::Capability(Kind::Endpoint)),
    ("notification", Argument::Capability(Kind::Notification)),
    ("tcb", Argument::Capability(Kind::Tcb)),
    ("context", Argument::Capability(Kind::SchedContext)),
    ("kind", Argument::Kind),
    ("rights", Argument::Rights),
    ("bits", Argument::Bits),
    ("slot", Argument::EmptySlot),
    ("from_slot", Argument::FullSlot),
    ("count", Argument::Count),
    ("badge", Argument::Badge),
    ("address", Argument::Address),
    ("offset", Argument::Offset),
    ("pages", Argument::Pages),
    ("resume", Argument::Small),
    ("entry", Argument::Code),
    ("kick_entry", Argument::Code),
    ("gsi", Argument::Line),
    ("cpu", Argument::Cpu),
    ("source", Argument::Source),
    ("space", Argument::Capability(Kind::IoSpace)),
    ("flags", Argument::Small),
    ("port", Argument::Port),
    ("width", Argument::Small),
    ("value", Argument::Small),
    ("budget", Argument::Ticks),
    ("period", Argument::Ticks),
    ("priority", Argument::Priority),
    ("size", Argument::Size),
    ("mask", Argument::Small),
    ("status", Argument::Small),
];

const fn argument(call: &CallInfo, name: &str, kind: &str) -> Argument {
    if same(kind, "MapFlags") {
        return Argument::MapFlags;
    }
    if same(name, "slot")
        && (same(call.name, "delete") || same(call.name, "revoke") || same(call.name, "identify"))
    {
        return Argument::FullSlot;
    }
    let mut at = 0;
    while at < NAMES.len() {
        if same(NAMES[at].0, name) {
            return NAMES[at].1;
        }
        at += 1;
    }
    panic!("the fuzzer does not know what an argument of this name is")
}

/// Arguments of a method, at most.
const MAX_ARGUMENTS: usize = 8;

/// What the arguments of each method are; `None` beyond the last.
pub const ARGUMENTS: [[Option<Argument>; MAX_ARGUMENTS]; METHODS.len()] = {
    let mut all = [[None; MAX_ARGUMENTS]; METHODS.len()];
    let mut method = 0;
    while method < METHODS.len() {
        let call = &METHODS[method];
        let mut at = 0;
        while at < call.arguments.len() {
            let (name, kind) = call.arguments[at];
            all[method][at] = Some(argument(call, name, kind));
            at += 1;
        }
        method += 1;
    }
    all
};

const fn mask(errors: &[Error]) -> u32 {
    let mut mask = 0;
    let mut at = 0;
    while at < errors.len() {
        mask |= 1 << errors[at] as u32;
        at += 1;
    }
    mask
}

/// The statuses each row may end with: bit n for status n. A foreign call ends with none: it does not return.
const ALLOWED: [u32; ROWS] = {
    let mut all = [0; ROWS];
    let mut at = 0;
    while at < SYSCALLS.len() {
        all[at] = 1 | mask(SYSCALLS[at].errors);
        at += 1;
    }
    let mut at = 0;
    while at < METHODS.len() {
        all[FIRST_METHOD + at] = all[Syscall::invoke as usize] | mask(METHODS[at].errors);
        at += 1;
    }
    all
};

/// The row of a call with these registers.
pub fn row(rax: u64, rsi: u64) -> usize {
    match Syscall::from_number(rax as u32) {
        None => FOREIGN,
        Some(Syscall::invoke) => METHODS
            .iter()
            .position(|method| u64::from(method.number) == rsi)
            .map_or(Syscall::invoke as usize, |at| FIRST_METHOD + at),
        Some(which) => which as usize,
    }
}

/// Whether a call of this row may end with this status. (That `invoke` succeeds without a method is not
/// allowed, either.)
pub fn is_allowed(row: usize, status: u64) -> bool {
    let success = status == 0 && row == Syscall::invoke as usize;
    status < 32 && !success && ALLOWED[row] >> status & 1 == 1
}

/// The column in which a status is counted.
pub fn column(status: u64) -> usize {
    (status as usize).min(STATUSES - 1)
}

/// Kind and name of a row.
pub fn name(row: usize) -> (Option<Kind>, &'static str) {
    match row {
        FOREIGN => (None, "(foreign)"),
        FIRST_METHOD.. => (METHODS[row - FIRST_METHOD].kind, METHODS[row - FIRST_METHOD].name),
        _ => (None, SYSCALLS[row].name),
    }
}
