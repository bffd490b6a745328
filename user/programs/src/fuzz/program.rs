//! A copy of this program, for the address spaces of worlds. Code and constants only matter: what runs there
//! keeps its data in the arena.

use abi::object::PAGE_SIZE;
use abi::{CPtr, Error, Kind, MapFlags};
use ipc::VSpace;
use proto::start::{PROGRAM, PROGRAM_END};
use rt::alloc::AllocError;
use rt::memory;

/// Runs of pages mapped alike, at most.
const RUNS: usize = 4;
/// Unmapped pages that may lie between two of them.
const GAP: u64 = 16;

/// Pages mapped alike.
#[derive(Clone, Copy, Debug)]
struct Run {
    address: u64,
    pages: u64,
    flags: MapFlags,
}

/// The copy.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    frame: CPtr,
    runs: [Option<Run>; RUNS],
}

/// How the page at `address` is mapped.
fn flags_at(vspace: VSpace, address: u64) -> Option<MapFlags> {
    vspace.query(address).ok().map(|[flags, ..]| MapFlags(flags))
}

/// The next run of this program's pages from `address` on.
fn next_run(vspace: VSpace, address: u64) -> Option<Run> {
    let places = (0..GAP).map(|page| address + page * PAGE_SIZE);
    let address =
        places.filter(|&place| place < PROGRAM_END).find(|&place| flags_at(vspace, place).is_some())?;
    let flags = flags_at(vspace, address)?;
    let alike = |page: &u64| flags_at(vspace, address + page * PAGE_SIZE) == Some(flags);
    let pages = (0..).take_while(alike).count() as u64;
    Some(Run { address, pages, flags })
}

impl Program {
    /// Copies this program as it is now; `window` is a free part of the address space.
    pub fn copy(window: u64) -> Result<Program, AllocError> {
        let vspace = memory::vspace()?;
        let mut runs = [None; RUNS];
        let mut address = PROGRAM;
        for place in &mut runs {
            *place = next_run(vspace, address);
            address = place.map_or(address, |run: Run| run.address + run.pages * PAGE_SIZE);
        }
        let pages: u64 = runs.iter().flatten().map(|run| run.pages).sum();
        let frame = memory::make(Kind::Frame, pages.next_power_of_two().ilog2() + PAGE_SIZE.ilog2())?;
        memory::map(frame, window, 0, pages, MapFlags::WRITE)?;
        let mut to = window;
        for run in runs.iter().flatten() {
            let bytes = run.pages * PAGE_SIZE;
            // SAFETY: both ranges are mapped; the destination is nobody else's, and data that changes
            // meanwhile is this thread's own, as no other runs yet.
            unsafe {
                core::ptr::copy_nonoverlapping(run.address as *const u8, to as *mut u8, bytes as usize)
            };
            to += bytes;
        }
        memory::unmap(window, pages)?;
        Ok(Program { frame, runs })
    }

    /// Maps the copy into an address space.
    pub fn map(&self, vspace: VSpace) -> Result<(), Error> {
        let mut offset = 0;
        for run in self.runs.iter().flatten() {
            vspace.map(self.frame, run.address, offset, run.pages, run.flags)?;
            offset += run.pages * PAGE_SIZE;
        }
        Ok(())
    }
}
