//! Logs that were damaged, that say less than they must, or more than is possible: both kinds of mount show what a
//! replay would show, a torn end is told from damage before it, and memory is bounded whatever the log says.

mod disk;
mod image;
mod linux;
mod memory;

use std::sync::Mutex;

use disk::{Disk, Volume, pattern};
use ext4::{Error, InodeNumber, NewInode};
use image::{Image, SUPERBLOCK};

const ROOT: InodeNumber = InodeNumber::ROOT;
const INCOMPAT: usize = SUPERBLOCK + 0x60;
const RECOVER: u32 = 4;
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;

/// Held by each test: memory is counted for all threads together.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn names(volume: &Volume) -> Vec<String> {
    let mut names = Vec::new();
    volume
        .read_dir(ROOT, 2, |entry| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            true
        })
        .unwrap();
    names.sort();
    names
}

/// A crash after these files were created, each in a transaction of its own.
fn crashed(options: &[&str], files: usize) -> Image {
    let disk = Disk::new(linux::make_image(16, options));
    let mut volume = disk.mount(256).unwrap();
    for n in 0..files {
        volume.create(ROOT, format!("file {n}").as_bytes(), &NewInode::file(0o600)).unwrap();
        volume.commit().unwrap();
    }
    drop(volume);
    Image(disk.bytes())
}

/// Both kinds of mount show the same names, and after unmounting Linux's check finds the image clean.
fn assert_both_show(image: &Image, expected: &[&str], what: &str) {
    assert_eq!(names(&image.disk().mount_read_only().unwrap()), expected, "{what}, read-only");
    let disk = image.disk();
    let volume = disk.mount(256).unwrap();
    assert_eq!(names(&volume), expected, "{what}");
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), what);
}

/// Both kinds of mount say that the image is damaged, and change nothing.
fn assert_both_refuse(image: &Image, what: &str) {
    let answer = image.disk().mount_read_only().map(|volume| names(&volume));
    assert!(matches!(answer, Err(Error::Corrupt(_))), "{what}, read-only: {answer:?}");
    let disk = image.disk();
    let answer = disk.mount(256).map(|volume| names(&volume));
    assert!(matches!(answer, Err(Error::Corrupt(_))), "{what}: {answer:?}");
    assert!(disk.bytes() == image.0, "{what}: the image was changed");
}

/// An image in whose log debugfs put new content for a file's blocks.
fn with_logged_data(options: &[&str], old: &[u8], new: &[u8], flags: &str) -> Image {
    let source = linux::Scratch::holding("source", old);
    let image = Image::make(16, options).debugfs(&format!("write {} f\n", source.0.display()));
    let blocks: Vec<String> = image.blocks("f").iter().map(ToString::to_string).collect();
    let logged = linux::Scratch::holding("logged", new);
    image.debugfs(&format!("jo {flags}\njw -b {} {}\njc\n", blocks.join(","), logged.0.display()))
}

fn content(volume: &Volume, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    let file = volume.lookup(ROOT, b"f").unwrap();
    assert_eq!(volume.read(file, 0, &mut out), Ok(length));
    out
}

#[test]
fn data_in_the_log_is_read_by_mounts_that_must_not_write() {
    let _alone = alone();
    for (size, options) in [
        (1024, ["-b", "1024", "-O", "metadata_csum"]),
        (4096, ["-b", "4096", "-O", "metadata_csum"]),
        (4096, ["-b", "4096", "-O", "^metadata_csum"]),
    ] {
        let old = pattern(1, 20 * size);
        let mut new = pattern(2, 20 * size);
        // One block looks like the journal's own: it is escaped in the log.
        new[5 * size..5 * size + 4].copy_from_slice(&0xc03b_3998_u32.to_be_bytes());
        for clears_flag in [false, true] {
            let mut image = with_logged_data(&options, &old, &new, "");
            if clears_flag {
                let features = image.u32(INCOMPAT) & !RECOVER;
                assert_ne!(features, image.u32(INCOMPAT));
                image = image.debugfs("feature -needs_recovery\n");
                assert_eq!(image.u32(INCOMPAT), features);
            }
            let read_only = image.disk().mount_read_only().unwrap();
            assert!(content(&read_only, 20 * size) == new, "{options:?}");
            // In parts that begin and end within blocks, too.
            let file = read_only.lookup(ROOT, b"f").unwrap();
            for (at, length) in [(5 * size + 2, 10), (4 * size - 7, 3 * size), (0, size), (19 * size, size)] {
                let mut part = vec![0; length];
                read_only.read(file, at as u64, &mut part).unwrap();
                assert!(part == new[at..at + length], "{options:?} {at} {length}");
            }
            let disk = image.disk();
            let volume = disk.mount(256).unwrap();
            assert!(content(&volume, 20 * size) == new, "{options:?}");
            volume.unmount().unwrap();
            linux::assert_clean(&disk.bytes(), "after the replay");
        }
    }
}

