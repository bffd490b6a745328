//! What channels of init's go over, and how much of what comes in is taken at a time.

/// A way for bytes in both directions.
pub trait Carrier {
    /// Sends `bytes`, now or when there is room.
    fn send(&mut self, bytes: &[u8]);
    /// Returns true if the other end keeps up; a sender that can wait sends only then.
    fn has_room(&self) -> bool;
    /// Takes bytes that have come in: how many.
    fn receive(&mut self, to: &mut [u8]) -> usize;
    /// Moves what is on its way.
    fn turn(&mut self);
    /// Returns when to call [`Self::turn`] at the latest.
    fn deadline(&self) -> Option<u64>;
}

/// What may be taken at a time. A line that brings more without end does not keep init from the rest of its work.
#[derive(Debug)]
pub struct Allowance {
    bytes: usize,
    items: usize,
}

impl Allowance {
    /// Commands of the host, or keys of the operator.
    pub const ITEMS: usize = 64;
    /// Bytes, whether or not they make up a command.
    pub const BYTES: usize = 64 * 1024;

    /// Returns a whole allowance.
    pub const fn new() -> Allowance {
        Allowance { bytes: Allowance::BYTES, items: Allowance::ITEMS }
    }

    /// Returns true if there may be more that was not taken.
    pub const fn is_used_up(&self) -> bool {
        self.bytes == 0 || self.items == 0
    }

    /// Counts a byte.
    pub const fn count_byte(&mut self) {
        self.bytes = self.bytes.saturating_sub(1);
    }

    /// Counts a command or a key.
    pub const fn count_item(&mut self) {
        self.items = self.items.saturating_sub(1);
    }
}

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance::new()
    }
}

/// A way that brings what it was given, again and again, and takes everything.
#[cfg(test)]
#[derive(Default)]
pub struct Endless {
    /// What it brings over and over; nothing if this is empty.
    pub brings: std::vec::Vec<u8>,
    /// Bytes that it has brought.
    pub brought: usize,
    /// What it was given to send.
    pub sent: std::vec::Vec<u8>,
    /// Bytes that it takes before it has no room.
    pub room: usize,
    /// How often its bytes were moved.
    pub turns: usize,
}

#[cfg(test)]
impl Carrier for Endless {
    fn send(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
    }

    fn has_room(&self) -> bool {
        self.sent.len() < self.room
    }

    fn receive(&mut self, to: &mut [u8]) -> usize {
        let length = if self.brings.is_empty() { 0 } else { to.len() };
        for (place, at) in to.iter_mut().zip(self.brought..self.brought + length) {
            *place = self.brings[at % self.brings.len()];
        }
        self.brought += length;
        length
    }

    fn turn(&mut self) {
        self.turns += 1;
    }

    fn deadline(&self) -> Option<u64> {
        None
    }
}
