use std::string::ToString;

use proptest::prelude::*;

use proto::start::MAX_CHANNELS;

use super::*;

const EXAMPLE: &str = "
# a driver and one who uses it
component serial           # comments go to the line's end
    start     boot
    memory    256K
    durable   64K
    slots     64
    cpu       1
    priority  200
    budget    500us of 10ms
    serves    lines status
    ports     0x2f8-0x2ff 0x80
    irq       3 4
    restart   never

component terminal
    program   shell
    calls     lines
    holds     system inventory
";

fn complaint(text: &str) -> String {
    Manifest::parse(text).expect_err("refused").to_string()
}

#[test]
fn a_manifest_says_all_that_a_component_has() {
    let manifest = Manifest::parse(EXAMPLE).expect("sound");
    let serial = manifest.find("serial").expect("there");
    assert_eq!((serial.start, serial.memory, serial.durable), (Start::Boot, Budget::Bits(18), Some(16)));
    assert_eq!((serial.slot_bits, serial.cpu, serial.priority), (6, 1, 200));
    assert_eq!(serial.time, Some(Time { budget: 500, period: 10_000, strict: false }));
    assert_eq!(serial.serves, ["lines", "status"]);
    assert_eq!(serial.ports, [(0x2f8, 0x2ff), (0x80, 0x80)]);
    assert_eq!((&serial.irqs[..], serial.program), (&[3, 4][..], "serial"));
    let terminal = manifest.find("terminal").expect("there");
    assert_eq!((terminal.program, &terminal.calls[..]), ("shell", &["lines"][..]));
    assert_eq!(terminal.holds, [Right::System, Right::Inventory]);
}

#[test]
fn what_is_not_said_is_not_given() {
    let manifest = Manifest::parse("component plain").expect("sound");
    let plain = manifest.find("plain").expect("there");
    assert!(plain.serves.is_empty() && plain.calls.is_empty() && plain.holds.is_empty());
    assert!(plain.ports.is_empty() && plain.irqs.is_empty() && plain.durable.is_none());
}

#[test]
fn programs_without_a_component_fall_under_the_star() {
    let manifest = Manifest::parse("component *\ncomponent cat\npriority 7").expect("sound");
    assert_eq!(manifest.for_program("cat"), Some(1));
    assert_eq!(manifest.for_program("dog"), Some(0));
    assert_eq!(Manifest::parse("component a").expect("sound").for_program("dog"), None);
}

