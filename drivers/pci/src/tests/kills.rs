//! A life that ends at any store leaves what the next one finishes.

use super::*;

/// What outlives all lives and must be the same at the end, however many there were.
#[derive(Debug, PartialEq, Eq)]
struct End {
    table: Vec<u64>,
    config: Vec<Vec<u32>>,
    memory: Vec<Vec<((usize, u64), u32)>>,
}

fn end(world: &World) -> End {
    let devices = &world.fake.devices;
    End {
        table: world.table.iter().map(|word| word.0.load(Ordering::Relaxed)).collect(),
        config: devices.iter().map(|device| device.config.clone()).collect(),
        memory: devices
            .iter()
            .map(|device| device.memory.iter().map(|(at, value)| (*at, *value)).collect())
            .collect(),
    }
}

/// What is the first difference.
fn differ(found: &End, expected: &End) -> Result<(), String> {
    let words = |what: &str, found: &[u64], expected: &[u64]| {
        let index = (0..found.len()).find(|index| found[*index] != expected[*index]);
        index
            .map_or(Ok(()), |at| Err(format!("{what}[{at:#x}] is {:#x}, not {:#x}", found[at], expected[at])))
    };
    words("table", &found.table, &expected.table)?;
    for (n, (found, expected)) in found.config.iter().zip(&expected.config).enumerate() {
        let wide = |words: &[u32]| words.iter().copied().map(u64::from).collect::<Vec<u64>>();
        words(&format!("configuration {n}"), &wide(found), &wide(expected))?;
    }
    let same = found.memory == expected.memory;
    same.then_some(()).ok_or_else(|| format!("{:x?}, not {:x?}", found.memory, expected.memory))
}

/// Runs `prepare`'s world with a life that ends after each number of stores in turn, and one that goes on; each must
/// end as a world without deaths does. How many deaths there were.
fn everywhere(prepare: impl Fn() -> World) -> u64 {
    let mut expected = prepare();
    expected.run();
    let expected = end(&expected);
    for stores in 0.. {
        let mut world = prepare();
        let finished = world.life(stores).is_some();
        world.run();
        differ(&end(&world), &expected).unwrap_or_else(|what| panic!("killed after {stores} stores: {what}"));
        if finished {
            return stores;
        }
    }
    unreachable!("a life has an end")
}

fn disordered() -> World {
    let (mut fake, [first, second, beside, port]) = usual();
    fake.set_bar(first, 1, 0);
    fake.set_bar(second, 4, u64::from(WINDOW));
    fake.set_bar(beside, 5, 0xfebd_0000);
    fake.set_buses(port, 0, (0, 0));
    let below = fake.add(Device::new(None, 7, 0x1234, 1).bridge());
    fake.add(Device::virtio(Some(below), 0));
    fake.add(Device::new(Some(below), 1, 0x1234, 1).bar(0, 0x100).bar(1, 0x100));
    World::new(fake)
}

#[test]
fn while_it_looks_around() {
    assert!(everywhere(disordered) > 300);
}

#[test]
fn while_it_carries_out_orders() {
    let deaths = everywhere(|| {
        let mut world = disordered();
        world.run();
        for (number, bus) in [1, 2, 3].into_iter().enumerate() {
            let n = world.number(Bdf::new(bus, 0, 0));
            world.order(n, 7 + number as u64, Wanted::On, 2);
        }
        world
    });
    assert!(deaths > 40, "{deaths}");
}

#[test]
fn while_it_resets_what_does_not_reset_itself() {
    for faults in [&[Fault::NeverResetsItself][..], &[Fault::NeverResetsItself, Fault::NeverComesBack]] {
        let deaths = everywhere(|| {
            let (fake, [first, ..]) = usual();
            let mut world = World::new(fake);
            world.run();
            let n = world.number(Bdf::new(1, 0, 0));
            world.fake.devices[first].faults.extend(faults);
            world.fake.devices[first].memory.insert((4, 0x14), 0xf);
            world.order(n, 1, Wanted::On, 2);
            world
        });
        assert!(deaths > 20);
    }
}

#[test]
fn at_two_places() {
    let mut expected = disordered();
    expected.run();
    let expected = end(&expected);
    for first in (0..400).step_by(7) {
        for second in (0..400).step_by(11) {
            let mut world = disordered();
            world.life(first);
            world.life(second);
            world.run();
            let same = differ(&end(&world), &expected);
            same.unwrap_or_else(|what| panic!("killed after {first} and {second} stores: {what}"));
        }
    }
}

#[test]
fn a_new_life_leaves_alone_what_is_as_it_should_be() {
    let (fake, [first, second, ..]) = usual();
    let mut world = World::new(fake);
    world.run();
    let n = world.number(Bdf::new(1, 0, 0));
    world.order(n, 1, Wanted::On, 1);
    world.run();
    world.fake.devices[first].memory.insert((4, 0x20), 0x1000);
    // Nobody has asked for this one: whoever let it master the bus was not init.
    world.fake.devices[second].config[1] |= 4;
    assert_eq!(world.run(), 0);
    assert!(world.fake.devices[first].is_master());
    assert_eq!(world.fake.devices[first].memory.get(&(4, 0x20)), Some(&0x1000));
    assert!(!world.fake.devices[second].is_master());
}
