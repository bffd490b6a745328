//! `authority` walks the CSpace of every component that runs and compares each capability with what the manifest says:
//! 0 if nobody has more or less than that, 1 otherwise.
#![no_std]
#![no_main]

extern crate alloc;

mod expected;

use alloc::string::String;
use alloc::vec::Vec;

use init::build::wiring::{self, Wire};
use init::manifest::Manifest;
use proto::component::MAX_BYTES;
use proto::control::State;
use rt::control::{self, Held};
use rt::io::IoError;
use rt::life;

use expected::{Expected, Object, Told, of};

rt::entry!(main);

/// A component that runs: its place, log2 of its memory, what it holds.
struct Holder {
    place: usize,
    life: u64,
    memory_bits: u8,
    held: Vec<Held>,
}

fn main() -> Result<u8, String> {
    let text = manifest().map_err(refused)?;
    let manifest = Manifest::parse(&text).map_err(|complaint| alloc::format!("{complaint}"))?;
    let wires = wiring::wires(&manifest);
    let mut seen = Objects::default();
    let (mut complaints, mut components, mut capabilities) = (0, 0, 0);
    for place in 0..manifest.components.len() {
        let Some(holder) = holder(place).map_err(refused)? else { continue };
        components += 1;
        capabilities += holder.held.len();
        for complaint in compare(&holder, &manifest, &wires, &mut seen) {
            rt::eprintln!("authority: {}: {complaint}", manifest.components[place].name);
            complaints += 1;
        }
    }
    rt::println!(
        "{components} components hold {capabilities} capabilities; {complaints} are not as the manifest says"
    );
    Ok(u8::from(complaints != 0))
}

fn refused(error: IoError) -> String {
    alloc::format!("{error}")
}

fn manifest() -> Result<String, IoError> {
    let (mut text, mut bytes) = (Vec::new(), [0; MAX_BYTES]);
    loop {
        match control::manifest(text.len() as u64, &mut bytes)? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            length => text.extend_from_slice(&bytes[..length]),
        }
    }
}

fn holder(place: usize) -> Result<Option<Holder>, IoError> {
    let about = control::about(place as u64)?;
    let Some(about) = about.filter(|about| about.state == State::Runs) else { return Ok(None) };
    let (mut held, mut from) = (Vec::new(), 0);
    while let Some(capability) = control::capability(place as u64, from)? {
        from = capability.slot + 1;
        held.push(capability);
    }
    Ok(Some(Holder { place, life: about.life, memory_bits: about.memory_bits, held }))
}

/// Which kernel object stands for what the manifest names: the same for all who have it, and another for each.
#[derive(Default)]
struct Objects(Vec<(Object, u64)>);

impl Objects {
    /// What is wrong with this object standing for that, if something is.
    fn note(&mut self, object: &Object, identity: u64) -> Option<&'static str> {
        for (known, its) in &self.0 {
            match (known == object, *its == identity) {
                (true, true) => return None,
                (true, false) => return Some("is not the object that others know by this name"),
                (false, true) => return Some("is the object of another name, too"),
                (false, false) => {}
            }
        }
        self.0.push((object.clone(), identity));
        None
    }
}

impl Holder {
    /// Whether an object lies in the component's transient memory, where it may make what it likes.
    fn owns(&self, capability: &Held) -> bool {
        // The CNode is part of that memory, which lies at a multiple of its size.
        let cnode = self.held.iter().find(|each| each.name == "cnode").map(|each| each.identity);
        cnode.is_some_and(|cnode| {
            address(cnode) >> self.memory_bits == address(capability.identity) >> self.memory_bits
        })
    }
}

/// Where an object lies. (Identities of Frames and Untypeds have their size above.)
fn address(identity: u64) -> u64 {
    identity & ((1 << 56) - 1)
}

/// What is not as the manifest says.
fn compare(holder: &Holder, manifest: &Manifest, wires: &[Wire], seen: &mut Objects) -> Vec<String> {
    let mut complaints = Vec::new();
    let number = holder.held.iter().find(|each| each.name == "init").map_or(0, |each| each.badge);
    if manifest.components[holder.place].is_supervised() && number != holder.place as u64 + 1 {
        complaints.push(alloc::format!("init knows it by the number {number}"));
    }
    let (place, life) = (holder.place, holder.life);
    let mut expected = of(manifest, wires, &Told { place, number, life, emptied: life::emptied_of(place) });
    let mut granted: Vec<&Held> = Vec::new();
    for held in &holder.held {
        match expected.iter().position(|each| each.is(held)) {
            Some(at) => {
                // In order: equal ones are given in the order of the manifest.
                let found = expected.remove(at);
                if let Some(wrong) = found.object.and_then(|object| seen.note(&object, held.identity)) {
                    complaints.push(alloc::format!("{} {wrong}", described(held)));
                }
                granted.push(held);
            }
            None if holder.owns(held) || granted.iter().any(|granted| is_part_of(held, granted)) => {}
            None => complaints.push(alloc::format!("it must not hold {}", described(held))),
        }
    }
    let missing = expected.iter().filter(|each| !each.may_be_missing);
    complaints.extend(missing.map(|each| alloc::format!("it lacks {each}")));
    complaints
}

/// Whether a capability could have been derived from another.
fn is_part_of(held: &Held, granted: &Held) -> bool {
    (held.kind, held.identity) == (granted.kind, granted.identity)
        && held.rights & !granted.rights == 0
        && (held.badge == granted.badge || granted.badge == 0)
}

fn described(held: &Held) -> String {
    let kind = abi::Kind::from_word(held.kind).map_or("?", abi::Kind::name);
    alloc::format!(
        "{kind} `{}` in slot {}: rights {:#x}, bits {}, badge {:#x}, identity {:#x}",
        held.name,
        held.slot,
        held.rights,
        held.bits,
        held.badge,
        held.identity
    )
}

impl Expected {
    /// Whether a capability is this one.
    fn is(&self, held: &Held) -> bool {
        self.kind as u64 == held.kind
            && self.name.as_str() == held.name.as_str()
            && u64::from(self.rights.0) == held.rights
            && self.badge == held.badge
            && self.bits.is_none_or(|bits| u64::from(bits) == held.bits)
    }
}
