//! What driver and device tell each other of ports (VirtIO 1.2, 5.3.6.2).

/// Bytes of a message, before the name that can follow.
pub const BYTES: usize = 8;
/// Bytes of a port's name, at most.
pub const MAX_NAME: usize = 64;

/// What the device says of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// It is there.
    Added,
    /// It is not there any more.
    Removed,
    /// Somebody is at its other end, or nobody is any more.
    Open(bool),
    /// Its name.
    Name(&'a [u8]),
    /// What a driver of terminals has a use for.
    Terminal,
}

/// What the driver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Say {
    /// It is ready to hear of ports.
    DeviceReady = 0,
    /// It is ready for a port.
    PortReady = 3,
    /// It has opened a port.
    PortOpen = 6,
}

const DEVICE_ADD: u16 = 1;
const DEVICE_REMOVE: u16 = 2;
const CONSOLE_PORT: u16 = 4;
const RESIZE: u16 = 5;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// Reads a message: the port's number, and what is said of it. None: it makes no sense.
pub fn parse(message: &[u8]) -> Option<(u32, Event<'_>)> {
    let ([i0, i1, i2, i3, e0, e1, v0, v1], rest) = message.split_first_chunk::<BYTES>()?;
    let value = u16::from_le_bytes([*v0, *v1]);
    let event = match u16::from_le_bytes([*e0, *e1]) {
        DEVICE_ADD => Event::Added,
        DEVICE_REMOVE => Event::Removed,
        CONSOLE_PORT | RESIZE => Event::Terminal,
        PORT_OPEN if value <= 1 => Event::Open(value == 1),
        PORT_NAME => Event::Name(name(rest)?),
        _ => return None,
    };
    Some((u32::from_le_bytes([*i0, *i1, *i2, *i3]), event))
}

/// Up to the first zero, which QEMU sends and the standard does not ask for.
fn name(bytes: &[u8]) -> Option<&[u8]> {
    let name = bytes.split(|byte| *byte == 0).next()?;
    (!name.is_empty() && name.len() <= MAX_NAME).then_some(name)
}

/// A message of the driver about `port`: yes.
pub fn message(port: u32, say: Say) -> [u8; BYTES] {
    let [i0, i1, i2, i3] = port.to_le_bytes();
    let [e0, e1] = (say as u16).to_le_bytes();
    [i0, i1, i2, i3, e0, e1, 1, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read() {
        let open = |value| [3, 0, 0, 0, 6, 0, value, 0];
        assert_eq!(parse(&[3, 0, 0, 0, 1, 0, 0, 0]), Some((3, Event::Added)));
        assert_eq!(parse(&[3, 1, 0, 0, 2, 0, 0, 0]), Some((0x103, Event::Removed)));
        assert_eq!(parse(&open(1)), Some((3, Event::Open(true))));
        assert_eq!(parse(&open(0)), Some((3, Event::Open(false))));
        assert_eq!(parse(&[3, 0, 0, 0, 4, 0, 1, 0]), Some((3, Event::Terminal)));
    }

    #[test]
    fn a_name_ends_at_a_zero_or_with_the_message() {
        let named = |name: &[u8]| [&[0, 0, 0, 0, 7, 0, 1, 0], name].concat();
        assert_eq!(parse(&named(b"skink.host\0")), Some((0, Event::Name(b"skink.host"))));
        assert_eq!(parse(&named(b"skink.host")), Some((0, Event::Name(b"skink.host"))));
        assert_eq!(parse(&named(&[b'a'; MAX_NAME])), Some((0, Event::Name(&[b'a'; MAX_NAME]))));
        for nonsense in [b"".as_slice(), b"\0name", &[b'a'; MAX_NAME + 1]] {
            assert_eq!(parse(&named(nonsense)), None);
        }
    }

    #[test]
    fn nonsense_is_no_message() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0; 7]), None);
        assert_eq!(parse(&[0; 8]), None, "only the driver says this");
        assert_eq!(parse(&[0, 0, 0, 0, 6, 0, 2, 0]), None);
        assert_eq!(parse(&[0, 0, 0, 0, 8, 0, 0, 0]), None);
    }

    #[test]
    fn the_driver_s_messages_are_these_bytes() {
        assert_eq!(message(0x102, Say::PortOpen), [2, 1, 0, 0, 6, 0, 1, 0]);
    }
}
