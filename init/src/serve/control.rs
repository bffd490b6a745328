//! What operators' programs ask of init (`proto::control`): what runs and how it fares, and to kill and restart it.
//!
//! All but what a component asks about itself or its peers takes the right `supervise`.

extern crate alloc;

use abi::boot::slots;
use abi::object::FIRST_SLOT;
use abi::{CPtr, Error, Kind};
use ipc::{Message, System};
use proto::component::{MAX_BYTES, OK, Refusal};
use proto::control::{Request, State, about};
use proto::host;
use proto::life::{Injection, bell, status};

use super::Init;
use super::requests::{Asked, refused};
use crate::build::symbols;
use crate::manifest::{ANY, Budget, INIT, Right};
use crate::registry::records::Crash;
use crate::system::Disbelieved;

impl Init {
    /// Answers a request of this protocol, of the component with this number.
    pub fn control(&mut self, number: u64, request: &Asked) -> Option<Message> {
        let what = Request::from_message(request.label, &request.words);
        let answer = match what {
            Some(Request::KillMe {}) => {
                self.system.kill(number as u32);
                return None;
            }
            Some(Request::Report { place, what }) => self.take_report(number, place, what),
            None => Err(Refusal::Malformed),
            Some(_) if !self.holds(number, Right::Supervise) => Err(Refusal::NotAllowed),
            Some(what) => self.supervise(number, what, &request.bytes),
        };
        Some(answer.unwrap_or_else(refused))
    }

    fn supervise(&mut self, number: u64, what: Request, bytes: &[u8]) -> Result<Message, Refusal> {
        match what {
            Request::Find { length } => self.find(length, bytes),
            Request::About { place } => self.about(self.place(place)?),
            Request::Kill { place } => self.kill_at(self.place(place)?),
            Request::Inject { place, what, at_message, counts } => {
                self.order_injection(self.place(place)?, what, at_message, counts)
            }
            Request::Restart { place } => self.restart(self.place(place)?),
            Request::CrashRecord { number } => self.crash_record(number),
            Request::CrashLog { number, from } => self.crash_log(number, from),
            Request::Capability { place, from } => self.capability(self.place(place)?, from),
            Request::Manifest { from } => self.manifest_from(from),
            Request::Recovery { place, ago } => self.recovery(self.place(place)?, ago),
            Request::Watch { bit } => self.watch(number, bit),
            Request::Symbol { number, address } => self.symbol(number, address),
            Request::Log { from } => Ok(self.log_from(from)),
            Request::Trace { events } => self.trace(number, events),
            Request::Reset { place } => self.reset(self.place(place)?),
            // Answered before.
            Request::Report { .. } | Request::KillMe {} => Err(Refusal::Malformed),
        }
    }

    /// The place that a request names.
    fn place(&self, place: u64) -> Result<usize, Refusal> {
        let place = usize::try_from(place).map_err(|_| Refusal::Unknown)?;
        if place < self.system.manifest().components.len() { Ok(place) } else { Err(Refusal::Unknown) }
    }

    fn find(&self, length: u64, bytes: &[u8]) -> Result<Message, Refusal> {
        let length = usize::try_from(length).map_err(|_| Refusal::Malformed)?;
        let name = bytes.get(..length).ok_or(Refusal::Malformed)?;
        let name = core::str::from_utf8(name).map_err(|_| Refusal::Unknown)?;
        // init has a place only as a client of channels: there is nothing to be done to it.
        let place = self.system.manifest().place(name).filter(|_| name != INIT).ok_or(Refusal::Unknown)?;
        Ok(Message::of(OK, [place as u64]))
    }

