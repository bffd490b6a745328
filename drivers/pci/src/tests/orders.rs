//! Making functions what init wants them to be.

use super::*;

fn with_order(fault: Option<Fault>, wanted: Wanted) -> (World, usize, usize) {
    let (fake, [first, ..]) = usual();
    let mut world = World::new(fake);
    world.run();
    if let Some(fault) = fault {
        world.fake.devices[first].faults.push(fault);
    }
    let n = world.number(Bdf::new(1, 0, 0));
    world.order(n, 1, wanted, 2);
    (world, n, first)
}

#[test]
fn a_function_that_is_on_has_its_vectors_and_masters_the_bus() {
    let (mut world, n, first) = with_order(None, Wanted::On);
    assert_eq!(world.run(), 1);
    assert_eq!(world.outcome(n), (1, Some(Outcome::Done)));
    let device = &world.fake.devices[first];
    assert!(device.is_master());
    let entry = |vector: u64| [0, 4, 8, 12].map(|word| device.memory.get(&(1, vector * 16 + word)).copied());
    assert_eq!(entry(0), [Some(MESSAGE as u32), Some(0), Some(0x40), Some(0)]);
    assert_eq!(entry(1), [Some(MESSAGE as u32), Some(0), Some(0x41), Some(0)]);
    assert_eq!(entry(2)[3], Some(1), "nobody asked for the third: it is masked");
    assert_eq!(entry(3)[3], Some(1));
    assert_eq!(device.resets, 0, "it has reset itself");
    assert_eq!(device.config[0x40 / 4] >> 30, 0b10, "on, and not masked as a whole");
    assert_eq!(world.run(), 0, "an order that is done is not done again");
}

#[test]
fn a_function_that_is_off_masters_nothing_and_has_forgotten_everything() {
    let (mut world, n, first) = with_order(None, Wanted::On);
    world.run();
    world.fake.devices[first].memory.insert((4, 0x14), 0xf);
    world.fake.devices[first].memory.insert((4, 0x20), 0x1234_5000);
    world.order(n, 2, Wanted::Off, 0);
    assert_eq!(world.run(), 1);
    assert_eq!(world.outcome(n), (2, Some(Outcome::Done)));
    let device = &world.fake.devices[first];
    assert!(!device.is_master());
    assert!(device.memory.keys().all(|(bar, _)| *bar != 4));
    assert_eq!(device.config[0x40 / 4] >> 30, 0b01, "off, and masked");
    assert_eq!(device.resets, 0);
}

#[test]
fn a_function_that_goes_on_at_once_has_forgotten_everything_and_keeps_the_bus() {
    let (mut world, n, first) = with_order(None, Wanted::On);
    world.run();
    let before = world.fake.devices[first].commands;
    world.fake.devices[first].memory.insert((4, 0x14), 0xf);
    world.fake.devices[first].memory.insert((4, 0x20), 0x1234_5000);
    world.fake.devices[first].memory.insert((1, 0), 0xfee0_2000);
    world.order(n, 2, Wanted::On, 2);
    assert_eq!(world.run(), 1);
    assert_eq!(world.outcome(n), (2, Some(Outcome::Done)));
    let device = &world.fake.devices[first];
    assert!(device.memory.keys().all(|(bar, _)| *bar != 4));
    assert_eq!(device.memory.get(&(1, 0)), Some(&(MESSAGE as u32)), "its vectors are as ordered");
    assert!(device.is_master());
    assert_eq!((device.commands, device.resets), (before, 0));
}

#[test]
fn a_function_that_does_not_reset_itself_loses_the_bus_before_it_is_reset() {
    for wanted in [Wanted::On, Wanted::Off] {
        let (mut world, n, first) = with_order(None, Wanted::On);
        world.run();
        world.fake.devices[first].faults.push(Fault::NeverResetsItself);
        world.fake.devices[first].memory.insert((4, 0x14), 0xf);
        world.order(n, 2, wanted, 2);
        assert_eq!(world.run(), 1);
        assert_eq!(world.outcome(n), (2, Some(Outcome::Done)));
        let device = &world.fake.devices[first];
        assert!(device.resets == 1 && !device.reset_as_master);
        assert_eq!(device.is_master(), wanted == Wanted::On);
    }
}

#[test]
fn a_function_that_has_reset_itself_but_keeps_the_bus_is_not_off() {
    let (mut world, n, _) = with_order(Some(Fault::StaysMaster), Wanted::Off);
    assert_eq!(world.run(), 1);
    assert_eq!(world.outcome(n), (1, Some(Outcome::NotStopped)));
}

#[test]
fn a_device_that_does_not_reset_itself_is_reset() {
    let (mut world, n, first) = with_order(Some(Fault::NeverResetsItself), Wanted::On);
    world.fake.devices[first].memory.insert((4, 0x14), 0xf);
    assert_eq!(world.run(), 1);
    assert_eq!(world.outcome(n), (1, Some(Outcome::Done)));
    assert_eq!(world.fake.devices[first].resets, 1);
    assert_eq!(world.fake.devices[first].address(4), world.bar(n, 4).0, "it has its addresses back");
}

#[test]
fn one_that_does_not_come_back_is_reset_by_its_bus() {
    let (mut world, n, first) = with_order(Some(Fault::NeverResetsItself), Wanted::On);
    world.fake.devices[first].memory.insert((4, 0x14), 0xf);
    world.fake.devices[first].faults.push(Fault::NeverComesBack);
    assert_eq!(world.run(), 1);
    assert_eq!(world.outcome(n), (1, Some(Outcome::Done)));
    assert_eq!(world.fake.devices[first].resets, 2);
}

