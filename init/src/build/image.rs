//! Programs that are run again: checked once, and loaded once as far as nobody writes to them.
//!
//! The pages of a program that are only read or executed lie in Frames of init's, filled at its first run and mapped
//! into every life of it; only what is writable is made anew. An image stays for good, so there is one for each
//! program that is supervised, and none for programs run by hand.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;

use abi::object::PAGE_SIZE;
use abi::{CPtr, Kind, MapFlags};
use ipc::VSpace;
use rt::alloc::AllocError;
use rt::memory;

use crate::build::contents::fill;
use crate::build::elf::{Program, Segment};
use crate::build::error::BuildError;
use crate::build::plan::frames;

/// A program with its read-only pages in place.
#[derive(Debug)]
pub struct Image {
    name: &'static str,
    /// All of the program.
    pub program: Program<'static>,
    shared: Vec<Shared>,
}

/// A Frame of a read-only segment.
#[derive(Clone, Copy, Debug)]
struct Shared {
    frame: CPtr,
    address: u64,
    pages: u64,
    flags: MapFlags,
}

/// The images made so far.
#[derive(Debug, Default)]
pub struct Images(Vec<&'static Image>);

impl Images {
    /// The image of the program called `name`, made of `file` at the first time.
    pub fn get(&mut self, name: &'static str, file: &'static [u8]) -> Result<&'static Image, BuildError> {
        if let Some(image) = self.known(name) {
            return Ok(image);
        }
        self.0.try_reserve(1).map_err(|_| AllocError::NoMemory)?;
        let program = Program::parse(file).map_err(BuildError::Program)?;
        let mut image = Image { name, program, shared: Vec::new() };
        if let Err(error) = image.load() {
            for each in &image.shared {
                memory::destroy(each.frame)?;
            }
            return Err(error);
        }
        let image: &'static Image = Box::leak(Box::new(image));
        self.0.push(image);
        Ok(image)
    }

    /// The image of the program called `name`, if there is one.
    pub fn known(&self, name: &str) -> Option<&'static Image> {
        self.0.iter().find(|image| image.name == name).copied()
    }
}

impl Image {
    fn load(&mut self) -> Result<(), BuildError> {
        for segment in self.program.segments.iter().filter(|segment| is_shared(segment)) {
            for (page, bits) in frames(segment.pages) {
                let frame = memory::make(Kind::Frame, bits)?;
                let pages = (1 << bits) / PAGE_SIZE;
                let address = segment.address + page * PAGE_SIZE;
                self.shared.push(Shared { frame, address, pages, flags: segment.flags });
                if let Some((offset, data)) = segment.part(page, pages) {
                    fill(frame, offset, data)?;
                }
            }
        }
        Ok(())
    }

    /// Maps the pages that all lives share.
    pub fn map(&self, vspace: VSpace) -> Result<(), BuildError> {
        for each in &self.shared {
            vspace.map(each.frame, each.address, 0, each.pages, each.flags)?;
        }
        Ok(())
    }

    /// The Frames that all lives share.
    pub fn frames(&self) -> impl Iterator<Item = CPtr> {
        self.shared.iter().map(|each| each.frame)
    }
}

/// Whether a segment of an image is the same for all lives.
pub fn is_shared(segment: &Segment) -> bool {
    !segment.flags.has(MapFlags::WRITE)
}
