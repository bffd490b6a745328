//! The client's side: numbers, repetitions, and what it does when it has to give up.

use std::cell::RefCell;
use std::collections::VecDeque;

use ipc::{Error, Message};
use proto::once::{Refusal, Stamp};
use recover::caller::MAX_REPEATS;
use recover::{CallError, Caller, Extra, Link};

/// A way to a server that answers as it is told.
#[derive(Default)]
struct Script {
    answers: RefCell<VecDeque<Result<u32, Error>>>,
    sent: RefCell<Vec<(Stamp, u32, Vec<u64>)>>,
}

impl Link for &Script {
    fn call(&mut self, message: Message, extra: &[u64], _: &mut Extra) -> Result<Message, Error> {
        let stamp = Stamp::from_word(message.words[0]).expect("a stamp");
        self.sent.borrow_mut().push((stamp, message.label(), extra.to_vec()));
        self.answers.borrow_mut().pop_front().unwrap_or(Ok(0)).map(Message::new)
    }
}

fn script(answers: &[Result<u32, Error>]) -> Script {
    Script { answers: RefCell::new(answers.iter().copied().collect()), sent: RefCell::default() }
}

fn numbers(script: &Script) -> Vec<u64> {
    script.sent.borrow().iter().map(|(stamp, ..)| stamp.number).collect()
}

#[test]
fn a_request_is_repeated_as_it_was_until_it_is_answered() {
    let script = script(&[Err(Error::PeerDied), Err(Error::PeerDied), Ok(0), Ok(0)]);
    let mut caller = Caller::new(&script, 3);
    caller.request(5, [1, 2], &[8, 9]).expect("answered at last");
    caller.request(6, [1], &[]).expect("answered");
    let stamp = |number| Stamp { lane: 3, number };
    let first = (stamp(1), 5, vec![8, 9]);
    assert_eq!(*script.sent.borrow(), [first.clone(), first.clone(), first, (stamp(2), 6, vec![])]);
    assert_eq!(caller.repeats(), 2);
}

#[test]
fn a_request_that_was_given_up_keeps_its_number_until_it_is_finished() {
    let deaths = vec![Err(Error::PeerDied); MAX_REPEATS as usize];
    let script = script(&deaths);
    let mut caller = Caller::new(&script, 0);
    assert_eq!(caller.request(5, [], &[]), Err(CallError::Unanswered));
    assert_eq!(caller.request(5, [], &[]), Err(CallError::Unfinished));
    assert_eq!(script.sent.borrow().len(), MAX_REPEATS as usize);
    caller.finish().expect("the server is back");
    caller.request(5, [], &[]).expect("the next");
    assert_eq!(numbers(&script)[MAX_REPEATS as usize..], [1, 2]);
    assert_eq!(caller.finish(), Err(CallError::Unfinished), "there is none");
}

#[test]
fn a_refusal_uses_the_number_only_if_the_server_has_stored_it() {
    for refusal in Refusal::ALL {
        let script = script(&[Ok(refusal as u32)]);
        let mut caller = Caller::new(&script, 0);
        assert_eq!(caller.request(5, [], &[]), Err(CallError::Refused(refusal)));
        caller.request(5, [], &[]).expect("answered");
        let stored = matches!(refusal, Refusal::Poison | Refusal::TooLarge | Refusal::HalfDone);
        assert_eq!(numbers(&script), [1, if stored { 2 } else { 1 }], "{refusal:?}");
    }
}

#[test]
fn a_broken_off_call_is_in_doubt_until_it_is_finished() {
    let script = script(&[Err(Error::Cancelled)]);
    let mut caller = Caller::new(&script, 0);
    assert_eq!(caller.request(5, [], &[]), Err(CallError::Kernel(Error::Cancelled)));
    assert_eq!(caller.request(5, [], &[]), Err(CallError::Unfinished));
    caller.finish().expect("answered");
    assert_eq!(numbers(&script), [1, 1]);
}

#[test]
fn looks_use_no_number() {
    let script = script(&[Err(Error::PeerDied)]);
    let mut caller = Caller::new(&script, 0);
    caller.look(9, [4], &[], &mut Extra::new()).expect("answered");
    caller.request(5, [], &[]).expect("answered");
    assert_eq!(numbers(&script), [1, 1, 1]);
}

#[test]
fn more_words_than_a_message_has_are_refused_before_anything_is_sent() {
    let script = Script::default();
    let mut caller = Caller::new(&script, 0);
    let refused = caller.request(5, [], &[0; 65]);
    assert_eq!(refused, Err(CallError::Kernel(Error::InvalidArgument)));
    caller.request(5, [], &[0; 64]).expect("as many as there can be");
    assert_eq!(numbers(&script), [1]);
}
