//! Makes the calls. Apart from the times in deadlines, a call depends on the generator it is given alone: the
//! k-th call of a seed is the same in every run.

use abi::message::{BUFFER_WORDS, MAX_CAPS};
use abi::object::PAGE_SIZE;
use abi::table::{METHODS, SYSCALL_BASE};
use abi::{CPtr, Kind, MapFlags, MsgInfo, Registers, Syscall, USER_TOP};
use ipc::buffer::Buffer;

use crate::arena;
use crate::random::Random;
use crate::sandbox::{self, Block};
use crate::table::{ARGUMENTS, Argument};
use crate::world::{self, slots};

/// Where frames are mapped.
pub const FIELD: u64 = proto::start::FREE + (64 << 30);
/// Flags of a thread that may be set by it, and mean something: CF, PF, TF, DF, IOPL (which may not), NT, AC, ID.
const FLAGS: [u64; 8] = [1, 1 << 2, 1 << 8, 1 << 10, 3 << 12, 1 << 14, 1 << 18, 1 << 21];

/// What calls are made for.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The time.
    pub now: u64,
    /// TSC ticks in a microsecond.
    pub microsecond: u64,
    /// CPUs that run.
    pub cpus: u64,
}

/// Makes a call: its registers into `block`, what it needs into `buffer`.
pub fn call(random: &mut Random, setting: &Setting, block: &Block, buffer: &Buffer) {
    let mut maker = Maker { random: *random, setting: *setting };
    for word in &block.words {
        word.set(maker.random.next());
    }
    block.rax.set(u64::from(Syscall::invoke.number()));
    match maker.random.below(64) {
        0 => maker.garbage(block),
        1 | 2 => block.rax.set(maker.foreign()),
        3..20 => maker.message(block),
        _ => maker.method(block),
    }
    if maker.random.once_in(64) {
        block.rax.set(block.rax.get() | maker.random.next() << 32);
    }
    maker.surroundings(block);
    let registers = block.rsi.get() == u64::from(abi::table::method::Tcb::write_registers);
    if registers || maker.random.once_in(4) {
        maker.buffer(buffer);
    }
}

struct Maker {
    random: Random,
    setting: Setting,
}

impl Maker {
    /// Mostly `value`, sometimes something near it or far from it.
    fn near(&mut self, value: u64) -> u64 {
        match self.random.below(96) {
            0 => value.wrapping_add(1),
            1 => value.wrapping_sub(1),
            2 => value ^ 1 << self.random.below(64),
            3 => value | self.random.next() << 32,
            4 => self.random.next(),
            5 => self.random.pick(&[0, u64::MAX, 1 << 63, i64::MAX as u64, u64::from(u32::MAX)]),
            _ => value,
        }
    }

    /// A number nearer to 0 than to `end`.
    fn few(&mut self, end: u64) -> u64 {
        let below = 1 + self.random.below(end);
        self.random.below(below)
    }

    /// A slot that may hold a capability for an object of this kind.
    fn slot(&mut self, kind: Kind) -> u64 {
        let place = world::place(kind);
        let own = match kind {
            // What is in the fuzzing thread's own CSpace is known best; its own Untyped has most room.
            Kind::CNode => 12,
            Kind::Untyped => 8,
            _ => 2,
        };
        let slot = match self.random.below(16) {
            0 => self.random.within(slots::EMPTY, slots::END),
            1 if self.random.once_in(3) => self.random.within(0, slots::END + 20),
            low if low < own && place.own != 0 => place.own,
            2..6 if !place.derived.is_empty() => self.random.within(place.derived.start, place.derived.end),
            _ if !place.made.is_empty() => self.random.within(place.made.start, place.made.end),
            _ => place.own,
        };
        u64::from(slot)
    }

    fn capability(&mut self, kind: Kind) -> u64 {
        let slot = match self.random.below(40) {
            0 => u64::from(CPtr::NULL.0),
            1 => {
                let other = self.kind();
                self.slot(other)
            }
            _ => self.slot(kind),
        };
        self.near(slot)
    }

    fn kind(&mut self) -> Kind {
        self.random.pick(Kind::ALL)
    }

