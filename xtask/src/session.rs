//! A guest while it runs: its messages as they come, and what is said to it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use proto::host::{self, BadFrame, FrameReader, MAX_CHUNK, MAX_FRAME, ToGuest, ToHost};

use crate::cleanup::Cleanup;
use crate::peer;
use crate::port::{self, Port};
use crate::qemu::{Boot, DeviceLines, Ending, Qemu};
use crate::qmp::Stopped;

/// How long a guest may take from QEMU's start to its Hello. Generous: the host may be busy.
pub const BOOT_PATIENCE: Duration = Duration::from_secs(60);
/// How long QEMU may take to end after it has closed its lines.
const ENDING_PATIENCE: Duration = Duration::from_secs(10);
/// How long a guest that was told to shut down may take to do so.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(3);

/// Events that wait to be taken. Beyond them nothing more is read from the guest, which then waits with its output.
const MOST_EVENTS: usize = 64;

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
    /// QEMU closed the lines: it has ended, or is about to.
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

/// How the guest is spoken to.
enum Way {
    /// COM2: a line that loses nothing.
    Com2(Mutex<UnixStream>),
    /// The console's port.
    Port(Arc<Port>),
}

impl Way {
    /// Writes a frame, waiting for room. False: the guest is gone.
    fn write(&self, frame: &[u8]) -> bool {
        match self {
            Way::Com2(line) => line.lock().is_ok_and(|mut line| line.write_all(frame).is_ok()),
            Way::Port(port) => port.write(frame),
        }
    }

    /// Writes a frame if nothing else is being written.
    fn write_at_once(&self, frame: &[u8]) -> bool {
        match self {
            Way::Com2(line) => line.try_lock().is_ok_and(|mut line| line.write_all(frame).is_ok()),
            Way::Port(port) => port.write_at_once(frame),
        }
    }
}

/// The way that the guest has said Hello by.
type Chosen = Arc<OnceLock<Way>>;

/// A running guest.
pub struct Session {
    qemu: Qemu,
    events: Receiver<Event>,
    way: Chosen,
    cleanup: Arc<Cleanup>,
}

impl Session {
    /// Boots a guest. `scratch` must stay until the session has ended. `log` takes the guest's log, as far as it comes
    /// by its own port.
    pub fn start(boot: &Boot, scratch: &std::path::Path, log: Option<File>) -> Result<Self> {
        let mut qemu = Qemu::start(boot, scratch)?;
        let (sender, events) = sync_channel(MOST_EVENTS);
        let way = Chosen::default();
        if let Some(lines) = qemu.take_devices() {
            attend_devices(lines, &sender, &way, log)?;
        }
        let (reading, writing) = (qemu.com2()?, qemu.com2()?);
        let hear = Hearer::new(sender, &way, Way::Com2(Mutex::new(writing)));
        thread::spawn(move || receive(reading, hear));
        Ok(Session { qemu, events, way, cleanup: Arc::clone(boot.cleanup) })
    }

    /// The next event, or none if none comes before `deadline`.
    pub fn next(&self, deadline: Option<Instant>) -> Option<Event> {
        let received = match deadline {
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        };
        match received {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                self.cleanup.give_way();
                Some(Event::Gone)
            }
        }
    }

    /// Asks the guest, which has said Hello, to run a program.
    pub fn exec(&self, command: &[String]) -> Result<()> {
        let argv = joined(command)?;
        let mut frame = [0; MAX_FRAME];
        let Ok(frame) = host::encode(&ToGuest::Exec { argv: &argv }, &mut frame) else {
            bail!("the command is too long for the guest: at most about {MAX_FRAME} bytes in all");
        };
        // A guest that is gone is told of by the event that says so.
        let _ = self.way.get().map(|way| way.write(frame));
        Ok(())
    }

    /// Passes `source` on as the program's standard input, from a thread of its own, until either ends.
    pub fn forward_stdin(&self, source: impl Read + Send + 'static) {
        let way = Arc::clone(&self.way);
        thread::spawn(move || forward(source, |frame| way.get().is_some_and(|way| way.write(frame))));
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
        let told = self.way.get().is_some_and(|way| way.write_at_once(frame));
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
fn attend_devices(
    lines: DeviceLines,
    events: &SyncSender<Event>,
    way: &Chosen,
    mut log: Option<File>,
) -> Result<()> {
    let DeviceLines { net, host: host_line, log: log_line } = lines;
    let port = |line| Port::new(line).map(Arc::new).context("cannot share the connection to a port");
    let (host_port, log_port) = (port(&host_line)?, port(&log_line)?);
    let mut hear = Hearer::new(events.clone(), way, Way::Port(Arc::clone(&host_port)));
    thread::spawn(move || peer::attend(net));
    thread::spawn(move || port::attend(host_line, &host_port, |bytes| hear.take(bytes)));
    thread::spawn(move || {
        port::attend(log_line, &log_port, |bytes| {
            // A log that cannot be written is no reason to let the guest wait: it is kept elsewhere, too.
            let written = log.as_mut().map_or(Ok(()), |log| log.write_all(bytes));
            if let Err(error) = written {
                eprintln!("skink: the log cannot be written on: {error}");
                log = None;
            }
            true
        });
    });
    Ok(())
}

/// Makes messages of what comes by one way.
struct Hearer {
    reader: FrameReader,
    events: SyncSender<Event>,
    chosen: Chosen,
    /// Until the guest has said Hello by it.
    way: Option<Way>,
}

impl Hearer {
    fn new(events: SyncSender<Event>, chosen: &Chosen, way: Way) -> Hearer {
        Hearer { reader: FrameReader::new(), events, chosen: Arc::clone(chosen), way: Some(way) }
    }

    /// Takes what has come in. False: nobody listens any more.
    fn take(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            let event = match self.reader.push::<ToHost>(byte) {
                None => continue,
                Some(Ok(message)) => message.into(),
                Some(Err(bad)) => Event::Garbled(bad),
            };
            if matches!(event, Event::Hello(_))
                && let Some(way) = self.way.take()
            {
                // A guest that says it by both ways is told of by the second event.
                let _ = self.chosen.set(way);
            }
            if self.events.send(event).is_err() {
                return false;
            }
        }
        true
    }
}

