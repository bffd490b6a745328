//! Readiness words under every interleaving that loom finds, with a server that dies anywhere. A lost wake-up is a
//! deadlock, and loom reports those.

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use recover::readiness::{Source, WORDS, Watch};
use ring::Word;

struct Shared(AtomicU64);

impl Word for Shared {
    fn read_acquire(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn write_release(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }
    fn write(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
    fn barrier() {
        fence(Ordering::SeqCst);
    }
}

/// A Notification: a sticky bit that can be waited for.
#[derive(Default)]
struct Bell {
    bit: Mutex<bool>,
    set: Condvar,
}

impl Bell {
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

struct World {
    words: [Shared; WORDS],
    /// What the server has: things that the client wants, one after the other.
    ready: AtomicU64,
    bell: Bell,
}

/// What the server does for one thing, step by step; it is killed before step `dies_at` of its first life.
fn serve(world: &World, things: u64, dies_at: Option<u64>) {
    let mut step = 0;
    let mut dies = || {
        step += 1;
        dies_at == Some(step - 1)
    };
    let mut source = Source::begin(&world.words);
    world.bell.signal();
    for thing in world.ready.load(Ordering::Relaxed) + 1..=things {
        if dies() {
            return;
        }
        world.ready.store(thing, Ordering::Release);
        if dies() {
            return;
        }
        let sleeps = source.advance();
        if dies() {
            return;
        }
        if sleeps {
            world.bell.signal();
        }
    }
}

/// Takes `things`, and sleeps whenever there are none.
fn take(world: &World, things: u64) {
    let watch = Watch::new(&world.words);
    let mut taken = 0;
    while taken < things {
        let seen = watch.seen();
        if world.ready.load(Ordering::Acquire) > taken {
            taken += 1;
        } else if watch.sleep(seen) {
            world.bell.wait();
        }
    }
}

fn check(things: u64, dies_at: Option<u64>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let world = Arc::new(World {
            words: core::array::from_fn(|_| Shared(AtomicU64::new(0))),
            ready: AtomicU64::new(0),
            bell: Bell::default(),
        });
        let server = Arc::clone(&world);
        let lives = loom::thread::spawn(move || {
            if dies_at.is_some() {
                serve(&server, things, dies_at);
            }
            serve(&server, things, None);
        });
        take(&world, things);
        lives.join().expect("it ends");
    });
}

#[test]
fn no_wake_up_is_lost() {
    check(2, None);
}

#[test]
fn no_wake_up_is_lost_wherever_the_server_dies() {
    for dies_at in 0..3 {
        check(1, Some(dies_at));
    }
}

#[test]
fn nonsense_in_the_words_is_a_look_in_vain() {
    let words: [core::sync::atomic::AtomicU64; WORDS] = Default::default();
    let watch = Watch::new(&words);
    let mut source = Source::begin(&words);
    for nonsense in [0, 1, u64::MAX, 1 << 63] {
        words[0].write(nonsense);
        assert!(watch.sleep(nonsense));
        assert!(!watch.sleep(nonsense.wrapping_add(1)));
        words[8].write(nonsense);
        let _ = source.advance();
    }
}
