//! The station on the other end of the wire: it answers echoes and sends streams back.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use net::wire::echo;
use net::wire::frame::{Frame, HEADER, Kind, Mac};
use net::wire::stream::{Ends, Patience, Stream};

use super::{Account, PAYLOAD, PEER, WINDOW, wrong};

/// Microseconds: the guest asks for what it misses, so the timer is for what it cannot know.
const PATIENCE: Patience = Patience { first: 50_000, most: 1_000_000 };
/// Frames that wait to be sent, at most: beyond that they are lost, as in any switch.
const MOST_WAITING: usize = 1024;

/// The station. Its clock counts microseconds.
#[derive(Debug, Default)]
pub struct Peer {
    replies: VecDeque<Vec<u8>>,
    mirror: Option<Mirror>,
}

impl Peer {
    /// Takes a frame from the wire.
    pub fn receive(&mut self, now: u64, bytes: &[u8]) {
        let Ok(frame) = Frame::parse(bytes) else { return };
        match frame.header.kind {
            Kind::Request => self.answer(&frame, bytes.len()),
            Kind::Stream => self.stream(now, &frame),
            Kind::Reply => {}
        }
    }

    /// Puts the next frame to be sent into `room`: how long it is.
    pub fn poll(&mut self, now: u64, room: &mut [u8]) -> Option<usize> {
        if let Some(reply) = self.replies.pop_front() {
            room.get_mut(..reply.len())?.copy_from_slice(&reply);
            return Some(reply.len());
        }
        let room = room.get_mut(..HEADER + PAYLOAD)?;
        self.mirror.as_mut()?.stream.poll(now, room)
    }

    /// When to call [`Self::poll`] at the latest, if nothing else happens.
    pub fn deadline(&self) -> Option<u64> {
        self.mirror.as_ref()?.stream.deadline()
    }

    fn answer(&mut self, request: &Frame, length: usize) {
        let mut reply = vec![0; length];
        if let Some(length) = echo::answer(request, PEER, &mut reply)
            && self.replies.len() < MOST_WAITING
        {
            reply.truncate(length);
            self.replies.push_back(reply);
        }
    }

    fn stream(&mut self, now: u64, frame: &Frame) {
        let (session, from) = (frame.header.session, frame.header.from);
        // Sessions count upwards: frames of older ones are late. A session that has not ended belongs to a program that
        // has, which is no fault of the next one.
        let is_newer = self.mirror.as_ref().is_none_or(|mirror| session > mirror.stream.ends().session);
        if is_newer {
            self.mirror = Some(Mirror::new(from, session));
        }
        if let Some(mirror) = &mut self.mirror
            && mirror.stream.receive(now, frame)
        {
            mirror.pass_on();
        }
    }
}

/// One stream, going back.
#[derive(Debug)]
struct Mirror {
    stream: Stream<Vec<u8>>,
    account: Account,
    /// The account, once it is being sent, and how much of it was.
    closing: Option<usize>,
}

impl Mirror {
    fn new(peer: Mac, session: u32) -> Mirror {
        let ends = Ends { own: PEER, peer, session };
        Mirror {
            stream: Stream::new(ends, PATIENCE, vec![0; WINDOW], vec![0; WINDOW]),
            account: Account::default(),
            closing: None,
        }
    }

    /// Sends back what has arrived, as far as there is room, and the account behind the last byte.
    fn pass_on(&mut self) {
        let mut piece = [0; 4096];
        loop {
            let room = self.stream.room().min(piece.len());
            let count = self.stream.read(&mut piece[..room]);
            if count == 0 {
                break;
            }
            self.account.wrong += wrong(self.stream.ends().session, self.account.arrived, &piece[..count]);
            self.account.arrived += count as u64;
            self.stream.write(&piece[..count]);
        }
        if !self.stream.is_at_end() {
            return;
        }
        let sent = self.closing.get_or_insert(0);
        let account = self.account.to_bytes();
        *sent += self.stream.write(&account[*sent..]);
        if *sent == account.len() {
            self.stream.end();
        }
    }
}
