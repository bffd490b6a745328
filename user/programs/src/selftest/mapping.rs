//! Address spaces: mapping, protecting, unmapping; what faults tell of it.

use abi::message::fault;
use abi::object::USER_TOP;
use abi::{CPtr, Error, Kind, MapFlags, PAGE_SIZE, Rights};
use ipc::{Frame, Message, Untyped, VSpace};

use crate::arena;
use crate::row;
use crate::subject::{FETCH, HERE, KERNEL_ADDRESSES, NOT_CANONICAL, PAGE_FAULT, PRESENT, USER, WRITE};
use crate::table::{Need, Test};
use crate::world::{CNODE, Must, Slot, Thread, VSPACE, World, now, slots};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("mapping", a_mapped_page_holds_what_is_written, "a mapped Frame is zero at first and keeps what is written"),
    row!("mapping", a_frame_mapped_twice_is_one_memory, "what is written through one mapping is read through another, in any address space"),
    row!("mapping", address_spaces_are_apart, "the same address in two address spaces is two memories"),
    row!("mapping", a_part_of_a_frame_can_be_mapped, "pages from an offset on appear at the address, and no others"),
    row!("mapping", a_thousand_pages_map_in_one_call, "a range over several tables is mapped, used and unmapped by one call each"),
    row!("mapping", writable_and_executable_is_refused, "no page is mapped or becomes writable and executable at once, and none that was executable stays so when it is made writable"),
    row!("mapping", a_frames_rights_bound_how_it_is_mapped, "write and execute take the Frame capability's rights, and read does, too"),
    row!("mapping", an_executable_page_runs_and_cannot_be_written, "code in a page mapped for execution runs, and a write to it faults"),
    row!("mapping", protect_takes_effect_at_once, "after protect the old access faults, and the new one works"),
    row!("mapping", protect_passes_over_holes, "one protect changes all that is mapped in a range, whatever is not, and a refused one nothing"),
    row!("mapping", protect_costs_little_for_a_page, "protecting 512 pages, and a gibibyte with a page in it, costs few instructions where they are counted"),
    row!("mapping", an_unmapped_page_faults_at_once, "after unmap an access faults although it has just worked"),
    row!("mapping", another_frame_at_the_same_address_is_seen_at_once, "a new mapping in the place of an old one shows its own memory"),
    row!("mapping", the_middle_of_a_mapping_can_be_unmapped, "unmapping some pages of a mapping leaves the others; holes are no error"),
    row!("mapping", deleting_a_frame_unmaps_it, "deleting the capability a mapping was made with takes the mapping away, and no other"),
    row!("mapping", a_refused_map_leaves_nothing_behind, "a map that meets a mapped page, or lacks tables, maps nothing"),
    row!("mapping", large_pages_go_whole_or_not, "2 MiB pages are mapped as such, and are not split"),
    row!("mapping", large_pages_must_be_aligned, "address, offset and length of a 2 MiB mapping are multiples of it"),
    row!("mapping", huge_pages_map_a_gigabyte, "a 1 GiB page is mapped, queried and unmapped whole", Need::Device),
    row!("mapping", device_memory_is_never_cached, "Frames of device memory are mapped uncached, whatever the flags; memory only when asked for", Need::Device),
    row!("mapping", device_memory_becomes_no_kernel_object, "of device memory only Untypeds and Frames are made, and no IPC buffer or table lies in it", Need::Device),
    row!("mapping", query_tells_flags_address_and_size, "query tells how an address is mapped"),
    row!("mapping", an_address_space_without_tables_takes_a_donation, "a map that lacks tables succeeds after a donation, which is no longer the giver's"),
    row!("mapping", a_donation_comes_back_with_its_memory, "revoking donated memory takes the address space's tables with it, and nothing else"),
    row!("mapping", tables_are_given_back, "a table whose whole range is unmapped can be used elsewhere"),
    row!("mapping", the_top_page_is_never_mapped, "nothing is mapped at or above USER_TOP, nor across it, and nothing runs there"),
    row!("mapping", a_deleted_address_space_stops_its_threads, "a thread stops when its VSpace is deleted, and can be given another"),
    row!("mapping", a_frames_physical_pages_are_contiguous, "physical tells the first byte, and pages follow each other"),
];

