//! What components ask of init (`proto::component`): to print, to read, to end, and for those with the right to it
//! to start and end programs.

extern crate alloc;

use ipc::{Message, buffer, bytes};
use proto::component::{MAX_BYTES, OK, Refusal, Request, Stream};

use super::Init;
use crate::console::INPUT_LIMIT;
use crate::log;
use crate::machine;
use crate::manifest::Right;
use crate::registry::{Console, Ending};
use crate::system::RunError;

/// A request, taken out of registers and IPC buffer before anything else goes through them.
pub struct Asked {
    /// The label.
    pub label: u32,
    /// Words 0 to 7.
    pub words: [u64; 8],
    /// What lay in the buffer.
    pub bytes: heapless::Vec<u8, MAX_BYTES>,
}

impl Asked {
    /// Takes it out.
    pub fn taken(message: &Message) -> Asked {
        let mut bytes = [0; MAX_BYTES];
        let length = (message.info.extra() * 8).min(MAX_BYTES);
        bytes::take(&buffer().words, &mut bytes[..length]);
        let bytes = heapless::Vec::from_slice(&bytes[..length]).unwrap_or_default();
        Asked { label: message.label(), words: message.words, bytes }
    }
}

impl Init {
    /// Answers a component's request.
    pub fn handle(&mut self, number: u64, request: &Asked) -> Option<Message> {
        let answer = match Request::from_label(request.label) {
            Some(Request::Write) => self.write(number, request),
            Some(Request::Read) => self.read(number, request.words[0]),
            Some(Request::Exit) => {
                self.system.end(number as u32, Ending::Exited(request.words[0] as u8));
                return None;
            }
            // While a component is between two lives, what it had and will have is counted by nobody.
            Some(Request::Inventory)
                if self.holds(number, Right::Inventory) && self.system.is_unsettled() =>
            {
                self.not_now(number)
            }
            Some(Request::Inventory) if self.holds(number, Right::Inventory) => {
                Message::of(OK, machine::inventory())
            }
            Some(Request::Run) if self.holds(number, Right::Control) => self.run_child(number, request),
            Some(Request::Ended) if self.holds(number, Right::Control) => {
                self.child_ended(number, request.words[0])
            }
            Some(Request::End) if self.holds(number, Right::Control) => {
                self.end_child(number, request.words[0])
            }
            Some(_) => refused(Refusal::NotAllowed),
            None => return self.control(number, request),
        };
        Some(answer)
    }

    fn write(&mut self, number: u64, request: &Asked) -> Message {
        let Some(stream) = Stream::from_word(request.words[0]) else { return refused(Refusal::Malformed) };
        let length = usize::try_from(request.words[1]).unwrap_or(usize::MAX);
        let Some(text) = request.bytes.get(..length) else { return refused(Refusal::Malformed) };
        let Some(component) = self.system.registry_mut().get_mut(number) else {
            return refused(Refusal::Malformed);
        };
        let console = component.console;
        if !self.consoles.has_room(console) {
            return self.not_now(number);
        }
        component.printed.tail.push(text);
        if console == Console::Log {
            component.printed.log(component.name, text);
        }
        self.consoles.show(console, stream, text);
        Message::new(OK)
    }

    fn read(&mut self, number: u64, wanted: u64) -> Message {
        let Some(component) = self.system.registry_mut().get_mut(number) else {
            return refused(Refusal::Malformed);
        };
        if component.input.is_empty() && !component.input_ended {
            return self.not_now(number);
        }
        let length = wanted.min(MAX_BYTES as u64).min(component.input.len() as u64) as usize;
        self.outgoing.extend(component.input.drain(..length));
        let room = component.input.len() < INPUT_LIMIT;
        if component.console == Console::Host && room {
            self.consoles.host_may_send(&mut self.system);
        }
        Message::of(OK, [length as u64])
    }

    fn not_now(&mut self, number: u64) -> Message {
        self.system.is_to_wait(number);
        refused(Refusal::NotNow)
    }

    /// Returns true if the component of this number holds a right.
    pub(super) fn holds(&self, number: u64, right: Right) -> bool {
        self.system.registry().get(number).is_some_and(|component| component.entry.holds.contains(&right))
    }

    fn run_child(&mut self, parent: u64, request: &Asked) -> Message {
        let length = usize::try_from(request.words[0]).unwrap_or(usize::MAX);
        let arguments = request.bytes.get(..length).and_then(|bytes| core::str::from_utf8(bytes).ok());
        let (Some(arguments), Some(parent_is)) = (arguments, self.system.registry().get(parent)) else {
            return refused(Refusal::Malformed);
        };
        let console = parent_is.console;
        match self.system.run(arguments, console, Some(parent as u32)) {
            Ok(number) => Message::of(OK, [u64::from(number)]),
            Err(RunError::NoSuchProgram | RunError::NotInManifest) => refused(Refusal::Unknown),
            Err(error) => {
                log!("init: {} is not started: {error}", arguments.split('\0').next().unwrap_or_default());
                refused(Refusal::Short)
            }
        }
    }

    fn child_ended(&mut self, parent: u64, child: u64) -> Message {
        if self.is_child(parent, child) {
            return self.not_now(parent);
        }
        let Ok(child) = u32::try_from(child) else { return refused(Refusal::Unknown) };
        match self.system.registry_mut().family.take_end(parent as u32, child) {
            Some(end) => Message::of(OK, [u64::from(end.status), u64::from(end.crashed)]),
            None => refused(Refusal::Unknown),
        }
    }

    fn end_child(&mut self, parent: u64, child: u64) -> Message {
        if !self.is_child(parent, child) {
            return refused(Refusal::Unknown);
        }
        self.system.kill(child as u32);
        Message::new(OK)
    }

    fn is_child(&self, parent: u64, child: u64) -> bool {
        let child = u32::try_from(child).ok();
        child.and_then(|child| self.system.registry().family.parent(child)).map(u64::from) == Some(parent)
    }
}

/// The answer that refuses.
pub fn refused(refusal: Refusal) -> Message {
    Message::new(refusal as u32)
}
