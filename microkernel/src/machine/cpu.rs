//! What each CPU needs before the kernel's logic can run on it: descriptor tables, control registers, the
//! system call's registers (Intel SDM vol. 3, 2.5, 3.5, 5.8.8, 6.10, 7.7).

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use abi::trace::MAX_CPUS;
use x86_64::instructions::tables::{lgdt, lidt, load_tss};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;
use x86_64::registers::segmentation::{CS, DS, ES, FS, GS, SS, Segment, SegmentSelector};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};
use x86_64::structures::DescriptorTablePointer;
use x86_64::{PrivilegeLevel, VirtAddr};

use super::stacks;
use crate::log;

unsafe extern "C" {
    /// The entry of each vector (asm/entry.s).
    static interrupt_entries: [u64; 256];
}

/// Segment selectors: the order is what SYSCALL and SYSRET derive theirs from.
pub mod selector {
    /// Kernel code.
    pub const KERNEL_CODE: u16 = 0x08;
    /// Kernel data.
    pub const KERNEL_DATA: u16 = 0x10;
    /// The TSS.
    pub const TASK: u16 = 0x28;
}

/// RFLAGS bits that SYSCALL clears: TF, IF, DF, NT, AC.
pub const SYSCALL_FLAG_MASK: u64 = 0x100 | 0x200 | 0x400 | 0x4000 | 0x4_0000;

const GDT_ENTRIES: usize = 7;
const TSS_WORDS: usize = 26;
const TSS_SIZE: u64 = 4 * TSS_WORDS as u64;

/// The machine layer's data of one CPU. Descriptors and task state are read by the CPU, hence atomics.
#[repr(align(64))]
pub struct CpuLocal {
    gdt: [AtomicU64; GDT_ENTRIES],
    tss: [AtomicU32; TSS_WORDS],
    /// The local APIC's identity.
    pub apic_id: AtomicU8,
}

/// The machine layer's data of each CPU.
pub static CPUS: [CpuLocal; MAX_CPUS] = [const {
    CpuLocal {
        gdt: [const { AtomicU64::new(0) }; GDT_ENTRIES],
        tss: [const { AtomicU32::new(0) }; TSS_WORDS],
        apic_id: AtomicU8::new(0),
    }
}; MAX_CPUS];

/// The interrupt descriptor table, shared by all CPUs: two words for each vector.
static IDT: [[AtomicU64; 2]; 256] = [const { [const { AtomicU64::new(0) }; 2] }; 256];

impl CpuLocal {
    /// Sets a 64-bit field of the task state, at a multiple of 4 (Intel SDM vol. 3, figure 7-11).
    fn set_tss(&self, word: usize, value: u64) {
        for (place, half) in self.tss.iter().skip(word).zip([value as u32, (value >> 32) as u32]) {
            place.store(half, Ordering::Relaxed);
        }
    }

    /// Sets the stack on which interrupts from user code arrive on this CPU.
    pub fn set_rsp0(&self, top: u64) {
        self.set_tss(1, top);
    }

    fn fill(&self, cpu: usize) {
        self.set_rsp0(stacks::trap_top(stacks::main_top(cpu)));
        for ist in stacks::IST_VECTORS.map(|(_, ist)| usize::from(ist)) {
            let word = ist.wrapping_mul(2).wrapping_add(7);
            self.set_tss(word, stacks::trap_top(stacks::exception_top(cpu, ist)));
        }
        const NO_IO_BITMAP: u32 = (TSS_SIZE as u32) << 16;
        if let Some(last) = self.tss.last() {
            last.store(NO_IO_BITMAP, Ordering::Relaxed);
        }
        let tss = &raw const self.tss as u64;
        let descriptors = [
            0,
            0x00af_9b00_0000_ffff, // kernel code: 64-bit, present, accessed
            0x00cf_9300_0000_ffff, // kernel data
            0x00cf_f300_0000_ffff, // user data
            0x00af_fb00_0000_ffff, // user code
            TSS_SIZE.wrapping_sub(1) | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56,
            tss >> 32,
        ];
        for (place, descriptor) in self.gdt.iter().zip(descriptors) {
            place.store(descriptor, Ordering::Relaxed);
        }
    }

    fn load(&'static self) {
        let pointer = |base: *const u8, size: usize| DescriptorTablePointer {
            limit: (size as u16).wrapping_sub(1),
            base: VirtAddr::from_ptr(base),
        };
        // SAFETY: the table is static, and `fill` has written it.
        unsafe { lgdt(&pointer((&raw const self.gdt).cast(), size_of_val(&self.gdt))) };
        let kernel = |selector: u16| SegmentSelector::new(selector >> 3, PrivilegeLevel::Ring0);
        // SAFETY: kernel code as before, from the new table.
        unsafe { CS::set_reg(kernel(selector::KERNEL_CODE)) };
        // SAFETY: a writable data segment; base and limit do not count in 64-bit mode.
        unsafe { SS::set_reg(kernel(selector::KERNEL_DATA)) };
        clear_selectors();
        // SAFETY: the descriptor is this CPU's task state, static and filled; it is loaded once.
        unsafe { load_tss(kernel(selector::TASK)) };
        // SAFETY: the table is static, and `fill_idt` has written it before any CPU comes here.
        unsafe { lidt(&pointer((&raw const IDT).cast(), size_of_val(&IDT))) };
    }
}

