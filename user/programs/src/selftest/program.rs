//! A copy of this program, for the address spaces of sandboxes.
//!
//! Which pages the program has and how they are mapped is asked of its own address space; code and constants
//! are copied once, writable data as it is then.

use abi::object::PAGE_SIZE;
use abi::{CPtr, Error, Kind, MapFlags};
use ipc::VSpace;
use proto::start::{PROGRAM, PROGRAM_END};
use rt::alloc::AllocError;
use rt::memory;

/// Where the copy is mapped while it is filled.
const WINDOW: u64 = proto::start::FREE + (1 << 30);
/// Runs of pages mapped alike, at most.
const RUNS: usize = 4;

/// Pages mapped alike.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The first one's address.
    pub address: u64,
    /// How many.
    pub pages: u64,
    /// How.
    pub flags: MapFlags,
}

/// The copy.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The Frame that it lies in.
    pub frame: CPtr,
    runs: [Option<Run>; RUNS],
}

/// The runs of this program's own pages.
fn own_runs(vspace: VSpace) -> [Option<Run>; RUNS] {
    let mut runs = [None; RUNS];
    let mut count = 0;
    let mut address = PROGRAM;
    while address < PROGRAM_END && count < RUNS {
        let Ok([flags, ..]) = vspace.query(address) else {
            // Between two segments there may be a hole; after the last there is nothing.
            if (1..16).all(|page| vspace.query(address + page * PAGE_SIZE) == Err(Error::NotMapped)) {
                break;
            }
            address += PAGE_SIZE;
            continue;
        };
        let alike = |address| matches!(vspace.query(address), Ok([other, ..]) if other == flags);
        let pages = (1..).find(|page| !alike(address + page * PAGE_SIZE)).unwrap_or(1);
        runs[count] = Some(Run { address, pages, flags: MapFlags(flags) });
        count += 1;
        address += pages * PAGE_SIZE;
    }
    runs
}

impl Program {
    /// Copies this program as it is now.
    pub fn copy() -> Result<Program, AllocError> {
        let runs = own_runs(memory::vspace()?);
        let pages: u64 = runs.iter().flatten().map(|run| run.pages).sum();
        let frame = memory::make(Kind::Frame, pages.next_power_of_two().ilog2() + PAGE_SIZE.ilog2())?;
        memory::map(frame, WINDOW, 0, pages, MapFlags::WRITE)?;
        let mut to = WINDOW;
        for run in runs.iter().flatten() {
            let bytes = run.pages * PAGE_SIZE;
            // SAFETY: both ranges are mapped; the destination is nobody else's. Data that changes meanwhile is
            // this thread's own, as no other runs yet.
            unsafe {
                core::ptr::copy_nonoverlapping(run.address as *const u8, to as *mut u8, bytes as usize)
            };
            to += bytes;
        }
        memory::unmap(WINDOW, pages)?;
        Ok(Program { frame, runs })
    }

    /// Maps the copy into an address space. `frame` names its Frame in the caller's CSpace.
    pub fn map(&self, vspace: VSpace, frame: CPtr) -> Result<(), Error> {
        let mut offset = 0;
        for run in self.runs.iter().flatten() {
            vspace.map(frame, run.address, offset, run.pages, run.flags)?;
            offset += run.pages * PAGE_SIZE;
        }
        Ok(())
    }

    /// A page that is mapped executable, and one that is mapped writable.
    pub fn pages(&self) -> [u64; 2] {
        [MapFlags::EXECUTE, MapFlags::WRITE].map(|wanted| {
            self.runs.iter().flatten().find(|run| run.flags.has(wanted)).map_or(0, |run| run.address)
        })
    }
}
