//! What a driver is given for all of its lives: registers, interrupts, an IoSpace.
//!
//! It is made piece by piece, and init may be short of something between two of them. What there is by then is kept, and
//! the next attempt goes on behind it: registers are given out once, so who threw them away would never get them again.

extern crate alloc;

use alloc::vec::Vec;
use core::ops::Range;

use abi::CPtr;

use crate::build::functions::Function;

/// What a driver is given, for all of its lives.
#[derive(Debug)]
pub struct Resources {
    /// The function.
    pub function: Function,
    /// Its registers: BAR, Frame, log2 of the bytes.
    pub frames: Vec<(u8, CPtr, u32)>,
    /// Its interrupts.
    pub vectors: Vec<Vector>,
    /// What it reaches, if there is an IOMMU.
    pub space: Option<CPtr>,
}

/// An interrupt of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector {
    /// Its handler.
    pub handler: CPtr,
    /// The right to signal the driver's bell.
    pub signal: CPtr,
    /// Where the device writes what.
    pub message: [u64; 2],
}

/// Makes a piece. One that fails leaves nothing behind.
pub trait Maker {
    /// Why there is no piece.
    type Error;

    /// Makes a Frame of registers: the Frame, and log2 of its bytes.
    fn registers(&mut self, range: &Range<u64>) -> Result<(CPtr, u32), Self::Error>;

    /// Makes the interrupt of vector `number`.
    fn vector(&mut self, number: u8) -> Result<Vector, Self::Error>;

    /// Makes the IoSpace, if the machine has an IOMMU.
    fn space(&mut self) -> Result<Option<CPtr>, Self::Error>;
}

impl Resources {
    /// Nothing yet.
    pub fn of(function: Function) -> Resources {
        Resources { function, frames: Vec::new(), vectors: Vec::new(), space: None }
    }

    /// Makes what is missing, up to the first piece that cannot be had. The device's reach is bounded first: of what it
    /// could do harm with, its registers, it is given last.
    pub fn complete<M: Maker>(&mut self, vectors: u32, maker: &mut M) -> Result<(), M::Error> {
        if self.space.is_none() {
            self.space = maker.space()?;
        }
        for number in self.vectors.len()..vectors as usize {
            self.vectors.push(maker.vector(number as u8)?);
        }
        let missing = self.function.bars.iter().skip(self.frames.len());
        for (bar, range) in missing {
            let (frame, bits) = maker.registers(range)?;
            self.frames.push((*bar, frame, bits));
        }
        Ok(())
    }

    /// The Frame of a BAR.
    pub fn frame(&self, bar: u8) -> Option<CPtr> {
        self.frames.iter().find(|(number, ..)| *number == bar).map(|(_, frame, _)| *frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that gives each range out once, and where one thing goes wrong.
    struct Short {
        given: Vec<Range<u64>>,
        made: u32,
        /// How many pieces can be made before one cannot.
        left: u32,
    }

    impl Short {
        fn piece(&mut self) -> Result<CPtr, &'static str> {
            self.left = self.left.checked_sub(1).ok_or("short of something")?;
            self.made += 1;
            Ok(CPtr(self.made))
        }
    }

    impl Maker for Short {
        type Error = &'static str;

        fn registers(&mut self, range: &Range<u64>) -> Result<(CPtr, u32), &'static str> {
            if self.given.contains(range) {
                return Err("given out already");
            }
            let frame = self.piece()?;
            self.given.push(range.clone());
            Ok((frame, 12))
        }

        fn vector(&mut self, number: u8) -> Result<Vector, &'static str> {
            let handler = self.piece()?;
            Ok(Vector { handler, signal: handler, message: [u64::from(number), 0] })
        }

        fn space(&mut self) -> Result<Option<CPtr>, &'static str> {
            self.piece().map(Some)
        }
    }

    fn function() -> Function {
        let mut bars = heapless::Vec::new();
        for (bar, start) in [(0, 0x1000), (1, 0x8000), (4, 0xa000)] {
            bars.push((bar, start..start + 0x1000)).expect("room");
        }
        Function {
            number: 0,
            address: 8,
            identity: (0x1af4, 0x1042),
            vectors: 2,
            msix: None,
            bars,
            regions: heapless::Vec::new(),
        }
    }

    #[test]
    fn a_shortage_at_any_piece_costs_an_attempt_and_nothing_else() {
        for short in 0..6 {
            let mut maker = Short { given: Vec::new(), made: 0, left: short };
            let mut resources = Resources::of(function());
            assert_eq!(resources.complete(2, &mut maker), Err("short of something"), "after {short}");
            maker.left = u32::MAX;
            assert_eq!(resources.complete(2, &mut maker), Ok(()), "after {short}");
            assert_eq!(maker.made, 6, "each piece is made once");
            let bars: Vec<u8> = resources.frames.iter().map(|(bar, ..)| *bar).collect();
            assert_eq!((bars, resources.vectors.len()), (Vec::from([0, 1, 4]), 2));
            assert_eq!(resources.vectors[1].message, [1, 0]);
            assert!(resources.space.is_some() && resources.frame(4).is_some());
        }
    }

    #[test]
    fn without_an_iommu_there_is_no_space_and_all_else() {
        struct Bare(Short);
        impl Maker for Bare {
            type Error = &'static str;
            fn registers(&mut self, range: &Range<u64>) -> Result<(CPtr, u32), &'static str> {
                self.0.registers(range)
            }
            fn vector(&mut self, number: u8) -> Result<Vector, &'static str> {
                self.0.vector(number)
            }
            fn space(&mut self) -> Result<Option<CPtr>, &'static str> {
                Ok(None)
            }
        }
        let mut resources = Resources::of(function());
        let mut maker = Bare(Short { given: Vec::new(), made: 0, left: 5 });
        assert_eq!(resources.complete(2, &mut maker), Ok(()));
        assert!(resources.space.is_none() && resources.frames.len() == 3);
    }
}