    fn about(&mut self, place: usize) -> Result<Message, Refusal> {
        let system = &mut self.system;
        let time = system.time_used(place);
        let entry = &system.manifest().components[place];
        let running = system.registry().running_at(place);
        let bits = running.and_then(|number| system.registry().get(u64::from(number)));
        let bits = bits.map(|each| each.parts.memory_bits);
        let state = match (system.state(place), running) {
            // Of what is not supervised only this is known.
            (State::Idle, Some(_)) => State::Runs,
            (state, _) => state,
        };
        let durable = system.durable();
        let mut words = [0; 8];
        words[about::STATE] = state as u64;
        words[about::LIFE] = durable.life(place);
        words[about::DEATHS] = durable.faults(place) | system.kills(place) << 32;
        let given = match entry.memory {
            Budget::Bits(bits) => Some(bits),
            Budget::Half => None,
        };
        let kept = durable.kept(place);
        let stays = entry.durable.map_or(0, |bits| 1 << bits) + entry.state.map_or(0, |bits| 1u64 << bits);
        words[about::MEMORY] = u64::from(bits.or(given).unwrap_or(0)) | stays << 8;
        words[about::TIME] = time;
        words[about::MESSAGES] = kept.map_or(0, |kept| kept.status.read(status::MESSAGES));
        words[about::SERVED] = kept.map_or(0, |kept| kept.status.read(status::SERVED));
        words[7] = entry.name.len() as u64;
        Ok(with_bytes(&mut self.outgoing, words, entry.name.as_bytes()))
    }

    fn kill_at(&mut self, place: usize) -> Result<Message, Refusal> {
        let number = self.system.registry().running_at(place).ok_or(Refusal::Unknown)?;
        self.system.kill(number);
        Ok(Message::new(OK))
    }

    fn order_injection(
        &mut self,
        place: usize,
        what: Injection,
        at_message: u64,
        counts: bool,
    ) -> Result<Message, Refusal> {
        if self.system.durable().kept(place).is_none() || self.system.registry().running_at(place).is_none() {
            return Err(Refusal::Unknown);
        }
        self.system.inject(place, what, at_message, counts);
        Ok(Message::new(OK))
    }

    fn restart(&mut self, place: usize) -> Result<Message, Refusal> {
        if !self.system.manifest().components[place].is_supervised() {
            return Err(Refusal::Unknown);
        }
        if self.system.restart(place) { Ok(Message::new(OK)) } else { Err(Refusal::Short) }
    }

    fn reset(&mut self, place: usize) -> Result<Message, Refusal> {
        if self.system.manifest().components[place].state.is_none() {
            return Err(Refusal::Unknown);
        }
        if self.system.reset(place) { Ok(Message::new(OK)) } else { Err(Refusal::Short) }
    }

    fn crash_record(&mut self, number: u64) -> Result<Message, Refusal> {
        let crash = self.system.crashes().get(number).ok_or(Refusal::Unknown)?;
        let mut place = [0; MAX_BYTES];
        let length = encoded(crash, &mut place).ok_or(Refusal::Short)?;
        let words = [length as u64, crash.when, crash.place as u64, crash.record.cause as u64];
        Ok(with_bytes(&mut self.outgoing, words, &place[..length]))
    }

    fn crash_log(&mut self, number: u64, from: u64) -> Result<Message, Refusal> {
        let crash = self.system.crashes().get(number).ok_or(Refusal::Unknown)?;
        let mut place = [0; MAX_BYTES];
        let length = crash.log.read(usize::try_from(from).unwrap_or(usize::MAX), &mut place);
        Ok(with_bytes(&mut self.outgoing, [length as u64], &place[..length]))
    }

    fn capability(&mut self, place: usize, from: u64) -> Result<Message, Refusal> {
        let registry = self.system.registry();
        let number = registry.running_at(place).ok_or(Refusal::Unknown)?;
        let component = registry.get(u64::from(number)).ok_or(Refusal::Unknown)?;
        let parts = &component.parts;
        let mut slots = from.max(u64::from(FIRST_SLOT))..1 << parts.slot_bits;
        let found = slots.find_map(|slot| {
            let found = parts.cnode.describe(slot).ok()?;
            (found.kind != Kind::Null).then_some((slot, found))
        });
        let (slot, found) = found.ok_or(Refusal::Unknown)?;
        let name = parts.names.iter().find(|(_, named)| u64::from(*named) == slot);
        let name = name.map_or("", |(name, _)| name.as_str());
        let (kind, rights) = (found.kind as u64, u64::from(found.rights.0));
        let words =
            [slot, kind, found.bits, rights, found.badge, found.identity, found.free, name.len() as u64];
        Ok(with_bytes(&mut self.outgoing, words, name.as_bytes()))
    }