/// Elsewhere: under other tables.
const THERE: u64 = 0x7000_0000_0000;
const LARGE_PAGE: u64 = 2 << 20;

fn write(address: u64, value: u64) {
    // SAFETY: the tests write where they have mapped memory of their own, or want the fault.
    unsafe { (address as *mut u64).write_volatile(value) }
}

fn read(address: u64) -> u64 {
    // SAFETY: as for writing.
    unsafe { (address as *const u64).read_volatile() }
}

fn map(frame: CPtr, address: u64, offset: u64, pages: u64, flags: MapFlags) {
    VSPACE.map(frame, address, offset, pages, flags).must("a map");
}

fn unmap(address: u64, pages: u64) {
    VSPACE.unmap(address, pages).must("an unmap");
}

/// What fault a thread of this address space meets that does `act`: kind, code, address. None: it ends.
fn fault_of<F: Fn() + Copy + Send + 'static>(w: &mut World, space: VSpace, act: F) -> Option<[u64; 3]> {
    let faults = w.endpoint();
    let thread = w.thread().space(space).faults_to(faults).start(act);
    let heard = ipc::recv(faults, CPtr::NULL).must("a fault").message.words;
    w.delete(thread.tcb.0);
    let ended = heard[fault::RIP] == crate::world::finish as *const () as u64;
    (!ended).then(|| [heard[fault::KIND], heard[fault::CODE], heard[fault::ADDRESS]])
}

/// `ret`.
const RETURN: u64 = 0xc3;

/// Jumps to an address.
fn run_at(address: u64) {
    // SAFETY: what lies there is a `ret`, or the fault is what the test is about.
    let function: extern "C" fn() = unsafe { core::mem::transmute(address) };
    function();
}

fn a_mapped_page_holds_what_is_written(w: &mut World) {
    let frame = w.frame(4);
    map(frame, HERE, 0, 4, MapFlags::WRITE);
    for word in (HERE..HERE + 4 * PAGE_SIZE).step_by(8) {
        assert_eq!(read(word), 0);
        write(word, word);
    }
    assert!((HERE..HERE + 4 * PAGE_SIZE).step_by(8).all(|word| read(word) == word));
}

fn a_frame_mapped_twice_is_one_memory(w: &mut World) {
    let frame = w.frame(1);
    let space = w.space();
    map(frame, HERE, 0, 1, MapFlags::WRITE);
    map(frame, HERE + PAGE_SIZE, 0, 1, MapFlags::READ);
    space.map(frame, HERE + 2 * PAGE_SIZE, 0, 1, MapFlags::WRITE).must("a map");
    write(HERE, 5);
    assert_eq!(read(HERE + PAGE_SIZE), 5);
    let other = w.thread().space(space).start(|| {
        assert_eq!(read(HERE + 2 * PAGE_SIZE), 5);
        write(HERE + 2 * PAGE_SIZE, 6);
    });
    w.join(&other);
    assert_eq!(read(HERE + PAGE_SIZE), 6);
}

fn address_spaces_are_apart(w: &mut World) {
    let frames = [w.frame(1), w.frame(1)];
    let space = w.space();
    map(frames[0], HERE, 0, 1, MapFlags::WRITE);
    space.map(frames[1], HERE, 0, 1, MapFlags::WRITE).must("a map");
    let [ping, pong] = [w.notification(), w.notification()];
    w.thread().space(space).start(move || {
        for round in 0..50 {
            ipc::wait(ping).must("a ping");
            assert_eq!(read(HERE), round);
            write(HERE, round + 1);
            ipc::signal(pong).must("a pong");
        }
    });
    for round in 1000..1050 {
        write(HERE, round);
        ipc::signal(ping).must("a ping");
        ipc::wait(pong).must("a pong");
        assert_eq!(read(HERE), round);
    }
}

