//! The framed protocol between host tool and guest, byte for byte.

use proto::host::{BadFrame, Crash, FrameReader, MAX_CHUNK, MAX_FRAME, ToGuest, ToHost, TooLong, encode};

/// Sends `bytes` through a fresh reader and gives the messages seen, printed.
fn messages(bytes: &[u8]) -> Vec<Result<String, BadFrame>> {
    let mut reader = FrameReader::new();
    let mut seen = Vec::new();
    for &byte in bytes {
        if let Some(message) = reader.push::<ToHost>(byte) {
            seen.push(message.map(|message| format!("{message:?}")));
        }
    }
    seen
}

fn frame(message: &ToHost) -> Vec<u8> {
    encode(message, &mut [0; MAX_FRAME]).expect("fits").to_vec()
}

#[test]
fn the_bytes_on_the_line_do_not_change() {
    assert_eq!(frame(&ToHost::Hello { version: 1 }), [1, 2, 1, 0]);
    assert_eq!(frame(&ToHost::Stdout(b"hi\n")), [6, 1, 3, b'h', b'i', b'\n', 0]);
    assert_eq!(frame(&ToHost::Exited { status: 127 }), [3, 3, 127, 0]);
    assert_eq!(frame(&ToHost::NoSuchCommand), [2, 4, 0]);
    let exec = ToGuest::Exec { argv: "echo\0hi\0" };
    let mut buffer = [0; MAX_FRAME];
    assert_eq!(
        encode(&exec, &mut buffer).expect("fits"),
        [1, 6, 8, b'e', b'c', b'h', b'o', 3, b'h', b'i', 1, 0]
    );
    assert_eq!(encode(&ToGuest::StdinEnd, &mut buffer).expect("fits"), [2, 2, 0]);
    assert_eq!(encode(&ToGuest::Shutdown, &mut buffer).expect("fits"), [2, 3, 0]);
}

#[test]
fn every_message_comes_back_as_it_was_sent() {
    let crash = ToHost::Crash(Crash {
        component: "spin",
        what: "page fault",
        message: "",
        address: 0xdead_0000,
        registers: [u64::MAX; 18],
        backtrace: [0; 16],
    });
    for message in [
        ToHost::Hello { version: 7 },
        ToHost::Stdout(&[0; MAX_CHUNK]),
        ToHost::Stderr(&[255; MAX_CHUNK]),
        ToHost::Exited { status: 0 },
        ToHost::NoSuchCommand,
        crash,
    ] {
        assert_eq!(messages(&frame(&message)), [Ok(format!("{message:?}"))]);
    }
}

#[test]
fn a_reader_that_starts_in_the_middle_is_in_step_at_the_next_zero() {
    let mut bytes = frame(&ToHost::Stdout(b"lost"));
    bytes.drain(..3);
    bytes.extend(frame(&ToHost::NoSuchCommand));
    assert_eq!(messages(&bytes).last(), Some(&Ok("NoSuchCommand".into())));
}

#[test]
fn a_damaged_frame_is_reported_and_the_next_one_is_read() {
    let mut bytes = vec![200, 1, 0];
    bytes.extend(frame(&ToHost::NoSuchCommand));
    assert_eq!(messages(&bytes), [Err(BadFrame::Malformed), Ok("NoSuchCommand".into())]);
}

#[test]
fn bytes_behind_a_message_make_the_frame_malformed() {
    assert_eq!(messages(&[3, 4, 9, 0]), [Err(BadFrame::Malformed)]);
}

#[test]
fn an_overlong_frame_is_reported_once_and_the_next_one_is_read() {
    let mut bytes = vec![1; MAX_FRAME + 1];
    bytes.push(0);
    bytes.extend(frame(&ToHost::NoSuchCommand));
    assert_eq!(messages(&bytes), [Err(BadFrame::Overlong), Ok("NoSuchCommand".into())]);
}

#[test]
fn empty_frames_are_nothing() {
    assert_eq!(messages(&[0, 0, 0]), []);
}

#[test]
fn a_message_that_does_not_fit_is_refused() {
    assert_eq!(encode(&ToHost::Stdout(&[1; MAX_FRAME]), &mut [0; MAX_FRAME]), Err(TooLong));
}
