//! The format of a frame: an Ethernet header, then a header of our own, then the payload; all numbers big endian.
//!
//! | byte | what |
//! |---|---|
//! | 0 | to, from: six bytes each |
//! | 12 | EtherType, [`ETHER_TYPE`] |
//! | 14 | [`Kind`] |
//! | 15 | flags, see [`flags`] |
//! | 16 | bytes of payload, 2 bytes |
//! | 18 | session, 4 bytes |
//! | 22 | number, 8 bytes |
//! | 30 | acknowledged, 8 bytes |
//! | 38 | window, 4 bytes |
//! | 42 | CRC-32 of bytes 14 to 41 and the payload |
//! | 46 | payload, then zeros up to [`SHORTEST`] |

use crc::{CRC_32_ISO_HDLC, Crc, Table};

/// IEEE Std 802, local experimental EtherType 1.
pub const ETHER_TYPE: u16 = 0x88b5;
/// Bytes before the payload.
pub const HEADER: usize = 46;
/// Bytes of a frame, at least, without its check sequence (IEEE Std 802.3, 3.2.8).
pub const SHORTEST: usize = 60;
/// Bytes of Ethernet's own header, which its MTU does not count.
pub const ETHERNET: usize = 14;

const CHECK: usize = HEADER - 4;
const CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All stations.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An echo is asked for.
    Request = 1,
    /// The echo: session, number and payload as asked.
    Reply = 2,
    /// A piece of a stream, or only what has arrived of the other's.
    Stream = 3,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Kind> {
        match byte {
            1 => Some(Kind::Request),
            2 => Some(Kind::Reply),
            3 => Some(Kind::Stream),
            _ => None,
        }
    }
}

/// Flags of a [`Kind::Stream`].
pub mod flags {
    /// The stream ends behind this payload.
    pub const END: u8 = 1;
    /// Answer at once, and send again what has not been acknowledged: frames may have been lost.
    pub const ASK: u8 = 1 << 1;
    /// Something is missing before what arrived last.
    pub const GAP: u8 = 1 << 2;
}

/// What stands before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who is to get it.
    pub to: Mac,
    /// Who sends it.
    pub from: Mac,
    /// What it carries.
    pub kind: Kind,
    /// See [`flags`].
    pub flags: u8,
    /// Which of several exchanges between the two it belongs to.
    pub session: u32,
    /// Of an echo: its number. Of a stream: how many bytes came before the payload.
    pub number: u64,
    /// Of a stream: how many bytes of the other's have arrived without a gap, the end counting as one.
    pub acknowledged: u64,
    /// Of a stream: how many more there is room for.
    pub window: u32,
}

/// A frame as it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What stands before the payload.
    pub header: Header,
    /// The payload.
    pub payload: &'a [u8],
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAFrame {
    /// It is not of this format: somebody else's.
    Foreign,
    /// It was one, and is damaged.
    Damaged,
}