fn a_part_of_a_frame_can_be_mapped(w: &mut World) {
    let frame = w.frame(16);
    map(frame, HERE, 0, 16, MapFlags::WRITE);
    (0..16).for_each(|page| write(HERE + page * PAGE_SIZE, page));
    map(frame, THERE, 5 * PAGE_SIZE, 3, MapFlags::READ);
    assert!((0..3).all(|page| read(THERE + page * PAGE_SIZE) == 5 + page));
    assert_eq!(VSPACE.query(THERE + 3 * PAGE_SIZE), Err(Error::NotMapped));
    assert_eq!(
        VSPACE.map(frame, HERE + (1 << 30), 14 * PAGE_SIZE, 3, MapFlags::READ),
        Err(Error::OutOfRange)
    );
}

fn a_thousand_pages_map_in_one_call(w: &mut World) {
    const PAGES: u64 = 1024;
    let frame = w.frame(PAGES);
    // Not at a table's start, so that it lies in three tables.
    let start = HERE + 100 * PAGE_SIZE;
    for _ in 0..3 {
        map(frame, start, 0, PAGES, MapFlags::WRITE);
        (0..PAGES).for_each(|page| write(start + page * PAGE_SIZE, page));
        assert!((0..PAGES).all(|page| read(start + page * PAGE_SIZE) == page));
        unmap(start, PAGES);
        assert!((0..PAGES).all(|page| VSPACE.query(start + page * PAGE_SIZE) == Err(Error::NotMapped)));
    }
}

fn writable_and_executable_is_refused(w: &mut World) {
    let frame = w.frame(1);
    let both = MapFlags::WRITE.or(MapFlags::EXECUTE);
    assert_eq!(VSPACE.map(frame, HERE, 0, 1, both), Err(Error::InvalidArgument));
    assert_eq!(VSPACE.query(HERE), Err(Error::NotMapped));
    for flags in [MapFlags::WRITE, MapFlags::EXECUTE] {
        map(frame, HERE, 0, 1, flags);
        assert_eq!(VSPACE.protect(HERE, 1, both), Err(Error::InvalidArgument));
        assert_eq!(VSPACE.query(HERE).must("a look")[0], MapFlags::READ.or(flags).0);
        unmap(HERE, 1);
    }
    for unknown in [1 << 2, 1 << 7, 1 << 63] {
        let refused = VSPACE.map(frame, HERE, 0, 1, MapFlags(unknown));
        assert_eq!(refused, Err(Error::InvalidArgument));
    }
    // Nor does a page that was executable, and ran, stay so when it becomes writable.
    map(frame, HERE, 0, 1, MapFlags::WRITE);
    write(HERE, RETURN);
    VSPACE.protect(HERE, 1, MapFlags::EXECUTE).must("making it executable");
    let fault = fault_of(w, VSPACE, || {
        run_at(HERE);
        VSPACE.protect(HERE, 1, MapFlags::WRITE).must("making it writable");
        run_at(HERE);
    });
    assert_eq!(fault, Some([PAGE_FAULT, PRESENT | USER | FETCH, HERE]));
}

fn a_frames_rights_bound_how_it_is_mapped(w: &mut World) {
    let frame = w.frame(1);
    let modes = [
        (MapFlags::READ, Rights::READ),
        (MapFlags::WRITE, Rights::READ.or(Rights::WRITE)),
        (MapFlags::EXECUTE, Rights::READ.or(Rights::EXECUTE)),
    ];
    for bits in 0..16 {
        let some = w.mint(frame, Rights(bits), 0);
        for (flags, needed) in modes {
            let mapped = VSPACE.map(some, HERE, 0, 1, flags);
            if Rights(bits).has(needed) {
                mapped.must("a map within the rights");
                unmap(HERE, 1);
            } else {
                assert_eq!(mapped, Err(Error::NoRights));
            }
        }
    }
}

