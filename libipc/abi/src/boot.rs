//! What the kernel tells init at boot.

/// First word of [`BootInfo`].
pub const MAGIC: u64 = u64::from_le_bytes(*b"SKINKBI1");

/// First word of init's image, the first file of the boot archive. Words (little-endian) follow: the entry address,
/// and how many segments there are. Each segment is four words and its data: its address (a page's), its pages, their
/// [`MapFlags`](crate::MapFlags), and the bytes of data; the rest of its pages is zero.
pub const IMAGE_MAGIC: u64 = u64::from_le_bytes(*b"SKINKIM1");

/// Memory regions that can be described, at most.
pub const MAX_UNTYPED: usize = 160;

/// Slots that init finds filled in its CSpace (2^[`INIT_CNODE_BITS`] slots).
pub mod slots {
    /// init's own CNode.
    pub const CNODE: u32 = 2;
    /// init's own VSpace.
    pub const VSPACE: u32 = 3;
    /// init's own thread.
    pub const TCB: u32 = 4;
    /// init's SchedContext.
    pub const SCHED_CONTEXT: u32 = 5;
    /// Authority over processor time and all priorities.
    pub const SCHED_CONTROL: u32 = 6;
    /// Authority over interrupts.
    pub const IRQ_CONTROL: u32 = 7;
    /// All I/O ports.
    pub const IO_PORT: u32 = 8;
    /// The machine.
    pub const SYSTEM: u32 = 9;
    /// The Frame with [`super::BootInfo`] and init's IPC buffer.
    pub const BOOT_INFO: u32 = 10;
    /// The kernel log, read-only (one Frame, see [`super::KernelLog`]).
    pub const KERNEL_LOG: u32 = 11;
    /// The first of the boot archive's Frames (see [`super::BootInfo::archive_frames`]).
    pub const ARCHIVE: u32 = 12;
    /// The trace rings, read-only (one Frame, see [`crate::trace`]).
    pub const TRACE: u32 = 44;
    /// init's image (its Frames, for debuggers); the slot may be empty.
    pub const INIT_IMAGE: u32 = 45;
    /// Authority over the IOMMU; empty where there is none.
    pub const IO_CONTROL: u32 = 46;
    /// The first of the Untypeds.
    pub const UNTYPED: u32 = 64;
    /// The first slot the kernel leaves empty.
    pub const FREE: u32 = UNTYPED + super::MAX_UNTYPED as u32;
}

/// log2 of the slots in init's CSpace.
pub const INIT_CNODE_BITS: u32 = 14;

/// Where the kernel maps [`BootInfo`] for init (read and write: the same Frame has init's IPC buffer).
pub const BOOT_INFO_ADDRESS: u64 = 0x7fff_0000_0000;
/// Where init's first IPC buffer lies.
pub const INIT_IPC_BUFFER: u64 = BOOT_INFO_ADDRESS + 0x3000;
/// Bytes of the Frame at [`BOOT_INFO_ADDRESS`].
pub const BOOT_INFO_SIZE: u64 = 0x4000;
/// The top of init's first stack.
pub const INIT_STACK_TOP: u64 = 0x7ffe_0000_0000;
/// Bytes of init's first stack.
pub const INIT_STACK_SIZE: u64 = 256 * 1024;

/// One Untyped of the boot.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct UntypedInfo {
    /// Physical address of its first byte.
    pub physical: u64,
    /// log2 of its size in bytes.
    pub bits: u32,
    /// 1 for device memory: it can become Untyped and Frames only, and is never cleared.
    pub device: u32,
}

/// What init is told, at [`BOOT_INFO_ADDRESS`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BootInfo {
    /// [`MAGIC`].
    pub magic: u64,
    /// CPUs that run.
    pub cpus: u64,
    /// TSC ticks in a second.
    pub tsc_hz: u64,
    /// Bytes of the boot archive; 0 when there is none.
    pub archive_size: u64,
    /// Offset of the archive's first byte within its first Frame.
    pub archive_offset: u64,
    /// How many Frames hold it, in slots [`slots::ARCHIVE`] and on, ascending and without gaps.
    pub archive_frames: u64,
    /// log2 of the size of each.
    pub archive_frame_bits: [u8; 32],
    /// Entries of `untyped` that are filled; entry i is in slot [`slots::UNTYPED`] + i.
    pub untyped_count: u64,
    /// The Untypeds: memory in descending order of size first, then device memory.
    pub untyped: [UntypedInfo; MAX_UNTYPED],
    /// Physical address of the ACPI RSDP, 0 when there is none.
    pub rsdp: u64,
    /// Physical address of the PCI ECAM window of segment 0 (MCFG), 0 when there is none.
    pub ecam: u64,
    /// First and last bus of that window.
    pub ecam_buses: [u8; 2],
    /// Whether the IOMMU is in use (there is one that the kernel can drive, and no boot option against it).
    pub iommu: u8,
    /// Reserved.
    pub reserved: [u8; 5],
    /// Bytes of the command line.
    pub command_line_size: u64,
    /// The kernel's command line.
    pub command_line: [u8; 512],
}

impl BootInfo {
    /// With everything zero.
    pub const fn new() -> BootInfo {
        BootInfo {
            magic: 0,
            cpus: 0,
            tsc_hz: 0,
            archive_size: 0,
            archive_offset: 0,
            archive_frames: 0,
            archive_frame_bits: [0; 32],
            untyped_count: 0,
            untyped: [UntypedInfo { physical: 0, bits: 0, device: 0 }; MAX_UNTYPED],
            rsdp: 0,
            ecam: 0,
            ecam_buses: [0; 2],
            iommu: 0,
            reserved: [0; 5],
            command_line_size: 0,
            command_line: [0; 512],
        }
    }
}

impl Default for BootInfo {
    fn default() -> Self {
        BootInfo::new()
    }
}

/// The kernel's log, in a Frame that init maps read-only: a ring of bytes.
#[derive(Debug)]
#[repr(C)]
pub struct KernelLog {
    /// Bytes ever written; byte n is at `text[n % LOG_BYTES]`.
    pub written: core::sync::atomic::AtomicU64,
    /// The ring.
    pub text: [core::sync::atomic::AtomicU8; LOG_BYTES],
}

/// Bytes in the kernel log's ring.
pub const LOG_BYTES: usize = 32 * 1024 - 8;
