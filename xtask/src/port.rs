//! The host's end of a port of the guest's console: a stream that outlives the guest's driver.
//!
//! QEMU connects the port to a socket. One thread takes what comes ([`attend`]); any other may write.

use std::io::{ErrorKind, Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use net::wire::link::{Link, Side};
use net::wire::stream::Patience;

/// Bytes of the stream on their way, each way.
const ON_THE_WAY: usize = 64 * 1024;
/// Microseconds until what was not acknowledged is sent again. The guest, which knows when its driver has died, asks
/// for that at once.
const PATIENCE: Patience = Patience { first: 1_000_000, most: 8_000_000 };
/// How long a write may wait for QEMU. What it does not take then is lost, as on any line, and sent again.
const MOMENT: Duration = Duration::from_millis(1);
/// How often to look at the timer, which a write may have set.
const GLANCE: Duration = Duration::from_millis(200);

/// The end of one port.
pub struct Port {
    state: Mutex<State>,
    /// There is room to write, or nobody reads any more.
    changed: Condvar,
    begun: Instant,
}

struct State {
    link: Link<Vec<u8>>,
    line: UnixStream,
    closed: bool,
}

impl Port {
    /// The end that is connected to QEMU by `line`.
    pub fn new(line: &UnixStream) -> Result<Port> {
        let line = line.try_clone()?;
        line.set_write_timeout(Some(MOMENT))?;
        let link = Link::new(Side::Host, PATIENCE, vec![0; ON_THE_WAY], vec![0; ON_THE_WAY]);
        Ok(Port {
            state: Mutex::new(State { link, line, closed: false }),
            changed: Condvar::new(),
            begun: Instant::now(),
        })
    }

    /// Writes all of `bytes`, waiting for room. False: the guest is gone.
    pub fn write(&self, mut bytes: &[u8]) -> bool {
        let mut state = self.lock();
        while !state.closed {
            let count = state.link.stream().write(bytes);
            bytes = &bytes[count..];
            state.send(self.now());
            if bytes.is_empty() {
                return true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        false
    }

    /// Writes `bytes` if there is room for them now.
    pub fn write_at_once(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        let fits = !state.closed && state.link.stream().room() >= bytes.len();
        if fits {
            state.link.stream().write(bytes);
            state.send(self.now());
        }
        fits
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No step leaves the state half made, so that of a thread that has panicked is as good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Takes bytes of the line, sends what is due, and gives out what has come of the stream.
    fn arrived(&self, bytes: &[u8]) -> Vec<u8> {
        let mut state = self.lock();
        state.link.arrived(self.now(), bytes);
        let mut read = vec![0; ON_THE_WAY];
        let count = state.link.stream().read(&mut read);
        read.truncate(count);
        state.send(self.now());
        drop(state);
        self.changed.notify_all();
        read
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

impl State {
    /// Sends what there is to send, as far as QEMU takes it.
    fn send(&mut self, now: u64) {
        loop {
            let bytes = self.link.to_send(now);
            if bytes.is_empty() {
                return;
            }
            let length = bytes.len();
            match self.line.write(bytes) {
                Ok(count @ 1..) => self.link.sent(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What is left of the frame is as good as lost on the way; the stream's timer has it sent again.
                Ok(0) | Err(_) => return self.link.sent(length),
            }
        }
    }
}

/// Gives `take` what comes in by `port`, until its line ends or `take` says false.
pub fn attend(mut line: UnixStream, port: &Port, mut take: impl FnMut(&[u8]) -> bool) {
    // A line whose timeout cannot be set is none.
    let mut is_open = line.set_read_timeout(Some(GLANCE)).is_ok();
    let mut bytes = [0; 16 * 1024];
    while is_open {
        let count = match line.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => break,
        };
        let read = port.arrived(&bytes[..count]);
        is_open = read.is_empty() || take(&read);
    }
    port.close();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    /// A guest's end that forgets some of what comes in, and then says so.
    fn echo_to_the_end(mut line: UnixStream, length: usize) {
        let mut link = Link::new(Side::Guest, PATIENCE, vec![0; 1000], vec![0; 1000]);
        let (mut echoed, mut lines) = (0, 0);
        while echoed < length {
            while let bytes @ [_, ..] = link.to_send(0) {
                let count = bytes.len();
                line.write_all(bytes).expect("sent");
                link.sent(count);
            }
            let mut bytes = [0; 500];
            let count = line.read(&mut bytes).expect("more");
            lines += 1;
            if lines % 7 == 0 {
                link.resume();
                continue;
            }
            link.arrived(0, &bytes[..count]);
            let mut read = [0; 1000];
            let room = link.stream().room();
            let count = link.stream().read(&mut read[..room]);
            echoed += link.stream().write(&read[..count]);
        }
        while let bytes @ [_, ..] = link.to_send(0) {
            let count = bytes.len();
            line.write_all(bytes).expect("sent");
            link.sent(count);
        }
    }

    #[test]
    fn what_is_written_comes_back_from_a_guest_that_loses_some_of_it() {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let port = Arc::new(Port::new(&ours).expect("a port"));
        let text: Vec<u8> = (0..200_000u32).map(|at| (at / 3) as u8).collect();
        let length = text.len();
        let guest = thread::spawn(move || echo_to_the_end(theirs, length));
        let writer = thread::spawn({
            let (port, text) = (Arc::clone(&port), text.clone());
            move || port.write(&text)
        });
        let mut come = Vec::new();
        attend(ours, &port, |bytes| {
            come.extend_from_slice(bytes);
            come.len() < length
        });
        guest.join().expect("it has echoed everything");
        assert!(writer.join().expect("written") && come == text);
    }

    #[test]
    fn who_writes_to_a_guest_that_is_gone_is_told() {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let port = Arc::new(Port::new(&ours).expect("a port"));
        let writer = thread::spawn({
            let port = Arc::clone(&port);
            move || port.write(&vec![0; 2 * ON_THE_WAY])
        });
        drop(theirs);
        attend(ours, &port, |_| true);
        assert!(!writer.join().expect("it ends"));
        assert!(!port.write_at_once(b"more"));
    }
}
