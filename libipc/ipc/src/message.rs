//! Messages as Rust sees them.

use abi::message::REGISTER_WORDS;
use abi::{MsgInfo, message};

use crate::trap::{Returned, Words};

/// What travels in registers; further words and capabilities lie in the [`crate::buffer()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Label, words in the buffer, capabilities.
    pub info: MsgInfo,
    /// Words 0 to 7.
    pub words: [u64; REGISTER_WORDS],
}

impl Message {
    /// A message that is its label.
    #[inline(always)]
    pub const fn new(label: u32) -> Message {
        Message { info: MsgInfo::plain(label), words: [0; REGISTER_WORDS] }
    }

    /// A message of up to eight words; the others are 0.
    #[inline(always)]
    pub const fn of<const N: usize>(label: u32, words: [u64; N]) -> Message {
        const { assert!(N <= REGISTER_WORDS, "more words than registers: the rest goes into the buffer") };
        let mut message = Message::new(label);
        let mut at = 0;
        while at < N {
            message.words[at] = words[at];
            at += 1;
        }
        message
    }

    /// The same with `extra` words in the buffer and `caps` capabilities.
    #[inline(always)]
    pub const fn with(self, extra: usize, caps: usize) -> Message {
        Message { info: MsgInfo::new(self.info.label(), extra, caps), ..self }
    }

    /// The label.
    #[inline(always)]
    pub const fn label(&self) -> u32 {
        self.info.label()
    }

    #[inline(always)]
    pub(crate) fn registers(&self) -> Words {
        self.words.map(core::mem::MaybeUninit::new)
    }

    #[inline(always)]
    pub(crate) fn returned(returned: &Returned) -> Message {
        Message { info: MsgInfo(returned.info), words: returned.words }
    }
}

/// What a receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The badge of the capability that the sender used. A receiver that gave out the badges knows by it who
    /// sends; nobody else can set it.
    pub badge: u64,
    /// The message.
    pub message: Message,
}

impl Received {
    /// The bits of the bound Notification, if that is what ended the receive: no message has come then.
    #[inline(always)]
    pub const fn notified(&self) -> Option<u64> {
        if self.message.info.is_notified() { Some(self.message.words[0]) } else { None }
    }

    /// Whether it carries the label of the kernel's fault messages. Whoever may send to the Endpoint can
    /// choose that label, too: hear faults by a badge that is given to fault handlers only.
    pub const fn is_fault(&self) -> bool {
        self.message.info.label() == message::fault::LABEL
    }

    #[inline(always)]
    pub(crate) fn returned(returned: &Returned) -> Received {
        Received { badge: returned.badge, message: Message::returned(returned) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_not_given_are_zero() {
        let message = Message::of(3, [1, 2]);
        assert_eq!(message.words, [1, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!((message.label(), message.info.is_plain()), (3, true));
    }

    #[test]
    fn words_in_the_buffer_and_capabilities_keep_the_label() {
        let message = Message::new(9).with(64, 2);
        assert_eq!((message.label(), message.info.extra(), message.info.caps()), (9, 64, 2));
    }

    #[test]
    fn a_notification_is_told_from_a_message() {
        let mut received = Received { badge: 0, message: Message::of(0, [5]) };
        assert_eq!(received.notified(), None);
        received.message.info.0 |= MsgInfo::NOTIFIED;
        assert_eq!(received.notified(), Some(5));
    }
}
