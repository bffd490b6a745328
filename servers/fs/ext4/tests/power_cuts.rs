//! Power cuts: mixed work on a disk that remembers every write and flush, cut at points in between, with and without
//! reordering; the journal is replayed by e2fsck, by us and (for one cut of 25, where mounting is permitted) by the Linux
//! kernel, all results are clean, and nothing durable is lost.
//!
//! After each cut the names must be those after some operation between the last one that was made durable and the last
//! one that had begun; and files that did not change since they were made durable must have their content.

mod disk;
mod kernel;
mod linux;
mod model;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use disk::{Disk, Event, Random, is_long};
use ext4::InodeNumber;
use ext4_view::{Ext4 as View, PathBuf};
use kernel::{Mounted, may_mount};
use model::{Content, Durable, Mix, Model};

const MIX: Mix = Mix { sync: 8, reach: 60_000, write: 6_000, name: 30, nodes: 60, block_maps: false };

/// The state after an operation.
struct Step {
    /// Events on the disk before it began, and after it came back.
    began: usize,
    ended: usize,
    durable: Durable,
    model: Model,
}

struct History {
    image: Vec<u8>,
    events: Vec<Event>,
    steps: Vec<Step>,
}

impl History {
    /// Whether all names are durable after a step: it synced everything, or committed (which takes two flushes).
    fn makes_names_durable(&self, step: &Step) -> bool {
        let flushes =
            self.events[step.began..step.ended].iter().filter(|event| matches!(event, Event::Flush)).count();
        step.durable == Durable::All || step.durable != Durable::Nothing && flushes >= 2
    }
}

/// Works on a new image and records everything.
fn record(seed: u64, operations: usize, options: &[&str], cache: usize, mix: Mix) -> History {
    let megabytes = if options.contains(&"4096") { 8 } else { 4 };
    let image = linux::make_image(megabytes, options);
    let disk = Disk::new(image.clone());
    disk.record();
    let mut volume = disk.mount(cache).unwrap();
    let mut model = Model::new(&volume, seed, mix);
    let began = disk.recorded();
    let mut steps = vec![Step { began: 0, ended: began, durable: Durable::Nothing, model: model.clone() }];
    for _ in 0..operations {
        let began = disk.recorded();
        let durable = model.step(&mut volume);
        steps.push(Step { began, ended: disk.recorded(), durable, model: model.clone() });
    }
    model.close_all(&mut volume);
    let began = disk.recorded();
    volume.unmount().unwrap();
    steps.push(Step { began, ended: disk.recorded(), durable: Durable::All, model });
    History { image, events: disk.take_log(), steps }
}

/// The disk after a cut behind `events[..cut]`: what was flushed is there; of the writes behind the last flush, with
/// `reorder` only some are, in pieces of 1 KiB.
fn cut_at(history: &History, cut: usize, reorder: Option<&mut Random>) -> Vec<u8> {
    let mut image = history.image.clone();
    let events = &history.events[..cut];
    let flushed = events.iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
    let mut chooser = reorder;
    for (index, event) in events.iter().enumerate() {
        let Event::Write(offset, data) = event else { continue };
        for (n, piece) in data.chunks(1024).enumerate() {
            let kept = match &mut chooser {
                Some(random) if index > flushed => random.chance(50),
                _ => true,
            };
            if kept {
                let at = *offset as usize + n * 1024;
                image[at..at + piece.len()].copy_from_slice(piece);
            }
        }
    }
    image
}

/// Names with type, size and target; and contents.
type Names = BTreeMap<Vec<u8>, (char, u64)>;