fn an_executable_page_runs_and_cannot_be_written(w: &mut World) {
    let frame = w.frame(1);
    map(frame, HERE, 0, 1, MapFlags::WRITE);
    write(HERE, RETURN);
    map(frame, THERE, 0, 1, MapFlags::EXECUTE);
    assert_eq!(fault_of(w, VSPACE, || run_at(THERE)), None);
    let fault = fault_of(w, VSPACE, || write(THERE, 1));
    assert_eq!(fault, Some([PAGE_FAULT, PRESENT | WRITE | USER, THERE]));
}

fn protect_takes_effect_at_once(w: &mut World) {
    let frame = w.frame(1);
    map(frame, HERE, 0, 1, MapFlags::WRITE);
    let faults = w.endpoint();
    w.thread().faults_to(faults).start(|| {
        write(HERE, 1);
        VSPACE.protect(HERE, 1, MapFlags::READ).must("read only");
        write(HERE, 2);
        arena::set(0, read(HERE));
    });
    let heard = ipc::recv(faults, CPtr::NULL).must("a fault").message.words;
    assert_eq!((heard[fault::KIND], heard[fault::ADDRESS]), (PAGE_FAULT, HERE));
    assert_eq!(read(HERE), 1);
    VSPACE.protect(HERE, 1, MapFlags::WRITE).must("writable again");
    ipc::reply(Message::new(0)).must("an answer");
    w.until("it went on", || arena::get(0) == 2);
}

fn protect_passes_over_holes(w: &mut World) {
    const PAGES: u64 = (1 << 30) / PAGE_SIZE;
    let frame = w.frame(4);
    map(frame, HERE, 0, 4, MapFlags::WRITE);
    unmap(HERE + PAGE_SIZE, 1);
    map(frame, HERE + (PAGES - 1) * PAGE_SIZE, 0, 1, MapFlags::WRITE);
    VSPACE.protect(HERE - 8 * PAGE_SIZE, PAGES + 8, MapFlags::READ).must("a protect over holes");
    for page in [0, 2, 3, PAGES - 1] {
        let place = HERE + page * PAGE_SIZE;
        assert_eq!(
            fault_of(w, VSPACE, move || write(place, 1)),
            Some([PAGE_FAULT, WRITE | USER | PRESENT, place])
        );
    }
    // Of a Frame that may only be read, behind a hole.
    let read_only = w.mint(frame, Rights::READ, 0);
    map(read_only, HERE + 6 * PAGE_SIZE, 0, 1, MapFlags::READ);
    assert_eq!(VSPACE.protect(HERE, 7, MapFlags::WRITE), Err(Error::NoRights));
    assert_eq!(VSPACE.query(HERE).must("a look")[0], MapFlags::READ.0);
    VSPACE.protect(HERE, 6, MapFlags::WRITE).must("a protect over holes");
    [0, 2, 3].into_iter().for_each(|page| write(HERE + page * PAGE_SIZE, 1));
}

/// Ticks that protecting `pages` from `HERE` on takes, at best.
fn protect_ticks(pages: u64, flags: MapFlags) -> u64 {
    let ticks = (0..10).map(|_| {
        let start = now();
        VSPACE.protect(HERE, pages, flags).must("a protect");
        now() - start
    });
    ticks.min().unwrap_or(u64::MAX)
}

