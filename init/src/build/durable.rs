//! What outlives components: endpoints, bells, channels, state, durable memory, and the pages by which init and
//! components keep an eye on each other (`proto::life`).
//!
//! All of it is made once, at boot, and stays init's; a component has derived capabilities, which go with each of its
//! lives and are the same again in the next.

extern crate alloc;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::object::PAGE_SIZE;
use abi::{CPtr, Kind, Rights};
use ipc::Untyped;
use proto::life::{bell, lives};
use rt::alloc::AllocError;
use rt::memory;

use crate::build::wiring::{Wire, wires};
use crate::machine::CNODE;
use crate::manifest::{Entry, INIT, Manifest};

/// Everything that outlives components.
#[derive(Debug)]
pub struct Durable {
    served: Vec<(&'static str, CPtr)>,
    reserves: Vec<Reserve>,
    kept: Vec<Option<Kept>>,
    channels: Vec<Channel>,
    /// The page with the lives of all.
    pub lives: Page,
}

/// log2 of the bytes of a page.
const PAGE_BITS: u32 = PAGE_SIZE.ilog2();

/// A page, or several, that init shares with components.
#[derive(Debug)]
pub struct Page {
    /// Its Frame.
    pub frame: CPtr,
    words: &'static [AtomicU64],
}

/// What a supervised component has beside its channels.
#[derive(Debug)]
pub struct Kept {
    /// Its bell.
    pub bell: CPtr,
    /// The same, to signal [`bell::ORDERS`] and [`bell::LIVES`].
    told: [CPtr; 2],
    /// init's orders to it.
    pub orders: Page,
    /// What it shows of itself.
    pub status: Page,
    /// Its state: the Frame, and log2 of its bytes.
    pub state: Option<(CPtr, u32)>,
}

#[derive(Debug)]
struct Channel {
    wire: Wire<'static>,
    rings: CPtr,
    data: CPtr,
}

/// One end of a channel.
#[derive(Debug)]
pub struct End {
    /// The channel.
    pub wire: Wire<'static>,
    /// Whether it is the client's.
    pub is_client: bool,
    /// The bit of this end's bell.
    pub bit: u8,
    /// The Frame with the rings.
    pub rings: CPtr,
    /// The Frame with the data.
    pub data: CPtr,
    /// The place of the component at the other end.
    pub peer: usize,
    /// That one's bell.
    pub peer_bell: CPtr,
    /// The bit of it to ring.
    pub peer_bit: u8,
}

/// Durable memory of a component.
#[derive(Debug)]
struct Reserve {
    component: &'static str,
    /// The memory itself.
    root: CPtr,
    /// The Untyped made of it that the component has while it runs; here while it does not.
    untyped: CPtr,
    bits: u32,
}

impl Durable {
    /// Makes what the manifest names; init's own bell is there.
    pub fn make(manifest: &Manifest<'static>, own_bell: CPtr) -> Result<Durable, AllocError> {
        let mut durable = Durable {
            served: Vec::new(),
            reserves: Vec::new(),
            kept: Vec::new(),
            channels: Vec::new(),
            lives: Page::make(PAGE_BITS)?,
        };
        for entry in &manifest.components {
            durable.add(entry, own_bell)?;
        }
        for wire in wires(manifest) {
            let [rings, data] = [wire.rings, wire.data].map(|bits| memory::make(Kind::Frame, bits));
            durable.channels.push(Channel { wire, rings: rings?, data: data? });
        }
        if let Some(place) = manifest.place(INIT) {
            durable.set_life(place, 1);
        }
        Ok(durable)
    }

    fn add(&mut self, entry: &Entry<'static>, own_bell: CPtr) -> Result<(), AllocError> {
        for &name in &entry.serves {
            self.served.push((name, memory::make(Kind::Endpoint, 0)?));
        }
        if let Some(bits) = entry.durable {
            let [root, untyped] =
                memory::with(|objects| Ok([objects.take_memory(bits)?, objects.take_slot()?]))?;
            self.reserves.push(Reserve { component: entry.name, root, untyped, bits });
        }
        let state = match entry.state {
            Some(bits) => Some((memory::make(Kind::Frame, bits)?, bits)),
            None => None,
        };
        let kept = if entry.is_supervised() {
            let bell = if entry.name == INIT { own_bell } else { memory::make(Kind::Notification, 0)? };
            Some(Kept::make(bell, state)?)
        } else {
            None
        };
        self.kept.push(kept);
        Ok(())
    }

