//! The one table of system calls and methods.
//!
//! `interface!(callback)` hands the whole table to the macro `callback`: this module makes numbers and names
//! of it, the kernel its dispatch, crate `ipc` the user stubs, and [`crate::reference`] the reference page.

use crate::{Error, Kind};

/// Number of the first system call. Linux assigns no number with these upper bits, not even to its x32
/// calls (bit 30 with small numbers), and looks at eax only.
pub const SYSCALL_BASE: u32 = 0x534b_0000;

/// Hands the table to the macro named.
#[macro_export]
macro_rules! interface {
    ($callback:ident) => {
        $callback! {
            syscalls {
                /// Send a message to an Endpoint (right WRITE) and wait for the answer.
                call = 0 [NoCapability, WrongKind, NoRights, InvalidArgument, PeerDied, Cancelled];
                /// Answer the caller on the thread's own Reply (none is no error), then receive from an Endpoint
                /// (right READ). The answer is gone even when the receive is refused.
                reply_recv = 1 [NoCapability, WrongKind, NoRights, InvalidArgument, Busy, TimedOut, Cancelled];
                /// Send a message to an Endpoint (right WRITE) without asking for an answer, or answer the caller
                /// on a Reply.
                send = 2 [NoCapability, WrongKind, NoRights, InvalidArgument, NoCaller, Cancelled];
                /// Receive from an Endpoint (right READ) into the thread's own Reply, or the one named in the high
                /// half of rdx. With `MsgInfo::DEADLINE`, word 0 says when to give up (TSC ticks). A caller who
                /// still waits on that Reply gets PeerDied.
                recv = 3 [NoCapability, WrongKind, NoRights, InvalidArgument, Busy, TimedOut, Cancelled];
                /// As `send`, if the receiver waits already.
                try_send = 4 [NoCapability, WrongKind, NoRights, InvalidArgument, NoCaller, WouldBlock];
                /// As `recv`, if a message waits already.
                try_recv = 5 [NoCapability, WrongKind, NoRights, InvalidArgument, Busy, WouldBlock];
                /// Answer the caller on the thread's own Reply, and go on.
                reply = 6 [InvalidArgument, NoCaller];
                /// Add the capability's badge to a Notification's bits (right WRITE); a badge of 0 counts as bit 0.
                signal = 7 [NoCapability, WrongKind, NoRights];
                /// Wait until a Notification (right READ) has bits, and take them (word 0). With
                /// `MsgInfo::DEADLINE`, word 0 says when to give up (TSC ticks).
                wait = 8 [NoCapability, WrongKind, NoRights, InvalidArgument, TimedOut, Cancelled];
                /// Take a Notification's bits (word 0) if it has any.
                poll = 9 [NoCapability, WrongKind, NoRights, WouldBlock];
                /// Let the other threads of the same priority run first.
                yield_now = 10 [];
                /// Nothing.
                nop = 11 [];
                /// Call a method on an object: rsi is its number, words 0 to 7 its arguments and results.
                invoke = 12 [NoCapability, WrongKind, NoRights, NoSuchMethod];
            }
            methods {
                Untyped {
                    /// Make `count` (1 to 64; of VSpaces to 8) objects of `kind` and `bits` (see `object_bits`) in `cnode` (right
                    /// WRITE), slots `slot` and on. Memory is cleared; device memory only becomes Untyped and
                    /// Frames. Whoever holds the new capabilities owns the objects: deleting one destroys its
                    /// object. While a revocation is under way, they are made eight at a time: a call that is
                    /// refused then may leave the first of them made.
                    retype = 0x101 (kind: Kind, bits: u64, cnode: CPtr, slot: u64, count: u64) -> 0
                        [InvalidArgument, OutOfRange, SlotOccupied, OutOfMemory];
                }
                CNode {
                    /// Derive a capability with no more than `rights` from slot `from_slot` of CNode `from` into
                    /// `slot`. A `badge` other than 0 marks an unbadged Endpoint or Notification, lowers a
                    /// SchedControl's ceiling, or narrows an IoPort (first port, last port << 16).
                    mint = 0x201 (slot: u64, from: CPtr, from_slot: u64, rights: Rights, badge: u64) -> 0
                        [OutOfRange, SlotOccupied, InvalidArgument, Busy];
                    /// Derive a capability with the same rights and badge.
                    copy = 0x202 (slot: u64, from: CPtr, from_slot: u64) -> 0 [OutOfRange, SlotOccupied, Busy];
                    /// Move a capability; what was derived from it stays derived.
                    relocate = 0x203 (slot: u64, from: CPtr, from_slot: u64) -> 0 [OutOfRange, SlotOccupied];
                    /// Delete the capability in `slot`; of an owner, with the object and everything derived. What
                    /// was derived from any other stays, derived from its parent. An empty slot is no error.
                    delete = 0x204 (slot: u64) -> 0 [OutOfRange];
                    /// Delete everything derived from the capability in `slot`; of an Untyped, every object made
                    /// from it.
                    revoke = 0x205 (slot: u64) -> 0 [OutOfRange, NoCapability];
                    /// What is in `slot`: kind, bits, rights, badge, identity (the same for the same object, 0 for
                    /// an empty slot; 1 for all others where the caller's CSpace lacks the right PHYSICAL), free
                    /// bytes (Untyped) or capabilities derived (others: 0 or 1).
                    identify = 0x206 (slot: u64) -> 6 [OutOfRange];
                }
                VSpace {
                    /// Map `pages` (of 4 KiB) of `frame`, from byte `offset` on, at `address`. READ is implied;
                    /// the Frame's rights bound `flags`. Costs tables and one record of the VSpace's memory. A
                    /// refused map of more than 512 pages may leave the first of them mapped.
                    map = 0x301 (frame: CPtr, address: u64, offset: u64, pages: u64, flags: MapFlags) -> 0
                        [InvalidArgument, OutOfRange, AlreadyMapped, OutOfTables];
                    /// Unmap `pages` (of 4 KiB) from `address` on; holes are no error. Large pages go whole or not.
                    unmap = 0x302 (address: u64, pages: u64) -> 0 [InvalidArgument, OutOfRange];
                    /// Change how `pages` from `address` on are mapped, within the rights of their Frames; holes are no
                    /// error. A refused protect of more than 512 pages may have changed the first of them.
                    protect = 0x303 (address: u64, pages: u64, flags: MapFlags) -> 0
                        [InvalidArgument, OutOfRange, NoRights];
                    /// Give the Untyped in `untyped` (nothing made of it; it leaves the caller's CSpace) to the
                    /// VSpace for tables and records.
                    donate = 0x304 (untyped: CPtr) -> 0 [InvalidArgument, Busy, OutOfRange];
                    /// How `address` is mapped: flags, physical address of the page (0 where the caller's CSpace
                    /// lacks the right PHYSICAL), its size in bytes.
                    query = 0x305 (address: u64) -> 3 [OutOfRange, NotMapped];
                }
                Frame {
                    /// The physical address of its first byte, for devices (the caller's CSpace needs the right
                    /// PHYSICAL).
                    physical = 0x401 () -> 1 [];
                }
                Tcb {
                    /// Set the CSpace (a CNode), the VSpace, and the Frame and byte offset of the IPC buffer;
                    /// `CPtr::NULL` leaves one as it is. Refused while the thread could run.
                    configure = 0x501 (cspace: CPtr, vspace: CPtr, buffer: CPtr, offset: u64) -> 0
                        [InvalidArgument, OutOfRange, Busy];
                    /// Where faults go: a badged Endpoint (right WRITE), or `CPtr::NULL` for nowhere.
                    set_fault_handler = 0x502 (endpoint: CPtr) -> 0 [];
                    /// Set the registers from the first words of the caller's IPC buffer; `resume` of 1 also
                    /// starts the thread. Whatever it waited for is broken off.
                    write_registers = 0x503 (resume: u64) -> 0 [NotConfigured, InvalidArgument, Busy];
                    /// The registers, into the first words of the caller's IPC buffer. Refused while the thread
                    /// could run.
                    read_registers = 0x504 () -> 0 [NotConfigured, Busy];
                    /// Let it run. A wait that a suspend broke off ends with Cancelled.
                    resume = 0x505 () -> 0 [NotConfigured];
                    /// Stop it, wherever it is; what it waited for is broken off.
                    suspend = 0x506 () -> 0 [];
                    /// Let signals to `notification` (right READ) end the thread's receives too.
                    bind_notification = 0x507 (notification: CPtr) -> 0 [Busy];
                    /// Undo that.
                    unbind_notification = 0x508 () -> 0 [];
                    /// Where foreign system calls and kicks enter its library; 0 for neither.
                    set_foreign = 0x509 (entry: u64, kick_entry: u64) -> 0 [InvalidArgument, NotConfigured];
                    /// Enter the thread's library at its kick entry, or, while it is inside, leave word there.
                    kick = 0x50a () -> 0 [NotConfigured];
                    /// State (0 inactive, 1 ready or running, 2 blocked, 3 out of budget), CPU, priority, and 1 if it waits for the
                    /// receiver of its message, or for the answer.
                    status = 0x50b () -> 4 [];
                }
                SchedContext {
                    /// Bind to a thread: it can run. Refused before a SchedControl has configured it, and to a
                    /// thread that is at work for a caller on another CPU.
                    bind = 0x601 (tcb: CPtr) -> 0 [NotConfigured, Busy];
                    /// Unbind: the thread cannot run on it any more.
                    unbind = 0x602 () -> 0 [];
                    /// TSC ticks consumed since the last call of this method.
                    consumed = 0x603 () -> 1 [];
                }
                IrqControl {
                    /// Make an IrqHandler for a global system interrupt of the I/O APIC, delivered to `cpu`;
                    /// `flags`: bit 0 level-triggered, bit 1 active low.
                    handler = 0xa01 (cnode: CPtr, slot: u64, gsi: u64, cpu: u64, flags: u64) -> 0
                        [OutOfRange, SlotOccupied, InvalidArgument, Busy, Unavailable];
                    /// Make an IrqHandler for a message-signalled interrupt to `cpu`; the address and data to
                    /// program into the device. `source` is the device (bus << 8 | device << 3 | function): with
                    /// interrupt remapping, from another the message does nothing. `ANY_SOURCE` is taken without
                    /// remapping only.
                    msi = 0xa02 (cnode: CPtr, slot: u64, cpu: u64, source: u64) -> 2
                        [OutOfRange, SlotOccupied, InvalidArgument, Unavailable];
                }
                IrqHandler {
                    /// Signal `notification` (right WRITE; the badge says which bits) at each interrupt.
                    bind = 0xb01 (notification: CPtr) -> 0 [];
                    /// Let the next interrupt through.
                    ack = 0xb02 () -> 0 [];
                    /// Signal nothing, and let no interrupt through.
                    unbind = 0xb03 () -> 0 [];
                }
                IoPort {
                    /// Read `width` (1, 2 or 4) bytes from `port`.
                    read = 0xc01 (port: u64, width: u64) -> 1 [OutOfRange, InvalidArgument];
                    /// Write `width` (1, 2 or 4) bytes to `port`.
                    write = 0xc02 (port: u64, width: u64, value: u64) -> 0 [OutOfRange, InvalidArgument];
                }
                SchedControl {
                    /// Give a SchedContext `budget` TSC ticks in every `period` on `cpu`; equal ones mean a turn in
                    /// the round of its priority. `flags`: bit 0 sends a fault message when the budget runs out.
                    configure = 0xd01 (context: CPtr, cpu: u64, budget: u64, period: u64, flags: u64) -> 0
                        [InvalidArgument, OutOfRange, Busy];
                    /// Set a thread's priority, 0 (lowest) to the capability's badge.
                    set_priority = 0xd02 (tcb: CPtr, priority: u64) -> 0 [OutOfRange];
                }
                System {
                    /// Write the first `size` (up to 512) bytes of the caller's IPC buffer to the kernel's log.
                    log = 0xe01 (size: u64) -> 0 [OutOfRange, NotConfigured];
                    /// Trace the events in `mask` (bit n: event n of `trace::Event`).
                    trace = 0xe02 (mask: u64) -> 0 [];
                    /// The most TSC ticks that interrupts were off in the kernel since the last call of this
                    /// method, and where (the system call or vector).
                    latency = 0xe03 () -> 2 [];
                    /// End the machine with this exit status.
                    shutdown = 0xe04 (status: u64) -> 0 [];
                    /// Check the invariants of every capability and object (stops the world; panics when one
                    /// does not hold): how many capabilities there are.
                    verify = 0xe05 () -> 1 [];
                }
                IoSpace {
                    /// Map `pages` (of 4 KiB) of `frame`, from byte `offset` on, at the devices' `address` (below
                    /// `IO_TOP`, and not where writes are interrupts). `flags`: READ, which is implied, and WRITE,
                    /// within the Frame's rights. Costs tables and one record of the IoSpace's memory. A refused
                    /// map of more than 512 pages may leave the first of them mapped.
                    map = 0xf01 (frame: CPtr, address: u64, offset: u64, pages: u64, flags: MapFlags) -> 0
                        [InvalidArgument, OutOfRange, AlreadyMapped, OutOfTables];
                    /// Unmap `pages` (of 4 KiB) from `address` on; holes are no error. When it returns, no device
                    /// reaches them any more.
                    unmap = 0xf02 (address: u64, pages: u64) -> 0 [InvalidArgument, OutOfRange];
                    /// Give the Untyped in `untyped` (nothing made of it; it leaves the caller's CSpace) to the
                    /// IoSpace for tables and records.
                    donate = 0xf03 (untyped: CPtr) -> 0 [InvalidArgument, Busy, OutOfRange];
                    /// Signal `notification` (right WRITE; the badge says which bits) when the IOMMU stops a device
                    /// attached to this IoSpace.
                    bind = 0xf04 (notification: CPtr) -> 0 [];
                    /// Take what was stopped since the last call of this method: how often (0: nothing), and of the
                    /// first time the source, the address (of an interrupt the index of its entry << 48), and the
                    /// reason (VT-d specification, fault reasons), with bit 8 set if it was a read.
                    fault = 0xf05 () -> 4 [];
                }
                IoControl {
                    /// Let the device `source` (bus << 8 | device << 3 | function) reach exactly what is mapped in
                    /// `space` (right WRITE).
                    attach = 0x1001 (space: CPtr, source: u64) -> 0 [OutOfRange, Busy, OutOfTables, Unavailable];
                    /// Let the device `source` reach nothing, wherever it was attached. When it returns, nothing
                    /// it asked for earlier is under way.
                    detach = 0x1002 (source: u64) -> 0 [OutOfRange];
                    /// Whether DMA is translated, and whether interrupts are remapped (0 or 1 each).
                    status = 0x1003 () -> 2 [];
                }
            }
        }
    };
}