fn protect_costs_little_for_a_page(w: &mut World) {
    const SPARSE: u64 = (1 << 30) / PAGE_SIZE;
    let frame = w.frame(512);
    map(frame, HERE, 0, 512, MapFlags::WRITE);
    let read = protect_ticks(512, MapFlags::READ);
    let write = protect_ticks(512, MapFlags::WRITE);
    unmap(HERE + PAGE_SIZE, 511);
    let sparse = protect_ticks(SPARSE, MapFlags::READ);
    if w.setup.icount {
        let most = [14 * 512, 28 * 512, 12_000];
        assert!(
            [read, write, sparse].iter().zip(most).all(|(&ticks, most)| ticks <= most),
            "READ {read}, WRITE {write} for 512 pages, {sparse} for a gibibyte of holes"
        );
    }
}

fn an_unmapped_page_faults_at_once(w: &mut World) {
    let frame = w.frame(1);
    map(frame, HERE, 0, 1, MapFlags::WRITE);
    let fault = fault_of(w, VSPACE, || {
        write(HERE, 1);
        VSPACE.unmap(HERE, 1).must("an unmap");
        write(HERE, 2);
    });
    assert_eq!(fault, Some([PAGE_FAULT, WRITE | USER, HERE]));
}

fn another_frame_at_the_same_address_is_seen_at_once(w: &mut World) {
    let frames = [w.frame(1), w.frame(1)];
    for (at, &frame) in frames.iter().enumerate() {
        map(frame, HERE, 0, 1, MapFlags::WRITE);
        write(HERE, at as u64);
        unmap(HERE, 1);
    }
    for _ in 0..20 {
        for (at, &frame) in frames.iter().enumerate() {
            map(frame, HERE, 0, 1, MapFlags::READ);
            assert_eq!(read(HERE), at as u64);
            unmap(HERE, 1);
        }
    }
}

fn the_middle_of_a_mapping_can_be_unmapped(w: &mut World) {
    let frame = w.frame(16);
    map(frame, HERE, 0, 16, MapFlags::WRITE);
    unmap(HERE + 4 * PAGE_SIZE, 8);
    for page in 0..16 {
        let mapped = VSPACE.query(HERE + page * PAGE_SIZE).is_ok();
        assert_eq!(mapped, !(4..12).contains(&page));
    }
    write(HERE + 3 * PAGE_SIZE, 1);
    write(HERE + 12 * PAGE_SIZE, 1);
    unmap(HERE, 16);
    unmap(HERE, 16);
    map(frame, HERE, 0, 16, MapFlags::WRITE);
}

fn deleting_a_frame_unmaps_it(w: &mut World) {
    let frame = w.frame(2);
    let copy = w.mint(frame, Rights::ALL, 0);
    map(frame, HERE, 0, 2, MapFlags::WRITE);
    map(copy, THERE, 0, 2, MapFlags::WRITE);
    map(copy, THERE + 64 * PAGE_SIZE, 1 << 12, 1, MapFlags::READ);
    w.delete(copy);
    assert_eq!(VSPACE.query(THERE), Err(Error::NotMapped));
    assert_eq!(VSPACE.query(THERE + 64 * PAGE_SIZE), Err(Error::NotMapped));
    write(HERE, 1);
    w.delete(frame);
    assert_eq!(VSPACE.query(HERE), Err(Error::NotMapped));
}

fn a_refused_map_leaves_nothing_behind(w: &mut World) {
    let frame = w.frame(512);
    map(frame, HERE + 300 * PAGE_SIZE, 0, 1, MapFlags::READ);
    assert_eq!(VSPACE.map(frame, HERE, 0, 512, MapFlags::READ), Err(Error::AlreadyMapped));
    assert!((0..300).all(|page| VSPACE.query(HERE + page * PAGE_SIZE) == Err(Error::NotMapped)));
    let small = VSpace(w.make_sized(Kind::VSpace, 15));
    assert_eq!(small.map(frame, HERE, 0, 512, MapFlags::READ), Err(Error::OutOfTables));
    assert!((0..512).all(|page| small.query(HERE + page * PAGE_SIZE) == Err(Error::NotMapped)));
}