    /// Endpoints by the names that the manifest gives them.
    pub fn served(&self) -> &[(&'static str, CPtr)] {
        &self.served
    }

    /// What the component at `place` keeps, if it is supervised.
    pub fn kept(&self, place: usize) -> Option<&Kept> {
        self.kept.get(place)?.as_ref()
    }

    /// The ends of channels of the component at `place`.
    pub fn ends(&self, place: usize) -> impl Iterator<Item = End> {
        self.channels.iter().filter_map(move |channel| {
            let Channel { wire, rings, data } = *channel;
            let peer = wire.peer(place)?;
            let is_client = place == wire.client;
            let (bit, peer_bit) = match is_client {
                true => (wire.client_bit, wire.server_bit),
                false => (wire.server_bit, wire.client_bit),
            };
            let peer_bell = self.kept(peer)?.bell;
            Some(End { wire, is_client, bit, rings, data, peer, peer_bell, peer_bit })
        })
    }

    /// The durable Untyped of a component, ready to be given to it.
    pub fn untyped_of(&self, component: &str) -> Result<Option<CPtr>, AllocError> {
        let Some(reserve) = self.reserves.iter().find(|reserve| reserve.component == component) else {
            return Ok(None);
        };
        if CNODE.describe(u64::from(reserve.untyped.0))?.kind == Kind::Null {
            // Never made yet, or the component's last life did not leave it where it was given it.
            CNODE.revoke(u64::from(reserve.root.0))?;
            let (bits, slot) = (u64::from(reserve.bits), u64::from(reserve.untyped.0));
            Untyped(reserve.root).retype(Kind::Untyped, bits, CNODE.0, slot, 1)?;
        }
        Ok(Some(reserve.untyped))
    }

    /// Which life the component at `place` is in, 0 if it has begun none.
    pub fn life(&self, place: usize) -> u64 {
        self.lives.read(place * lives::STRIDE + lives::LIFE)
    }

    /// The word that [`Self::life`] reads.
    pub fn life_word(&self, place: usize) -> &'static AtomicU64 {
        &self.lives.words[place * lives::STRIDE + lives::LIFE]
    }

    /// Lets the component at `place` be in life `life`.
    pub fn set_life(&self, place: usize, life: u64) {
        self.lives.write(place * lives::STRIDE + lives::LIFE, life);
    }

    /// How many lives of the component at `place` have ended by its own fault.
    pub fn faults(&self, place: usize) -> u64 {
        self.lives.read(place * lives::STRIDE + lives::FAULTS)
    }

    /// Counts a life of the component at `place` that has ended by its own fault.
    pub fn count_fault(&self, place: usize) {
        self.lives.write(place * lives::STRIDE + lives::FAULTS, self.faults(place) + 1);
    }

    /// How often the state of the component at `place` was emptied.
    pub fn emptied(&self, place: usize) -> u64 {
        self.lives.read(place * lives::STRIDE + lives::EMPTIED)
    }

    /// Counts an emptying of the state of the component at `place`, which makes it another client of the servers it calls
    /// ([`proto::principal`]).
    pub fn count_emptied(&self, place: usize) {
        self.lives.write(place * lives::STRIDE + lives::EMPTIED, self.emptied(place) + 1);
    }
}

impl Kept {
    fn make(bell: CPtr, state: Option<(CPtr, u32)>) -> Result<Kept, AllocError> {
        let told = [badged(bell, bell::ORDERS)?, badged(bell, bell::LIVES)?];
        Ok(Kept { bell, told, orders: Page::make(PAGE_BITS)?, status: Page::make(PAGE_BITS)?, state })
    }

    /// Tells the component that its orders have changed.
    pub fn tell_orders(&self) {
        // init made the bell and its right to signal it.
        let _ = ipc::signal(self.told[0]);
    }

    /// Tells the component that the lives of others have changed.
    pub fn tell_lives(&self) {
        let _ = ipc::signal(self.told[1]);
    }
}

/// The right to signal `bit` of a bell, in a slot of init's.
pub fn badged(bell: CPtr, bit: u8) -> Result<CPtr, AllocError> {
    let slot = memory::with(|objects| objects.take_slot())?;
    match CNODE.mint(u64::from(slot.0), CNODE.0, u64::from(bell.0), Rights::WRITE, 1 << bit) {
        Ok(()) => Ok(slot),
        Err(error) => {
            memory::with(|objects| objects.return_slot(slot))?;
            Err(error.into())
        }
    }
}

impl Page {
    /// Makes one of 2^`bits` bytes.
    pub fn make(bits: u32) -> Result<Page, AllocError> {
        let frame = memory::make(Kind::Frame, bits)?;
        Ok(Page { frame, words: memory::map_words(frame, bits)? })
    }

    /// A word of it, whatever a component has made of it.
    pub fn read(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Acquire)
    }

    /// Writes a word.
    pub fn write(&self, word: usize, value: u64) {
        self.words[word].store(value, Ordering::Release);
    }

    /// Makes every word 0.
    pub fn clear(&self) {
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}
