//! Numbered echoes: what is sent, how it is answered, and what has become of each number.

use super::frame::{Frame, HEADER, Header, Kind, Mac};

/// How many numbers back an echo is still known.
pub const REMEMBERED: u64 = 1024;

const WORDS: usize = REMEMBERED as usize / 64;

/// What an echo that has come is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The first with its number.
    First,
    /// It had come before.
    Again,
    /// Its payload is not what was sent: the first wrong byte's place.
    Wrong(usize),
    /// Nothing was sent with that number, or longer ago than [`REMEMBERED`] numbers.
    Unknown,
}

/// Who asks for echoes: counts them.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Who is asked.
    pub to: Mac,
    /// Who asks.
    pub from: Mac,
    /// Which exchange it is: the echoes of others are not looked at.
    pub session: u32,
    sent: u64,
    /// One bit for each of the latest numbers: it has been answered.
    answered: [u64; WORDS],
    /// Numbers that were answered.
    answers: u64,
}

impl Asker {
    /// Who has asked for nothing yet.
    pub fn new(to: Mac, from: Mac, session: u32) -> Asker {
        Asker { to, from, session, sent: 0, answered: [0; WORDS], answers: 0 }
    }

    /// How many were asked for.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of them have come, each counted once.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// Writes the next request, with `length` bytes of payload: how long the frame is. None: there is not room
    /// enough.
    pub fn ask(&mut self, room: &mut [u8], length: usize) -> Option<usize> {
        let number = self.sent;
        fill(self.session, number, room.get_mut(HEADER..HEADER + length)?);
        let header = Header {
            to: self.to,
            from: self.from,
            kind: Kind::Request,
            flags: 0,
            session: self.session,
            number,
            acknowledged: 0,
            window: 0,
        };
        let frame = header.seal(room, length)?;
        self.sent += 1;
        let (word, bit) = place(number);
        self.answered[word] &= !bit;
        Some(frame)
    }

    /// Takes a frame; None if it is no echo of this exchange.
    pub fn receive(&mut self, frame: &Frame) -> Option<Verdict> {
        let header = &frame.header;
        if header.kind != Kind::Reply || header.session != self.session {
            return None;
        }
        if header.number >= self.sent || self.sent - header.number > REMEMBERED {
            return Some(Verdict::Unknown);
        }
        if let Some(wrong) = wrong_byte(self.session, header.number, frame.payload) {
            return Some(Verdict::Wrong(wrong));
        }
        let (word, bit) = place(header.number);
        if self.answered[word] & bit != 0 {
            return Some(Verdict::Again);
        }
        self.answered[word] |= bit;
        self.answers += 1;
        Some(Verdict::First)
    }
}

/// Answers a request: writes the echo to `room`, and says how long it is. None if the frame is not a request, or there
/// is not room enough.
pub fn answer(request: &Frame, own: Mac, room: &mut [u8]) -> Option<usize> {
    if request.header.kind != Kind::Request {
        return None;
    }
    room.get_mut(HEADER..HEADER + request.payload.len())?.copy_from_slice(request.payload);
    let header = Header { to: request.header.from, from: own, kind: Kind::Reply, ..request.header };
    header.seal(room, request.payload.len())
}

fn place(number: u64) -> (usize, u64) {
    let at = number % REMEMBERED;
    ((at / 64) as usize, 1 << (at % 64))
}

/// Fills in the payload of an echo: each differs from every other.
fn fill(session: u32, number: u64, payload: &mut [u8]) {
    for (at, bytes) in payload.chunks_mut(8).enumerate() {
        bytes.copy_from_slice(&word(session, number, at)[..bytes.len()]);
    }
}

/// The place of the first byte that is not as [`fill`] has it.
fn wrong_byte(session: u32, number: u64, payload: &[u8]) -> Option<usize> {
    payload.chunks(8).enumerate().find_map(|(at, bytes)| {
        let expected = word(session, number, at);
        bytes.iter().zip(expected).position(|(byte, expected)| *byte != expected).map(|byte| at * 8 + byte)
    })
}

/// Eight bytes that look like chance (the finisher of SplitMix64; Steele, Lea, Flood 2014).
fn word(session: u32, number: u64, at: usize) -> [u8; 8] {
    let seed = (u64::from(session) << 32) ^ number.rotate_left(16) ^ at as u64;
    let mut word = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word ^ (word >> 31)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THERE: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn asked(asker: &mut Asker) -> Vec<u8> {
        let mut room = [0; 1600];
        let length = asker.ask(&mut room, 1000).expect("there is room");
        room[..length].to_vec()
    }

    fn answered(request: &[u8]) -> Vec<u8> {
        let mut room = [0; 1600];
        let request = Frame::parse(request).expect("it was just written");
        let length = answer(&request, THERE, &mut room).expect("it is a request");
        room[..length].to_vec()
    }

    fn verdict(asker: &mut Asker, frame: &[u8]) -> Option<Verdict> {
        asker.receive(&Frame::parse(frame).expect("it was just written"))
    }

    #[test]
    fn an_echo_counts_once() {
        let mut asker = Asker::new(THERE, HERE, 7);
        let request = asked(&mut asker);
        let reply = answered(&request);
        assert_eq!(Frame::parse(&reply).map(|frame| (frame.header.to, frame.header.from)), Ok((HERE, THERE)));
        assert_eq!(verdict(&mut asker, &request), None);
        assert_eq!(verdict(&mut asker, &reply), Some(Verdict::First));
        assert_eq!(verdict(&mut asker, &reply), Some(Verdict::Again));
        assert_eq!((asker.sent(), asker.answers()), (1, 1));
    }

    #[test]
    fn a_number_never_sent_or_long_forgotten_is_unknown() {
        let mut asker = Asker::new(THERE, HERE, 7);
        let first = answered(&asked(&mut asker));
        let mut ahead = asker.clone();
        let second = answered(&asked(&mut ahead));
        assert_eq!(verdict(&mut asker, &second), Some(Verdict::Unknown));
        for _ in 1..REMEMBERED {
            asked(&mut asker);
        }
        assert_eq!(verdict(&mut asker.clone(), &first), Some(Verdict::First));
        asked(&mut asker);
        assert_eq!(verdict(&mut asker, &first), Some(Verdict::Unknown));
    }

    #[test]
    fn the_echo_of_another_payload_is_wrong() {
        let mut asker = Asker::new(THERE, HERE, 7);
        let request = asked(&mut asker);
        let mut forged = answered(&request);
        let header = Frame::parse(&forged).expect("it was just written").header;
        forged[HEADER + 500] ^= 1;
        header.seal(&mut forged, 1000).expect("there is room");
        assert_eq!(verdict(&mut asker, &forged), Some(Verdict::Wrong(500)));
    }

    #[test]
    fn another_exchange_is_not_looked_at() {
        let mut asker = Asker::new(THERE, HERE, 7);
        let mut other = Asker::new(THERE, HERE, 8);
        asked(&mut asker);
        assert_eq!(verdict(&mut asker, &answered(&asked(&mut other))), None);
    }
}
