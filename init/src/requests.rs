//! What components ask of init (`proto::component`): to print, to read, to end, and for those with the right to it
//! to start and end programs.

extern crate alloc;

use ipc::{Message, buffer, bytes};
use proto::component::{MAX_BYTES, OK, Refusal, Request, Stream};
use proto::host::ToHost;

use crate::console::channel::Channel;
use crate::log;
use crate::machine;
use crate::manifest::Right;
use crate::supervisor::{Console, Ending, INPUT_LIMIT, RunError, Supervisor};

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

impl Supervisor {
    /// Answers a component's request.
    pub fn handle(&mut self, number: u64, request: &Asked) -> Option<Message> {
        match Request::from_label(request.label) {
            Some(Request::Write) => Some(self.write(number, request)),
            Some(Request::Read) => Some(self.read(number, request.words[0])),
            Some(Request::Exit) => {
                self.end(number as u32, Ending::Exited(request.words[0] as u8));
                None
            }
            // While a component is between two lives, what it had and will have is counted by nobody.
            Some(Request::Inventory) if self.holds(number, Right::Inventory) && self.is_unsettled() => {
                Some(self.not_now(number))
            }
            Some(Request::Inventory) if self.holds(number, Right::Inventory) => {
                Some(Message::of(OK, machine::inventory()))
            }
            Some(Request::Run) if self.holds(number, Right::Control) => Some(self.run_child(number, request)),
            Some(Request::Ended) if self.holds(number, Right::Control) => {
                Some(self.child_ended(number, request.words[0]))
            }
            Some(Request::End) if self.holds(number, Right::Control) => {
                Some(self.end_child(number, request.words[0]))
            }
            Some(_) => Some(refused(Refusal::NotAllowed)),
            None => self.control(number, request),
        }
    }

    fn write(&mut self, number: u64, request: &Asked) -> Message {
        let Some(stream) = Stream::from_word(request.words[0]) else { return refused(Refusal::Malformed) };
        let length = usize::try_from(request.words[1]).unwrap_or(usize::MAX);
        let Some(text) = request.bytes.get(..length) else { return refused(Refusal::Malformed) };
        let Some(component) = self.component(number) else { return refused(Refusal::Malformed) };
        let console = component.console;
        let keeps_up = match console {
            Console::Host => self.host.as_ref().is_none_or(Channel::has_room),
            Console::Operator => {
                self.terminal.as_ref().is_none_or(|terminal| terminal.serial.uart.has_room())
            }
            Console::Log => true,
        };
        if !keeps_up {
            return self.not_now(number);
        }
        if let Some(component) = self.component(number) {
            component.tail.push(text);
        }
        match console {
            Console::Host => {
                if let Some(host) = &mut self.host {
                    host.tell(&match stream {
                        Stream::Output => ToHost::Stdout(text),
                        Stream::Error => ToHost::Stderr(text),
                    });
                }
            }
            Console::Operator => {
                if let Some(terminal) = &mut self.terminal {
                    terminal.show(text);
                }
            }
            Console::Log => {
                if let Some(component) = self.component(number) {
                    component.log(text);
                }
            }
        }
        Message::new(OK)
    }

    fn read(&mut self, number: u64, wanted: u64) -> Message {
        let Some(component) = self.component(number) else { return refused(Refusal::Malformed) };
        if component.input.is_empty() && !component.input_ended {
            return self.not_now(number);
        }
        let length = wanted.min(MAX_BYTES as u64).min(component.input.len() as u64) as usize;
        let mut text = [0; MAX_BYTES];
        for (place, byte) in text.iter_mut().zip(component.input.drain(..length)) {
            *place = byte;
        }
        let room = component.input.len() < INPUT_LIMIT;
        if component.console == Console::Host && room {
            self.host_may_send();
        }
        // Last: the lines above may have logged, which goes through the buffer as well.
        let words = bytes::put(&buffer().words, &text[..length]);
        Message::of(OK, [length as u64]).with(words, 0)
    }

    fn not_now(&mut self, number: u64) -> Message {
        if let Some(component) = self.component(number) {
            component.waits = true;
        }
        refused(Refusal::NotNow)
    }

    /// Whether the component of this number holds a right.
    pub fn holds(&mut self, number: u64, right: Right) -> bool {
        self.component(number).is_some_and(|component| component.entry.holds.contains(&right))
    }

    fn run_child(&mut self, parent: u64, request: &Asked) -> Message {
        let length = usize::try_from(request.words[0]).unwrap_or(usize::MAX);
        let arguments = request.bytes.get(..length).and_then(|bytes| core::str::from_utf8(bytes).ok());
        let (Some(arguments), Some(parent_is)) = (arguments, self.component(parent)) else {
            return refused(Refusal::Malformed);
        };
        let console = parent_is.console;
        match self.run(arguments, console) {
            Ok(number) => {
                if let Some(child) = self.component(u64::from(number)) {
                    child.parent = Some(parent as u32);
                    child.input_ended = true;
                }
                Message::of(OK, [u64::from(number)])
            }
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
        let Some(parent) = self.component(parent) else { return refused(Refusal::Malformed) };
        match parent.ended.iter().position(|(number, ..)| u64::from(*number) == child) {
            Some(at) => {
                let (_, status, crashed) = parent.ended.swap_remove(at);
                Message::of(OK, [u64::from(status), u64::from(crashed)])
            }
            None => refused(Refusal::Unknown),
        }
    }

    fn end_child(&mut self, parent: u64, child: u64) -> Message {
        if !self.is_child(parent, child) {
            return refused(Refusal::Unknown);
        }
        self.end(child as u32, Ending::Killed);
        Message::new(OK)
    }

    fn is_child(&mut self, parent: u64, child: u64) -> bool {
        self.component(child).is_some_and(|each| each.parent.map(u64::from) == Some(parent))
    }
}

/// The answer that refuses.
pub fn refused(refusal: Refusal) -> Message {
    Message::new(refusal as u32)
}
