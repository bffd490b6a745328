//! What the component was given: the start block.

use core::sync::atomic::{AtomicBool, Ordering};

use abi::CPtr;
use proto::start::{BLOCK, BLOCK_SIZE, Channel, Device, MAX_CHANNELS, Memory, Start};

use crate::lock::Mutex;
use crate::panic;

/// Set by init in its own program: there is no start block.
static ROOT: AtomicBool = AtomicBool::new(false);
static START: Mutex<Option<Start<'static>>> = Mutex::new(None);

/// From here on the program counts as init, which has no start block.
pub(crate) fn is_root() {
    ROOT.store(true, Ordering::Relaxed);
}

fn block() -> Start<'static> {
    if ROOT.load(Ordering::Relaxed) {
        panic::crash("init has no start block");
    }
    // SAFETY: init maps the block there, read-only, before it starts a component, and never unmaps it.
    let block = unsafe { &*(BLOCK as *const [u8; BLOCK_SIZE]) };
    match Start::read(block) {
        Ok(start) => start,
        Err(_) => panic::crash("the start block is not one of this version"),
    }
}

/// Lets `read` see the start block, which is decoded at the first use.
fn with<R>(read: impl FnOnce(&Start<'static>) -> R) -> R {
    read(START.lock().get_or_insert_with(block))
}

/// The component's name.
pub fn name() -> &'static str {
    with(|start| start.name)
}

/// The arguments, the program's name first.
pub fn arguments() -> impl Iterator<Item = &'static str> {
    with(|start| start.arguments())
}

/// The capability that goes by `name`, if the component was given one.
pub fn capability(name: &str) -> Option<CPtr> {
    with(|start| start.capability(name)).map(CPtr)
}

/// The capability that goes by `name`. Without it the program cannot do its work, and says so.
pub fn required(name: &str) -> CPtr {
    match capability(name) {
        Some(slot) => slot,
        None => panic!("the manifest gives this component no capability `{name}`"),
    }
}

/// The name that the capability in `slot` was given under.
pub fn name_of(slot: CPtr) -> Option<&'static str> {
    with(|start| start.capabilities.iter().find(|each| each.slot == slot.0).map(|each| each.name))
}

/// CPUs that run.
pub fn cpus() -> u32 {
    with(|start| start.cpus)
}

/// TSC ticks in a second.
pub fn tsc_hz() -> u64 {
    with(|start| start.tsc_hz)
}

/// log2 of the slots in the component's CSpace, and the first that init left empty.
pub fn slots() -> (u8, u32) {
    with(|start| (start.slot_bits, start.first_free))
}

/// The Untypeds that the component was given, and the one for the allocator's records. Who makes objects from
/// them past [`crate::memory`] must not use that module.
pub fn untypeds() -> (heapless::Vec<Memory, { proto::start::MAX_UNTYPEDS }>, Memory) {
    with(|start| (start.untypeds.clone(), start.records))
}

/// The component's place in the manifest, and in the pages of `proto::life`.
pub fn place() -> usize {
    with(|start| usize::from(start.place))
}

/// Which life of the component this is, from 1 on.
pub fn life() -> u32 {
    with(|start| start.life)
}

/// The Frame with the component's state, if the manifest gives it one: what it wrote there in its last life is there.
pub fn state() -> Option<Memory> {
    with(|start| start.state)
}

/// The component's ends of channels. [`crate::channel`] maps them.
pub fn channels() -> heapless::Vec<Channel<'static>, MAX_CHANNELS> {
    with(|start| start.channels.clone())
}

/// The device that the component drives, if it drives one.
pub fn device() -> Option<Device> {
    with(|start| start.device.clone())
}
