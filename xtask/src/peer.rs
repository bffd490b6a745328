//! The peer: what the guest's network device is connected to, a station on the other end of a wire.
//!
//! QEMU's `stream` netdev carries each frame behind its length (4 bytes, big endian).

use std::io::{Read, Write};

/// The longest frame that is taken: an Ethernet frame of the largest MTU a VirtIO device offers.
const LONGEST: usize = 65_550;
/// Two Ethernet addresses and the EtherType.
const HEADER: usize = 14;
/// IEEE Std 802, local experimental EtherType 1.
const ETHER_TYPE: [u8; 2] = 0x88b5_u16.to_be_bytes();

/// Answers frames until the wire is cut.
pub fn attend(mut wire: impl Read + Write) {
    let mut frame = Vec::new();
    while receive(&mut wire, &mut frame).is_ok() {
        if echo(&mut frame) && send(&mut wire, &frame).is_err() {
            return;
        }
    }
}

fn receive(wire: &mut impl Read, frame: &mut Vec<u8>) -> std::io::Result<()> {
    let mut length = [0; 4];
    wire.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    frame.resize(length, 0);
    wire.read_exact(frame)
}

fn send(wire: &mut impl Write, frame: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    wire.write_all(&[&length.to_be_bytes(), frame].concat())
}

/// Makes a frame that is for the peer its own echo: it goes back where it came from.
fn echo(frame: &mut [u8]) -> bool {
    if frame.len() < HEADER || frame[12..HEADER] != ETHER_TYPE {
        return false;
    }
    let (to, rest) = frame.split_at_mut(6);
    to.swap_with_slice(&mut rest[..6]);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::thread;

    fn frame(ether_type: [u8; 2], payload: &[u8]) -> Vec<u8> {
        [b"to  tofrom  ".as_slice(), &ether_type, payload].concat()
    }

    #[test]
    fn frames_of_the_experimental_type_come_back_and_others_do_not() {
        let (mut guest, host) = UnixStream::pair().expect("sockets");
        let peer = thread::spawn(move || attend(host));
        send(&mut guest, &frame([8, 0], b"IP")).expect("sent");
        send(&mut guest, b"short").expect("sent");
        send(&mut guest, &frame(ETHER_TYPE, b"hello")).expect("sent");
        let mut answer = Vec::new();
        receive(&mut guest, &mut answer).expect("an answer");
        assert_eq!(answer, [b"from  to  to".as_slice(), &ETHER_TYPE, b"hello"].concat());
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