#[test]
fn names_in_the_log_are_shown_whatever_the_recovery_flag_says() {
    let _alone = alone();
    for options in [&["-b", "1024"][..], &["-b", "4096", "-O", "^metadata_csum"]] {
        let image = crashed(options, 3);
        let cleared = image.clone().debugfs("feature -needs_recovery\n");
        assert_eq!(cleared.u32(INCOMPAT) & RECOVER, 0);
        for image in [image, cleared] {
            assert_both_show(&image, &["file 0", "file 1", "file 2", "lost+found"], "a crash");
        }
    }
}

/// The last transactions' header blocks: all from the last but `n`-th commit record on.
fn headers_of_transaction(image: &Image, from_end: usize) -> Vec<(usize, u32)> {
    let headers = image.log_headers();
    let mut sequences: Vec<u32> = headers.iter().filter(|h| h.1 == COMMIT).map(|h| h.2).collect();
    sequences.sort_unstable();
    let wanted = sequences[sequences.len() - 1 - from_end];
    headers.into_iter().filter(|h| h.2 == wanted).map(|(at, kind, _)| (at, kind)).collect()
}

/// What can be wrong with a header block.
type Wrong = fn(&mut Image, usize);

const WRONGS: [(&str, Wrong); 4] = [
    ("its magic number", |image, at| image.0[at] ^= 0x10),
    ("its transaction's number", |image, at| image.0[at + 11] ^= 0x40),
    ("its type", |image, at| image.0[at + 7] = 9),
    ("zeros", |image, at| image.put(at, &[0; 1024])),
];

#[test]
fn damage_before_the_end_of_the_log_is_told() {
    let _alone = alone();
    let image = crashed(&["-b", "1024"], 5);
    for from_end in 1..4 {
        for (at, kind) in headers_of_transaction(&image, from_end) {
            for (what, wrong) in WRONGS {
                let mut image = image.clone();
                wrong(&mut image, at);
                assert_both_refuse(
                    &image,
                    &format!("{what}, header of type {kind}, {from_end} from the end"),
                );
            }
            let mut image = image.clone();
            image.0[at + 0x200 - 1] ^= 1;
            assert_both_refuse(
                &image,
                &format!("a wrong byte, header of type {kind}, {from_end} from the end"),
            );
        }
    }
}

#[test]
fn damage_before_the_end_of_a_log_without_checksums_is_told() {
    let _alone = alone();
    let image = crashed(&["-b", "1024", "-O", "^metadata_csum"], 5);
    for from_end in 1..4 {
        for (at, kind) in headers_of_transaction(&image, from_end) {
            for (what, wrong) in WRONGS {
                let mut image = image.clone();
                wrong(&mut image, at);
                assert_both_refuse(
                    &image,
                    &format!("{what}, header of type {kind}, {from_end} from the end"),
                );
            }
        }
    }
}

#[test]
fn damage_in_the_last_transaction_is_told_where_its_commit_record_is_there() {
    let _alone = alone();
    let image = crashed(&["-b", "1024"], 3);
    let headers = headers_of_transaction(&image, 0);
    for (at, _) in headers.iter().filter(|(_, kind)| *kind != COMMIT) {
        for (what, wrong) in WRONGS {
            let mut image = image.clone();
            wrong(&mut image, *at);
            assert_both_refuse(&image, what);
        }
    }
    // A block that the descriptor lists.
    let (descriptor, _) = headers[0];
    let mut damaged = image.clone();
    damaged.0[descriptor + 1024 + 100] ^= 1;
    assert_both_refuse(&damaged, "a logged block");
    // The record itself: a flipped bit is no tear.
    let (commit, _) = *headers.iter().find(|(_, kind)| *kind == COMMIT).unwrap();
    let mut damaged = image.clone();
    damaged.0[commit + 0x37] ^= 1;
    assert_both_refuse(&damaged, "the commit record");
}

