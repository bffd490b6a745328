use super::*;
use crate::Transport;
use crate::fake::{Arena, Chain, FakeDevice};

const SIZE: usize = 8;
/// All combinations of the features that change how a queue works.
const FEATURES: [Features; 4] = [
    Features::VERSION_1,
    Features::VERSION_1.union(Features::INDIRECT_DESC),
    Features::VERSION_1.union(Features::EVENT_IDX),
    Features::OURS,
];

struct Rig<'m> {
    device: FakeDevice<'m>,
    transport: Transport<FakeDevice<'m>>,
    queue: Queue<'m, SIZE>,
}

fn rig(arena: &Arena, features: Features) -> Rig<'_> {
    let device = FakeDevice::new(arena, features.bits(), &[SIZE as u16], &[]);
    let mut transport = Transport::new(device.clone(), 0x1042).unwrap();
    let features = transport.negotiate(0).unwrap();
    let size = transport.queue_size(0, SIZE as u16).unwrap();
    let queue = Queue::new(&mut &*arena, size, 4, features).unwrap();
    transport.set_up_queue(0, queue.layout(), Some(1)).unwrap();
    transport.start().unwrap();
    Rig { device, transport, queue }
}

fn request(number: u64) -> [Segment; 3] {
    [
        Segment::readable(number << 12, 16),
        Segment::readable((number << 12) + 100, 200),
        Segment::writable((number << 12) + 300, 10),
    ]
}

impl Rig<'_> {
    fn add(&mut self, number: u64) -> u16 {
        self.queue.add(3, request(number).into_iter()).unwrap()
    }

    fn publish(&mut self) {
        if self.queue.publish() {
            self.transport.kick(0);
        }
    }

    fn take(&self) -> Option<Chain> {
        self.device.take(0)
    }
}

#[test]
fn the_device_finds_the_segments_of_each_request_in_order() {
    for features in FEATURES {
        let arena = Arena::new(1 << 16);
        let mut rig = rig(&arena, features);
        let tokens = [rig.add(1), rig.add(2)];
        assert_eq!(rig.take(), None, "nothing was published yet");
        rig.publish();
        for (number, id) in (1..).zip(tokens) {
            assert_eq!(rig.take(), Some(Chain { id, segments: request(number).to_vec() }));
        }
        assert_eq!(rig.take(), None);
    }
}

#[test]
fn requests_come_back_in_any_order_and_make_room() {
    for features in FEATURES {
        let arena = Arena::new(1 << 16);
        let mut rig = rig(&arena, features);
        let mut number = 0;
        for _ in 0..70_000 / SIZE {
            let mut tokens = Vec::new();
            while rig.queue.has_room(3) {
                number += 1;
                tokens.push(rig.add(number));
            }
            assert_eq!(tokens.len(), if features.contains(Features::INDIRECT_DESC) { SIZE } else { 2 });
            assert_eq!(rig.queue.add(3, request(0).into_iter()), Err(Full));
            rig.publish();
            while let Some(chain) = rig.take() {
                assert!(tokens.contains(&chain.id));
            }
            tokens.rotate_left(1);
            for token in &tokens {
                rig.device.complete(0, u32::from(*token), 10);
            }
            for token in tokens {
                assert_eq!(rig.queue.pop(), Ok(Some(Used { token, length: 10 })));
            }
            assert_eq!((rig.queue.pop(), rig.queue.under_way()), (Ok(None), 0));
        }
    }
}

#[test]
fn a_batch_is_notified_once_and_not_at_all_while_the_device_is_awake() {
    let arena = Arena::new(1 << 16);
    let mut rig = rig(&arena, Features::OURS);
    (1..=3).for_each(|number| _ = rig.add(number));
    rig.publish();
    assert_eq!(rig.device.kicks(0), 1);
    assert!(rig.take().is_some());
    rig.add(4);
    assert!(!rig.queue.publish(), "the device has not come to sleep yet");
    assert_eq!((0..9).filter(|_| rig.take().is_some()).count(), 3);
    rig.add(5);
    assert!(rig.queue.publish());
}

#[test]
fn the_device_interrupts_once_when_it_was_asked_to() {
    let arena = Arena::new(1 << 16);
    let mut rig = rig(&arena, Features::OURS);
    let tokens: Vec<u16> = (1..=4).map(|number| rig.add(number)).collect();
    rig.publish();
    assert!(rig.queue.sleep());
    for token in &tokens[..3] {
        rig.device.complete(0, u32::from(*token), 0);
        assert_eq!(rig.device.interrupts(), if token == &tokens[0] { 1 << 1 } else { 0 });
    }
    assert!(!rig.queue.sleep(), "there is something to take");
    (0..3).for_each(|_| assert!(rig.queue.pop().unwrap().is_some()));
    assert!(rig.queue.sleep());
    rig.device.complete(0, u32::from(tokens[3]), 0);
    assert_eq!(rig.device.interrupts(), 1 << 1);
}

