//! A reliable stream of bytes, each way, over frames that may be lost, doubled, damaged and overtaken.
//!
//! Bytes are numbered from 0; the end of a stream counts as one more. The receiver takes bytes only in order and
//! says how far it has come; one that sees a gap says so at once, and the sender goes back there, once for each gap.
//! Everything else is left to the timer, which doubles as long as nothing is acknowledged (RFC 6298, 5). There is no
//! control of congestion: the stream is for two machines on one wire.
//!
//! Whoever knows that frames have just been lost need not wait for the timer: see [`Stream::resume`].

use super::frame::{Frame, HEADER, Header, Kind, Mac, SHORTEST, flags};

/// Who speaks with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// This side.
    pub own: Mac,
    /// The other.
    pub peer: Mac,
    /// Which stream between the two it is.
    pub session: u32,
}

/// How long to wait for an acknowledgement, in ticks of the caller's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The first time.
    pub first: u64,
    /// At most, after doubling.
    pub most: u64,
}

/// What has happened, for who wants to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes sent again.
    pub again: u64,
    /// Times that the timer expired.
    pub timeouts: u64,
    /// Bytes that arrived when they had arrived before.
    pub repeated: u64,
    /// Frames behind a gap.
    pub gaps: u64,
    /// Acknowledgements of what was never sent.
    pub nonsense: u64,
}

/// One side of a stream. `B` is memory for the bytes on their way: as much as is to be on the wire at a time.
#[derive(Debug)]
pub struct Stream<B> {
    ends: Ends,
    patience: Patience,
    counts: Counts,
    out: Outgoing<B>,
    inc: Incoming<B>,
    /// An acknowledgement is due.
    owed: bool,
    /// The next frame asks the other side to answer.
    ask: bool,
    /// When to stop waiting for an acknowledgement, and how long it was waited.
    timer: Option<u64>,
    wait: u64,
}

/// Bytes on their way out.
#[derive(Debug)]
struct Outgoing<B> {
    bytes: B,
    /// How many were written, and whether there will be more.
    written: u64,
    ended: bool,
    /// Acknowledged; sent for now (going back lowers it); sent ever. The end counts as a byte.
    acknowledged: u64,
    sent: u64,
    furthest: u64,
    /// Up to where the other side has room.
    room: u64,
    /// Where the last gap was that made this side go back.
    gap: Option<u64>,
}

/// Bytes that have come in.
#[derive(Debug)]
struct Incoming<B> {
    bytes: B,
    /// How many the program has read.
    read: u64,
    /// How many have arrived without a gap; the end counts as a byte.
    arrived: u64,
    ended: bool,
    /// How many it had read when the other side was last told of the window.
    told: u64,
    /// The last frame was behind a gap.
    gap: bool,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Stream<B> {
    /// A stream that has carried nothing yet.
    pub fn new(ends: Ends, patience: Patience, out: B, inc: B) -> Stream<B> {
        Stream {
            ends,
            patience,
            counts: Counts::default(),
            out: Outgoing {
                bytes: out,
                written: 0,
                ended: false,
                acknowledged: 0,
                sent: 0,
                furthest: 0,
                room: 0,
                gap: None,
            },
            inc: Incoming { bytes: inc, read: 0, arrived: 0, ended: false, told: 0, gap: false },
            owed: false,
            // What the other side has room for must be heard first.
            ask: true,
            timer: None,
            wait: patience.first,
        }
    }

    /// Who speaks with whom.
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many bytes [`Self::write`] has room for.
    pub fn room(&self) -> usize {
        self.out.room_left()
    }

    /// Takes bytes to send, as many as there is room for.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        self.out.write(bytes)
    }

    /// There is nothing more to send.
    pub fn end(&mut self) {
        self.out.ended = true;
    }

    /// The other side has everything, the end as well.
    pub fn is_delivered(&self) -> bool {
        self.out.ended && self.out.acknowledged == self.out.last()
    }

    /// Gives out bytes that have arrived.
    pub fn read(&mut self, to: &mut [u8]) -> usize {
        let count = self.inc.read(to);
        // The other side may have stopped because of the window: it hears when that has opened by a good part.
        self.owed |= self.inc.read - self.inc.told >= self.inc.bytes.as_ref().len() as u64 / 2;
        count
    }

