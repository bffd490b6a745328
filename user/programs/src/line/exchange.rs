//! A stream that outlives the driver's deaths: frames on the line (`net::wire::line`), and what is lost sent again.

use alloc::string::String;
use alloc::vec::Vec;

use net::wire::frame::Mac;
use net::wire::line::{self, LineReader};
use proto::life::Injection;
use rt::{clock, control, env};
use storm::wire::{Amount, Exchange};

use crate::Line;

/// How long all of it may take, in seconds.
const PATIENCE: u64 = 60;
/// This side's address.
const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// Frames that are to come back, besides the stream.
const ECHOES: u64 = 4;
/// Bytes of a frame, at most.
const LONGEST: usize = 1514;

/// The line as a wire.
struct Wire {
    line: Line,
    reader: LineReader<[u8; LONGEST + 16]>,
    /// What is left of the frame that goes out.
    outgoing: Vec<u8>,
}

/// Passes so many bytes each way, with so many deaths of the driver.
pub fn exchange(line: Line, bytes: u64, deaths: u64) -> Result<(), String> {
    let place = line.peer.world.end.peer as u64;
    let mut wire = Wire { line, reader: LineReader::new([0; LONGEST + 16]), outgoing: Vec::new() };
    let amount = Amount { bytes, echoes: ECHOES, under_way: 1 };
    // Above the sessions of all runs before.
    let session = (clock::to_microseconds(clock::now()) >> 9) as u32;
    let mut exchange = Exchange::new(OWN, session, amount, env::tsc_hz());
    let give_up = clock::now() + PATIENCE * env::tsc_hz();
    let (mut first_life, mut died, mut ordered) = (None, 0, 0);
    // The last death may come after the last byte: it is waited for.
    while !exchange.is_done() || died < ordered {
        if exchange.is_done() {
            wire.keep_busy();
        }
        let idle = wire.carry(&mut exchange);
        if wire.line.peer.client.is_together() {
            let life = u64::from(wire.line.peer.world.end.peer_life());
            died = life - *first_life.get_or_insert(life);
        }
        // One after the other: each of them is to be noticed.
        if died == ordered && ordered < due(&exchange, bytes, deaths) {
            let kind = Injection::ALL[ordered as usize % Injection::ALL.len()];
            control::inject(place, kind, 0, false).map_err(|error| alloc::format!("{error}"))?;
            ordered += 1;
        }
        if clock::now() > give_up {
            return Err(alloc::format!("it is not done after {PATIENCE} s: {:?}", exchange.tally()));
        }
        if idle {
            let deadline = exchange.deadline().unwrap_or(give_up).min(give_up);
            works::wait(deadline).map_err(|error| alloc::format!("{error}"))?;
        }
    }
    let tally = exchange.tally();
    rt::println!("{} bytes came and went, {died} deaths", tally.bytes);
    if tally.is_clean() { Ok(()) } else { Err(alloc::format!("{tally:?}")) }
}

/// How many deaths there should have been by now: they are spread over what comes back.
fn due(exchange: &Exchange, bytes: u64, deaths: u64) -> u64 {
    let came_back = exchange.tally().bytes.saturating_sub(bytes);
    (came_back * (deaths + 1) / bytes.max(1)).min(deaths)
}

impl Wire {
    /// Takes the exchange on as far as it goes without waiting. True: there is nothing to do before the bell rings or the
    /// exchange's deadline comes.
    fn carry(&mut self, exchange: &mut Exchange) -> bool {
        if self.line.meet() {
            // Half a frame on the line spoils no other, and what was lost is sent again at once.
            self.outgoing.clear();
            exchange.resume();
        }
        let received = self.receive(exchange);
        let full = self.send(exchange);
        self.line.flush(full) && !received
    }

    /// Puts a byte on the line that belongs to no frame, so that a driver that corrupts its rings is found out.
    fn keep_busy(&mut self) {
        if self.outgoing.is_empty() {
            self.outgoing.push(0);
        }
    }

    /// Whether anything was received.
    fn receive(&mut self, exchange: &mut Exchange) -> bool {
        let mut place = [0; 256];
        let mut any = false;
        loop {
            let count = self.line.read(&mut place);
            if count == 0 {
                return any;
            }
            any = true;
            for byte in &place[..count] {
                if let Some(frame) = self.reader.push(*byte) {
                    exchange.receive(clock::now(), frame);
                }
            }
        }
    }

    /// Whether there is more to send than there is room for.
    fn send(&mut self, exchange: &mut Exchange) -> bool {
        loop {
            if self.outgoing.is_empty() && !self.next_frame(exchange) {
                return false;
            }
            let written = self.line.write(&self.outgoing);
            self.outgoing.drain(..written);
            if !self.outgoing.is_empty() {
                return true;
            }
        }
    }

    /// Whether there is a frame to send now.
    fn next_frame(&mut self, exchange: &mut Exchange) -> bool {
        let (mut frame, mut bytes) = ([0; LONGEST], [0; line::most_bytes(LONGEST)]);
        let length = exchange.poll(clock::now(), &mut frame);
        let Some(length) = length.and_then(|length| line::write(&frame[..length], &mut bytes)) else {
            return false;
        };
        self.outgoing.extend_from_slice(&bytes[..length]);
        true
    }
}
