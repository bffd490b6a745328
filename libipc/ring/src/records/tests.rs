use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::index::{clear, garble};

fn memory(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

#[test]
fn records_come_out_in_order_and_a_full_ring_says_so() {
    let memory = memory(words_for(4, 2));
    let mut producer = Producer::<2>::new(&memory, Begin::New).expect("room");
    let mut consumer = Consumer::<2>::new(&memory, Begin::New).expect("room");
    for round in 0..10u64 {
        for number in 0..4 {
            producer.push(&[round, number]).expect("room");
        }
        assert_eq!(producer.push(&[0, 0]), Err(PushError::Full));
        assert_eq!(consumer.pop(), Ok(None), "nothing is seen before it is published");
        let _ = producer.publish();
        for number in 0..4 {
            assert_eq!(consumer.pop(), Ok(Some([round, number])));
        }
        assert_eq!(consumer.pop(), Ok(None));
        let _ = consumer.publish();
    }
}

#[test]
fn room_is_what_the_consumer_has_given_back() {
    let memory = memory(words_for(4, 1));
    let mut producer = Producer::<1>::new(&memory, Begin::New).expect("room");
    let mut consumer = Consumer::<1>::new(&memory, Begin::New).expect("room");
    producer.push(&[1]).expect("room");
    assert_eq!(producer.room(), Ok(3));
    let _ = producer.publish();
    assert_eq!(consumer.pop(), Ok(Some([1])));
    assert_eq!(producer.room(), Ok(3));
    let _ = consumer.publish();
    assert_eq!(producer.room(), Ok(4));
}

#[test]
fn two_sides_that_have_cleared_their_words_begin_anew() {
    let memory = memory(words_for(4, 1));
    memory.iter().for_each(|word| word.store(77, Ordering::Relaxed));
    clear(&memory, Role::Producer);
    clear(&memory, Role::Consumer);
    let mut producer = Producer::<1>::new(&memory, Begin::New).expect("room");
    let mut consumer = Consumer::<1>::new(&memory, Begin::New).expect("room");
    assert_eq!(consumer.pop(), Ok(None));
    assert_eq!(consumer.sleep(), Ok(true));
    producer.push(&[1]).expect("room");
    assert!(producer.publish());
    assert_eq!(consumer.pop(), Ok(Some([1])));
    clear(&memory[..0], Role::Producer);
}

#[test]
fn the_first_words_of_a_record_can_be_put_in_alone() {
    let memory = memory(words_for(2, 3));
    let mut producer = Producer::<3>::new(&memory, Begin::New).expect("room");
    let mut consumer = Consumer::<3>::new(&memory, Begin::New).expect("room");
    for (words, expected) in [(&[1, 2, 3][..], [1, 2, 3]), (&[], [0, 0, 0]), (&[4], [4, 2, 3])] {
        producer.push_part(words).expect("room");
        let _ = producer.publish();
        assert_eq!(consumer.pop(), Ok(Some(expected)));
        let _ = consumer.publish();
    }
}

#[test]
fn a_signal_is_asked_for_only_by_who_sleeps() {
    let memory = memory(words_for(4, 1));
    let mut producer = Producer::<1>::new(&memory, Begin::New).expect("room");
    let mut consumer = Consumer::<1>::new(&memory, Begin::New).expect("room");
    assert_eq!(consumer.sleep(), Ok(true));
    producer.push(&[1]).expect("room");
    assert!(producer.publish(), "the consumer sleeps");
    assert!(!producer.publish(), "nothing new");
    for number in 2..4 {
        producer.push(&[number]).expect("room");
        assert!(!producer.publish(), "the consumer has not asked again");
    }
    assert_eq!(consumer.sleep(), Ok(false), "there is something to take out");
    while consumer.pop().expect("sound").is_some() {}
    // The first time counts as asked for: wishes begin where indexes do.
    let _ = consumer.publish();
    assert_eq!(producer.sleep(), Ok(false), "there is room");
}

#[test]
fn a_side_begins_again_where_it_was() {
    let memory = memory(words_for(4, 1));
    let mut producer = Producer::<1>::new(&memory, Begin::New).expect("room");
    let mut consumer = Consumer::<1>::new(&memory, Begin::New).expect("room");
    for number in 0..3 {
        producer.push(&[number]).expect("room");
    }
    let _ = producer.publish();
    assert_eq!(consumer.pop(), Ok(Some([0])));
    let _ = consumer.publish();
    // Taken out, but not published: it comes again.
    assert_eq!(consumer.pop(), Ok(Some([1])));
    let mut consumer = Consumer::<1>::new(&memory, consumer.position()).expect("room");
    assert_eq!(consumer.pop(), Ok(Some([1])));
    let mut producer = Producer::<1>::new(&memory, producer.position()).expect("room");
    producer.push(&[3]).expect("room");
    let _ = producer.publish();
    assert_eq!((consumer.pop(), consumer.pop()), (Ok(Some([2])), Ok(Some([3]))));
}

#[test]
fn too_little_memory_is_no_ring() {
    assert!(Producer::<4>::new(&memory(HEADER_WORDS + 3), Begin::New).is_err());
    assert!(Consumer::<4>::new(&memory(HEADER_WORDS - 1), Begin::New).is_err());
    assert!(Producer::<4>::new(&memory(HEADER_WORDS + 4), Begin::New).is_ok());
}

#[derive(Clone, Debug)]
enum Step {
    Push,
    PublishProducer,
    Pop,
    PublishConsumer,
    Sleep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Push),
        Just(Step::PublishProducer),
        Just(Step::Pop),
        Just(Step::PublishConsumer),
        Just(Step::Sleep)
    ]
}

