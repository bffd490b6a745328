//! The protocol of signals, under every interleaving that loom finds: two threads over loom's atomics, which
//! reorder as the memory model allows. A lost wake-up is a deadlock, and loom reports those.

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};

use super::*;
use crate::records::{Consumer, Producer, PushError};

impl Word for AtomicU64 {
    fn read_acquire(&self) -> u64 {
        AtomicU64::load(self, Ordering::Acquire)
    }
    fn read(&self) -> u64 {
        AtomicU64::load(self, Ordering::Relaxed)
    }
    fn write_release(&self, value: u64) {
        AtomicU64::store(self, value, Ordering::Release);
    }
    fn write(&self, value: u64) {
        AtomicU64::store(self, value, Ordering::Relaxed);
    }
    fn barrier() {
        fence(Ordering::SeqCst);
    }
}

/// A Notification: a sticky bit that can be waited for.
#[derive(Default)]
struct Notification {
    bit: Mutex<bool>,
    set: Condvar,
}

impl Notification {
    fn signal(&self) {
        *self.bit.lock().expect("not poisoned") = true;
        self.set.notify_one();
    }

    fn wait(&self) {
        let mut bit = self.bit.lock().expect("not poisoned");
        while !core::mem::take(&mut *bit) {
            bit = self.set.wait(bit).expect("not poisoned");
        }
    }
}

struct Shared {
    memory: Vec<AtomicU64>,
    to_consumer: Notification,
    to_producer: Notification,
}

/// Passes `count` records through a ring of `places`, in steps of `batch`.
fn pass(places: usize, count: u64, batch: u64) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let shared = Arc::new(Shared {
            memory: (0..HEADER_WORDS + places).map(|_| AtomicU64::new(0)).collect(),
            to_consumer: Notification::default(),
            to_producer: Notification::default(),
        });
        let producers = Arc::clone(&shared);
        let producer = loom::thread::spawn(move || produce(&producers, count, batch));
        consume(&shared, count);
        producer.join().expect("ended");
    });
}

fn produce(shared: &Shared, count: u64, batch: u64) {
    let mut producer = Producer::<1, _>::new(&shared.memory, Begin::New).expect("room");
    for number in 0..count {
        while let Err(error) = producer.push(&[number]) {
            assert_eq!(error, PushError::Full);
            if producer.publish() {
                shared.to_consumer.signal();
            }
            if producer.sleep().expect("sound") {
                shared.to_producer.wait();
            }
        }
        if (number + 1) % batch == 0 && producer.publish() {
            shared.to_consumer.signal();
        }
    }
    if producer.publish() {
        shared.to_consumer.signal();
    }
}

fn consume(shared: &Shared, count: u64) {
    let mut consumer = Consumer::<1, _>::new(&shared.memory, Begin::New).expect("room");
    for expected in 0..count {
        let record = loop {
            if let Some(record) = consumer.pop().expect("sound") {
                break record;
            }
            if consumer.publish() {
                shared.to_producer.signal();
            }
            if consumer.sleep().expect("sound") {
                shared.to_consumer.wait();
            }
        };
        assert_eq!(record, [expected]);
    }
    if consumer.publish() {
        shared.to_producer.signal();
    }
}

#[test]
fn no_wake_up_is_lost_when_every_record_is_published() {
    pass(2, 3, 1);
}

#[test]
fn no_wake_up_is_lost_when_the_ring_is_full_each_time() {
    pass(1, 2, 1);
}

#[test]
fn no_wake_up_is_lost_when_records_come_in_batches() {
    pass(2, 4, 2);
}
