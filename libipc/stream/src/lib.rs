//! The client's side of a channel that carries bytes (`proto::stream`): a serial line, a port of a console.
//!
//! When the server begins another life, the rings are new ([`Update::Begun`]): what was written and not taken is gone.
//! Who must lose nothing has kept it and sends it again; `net::wire` has a stream that does, and its frames go over
//! such a line.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use channel::{End, Protocol, Role, Server, Step, Wrong};
use proto::stream::properties::{FLAGS, OPEN};
use proto::stream::{IN, OUT};
use ring::index::{Role as RingRole, clear};
use ring::stream::{Reader, Writer};
use ring::{Begin, Corrupt, TooSmall};

pub use channel::Update;

/// The client.
#[derive(Debug)]
pub struct Client<'m> {
    end: End<'m>,
    memory: &'m [AtomicU64],
    rings: Option<Rings<'m>>,
}

#[derive(Debug)]
struct Rings<'m> {
    out: Writer<'m>,
    inc: Reader<'m>,
}

impl<'m> Client<'m> {
    /// The client in life `own` of its component, by its `rings` Frame.
    pub fn new(rings: &'m [AtomicU64], own: u32) -> Result<Client<'m>, TooSmall> {
        if rings.len() < IN.end {
            return Err(TooSmall);
        }
        let end = End::new(rings.first_chunk().ok_or(TooSmall)?, Role::Client, own);
        Ok(Client { end, memory: rings, rings: None })
    }

    /// Looks whether the server, which is in life `peer`, is the one that this side knows. To be called at each bell
    /// of the channel or of changed lives, and when a ring was found [`Corrupt`]: if it finds nothing new then, init
    /// is to hear of it.
    pub fn update(&mut self, peer: u32) -> Update {
        match self.end.update(peer) {
            Step::Reset => {
                self.rings = None;
                clear(&self.memory[OUT], RingRole::Producer);
                clear(&self.memory[IN], RingRole::Consumer);
                self.end.joined();
                // The server may have been waiting for just this.
                match self.end.update(peer) {
                    Step::Begin => self.begin(),
                    _ => Update::Apart,
                }
            }
            Step::Begin => self.begin(),
            Step::Wait | Step::Together => Update::Same,
        }
    }

    fn begin(&mut self) -> Update {
        let rings = || -> Result<Rings<'m>, TooSmall> {
            Ok(Rings {
                out: Writer::new(&self.memory[OUT], Begin::New)?,
                inc: Reader::new(&self.memory[IN], Begin::New)?,
            })
        };
        // `new` has seen that the memory is large enough.
        self.rings = rings().ok();
        Update::Begun
    }

    /// There is a server.
    pub fn is_together(&self) -> bool {
        self.rings.is_some()
    }

    /// There is a server, and somebody at the other end of the line.
    pub fn is_open(&self) -> bool {
        self.rings.is_some() && self.end.properties()[FLAGS].load(Ordering::Relaxed) & OPEN != 0
    }

    /// Writes as many bytes as there is room for; none while there is no server. The server sees them at the next
    /// [`Self::flush`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Corrupt> {
        self.watch(|rings| rings.out.write(bytes))
    }

    /// The server is there, and its device has taken everything that was written.
    pub fn is_taken(&mut self) -> Result<bool, Corrupt> {
        let none = self.rings.is_none();
        Ok(!none && self.watch(|rings| rings.out.is_empty())?)
    }

    /// Reads as many bytes as there are.
    pub fn read(&mut self, to: &mut [u8]) -> Result<usize, Corrupt> {
        self.watch(|rings| rings.inc.read(to))
    }

    /// Shows the server what was written and read. True: ring its bell.
    pub fn flush(&mut self) -> bool {
        self.rings.as_mut().is_some_and(|rings| {
            let written = rings.out.publish();
            rings.inc.publish() || written
        })
    }

    /// True: there is nothing to read (and, if `for_room`, no room to write), and the server rings when there is.
    pub fn sleep(&mut self, for_room: bool) -> Result<bool, Corrupt> {
        let none = self.rings.is_none();
        let asleep = self.watch(|rings| Ok(rings.inc.sleep()? && (!for_room || rings.out.sleep()?)))?;
        Ok(none || asleep)
    }

    /// Lets `act` use the rings; not ever again in this pairing if it finds one corrupt.
    fn watch<R: Default>(
        &mut self,
        act: impl FnOnce(&mut Rings<'m>) -> Result<R, Corrupt>,
    ) -> Result<R, Corrupt> {
        let Some(rings) = &mut self.rings else { return Ok(R::default()) };
        let result = act(rings);
        if result.is_err() {
            self.rings = None;
        }
        result
    }
}