    /// Everything that the other side has sent was read.
    pub fn is_at_end(&self) -> bool {
        self.inc.ended && self.inc.read == self.inc.bytes_arrived()
    }

    /// Takes a frame. False: it is none of this stream.
    pub fn receive(&mut self, now: u64, frame: &Frame) -> bool {
        let header = &frame.header;
        if header.kind != Kind::Stream || header.session != self.ends.session || header.from != self.ends.peer
        {
            return false;
        }
        self.acknowledge(now, header);
        let ends = header.flags & flags::END != 0;
        if !frame.payload.is_empty() || ends {
            self.inc.take(header.number, frame.payload, ends, &mut self.counts);
            self.owed = true;
        }
        if header.flags & flags::ASK != 0 {
            self.owed = true;
            self.out.go_back();
        }
        true
    }

    /// Writes the next frame that is to be sent, of at most `room`: how long it is. None: there is nothing to send
    /// now.
    pub fn poll(&mut self, now: u64, room: &mut [u8]) -> Option<usize> {
        if room.len() < SHORTEST {
            return None;
        }
        self.look_at_timer(now);
        let from = self.out.sent;
        let length = self.out.next_length(room.len() - HEADER);
        let last = self.out.ended && from + length as u64 == self.out.written && from < self.out.last();
        if length == 0 && !last && !self.owed && !self.ask {
            return None;
        }
        self.out.copy(from, &mut room[HEADER..HEADER + length]);
        let frame = self.header(from, last).seal(room, length)?;
        self.sent(now, length as u64 + u64::from(last));
        Some(frame)
    }

    /// When to call [`Self::poll`] at the latest, if nothing else happens.
    pub fn deadline(&self) -> Option<u64> {
        self.timer
    }

    /// Frames may just have been lost, both ways: sends again what was not acknowledged, and asks the other side to
    /// do likewise, at the next [`Self::poll`].
    pub fn resume(&mut self) {
        self.out.go_back();
        self.out.gap = None;
        self.ask = true;
        self.timer = None;
        self.wait = self.patience.first;
    }

    fn header(&self, number: u64, last: bool) -> Header {
        let mut set = 0;
        for (flag, on) in [(flags::END, last), (flags::ASK, self.ask), (flags::GAP, self.inc.gap)] {
            set |= if on { flag } else { 0 };
        }
        Header {
            to: self.ends.peer,
            from: self.ends.own,
            kind: Kind::Stream,
            flags: set,
            session: self.ends.session,
            number,
            acknowledged: self.inc.arrived,
            window: u32::try_from(self.inc.room()).unwrap_or(u32::MAX),
        }
    }

    /// A frame has gone out that carries `count` bytes, and what this side owed.
    fn sent(&mut self, now: u64, count: u64) {
        let out = &mut self.out;
        self.counts.again += out.furthest.min(out.sent + count) - out.sent;
        out.sent += count;
        out.furthest = out.furthest.max(out.sent);
        self.inc.told = self.inc.read;
        self.inc.gap = false;
        self.owed = false;
        self.ask = false;
        if self.out.acknowledged < self.out.last() && self.timer.is_none() {
            self.timer = Some(now.saturating_add(self.wait));
        }
    }

    /// What the other side says of this side's bytes.
    fn acknowledge(&mut self, now: u64, header: &Header) {
        let out = &mut self.out;
        if header.acknowledged > out.furthest {
            self.counts.nonsense += 1;
            return;
        }
        if header.acknowledged < out.acknowledged {
            return;
        }
        out.room = out.room.max(header.acknowledged.saturating_add(u64::from(header.window)));
        if header.acknowledged > out.acknowledged {
            out.acknowledged = header.acknowledged;
            out.sent = out.sent.max(out.acknowledged);
            self.wait = self.patience.first;
            self.timer = (out.acknowledged < out.last()).then(|| now.saturating_add(self.wait));
        }
        if header.flags & flags::GAP != 0 && out.gap != Some(out.acknowledged) {
            out.gap = Some(out.acknowledged);
            out.go_back();
        }
    }

