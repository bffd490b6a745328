use super::*;
use crate::fake::{Arena, FakeDevice, Whims};
use crate::queue::Queue;

const BLOCK: u16 = 0x1042;

fn device(arena: &Arena) -> FakeDevice<'_> {
    FakeDevice::new(arena, FakeDevice::FEATURES | 0b101, &[256, 100, 0], &[1, 2, 3, 4, 5, 6, 7, 8])
}

fn with_whims(arena: &Arena, whims: Whims) -> Transport<FakeDevice<'_>> {
    let device = device(arena);
    let transport = Transport::new(device.clone(), BLOCK).unwrap();
    device.set_whims(whims);
    transport
}

#[test]
fn what_is_wanted_and_offered_is_agreed_on() {
    let arena = Arena::new(0);
    let device = device(&arena);
    let mut transport = Transport::new(device.clone(), BLOCK).unwrap();
    let chosen = FakeDevice::FEATURES | 0b1;
    assert_eq!(transport.negotiate(0b11), Ok(chosen));
    assert_eq!(device.accepted(), chosen);
    assert!(!device.runs());
    assert_eq!(transport.start(), Ok(()));
    assert!(device.runs());
}

#[test]
fn a_device_that_is_not_of_the_standard_is_given_up() {
    let arena = Arena::new(0);
    let device = FakeDevice::new(&arena, Features::EVENT_IDX.bits(), &[], &[]);
    let mut transport = Transport::new(device, BLOCK).unwrap();
    assert_eq!(transport.negotiate(0), Err(DeviceError::Features(Features::EVENT_IDX.bits())));
    assert!(transport.get_status().contains(DeviceStatus::FAILED));
}

#[test]
fn features_that_the_device_then_refuses_are_an_error() {
    let arena = Arena::new(0);
    let mut transport = with_whims(&arena, Whims { refuses_features: true, ..Whims::default() });
    assert_eq!(transport.negotiate(0), Err(DeviceError::Features(FakeDevice::FEATURES)));
}

#[test]
fn a_reset_that_never_ends_is_an_error() {
    let arena = Arena::new(0);
    let mut transport = with_whims(&arena, Whims::default());
    transport.negotiate(0).unwrap();
    transport.registers.set_whims(Whims { never_resets: true, ..Whims::default() });
    assert_eq!(transport.reset(), Err(DeviceError::NoReset));
}

#[test]
fn a_device_that_has_gone_is_noticed_everywhere() {
    let arena = Arena::new(1 << 16);
    let mut transport = with_whims(&arena, Whims { gone: true, ..Whims::default() });
    assert_eq!(transport.reset(), Err(DeviceError::Gone));
    assert_eq!(transport.negotiate(0), Err(DeviceError::Gone));
    assert_eq!(transport.check(), Err(DeviceError::Gone));
    assert_eq!(transport.start(), Err(DeviceError::Gone));
    assert_eq!(transport.queue_size(0, 256), Err(DeviceError::NoQueue(0)));
    assert_eq!(transport.set_config_vector(0), Err(DeviceError::NoVector(u16::MAX)));
    let queue = Queue::<256>::new(&mut &arena, 256, 1, 0).unwrap();
    assert_eq!(transport.set_up_queue(0, queue.layout(), Some(1)), Err(DeviceError::NoVector(0)));
    transport.kick(0);
}

#[test]
fn a_device_that_needs_a_reset_says_so() {
    let arena = Arena::new(0);
    let mut transport = with_whims(&arena, Whims::default());
    transport.negotiate(0).unwrap();
    transport.set_config_vector(5).unwrap();
    transport.start().unwrap();
    transport.registers.break_down();
    assert_eq!(transport.registers.interrupts(), 1 << 5);
    assert_eq!(transport.check(), Err(DeviceError::NeedsReset));
    assert_eq!(transport.reset(), Ok(()));
    assert!(transport.check().is_ok());
}

