//! The peer: what the guest's network device is connected to, a station on the other end of a wire.
//!
//! What it says is `storm::wire`'s; here is how frames travel: QEMU's `stream` netdev carries each behind its length
//! (4 bytes, big endian).

use std::io::{ErrorKind, Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use storm::wire::Peer;

/// The longest frame that is taken: that of the largest MTU a VirtIO device offers.
const LONGEST: usize = 65_550;
/// Bytes of a length.
const PREFIX: usize = 4;
/// The shortest wait that a socket can be told of.
const MOMENT: Duration = Duration::from_micros(1);

/// Answers frames until the wire is cut.
pub fn attend(wire: UnixStream) {
    let mut attendant = Attendant { wire, peer: Peer::default(), begun: Instant::now(), arrived: Vec::new() };
    // However the wire was cut: the guest is gone.
    while let Ok(true) = attendant.step() {}
}

struct Attendant {
    wire: UnixStream,
    peer: Peer,
    begun: Instant,
    /// Bytes that make no whole frame yet.
    arrived: Vec<u8>,
}

impl Attendant {
    /// Sends what there is to send, and takes what comes next; false when nothing more can come.
    fn step(&mut self) -> Result<bool> {
        self.send()?;
        let patience = self.peer.deadline().map(|at| {
            let wait = Duration::from_micros(at.saturating_sub(self.now()));
            wait.max(MOMENT)
        });
        self.wire.set_read_timeout(patience)?;
        let mut bytes = [0; 1 << 16];
        match self.wire.read(&mut bytes) {
            Ok(0) => return Ok(false),
            Ok(length) => self.arrived.extend_from_slice(&bytes[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        self.take()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn send(&mut self) -> Result<()> {
        let mut room = [0; 2048];
        let mut outgoing = Vec::new();
        while let Some(length) = self.peer.poll(self.now(), &mut room) {
            outgoing.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
            outgoing.extend_from_slice(&room[..length]);
        }
        self.wire.write_all(&outgoing)
    }

    /// Gives the peer every whole frame. False: a length that no frame has.
    fn take(&mut self) -> Result<bool> {
        let now = self.now();
        let mut rest = &self.arrived[..];
        while let Some((prefix, behind)) = rest.split_first_chunk::<PREFIX>() {
            let length = u32::from_be_bytes(*prefix) as usize;
            if length > LONGEST {
                return Ok(false);
            }
            let Some((frame, behind)) = behind.split_at_checked(length) else { break };
            self.peer.receive(now, frame);
            rest = behind;
        }
        let left = rest.len();
        self.arrived.drain(..self.arrived.len() - left);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use storm::wire::{Amount, Exchange, Mac};

    const GUEST: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn an_exchange_comes_to_its_end_over_a_socket() {
        let (mut guest, host) = UnixStream::pair().expect("sockets");
        let peer = thread::spawn(move || attend(host));
        let mut exchange =
            Exchange::new(GUEST, 1, Amount { bytes: 100_000, echoes: 20, under_way: 16 }, 1_000_000);
        let mut room = [0; 2048];
        while !exchange.is_done() {
            if let Some(length) = exchange.poll(0, &mut room) {
                guest.write_all(&(length as u32).to_be_bytes()).expect("sent");
                // In two pieces: a frame need not come at once.
                guest.write_all(&room[..20]).expect("sent");
                guest.write_all(&room[20..length]).expect("sent");
                continue;
            }
            let mut prefix = [0; PREFIX];
            guest.read_exact(&mut prefix).expect("a frame");
            let length = u32::from_be_bytes(prefix) as usize;
            guest.read_exact(&mut room[..length]).expect("a frame");
            exchange.receive(0, &room[..length]);
        }
        assert!(exchange.tally().is_clean() && exchange.tally().requests == 20, "{:?}", exchange.tally());
        drop(guest);
        peer.join().expect("it ends with the wire");
    }

    #[test]
    fn a_length_that_no_frame_has_cuts_the_wire() {
        let (mut guest, host) = UnixStream::pair().expect("sockets");
        guest.write_all(&u32::MAX.to_be_bytes()).expect("sent");
        attend(host);
    }
}