fn large_pages_go_whole_or_not(w: &mut World) {
    let frame = w.frame(1024);
    map(frame, HERE, 0, 1024, MapFlags::WRITE.or(MapFlags::LARGE));
    write(HERE + LARGE_PAGE + 8, 3);
    assert_eq!(VSPACE.query(HERE + LARGE_PAGE + 8).must("a look")[2], LARGE_PAGE);
    assert_eq!(VSPACE.unmap(HERE, 1), Err(Error::InvalidArgument));
    assert_eq!(VSPACE.unmap(HERE + PAGE_SIZE, 511), Err(Error::InvalidArgument));
    assert_eq!(VSPACE.protect(HERE, 1, MapFlags::READ), Err(Error::InvalidArgument));
    VSPACE.protect(HERE, 512, MapFlags::READ).must("protecting one whole");
    unmap(HERE, 512);
    assert_eq!(VSPACE.query(HERE), Err(Error::NotMapped));
    assert_eq!(read(HERE + LARGE_PAGE + 8), 3);
    let small = w.frame(1);
    map(small, HERE, 0, 1, MapFlags::READ);
    assert_eq!(
        VSPACE.map(frame, HERE, 0, 512, MapFlags::READ.or(MapFlags::LARGE)),
        Err(Error::AlreadyMapped)
    );
}

fn large_pages_must_be_aligned(w: &mut World) {
    let frame = w.frame(1024);
    let large = MapFlags::READ.or(MapFlags::LARGE);
    let wrong = [(HERE + PAGE_SIZE, 0, 512), (HERE, PAGE_SIZE, 512), (HERE, 0, 511), (HERE, 0, 0)];
    for (address, offset, pages) in wrong {
        assert_eq!(VSPACE.map(frame, address, offset, pages, large), Err(Error::InvalidArgument));
    }
    let both = large.or(MapFlags::HUGE);
    assert_eq!(VSPACE.map(frame, HERE, 0, 512, both), Err(Error::InvalidArgument));
    let small = w.frame(256);
    assert_eq!(VSPACE.map(small, HERE, 0, 512, large), Err(Error::OutOfRange));
}

/// A Frame of device memory.
fn device_frame(w: &mut World, bits: u64) -> CPtr {
    let slot = w.slot();
    let device = Untyped(CPtr(slots::DEVICE));
    device.retype(Kind::Frame, bits, CNODE.0, slot.into_slot(), 1).must("a Frame of device memory");
    slot
}

fn huge_pages_map_a_gigabyte(w: &mut World) {
    const PAGES: u64 = 1 << 18;
    let frame = device_frame(w, 30);
    map(frame, HERE, 0, PAGES, MapFlags::READ.or(MapFlags::HUGE));
    let [_, physical, size] = VSPACE.query(HERE + (123 << 12)).must("a look");
    assert_eq!((physical, size), (Frame(frame).physical().must("its address"), 1 << 30));
    assert_eq!(VSPACE.unmap(HERE, 512), Err(Error::InvalidArgument));
    unmap(HERE, PAGES);
    assert_eq!(VSPACE.query(HERE), Err(Error::NotMapped));
    let refused = VSPACE.map(frame, HERE + LARGE_PAGE, 0, PAGES, MapFlags::READ.or(MapFlags::HUGE));
    assert_eq!(refused, Err(Error::InvalidArgument));
}

