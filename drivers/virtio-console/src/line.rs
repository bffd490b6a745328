//! The server's end of a client's channel (`proto::stream`).

use core::sync::atomic::{AtomicU64, Ordering};

use channel::{End, Role, Step};
use proto::stream::properties::{FLAGS, OPEN};
use proto::stream::{IN, OUT};
use ring::index::{Role as RingRole, clear};
use ring::stream::{Reader, Writer};
use ring::{Begin, Corrupt, TooSmall};

/// The end.
#[derive(Debug)]
pub struct Line<'m> {
    name: &'m str,
    end: End<'m>,
    memory: &'m [AtomicU64],
    rings: Option<Rings<'m>>,
    /// Which pairing this is.
    pairing: u64,
    /// Bytes of the client that the device has, of this pairing.
    sending: Option<u64>,
    open: bool,
}

#[derive(Debug)]
struct Rings<'m> {
    out: Reader<'m>,
    inc: Writer<'m>,
}

impl<'m> Line<'m> {
    /// The end of a driver in its life `own`, for the port called `name`, by its `rings` Frame.
    pub fn new(name: &'m str, rings: &'m [AtomicU64], own: u32) -> Result<Line<'m>, TooSmall> {
        if rings.len() < IN.end {
            return Err(TooSmall);
        }
        Ok(Line {
            name,
            end: End::new(rings.first_chunk().ok_or(TooSmall)?, Role::Server, own),
            memory: rings,
            rings: None,
            pairing: 0,
            sending: None,
            open: false,
        })
    }

    /// The port's name.
    pub fn name(&self) -> &'m str {
        self.name
    }

    /// Meets the client, which is in life `peer`, whichever that is. True: ring its bell.
    pub fn meet(&mut self, peer: u32) -> bool {
        let mut step = self.end.update(peer);
        let reset = step == Step::Reset;
        if reset {
            self.rings = None;
            clear(&self.memory[OUT], RingRole::Consumer);
            clear(&self.memory[IN], RingRole::Producer);
            self.show();
            self.end.joined();
            // The client may have been waiting for just this.
            step = self.end.update(peer);
        }
        if step == Step::Begin {
            self.begin();
        }
        reset
    }

    fn begin(&mut self) {
        let rings = || -> Result<Rings<'m>, TooSmall> {
            Ok(Rings {
                out: Reader::new(&self.memory[OUT], Begin::New)?,
                inc: Writer::new(&self.memory[IN], Begin::New)?,
            })
        };
        // `new` has seen that the memory is large enough.
        self.rings = rings().ok();
        self.pairing += 1;
    }

    /// Says whether somebody is at the other end. True: that is news, ring the client's bell.
    pub fn set_open(&mut self, open: bool) -> bool {
        let news = self.open != open;
        self.open = open;
        self.show();
        news
    }

    fn show(&self) {
        self.memory[FLAGS].store(if self.open { OPEN } else { 0 }, Ordering::Relaxed);
    }

    /// The client's life that was met last.
    pub fn life(&self) -> u32 {
        self.end.peer()
    }

    /// The client is there, and makes sense.
    pub fn is_together(&self) -> bool {
        self.rings.is_some()
    }

    /// The client makes no sense: it is not listened to any more in this life of its.
    pub fn break_off(&mut self) {
        self.rings = None;
    }

    /// Copies the next bytes to go out, without taking them: they are the client's until [`Self::sent`].
    pub fn to_send<'t>(&mut self, to: &'t mut [u8]) -> Result<&'t [u8], Corrupt> {
        let Some(rings) = &mut self.rings else { return Ok(&[]) };
        let count = rings.out.peek(0, to)?;
        if count > 0 {
            self.sending = Some(self.pairing);
        }
        Ok(&to[..count])
    }

    /// The device has taken so many bytes, which [`Self::to_send`] gave. Those of another pairing are nobody's.
    pub fn sent(&mut self, count: u32) {
        if self.sending.take() == Some(self.pairing)
            && let Some(rings) = &mut self.rings
        {
            rings.out.skip(count.into());
        }
    }

    /// Passes on bytes that have come in: how many there was room for.
    pub fn pass_on(&mut self, bytes: &[u8]) -> Result<usize, Corrupt> {
        self.rings.as_mut().map_or(Ok(0), |rings| rings.inc.write(bytes))
    }

    /// Shows the client how far this side is. True: ring its bell.
    pub fn publish(&mut self) -> bool {
        self.rings.as_mut().is_some_and(|rings| {
            let taken = rings.out.publish();
            rings.inc.publish() || taken
        })
    }

    /// Asks to be rung for bytes to go out. True: there are none yet.
    pub fn sleep_to_send(&mut self) -> Result<bool, Corrupt> {
        self.rings.as_mut().map_or(Ok(true), |rings| rings.out.sleep())
    }

    /// Asks to be rung when there is room for bytes that have come in. True: there is none yet.
    pub fn sleep_for_room(&mut self) -> Result<bool, Corrupt> {
        self.rings.as_mut().map_or(Ok(true), |rings| rings.inc.sleep())
    }
}
