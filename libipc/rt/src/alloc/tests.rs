use std::collections::BTreeMap;
use std::vec::Vec;

use abi::object::object_bits;
use abi::{CPtr, Error, Kind};
use proptest::prelude::*;

use super::{AllocError, Kernel, Objects, Record};

/// An object as the model kernel has it.
#[derive(Clone, Copy, Debug)]
struct Object {
    kind: Kind,
    bits: u32,
    address: u64,
    used: u64,
    parent: u32,
}

/// A kernel that knows slots and Untypeds, and refuses what the real one would.
#[derive(Debug, Default)]
struct Model {
    slots: BTreeMap<u32, Object>,
    calls_until_refusal: Option<u32>,
}

impl Model {
    fn refuses(&mut self) -> bool {
        match &mut self.calls_until_refusal {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn remove_made_from(&mut self, parent: u32) {
        let made: Vec<u32> =
            self.slots.iter().filter(|(_, each)| each.parent == parent).map(|(&slot, _)| slot).collect();
        for slot in made {
            self.remove_made_from(slot);
            self.slots.remove(&slot);
        }
    }
}

impl Kernel for &mut Model {
    fn retype(&mut self, untyped: u32, kind: Kind, bits: u32, slot: u32) -> Result<(), Error> {
        if self.refuses() {
            return Err(Error::OutOfMemory);
        }
        let size = object_bits(kind, bits).expect("the allocator asks for objects that exist");
        assert!(!self.slots.contains_key(&slot), "slot {slot} is occupied");
        let from = self.slots.get_mut(&untyped).expect("an Untyped");
        assert_eq!(from.kind, Kind::Untyped);
        let at = from.used.next_multiple_of(1 << size);
        assert!(at + (1 << size) <= 1 << from.bits, "no room left in {untyped}");
        from.used = at + (1 << size);
        let address = from.address + at;
        let bits = if kind == Kind::Untyped { bits } else { size };
        self.slots.insert(slot, Object { kind, bits, address, used: 0, parent: untyped });
        Ok(())
    }

    fn revoke(&mut self, untyped: u32) -> Result<(), Error> {
        self.remove_made_from(untyped);
        self.slots.get_mut(&untyped).expect("an Untyped").used = 0;
        Ok(())
    }
}

const SLOTS: usize = 256;
const ROOTS: [(u32, u32); 2] = [(8, 16), (9, 14)];

fn with_memory() -> Model {
    let mut model = Model::default();
    for (slot, bits) in ROOTS {
        let address = u64::from(slot) << 32;
        model.slots.insert(slot, Object { kind: Kind::Untyped, bits, address, used: 0, parent: 0 });
    }
    model
}

fn objects<'r>(model: &'r mut Model, records: &'r mut [Record]) -> Objects<'r, &'r mut Model> {
    let mut objects = Objects::new(model, records);
    for (slot, bits) in ROOTS {
        objects.add_memory(slot, bits).expect("new");
    }
    objects.add_slots(16);
    objects
}

#[test]
fn an_object_takes_its_size_and_gives_everything_back() {
    let (mut model, mut records) = (with_memory(), [Record::FOREIGN; SLOTS]);
    let mut objects = objects(&mut model, &mut records);
    let before = (objects.free_bytes(), objects.free_slots());
    assert_eq!(before, ((1 << 16) + (1 << 14), 240));
    let tcb = objects.make(Kind::Tcb, 0).expect("room");
    assert_eq!(objects.free_bytes(), before.0 - 2048);
    objects.destroy(tcb).expect("made here");
    assert_eq!((objects.free_bytes(), objects.free_slots()), before);
    assert_eq!(objects.largest(), Some(16));
    assert_eq!(model.slots.len(), ROOTS.len());
}

#[test]
fn what_was_not_allocated_is_not_taken_back() {
    let (mut model, mut records) = (with_memory(), [Record::FOREIGN; SLOTS]);
    let mut objects = objects(&mut model, &mut records);
    let endpoint = objects.make(Kind::Endpoint, 0).expect("room");
    let slot = objects.take_slot().expect("room");
    for wrong in [CPtr(0), CPtr(2), CPtr(8), slot, CPtr(u32::MAX)] {
        assert_eq!(objects.destroy(wrong), Err(AllocError::NotAllocated));
        assert_eq!(objects.return_memory(wrong), Err(AllocError::NotAllocated));
    }
    assert_eq!(objects.return_slot(endpoint), Err(AllocError::NotAllocated));
    objects.destroy(endpoint).expect("made here");
    assert_eq!(objects.destroy(endpoint), Err(AllocError::NotAllocated));
    assert_eq!(objects.make(Kind::IrqHandler, 0), Err(AllocError::NoSuchObject));
    assert_eq!(objects.add_memory(8, 16), Err(AllocError::NotAllocated));
}

#[test]
fn when_memory_ends_the_rest_stays_usable() {
    let (mut model, mut records) = (with_memory(), [Record::FOREIGN; SLOTS]);
    let mut objects = objects(&mut model, &mut records);
    let frames: Vec<_> = core::iter::from_fn(|| objects.make(Kind::Frame, 12).ok()).collect();
    assert_eq!(frames.len(), 20);
    assert_eq!(objects.make(Kind::Endpoint, 0), Err(AllocError::NoMemory));
    objects.destroy(frames[3]).expect("made here");
    objects.make(Kind::Endpoint, 0).expect("room again");
}

/// One step of the property test.
#[derive(Clone, Debug)]
enum Step {
    Make(Kind, u32),
    TakeMemory(u32),
    TakeSlot,
    /// Gives back one of what is held, counted round.
    GiveBack(usize),
    /// Lets the kernel refuse after so many calls.
    Refuse(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (prop_oneof![
            Just(Kind::Endpoint), Just(Kind::Tcb), Just(Kind::Frame), Just(Kind::SchedContext), Just(Kind::CNode)
        ], 0..14u32).prop_map(|(kind, bits)| Step::Make(kind, bits)),
        2 => (4..18u32).prop_map(Step::TakeMemory),
        1 => Just(Step::TakeSlot),
        5 => any::<usize>().prop_map(Step::GiveBack),
        1 => (0..8u32).prop_map(Step::Refuse),
    ]
}

/// What the test holds.
#[derive(Clone, Copy, Debug)]
enum Held {
    Object(CPtr),
    Memory(CPtr),
    Slot(CPtr),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_taken_is_apart_and_comes_back(steps in proptest::collection::vec(step(), 1..120)) {
        let (mut model, mut records) = (with_memory(), [Record::FOREIGN; SLOTS]);
        let mut objects = objects(&mut model, &mut records);
        let before = (objects.free_bytes(), objects.free_slots());
        let mut held = Vec::new();
        for step in steps {
            objects.kernel.calls_until_refusal = None;
            match step {
                Step::Make(kind, bits) => held.extend(objects.make(kind, bits).ok().map(Held::Object)),
                Step::TakeMemory(bits) => held.extend(objects.take_memory(bits).ok().map(Held::Memory)),
                Step::TakeSlot => held.extend(objects.take_slot().ok().map(Held::Slot)),
                Step::GiveBack(_) if held.is_empty() => {}
                Step::GiveBack(which) => {
                    let which = which % held.len();
                    give_back(&mut objects, held.swap_remove(which));
                }
                Step::Refuse(calls) => {
                    objects.kernel.calls_until_refusal = Some(calls);
                    held.extend(objects.make(Kind::Endpoint, 0).ok().map(Held::Object));
                }
            }
            are_apart(&objects, &held);
        }
        for each in held {
            give_back(&mut objects, each);
        }
        prop_assert_eq!((objects.free_bytes(), objects.free_slots()), before);
        prop_assert_eq!(model.slots.len(), ROOTS.len());
    }
}

fn give_back(objects: &mut Objects<&mut Model>, held: Held) {
    match held {
        Held::Object(slot) => objects.destroy(slot),
        Held::Memory(slot) => objects.return_memory(slot),
        Held::Slot(slot) => objects.return_slot(slot),
    }
    .expect("it was taken here");
}

/// What is held overlaps nowhere, exists in the model kernel, and together with what is free makes up all.
fn are_apart(objects: &Objects<&mut Model>, held: &[Held]) {
    let mut ranges: Vec<(u64, u64)> = held
        .iter()
        .filter_map(|each| match each {
            Held::Object(slot) | Held::Memory(slot) => Some(objects.kernel.slots[&slot.0]),
            Held::Slot(slot) => {
                assert!(!objects.kernel.slots.contains_key(&slot.0));
                None
            }
        })
        .map(|object| (object.address, object.address + (1 << object.bits)))
        .collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ranges:?}");
    let taken: u64 = ranges.iter().map(|(from, to)| to - from).sum();
    let all: u64 = ROOTS.iter().map(|(_, bits)| 1 << bits).sum();
    assert_eq!(objects.free_bytes() + taken, all);
}