#[test]
fn a_torn_end_is_the_end() {
    let _alone = alone();
    for options in [&["-b", "4096"][..], &["-b", "4096", "-O", "^metadata_csum"]] {
        let image = crashed(options, 3);
        let headers = headers_of_transaction(&image, 0);
        let (commit, _) = *headers.iter().find(|(_, kind)| *kind == COMMIT).unwrap();
        let (descriptor, _) = *headers.iter().find(|(_, kind)| *kind == DESCRIPTOR).unwrap();
        let expected = ["file 0", "file 1", "lost+found"];
        // The record was never written; nor were, then, perhaps, parts of what lies before it.
        let mut torn = image.clone();
        torn.put(commit, &[0; 4096]);
        assert_both_show(&torn, &expected, "no commit record");
        torn.put(descriptor + 512, &[0x5a; 3584]);
        assert_both_show(&torn, &expected, "no commit record, half a descriptor");
        torn.put(descriptor, &[0; 4096]);
        assert_both_show(&torn, &expected, "nothing of the last transaction");
        if options.len() == 2 {
            // Its first sector was written, the others hold what lay there before.
            let mut torn = image.clone();
            torn.put(commit + 512, &[0x5a; 3584]);
            assert_both_show(&torn, &expected, "half a commit record");
        }
    }
}

#[test]
fn what_a_torn_transaction_left_is_never_taken_for_a_later_one() {
    let _alone = alone();
    let image = crashed(&["-b", "1024"], 3);
    let headers = headers_of_transaction(&image, 0);
    let torn_number = image.be32(headers[0].0 + 8);
    let mut torn = image.clone();
    let (commit, _) = *headers.iter().find(|(_, kind)| *kind == COMMIT).unwrap();
    torn.put(commit, &[0; 1024]);
    let disk = torn.disk();
    let volume = disk.mount(256).unwrap();
    drop(volume);
    let after = Image(disk.bytes());
    let (_, journal) = after.journal();
    assert!(after.be32(journal + 0x18) > torn_number, "the number is used again");
}

#[test]
fn the_older_checksum_of_whole_transactions_is_checked() {
    let _alone = alone();
    // debugfs writes logs of all kinds, but not this one: the sums are put in by hand.
    let old = pattern(1, 3 * 1024);
    let new = pattern(2, 3 * 1024);
    let mut image = with_logged_data(&["-b", "1024", "-O", "^metadata_csum"], &old, &new, "");
    let (_, journal) = image.journal();
    let compat = image.be32(journal + 0x24) | 1;
    image.put_be32(journal + 0x24, compat);
    let headers = image.log_headers();
    let (commit, ..) = *headers.iter().find(|h| h.1 == COMMIT).unwrap();
    let (descriptor, ..) = *headers.iter().find(|h| h.1 == DESCRIPTOR).unwrap();
    let unsummed = image.clone();
    let sum = crc32_be(&image.0[descriptor..descriptor + 4 * 1024]);
    image.put(commit + 0xc, &[1, 4]);
    image.put_be32(commit + 0x10, sum);
    // Without a sum it is not checked, as Linux has it; with the right one it holds.
    for image in [&unsummed, &image] {
        let read_only = image.disk().mount_read_only().unwrap();
        assert!(content(&read_only, 3 * 1024) == new);
    }
    for at in [descriptor + 100, descriptor + 1024, descriptor + 3 * 1024 + 1023, commit + 0x10] {
        let mut damaged = image.clone();
        damaged.0[at] ^= 1;
        assert_both_refuse(&damaged, "a wrong sum");
    }
    // Volumes that are written have no such sums any more.
    let disk = image.disk();
    disk.mount(256).unwrap().unmount().unwrap();
    assert_eq!(Image(disk.bytes()).be32(journal + 0x24) & 1, 0);
}

