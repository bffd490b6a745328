//! The serial line that a driver has: COM3, with this test at its other end.

use std::io::{ErrorKind, Read, Result, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use net::wire::line::{self, LineReader};
use storm::wire::Peer;

use crate::harness::{Outcome, Test};
use crate::supervision::{shows, under};
use crate::tool::{Run, Tool};

/// What passes over the line.
pub const TESTS: &[Test] = &[
    Test::case("serial/a_text_goes_out_and_another_comes_back", text),
    Test::case("serial/nothing_is_lost_while_the_driver_dies_in_every_way", deaths),
    Test::case("serial/nothing_is_left_of_the_drivers_dead_lives", nothing_left),
    Test::case("serial/a_machine_without_the_line_says_so", no_line),
];

/// The driver, and who uses and kills it.
const SERIAL: &str = "
component serial
    start boot
    restart always
    ports 0x3e8-0x3ef
    irq 5
    offers serial rings 64K
component line
    memory 2M
    stack 256K
    channel serial 4K
    holds supervise
component restarts
    holds supervise inventory
component inturn
    holds control
component svc
    holds supervise
component *
";

/// Runs commands one after the other on a machine with the line, with `attend` at its other end.
fn with_line(
    tool: &Tool,
    commands: &[&str],
    attend: impl Fn(UnixStream) -> Result<()> + Send + 'static,
) -> std::result::Result<Run, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let socket = folder.path().join("com3");
    let listener = UnixListener::bind(&socket).map_err(|error| error.to_string())?;
    // It ends with QEMU; if that never comes, with this program.
    thread::spawn(move || listener.accept().and_then(|(stream, _)| attend(stream)));
    let run = under(tool, SERIAL, &["exec", "--com3", name(&socket)?], &[&["inturn"], commands].concat())?;
    run.ended_with(0)?;
    Ok(run)
}

fn name(path: &Path) -> std::result::Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is no text", path.display()))
}

fn text(tool: &Tool) -> Outcome {
    // More than a FIFO's, in both directions; the second one to a driver in its next life.
    let long = "0123456789".repeat(40);
    let backwards: String = long.chars().rev().collect();
    let run =
        with_line(tool, &["line say hello", "svc kill serial", &format!("line say {long}")], turn_around)?;
    shows(&run, &["olleh\n", "serial was killed; it runs, in life 2", &backwards])
}

/// Sends each line back, from its end to its beginning.
fn turn_around(mut stream: UnixStream) -> Result<()> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        if byte != *b"\n" {
            line.extend(byte);
            continue;
        }
        line.reverse();
        line.push(b'\n');
        stream.write_all(&line)?;
        line.clear();
    }
}

fn deaths(tool: &Tool) -> Outcome {
    let count = if tool.long() { 500 } else { 10 };
    let bytes = count * 2_000;
    let run = with_line(tool, &[&format!("line exchange {bytes} {count}")], exchange)?;
    shows(&run, &[&format!("{} bytes came and went, {count} deaths", 2 * bytes)])
}

/// The peer of an exchange.
fn exchange(mut stream: UnixStream) -> Result<()> {
    let begun = Instant::now();
    let now = || u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (mut peer, mut reader) = (Peer::default(), LineReader::new([0; 2048]));
    let (mut frame, mut bytes) = ([0; 2048], [0; line::most_bytes(2048)]);
    loop {
        while let Some(length) = peer.poll(now(), &mut frame) {
            let length = line::write(&frame[..length], &mut bytes).unwrap_or(0);
            stream.write_all(&bytes[..length])?;
        }
        let patience = peer.deadline().map(|at| Duration::from_micros(at.saturating_sub(now()).max(1)));
        stream.set_read_timeout(patience)?;
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                for byte in &bytes[..count] {
                    if let Some(frame) = reader.push(*byte) {
                        peer.receive(now(), frame);
                    }
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

fn nothing_left(tool: &Tool) -> Outcome {
    let count = if tool.long() { 10_000 } else { 100 };
    let run = with_line(tool, &[&format!("restarts {count} serial")], turn_around)?;
    shows(&run, &[&format!("serial: {count} lives")])
}

fn no_line(tool: &Tool) -> Outcome {
    let run = under(tool, SERIAL, &["exec"], &["inturn", "svc list", "svc crashes"])?;
    run.ended_with(0)?;
    shows(&run, &["port 0x3e8: there is no 16550, or not any more"])
}
