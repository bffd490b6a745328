//! Driver and clients die at any step; what was acknowledged is there, and nothing is asked for in vain.

use proptest::test_runner::{RngAlgorithm, TestRng};
use virtio::fragile::Fuse;

use super::medium::SECTORS;
use super::program::{Program, below};
use super::rig::{Memory, Rig, TestClient};

fn rng(seed: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

/// A client with its program, and when it dies.
struct Side<'m> {
    client: TestClient<'m>,
    program: Program,
    fuse: Fuse,
    deaths: u64,
}

/// A machine with programs that share its disk.
struct World<'m> {
    rig: Rig<'m>,
    sides: Vec<Side<'m>>,
    rng: TestRng,
}

impl<'m> World<'m> {
    fn new(memory: &'m Memory, clients: u64, seed: u64) -> World<'m> {
        let mut rig = Rig::new(memory);
        let part = SECTORS / clients;
        let side = |at: u64| Side {
            client: rig.start_client(at as usize),
            program: Program::new(at * part, part),
            fuse: Fuse::default(),
            deaths: 0,
        };
        let sides = (0..clients).map(side).collect();
        World { rig, sides, rng: rng(seed) }
    }

    /// One turn of client `at`, which may die in it.
    fn turn(&mut self, at: usize) -> bool {
        let side = &mut self.sides[at];
        let data = &self.rig.data[at];
        match side.program.turn(&mut side.client, &self.rig.outside, data, &side.fuse) {
            Some(idle) => idle,
            None => {
                side.deaths += 1;
                side.program.died();
                side.client = self.rig.start_client(at);
                false
            }
        }
    }

    fn make(&mut self, at: usize) {
        let side = &mut self.sides[at];
        side.program.make(&mut side.client, &self.rig.data[at], &mut self.rng);
    }

    fn serve(&mut self) {
        let carried_out = below(&mut self.rng, 4) as usize;
        self.rig.serve(carried_out);
    }

    /// The device does some of what it has, in any order.
    fn device(&mut self) {
        self.rig.medium.take();
        while !self.rig.medium.pending.is_empty() && below(&mut self.rng, 4) > 0 {
            let count = self.rig.medium.pending.len() as u64;
            self.rig.medium.finish(below(&mut self.rng, count) as usize);
        }
    }

    /// Goes on until nobody wants anything, and looks at the disk. Who sleeps does nothing until it is woken.
    fn end(&mut self) {
        (0..self.sides.len()).for_each(|at| _ = self.turn(at));
        self.serve();
        while !self.sides.iter().all(|side| side.client.under_way() == 0) {
            let mut awake = false;
            for at in 0..self.sides.len() {
                if self.rig.client_wakes(at) {
                    self.turn(at);
                    awake = true;
                }
            }
            if self.rig.server_wakes() {
                self.serve();
                awake = true;
            }
            self.rig.medium.take();
            awake |= !self.rig.medium.pending.is_empty();
            self.rig.medium.finish_all();
            assert!(awake, "all sleep, and there are requests");
        }
        self.sides.iter_mut().for_each(|side| side.program.check(&self.rig.medium.sectors));
        assert_eq!(*self.rig.outside.reports.borrow(), []);
        assert_eq!(self.rig.medium.device.faults(), []);
    }

    /// Writes, flushes and reads a little, always the same.
    fn script(&mut self) {
        for round in 0..20 {
            for at in 0..self.sides.len() {
                (0..3).for_each(|_| self.make(at));
                self.turn(at);
            }
            self.serve();
            if round % 2 == 1 {
                self.device();
            } else {
                self.rig.medium.take();
            }
            self.serve();
        }
        self.end();
    }
}

#[test]
fn nothing_is_lost_whichever_step_the_driver_dies_at() {
    let mut steps = 0;
    for fuse in 1.. {
        let memory = Memory::new(1);
        let mut world = World::new(&memory, 1, 1);
        world.rig.fuse.set(fuse);
        world.script();
        if world.rig.deaths == 0 {
            break;
        }
        steps = fuse;
    }
    assert!(steps > 150, "only {steps} steps");
}

#[test]
fn nothing_is_lost_whichever_step_a_client_dies_at() {
    let mut steps = 0;
    for fuse in 1.. {
        let memory = Memory::new(2);
        let mut world = World::new(&memory, 2, 2);
        world.sides[0].fuse.set(fuse);
        world.script();
        if world.sides[0].deaths == 0 {
            break;
        }
        steps = fuse;
    }
    assert!(steps > 150, "only {steps} steps");
}

#[test]
fn nothing_is_lost_whichever_step_the_driver_dies_at_when_it_comes_back() {
    for first in [60, 120, 200] {
        for second in 1.. {
            let memory = Memory::new(1);
            let mut world = World::new(&memory, 1, 1);
            world.rig.fuse.set(first);
            world.rig.next_fuse = second;
            world.script();
            assert!(world.rig.deaths > 0);
            if world.rig.deaths < 2 {
                assert!(second > 100, "only {second} steps");
                break;
            }
        }
    }
}

#[test]
fn nothing_is_lost_in_random_schedules() {
    for seed in 0..60 {
        let memory = Memory::new(2);
        let mut world = World::new(&memory, 2, seed);
        for _ in 0..1500 {
            let at = below(&mut world.rng, 2) as usize;
            match below(&mut world.rng, 40) {
                0 => world.rig.fuse.set(1 + below(&mut world.rng, 200)),
                1 => world.sides[at].fuse.set(1 + below(&mut world.rng, 200)),
                2 => {
                    // Between a death and the stop of the device the clients learn of it.
                    world.rig.serve(0);
                    world.rig.kill_server(false);
                    world.turn(at);
                    world.device();
                    world.rig.fence(0);
                }
                3..20 => world.make(at),
                20..28 => _ = world.turn(at),
                28..34 => world.serve(),
                _ => world.device(),
            }
        }
        world.end();
        let answers: u64 = world.sides.iter().map(|side| side.program.answers).sum();
        assert!(answers > 60, "only {answers} answers");
    }
}
