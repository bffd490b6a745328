//! The start block, as init writes it and a component reads it.

use proto::start::{BLOCK_SIZE, BadBlock, Bar, Channel, Device, Memory, Named, Region, Start};

fn start<'a>(arguments: &'a str) -> Start<'a> {
    Start {
        name: "hello",
        arguments,
        cpus: 4,
        tsc_hz: 1_000_000_000,
        slot_bits: 10,
        first_free: 16,
        stack: 65536,
        capabilities: [Named { name: "cnode", slot: 2 }, Named { name: "init", slot: 5 }]
            .into_iter()
            .collect(),
        untypeds: [Memory { slot: 9, bits: 20 }].into_iter().collect(),
        records: Memory { slot: 10, bits: 14 },
        place: 3,
        life: 2,
        state: Some(Memory { slot: 11, bits: 16 }),
        channels: [Channel {
            name: "block",
            peer: 1,
            client: true,
            rings: Memory { slot: 12, bits: 17 },
            data: Memory { slot: 13, bits: 24 },
            signal: 14,
            bit: 0,
        }]
        .into_iter()
        .collect(),
        device: Some(Device {
            address: 0x100,
            identity: (0x1af4, 0x1042),
            bars: [Bar { index: 4, frame: Memory { slot: 15, bits: 14 } }].into_iter().collect(),
            regions: [Region { kind: 1, bar: 4, offset: 0, length: 4096, multiplier: 0 }]
                .into_iter()
                .collect(),
            vectors: [16, 17].into_iter().collect(),
            io_space: None,
        }),
    }
}

fn written(start: &Start) -> [u8; BLOCK_SIZE] {
    let mut block = [0; BLOCK_SIZE];
    start.write(&mut block).expect("it fits");
    block
}

#[test]
fn a_component_reads_what_init_wrote() {
    let start = start("hello\0one\0\0two words\0");
    let block = written(&start);
    let read = Start::read(&block).expect("well formed");
    assert_eq!(read, start);
    assert_eq!(read.arguments().collect::<Vec<_>>(), ["hello", "one", "", "two words"]);
    assert_eq!((read.capability("init"), read.capability("none")), (Some(5), None));
}

#[test]
fn without_arguments_there_are_none() {
    assert_eq!(start("").arguments().count(), 0);
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let long = "x".repeat(BLOCK_SIZE);
    assert_eq!(start(&long).write(&mut [0; BLOCK_SIZE]), Err(BadBlock::TooLong));
}

#[test]
fn a_damaged_block_is_refused_and_never_followed() {
    let block = written(&start("hello\0"));
    assert_eq!(Start::read(&[0; BLOCK_SIZE]), Err(BadBlock::Malformed));
    assert_eq!(Start::read(&[0xff; BLOCK_SIZE]), Err(BadBlock::Malformed));
    for at in 0..120 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = block;
            damaged[at] = value;
            // Whatever it says, reading it ends.
            let _ = Start::read(&damaged);
        }
    }
    let mut longer = block;
    longer[4] += 1;
    assert_eq!(Start::read(&longer), Err(BadBlock::Malformed));
}
