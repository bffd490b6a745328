//! One transfer after the other, for programs that want nothing else.
//!
//! A transfer is cut into pieces that are under way together, as many as the data has room for.

use channel::World;
use proto::block::{DEPTH, Op, SECTOR, segment};
use ring::Word;

use crate::client::{Client, Failure, Geometry};
use crate::data::Data;
use crate::requests::Request;

/// Sectors of a piece, at most.
const PIECE: u64 = 128;

/// A disk that is read and written by calls that return when it is done.
#[derive(Debug)]
pub struct Blocking<'m, W, O> {
    client: Client<'m, W>,
    /// What the client needs of the world around it.
    pub world: O,
    data: Data<'m>,
}

impl<'m, W: Word, O: World> Blocking<'m, W, O> {
    /// The disk behind `client`, which has no requests under way. Waits until its driver is there.
    pub fn new(mut client: Client<'m, W>, mut world: O, data: Data<'m>) -> Blocking<'m, W, O> {
        client.wait_for_device(&mut world, |_| {});
        Blocking { client, world, data }
    }

    /// The device.
    pub fn geometry(&self) -> Geometry {
        // `new` has waited for it, and it stays.
        self.client.geometry().expect("a device that was there")
    }

    /// Fills `out`, a multiple of the sector, from sector `sector` on.
    pub fn read(&mut self, sector: u64, out: &mut [u8]) -> Result<(), Failure> {
        let most = self.data.sectors();
        for (sector, part) in (sector..).step_by(most as usize).zip(out.chunks_mut((most * SECTOR) as usize))
        {
            self.transfer(Op::Read, sector, sectors(part)?)?;
            self.data.read(0, part);
        }
        Ok(())
    }

    /// Writes `from`, a multiple of the sector, from sector `sector` on. Durable after the next [`Self::flush`].
    pub fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), Failure> {
        let most = self.data.sectors();
        for (at, part) in (0..).step_by(most as usize).zip(from.chunks((most * SECTOR) as usize)) {
            let count = sectors(part)?;
            self.data.write(0, part);
            self.transfer(Op::Write, sector.wrapping_add(at), count)?;
        }
        Ok(())
    }

    /// Makes durable what was written.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.pieces(core::iter::once((Op::Flush, 0, 0, 0)))
    }

    /// Says that what the sectors hold does not matter any more.
    pub fn discard(&mut self, sector: u64, sectors: u64) -> Result<(), Failure> {
        self.clear(Op::Discard, sector, sectors)
    }

    /// Makes the sectors zero.
    pub fn write_zeroes(&mut self, sector: u64, sectors: u64) -> Result<(), Failure> {
        self.clear(Op::WriteZeroes, sector, sectors)
    }

    /// Reads or writes, from the data's beginning on, as much as it has at most.
    fn transfer(&mut self, op: Op, sector: u64, sectors: u64) -> Result<(), Failure> {
        let piece = |at: u64| (op, sector.wrapping_add(at), at, PIECE.min(sectors - at));
        self.pieces((0..sectors).step_by(PIECE as usize).map(piece))
    }

    fn clear(&mut self, op: Op, sector: u64, sectors: u64) -> Result<(), Failure> {
        let most = self.geometry().most_cleared.max(1);
        let piece = |at: u64| (op, sector.wrapping_add(at), 0, most.min(sectors - at));
        self.pieces((0..sectors).step_by(most as usize).map(piece))
    }

    /// Has all of these done: operation, sector, offset in the data, sectors. The first failure, if there is one.
    fn pieces(&mut self, pieces: impl Iterator<Item = (Op, u64, u64, u64)>) -> Result<(), Failure> {
        let mut pieces = pieces.peekable();
        let mut result = Ok(());
        while pieces.peek().is_some() || self.client.under_way() > 0 {
            while self.client.under_way() < DEPTH
                && let Some((op, sector, offset, sectors)) = pieces.next()
            {
                let segments = [segment(offset, sectors)];
                let has_data = matches!(op, Op::Read | Op::Write);
                let segments = if has_data { &segments[..] } else { &[] };
                // There is room, and every device takes one segment.
                let _ = self.client.submit(&Request { op, sector, sectors, segments });
            }
            self.client.work(&mut self.world, |answer| result = result.and(answer.result));
            if self.client.under_way() > 0 && self.client.sleep() {
                self.world.sleep(None);
            }
        }
        result
    }
}

/// How many sectors these bytes are.
fn sectors(bytes: &[u8]) -> Result<u64, Failure> {
    let length = bytes.len() as u64;
    if length.is_multiple_of(SECTOR) { Ok(length / SECTOR) } else { Err(Failure::Invalid) }
}

#[cfg(test)]
mod tests;
