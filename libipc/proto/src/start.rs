//! What init tells a component before its first instruction: the start block, and where things lie.
//!
//! The block is one page, mapped read-only at [`BLOCK`]: [`MAGIC`], the length of the rest (both 4 bytes, little
//! endian), then [`Start`] in postcard. The layout of a component's address space is the same for all, and keeps
//! what every component has close together, so that few page tables map it:
//!
//! | from | what |
//! |---|---|
//! | [`RECORDS`] | the allocator's records |
//! | [`BLOCK`] | the start block, read-only |
//! | [`IPC_BUFFER`] | the main thread's IPC buffer |
//! | [`ORDERS`] | what init wants of the component ([`crate::life`]), read-only |
//! | [`STATUS`] | what the component shows of itself ([`crate::life`]) |
//! | [`LIVES`] | the lives of all components ([`crate::life`]), read-only |
//! | below [`STACK_TOP`] | the main thread's stack, with unmapped memory under it |
//! | [`PROGRAM`] | the program, as its ELF file says |
//! | [`HEAP`] | the heap, growing upwards |
//! | [`THREADS`] | stacks and IPC buffers of further threads |
//! | [`FREE`] | free for the program, up to `abi::object::USER_TOP` |

use heapless::Vec;
use serde::{Deserialize, Serialize};

/// The allocator's records, up to [`BLOCK`].
pub const RECORDS: u64 = 0x2_0000;
/// Address of the start block.
pub const BLOCK: u64 = 0x10_0000;
/// Bytes of the start block.
pub const BLOCK_SIZE: usize = 4096;
/// Address of the main thread's IPC buffer.
pub const IPC_BUFFER: u64 = 0x10_2000;
/// Address of the page with init's orders.
pub const ORDERS: u64 = 0x10_4000;
/// Address of the component's status page.
pub const STATUS: u64 = 0x10_6000;
/// Address of the page with the lives of all components.
pub const LIVES: u64 = 0x10_8000;
/// The end of the main thread's stack.
pub const STACK_TOP: u64 = 0x20_0000;
/// The largest main stack.
pub const MAX_STACK: u64 = 0x8_0000;
/// Where programs are linked.
pub const PROGRAM: u64 = 0x40_0000;
/// Where programs end, at most.
pub const PROGRAM_END: u64 = 0x800_0000;
/// Where the heap begins.
pub const HEAP: u64 = PROGRAM_END;
/// Where the heap ends, at most.
pub const HEAP_END: u64 = 0x10_0000_0000;
/// Stacks and IPC buffers of further threads.
pub const THREADS: u64 = 0x10_0000_0000;
/// From here on the program maps what it likes.
pub const FREE: u64 = 0x20_0000_0000;

/// log2 of the slots in a component's CSpace, at most: the allocator's records have room for as many.
pub const MAX_SLOT_BITS: u8 = 15;

/// First bytes of the block.
pub const MAGIC: u32 = u32::from_le_bytes(*b"SKS1");

/// Capabilities that can be named, at most.
pub const MAX_CAPABILITIES: usize = 40;
/// Untypeds that can be given, at most.
pub const MAX_UNTYPEDS: usize = 32;
/// Channels that a component can have an end of, at most.
pub const MAX_CHANNELS: usize = 16;

/// Names of the capabilities that components have by themselves.
pub mod names {
    /// The component's CNode, which is its CSpace.
    pub const CNODE: &str = "cnode";
    /// Its address space.
    pub const VSPACE: &str = "vspace";
    /// Its main thread.
    pub const TCB: &str = "tcb";
    /// The Endpoint that init serves (right WRITE), see [`crate::component`].
    pub const INIT: &str = "init";
    /// The Endpoint for faults of its threads (right WRITE).
    pub const FAULT: &str = "fault";
    /// The Notification (right READ) that says: what init refused with "not now" is worth another try.
    pub const READY: &str = "ready";
    /// Of durable memory (see the manifest): an Untyped that outlives the component.
    pub const DURABLE: &str = "durable";
    /// The component's own Notification (right READ), which outlives it: everything that does not come as a message
    /// comes as a bit of it (see [`crate::life::bell`]). Components that are supervised have one.
    pub const BELL: &str = "bell";
    /// Of state (see the manifest): one Frame that outlives the component.
    pub const STATE: &str = "state";
    /// All of these.
    pub const ALL: [&str; 9] = [CNODE, VSPACE, TCB, INIT, FAULT, READY, DURABLE, BELL, STATE];
}