fn crc32_be(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| {
            sum << 1 ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    })
}

#[test]
fn journals_of_kinds_that_are_not_done_here_are_refused_by_name() {
    let _alone = alone();
    let base = crashed(&["-b", "1024", "-O", "^metadata_csum"], 2);
    let (_, journal) = base.journal();
    for (feature, name) in [(4, "asynchronous commits"), (0x20, "fast commits"), (0x40, "unknown features")] {
        let mut image = base.clone();
        let incompat = image.be32(journal + 0x28) | feature;
        image.put_be32(journal + 0x28, incompat);
        for answer in [image.disk().mount_read_only().map(drop), image.disk().mount(256).map(drop)] {
            let error = answer.unwrap_err();
            assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains(name), "{error}");
        }
    }
    // An empty log has nothing of an asynchronous commit; writing to it takes the feature away.
    let mut image = Image::make(16, &["-b", "1024", "-O", "^metadata_csum"]);
    let (_, journal) = image.journal();
    image.put_be32(journal + 4, 4);
    image.put_be32(journal + 0x28, 4);
    assert_both_show(&image, &["lost+found"], "an empty log");
    let disk = image.disk();
    disk.mount(256).unwrap().unmount().unwrap();
    assert_eq!(Image(disk.bytes()).be32(journal + 0x28) & 4, 0);
}

#[test]
fn a_journal_on_another_device_and_one_that_is_missing_are_refused_by_name() {
    let _alone = alone();
    let external = Image::make(16, &["-b", "4096", "-O", "^has_journal"]).debugfs(
        "feature has_journal\nssv journal_inum 0\nssv journal_uuid 12345678-1234-1234-1234-123456789abc\n",
    );
    let unclean = external.clone().debugfs("feature needs_recovery\n");
    let missing = Image::make(16, &["-b", "4096", "-O", "^has_journal"]).debugfs("feature needs_recovery\n");
    let unnamed = Image::make(16, &["-b", "4096"]).debugfs("ssv journal_inum 0\n");
    for (image, name) in [
        (external, "journal on another device"),
        (unclean, "journal on another device"),
        (missing, "journal to be replayed is missing"),
        (unnamed, "journal without an inode"),
    ] {
        for answer in [image.disk().mount_read_only().map(drop), image.disk().mount(256).map(drop)] {
            let error = answer.unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}

/// Mounts both ways; answers the most memory that was in use beside what was before.
fn peak_of_mounting(image: &Image) -> (usize, [ext4::Result<()>; 2]) {
    let disk = image.disk();
    let watch = memory::Watch::begin();
    let answers = [disk.mount_read_only().map(drop), disk.mount(256).map(drop)];
    (watch.peak(), answers)
}

#[test]
fn a_journal_that_maps_blocks_twice_is_refused_in_little_memory() {
    let _alone = alone();
    let base = Image::make(16, &["-b", "4096", "-O", "^metadata_csum,^64bit,^resize_inode"]);
    let log = base.log();
    let (superblock, run) = (log[0] as u32, log[1] as u32);
    let free = 4000;
    for (what, extents) in [
        ("the same blocks again", vec![(0, 1, superblock), (1, 900, run), (901, 900, run)]),
        ("its own superblock", vec![(0, 1, superblock), (1, 900, run), (901, 1, superblock)]),
        ("the inode table", vec![(0, 1, superblock), (1, 900, run), (901, 2, base.inode_table())]),
        ("the superblock", vec![(0, 1, superblock), (1, 900, run), (901, 1, 0)]),
        ("behind the volume", vec![(0, 1, superblock), (1, 900, run), (901, 8, 4095)]),
        ("a hole", vec![(0, 1, superblock), (2, 900, run)]),
    ] {
        let mut image = base.clone();
        image.put_extents(8, &extents);
        assert_both_refuse(&image, what);
    }
    // 1.36 million blocks of log on a thousand blocks: 340 extents in each of four leaves.
    let mut image = base.clone();
    let length = 900;
    let mut log = 0_u32;
    let mut leaves = Vec::new();
    for leaf in free..free + 4 {
        leaves.push((log, leaf));
        let mut extents = Vec::new();
        for _ in 0..340 {
            let (count, start) = if log == 0 { (1, superblock) } else { (length, run) };
            extents.push((log, count, start));
            log += u32::from(count);
        }
        image.put_leaf(leaf, &extents);
    }
    image.put_leaves(8, &leaves);
    let inode = image.inode(8);
    let size = u64::from(log) * 4096;
    image.put(inode + 4, &(size as u32).to_le_bytes());
    image.put(inode + 0x6c, &((size >> 32) as u32).to_le_bytes());
    fill_with_revokes(&mut image, log, &(1..900).map(|n| run + n).collect::<Vec<_>>());
    let (peak, answers) = peak_of_mounting(&image);
    assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Corrupt(_)))), "{answers:?}");
    assert!(peak < 8 << 20, "{peak} bytes");
}