impl<'a> Frame<'a> {
    /// Reads a frame.
    pub fn parse(bytes: &'a [u8]) -> Result<Frame<'a>, NotAFrame> {
        let head = bytes.first_chunk::<HEADER>().ok_or(NotAFrame::Foreign)?;
        if u16::from_be_bytes(take(head, 12)) != ETHER_TYPE {
            return Err(NotAFrame::Foreign);
        }
        let length = usize::from(u16::from_be_bytes(take(head, 16)));
        let payload = bytes.get(HEADER..HEADER + length).ok_or(NotAFrame::Damaged)?;
        if u32::from_be_bytes(take(head, CHECK)) != check(head, payload) {
            return Err(NotAFrame::Damaged);
        }
        let header = Header {
            to: Mac(take(head, 0)),
            from: Mac(take(head, 6)),
            kind: Kind::from_byte(head[14]).ok_or(NotAFrame::Damaged)?,
            flags: head[15],
            session: u32::from_be_bytes(take(head, 18)),
            number: u64::from_be_bytes(take(head, 22)),
            acknowledged: u64::from_be_bytes(take(head, 30)),
            window: u32::from_be_bytes(take(head, 38)),
        };
        Ok(Frame { header, payload })
    }
}

impl Header {
    /// Completes a frame in `room`, whose payload of `length` bytes lies from [`HEADER`] on already: how long the
    /// frame is. None: there is not room enough, or the payload is too long for the format.
    pub fn seal(&self, room: &mut [u8], length: usize) -> Option<usize> {
        let whole = (HEADER + length).max(SHORTEST);
        let (head, payload) = room.get_mut(..whole)?.split_first_chunk_mut::<HEADER>()?;
        let (payload, padding) = payload.split_at_mut(length);
        padding.fill(0);
        put(head, 0, self.to.0);
        put(head, 6, self.from.0);
        put(head, 12, ETHER_TYPE.to_be_bytes());
        put(head, 14, [self.kind as u8, self.flags]);
        put(head, 16, u16::try_from(length).ok()?.to_be_bytes());
        put(head, 18, self.session.to_be_bytes());
        put(head, 22, self.number.to_be_bytes());
        put(head, 30, self.acknowledged.to_be_bytes());
        put(head, 38, self.window.to_be_bytes());
        let check = check(head, payload);
        put(head, CHECK, check.to_be_bytes());
        Some(whole)
    }
}

fn check(head: &[u8; HEADER], payload: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&head[ETHERNET..CHECK]);
    digest.update(payload);
    digest.finalize()
}

fn take<const N: usize>(head: &[u8; HEADER], from: usize) -> [u8; N] {
    core::array::from_fn(|at| head[from + at])
}

fn put<const N: usize>(head: &mut [u8; HEADER], from: usize, bytes: [u8; N]) {
    head[from..from + N].copy_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header {
            to: Mac::BROADCAST,
            from: Mac([2, 0, 0, 0, 0, 1]),
            kind: Kind::Stream,
            flags: flags::ASK,
            session: 0x0102_0304,
            number: 0x1112_1314_1516_1718,
            acknowledged: 0x2122_2324_2526_2728,
            window: 0x3132_3334,
        }
    }

    fn sealed(payload: &[u8]) -> Vec<u8> {
        let mut room = vec![0xee; HEADER + payload.len() + SHORTEST];
        room[HEADER..HEADER + payload.len()].copy_from_slice(payload);
        let length = header().seal(&mut room, payload.len()).expect("there is room");
        room.truncate(length);
        room
    }

    #[test]
    fn the_bytes_are_these() {
        let mut expected = vec![0xff; 6];
        expected.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5, 3, 2, 0, 2, 1, 2, 3, 4]);
        expected.extend([0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
        expected.extend([0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x31, 0x32, 0x33, 0x34]);
        let frame = sealed(b"hi");
        assert_eq!(frame[..CHECK], expected);
        assert_eq!(frame[HEADER..], [b"hi".as_slice(), &[0; 12]].concat());
        assert_eq!(frame.len(), SHORTEST);
    }

    #[test]
    fn room_that_is_too_small_is_refused() {
        assert_eq!(header().seal(&mut [0; SHORTEST - 1], 0), None);
        assert_eq!(header().seal(&mut vec![0; 0x2_0000], 0x1_0000), None);
    }

    proptest! {
        #[test]
        fn a_frame_is_read_as_it_was_written(payload in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let frame = sealed(&payload);
            let expected = Frame { header: header(), payload: &payload };
            prop_assert_eq!(Frame::parse(&frame), Ok(expected));
        }

        #[test]
        fn one_wrong_bit_behind_the_ethernet_header_is_noticed(
            payload in proptest::collection::vec(any::<u8>(), 14..200),
            bit in any::<proptest::sample::Index>(),
        ) {
            let mut frame = sealed(&payload);
            let bit = bit.index((frame.len() - ETHERNET) * 8);
            frame[ETHERNET + bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Frame::parse(&frame), Err(NotAFrame::Damaged));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            ours in any::<bool>(),
        ) {
            if ours && bytes.len() > ETHERNET {
                bytes[12..14].copy_from_slice(&ETHER_TYPE.to_be_bytes());
            }
            let _ = Frame::parse(&bytes);
        }
    }
}