/// Clears the data segments' selectors: user code can load them, and is not to read what others have loaded.
#[inline(always)]
pub fn clear_selectors() {
    // SAFETY: 64-bit code does not use DS.
    unsafe { DS::set_reg(SegmentSelector::NULL) };
    // SAFETY: nor ES.
    unsafe { ES::set_reg(SegmentSelector::NULL) };
    // SAFETY: the kernel keeps nothing in FS.
    unsafe { FS::set_reg(SegmentSelector::NULL) };
    // SAFETY: nor in GS.
    unsafe { GS::set_reg(SegmentSelector::NULL) };
}

/// The identity of the CPU's APIC.
pub fn apic_id(cpu: usize) -> u8 {
    CPUS.get(cpu).map_or(0, |local| local.apic_id.load(Ordering::Relaxed))
}

fn fill_idt() {
    const INTERRUPT_GATE: u64 = 0x8e << 40;
    const FOR_USERS: u64 = 3 << 45;
    const BREAKPOINT: usize = 3;
    // SAFETY: a constant table that asm/entry.s provides.
    let entries = unsafe { &interrupt_entries };
    for (vector, (gate, &entry)) in IDT.iter().zip(entries).enumerate() {
        let own_stack = stacks::IST_VECTORS.iter().find(|&&(each, _)| usize::from(each) == vector);
        let ist = own_stack.map_or(0, |&(_, ist)| u64::from(ist));
        let user = if vector == BREAKPOINT { FOR_USERS } else { 0 };
        let selector = u64::from(selector::KERNEL_CODE) << 16;
        let low =
            entry & 0xffff | selector | ist << 32 | INTERRUPT_GATE | user | (entry >> 16 & 0xffff) << 48;
        for (place, half) in gate.iter().zip([low, entry >> 32]) {
            place.store(half, Ordering::Relaxed);
        }
    }
}

/// First step on the boot CPU: traps reach the panic screen.
pub fn init_tables(cpu: usize) {
    if cpu == 0 {
        fill_idt();
    }
    if let Some(local) = CPUS.get(cpu) {
        local.fill(cpu);
        local.load();
    }
}

/// What CPUID says, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    leaf1_ecx: u32,
    leaf1_edx: u32,
    leaf7_ebx: u32,
    leaf7_ecx: u32,
    extended_edx: u32,
    /// Bits of a physical address.
    pub physical_bits: u32,
}

impl Features {
    /// Reads CPUID; leaves beyond the announced maximum count as zero (TCG answers garbage there).
    pub fn read() -> Features {
        let extended_max = __cpuid(0x8000_0000).eax;
        let max = __cpuid(0).eax;
        let one = __cpuid(1);
        let (leaf7_ebx, leaf7_ecx) = if max >= 7 {
            let seven = __cpuid_count(7, 0);
            (seven.ebx, seven.ecx)
        } else {
            (0, 0)
        };
        let extended = |leaf: u32| (extended_max >= leaf).then(|| __cpuid(leaf));
        Features {
            leaf1_ecx: one.ecx,
            leaf1_edx: one.edx,
            leaf7_ebx,
            leaf7_ecx,
            extended_edx: extended(0x8000_0001).map_or(0, |leaf| leaf.edx),
            physical_bits: extended(0x8000_0008).map_or(36, |leaf| leaf.eax & 0xff).clamp(32, 52),
        }
    }