/// What a component is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start<'a> {
    /// The component's name.
    #[serde(borrow)]
    pub name: &'a str,
    /// Arguments, each ended by NUL; the first is the program's name.
    pub arguments: &'a str,
    /// CPUs that run.
    pub cpus: u32,
    /// TSC ticks in a second.
    pub tsc_hz: u64,
    /// log2 of the slots in its CSpace.
    pub slot_bits: u8,
    /// The first slot that init left empty, as are all that follow.
    pub first_free: u32,
    /// Bytes of the main thread's stack.
    pub stack: u32,
    /// Capabilities by name.
    pub capabilities: Vec<Named<'a>, MAX_CAPABILITIES>,
    /// Its memory, not yet used.
    pub untypeds: Vec<Memory, MAX_UNTYPEDS>,
    /// The Untyped for the allocator's records.
    pub records: Memory,
    /// The component's place in the manifest, and in [`crate::life`]'s pages.
    pub place: u16,
    /// Which life of the component this is, from 1 on.
    pub life: u32,
    /// Its state frame, if the manifest gives it one; cleared before its first life only.
    pub state: Option<Memory>,
    /// Its ends of channels.
    pub channels: Vec<Channel<'a>, MAX_CHANNELS>,
    /// The device it drives.
    pub device: Option<Device>,
}

/// One end of a channel: memory that two components share, and a way to ring the other's bell. Both outlive the two
/// (see [`crate::channel`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel<'a> {
    /// What is spoken on it: the name that its server serves.
    pub name: &'a str,
    /// The other component's place in the manifest.
    pub peer: u16,
    /// Whether this end is the client's.
    pub client: bool,
    /// The Frame with the handshake and the rings.
    pub rings: Memory,
    /// The Frame with the data.
    pub data: Memory,
    /// The Notification to signal (right WRITE): the other's bell.
    pub signal: u32,
    /// The bit of this component's bell that the other signals.
    pub bit: u8,
}

/// A PCI function, as its driver sees it. The driver cannot read configuration space: what it needs of it is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Bus, device and function: 8, 5 and 3 bits.
    pub address: u16,
    /// Vendor and device identity.
    pub identity: (u16, u16),
    /// Its registers, but for MSI-X tables.
    pub bars: Vec<Bar, 6>,
    /// Where its VirtIO structures lie (VirtIO 1.2, 4.1.4); none for other devices.
    pub regions: Vec<Region, 8>,
    /// IrqHandlers of its MSI-X vectors 0 and on. Vector n is bit `bell::IRQ + n` of the bell.
    pub vectors: Vec<u32, 8>,
    /// Its IoSpace, if the machine has an IOMMU; otherwise devices use physical addresses (`Frame.physical`).
    pub io_space: Option<u32>,
}

/// Registers of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Which of the six (PCI 3.0, 6.2.5.1).
    pub index: u8,
    /// The Frame, to be mapped uncached.
    pub frame: Memory,
}

/// A VirtIO structure in a device's registers (VirtIO 1.2, 4.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// `cfg_type`: 1 common, 2 notify, 3 ISR, 4 device configuration.
    pub kind: u8,
    /// In which BAR.
    pub bar: u8,
    /// From which byte on.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
    /// `notify_off_multiplier` of kind 2, otherwise 0.
    pub multiplier: u32,
}

/// A capability by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named<'a> {
    /// The name: one of [`names`], or one that the manifest gives.
    pub name: &'a str,
    /// The slot.
    pub slot: u32,
}

/// An Untyped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The slot.
    pub slot: u32,
    /// log2 of its size in bytes.
    pub bits: u8,
}

/// Why a start block was not written or not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBlock {
    /// It does not fit into [`BLOCK_SIZE`] bytes.
    TooLong,
    /// It is not a start block of this version.
    Malformed,
}

impl<'a> Start<'a> {
    /// Writes the block.
    pub fn write(&self, block: &mut [u8; BLOCK_SIZE]) -> Result<(), BadBlock> {
        let (head, rest) = block.split_at_mut(8);
        let used = postcard::to_slice(self, rest).map_err(|_| BadBlock::TooLong)?.len() as u32;
        head[..4].copy_from_slice(&MAGIC.to_le_bytes());
        head[4..].copy_from_slice(&used.to_le_bytes());
        Ok(())
    }

    /// Reads the block.
    pub fn read(block: &'a [u8; BLOCK_SIZE]) -> Result<Start<'a>, BadBlock> {
        let [m0, m1, m2, m3, l0, l1, l2, l3, rest @ ..] = block;
        let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
        if u32::from_le_bytes([*m0, *m1, *m2, *m3]) != MAGIC {
            return Err(BadBlock::Malformed);
        }
        match postcard::take_from_bytes(rest.get(..length).ok_or(BadBlock::Malformed)?) {
            Ok((start, [])) => Ok(start),
            _ => Err(BadBlock::Malformed),
        }
    }

    /// The slot of the capability with this name.
    pub fn capability(&self, name: &str) -> Option<u32> {
        self.capabilities.iter().find(|each| each.name == name).map(|each| each.slot)
    }

    /// The arguments, the program's name first.
    pub fn arguments(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.arguments.split_terminator('\0')
    }
}

/// log2 of the memory for an allocator's records of 2^`slot_bits` slots: 16 bytes each, at least a page.
pub const fn records_bits(slot_bits: u8) -> u8 {
    if slot_bits < 8 { 12 } else { slot_bits + 4 }
}
