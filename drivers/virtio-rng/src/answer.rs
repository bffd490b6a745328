//! Answers to calls (`proto::rng`).

use ipc::Message;
use proto::rng::{MAX_BYTES, OK, Refusal, Request};
use virtio::Registers;

use crate::{Entropy, Failure};

/// The answer to a call with this label and first word.
pub fn answer<R: Registers>(entropy: &mut Entropy<R>, label: u32, word: u64) -> Result<Message, Failure> {
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
