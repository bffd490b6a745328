//! A stream over a line: what both ends of a port need to lose and double nothing, whatever becomes of the drivers
//! in between. [`super::stream`]'s frames, put on the line as [`super::line`] does.

use core::ops::Range;

use super::frame::{Frame, HEADER, Mac};
use super::line::{LineReader, most_bytes, write};
use super::stream::{Ends, Patience, Stream};

/// Bytes of the stream that one frame carries, at most.
pub const PAYLOAD: usize = 2048;
/// Bytes of a frame, and on the line.
const FRAME: usize = HEADER + PAYLOAD;
const ON_LINE: usize = most_bytes(FRAME);

/// Which end of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The guest's.
    Guest,
    /// The host's.
    Host,
}

impl Side {
    const fn ends(self) -> Ends {
        const GUEST: Mac = Mac([2, 0, 0, 0, 0, 1]);
        const HOST: Mac = Mac([2, 0, 0, 0, 0, 2]);
        // A line has one stream each way, as long as it lasts.
        match self {
            Side::Guest => Ends { own: GUEST, peer: HOST, session: 0 },
            Side::Host => Ends { own: HOST, peer: GUEST, session: 0 },
        }
    }
}

/// One end. `B` is memory for the stream's bytes on their way, each way.
#[derive(Debug)]
pub struct Link<B> {
    stream: Stream<B>,
    reader: LineReader<[u8; ON_LINE]>,
    /// The frame that is being put on the line, and what of it is not there yet.
    frame: [u8; ON_LINE],
    rest: Range<usize>,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Link<B> {
    /// An end that has carried nothing yet.
    pub fn new(side: Side, patience: Patience, out: B, inc: B) -> Link<B> {
        Link {
            stream: Stream::new(side.ends(), patience, out, inc),
            reader: LineReader::new([0; ON_LINE]),
            frame: [0; ON_LINE],
            rest: 0..0,
        }
    }

    /// The stream: to write to and to read from.
    pub fn stream(&mut self) -> &mut Stream<B> {
        &mut self.stream
    }

    /// When to call [`Self::to_send`] at the latest, if nothing else happens. None as well while the line has not taken
    /// everything: it is waited for then.
    pub fn deadline(&self) -> Option<u64> {
        if self.rest.is_empty() { self.stream.deadline() } else { None }
    }

    /// Takes bytes that have come over the line. What is no frame of this stream is left away.
    pub fn arrived(&mut self, now: u64, bytes: &[u8]) {
        for byte in bytes {
            if let Some(Ok(frame)) = self.reader.push(*byte).map(Frame::parse) {
                self.stream.receive(now, &frame);
            }
        }
    }

    /// What is to be put on the line next; nothing if it is empty. [`Self::sent`] says how much of it was.
    pub fn to_send(&mut self, now: u64) -> &[u8] {
        if self.rest.is_empty() {
            let mut frame = [0; FRAME];
            let length = self.stream.poll(now, &mut frame).and_then(|length| {
                // There is room for the longest.
                write(&frame[..length], &mut self.frame)
            });
            self.rest = 0..length.unwrap_or(0);
        }
        &self.frame[self.rest.clone()]
    }

    /// So many bytes of [`Self::to_send`] are on the line.
    pub fn sent(&mut self, count: usize) {
        self.rest.start = self.rest.end.min(self.rest.start + count);
    }

    /// The line is another one, or has forgotten what was put on it: half a frame is not gone on with, and what was not
    /// acknowledged is sent again.
    pub fn resume(&mut self) {
        self.rest = 0..0;
        self.stream.resume();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Patience = Patience { first: 50, most: 400 };

    fn link(side: Side) -> Link<Vec<u8>> {
        Link::new(side, PATIENCE, vec![0; 5000], vec![0; 5000])
    }

    /// Puts on a line what there is to send, `piece` bytes at a time, and lets the other end have it.
    fn carry(
        from: &mut Link<Vec<u8>>,
        to: &mut Link<Vec<u8>>,
        piece: usize,
        line: &mut impl FnMut(u8) -> Vec<u8>,
    ) {
        loop {
            let bytes = from.to_send(0);
            let bytes = bytes[..bytes.len().min(piece)].to_vec();
            if bytes.is_empty() {
                return;
            }
            from.sent(bytes.len());
            let arrived: Vec<u8> = bytes.into_iter().flat_map(&mut *line).collect();
            to.arrived(0, &arrived);
        }
    }

    fn read(link: &mut Link<Vec<u8>>) -> Vec<u8> {
        let mut place = vec![0; 5000];
        let count = link.stream().read(&mut place);
        place.truncate(count);
        place
    }

    #[test]
    fn a_line_that_keeps_everything_carries_it_once() {
        let [mut guest, mut host] = [link(Side::Guest), link(Side::Host)];
        let text: Vec<u8> = (0..4000u32).map(|at| (at / 7) as u8).collect();
        assert_eq!(guest.stream().write(&text), text.len());
        let mut clean = |byte| vec![byte];
        for _ in 0..3 {
            carry(&mut guest, &mut host, 100, &mut clean);
            carry(&mut host, &mut guest, 3000, &mut clean);
        }
        assert_eq!(read(&mut host), text);
        assert_eq!(guest.stream().counts().again, 0);
    }

    proptest! {
        /// Both ends know when the line breaks: what was on it is lost from some byte on, or comes twice.
        #[test]
        fn a_line_that_breaks_again_and_again_loses_and_doubles_nothing(
            breaks in proptest::collection::vec((0usize..6000, 1usize..700, any::<bool>()), 0..30),
            length in 0usize..5000,
        ) {
            let [mut guest, mut host] = [link(Side::Guest), link(Side::Host)];
            let text: Vec<u8> = (0..length as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 20) as u8).collect();
            prop_assert_eq!(guest.stream().write(&text), length);
            prop_assert_eq!(host.stream().write(&text), length);
            let (mut at_guest, mut at_host) = (Vec::new(), Vec::new());
            for (keeps, piece, doubles) in breaks {
                let mut left = keeps;
                let mut line = |byte| {
                    left = left.saturating_sub(1);
                    if left == 0 { Vec::new() } else { vec![byte; 1 + usize::from(doubles && left % 50 == 0)] }
                };
                carry(&mut guest, &mut host, piece, &mut line);
                carry(&mut host, &mut guest, piece, &mut line);
                at_host.extend(read(&mut host));
                at_guest.extend(read(&mut guest));
                guest.resume();
            }
            for _ in 0..4 {
                carry(&mut guest, &mut host, 100, &mut |byte| vec![byte]);
                carry(&mut host, &mut guest, 100, &mut |byte| vec![byte]);
                at_host.extend(read(&mut host));
                at_guest.extend(read(&mut guest));
            }
            prop_assert!(at_host == text && at_guest == text);
        }
    }
}