/// Gives out the messages of COM2. When every line has ended, QEMU has, or is about to ([`Event::Gone`]).
fn receive(mut line: UnixStream, mut hear: Hearer) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = line.read(&mut buffer) {
        if !hear.take(&buffer[..length]) {
            return;
        }
    }
}

fn forward(mut source: impl Read, write: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; MAX_CHUNK];
    loop {
        // An input that cannot be read is at its end.
        let length = source.read(&mut buffer).unwrap_or(0);
        let message = if length == 0 { ToGuest::StdinEnd } else { ToGuest::Stdin(&buffer[..length]) };
        let mut frame = [0; MAX_FRAME];
        let Ok(frame) = host::encode(&message, &mut frame) else { return };
        if !write(frame) || length == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn arguments_are_each_ended_by_nul() {
        assert_eq!(joined(&["echo".into(), String::new(), "a b".into()]).expect("fine"), "echo\0\0a b\0");
        assert!(joined(&["a\0b".into()]).is_err());
    }

    #[test]
    fn input_is_passed_on_in_chunks_and_its_end_is_told() {
        let input = vec![7; MAX_CHUNK + 1];
        let sent = Mutex::new(Vec::new());
        forward(&*input, |frame| {
            sent.lock().expect("whole").extend_from_slice(frame);
            true
        });
        let (mut reader, mut seen) = (FrameReader::new(), Vec::new());
        for byte in sent.into_inner().expect("whole") {
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
    fn no_more_is_read_from_a_guest_than_is_taken() {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let (sender, events) = sync_channel(MOST_EVENTS);
        let mut hear = Hearer::new(sender, &Chosen::default(), Way::Com2(Mutex::new(theirs)));
        let mut frame = [0; MAX_FRAME];
        let frame = host::encode(&ToHost::Stdout(b"y"), &mut frame).expect("fits").to_vec();
        let read = Arc::new(AtomicUsize::new(0));
        let reader = thread::spawn({
            let read = Arc::clone(&read);
            move || {
                while hear.take(&frame) {
                    read.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        for taken in 1..1000 {
            assert!(events.recv().is_ok());
            while read.load(Ordering::SeqCst) < taken {
                thread::yield_now();
            }
            // The one that was taken may not have been counted yet, and one more may be on its way.
            assert!(read.load(Ordering::SeqCst) <= taken + MOST_EVENTS + 1);
        }
        drop((events, ours));
        reader.join().expect("it ends when nobody listens");
    }

    #[test]
    fn frames_become_events_until_the_line_ends() {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        let spare = ours.try_clone().expect("a socket");
        let mut frame = [0; MAX_FRAME];
        let hello = host::encode(&ToHost::Hello { version: 1 }, &mut frame).expect("fits");
        theirs.write_all(hello).expect("sent");
        theirs.write_all(&[200, 1, 0]).expect("sent");
        drop(theirs);
        let (sender, events) = sync_channel(MOST_EVENTS);
        let way = Chosen::default();
        receive(ours, Hearer::new(sender, &way, Way::Com2(Mutex::new(spare))));
        assert!(way.get().is_some_and(|way| matches!(way, Way::Com2(_))));
        let seen: Vec<_> = events.try_iter().collect();
        assert_eq!(seen, [Event::Hello(1), Event::Garbled(BadFrame::Malformed)]);
        assert!(events.recv().is_err(), "the end of the line is the end of its events");
    }
}
