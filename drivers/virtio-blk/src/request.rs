//! What a client asks, looked at once.
//!
//! A record was copied out of the ring before it comes here, so nobody changes it any more. What is made of it is
//! known to make sense for the device and for the client's data, and is the only thing that goes on to the device.

use proto::block::{MAX_SECTORS, MAX_SEGMENTS, Op, RECORD, SEGMENTS, Status, segment_parts};

/// What requests are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sectors of the device.
    pub sectors: u64,
    /// Sectors of a block: the device takes whole blocks only.
    pub block: u64,
    /// Nothing can be written.
    pub read_only: bool,
    /// Segments of a request.
    pub segments: usize,
    /// Discard is offered.
    pub discard: bool,
    /// Write-zeroes is offered.
    pub write_zeroes: bool,
    /// Sectors of either, at most.
    pub cleared: u64,
}

/// A request that makes sense.
#[derive(Clone, Debug)]
pub struct Request {
    /// How the client calls it.
    pub id: u64,
    /// What is to be done.
    pub op: Op,
    /// The first sector.
    pub sector: u64,
    /// How many.
    pub sectors: u64,
    segments: [u64; RECORD],
    count: usize,
}

impl Request {
    /// The request in `record`, of a client with `data` sectors of data.
    #[inline]
    pub fn read(record: [u64; RECORD], limits: &Limits, data: u64) -> Result<Request, Status> {
        let [id, what, sector, sectors, ..] = record;
        let op = Op::from_word(what as u32).ok_or(Status::Unsupported)?;
        let count = (what >> 32) as usize;
        let request = Request { id, op, sector, sectors, segments: record, count };
        match op {
            Op::Read | Op::Write => request.has_data(limits, data)?,
            Op::Flush if sector == 0 && sectors == 0 && count == 0 => {}
            Op::Flush => return Err(Status::Invalid),
            Op::Discard => request.has_none(limits, limits.discard)?,
            Op::WriteZeroes => request.has_none(limits, limits.write_zeroes)?,
        }
        match op {
            Op::Write | Op::Discard | Op::WriteZeroes if limits.read_only => Err(Status::ReadOnly),
            _ => Ok(request),
        }
    }

    /// Its segments: offsets in the client's data and lengths, in sectors. They were looked at.
    #[inline]
    pub fn segments(&self) -> impl ExactSizeIterator<Item = (u64, u64)> {
        self.segments[SEGMENTS..].iter().take(self.count).map(|word| segment_parts(*word))
    }

    fn is_on_the_device(&self, limits: &Limits) -> bool {
        let end = self.sector.checked_add(self.sectors);
        let whole = self.sector.is_multiple_of(limits.block) && self.sectors.is_multiple_of(limits.block);
        self.sectors > 0 && whole && end.is_some_and(|end| end <= limits.sectors)
    }

    fn has_data(&self, limits: &Limits, data: u64) -> Result<(), Status> {
        let count_fits = self.count >= 1 && self.count <= MAX_SEGMENTS.min(limits.segments);
        if !count_fits || !self.is_on_the_device(limits) {
            return Err(Status::Invalid);
        }
        // Offsets have 44 bits and lengths 20: the sums cannot run over.
        let inside = |(offset, length)| length > 0 && offset + length <= data;
        let all_inside = self.segments().all(inside);
        let sum: u64 = self.segments().map(|(_, length)| length).sum();
        if all_inside && sum == self.sectors && sum <= MAX_SECTORS { Ok(()) } else { Err(Status::Invalid) }
    }

    fn has_none(&self, limits: &Limits, offered: bool) -> Result<(), Status> {
        if !offered {
            return Err(Status::Unsupported);
        }
        match self.count == 0 && self.sectors <= limits.cleared && self.is_on_the_device(limits) {
            true => Ok(()),
            false => Err(Status::Invalid),
        }
    }
}