    fn manifest_from(&mut self, from: u64) -> Result<Message, Refusal> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let rest = self.system.manifest_text().as_bytes().get(from..).unwrap_or_default();
        let piece = &rest[..rest.len().min(MAX_BYTES)];
        Ok(with_bytes(&mut self.outgoing, [piece.len() as u64], piece))
    }

    fn recovery(&mut self, place: usize, ago: u64) -> Result<Message, Refusal> {
        let times = self.system.recovery(place, ago).ok_or(Refusal::Unknown)?;
        Ok(Message::of(OK, *times))
    }

    fn watch(&mut self, number: u64, bit: u64) -> Result<Message, Refusal> {
        let bit = bell::OWN + u8::try_from(bit).ok().filter(|bit| *bit < 8).ok_or(Refusal::Malformed)?;
        let place =
            self.system.registry().get(number).map(|watcher| watcher.place).ok_or(Refusal::Malformed)?;
        let bell = self.system.durable().kept(place).ok_or(Refusal::Unknown)?.bell;
        if self.system.watch(number as u32, bell, bit) { Ok(Message::new(OK)) } else { Err(Refusal::Short) }
    }

    fn symbol(&mut self, number: u64, address: u64) -> Result<Message, Refusal> {
        let crash = self.system.crashes().get(number).ok_or(Refusal::Unknown)?;
        let entry = &self.system.manifest().components[crash.place];
        let program = if entry.name == ANY { crash.name } else { entry.program };
        let table =
            self.system.machine().archive.file(&alloc::format!("sym/{program}")).ok_or(Refusal::Unknown)?;
        let (name, offset) = symbols::find(table, address).ok_or(Refusal::Unknown)?;
        let name = &name.as_bytes()[..name.len().min(MAX_BYTES)];
        Ok(with_bytes(&mut self.outgoing, [offset, 0, 0, 0, 0, 0, 0, name.len() as u64], name))
    }

    fn log_from(&mut self, from: u64) -> Message {
        let (first, bytes) = self.system.machine().log_from(from);
        let mut place = [0; MAX_BYTES];
        let mut length = 0;
        for (place, byte) in place.iter_mut().zip(bytes) {
            *place = byte;
            length += 1;
        }
        with_bytes(&mut self.outgoing, [length, first], &place[..length as usize])
    }

    fn take_report(&mut self, number: u64, place: u64, what: u64) -> Result<Message, Refusal> {
        let place = self.place(place)?;
        let caller = self.system.registry().get(number).map(|caller| (caller.place, caller.name));
        let (from, name) = caller.ok_or(Refusal::Malformed)?;
        let told = alloc::format!("{name} reports {what:#x}");
        match self.system.report(from, place, &told) {
            Ok(()) => Ok(Message::new(OK)),
            Err(Disbelieved::NoChannel | Disbelieved::TooOften) => Err(Refusal::NotAllowed),
        }
    }

    /// Has events traced for a component, and none any more when it ends.
    fn trace(&mut self, number: u64, mask: u64) -> Result<Message, Refusal> {
        trace(mask).map_err(|_| Refusal::Malformed)?;
        self.tracer = (mask != 0).then_some(number as u32);
        Ok(Message::new(OK))
    }
}

/// Has the kernel trace the events in `mask`.
pub(super) fn trace(mask: u64) -> Result<(), Error> {
    System(CPtr(slots::SYSTEM)).trace(mask)
}

/// A crash in postcard: its length. A message that does not fit is cut.
fn encoded(crash: &Crash, place: &mut [u8; MAX_BYTES]) -> Option<usize> {
    let mut told = crash.record.for_host(crash.name);
    loop {
        if let Ok(bytes) = host::plain(&told, place) {
            return Some(bytes.len());
        }
        let shorter = told.message.len().checked_sub(16)?;
        told.message = &told.message[..told.message.floor_char_boundary(shorter)];
    }
}

/// Returns an answer that bytes go with.
fn with_bytes<const N: usize>(
    outgoing: &mut heapless::Vec<u8, MAX_BYTES>,
    words: [u64; N],
    text: &[u8],
) -> Message {
    outgoing.clear();
    outgoing.extend(text.iter().copied().take(MAX_BYTES));
    Message::of(OK, words)
}
