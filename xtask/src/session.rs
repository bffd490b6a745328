//! A guest while it runs: its messages as they come, and what is said to it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use proto::host::{self, BadFrame, FrameReader, MAX_CHUNK, MAX_FRAME, ToGuest, ToHost};

use crate::peer;
use crate::qemu::{Boot, DeviceLines, Ending, Qemu};
use crate::qmp::Stopped;

/// How long a guest may take from QEMU's start to its Hello. Generous: the host may be busy.
pub const BOOT_PATIENCE: Duration = Duration::from_secs(60);
/// How long QEMU may take to end after it has closed its lines.
const ENDING_PATIENCE: Duration = Duration::from_secs(10);
/// How long a guest that was told to shut down may take to do so.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(3);

/// What comes from a guest. [`ToHost`], owned, and the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is up, and speaks this version.
    Hello(u16),
    /// The program wrote to its standard output.
    Stdout(Vec<u8>),
    /// The program wrote to its standard error.
    Stderr(Vec<u8>),
    /// The program ended.
    Exited(u8),
    /// There is no such program.
    NoSuchCommand,
    /// A component crashed.
    Crash(Box<Crash>),
    /// A frame that could not be read.
    Garbled(BadFrame),
    /// QEMU closed the line: it has ended, or is about to.
    Gone,
}

/// [`host::Crash`], owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// The component's name.
    pub component: String,
    /// What happened.
    pub what: String,
    /// The message of a panic, or empty.
    pub message: String,
    /// The faulting address, else 0.
    pub address: u64,
    /// The registers in [`host::Crash`]'s order.
    pub registers: [u64; 18],
    /// Return addresses, innermost first, without the closing zero.
    pub backtrace: Vec<u64>,
}

impl From<ToHost<'_>> for Event {
    fn from(message: ToHost) -> Self {
        match message {
            ToHost::Hello { version } => Event::Hello(version),
            ToHost::Stdout(bytes) => Event::Stdout(bytes.to_vec()),
            ToHost::Stderr(bytes) => Event::Stderr(bytes.to_vec()),
            ToHost::Exited { status } => Event::Exited(status),
            ToHost::NoSuchCommand => Event::NoSuchCommand,
            ToHost::Crash(crash) => Event::Crash(Box::new(Crash {
                component: crash.component.to_owned(),
                what: crash.what.to_owned(),
                message: crash.message.to_owned(),
                address: crash.address,
                registers: crash.registers,
                backtrace: crash.backtrace.iter().copied().take_while(|&address| address != 0).collect(),
            })),
        }
    }
}

/// A running guest.
pub struct Session {
    qemu: Qemu,
    events: Receiver<Event>,
    line: Arc<Mutex<UnixStream>>,
}

impl Session {
    /// Boots a guest. `scratch` must stay until the session has ended.
    pub fn start(boot: &Boot, scratch: &std::path::Path) -> Result<Self> {
        let mut qemu = Qemu::start(boot, scratch)?;
        let (sender, events) = channel();
        if let Some(lines) = qemu.take_devices() {
            attend_devices(lines, &sender);
        }
        let com2 = qemu.com2()?;
        thread::spawn(move || receive_to_the_end(com2, &sender));
        let line = Arc::new(Mutex::new(qemu.com2()?));
        Ok(Session { qemu, events, line })
    }

    /// The next event, or none if none comes before `deadline`.
    pub fn next(&self, deadline: Option<Instant>) -> Option<Event> {
        let Some(deadline) = deadline else {
            return Some(self.events.recv().unwrap_or(Event::Gone));
        };
        match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Event::Gone),
        }
    }

    /// Asks the guest to run a program.
    pub fn exec(&self, command: &[String]) -> Result<()> {
        let argv = joined(command)?;
        let mut frame = [0; MAX_FRAME];
        let Ok(frame) = host::encode(&ToGuest::Exec { argv: &argv }, &mut frame) else {
            bail!("the command is too long for the guest: at most about {MAX_FRAME} bytes in all");
        };
        // A guest that is gone is told of by the event that says so.
        let _ = self.line.lock().map(|mut line| line.write_all(frame));
        Ok(())
    }

    /// Passes `source` on as the program's standard input, from a thread of its own, until either ends.
    pub fn forward_stdin(&self, source: impl Read + Send + 'static) {
        let line = Arc::clone(&self.line);
        thread::spawn(move || forward(source, &line));
    }

    /// What the guest wrote to its console so far.
    pub fn log(&self) -> String {
        self.qemu.log()
    }

    /// Stops the guest for good and says where each CPU is.
    pub fn stop(&mut self) -> Result<Stopped> {
        self.qemu.stop()
    }

    /// Tells the guest to shut down, and ends it if it does not.
    pub fn shut_down(mut self) -> Result<()> {
        let mut frame = [0; MAX_FRAME];
        let frame = host::encode(&ToGuest::Shutdown, &mut frame).ok().context("shutdown does not fit")?;
        // Where input is still being written the guest cannot listen: it is ended the short way.
        let told = self.line.try_lock().is_ok_and(|mut line| line.write_all(frame).is_ok());
        self.qemu.end(if told { SHUTDOWN_PATIENCE } else { Duration::ZERO })?;
        Ok(())
    }

    /// After [`Event::Gone`]: how QEMU ended.
    pub fn ended(mut self) -> Result<Ending> {
        self.qemu.end(ENDING_PATIENCE)
    }

    /// Ends QEMU.
    pub fn end(mut self) -> Result<Ending> {
        self.qemu.end(Duration::ZERO)
    }
}

