//! Where base addresses go.

use super::*;

fn place(world: &mut World, device: usize, place: usize) -> (u64, u64) {
    let n = world.number(world.fake.bdf(device));
    let (address, size) = world.bar(n, place);
    assert_eq!(address, if size == 0 { 0 } else { world.fake.devices[device].address(place) });
    (address, size)
}

#[test]
fn what_firmware_left_out_is_placed_in_the_window() {
    let (mut fake, [first, ..]) = usual();
    fake.set_bar(first, 1, 0);
    fake.set_bar(first, 4, 0);
    let mut world = World::new(fake);
    world.run();
    assert_eq!(place(&mut world, first, 4), (u64::from(WINDOW), 0x4000));
    assert_eq!(place(&mut world, first, 1), (u64::from(WINDOW) + 0x4000, 0x1000));
}

#[test]
fn what_overlaps_or_lies_outside_is_moved() {
    for address in [u64::from(WINDOW) + 0x4000, u64::from(WINDOW) + 0x20_0000, 0xfee0_0000] {
        let (mut fake, [first, ..]) = usual();
        fake.set_bar(first, 1, address);
        let mut world = World::new(fake);
        world.run();
        let (table, rest) = (place(&mut world, first, 1), place(&mut world, first, 4));
        assert!(table.0 >= u64::from(WINDOW) && table.0 + 0x1000 <= u64::from(WINDOW) + 0x20_0000);
        assert!(table.0 + 0x1000 <= rest.0 || rest.0 + 0x4000 <= table.0, "{table:x?} {rest:x?}");
    }
}

#[test]
fn registers_smaller_than_a_page_get_one_of_their_own() {
    let mut fake = Fake::default();
    let one = fake.add(Device::new(None, 3, 0x1234, 1).bar(0, 0x100).bar(1, 0x100));
    let other = fake.add(Device::new(None, 4, 0x1234, 1).bar(0, 0x10));
    fake.set_bar(one, 0, 0xfeb0_0000);
    fake.set_bar(one, 1, 0xfeb0_0100);
    fake.set_bar(other, 0, 0xfeb0_0200);
    let mut world = World::new(fake);
    world.run();
    let places = [place(&mut world, one, 0), place(&mut world, one, 1), place(&mut world, other, 0)];
    assert_eq!(places[0], (0xfeb0_0000, 0x100));
    let mut pages: Vec<u64> = places.iter().map(|(address, _)| address / 4096).collect();
    assert!(places.iter().all(|(address, _)| address % 4096 == 0));
    pages.sort_unstable();
    pages.dedup();
    assert_eq!(pages.len(), 3);
}

#[test]
fn wide_registers_stay_above_4_gib_where_a_prefetchable_window_leads() {
    let mut fake = Fake::default();
    let port = fake.add(Device::new(None, 1, 0x1234, 1).bridge());
    let device = fake
        .add(Device::new(Some(port), 0, 0x1234, 2).wide_bar(0, 1 << 33).wide_bar(2, 1 << 20).bar(4, 0x1000));
    fake.set_buses(port, 0, (1, 1));
    fake.set_window(port, WINDOW, WINDOW + 0xf_ffff);
    let config = &mut fake.devices[port].config;
    config[9] = 0xfff1_0001;
    config[10] = 0x40;
    config[11] = 0x43;
    fake.set_bar(device, 0, 0x40_0000_0000);
    let mut world = World::new(fake);
    world.run();
    assert_eq!(place(&mut world, device, 0), (0x40_0000_0000, 1 << 33));
    assert_eq!(place(&mut world, device, 2), (0x42_0000_0000, 1 << 20));
    assert_eq!(place(&mut world, device, 4), (u64::from(WINDOW), 0x1000));
}

#[test]
fn a_bridge_without_a_window_gets_one() {
    let mut fake = Fake::default();
    let port = fake.add(Device::new(None, 1, 0x1234, 1).bridge());
    let below = fake.add(Device::new(Some(port), 0, 0x1234, 1).bridge());
    let device = fake.add(Device::virtio(Some(below), 0));
    let mut world = World::new(fake);
    world.run();
    let n = world.number(world.fake.bdf(device));
    assert_eq!(world.bar(n, 4).1, 0x4000);
    assert!((0xc000_0000..0xfec0_0000).contains(&world.bar(n, 4).0));
    world.order(n, 1, Wanted::On, 2);
    world.run();
    assert_eq!(world.outcome(n), (1, Some(Outcome::Done)), "its MSI-X table is reached through both windows");
}

#[test]
fn what_finds_no_room_or_is_no_size_cannot_be_used() {
    let (mut fake, [first, second, ..]) = usual();
    fake.devices[first] = fake.devices[first].clone().bar(0, 1 << 22);
    fake.devices[second] = fake.devices[second].clone().odd_bar(0);
    let mut world = World::new(fake);
    world.run();
    for device in [first, second] {
        let n = world.number(world.fake.bdf(device));
        assert_eq!(world.bar(n, 0), (0, 0));
        assert_ne!(world.word(n, table::FLAGS) & proto::pci::flags::UNUSABLE, 0);
        world.order(n, 1, Wanted::On, 1);
        world.run();
        assert_eq!(world.outcome(n), (1, Some(Outcome::Refused)));
        assert!(!world.fake.devices[device].is_master());
    }
}

#[test]
fn structures_and_tables_that_lie_nowhere_are_left_out() {
    let mut fake = Fake::default();
    let device = Device::new(None, 3, 0x1af4, 0x1041)
        .bar(0, 0x1000)
        .msix(8, 0x1000, 0)
        .structure(1, 0, 0xfe0, 0x38, 0)
        .structure(2, 3, 0, 0x10, 4)
        .structure(3, 9, 0, 0x10, 0)
        .structure(4, 0, 0xffff_fff0, 0xffff_fff0, 0)
        .structure(4, 0, 0x100, 0x10, 0)
        .structure(4, 0, 0x200, 0x10, 0)
        .structure(1, 0, 0, 0x20, 0);
    fake.add(device);
    let mut world = World::new(fake);
    world.run();
    assert_eq!(world.word(0, table::MSIX), 0);
    let kinds: Vec<u64> = (0..8).map(|index| world.word(0, table::REGIONS + 3 * index)).collect();
    // The list leads to the last one first.
    assert_eq!(kinds, [4, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(world.word(0, table::REGIONS + 1), 0x200 | 0x10 << 32);
}