#[test]
fn a_device_without_event_idx_is_asked_by_flags() {
    let arena = Arena::new(1 << 16);
    let mut rig = rig(&arena, Features::VERSION_1);
    let tokens = [rig.add(1), rig.add(2)];
    rig.publish();
    rig.queue.awake();
    rig.device.complete(0, u32::from(tokens[0]), 0);
    assert_eq!(rig.device.interrupts(), 0);
    assert!(!rig.queue.sleep());
    assert!(rig.queue.pop().unwrap().is_some());
    assert!(rig.queue.sleep());
    rig.device.complete(0, u32::from(tokens[1]), 0);
    assert_eq!(rig.device.interrupts(), 1 << 1);
}

#[test]
fn what_was_never_submitted_or_is_back_already_is_an_error() {
    for features in FEATURES {
        let arena = Arena::new(1 << 16);
        let mut rig = rig(&arena, features);
        let tokens = [rig.add(1), rig.add(2)];
        rig.publish();
        rig.device.complete(0, u32::from(tokens[0]), 0);
        assert!(rig.queue.pop().unwrap().is_some());
        rig.device.complete(0, u32::from(tokens[0]), 0);
        assert_eq!(rig.queue.pop(), Err(DeviceError::UsedId(u32::from(tokens[0]))));
    }
    for id in [5, SIZE as u32, 1 << 16, u32::MAX] {
        let arena = Arena::new(1 << 16);
        let mut rig = rig(&arena, Features::OURS);
        rig.add(1);
        rig.publish();
        rig.device.complete(0, id, 0);
        assert_eq!(rig.queue.pop(), Err(DeviceError::UsedId(id)));
    }
}

#[test]
fn the_middle_of_a_chain_is_no_request() {
    let arena = Arena::new(1 << 16);
    let mut rig = rig(&arena, Features::VERSION_1);
    let token = rig.add(1);
    rig.publish();
    rig.device.complete(0, u32::from(token) + 1, 0);
    assert_eq!(rig.queue.pop(), Err(DeviceError::UsedId(u32::from(token) + 1)));
}

#[test]
fn more_written_than_there_is_room_for_is_an_error() {
    for features in FEATURES {
        let arena = Arena::new(1 << 16);
        let mut rig = rig(&arena, features);
        let token = rig.add(1);
        rig.publish();
        rig.device.complete(0, u32::from(token), 11);
        assert_eq!(rig.queue.pop(), Err(DeviceError::UsedLength { said: 11, room: 10 }));
    }
}

#[test]
fn an_index_that_runs_away_is_an_error() {
    for jump in [2, SIZE as u16, SIZE as u16 + 1, 0x7fff, u16::MAX] {
        let arena = Arena::new(1 << 16);
        let mut rig = rig(&arena, Features::OURS);
        rig.add(1);
        rig.publish();
        // This one is not published: the device cannot have used it.
        rig.add(2);
        rig.device.jump(0, jump);
        assert_eq!(rig.queue.pop(), Err(DeviceError::UsedIndex { from: 0, to: jump }));
    }
}

#[test]
fn a_queue_that_was_cleared_is_as_new() {
    let arena = Arena::new(1 << 16);
    let mut rig = rig(&arena, Features::OURS);
    (1..=SIZE as u64).for_each(|number| _ = rig.add(number));
    rig.publish();
    let features = rig.transport.negotiate(0).unwrap();
    assert_eq!(features, Features::OURS.bits());
    rig.queue.clear();
    rig.transport.set_up_queue(0, rig.queue.layout(), Some(1)).unwrap();
    rig.transport.start().unwrap();
    let id = rig.add(1);
    rig.publish();
    assert_eq!(rig.take(), Some(Chain { id, segments: request(1).to_vec() }));
}

#[test]
fn a_request_of_nothing_or_of_too_many_segments_is_refused() {
    let arena = Arena::new(1 << 16);
    let mut rig = rig(&arena, Features::OURS);
    assert_eq!(rig.queue.add(0, [].into_iter()), Err(Full));
    assert_eq!(rig.queue.add(5, request(1).into_iter()), Err(Full));
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    let arena = Arena::new(4096);
    assert!(Queue::<256>::new(&mut &arena, 256, 1, 0).is_err());
}