macro_rules! numbers {
    (
        syscalls { $($(#[doc = $sdoc:literal])+ $syscall:ident = $number:literal [$($serror:ident),*];)* }
        methods { $($kind:ident { $($(#[doc = $mdoc:literal])+ $method:ident = $id:literal
            ($($arg:ident: $type:ident),*) -> $results:literal [$($merror:ident),*];)* })* }
    ) => {
        /// The system calls; the number passed in rax is [`SYSCALL_BASE`] more.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        #[allow(non_camel_case_types, reason = "one spelling through table, kernel and stubs")]
        pub enum Syscall { $($(#[doc = $sdoc])+ $syscall = $number,)* }

        impl Syscall {
            /// Every system call.
            pub const ALL: &[Syscall] = &[$(Syscall::$syscall,)*];

            /// The number passed in rax.
            pub const fn number(self) -> u32 {
                SYSCALL_BASE + self as u32
            }

            /// The system call that this number in eax means; `None` for a foreign one.
            pub const fn from_number(number: u32) -> Option<Syscall> {
                match number.wrapping_sub(SYSCALL_BASE) { $($number => Some(Syscall::$syscall),)* _ => None }
            }
        }

        /// Numbers of the methods, one module for each kind of object.
        #[allow(non_snake_case, non_upper_case_globals, reason = "one spelling through table, kernel and stubs")]
        pub mod method {
            $(
                #[doc = concat!("Methods on ", stringify!($kind), ".")]
                pub mod $kind { $($(#[doc = $mdoc])+ pub const $method: u32 = $id;)* }
            )*
        }

        /// Every system call, described.
        pub const SYSCALLS: &[CallInfo] = &[$(CallInfo {
            kind: None, name: stringify!($syscall), number: SYSCALL_BASE + $number, arguments: &[], results: 0,
            errors: &[$(Error::$serror),*], text: concat!($($sdoc),+),
        },)*];

        /// Every method, described.
        pub const METHODS: &[CallInfo] = &[$($(CallInfo {
            kind: Some(Kind::$kind), name: stringify!($method), number: $id,
            arguments: &[$((stringify!($arg), stringify!($type))),*], results: $results,
            errors: &[$(Error::$merror),*], text: concat!($($mdoc),+),
        },)*)*];
    };
}

/// A system call or method as the table has it.
#[derive(Clone, Copy, Debug)]
pub struct CallInfo {
    /// The kind of object, for methods.
    pub kind: Option<Kind>,
    /// The name.
    pub name: &'static str,
    /// The number in eax, or of the method.
    pub number: u32,
    /// Names and types of the arguments.
    pub arguments: &'static [(&'static str, &'static str)],
    /// Words of result.
    pub results: usize,
    /// The errors it can end with; a method also with those of `invoke`.
    pub errors: &'static [Error],
    /// What it does.
    pub text: &'static str,
}

interface!(numbers);

/// The method with this number.
pub fn find_method(number: u32) -> Option<&'static CallInfo> {
    METHODS.iter().find(|call| call.number == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_frozen() {
        assert_eq!(Syscall::call.number(), 0x534b_0000);
        assert_eq!(Syscall::invoke.number(), 0x534b_000c);
        assert_eq!(SYSCALLS.len(), 13);
        let fold =
            METHODS.iter().fold(0u64, |sum, call| sum.wrapping_mul(31).wrapping_add(u64::from(call.number)));
        assert_eq!((METHODS.len(), fold), (49, FROZEN));
    }

    /// A number that changes when any method's number or order does: change it only with the interface.
    const FROZEN: u64 = 3_617_227_785_194_291_069;

    #[test]
    fn a_method_number_tells_its_kind() {
        for call in METHODS {
            assert_eq!(call.number >> 8, call.kind.map_or(0, |kind| kind as u32));
            assert_eq!(METHODS.iter().filter(|other| other.number == call.number).count(), 1);
        }
    }

    #[test]
    fn system_calls_are_numbers_that_linux_does_not_assign() {
        for &each in Syscall::ALL {
            assert_eq!(Syscall::from_number(each.number()), Some(each));
            assert!(each.number() < 1 << 31);
            assert!(each.number() & !0x4000_0000 > 100_000);
        }
        assert_eq!(Syscall::from_number(0), None);
        assert_eq!(Syscall::from_number(SYSCALL_BASE + 13), None);
    }
}
