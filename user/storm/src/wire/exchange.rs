//! The guest's side.

use alloc::vec;
use alloc::vec::Vec;

use net::wire::echo::{Asker, REMEMBERED, Verdict};
use net::wire::frame::{Frame, HEADER, Kind, Mac};
use net::wire::stream::{Counts, Ends, Patience, Stream};

use super::{Account, PAYLOAD, PEER, WINDOW, byte, wrong};
use crate::tally::Tally;
use crate::times::Times;

/// Bytes of an echo's payload.
const ECHO: usize = 1000;

/// How much is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Bytes of the stream, each way.
    pub bytes: u64,
    /// Frames that are to come back.
    pub echoes: u64,
    /// How many of them are under way at a time.
    pub under_way: u64,
}

/// An exchange. Its clock is the caller's; `second` is so many of its ticks.
#[derive(Debug)]
pub struct Exchange {
    amount: Amount,
    asker: Asker,
    stream: Stream<Vec<u8>>,
    /// When each echo of the last [`REMEMBERED`] was asked for.
    asked_at: Vec<u64>,
    /// Echoes that are not waited for any more.
    given_up: u64,
    /// When the oldest echo under way is given up, unless one comes before.
    patience: u64,
    echo_deadline: Option<u64>,
    round_trips: Times,
    /// Bytes of the stream that were written and that came back.
    written: u64,
    came_back: u64,
    account: Vec<u8>,
    tally: Tally,
}

impl Exchange {
    /// An exchange of a station with the peer, in a session whose number is above all before it.
    pub fn new(own: Mac, session: u32, amount: Amount, second: u64) -> Exchange {
        let ends = Ends { own, peer: PEER, session };
        let patience = Patience { first: second / 50, most: second };
        Exchange {
            amount,
            asker: Asker::new(PEER, own, session),
            stream: Stream::new(ends, patience, vec![0; WINDOW], vec![0; WINDOW]),
            asked_at: vec![0; REMEMBERED as usize],
            given_up: 0,
            patience: second / 5,
            echo_deadline: None,
            round_trips: Times::default(),
            written: 0,
            came_back: 0,
            account: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// All is said on both sides.
    pub fn is_done(&self) -> bool {
        self.asker.sent() == self.amount.echoes
            && self.echoes_under_way() == 0
            && self.stream.is_delivered()
            && self.stream.is_at_end()
    }

    /// What was found so far; of a whole exchange when it [is done](Self::is_done).
    pub fn tally(&self) -> Tally {
        let mut tally = self.tally;
        tally.bytes = self.written + self.came_back;
        tally.requests = self.asker.answers();
        if self.is_done() {
            self.judge(&mut tally);
        }
        tally
    }

    /// Frames that did not come back.
    pub fn lost_frames(&self) -> u64 {
        self.given_up
    }

    /// How long echoes took.
    pub fn round_trips(&self) -> &Times {
        &self.round_trips
    }

    /// What has happened to the stream.
    pub fn counts(&self) -> Counts {
        self.stream.counts()
    }

    /// Puts the next frame to be sent into `room`: how long it is. None: something has to come first.
    pub fn poll(&mut self, now: u64, room: &mut [u8]) -> Option<usize> {
        self.give_up_echoes(now);
        self.write();
        let whole = room.get_mut(..HEADER + PAYLOAD)?;
        if self.asker.sent() < self.amount.echoes && self.echoes_under_way() < self.amount.under_way {
            self.asked_at[(self.asker.sent() % REMEMBERED) as usize] = now;
            self.echo_deadline.get_or_insert(now.saturating_add(self.patience));
            return self.asker.ask(whole, ECHO);
        }
        self.stream.poll(now, whole)
    }

    /// When to call [`Self::poll`] at the latest, if nothing else happens.
    pub fn deadline(&self) -> Option<u64> {
        let echo = self.echo_deadline.filter(|_| self.echoes_under_way() > 0);
        [echo, self.stream.deadline()].into_iter().flatten().min()
    }

    /// Takes a frame from the wire.
    pub fn receive(&mut self, now: u64, bytes: &[u8]) {
        let Ok(frame) = Frame::parse(bytes) else { return };
        if frame.header.kind == Kind::Stream {
            self.stream.receive(now, &frame);
            self.read();
            return;
        }
        match self.asker.receive(&frame) {
            Some(Verdict::First) => {
                let asked_at = self.asked_at[(frame.header.number % REMEMBERED) as usize];
                self.round_trips.add(now.saturating_sub(asked_at));
                self.echo_deadline = Some(now.saturating_add(self.patience));
            }
            // A frame that was under way when its driver died may go out twice, and its echo come twice.
            Some(Verdict::Again) | None => {}
            Some(Verdict::Wrong(_) | Verdict::Unknown) => self.tally.wrong_bytes += 1,
        }
    }

    /// The driver has died and is there again: frames may have been lost, both ways.
    pub fn resume(&mut self) {
        self.stream.resume();
        self.given_up += self.echoes_under_way();
    }

    fn echoes_under_way(&self) -> u64 {
        // One that was given up may come all the same.
        self.asker.sent().saturating_sub(self.asker.answers() + self.given_up)
    }

    fn give_up_echoes(&mut self, now: u64) {
        if self.echoes_under_way() == 0 {
            self.echo_deadline = None;
        } else if self.echo_deadline.is_some_and(|deadline| now >= deadline) {
            self.given_up += self.echoes_under_way();
            self.echo_deadline = None;
        }
    }

    fn write(&mut self) {
        let session = self.stream.ends().session;
        let mut piece = [0; 2048];
        while self.written < self.amount.bytes {
            let count = (self.amount.bytes - self.written).min(self.stream.room().min(piece.len()) as u64);
            let piece = &mut piece[..count as usize];
            for (place, to) in (self.written..).zip(piece.iter_mut()) {
                *to = byte(session, place);
            }
            let taken = self.stream.write(piece);
            self.written += taken as u64;
            if taken == 0 {
                return;
            }
        }
        self.stream.end();
    }

    fn read(&mut self) {
        let mut piece = [0; 2048];
        loop {
            let count = self.stream.read(&mut piece);
            if count == 0 {
                return;
            }
            let left = (self.amount.bytes - self.came_back).min(count as u64);
            let (data, account) = piece[..count].split_at(left as usize);
            self.tally.wrong_bytes += wrong(self.stream.ends().session, self.came_back, data);
            self.came_back += left;
            self.account.extend_from_slice(account);
        }
    }

    /// What both sides say in the end.
    fn judge(&self, tally: &mut Tally) {
        tally.lost_bytes += self.amount.bytes - self.came_back;
        match self.account.first_chunk().filter(|_| self.account.len() == Account::BYTES) {
            Some(account) => {
                let account = Account::from_bytes(account);
                tally.wrong_bytes += account.wrong;
                tally.lost_bytes += self.amount.bytes.saturating_sub(account.arrived);
                tally.duplicated += account.arrived.saturating_sub(self.amount.bytes);
            }
            None => tally.errors += 1,
        }
    }
}