/// The arguments as the guest takes them, each ended by NUL.
fn joined(command: &[String]) -> Result<String> {
    let mut argv = String::new();
    for argument in command {
        if argument.contains('\0') {
            bail!("an argument with a NUL byte cannot be passed on");
        }
        argv.push_str(argument);
        argv.push('\0');
    }
    Ok(argv)
}

/// Attends to the host's ends of the guest's devices, on threads of their own.
fn attend_devices(lines: DeviceLines, events: &Sender<Event>) {
    let events = events.clone();
    thread::spawn(move || peer::attend(lines.net));
    thread::spawn(move || receive(lines.host, &events));
    thread::spawn(move || drain(lines.log));
}

/// Reads what is kept elsewhere already, so that the guest need not wait for a reader.
fn drain(mut line: impl Read) {
    // An error is the end, too.
    let _ = std::io::copy(&mut line, &mut std::io::sink());
}

/// Gives out the messages of a line until it ends.
fn receive(mut line: UnixStream, events: &Sender<Event>) {
    let mut reader = FrameReader::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = line.read(&mut buffer) {
        for &byte in &buffer[..length] {
            let event = match reader.push::<ToHost>(byte) {
                None => continue,
                Some(Ok(message)) => message.into(),
                Some(Err(bad)) => Event::Garbled(bad),
            };
            if events.send(event).is_err() {
                return;
            }
        }
    }
}

/// Gives out the messages of the line that lasts as long as QEMU, and then that it has ended.
fn receive_to_the_end(line: UnixStream, events: &Sender<Event>) {
    receive(line, events);
    // Whoever listened may be gone too.
    let _ = events.send(Event::Gone);
}

fn forward(mut source: impl Read, line: &Mutex<UnixStream>) {
    let mut buffer = [0; MAX_CHUNK];
    loop {
        // An input that cannot be read is at its end.
        let length = source.read(&mut buffer).unwrap_or(0);
        let message = if length == 0 { ToGuest::StdinEnd } else { ToGuest::Stdin(&buffer[..length]) };
        let mut frame = [0; MAX_FRAME];
        let Ok(frame) = host::encode(&message, &mut frame) else { return };
        let written = line.lock().is_ok_and(|mut line| line.write_all(frame).is_ok());
        if length == 0 || !written {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_each_ended_by_nul() {
        assert_eq!(joined(&["echo".into(), String::new(), "a b".into()]).expect("fine"), "echo\0\0a b\0");
        assert!(joined(&["a\0b".into()]).is_err());
    }

    #[test]
    fn input_is_passed_on_in_chunks_and_its_end_is_told() {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        let input = vec![7; MAX_CHUNK + 1];
        forward(&*input, &Mutex::new(ours));
        let (mut reader, mut bytes, mut seen) = (FrameReader::new(), Vec::new(), Vec::new());
        theirs.read_to_end(&mut bytes).expect("read");
        for byte in bytes {
            match reader.push::<ToGuest>(byte) {
                Some(Ok(ToGuest::Stdin(chunk))) => seen.push(chunk.len()),
                Some(Ok(ToGuest::StdinEnd)) => seen.push(0),
                Some(other) => panic!("{other:?}"),
                None => {}
            }
        }
        assert_eq!(seen, [MAX_CHUNK, 1, 0]);
    }

    #[test]
    fn frames_become_events_and_the_end_of_the_line_is_one() {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        let mut frame = [0; MAX_FRAME];
        let hello = host::encode(&ToHost::Hello { version: 1 }, &mut frame).expect("fits");
        theirs.write_all(hello).expect("sent");
        theirs.write_all(&[200, 1, 0]).expect("sent");
        drop(theirs);
        let (sender, events) = channel();
        receive_to_the_end(ours, &sender);
        let seen: Vec<_> = events.try_iter().collect();
        assert_eq!(seen, [Event::Hello(1), Event::Garbled(BadFrame::Malformed), Event::Gone]);
    }
}