/// Makes a log of `length` blocks one transaction of revoke blocks, all full.
fn fill_with_revokes(image: &mut Image, length: u32, places: &[u32]) {
    let (_, journal) = image.journal();
    for (at, value) in [(4, 4), (0x10, length), (0x14, 1), (0x18, 1), (0x1c, 1), (0x24, 0), (0x28, 1)] {
        image.put_be32(journal + at, value);
    }
    for (n, place) in places.iter().enumerate() {
        let at = *place as usize * 4096;
        for (field, value) in [(0, 0xc03b_3998), (4, REVOKE), (8, 1), (12, 4096)] {
            image.put_be32(at + field, value);
        }
        for entry in 0..1020 {
            image.put_be32(at + 16 + 4 * entry, (n * 1020 + entry) as u32);
        }
    }
    let features = image.u32(INCOMPAT) | RECOVER;
    image.put(INCOMPAT, &features.to_le_bytes());
}

#[test]
fn a_log_full_of_revoked_blocks_takes_no_more_memory_than_an_empty_one() {
    let _alone = alone();
    let mut image = Image::make(16, &["-b", "4096", "-O", "^metadata_csum,^64bit"]);
    let log: Vec<u32> = image.log().iter().map(|block| *block as u32).collect();
    let (empty, answers) = peak_of_mounting(&image);
    assert_eq!(answers, [Ok(()), Ok(())]);
    let length = log.len() as u32;
    let (last, revokes) = log[1..].split_last().unwrap();
    fill_with_revokes(&mut image, length, revokes);
    // A commit record, so that all of it counts: more than a million numbers.
    let at = *last as usize * 4096;
    image.put(at, &[0; 4096]);
    for (field, value) in [(0, 0xc03b_3998), (4, COMMIT), (8, 1)] {
        image.put_be32(at + field, value);
    }
    let (full, answers) = peak_of_mounting(&image);
    assert_eq!(answers, [Ok(()), Ok(())]);
    // The caches of both mounts, and lists of one block's numbers.
    assert!(full < empty + (12 << 20), "{full} bytes instead of {empty}");
}

#[test]
fn stale_free_counts_of_the_superblock_are_corrected_from_the_groups() {
    let _alone = alone();
    for options in [&["-b", "1024", "-O", "^metadata_csum"][..], &["-b", "4096"]] {
        let clean = Image::make(16, options);
        let expected = clean.disk().mount_read_only().unwrap().statistics();
        for (blocks, inodes) in [("100", "5"), ("0", "0"), ("4294967295", "4294967295")] {
            let image = clean
                .clone()
                .debugfs(&format!("ssv free_blocks_count {blocks}\nssv free_inodes_count {inodes}\n"));
            assert_eq!(image.disk().mount_read_only().unwrap().statistics(), expected);
            let disk = image.disk();
            let mut volume = disk.mount(256).unwrap();
            assert_eq!(volume.statistics(), expected);
            let file = volume.create(ROOT, b"large", &NewInode::file(0o600)).unwrap();
            let data = vec![7; 4 << 20];
            assert_eq!(volume.write(file, 0, &data), Ok(data.len()));
            volume.unmount().unwrap();
            linux::assert_clean(&disk.bytes(), "after stale counts");
        }
    }
}