impl Protocol for Client<'_> {
    fn meet(&mut self, server: Server) -> Result<Update, Wrong> {
        Ok(self.update(server.life))
    }

    fn flush(&mut self) -> Result<bool, Wrong> {
        Ok(Client::flush(self))
    }
}

#[cfg(test)]
mod tests {
    use proto::channel::{SERVER, pairing};
    use proto::stream::RINGS_BITS;

    use super::*;

    fn memory() -> Vec<AtomicU64> {
        (0..(1 << RINGS_BITS) / 8).map(|_| AtomicU64::new(0)).collect()
    }

    /// The server's sides, of its life `life`, ready for a client in its first.
    fn serve(memory: &[AtomicU64], life: u32) -> (Reader<'_>, Writer<'_>) {
        clear(&memory[OUT], RingRole::Consumer);
        clear(&memory[IN], RingRole::Producer);
        memory[FLAGS].store(OPEN, Ordering::Relaxed);
        memory[SERVER].store(pairing(1, life), Ordering::Relaxed);
        let reader = Reader::new(&memory[OUT], Begin::New).expect("large enough");
        (reader, Writer::new(&memory[IN], Begin::New).expect("large enough"))
    }

    #[test]
    fn bytes_go_both_ways() {
        let memory = memory();
        let mut client = Client::new(&memory, 1).expect("large enough");
        assert_eq!(client.write(b"nobody is there"), Ok(0));
        assert_eq!(client.sleep(true), Ok(true));
        assert_eq!(client.update(1), Update::Apart);
        let (mut out, mut inc) = serve(&memory, 1);
        assert!(!client.is_open());
        assert_eq!(client.update(1), Update::Begun);
        assert!(client.is_open());
        assert_eq!(client.write(b"hello"), Ok(5));
        assert!(client.flush());
        let mut place = [0; 9];
        assert_eq!(client.is_taken(), Ok(false));
        assert_eq!(out.read(&mut place), Ok(5));
        assert_eq!(client.is_taken(), Ok(false));
        let _ = out.publish();
        assert_eq!(client.is_taken(), Ok(true));
        assert_eq!(client.sleep(false), Ok(true));
        assert_eq!(inc.write(b"and back"), Ok(8));
        assert!(inc.publish());
        assert_eq!(client.sleep(false), Ok(false));
        assert_eq!(client.read(&mut place), Ok(8));
        assert_eq!(&place[..8], b"and back");
    }

    #[test]
    fn a_corrupt_server_is_not_used_again_but_its_successor_is() {
        let memory = memory();
        let mut client = Client::new(&memory, 1).expect("large enough");
        client.update(1);
        serve(&memory, 1);
        assert_eq!(client.update(1), Update::Begun);
        memory[IN.start].store(1 << 40, Ordering::Relaxed);
        assert_eq!(client.read(&mut [0; 4]), Err(Corrupt));
        assert!(!client.is_together() && !client.is_open());
        assert_eq!(client.update(1), Update::Same);
        assert_eq!(client.read(&mut [0; 4]), Ok(0));
        assert_eq!(client.update(2), Update::Apart);
        let (mut out, _) = serve(&memory, 2);
        assert_eq!(client.update(2), Update::Begun);
        assert_eq!(client.write(b"again"), Ok(5));
        client.flush();
        assert_eq!(out.read(&mut [0; 9]), Ok(5));
    }

    #[test]
    fn memory_too_small_for_the_rings_is_refused() {
        let memory = memory();
        assert!(Client::new(&memory[..IN.end - 1], 1).is_err());
    }
}