#[test]
fn vectors_that_the_device_does_not_take_are_an_error() {
    let arena = Arena::new(1 << 16);
    let mut transport = with_whims(&arena, Whims { refuses_vectors: true, ..Whims::default() });
    transport.negotiate(0).unwrap();
    assert_eq!(transport.set_config_vector(0), Err(DeviceError::NoVector(u16::MAX)));
    let queue = Queue::<64>::new(&mut &arena, 64, 1, 0).unwrap();
    assert_eq!(transport.set_up_queue(1, queue.layout(), Some(0)), Err(DeviceError::NoVector(1)));
    assert_eq!(transport.set_up_queue(1, queue.layout(), None), Ok(()));
}

#[test]
fn a_queue_has_a_power_of_two_of_descriptors() {
    let arena = Arena::new(0);
    let mut transport = with_whims(&arena, Whims::default());
    assert_eq!(transport.queue_size(0, 256), Ok(256));
    assert_eq!(transport.queue_size(0, 128), Ok(128));
    assert_eq!(transport.queue_size(1, 256), Ok(64));
    for none in [2, 3, u16::MAX] {
        assert_eq!(transport.queue_size(none, 256), Err(DeviceError::NoQueue(none)));
    }
}

#[test]
fn a_queue_that_does_not_come_into_service_is_an_error() {
    let arena = Arena::new(1 << 16);
    let mut transport = with_whims(&arena, Whims { refuses_queues: true, ..Whims::default() });
    transport.negotiate(0).unwrap();
    let queue = Queue::<256>::new(&mut &arena, 256, 1, 0).unwrap();
    assert_eq!(transport.set_up_queue(0, queue.layout(), Some(0)), Err(DeviceError::NoQueue(0)));
}

#[test]
fn the_configuration_is_read_by_its_fields_and_not_behind_its_end() {
    let arena = Arena::new(0);
    let transport = with_whims(&arena, Whims::default());
    assert_eq!(transport.config(|config| config.u64(0)), Ok(0x0807_0605_0403_0201));
    assert_eq!(transport.config(|config| config.u32(4)), Ok(0x0807_0605));
    assert_eq!(transport.config(|config| config.u16(6)), Ok(0x0807));
    assert_eq!(transport.config(|config| config.u8(7)), Ok(8));
    assert_eq!(transport.config(|config| config.u64(4)), Err(DeviceError::Configuration));
    assert_eq!(transport.config(|config| config.u8(8)), Err(DeviceError::Configuration));
}

#[test]
fn a_configuration_that_changes_is_read_again_but_not_for_ever() {
    let arena = Arena::new(0);
    let transport = with_whims(&arena, Whims::default());
    let looks = std::cell::Cell::new(0);
    let value = transport.config(|config| {
        if looks.replace(looks.get() + 1) == 0 {
            transport.registers.set_config(&[9; 8]);
        }
        config.u8(0)
    });
    assert_eq!((value, looks.get()), (Ok(9), 2));
    transport.registers.set_whims(Whims { restless: true, ..Whims::default() });
    assert_eq!(transport.config(|config| config.u8(0)), Err(DeviceError::Configuration));
}

#[test]
fn what_is_no_virtio_device_is_refused() {
    let arena = Arena::new(0);
    for (identity, number) in [(0x1000, 0xffc0), (0x1040, 0), (0x10ff, 0xbf)] {
        let opened = Transport::new(device(&arena), identity);
        assert_eq!(opened.err(), Some(DeviceError::WrongType(number)));
    }
}

#[test]
fn the_crate_s_own_trait_reads_and_writes_the_configuration() {
    let arena = Arena::new(0);
    let mut transport = with_whims(&arena, Whims::default());
    assert_eq!(transport.device_type(), DeviceType::Block);
    assert_eq!(transport.read_config_space::<u32>(4).unwrap(), 0x0807_0605);
    transport.write_config_space(4, 0x11u8).unwrap();
    assert_eq!(transport.read_config_space::<u16>(4).unwrap(), 0x0611);
    assert!(transport.read_config_space::<u64>(1).is_err());
    assert!(transport.write_config_space(usize::MAX, 1u32).is_err());
}