/// Words a hostile side may write: anything, often something near what is right.
fn scribble() -> impl Strategy<Value = (usize, u64)> {
    let value = prop_oneof![any::<u64>(), 0..20u64, (0..20u64).prop_map(|below| u64::MAX - below)];
    (0..words_for(4, 2), value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn it_is_a_queue(steps in proptest::collection::vec(step(), 0..200), start in any::<u64>()) {
        let memory = memory(words_for(8, 1));
        for word in [0, 16] {
            memory[word].write(start);
        }
        let begin = Begin::Again { own: start, seen: start };
        let mut producer = Producer::<1>::new(&memory, begin).expect("room");
        let mut consumer = Consumer::<1>::new(&memory, begin).expect("room");
        let (mut put, mut published, mut out, mut taken) = (0u64, 0u64, VecDeque::new(), 0u64);
        for step in steps {
            match step {
                Step::Push => match producer.push(&[put]) {
                    Ok(()) => put += 1,
                    Err(error) => prop_assert_eq!((error, put - taken), (PushError::Full, 8)),
                },
                Step::PublishProducer => {
                    let _ = producer.publish();
                    out.extend(published..put);
                    published = put;
                }
                Step::Pop => prop_assert_eq!(consumer.pop(), Ok(out.pop_front().map(|number| [number]))),
                Step::PublishConsumer => {
                    let _ = consumer.publish();
                    taken = published - out.len() as u64;
                }
                Step::Sleep => {
                    if consumer.sleep() == Ok(true) {
                        prop_assert!(out.is_empty());
                    }
                }
            }
        }
    }

    #[test]
    fn a_hostile_side_gets_corrupt_or_wrong_data_and_nothing_else(
        steps in proptest::collection::vec((step(), proptest::collection::vec(scribble(), 0..4)), 0..100)
    ) {
        let memory = memory(words_for(4, 2));
        let mut producer = Producer::<2>::new(&memory, Begin::New).expect("room");
        let mut consumer = Consumer::<2>::new(&memory, Begin::New).expect("room");
        for (step, scribbles) in steps {
            for (at, value) in scribbles {
                memory[at].write(value);
            }
            let mut at_most = 0;
            match step {
                Step::Push => while producer.push(&[1, 2]).is_ok() {
                    at_most += 1;
                    prop_assert!(at_most <= 4, "more fits into the ring than it has places");
                },
                Step::Pop => while let Ok(Some(_)) = consumer.pop() {
                    at_most += 1;
                    prop_assert!(at_most <= 4, "more comes out of the ring than it has places");
                },
                Step::PublishProducer => { let _ = producer.publish(); }
                Step::PublishConsumer => { let _ = consumer.publish(); }
                Step::Sleep => { let _ = (producer.sleep(), consumer.sleep()); }
            }
        }
    }
}

#[test]
fn an_index_that_cannot_be_is_reported_and_not_followed() {
    let memory = memory(words_for(4, 1));
    let mut producer = Producer::<1>::new(&memory, Begin::New).expect("room");
    let mut consumer = Consumer::<1>::new(&memory, Begin::New).expect("room");
    memory[0].write(5);
    assert_eq!(consumer.pop(), Err(Corrupt), "more than the ring holds");
    memory[0].write(3);
    assert_eq!(consumer.pop(), Ok(Some([0])));
    memory[0].write(2);
    assert_eq!(consumer.pop(), Ok(Some([0])), "what was checked once is kept");
    assert_eq!(consumer.pop(), Ok(Some([0])));
    assert_eq!(consumer.pop(), Err(Corrupt), "backwards");
    for _ in 0..4 {
        producer.push(&[7]).expect("room");
    }
    memory[16].write(1);
    assert_eq!(producer.push(&[7]), Err(PushError::Corrupt), "what was not published cannot be taken out");
    let _ = producer.publish();
    assert_eq!(producer.push(&[7]), Ok(()), "one was taken out, says the other side");
    memory[16].write(5);
    assert_eq!(producer.push(&[7]), Err(PushError::Corrupt), "more was taken out than published");
}

#[test]
fn a_producer_out_of_its_mind_is_noticed_and_does_not_notice_its_consumer() {
    let memory = memory(words_for(4, 1));
    let mut producer = Producer::<1>::new(&memory, Begin::New).expect("room");
    let mut consumer = Consumer::<1>::new(&memory, Begin::New).expect("room");
    for taken in 0..6 {
        producer.push(&[taken]).expect("room");
        let _ = producer.publish();
        assert_eq!(consumer.pop(), Ok(Some([taken])));
        let _ = consumer.publish();
    }
    garble(&memory);
    assert_eq!(consumer.pop(), Err(Corrupt));
    assert_eq!(producer.room(), Ok(4));
}