    fn argument(&mut self, argument: Argument) -> u64 {
        let value = match argument {
            Argument::Capability(kind) => return self.capability(kind),
            Argument::Kind => self.random.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 15]),
            Argument::Rights => self.random.pick(&[15, 15, 7, 3, 1, 2, 4, 8, 0, 11]),
            Argument::MapFlags => {
                let flags = [1, 3, 3, 9, 1, 3, 35, 33, 17, 19, 65, 11].map(MapFlags);
                self.random.pick(&flags).0
            }
            Argument::Bits => self.random.pick(&[0, 2, 4, 6, 12, 12, 12, 13, 14, 14, 15, 16, 18, 21]),
            Argument::EmptySlot => match self.random.below(8) {
                0 => u64::from(self.random.within(0, slots::END + 4)),
                1 => self.random.below(18),
                _ => u64::from(self.random.within(slots::EMPTY, slots::END)),
            },
            Argument::FullSlot => match self.random.below(3) {
                0 => u64::from(self.random.within(slots::EMPTY, slots::END)),
                _ => {
                    let kind = self.kind();
                    self.slot(kind)
                }
            },
            Argument::Count => self.random.pick(&[1, 1, 1, 1, 2, 3, 8, 64, 65, 0]),
            Argument::Badge => match self.random.below(4) {
                0 | 1 => 0,
                2 => self.random.next(),
                _ => self.random.pick(&[1, 80, 255, 0x81 << 16 | 0x80, 0x80 << 16 | 0x80, 1 << 63]),
            },
            Argument::Address => self.address(),
            Argument::Offset => self.few(8) * PAGE_SIZE,
            Argument::Pages => match self.random.below(8) {
                0 => self.random.pick(&[0, 64, 511, 512, 513, 1024, 1 << 18, 1 << 27, 1 << 36]),
                _ => 1 + self.few(4),
            },
            Argument::Code => self.code(),
            Argument::Line => 16 + self.random.below(8),
            Argument::Cpu => self.few(self.setting.cpus),
            // (Of a bus that no machine of the tests has.)
            Argument::Source => 0xf000 + self.few(4),
            Argument::Port => 0x80 + self.random.below(4),
            Argument::Size => self.random.pick(&[0, 1, 64, 512, 513]),
            Argument::Ticks => self.random.pick(&[1999, 2000, 100_000, 1_000_000, 1_000_000, 50_000_000]),
            Argument::Priority => self.random.within(50, world::CEILING as u32 + 4).into(),
            Argument::Small => self.few(5),
        };
        self.near(value)
    }

    fn address(&mut self) -> u64 {
        match self.random.below(64) {
            0 => 0,
            1 => USER_TOP - PAGE_SIZE * self.random.below(3),
            2 => self.random.next() & !0xfff,
            3 => FIELD + (self.random.below(4) << 39),
            4..8 => FIELD + (self.random.below(4) << 30),
            8..20 => FIELD + (self.random.below(8) << 21),
            20 if self.random.once_in(8) => {
                self.random.pick(&[arena::ADDRESS, proto::start::PROGRAM]) + PAGE_SIZE * self.random.below(32)
            }
            _ => FIELD + PAGE_SIZE * self.random.below(32),
        }
    }

    /// An address that a thread may begin at: code that is safe to run with any registers, or none at all.
    fn code(&mut self) -> u64 {
        match self.random.below(8) {
            0 => self.random.pick(&[0, USER_TOP - 1, USER_TOP, 1 << 47, u64::MAX, FIELD]),
            1 | 2 => sandbox::lost as *const () as u64,
            _ => sandbox::racket as *const () as u64,
        }
    }

    fn deadline(&mut self) -> u64 {
        let later = self.random.below(200) * self.setting.microsecond;
        match self.random.below(8) {
            0 => self.random.below(self.setting.now),
            1 => self.random.pick(&[0, 1, u64::MAX]),
            _ => self.setting.now + later,
        }
    }

    fn garbage(&mut self, block: &Block) {
        let number = self.random.below(20) as u32;
        block.rax.set(u64::from(SYSCALL_BASE + number));
        block.rdx.set(self.random.next() >> self.random.below(64));
        block.rsi.set(self.random.next() >> self.random.below(64));
    }

    /// A number that is not the kernel's.
    fn foreign(&mut self) -> u64 {
        match self.random.below(4) {
            0 => u64::from(SYSCALL_BASE) + 13 + self.random.below(4),
            1 => u64::from(self.random.next() as u32 & 0x3fff_ffff),
            _ => self.random.below(460),
        }
    }

    fn method(&mut self, block: &Block) {
        let at = self.random.below(METHODS.len() as u64) as usize;
        let method = &METHODS[at];
        let number = match self.random.below(64) {
            0 => u64::from(method.number) + 0x100,
            1 => u64::from(method.number & 0xf00) + self.random.below(16),
            2 => self.near(u64::from(method.number)),
            _ => u64::from(method.number),
        };
        let target = method.kind.unwrap_or(Kind::Null);
        block.rsi.set(number);
        block.rdx.set(self.capability(target));
        for (word, argument) in block.words.iter().zip(ARGUMENTS[at]) {
            if let Some(argument) = argument {
                word.set(self.argument(argument));
            }
        }
    }

    /// A system call other than `invoke`.
    fn message(&mut self, block: &Block) {
        let mut call = self.random.pick(Syscall::ALL);
        // Calls that wait come to nothing more often than not.
        let waits = matches!(
            call,
            Syscall::call | Syscall::send | Syscall::recv | Syscall::reply_recv | Syscall::wait
        );
        if waits && self.random.once_in(2) {
            call = self.random.pick(&[Syscall::try_send, Syscall::try_recv, Syscall::signal, Syscall::poll]);
        }
        block.rax.set(u64::from(call.number()));
        let kind = match call {
            Syscall::signal | Syscall::wait | Syscall::poll => Kind::Notification,
            Syscall::send | Syscall::try_send if self.random.once_in(3) => Kind::Reply,
            _ => Kind::Endpoint,
        };
        let reply = match self.random.below(4) {
            0 => self.capability(Kind::Reply),
            _ => 0,
        };
        let receives = matches!(call, Syscall::recv | Syscall::try_recv | Syscall::reply_recv);
        block.rdx.set(self.capability(kind) | if receives { reply << 32 } else { 0 });
        block.rsi.set(self.info(receives || call == Syscall::wait));
        if block.rsi.get() & MsgInfo::DEADLINE != 0 {
            block.words[0].set(self.deadline());
        }
    }

    fn info(&mut self, may_end: bool) -> u64 {
        let label = self.random.next() as u32;
        let info = match self.random.below(8) {
            0 => MsgInfo(self.random.next()),
            1..4 => MsgInfo::plain(label),
            _ if may_end => MsgInfo::plain(label),
            4 | 5 => MsgInfo::new(label, self.few(BUFFER_WORDS as u64 + 2) as usize, 0),
            _ => MsgInfo::new(label, self.few(8) as usize, self.random.below(MAX_CAPS as u64 + 1) as usize),
        };
        if may_end && !self.random.once_in(4) {
            return info.0 | MsgInfo::DEADLINE;
        }
        self.near(info.0)
    }

    /// The registers that a system call keeps, and the flags.
    fn surroundings(&mut self, block: &Block) {
        block.rbp.set(self.random.next());
        block.flags.set(0);
        block.rsp.set(if self.random.once_in(8) { self.random.next() } else { arena::ADDRESS });
        block.fs_base.set(0);
        block.gs_base.set(arena::ADDRESS + arena::buffer_offset(0));
        if self.random.once_in(16) {
            let flags = FLAGS.iter().filter(|_| self.random.once_in(4)).sum::<u64>();
            block.flags.set(flags & !if self.random.once_in(4) { 0 } else { 1 << 8 } | 2);
        }
        if self.random.once_in(16) {
            // Canonical, in either half.
            block.fs_base.set(((self.random.next() as i64) << 16 >> 16) as u64);
            block.gs_base.set(((self.random.next() as i64) << 16 >> 16) as u64);
        }
        let touches = self.random.once_in(64);
        block.touch.set(if touches { self.address() | self.random.below(2) } else { 0 });
    }

    /// What lies in the IPC buffer: capabilities to send and to receive, a deadline, registers.
    fn buffer(&mut self, buffer: &Buffer) {
        let mut capabilities = [CPtr::NULL; MAX_CAPS];
        for place in &mut capabilities {
            let kind = self.kind();
            *place = CPtr(self.capability(kind) as u32);
        }
        buffer.send_caps(&capabilities);
        for place in &mut capabilities {
            *place = CPtr(self.argument(Argument::EmptySlot) as u32);
        }
        buffer.receive_into(&capabilities);
        buffer.deadline.set(self.deadline());
        let registers = Registers {
            rip: self.code(),
            rsp: self.random.next() >> self.random.below(64),
            rflags: self.random.next(),
            rax: self.random.next(),
            rbx: self.random.next(),
            rdi: self.random.next(),
            rsi: self.random.next(),
            rdx: self.random.next(),
            fs_base: self.near(0),
            gs_base: self.near(0),
            ..Registers::default()
        };
        for (word, value) in buffer.words.iter().zip(registers.to_words()) {
            word.set(value);
        }
    }
}
