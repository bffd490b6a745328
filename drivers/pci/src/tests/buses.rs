//! Finding functions, whatever bridges and firmware say.

use super::*;

fn buses_of(world: &World, bridge: usize) -> (u8, u8, u8) {
    let word = world.fake.devices[bridge].config[6];
    (word as u8, (word >> 8) as u8, (word >> 16) as u8)
}

#[test]
fn what_firmware_has_set_up_is_found_and_stays() {
    let (fake, [first, second, beside, port]) = usual();
    let before = fake.clone();
    let mut world = World::new(fake);
    assert_eq!(world.run(), 0);
    assert_eq!(world.table[table::COMPLETE].0.load(Ordering::Relaxed), table::MAGIC);
    assert_eq!(world.count(), 5);
    for device in [first, second, beside] {
        assert_eq!(world.fake.devices[device].config[4..10], before.devices[device].config[4..10]);
        assert!(!world.fake.devices[device].is_master(), "nobody masters the bus before an order");
    }
    assert!(world.fake.devices[port].is_master(), "a bridge passes on what is behind it");
    let n = world.number(Bdf::new(1, 0, 0));
    assert_eq!(world.word(n, table::IDENTITY) & 0xffff_ffff, 0x1042_1af4);
    assert_eq!(world.word(n, table::FLAGS), 0b1101);
    assert_eq!(world.word(n, table::MSIX), 4 | 1 << 16);
    assert_eq!(world.word(n, table::PENDING), 1 << 16 | 0x800 << 32);
    assert_eq!(world.bar(n, 1), (u64::from(WINDOW), 0x1000));
    assert_eq!(world.bar(n, 4), (u64::from(WINDOW) + 0x4000, 0x4000));
    let kinds: Vec<u64> = (0..8).map(|index| world.word(n, table::REGIONS + 3 * index)).collect();
    assert_eq!(kinds, [2 | 4 << 8, 4 | 4 << 8, 3 | 4 << 8, 1 | 4 << 8, 0, 0, 0, 0]);
    assert_eq!(world.word(n, table::REGIONS + 2), 4, "the multiplier of notifications");
    let port = world.number(Bdf::new(0, 1, 0));
    assert_eq!((world.word(port, table::FLAGS), world.word(port, table::BEHIND)), (0b10, 0x101));
}

#[test]
fn bridges_without_numbers_get_some_at_any_depth() {
    let mut fake = Fake::default();
    let mut parent = None;
    let mut bridges = Vec::new();
    for depth in 0..4 {
        let bridge = fake.add(Device::new(parent, 3, 0x1234, 1).bridge());
        fake.add(Device::new(parent, 4, 0x1234, depth).bar(0, 0x2000));
        bridges.push(bridge);
        parent = Some(bridge);
    }
    let other = fake.add(Device::new(None, 9, 0x1234, 1).bridge());
    fake.add(Device::virtio(parent, 0));
    fake.add(Device::virtio(Some(other), 0));
    let mut world = World::new(fake);
    world.run();
    assert_eq!(world.count(), 11);
    for (depth, bridge) in bridges.into_iter().enumerate() {
        assert_eq!(buses_of(&world, bridge), (depth as u8, depth as u8 + 1, 4));
    }
    assert_eq!(buses_of(&world, other), (0, 5, 5));
}

#[test]
fn a_bridge_without_a_number_left_leads_nowhere() {
    let (mut fake, [.., port]) = usual();
    fake.set_buses(port, 0, (1, 1));
    let below = fake.add(Device::new(Some(port), 4, 0x1b36, 0xc).bridge());
    fake.add(Device::virtio(Some(below), 0));
    let mut world = World::new(fake);
    world.run();
    // Bus 2 is the neighbour's.
    assert_eq!(buses_of(&world, below), (1, 0, 0));
    assert_eq!(world.count(), 6);
}

#[test]
fn a_chain_of_bridges_grows_at_its_end() {
    let mut fake = Fake::default();
    let mut parent = None;
    for _ in 0..5 {
        parent = Some(fake.add(Device::new(parent, 0, 0x1234, 1).bridge()));
    }
    let device = fake.add(Device::virtio(parent, 0));
    let mut world = World::new(fake);
    world.run();
    assert_eq!(world.count(), 6);
    assert_eq!(world.fake.bdf(device), Bdf::new(5, 0, 0));
    for depth in 0..5u8 {
        assert_eq!(buses_of(&world, depth.into()), (depth, depth + 1, 5));
    }
}

