//! The requests that were not answered yet, in the order in which they were made.
//!
//! A request is in it from when it is made until it is answered. It is *sent* when the present server has it. Those
//! not sent come behind those sent; when the server dies, none is sent any more, and all go out again in their order.

use alloc::boxed::Box;

use proto::block::{DEPTH, MAX_SEGMENTS, Op, RECORD, SEGMENTS};

/// What is asked of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'s> {
    /// What to do.
    pub op: Op,
    /// From which sector on.
    pub sector: u64,
    /// How many.
    pub sectors: u64,
    /// Where in the `data` Frame the data is, or goes: `proto::block::segment`s.
    pub segments: &'s [u64],
}

/// The name of a request until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

impl Id {
    /// Its place among the requests under way: below [`DEPTH`], and no other's meanwhile.
    pub fn place(self) -> usize {
        self.0 as usize % DEPTH
    }

    /// The word that it is on the ring.
    pub fn word(self) -> u64 {
        self.0
    }
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many as can be under way.
    Full,
    /// It has more segments than a request can have.
    TooManySegments,
}

/// No place.
const NONE: u16 = u16::MAX;

#[derive(Clone, Debug)]
struct Place {
    /// 0: free.
    id: u64,
    record: [u64; RECORD],
    /// How many segments are in it.
    segments: usize,
    /// The present server has it.
    sent: bool,
    /// How many servers have died by their own fault while they had it.
    deaths: u8,
    /// The ones before and behind in the order; of a free one, the next free.
    before: u16,
    behind: u16,
}

/// The requests.
#[derive(Debug)]
pub struct Requests {
    places: Box<[Place]>,
    free: u16,
    first: u16,
    last: u16,
    /// The first that is not sent.
    unsent: u16,
    sent: usize,
    count: usize,
    made: u64,
}

impl Default for Requests {
    fn default() -> Requests {
        Requests::new()
    }
}

impl Requests {
    /// None.
    pub fn new() -> Requests {
        let place = |at: usize| Place {
            id: 0,
            record: [0; RECORD],
            segments: 0,
            sent: false,
            deaths: 0,
            before: NONE,
            behind: if at + 1 < DEPTH { at as u16 + 1 } else { NONE },
        };
        let places = (0..DEPTH).map(place).collect();
        Requests { places, free: 0, first: NONE, last: NONE, unsent: NONE, sent: 0, count: 0, made: 0 }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many of them the server has.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Takes one in, as the last.
    pub fn add(&mut self, request: &Request) -> Result<Id, Refused> {
        if request.segments.len() > MAX_SEGMENTS {
            return Err(Refused::TooManySegments);
        }
        let at = self.free;
        let place = self.places.get_mut(usize::from(at)).ok_or(Refused::Full)?;
        self.made += 1;
        let id = self.made * DEPTH as u64 + u64::from(at);
        self.free = place.behind;
        let what = request.op as u64 | (request.segments.len() as u64) << 32;
        place.record[..SEGMENTS].copy_from_slice(&[id, what, request.sector, request.sectors]);
        place.record[SEGMENTS..][..request.segments.len()].copy_from_slice(request.segments);
        place.segments = request.segments.len();
        (place.id, place.sent, place.deaths) = (id, false, 0);
        (place.before, place.behind) = (self.last, NONE);
        match self.places.get_mut(usize::from(self.last)) {
            Some(last) => last.behind = at,
            None => self.first = at,
        }
        self.last = at;
        if self.unsent == NONE {
            self.unsent = at;
        }
        self.count += 1;
        Ok(Id(id))
    }

    /// The first one that is not sent: its record, as far as it means something, and how many servers it has seen die.
    #[inline]
    pub fn next(&self) -> Option<(&[u64], u8)> {
        let place = self.places.get(usize::from(self.unsent))?;
        Some((&place.record[..SEGMENTS + place.segments], place.deaths))
    }

    /// That one is sent now.
    #[inline]
    pub fn next_is_sent(&mut self) {
        if let Some(place) = self.places.get_mut(usize::from(self.unsent)) {
            place.sent = true;
            self.unsent = place.behind;
            self.sent += 1;
        }
    }

    /// The server answers the request that is called `word`: takes it out, if it was sent.
    #[inline]
    pub fn answered(&mut self, word: u64) -> Option<Id> {
        let at = word as usize % DEPTH;
        let place = self.places.get(at)?;
        if place.id != word || !place.sent {
            return None;
        }
        self.sent -= 1;
        self.remove(at as u16);
        Some(Id(word))
    }

    fn remove(&mut self, at: u16) {
        let place = &mut self.places[usize::from(at)];
        let (before, behind) = (place.before, place.behind);
        place.id = 0;
        place.behind = core::mem::replace(&mut self.free, at);
        self.count -= 1;
        match self.places.get_mut(usize::from(before)) {
            Some(place) => place.behind = behind,
            None => self.first = behind,
        }
        match self.places.get_mut(usize::from(behind)) {
            Some(place) => place.before = before,
            None => self.last = before,
        }
        if self.unsent == at {
            self.unsent = behind;
        }
    }

    /// The server that had some of them is no more. If it died by its own fault (`at_fault`) each of those has seen
    /// one more die, and the first that has seen `most` is taken out, and returned; call again until there is none.
    /// Then none is sent.
    pub fn server_died(&mut self, at_fault: bool, most: u8) -> Option<Id> {
        let mut at = self.first;
        while let Some(place) = self.places.get_mut(usize::from(at)) {
            if place.sent {
                place.sent = false;
                self.sent -= 1;
                place.deaths = place.deaths.saturating_add(u8::from(at_fault));
                if place.deaths >= most {
                    let id = Id(place.id);
                    self.remove(at);
                    return Some(id);
                }
            }
            at = place.behind;
        }
        self.unsent = self.first;
        None
    }
}

#[cfg(test)]
mod tests;
