//! Answers to calls (`proto::rng`), and a look at the device when it has given something.

use ipc::{Message, Received};
use proto::life::bell;
use proto::rng::{MAX_BYTES, OK, Refusal, Request};
use rt::work::{Answer, Work, World};
use virtio::{DeviceError, Registers};

use crate::{Entropy, vectors};

impl<R: Registers> Work for Entropy<'_, R> {
    type Error = DeviceError;

    fn rung(&mut self, bits: u64, world: &mut impl World) -> Result<(), DeviceError> {
        if bits & 1 << (bell::IRQ + vectors::QUEUE as u8) == 0 {
            return Ok(());
        }
        world.begun();
        self.look()
    }

    /// It has no clients but those who call.
    fn turn(&mut self, _: &mut impl World) -> Result<bool, DeviceError> {
        Ok(true)
    }
}

impl<R: Registers> Answer for Entropy<'_, R> {
    fn answer(&mut self, received: &Received) -> Result<Option<Message>, DeviceError> {
        let Message { words, .. } = received.message;
        answer(self, received.message.label(), words[0]).map(Some)
    }
}

/// The answer to a call with this label and first word.
pub fn answer<R: Registers>(entropy: &mut Entropy<R>, label: u32, word: u64) -> Result<Message, DeviceError> {
    let refused = |refusal: Refusal| Ok(Message::new(refusal as u32));
    let (Some(Request::Read), count @ 1..) = (Request::from_label(label), word) else {
        return refused(Refusal::Malformed);
    };
    let mut bytes = [0; MAX_BYTES];
    let Some(wanted) = usize::try_from(count).ok().and_then(|count| bytes.get_mut(..count)) else {
        return refused(Refusal::Malformed);
    };
    if !entropy.take(wanted)? {
        return refused(Refusal::NotNow);
    }
    let mut words = [0; MAX_BYTES / 8];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    Ok(Message::of(OK, words))
}
