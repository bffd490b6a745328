//! The system calls, one function each.
//!
//! A function returns the error that the kernel's table lists for its call. All of them are inlined: with a
//! constant message the code is the moves into registers and the `syscall`.

use core::mem::MaybeUninit;

use abi::object::Word;
use abi::{CPtr, Error, MsgInfo, Syscall};

use crate::buffer::buffer;
use crate::message::{Message, Received};
use crate::trap::{NO_WORDS, Returned, Words, trap};

/// Sends `message` to `endpoint` and waits for the answer.
#[inline(always)]
pub fn call(endpoint: CPtr, message: Message) -> Result<Message, Error> {
    exchange(Syscall::call, endpoint.word(), message).map(|returned| Message::returned(&returned))
}

/// Answers the caller on the thread's own Reply, then receives from `endpoint`.
#[inline(always)]
pub fn reply_recv(endpoint: CPtr, answer: Message) -> Result<Received, Error> {
    exchange(Syscall::reply_recv, endpoint.word(), answer).map(|returned| Received::returned(&returned))
}

/// As [`reply_recv`]; the receive ends with [`Error::TimedOut`] at `deadline` (TSC ticks).
#[inline(always)]
pub fn reply_recv_until(endpoint: CPtr, mut answer: Message, deadline: u64) -> Result<Received, Error> {
    buffer().deadline.set(deadline);
    answer.info.0 |= MsgInfo::DEADLINE;
    reply_recv(endpoint, answer)
}

/// Sends `message` to an Endpoint without asking for an answer, or to a Reply as its answer.
#[inline(always)]
pub fn send(to: CPtr, message: Message) -> Result<(), Error> {
    exchange(Syscall::send, to.word(), message).map(|_| ())
}

/// As [`send`], if the receiver waits already; else [`Error::WouldBlock`].
#[inline(always)]
pub fn try_send(to: CPtr, message: Message) -> Result<(), Error> {
    exchange(Syscall::try_send, to.word(), message).map(|_| ())
}

/// Where a receive keeps the right to answer: a Reply capability, or by `CPtr::NULL` the thread's own Reply.
#[inline(always)]
fn receiving(endpoint: CPtr, reply: CPtr) -> u64 {
    endpoint.word() | reply.word() << 32
}

/// Receives from `endpoint`. The right to answer goes to `reply`; `CPtr::NULL` means the thread's own Reply,
/// which [`reply`] and [`reply_recv`] answer.
#[inline(always)]
pub fn recv(endpoint: CPtr, reply: CPtr) -> Result<Received, Error> {
    received(Syscall::recv, receiving(endpoint, reply), 0, NO_WORDS)
}

/// As [`recv`], until `deadline` (TSC ticks); then [`Error::TimedOut`].
#[inline(always)]
pub fn recv_until(endpoint: CPtr, reply: CPtr, deadline: u64) -> Result<Received, Error> {
    received(Syscall::recv, receiving(endpoint, reply), MsgInfo::DEADLINE, first_word(deadline))
}

/// As [`recv`], if a message waits already; else [`Error::WouldBlock`].
#[inline(always)]
pub fn try_recv(endpoint: CPtr, reply: CPtr) -> Result<Received, Error> {
    received(Syscall::try_recv, receiving(endpoint, reply), 0, NO_WORDS)
}

/// Answers the caller on the thread's own Reply, and goes on.
#[inline(always)]
pub fn reply(answer: Message) -> Result<(), Error> {
    exchange(Syscall::reply, 0, answer).map(|_| ())
}

/// Adds the capability's badge to the bits of `notification`.
#[inline(always)]
pub fn signal(notification: CPtr) -> Result<(), Error> {
    trap(Syscall::signal, notification.word(), 0, NO_WORDS).checked().map(|_| ())
}

/// Waits until `notification` has bits, and takes them.
#[inline(always)]
pub fn wait(notification: CPtr) -> Result<u64, Error> {
    bits(trap(Syscall::wait, notification.word(), 0, NO_WORDS))
}

/// As [`wait`], until `deadline` (TSC ticks); then [`Error::TimedOut`].
#[inline(always)]
pub fn wait_until(notification: CPtr, deadline: u64) -> Result<u64, Error> {
    bits(trap(Syscall::wait, notification.word(), MsgInfo::DEADLINE, first_word(deadline)))
}

/// Takes the bits of `notification` if it has any; else [`Error::WouldBlock`].
#[inline(always)]
pub fn poll(notification: CPtr) -> Result<u64, Error> {
    bits(trap(Syscall::poll, notification.word(), 0, NO_WORDS))
}

/// Lets the other threads of the same priority run first.
#[inline(always)]
pub fn yield_now() {
    trap(Syscall::yield_now, 0, 0, NO_WORDS);
}

/// Enters the kernel and comes back.
#[inline(always)]
pub fn nop() {
    trap(Syscall::nop, 0, 0, NO_WORDS);
}

#[inline(always)]
fn exchange(number: Syscall, capability: u64, message: Message) -> Result<Returned, Error> {
    trap(number, capability, message.info.0, message.registers()).checked()
}

#[inline(always)]
fn received(number: Syscall, capability: u64, info: u64, words: Words) -> Result<Received, Error> {
    trap(number, capability, info, words).checked().map(|returned| Received::returned(&returned))
}

#[inline(always)]
fn first_word(word: u64) -> Words {
    let mut words = NO_WORDS;
    words[0] = MaybeUninit::new(word);
    words
}

#[inline(always)]
fn bits(returned: Returned) -> Result<u64, Error> {
    returned.checked().map(|returned| returned.words[0])
}