#[test]
fn every_complaint_names_its_line_and_what_to_mend() {
    let cases = [
        ("memory 1M", "line 1: `memory` comes before the first `component`"),
        ("component Big", "line 1: `Big` is no name: small letters, digits and -, at most 32"),
        ("component a\n\ncomponent a", "line 3: there is a component `a` already"),
        ("component a\nwings 2", "line 2: `wings` means nothing here"),
        ("component a\nmemory", "line 2: a value is missing"),
        ("component a\nmemory 1M 2M", "line 2: `2M` is one word too many"),
        ("component a\nmemory 3M", "line 2: 3145728 is not a power of two from 65536 to 1099511627776"),
        ("component a\nmemory 1", "line 2: `1` needs a unit: K, M, G"),
        ("component a\ncpu 1\ncpu 2", "line 3: `cpu` is said twice of one component"),
        ("component a\ncpu 8", "line 2: `8` is not within 0 to 7"),
        ("component a\npriority 255", "line 2: `255` is not within 0 to 254"),
        (
            "component a\nbudget 20ms of 10ms",
            "line 2: a budget is at most its period, and that at most 10000ms",
        ),
        ("component a\nbudget 20ms", "line 2: say: budget TIME of TIME, or budget TIME of TIME strict"),
        ("component a\nports 9-8", "line 2: the ports `9-8` end before they begin"),
        ("component a\nstack 6K", "line 2: a stack has whole pages, 4K to 512K"),
        ("component a\nirq 3 3", "line 2: `3` is given twice"),
        ("component *\nstart boot", "line 2: `*` stands for programs started by hand"),
        ("component a\nrestart maybe", "line 2: `restart` can be: never, always (not of `*`)"),
        (
            "component a\nholds all",
            "line 2: `all` is no right: sched-control, irq-control, io-control, io-ports, system, device-memory, inventory, control, supervise, pci, trace",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(complaint(text), expected);
    }
}

#[test]
fn calls_go_only_to_components_further_up() {
    assert_eq!(
        complaint("component a\ncalls b\ncomponent b\nserves b"),
        "line 2: no component further up serves `b`"
    );
    assert_eq!(complaint("component a\nserves a\ncalls a"), "line 3: no component further up serves `a`");
    assert_eq!(complaint("component a\nserves s\ncomponent b\nserves s"), "line 4: `a` serves `s` already");
    Manifest::parse("component b\nserves b\ncomponent a\ncalls b").expect("sound");
}

#[test]
fn channels_go_only_to_components_further_up_and_exist_once() {
    let cases = [
        ("component a\nchannel b 4K", "line 2: no component further up offers `b`"),
        ("component a\noffers a rings 4K\nchannel a 4K", "line 3: no component further up offers `a`"),
        ("component a\noffers a", "line 2: say: offers NAME rings SIZE"),
        ("component a\noffers a rings 6K", "line 2: 6144 is not a power of two from 4096 to 1073741824"),
        ("component a\noffers x rings 4K\noffers x rings 4K", "line 3: `x` is offered twice"),
        ("component a\noffers x rings 4K\ncomponent b\noffers x rings 4K", "line 4: `a` offers `x` already"),
        (
            "component a\noffers x rings 4K\ncomponent b\nchannel x 4K\nchannel x 4K",
            "line 5: there is a channel `x` already",
        ),
        ("component *\noffers x rings 4K", "line 2: `offers` cannot be said of `*`"),
        ("component a\nheartbeat 1us", "line 2: `1us` is not within 1ms to 10000ms"),
    ];
    for (text, expected) in cases {
        assert_eq!(complaint(text), expected);
    }
}

/// A component `a` behind one that drives the bus.
fn driver(line: &str) -> String {
    std::format!("component bus\nholds pci\ncomponent a\n{line}")
}

#[test]
fn nothing_that_exists_once_can_be_said_of_programs_that_can_run_several_times() {
    let refused = [
        "program x",
        "durable 64K",
        "state 4K",
        "serves x",
        "offers x rings 4K",
        "channel up 4K",
        "device 1af4:1042 vectors 1",
        "heartbeat 20ms",
        "heartbeat none",
        "restart always",
        "start boot",
        "holds pci",
    ];
    for line in refused {
        let text = std::format!("component up\nholds pci\noffers up rings 4K\ncomponent *\n{line}");
        let manifest = Manifest::parse(&text);
        assert!(manifest.is_err_and(|complaint| complaint.line == 5), "{line}");
    }
    let said = "memory 2M\nstack 64K\nslots 64\ncpu 1\npriority 7\nbudget 1ms of 10ms\nholds trace\nports 0x80\n\
                irq 3\nstart demand\nrestart never\ncalls x";
    let text = std::format!("component up\nserves x\ncomponent *\n{said}");
    let manifest = Manifest::parse(&text).expect("sound");
    assert!(manifest.find(ANY).is_some_and(|any| any.subject == Subject::Any && !any.is_supervised()));
}

#[test]
fn of_init_only_channels_can_be_said() {
    assert_eq!(complaint("component init\nmemory 1M"), "line 2: `memory` cannot be said of `init`");
    let manifest = Manifest::parse("component up\noffers x rings 4K\ncomponent init\nchannel x 4K");
    assert_eq!(manifest.expect("sound").components[1].subject, Subject::Init);
}

#[test]
fn a_device_has_one_driver_which_comes_after_pci() {
    let manifest = driver("device 1af4:1042 1 vectors 4");
    let device = Manifest::parse(&manifest).expect("sound").find("a").and_then(|entry| entry.device);
    assert_eq!(device, Some(Device { identity: (0x1af4, 0x1042), index: 1, vectors: 4 }));
    let cases = [
        (driver("device 1af4:1042"), "line 4: say: device VENDOR:DEVICE [INDEX] vectors NUMBER"),
        (
            driver("device 1af4 vectors 1"),
            "line 4: `1af4` is not VENDOR:DEVICE, four hexadecimal digits each",
        ),
        (driver("device 1af4:1042 vectors 9"), "line 4: `9` is not within 0 to 8"),
        (
            driver("device 1af4:1042 vectors 1\ncomponent b\ndevice 1af4:1042 0 vectors 2"),
            "line 6: `a` drives that device already",
        ),
        (driver("holds pci"), "line 4: `bus` holds `pci` already"),
        ("component a\ndevice 1af4:1042 vectors 1".into(), "line 2: no component further up holds `pci`"),
    ];
    for (text, expected) in cases {
        assert_eq!(complaint(&text), expected);
    }
}

#[test]
fn a_component_has_only_so_many_ends_of_channels() {
    let mut text = std::string::String::from("component disk\noffers block rings 4K\n");
    for number in 0..MAX_CHANNELS {
        text.push_str(&std::format!("component c{number}\nchannel block 4K\n"));
    }
    Manifest::parse(&text).expect("as many as fit");
    text.push_str("component more\nchannel block 4K");
    assert!(complaint(&text).ends_with("a component has at most 16 ends of channels"));
}

#[test]
fn what_init_keeps_an_eye_on_follows_from_its_lines() {
    let supervised = |lines: &str| {
        let text = std::format!("component up\noffers x rings 4K\ncomponent a\n{lines}");
        Manifest::parse(&text)
            .expect("sound")
            .find("a")
            .map(|entry| (entry.is_supervised(), entry.heartbeat()))
    };
    assert_eq!(supervised(""), Some((false, None)));
    assert_eq!(supervised("restart always"), Some((true, Some(20_000))));
    assert_eq!(supervised("restart always\nheartbeat none"), Some((true, None)));
    assert_eq!(supervised("heartbeat 5ms"), Some((true, Some(5000))));
    assert_eq!(supervised("state 4K"), Some((true, None)));
    assert_eq!(supervised("channel x 64K"), Some((true, None)));
}

#[test]
fn the_built_in_manifest_is_sound() {
    let manifest = Manifest::parse(BUILT_IN).expect("sound");
    for wide in ["selftest", "fuzz", "bench"] {
        assert_eq!(
            manifest.find(wide).map(|entry| (entry.memory, entry.slot_bits)),
            Some((Budget::Half, 14))
        );
    }
    assert!(manifest.find(ANY).is_some_and(|any| any.holds.is_empty()));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(component|memory|[a-z*]{1,6}|[0-9]{1,22}[KMG]?|0x|#|-|[ \\n]){0,60}") {
        let _ = Manifest::parse(&text);
    }

    #[test]
    fn nor_do_any_characters(text in "\\PC{0,200}") {
        let _ = Manifest::parse(&text);
    }
}

#[test]
fn only_drivers_and_holders_of_rights_to_hardware_are_told_physical_addresses() {
    let sees = |text: &str| Manifest::parse(text).expect("sound").find("a").map(Entry::sees_physical);
    for lines in ["memory 1M", "holds sched-control supervise inventory control", "ports 0x80-0x83"] {
        assert_eq!(sees(&format!("component a\n{lines}")), Some(false), "{lines}");
    }
    assert_eq!(sees(&driver("device 1af4:1042 vectors 4")), Some(true));
    for lines in ["holds pci", "holds io-control", "holds irq-control"] {
        assert_eq!(sees(&format!("component a\n{lines}")), Some(true), "{lines}");
    }
}

#[test]
fn the_servers_of_a_component_are_those_that_it_calls() {
    let text = "component ledger\n serves ledger\n restart always\ncomponent rng\n serves rng\n restart always\n\
                component both\n calls ledger rng\ncomponent one\n calls rng\n";
    let manifest = Manifest::parse(text).expect("sound");
    let servers = |name| manifest.servers_of(manifest.place(name).expect("there")).collect::<Vec<_>>();
    assert_eq!((servers("both"), servers("one"), servers("rng")), (vec![0, 1], vec![1], vec![]));
}