#[test]
fn numbers_that_make_no_sense_are_replaced() {
    // Its own bus, backwards, the same as its neighbour's, a wrong primary.
    for (primary, behind) in [(0, (0, 5)), (0, (7, 3)), (0, (1, 1)), (4, (6, 6))] {
        let (mut fake, [first, second, ..]) = usual();
        fake.set_buses(1, primary, behind);
        let mut world = World::new(fake);
        world.run();
        assert_eq!(world.count(), 5);
        assert_eq!(world.fake.bdf(first), Bdf::new(1, 0, 0));
        assert_eq!(world.fake.bdf(second), Bdf::new(2, 0, 0));
    }
}

#[test]
fn a_bridge_that_takes_no_number_leads_nowhere() {
    let (mut fake, [first, ..]) = usual();
    fake.set_buses(1, 0, (0, 0));
    fake.devices[1] = fake.devices[1].clone().fault(Fault::KeepsAddresses);
    let mut world = World::new(fake);
    world.run();
    assert_eq!(world.count(), 4);
    assert_eq!(world.fake.bdf(first), Bdf::new(1, 0, 0));
}

#[test]
fn all_functions_of_a_device_are_found_and_only_of_one_that_has_several() {
    let mut fake = Fake::default();
    for function in [0, 2, 7] {
        fake.add(Device::new(None, 5, 0x1234, 1).at(function).multi());
        fake.add(Device::new(None, 6, 0x1234, 1).at(function));
    }
    let mut world = World::new(fake);
    world.run();
    let found: Vec<u64> = (0..world.count()).map(|n| world.word(n, table::ADDRESS)).collect();
    assert_eq!(found, [0x28, 0x2a, 0x2f, 0x30]);
}

#[test]
fn more_functions_than_the_table_holds_are_left_off() {
    let mut fake = Fake::default();
    for device in 0..32 {
        for function in 0..3 {
            let index = fake.add(Device::new(None, device, 0x1234, 1).at(function).multi());
            fake.devices[index].config[1] |= 4;
        }
    }
    let mut world = World::new(fake);
    world.run();
    assert_eq!(world.count(), 63);
    assert!(world.fake.devices.iter().all(|device| !device.is_master()));
}

#[test]
fn lists_of_capabilities_that_loop_end() {
    for target in [0x40, 0x44, 0xfc, 0x3c, 0] {
        let mut fake = Fake::default();
        let mut device = Device::virtio(None, 3);
        let last = usize::from(device.capability(&[0x09])) / 4;
        device.config[last] = 0x09 | target << 8;
        device.config[0x40 / 4] |= target << 8;
        fake.add(device);
        let mut world = World::new(fake);
        world.run();
        assert_eq!(world.count(), 1);
    }
}

#[test]
fn extended_capabilities_that_loop_end() {
    let (mut fake, [.., port]) = usual();
    fake.devices[port].config[0x100 / 4] = 0x1 | 0x140 << 20;
    fake.devices[port].config[0x140 / 4] = 0x2 | 0x100 << 20;
    let mut world = World::new(fake);
    world.run();
    assert_eq!(world.count(), 5);
}

#[test]
fn devices_behind_a_port_cannot_reach_each_other() {
    let (mut fake, [.., port]) = usual();
    let device = &mut fake.devices[port];
    device.config[0x100 / 4] = 0x1 | 0x140 << 20;
    device.config[0x140 / 4] = 0xd;
    device.config[0x144 / 4] = 0x5f;
    let mut seen = World::new(fake);
    // The control is the high half of the word that says what there is.
    seen.fake.devices[port] = seen.fake.devices[port].clone().writable(0x144, 0xffff_0000);
    seen.run();
    assert_eq!(seen.fake.devices[port].config[0x144 / 4], 0x1d_005f);
}

#[test]
fn devices_that_babble_or_answer_with_ones_do_no_harm() {
    for fault in [Fault::Babbles, Fault::Gone, Fault::KeepsAddresses] {
        let (mut fake, [first, second, ..]) = usual();
        fake.devices[first] = fake.devices[first].clone().fault(fault);
        let mut world = World::new(fake);
        world.run();
        let good = world.number(world.fake.bdf(second));
        world.order(good, 1, Wanted::On, 1);
        assert_eq!(world.run(), 1);
        assert_eq!(world.outcome(good), (1, Some(Outcome::Done)));
    }
}