#[test]
fn a_device_without_any_reset_is_reset_by_its_bus_if_it_is_alone_there() {
    for alone in [true, false] {
        let (mut fake, [.., port]) = usual();
        let device = fake.add(Device::new(Some(port), 3, 0x1234, 0x11e8).bar(0, 0x1000).msi());
        if alone {
            fake.devices[2].faults.push(Fault::Gone);
        }
        let mut world = World::new(fake);
        world.run();
        let n = world.number(world.fake.bdf(device));
        world.order(n, 1, Wanted::On, 1);
        assert_eq!(world.run(), 1);
        let expected = if alone { Outcome::Done } else { Outcome::NotStopped };
        assert_eq!(world.outcome(n), (1, Some(expected)));
        assert_eq!(world.fake.devices[device].is_master(), alone);
        let msi = &world.fake.devices[device].config[0x40 / 4..];
        assert_eq!(msi[0] >> 16 & 1, u32::from(alone));
        assert!(!alone || msi[1..4] == [MESSAGE as u32, 0, 0x40]);
    }
}

#[test]
fn what_cannot_be_stopped_is_said_to_be_so_and_the_others_go_on() {
    for fault in [Fault::Gone, Fault::Slow(1_000_000_000), Fault::StaysMaster] {
        for wanted in [Wanted::On, Wanted::Off] {
            let (mut world, n, first) = with_order(Some(fault), wanted);
            world.fake.devices[first].faults.push(Fault::NeverResetsItself);
            world.fake.devices[first].memory.insert((4, 0x14), 0xf);
            let good = world.number(Bdf::new(2, 0, 0));
            world.order(good, 1, Wanted::On, 1);
            assert_eq!(world.run(), 2);
            assert_eq!(world.outcome(n), (1, Some(Outcome::NotStopped)), "{fault:?}");
            assert_eq!(world.outcome(good), (1, Some(Outcome::Done)));
        }
    }
}

#[test]
fn pending_transactions_are_waited_for_but_not_for_ever() {
    let (mut world, n, first) = with_order(Some(Fault::AlwaysPending), Wanted::Off);
    world.fake.devices[first].faults.push(Fault::NeverResetsItself);
    world.fake.devices[first].memory.insert((4, 0x14), 0xf);
    let before = world.fake.now;
    assert_eq!(world.run(), 1);
    assert_eq!(world.outcome(n), (1, Some(Outcome::Done)));
    assert!(world.fake.now - before >= 300_000, "itself, pending, and the rest after a reset");
}

#[test]
fn a_slow_device_holds_up_no_other() {
    let (mut world, n, first) = with_order(Some(Fault::NeverResetsItself), Wanted::On);
    world.fake.devices[first].memory.insert((4, 0x14), 0xf);
    let good = world.number(Bdf::new(2, 0, 0));
    world.order(good, 1, Wanted::On, 1);
    live(u64::MAX);
    let fake = RefCell::new(core::mem::take(&mut world.fake));
    let mut pci = Pci::begin(Seen(&fake), ECAM, &world.table, &world.orders).expect("large enough");
    let progress = pci.step();
    assert_eq!(progress.answered, 1);
    assert!(progress.next.is_some());
    assert_eq!(world.outcome(good), (1, Some(Outcome::Done)));
    assert_eq!(world.outcome(n), (0, None));
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let not_an_order: [(usize, u64); 6] = [
        (order::WANTED, 0),
        (order::WANTED, 3),
        (order::VECTORS, 9),
        (order::VECTORS, u64::MAX),
        (order::MESSAGES, 0x1000),
        (order::MESSAGES + 2, 0xfee0_0001),
    ];
    for (word, value) in not_an_order {
        let (mut world, n, first) = with_order(None, Wanted::On);
        world.set_order(n, word, value);
        assert_eq!(world.run(), 1);
        assert_eq!(world.outcome(n), (1, Some(Outcome::Refused)));
        assert!(!world.fake.devices[first].is_master());
    }
}

#[test]
fn orders_for_more_than_there_is_are_refused_and_the_function_stays_stopped() {
    let (mut world, n, first) = with_order(None, Wanted::On);
    world.order(n, 1, Wanted::On, 5);
    world.run();
    assert_eq!(world.outcome(n), (1, Some(Outcome::Refused)), "it has four vectors");
    world.order(n, 2, Wanted::On, 1);
    world.fake.frames.insert(TABLE_SLOT, 0x1000..0x2000);
    world.run();
    assert_eq!(world.outcome(n), (2, Some(Outcome::Refused)), "the table is not in that Frame");
    assert!(!world.fake.devices[first].is_master());
    let bridge = world.number(Bdf::new(0, 1, 0));
    world.order(bridge, 1, Wanted::Off, 0);
    world.run();
    assert_eq!(world.outcome(bridge), (1, Some(Outcome::Refused)), "a bridge is nobody's");
}

#[test]
fn without_the_common_configuration_a_virtio_device_is_reset_as_others_are() {
    let (mut world, n, first) = with_order(None, Wanted::On);
    world.set_order(n, order::FRAMES, u64::from(TABLE_SLOT));
    world.run();
    assert_eq!(world.outcome(n), (1, Some(Outcome::Done)));
    assert_eq!(world.fake.devices[first].resets, 1);
}

#[test]
fn an_order_that_is_being_written_is_waited_for() {
    let (mut world, n, _) = with_order(None, Wanted::On);
    world.set_order(n, order::NUMBER, 0);
    assert_eq!(world.run(), 0);
    assert_eq!(world.outcome(n), (0, None));
}
