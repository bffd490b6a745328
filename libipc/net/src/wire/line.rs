//! Frames over a line of bytes, such as a port of a console: each between two zero bytes, with COBS (Consistent Overhead
//! Byte Stuffing; Cheshire and Baker, 1999) in between. So whatever half a frame was left on the line by who died
//! while sending it, the next frame is a whole one.

/// Bytes on the line for a frame of `length` bytes, at most.
pub const fn most_bytes(length: usize) -> usize {
    length + length / 254 + 3
}

/// Writes what goes on the line for `frame`, and says how much it is. None: there is not room for [`most_bytes`] of it.
pub fn write(frame: &[u8], room: &mut [u8]) -> Option<usize> {
    let (first, rest) = room.get_mut(..most_bytes(frame.len()))?.split_first_mut()?;
    *first = 0;
    let length = cobs::encode(frame, rest);
    *rest.get_mut(length)? = 0;
    Some(length + 2)
}

/// Finds frames on the line: of at most so many bytes as `B` holds.
#[derive(Debug)]
pub struct LineReader<B> {
    bytes: B,
    /// Bytes since the last zero; those that did not fit are counted, not kept.
    received: usize,
}

impl<B: AsMut<[u8]>> LineReader<B> {
    /// A reader that has seen nothing yet.
    pub fn new(bytes: B) -> LineReader<B> {
        LineReader { bytes, received: 0 }
    }

    /// Takes a byte, and gives the frame it completes, if it does. What is no frame is left away.
    pub fn push(&mut self, byte: u8) -> Option<&[u8]> {
        let bytes = self.bytes.as_mut();
        if byte != 0 {
            if let Some(place) = bytes.get_mut(self.received) {
                *place = byte;
            }
            self.received = self.received.saturating_add(1);
            return None;
        }
        let frame = bytes.get_mut(..core::mem::take(&mut self.received))?;
        let length = cobs::decode_in_place(frame).ok()?;
        frame.get(..length).filter(|frame| !frame.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn on_line(frame: &[u8]) -> Vec<u8> {
        let mut room = vec![9; most_bytes(frame.len())];
        let length = write(frame, &mut room).expect("there is room");
        room.truncate(length);
        room
    }

    fn frames(line: &[u8], most: usize) -> Vec<Vec<u8>> {
        let mut reader = LineReader::new(vec![0; most]);
        line.iter().filter_map(|byte| reader.push(*byte).map(<[u8]>::to_vec)).collect()
    }

    #[test]
    fn a_frame_too_long_is_left_away() {
        let line = [on_line(&[1; 100]), on_line(&[2; 10])].concat();
        assert_eq!(frames(&line, 50), [[2; 10]]);
        assert_eq!(write(&[1; 100], &mut [0; 102]), None);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            sent in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..600), 1..5),
        ) {
            let line: Vec<u8> = sent.iter().flat_map(|frame| on_line(frame)).collect();
            prop_assert_eq!(frames(&line, 700), sent);
        }

        #[test]
        fn half_a_frame_does_not_spoil_the_next_one(
            half in proptest::collection::vec(any::<u8>(), 1..100),
            cut in any::<proptest::sample::Index>(),
            whole in proptest::collection::vec(any::<u8>(), 1..100),
        ) {
            let mut line = on_line(&half);
            line.truncate(cut.index(line.len()));
            line.extend(on_line(&whole));
            let found = frames(&line, 200);
            prop_assert_eq!(found.last(), Some(&whole));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(line in proptest::collection::vec(0u8..5, 0..100)) {
            frames(&line, 20);
        }
    }
}