    /// The first feature the kernel cannot do without and this CPU has not got.
    pub fn missing(&self) -> Option<&'static str> {
        let needed = [
            (self.leaf1_edx & 1 << 4 != 0, "TSC"),
            (self.leaf1_edx & 1 << 5 != 0, "MSR"),
            (self.leaf1_edx & 1 << 9 != 0, "APIC"),
            (self.leaf1_edx & 1 << 16 != 0, "PAT"),
            (self.leaf1_edx & 1 << 24 != 0, "FXSR"),
            (self.leaf1_ecx & 1 << 26 != 0, "XSAVE"),
            (self.leaf7_ebx & 1 << 0 != 0, "FSGSBASE"),
            (self.extended_edx & 1 << 11 != 0, "SYSCALL"),
            (self.extended_edx & 1 << 20 != 0, "NX"),
        ];
        needed.iter().find(|(there, _)| !there).map(|(_, name)| *name)
    }

    /// Protections that are used where they are there: CR4's bit, whether it is there, name.
    fn protections(&self) -> [(Cr4Flags, bool, &'static str); 3] {
        [
            (Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, self.leaf7_ebx & 1 << 7 != 0, "SMEP"),
            (Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, self.leaf7_ebx & 1 << 20 != 0, "SMAP"),
            (Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, self.leaf7_ecx & 1 << 2 != 0, "UMIP"),
        ]
    }

    /// Pages of 1 GiB.
    pub fn huge_pages(&self) -> bool {
        self.extended_edx & 1 << 26 != 0
    }

    /// AVX.
    pub fn avx(&self) -> bool {
        self.leaf1_ecx & 1 << 28 != 0
    }

    /// TSC ticks in a second, where CPUID tells. (Leaf 4000_0010h is a convention of hypervisors.)
    pub fn tsc_hz(&self) -> Option<u64> {
        const HYPERVISOR: u32 = 0x4000_0000;
        let crystal = match __cpuid(0).eax {
            0x15.. => {
                let leaf = __cpuid(0x15);
                [leaf.eax, leaf.ebx, leaf.ecx]
            }
            _ => [0; 3],
        };
        let virtual_machine = self.leaf1_ecx & 1 << 31 != 0;
        let khz = if virtual_machine && __cpuid(HYPERVISOR).eax >= HYPERVISOR | 0x10 {
            __cpuid(HYPERVISOR | 0x10).eax
        } else {
            0
        };
        firmware::clock::tsc_hz(crystal, khz)
    }
}

/// Second step: control registers. The features were checked on the boot CPU; the others are taken to be alike.
pub fn init_registers(cpu: usize, features: &Features) {
    const EFER: u32 = 0xc000_0080;
    const STAR: u32 = 0xc000_0081;
    const LSTAR: u32 = 0xc000_0082;
    const CSTAR: u32 = 0xc000_0083;
    const SFMASK: u32 = 0xc000_0084;
    const SYSENTER_CS: u32 = 0x174;
    const PAT: u32 = 0x277;
    /// As after reset: entries 0 to 3 are write-back, write-through, uncached unless MTRRs combine, uncached.
    const PAT_VALUE: u64 = 0x0007_0406_0007_0406;
    const EFER_VALUE: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11; // SCE, LME, LMA, NXE
    let cr0 = Cr0Flags::PROTECTED_MODE_ENABLE
        | Cr0Flags::MONITOR_COPROCESSOR
        | Cr0Flags::EXTENSION_TYPE
        | Cr0Flags::NUMERIC_ERROR
        | Cr0Flags::WRITE_PROTECT
        | Cr0Flags::PAGING;
    // SAFETY: paging stays on; the tables in use do not make the kernel write to read-only pages.
    unsafe { Cr0::write_raw(cr0.bits()) };
    let mut cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
        | Cr4Flags::OSFXSR
        | Cr4Flags::OSXMMEXCPT_ENABLE
        | Cr4Flags::FSGSBASE
        | Cr4Flags::OSXSAVE;
    for (flag, there, _) in features.protections() {
        cr4.set(flag, there);
    }
    // SAFETY: each bit is one that CPUID announces; the kernel touches no page of users by their addresses.
    unsafe { Cr4::write_raw(cr4.bits()) };
    let avx = if features.avx() { XCr0Flags::AVX } else { XCr0Flags::empty() };
    // SAFETY: x87 and SSE are always there, AVX is announced.
    unsafe { XCr0::write(XCr0Flags::X87 | XCr0Flags::SSE | avx) };
    let star = u64::from(selector::KERNEL_DATA) << 48 | u64::from(selector::KERNEL_CODE) << 32;
    let entry = crate::entry::syscall_entry(cpu, true);
    // SYSENTER and SYSCALL from compatibility mode lead nowhere: no segment of ours lets users get there.
    let registers = [
        (EFER, EFER_VALUE),
        (STAR, star),
        (LSTAR, entry),
        (CSTAR, 0),
        (SFMASK, SYSCALL_FLAG_MASK),
        (SYSENTER_CS, 0),
        (PAT, PAT_VALUE),
    ];
    for (register, value) in registers {
        // SAFETY: long mode goes on; entry and selectors are this kernel's, as the module's tables have them.
        unsafe { Msr::new(register).write(value) };
    }
}

/// Has system calls of this CPU enter at `entry`.
pub fn set_syscall_entry(entry: u64) {
    const LSTAR: u32 = 0xc000_0082;
    // SAFETY: the entry is one of this CPU's two (crate::entry).
    unsafe { Msr::new(LSTAR).write(entry) };
}

/// Says in the log which protections this CPU lacks.
pub fn report(features: &Features) {
    for (_, there, name) in features.protections() {
        if !there {
            log!("this CPU has no {name}: the kernel goes on without");
        }
    }
}

/// The time stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: reads a counter that `Features::missing` demanded.
    unsafe { core::arch::x86_64::_rdtsc() }
}