fn names_of(model: &Model) -> BTreeMap<Vec<u8>, InodeNumber> {
    fn walk(model: &Model, dir: InodeNumber, path: &[u8], out: &mut BTreeMap<Vec<u8>, InodeNumber>) {
        if let Content::Dir(names) = &model.nodes[&dir].content {
            for (name, inode) in names {
                let path = [path, b"/", name].concat();
                walk(model, *inode, &path, out);
                out.insert(path, *inode);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(model, InodeNumber::ROOT, b"", &mut out);
    out
}

fn expected_names(model: &Model) -> Names {
    let describe = |inode: &InodeNumber| match &model.nodes[inode].content {
        Content::File(bytes) => ('f', bytes.len() as u64),
        Content::Dir(_) => ('d', 0),
        Content::Link(target) => ('l', target.len() as u64),
    };
    names_of(model).iter().map(|(path, inode)| (path.clone(), describe(inode))).collect()
}

/// What an independent reader finds.
fn found_names(view: &View, path: &PathBuf, out: &mut Names) {
    for entry in view.read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let name: &[u8] = name.as_ref();
        if name == b"." || name == b".." {
            continue;
        }
        let path = entry.path();
        let bytes: &[u8] = path.as_ref();
        let metadata = view.symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        if kind.is_dir() {
            out.insert(bytes.to_vec(), ('d', 0));
            found_names(view, &path, out);
        } else if kind.is_symlink() {
            let target = view.read_link(&path).unwrap();
            let target: &[u8] = target.as_ref();
            out.insert(bytes.to_vec(), ('l', target.len() as u64));
        } else {
            out.insert(bytes.to_vec(), ('f', metadata.len()));
        }
    }
}

/// Checks the files that are durable and were not touched since. A file can be newer than its name: fdatasync makes an
/// overwrite durable and leaves an earlier rename to the next commit. So names are those of `at`, contents those of `last`.
fn check_contents(view: &View, image: &[u8], history: &History, at: &Step, last: usize, cut: usize) {
    for (path, inode) in names_of(&at.model) {
        let Some(node) = history.steps[last].model.nodes.get(&inode) else { continue };
        let Content::File(bytes) = &node.content else { continue };
        let touched = node.touched;
        let durable = history.steps.iter().any(|step| {
            step.ended <= cut
                && step.model.operation >= touched
                && match step.durable {
                    Durable::All => true,
                    Durable::File(file) => file == inode,
                    Durable::Nothing => false,
                }
        });
        if durable {
            let path = ext4_view::Path::try_from(path.as_slice()).unwrap();
            // ext4-view 1.0 shows the blocks of unwritten extents as they are, and refuses to read holes of block maps; where
            // it disagrees, debugfs decides.
            let seen = view.read(path).is_ok_and(|seen| seen == **bytes);
            let same = seen || linux::dump(image, inode.0) == **bytes;
            assert!(same, "durable content of {path:?} ({inode:?}, {} bytes) is lost", bytes.len());
        }
    }
}

/// Checks that an image holds what was promised at `cut`.
fn check_state(history: &History, image: &[u8], cut: usize) {
    let last = history.steps.iter().rposition(|step| step.began <= cut).unwrap();
    let durable =
        history.steps.iter().rposition(|step| step.ended <= cut && history.makes_names_durable(step));
    let view = View::load(Box::new(image.to_vec())).unwrap();
    let mut found = Names::new();
    found_names(&view, &PathBuf::new("/"), &mut found);
    let candidates = durable.unwrap_or(0)..=last;
    let Some(at) = candidates.clone().rev().find(|step| expected_names(&history.steps[*step].model) == found)
    else {
        let expected = expected_names(&history.steps[last].model);
        let missing: Vec<_> = expected.iter().filter(|e| found.get(e.0) != Some(e.1)).collect();
        let extra: Vec<_> = found.iter().filter(|e| expected.get(e.0) != Some(e.1)).collect();
        panic!("names match none of operations {candidates:?}; missing {missing:?}, extra {extra:?}");
    };
    check_contents(&view, image, history, &history.steps[at], last, cut);
}

/// Mounting replays the journal and works off orphans; unmounting leaves it clean.
fn recover_by_us(image: &[u8]) -> Vec<u8> {
    let disk = Disk::new(image.to_vec());
    disk.mount(256).unwrap().unmount().unwrap();
    disk.bytes()
}

/// The kernel's mount does the same, where it may be asked.
fn recover_by_the_kernel(image: &[u8]) -> Vec<u8> {
    let file = linux::Scratch::holding("cut", image);
    let mounted = Mounted::try_new(&file.0, "ext4", "rw");
    drop(mounted.unwrap_or_else(|said| panic!("the kernel refuses: {said}")));
    file.read()
}

fn has_orphans(image: &[u8]) -> bool {
    image[1024 + 0xe8..1024 + 0xec] != [0; 4]
}

/// One cut: recovered by Linux and by us, both checked.
fn check_cut(history: &History, cut: usize, reorder: Option<&mut Random>, ask_the_kernel: bool) {
    let image = cut_at(history, cut, reorder);
    let ours = recover_by_us(&image);
    linux::assert_clean(&ours, "after our replay");
    check_state(history, &ours, cut);
    let theirs = linux::replay_and_check(&image, |bytes| !has_orphans(bytes))
        .unwrap_or_else(|said| panic!("Linux's replay, or the check after it: {said}"));
    // Orphans are not the journal's business: a mount works them off, and what it leaves must be clean.
    let theirs = if has_orphans(&theirs) {
        let worked_off = recover_by_us(&theirs);
        linux::assert_clean(&worked_off, "after Linux's replay");
        worked_off
    } else {
        theirs
    };
    check_state(history, &theirs, cut);
    if ask_the_kernel && may_mount() {
        let theirs = recover_by_the_kernel(&image);
        linux::assert_clean(&theirs, "after the kernel's replay");
        check_state(history, &theirs, cut);
    }
}

static CUTS: AtomicUsize = AtomicUsize::new(0);

/// Of the cuts, reordered and not, one in so many is recovered by the kernel, too.
const KERNEL_EVERY: usize = 25;

/// Records `runs` histories and cuts each at `cuts` points; every second cut is reordered.
fn play(first_seed: u64, runs: u64, cuts: usize, options: &[&str], cache: usize, mix: Mix) {
    for seed in first_seed..first_seed + runs {
        let history = record(seed, 150, options, cache, mix);
        let mut random = Random::new(seed);
        let events = history.events.len();
        for n in 0..cuts {
            // Every prefix while there are more cuts than events; spread evenly otherwise.
            let cut = if cuts >= 2 * events {
                n / 2 % (events + 1)
            } else {
                random.below(events as u64 + 1) as usize
            };
            let reordered = n % 2 == 1;
            let before = random.clone();
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                check_cut(&history, cut, reordered.then_some(&mut random), n % KERNEL_EVERY == 0);
            }));
            if let Err(cause) = result {
                eprintln!("seed {seed}, cut {cut} of {events}, reordered: {reordered}, {options:?}");
                if let Some(keep) = std::env::var_os("SKINK_KEEP") {
                    let mut random = before;
                    std::fs::write(keep, cut_at(&history, cut, reordered.then_some(&mut random))).unwrap();
                }
                std::panic::resume_unwind(cause);
            }
            CUTS.fetch_add(1, Ordering::Relaxed);
        }
    }
    eprintln!("{} cut points so far", CUTS.load(Ordering::Relaxed));
}

fn runs(share: u64) -> u64 {
    if is_long() { share * 40 } else { share }
}

#[test]
fn power_cuts_in_mixed_work_with_blocks_of_1_kib_lose_nothing_durable() {
    play(1, runs(5), 400, &["-b", "1024"], 300, MIX);
}

#[test]
fn power_cuts_in_mixed_work_with_blocks_of_4_kib_lose_nothing_durable() {
    play(100, runs(4), 400, &["-b", "4096"], 200, MIX);
}

#[test]
fn power_cuts_where_syncs_are_rare_lose_nothing_durable() {
    let mix = Mix { sync: 1, nodes: 120, name: 200, ..MIX };
    play(200, runs(4), 400, &["-b", "1024"], 64, mix);
}

#[test]
fn power_cuts_on_a_volume_of_ext3_lose_nothing_durable() {
    let mix = Mix { block_maps: true, ..MIX };
    play(300, runs(2), 400, &["-t", "ext3", "-b", "1024"], 300, mix);
}