fn device_memory_is_never_cached(w: &mut World) {
    let page = device_frame(w, 12);
    for flags in [MapFlags::READ, MapFlags::WRITE, MapFlags::WRITE.or(MapFlags::UNCACHED)] {
        map(page, HERE, 0, 1, flags);
        let [found, physical, size] = VSPACE.query(HERE).must("a look");
        assert_eq!(found, flags.or(MapFlags::READ).or(MapFlags::UNCACHED).0);
        assert_eq!((Frame(page).physical(), size), (Ok(physical), PAGE_SIZE));
        VSPACE.protect(HERE, 1, MapFlags::READ).must("a protect");
        assert_eq!(VSPACE.query(HERE).must("a look")[0], MapFlags::READ.or(MapFlags::UNCACHED).0);
        unmap(HERE, 1);
    }
    // Memory is mapped uncached only when asked for.
    let memory = w.frame(1);
    map(memory, HERE, 0, 1, MapFlags::READ);
    assert_eq!(VSPACE.query(HERE).must("a look")[0], MapFlags::READ.0);
    map(memory, THERE, 0, 1, MapFlags::WRITE.or(MapFlags::UNCACHED));
    assert!(MapFlags(VSPACE.query(THERE).must("a look")[0]).has(MapFlags::UNCACHED));
    write(THERE, 1);
}

fn device_memory_becomes_no_kernel_object(w: &mut World) {
    let slot = w.slot().into_slot();
    let device = Untyped(CPtr(slots::DEVICE));
    for &kind in Kind::ALL.iter().filter(|kind| !matches!(kind, Kind::Untyped | Kind::Frame)) {
        for bits in [0, 14] {
            let refused = device.retype(kind, bits, CNODE.0, slot, 1);
            assert_eq!(refused, Err(Error::InvalidArgument), "{kind:?}");
        }
    }
    device.retype(Kind::Untyped, 14, CNODE.0, slot, 1).must("an Untyped");
    assert_eq!(VSPACE.donate(CPtr(slot as u32)), Err(Error::InvalidArgument));
    let frame = device_frame(w, 12);
    let other = w.make(Kind::Tcb);
    assert_eq!(ipc::Tcb(other).configure(CPtr::NULL, CPtr::NULL, frame, 0), Err(Error::InvalidArgument));
}

fn query_tells_flags_address_and_size(w: &mut World) {
    let frame = w.frame(8);
    let physical = Frame(frame).physical().must("its address");
    for flags in [MapFlags::READ, MapFlags::READ.or(MapFlags::WRITE), MapFlags::READ.or(MapFlags::EXECUTE)] {
        map(frame, HERE, 0, 8, flags);
        let seen = VSPACE.query(HERE + 3 * PAGE_SIZE + 77).must("a look");
        assert_eq!(seen, [flags.0, physical + 3 * PAGE_SIZE, PAGE_SIZE]);
        unmap(HERE, 8);
    }
}

fn an_address_space_without_tables_takes_a_donation(w: &mut World) {
    let (frame, space) = (w.frame(1), VSpace(w.make_sized(Kind::VSpace, 14)));
    assert_eq!(space.map(frame, HERE, 0, 1, MapFlags::READ), Err(Error::OutOfTables));
    let memory = w.make_sized(Kind::Untyped, 16);
    space.donate(memory).must("a donation");
    let slot = w.slot().into_slot();
    assert_eq!(Untyped(memory).retype(Kind::Endpoint, 0, CNODE.0, slot, 1), Err(Error::NoCapability));
    space.map(frame, HERE, 0, 1, MapFlags::READ).must("a map");
    assert!(space.query(HERE).is_ok());
}

fn a_donation_comes_back_with_its_memory(w: &mut World) {
    let outer = w.make_sized(Kind::Untyped, 17);
    let (frame, space) = (w.frame(1), VSpace(w.make_sized(Kind::VSpace, 14)));
    let memory = w.slot();
    Untyped(outer).retype(Kind::Untyped, 16, CNODE.0, memory.into_slot(), 1).must("an Untyped");
    space.donate(memory).must("a donation");
    space.map(frame, HERE, 0, 1, MapFlags::READ).must("a map");
    CNODE.revoke(outer.into_slot()).must("a revoke");
    assert_eq!(CNODE.describe(outer.into_slot()).must("a look").free, 1 << 17);
    assert_eq!(space.query(HERE), Err(Error::NotMapped));
    assert!(space.map(frame, HERE, 0, 1, MapFlags::READ).is_err());
    assert!(Frame(frame).physical().is_ok());
}