    fn look_at_timer(&mut self, now: u64) {
        // Bytes that the window does not let go wait, too: for news of the window, which may have been lost.
        if self.timer.is_none() && self.out.acknowledged < self.out.last() {
            self.timer = Some(now.saturating_add(self.wait));
        }
        if self.timer.is_none_or(|timer| now < timer) {
            return;
        }
        self.counts.timeouts += 1;
        self.ask |= self.out.sent == self.out.acknowledged;
        self.out.go_back();
        self.wait = self.wait.saturating_mul(2).min(self.patience.most);
        self.timer = Some(now.saturating_add(self.wait));
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Outgoing<B> {
    /// The number behind everything that there is to send so far.
    fn last(&self) -> u64 {
        self.written + u64::from(self.ended)
    }

    fn room_left(&self) -> usize {
        let on_their_way = self.written - self.acknowledged.min(self.written);
        if self.ended { 0 } else { self.bytes.as_ref().len() - on_their_way as usize }
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room_left());
        let memory = self.bytes.as_mut();
        if count == 0 {
            return 0;
        }
        let first = (self.written % memory.len() as u64) as usize;
        let before_wrap = count.min(memory.len() - first);
        memory[first..first + before_wrap].copy_from_slice(&bytes[..before_wrap]);
        memory[..count - before_wrap].copy_from_slice(&bytes[before_wrap..count]);
        self.written += count as u64;
        count
    }

    /// Copies bytes that were written, from number `from` on.
    fn copy(&self, from: u64, to: &mut [u8]) {
        let memory = self.bytes.as_ref();
        if to.is_empty() {
            return;
        }
        let first = (from % memory.len() as u64) as usize;
        let before_wrap = to.len().min(memory.len() - first);
        let (now, later) = to.split_at_mut(before_wrap);
        now.copy_from_slice(&memory[first..first + before_wrap]);
        later.copy_from_slice(&memory[..later.len()]);
    }

    /// Bytes that can go in the next frame, which has room for `most`.
    fn next_length(&self, most: usize) -> usize {
        let most = most.min(usize::from(u16::MAX));
        let up_to = self.written.min(self.room);
        up_to.saturating_sub(self.sent).min(most as u64) as usize
    }

    fn go_back(&mut self) {
        self.sent = self.acknowledged;
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Incoming<B> {
    /// Bytes that have arrived: the end is none.
    fn bytes_arrived(&self) -> u64 {
        self.arrived - u64::from(self.ended)
    }

    fn room(&self) -> u64 {
        self.bytes.as_ref().len() as u64 - (self.bytes_arrived() - self.read)
    }

    fn take(&mut self, number: u64, payload: &[u8], ends: bool, counts: &mut Counts) {
        if self.ended {
            counts.repeated += payload.len() as u64;
            return;
        }
        let Some(known) = self.arrived.checked_sub(number) else {
            counts.gaps += 1;
            self.gap = true;
            return;
        };
        let known = known.min(payload.len() as u64) as usize;
        counts.repeated += known as u64;
        let fresh = &payload[known..];
        self.put(&fresh[..fresh.len().min(self.room() as usize)]);
        // An end that lies behind what there was room for comes again with it.
        if ends && number + payload.len() as u64 == self.arrived {
            self.ended = true;
            self.arrived += 1;
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        let memory = self.bytes.as_mut();
        if bytes.is_empty() {
            return;
        }
        let first = (self.arrived % memory.len() as u64) as usize;
        let before_wrap = bytes.len().min(memory.len() - first);
        memory[first..first + before_wrap].copy_from_slice(&bytes[..before_wrap]);
        memory[..bytes.len() - before_wrap].copy_from_slice(&bytes[before_wrap..]);
        self.arrived += bytes.len() as u64;
    }

    fn read(&mut self, to: &mut [u8]) -> usize {
        let memory = self.bytes.as_ref();
        let count = to.len().min((self.bytes_arrived() - self.read) as usize);
        if count == 0 {
            return 0;
        }
        let first = (self.read % memory.len() as u64) as usize;
        let before_wrap = count.min(memory.len() - first);
        to[..before_wrap].copy_from_slice(&memory[first..first + before_wrap]);
        to[before_wrap..count].copy_from_slice(&memory[..count - before_wrap]);
        self.read += count as u64;
        count
    }
}

#[cfg(test)]
mod tests;