fn tables_are_given_back(w: &mut World) {
    let (frame, space) = (w.frame(1), VSpace(w.make_sized(Kind::VSpace, 16)));
    for round in 0..500 {
        let address = HERE + round % 300 * LARGE_PAGE;
        space.map(frame, address, 0, 1, MapFlags::READ).must(round);
        // All that a table covers: so the table goes, too.
        space.unmap(address, 512).must("an unmap");
    }
}

fn the_top_page_is_never_mapped(w: &mut World) {
    let frame = w.frame(4);
    for (place, pages) in [(USER_TOP, 1), (USER_TOP - PAGE_SIZE, 2), (USER_TOP - 3 * PAGE_SIZE, 4)] {
        for flags in [MapFlags::READ, MapFlags::WRITE, MapFlags::EXECUTE] {
            assert_eq!(VSPACE.map(frame, place, 0, pages, flags), Err(Error::OutOfRange));
        }
    }
    assert_eq!(VSPACE.query(USER_TOP - PAGE_SIZE), Err(Error::NotMapped));
    assert_eq!(VSPACE.query(USER_TOP), Err(Error::OutOfRange));
    let beyond = [NOT_CANONICAL, 1 << 63, KERNEL_ADDRESSES[0], KERNEL_ADDRESSES[2] & !0xfff];
    for place in beyond.into_iter().chain([u64::MAX - 0x1fff, u64::MAX - 0xfff]) {
        for pages in [1, 2] {
            assert_eq!(VSPACE.map(frame, place, 0, pages, MapFlags::READ), Err(Error::OutOfRange));
            assert_eq!(VSPACE.unmap(place, pages), Err(Error::OutOfRange));
            assert_eq!(VSPACE.protect(place, pages, MapFlags::WRITE), Err(Error::OutOfRange));
        }
    }
    for pages in [1 << 37, u64::MAX] {
        assert_eq!(VSPACE.map(frame, HERE, 0, pages, MapFlags::READ), Err(Error::OutOfRange));
    }
    assert_eq!(VSPACE.map(frame, HERE, u64::MAX - 4095, 2, MapFlags::READ), Err(Error::OutOfRange));
    for place in [USER_TOP - 1, USER_TOP] {
        let fault = fault_of(w, VSPACE, move || run_at(place));
        assert_eq!(fault, Some([PAGE_FAULT, USER | FETCH, place]));
    }
    map(frame, USER_TOP - PAGE_SIZE, 0, 1, MapFlags::READ);
}

fn a_deleted_address_space_stops_its_threads(w: &mut World) {
    let [first, second] = [w.space(), w.space()];
    let thread: Thread = w.thread().space(first).start(|| {
        loop {
            arena::add(0, 1);
            ipc::yield_now();
        }
    });
    w.until("it runs", || arena::get(0) > 10);
    w.delete(first.0);
    assert_eq!(thread.state(), crate::world::INACTIVE);
    assert_eq!(thread.tcb.resume(), Err(Error::NotConfigured));
    let seen = arena::get(0);
    thread.tcb.configure(CPtr::NULL, second.0, CPtr::NULL, 0).must("another address space");
    thread.tcb.resume().must("letting it run");
    w.until("it runs again", || arena::get(0) > seen + 10);
}

fn a_frames_physical_pages_are_contiguous(w: &mut World) {
    let frame = w.frame(32);
    let physical = Frame(frame).physical().must("its address");
    map(frame, HERE, 0, 32, MapFlags::READ);
    for page in 0..32 {
        let seen = VSPACE.query(HERE + page * PAGE_SIZE).must("a look")[1];
        assert_eq!(seen, physical + page * PAGE_SIZE);
    }
}
