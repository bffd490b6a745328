//! The Linux kernel as a judge: it and this crate take turns on one image. Each finds the tree as the other left it, most
//! often in a crash, and e2fsck finds nothing to mend.
//!
//! Needs the permission to mount (`mount -o loop`); where that is missing a line says so and nothing is tested.

mod disk;
mod image;
mod kernel;
mod linux;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use disk::{Disk, Random, Volume, pattern};
use ext4::{Error, FileType, InodeNumber, NewInode, Rename};
use image::{Image, SUPERBLOCK};
use kernel::{Mounted, may_mount};

const ROOT: InodeNumber = InodeNumber::ROOT;
const RECOVER: u32 = 4;

/// An image that the kernel has mounted.
struct Kernel {
    mounted: Mounted,
    file: linux::Scratch,
}

impl Kernel {
    fn mount(image: &[u8], options: &str) -> Self {
        let file = linux::Scratch::holding("loop", image);
        let mounted = Mounted::try_new(&file.0, "ext4", options)
            .unwrap_or_else(|said| panic!("the kernel refuses: {said}"));
        Kernel { mounted, file }
    }

    fn root(&self) -> &Path {
        &self.mounted.folder
    }

    /// The disk as a power cut would leave it now.
    fn crash(&self) -> Vec<u8> {
        self.file.read()
    }

    fn unmount(self) -> Vec<u8> {
        drop(self.mounted);
        self.file.read()
    }
}

/// What a path is.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Dir,
    File(Vec<u8>),
    Link(Vec<u8>),
}

type Tree = BTreeMap<String, Node>;

/// One change of the tree.
#[derive(Debug)]
enum Change {
    MakeDir(String),
    Write(String, u64, Vec<u8>),
    Truncate(String, u64),
    Link(String, String),
    Rename(String, String),
    Remove(String),
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').unwrap().0
}

fn choose(random: &mut Random, tree: &Tree, wanted: impl Fn(&Node) -> bool) -> Option<String> {
    let paths: Vec<&String> = tree
        .iter()
        .filter(|(path, node)| wanted(node) && *path != "/lost+found")
        .map(|(path, _)| path)
        .collect();
    (!paths.is_empty()).then(|| paths[random.below(paths.len() as u64) as usize].clone())
}

fn next_change(random: &mut Random, tree: &Tree, serial: usize) -> Option<Change> {
    let dir = match random.below(3) {
        0 => String::new(),
        _ => choose(random, tree, |node| *node == Node::Dir).unwrap_or_default(),
    };
    let new = format!("{dir}/name {serial} {}", "x".repeat(random.below(60) as usize));
    let file = choose(random, tree, |node| matches!(node, Node::File(_)));
    Some(match random.below(12) {
        0 => Change::MakeDir(new),
        1..=3 => Change::Write(new, 0, pattern(serial as u64, random.below(30_000) as usize)),
        4..=5 => Change::Write(
            file?,
            random.below(60_000),
            pattern(serial as u64, 1 + random.below(9_000) as usize),
        ),
        6 => Change::Truncate(file?, random.below(40_000)),
        7 => Change::Link(new, "t".repeat(1 + random.below(200) as usize)),
        8 => Change::Rename(file?, new),
        9 => Change::Rename(file?, choose(random, tree, |node| matches!(node, Node::File(_)))?),
        _ => Change::Remove(file?),
    })
}

fn apply(tree: &mut Tree, change: &Change) {
    match change {
        Change::MakeDir(path) => drop(tree.insert(path.clone(), Node::Dir)),
        Change::Write(path, offset, bytes) => {
            let node = tree.entry(path.clone()).or_insert(Node::File(Vec::new()));
            let Node::File(content) = node else { panic!("{path}") };
            let end = *offset as usize + bytes.len();
            if !bytes.is_empty() {
                content.resize(content.len().max(end), 0);
                content[*offset as usize..end].copy_from_slice(bytes);
            }
        }
        Change::Truncate(path, size) => {
            let Some(Node::File(content)) = tree.get_mut(path) else { panic!("{path}") };
            content.resize(*size as usize, 0);
        }
        Change::Link(path, target) => drop(tree.insert(path.clone(), Node::Link(target.clone().into()))),
        Change::Rename(from, to) => {
            let node = tree.remove(from).unwrap();
            tree.insert(to.clone(), node);
        }
        Change::Remove(path) => drop(tree.remove(path)),
    }
}

fn find(volume: &Volume, path: &str) -> ext4::Result<InodeNumber> {
    path.split('/')
        .filter(|name| !name.is_empty())
        .try_fold(ROOT, |dir, name| volume.lookup(dir, name.as_bytes()))
}

fn place<'a>(volume: &Volume, path: &'a str) -> (InodeNumber, &'a [u8]) {
    (find(volume, parent(path)).unwrap(), path.rsplit_once('/').unwrap().1.as_bytes())
}

fn change_volume(volume: &mut Volume, change: &Change) {
    match change {
        Change::MakeDir(path) => {
            let (dir, name) = place(volume, path);
            volume.create(dir, name, &NewInode::directory(0o755)).unwrap();
        }
        Change::Write(path, offset, bytes) => {
            let (dir, name) = place(volume, path);
            let file = match volume.lookup(dir, name) {
                Err(Error::NotFound) => volume.create(dir, name, &NewInode::file(0o644)).unwrap(),
                found => found.unwrap(),
            };
            assert_eq!(volume.write(file, *offset, bytes), Ok(bytes.len()));
        }
        Change::Truncate(path, size) => volume.truncate(find(volume, path).unwrap(), *size).unwrap(),
        Change::Link(path, target) => {
            let (dir, name) = place(volume, path);
            volume.symlink(dir, name, target.as_bytes(), &NewInode::file(0)).unwrap();
        }
        Change::Rename(from, to) => {
            let (from, to) = (place(volume, from), place(volume, to));
            volume.rename(from, to, Rename::Replace).unwrap();
        }
        Change::Remove(path) => {
            let (dir, name) = place(volume, path);
            volume.unlink(dir, name).unwrap();
        }
    }
}

fn change_mounted(root: &Path, change: &Change) {
    let at = |path: &str| root.join(&path[1..]);
    match change {
        Change::MakeDir(path) => fs::create_dir(at(path)).unwrap(),
        Change::Write(path, offset, bytes) => {
            let file = File::options().write(true).create(true).truncate(false).open(at(path)).unwrap();
            file.write_all_at(bytes, *offset).unwrap();
        }
        Change::Truncate(path, size) => {
            File::options().write(true).open(at(path)).unwrap().set_len(*size).unwrap();
        }
        Change::Link(path, target) => std::os::unix::fs::symlink(target, at(path)).unwrap(),
        Change::Rename(from, to) => fs::rename(at(from), at(to)).unwrap(),
        Change::Remove(path) => fs::remove_file(at(path)).unwrap(),
    }
}

fn tree_of_volume(volume: &Volume) -> Tree {
    fn walk(volume: &Volume, dir: InodeNumber, path: &str, tree: &mut Tree) {
        let mut names = Vec::new();
        volume
            .read_dir(dir, 2, |entry| {
                names.push((String::from_utf8(entry.name.to_vec()).unwrap(), entry.inode));
                true
            })
            .unwrap();
        for (name, inode) in names {
            let path = format!("{path}/{name}");
            let attributes = volume.attributes(inode).unwrap();
            let mut bytes = vec![0; attributes.size as usize];
            let node = match attributes.kind {
                FileType::Directory => {
                    walk(volume, inode, &path, tree);
                    Node::Dir
                }
                FileType::Symlink => {
                    volume.read_link(inode, &mut bytes).unwrap();
                    Node::Link(bytes)
                }
                _ => {
                    assert_eq!(volume.read(inode, 0, &mut bytes), Ok(bytes.len()));
                    Node::File(bytes)
                }
            };
            tree.insert(path, node);
        }
    }
    let mut tree = Tree::new();
    walk(volume, ROOT, "", &mut tree);
    tree
}

fn tree_of_folder(root: &Path) -> Tree {
    fn walk(folder: &PathBuf, path: &str, tree: &mut Tree) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{path}/{}", entry.file_name().to_str().unwrap());
            let kind = entry.file_type().unwrap();
            let node = if kind.is_dir() {
                walk(&entry.path(), &path, tree);
                Node::Dir
            } else if kind.is_symlink() {
                Node::Link(fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec())
            } else {
                Node::File(fs::read(entry.path()).unwrap())
            };
            tree.insert(path, node);
        }
    }
    let mut tree = Tree::new();
    walk(&root.to_path_buf(), "", &mut tree);
    tree
}

fn assert_same(found: &Tree, expected: &Tree, what: &str) {
    for (path, node) in expected {
        assert!(found.get(path) == Some(node), "{what}: {path} differs");
    }
    for path in found.keys() {
        assert!(expected.contains_key(path), "{what}: {path} should not be there");
    }
}

/// How a turn ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Unmount,
    /// Durable, but not unmounted.
    Crash,
    /// The same, with a file open that has no name any more.
    CrashWithOrphan,
}

const ORPHAN: &str = "/an open file without a name";

/// This crate's turn.
fn our_turn(image: Vec<u8>, tree: &mut Tree, random: &mut Random, turn: usize, end: End) -> Vec<u8> {
    let what = format!("our turn {turn}, {end:?}");
    assert_same(&tree_of_volume(&Disk::new(image.clone()).mount_read_only().unwrap()), tree, &what);
    let disk = Disk::new(image);
    let mut volume = disk.mount(400).unwrap();
    assert_same(&tree_of_volume(&volume), tree, &what);
    for n in 0..60 {
        if let Some(change) = next_change(random, tree, turn * 1000 + n) {
            change_volume(&mut volume, &change);
            apply(tree, &change);
        }
        if n % 20 == 19 {
            volume.commit().unwrap();
        }
    }
    if end == End::CrashWithOrphan {
        let file = volume.create(ROOT, &ORPHAN.as_bytes()[1..], &NewInode::file(0o600)).unwrap();
        volume.write(file, 0, &pattern(9, 50_000)).unwrap();
        volume.open(file).unwrap();
        volume.unlink(ROOT, &ORPHAN.as_bytes()[1..]).unwrap();
    }
    volume.sync().unwrap();
    if end == End::Unmount {
        volume.unmount().unwrap();
    }
    disk.bytes()
}

/// The kernel's turn.
fn their_turn(
    image: &[u8],
    options: &str,
    tree: &mut Tree,
    random: &mut Random,
    turn: usize,
    end: End,
) -> Vec<u8> {
    let kernel = Kernel::mount(image, options);
    assert_same(&tree_of_folder(kernel.root()), tree, &format!("the kernel's turn {turn}, {end:?}"));
    for n in 0..60 {
        if let Some(change) = next_change(random, tree, turn * 1000 + n) {
            change_mounted(kernel.root(), &change);
            apply(tree, &change);
        }
        if n % 20 == 19 {
            kernel.mounted.sync();
        }
    }
    let orphan = (end == End::CrashWithOrphan).then(|| {
        let path = kernel.root().join(&ORPHAN[1..]);
        fs::write(&path, pattern(9, 50_000)).unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        file
    });
    kernel.mounted.sync();
    let cut = kernel.crash();
    drop(orphan);
    let unmounted = kernel.unmount();
    if end == End::Unmount { unmounted } else { cut }
}

/// A crash's log is replayed by e2fsck, too; without orphans nothing is left to do then, except that the kernel does not
/// keep the superblock's free counts and its note of an orphan file up to date.
fn assert_replayable(image: &[u8], by_kernel: bool, end: End, what: &str) {
    if end == End::Unmount {
        return linux::assert_clean(image, what);
    }
    assert_eq!(Image(image.to_vec()).u32(SUPERBLOCK + 0x60) & RECOVER, RECOVER, "{what}: no log");
    let ready = end != End::CrashWithOrphan;
    if let Err(said) = linux::replay_and_check(image, |_| ready) {
        let is_count = |line: &str| {
            let harmless = [
                "e2fsck ",
                "Pass ",
                "Fix? no",
                "Clear? no",
                "Free blocks count wrong (",
                "Free inodes count wrong (",
                "Feature orphan_present is set but orphan file is clean",
            ];
            harmless.iter().any(|start| line.starts_with(start)) || line.is_empty() || line.contains(": ")
        };
        let counts_only = by_kernel && said.contains("count wrong (") && said.lines().all(is_count);
        assert!(counts_only, "{what}: e2fsck says {said}");
    }
}

/// Takes turns on a new image, and checks what each leaves.
fn take_turns(seed: u64, make: &[&str], options: &str) {
    if !may_mount() {
        return;
    }
    let mut random = Random::new(seed);
    let mut image = linux::make_image(16, make);
    let mut tree = Tree::from([("/lost+found".to_owned(), Node::Dir)]);
    for turn in 0..8 {
        let end =
            [End::Crash, End::CrashWithOrphan, End::CrashWithOrphan, End::Crash, End::Unmount][turn % 5];
        image = if turn % 2 == 0 {
            our_turn(image, &mut tree, &mut random, turn, end)
        } else {
            their_turn(&image, options, &mut tree, &mut random, turn, end)
        };
        assert_replayable(&image, turn % 2 == 1, end, &format!("turn {turn}, {make:?}, {options}"));
    }
    // What both leave in the end is clean, orphans and counts and all.
    let disk = Disk::new(image.clone());
    let volume = disk.mount(400).unwrap();
    assert_same(&tree_of_volume(&volume), &tree, "in the end");
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "unmounted by us");
    let kernel = Kernel::mount(&image, options);
    assert_same(&tree_of_folder(kernel.root()), &tree, "in the end, for the kernel");
    linux::assert_clean(&kernel.unmount(), "unmounted by the kernel");
}

#[test]
fn turns_with_the_kernel_on_blocks_of_1_kib_lose_nothing() {
    take_turns(1, &["-b", "1024"], "rw");
}

#[test]
fn turns_with_the_kernel_on_blocks_of_4_kib_lose_nothing() {
    take_turns(2, &["-b", "4096"], "rw");
}

#[test]
fn turns_with_the_kernel_without_checksums_lose_nothing() {
    take_turns(3, &["-b", "1024", "-O", "^metadata_csum,^64bit"], "rw");
}

#[test]
fn turns_with_the_kernel_on_block_maps_lose_nothing() {
    take_turns(8, &["-b", "1024", "-O", "^extent,^64bit,^flex_bg,^metadata_csum"], "rw");
}

#[test]
fn turns_with_the_kernel_that_journals_data_lose_nothing() {
    take_turns(4, &["-b", "4096"], "data=journal");
    take_turns(5, &["-b", "1024", "-O", "^metadata_csum"], "data=journal");
}

#[test]
fn turns_with_the_kernel_that_sums_whole_transactions_lose_nothing() {
    take_turns(6, &["-b", "1024", "-O", "^metadata_csum"], "journal_checksum");
}

#[test]
fn turns_with_the_kernel_that_keeps_orphans_in_a_file_lose_nothing() {
    take_turns(7, &["-b", "4096", "-O", "orphan_file"], "rw");
}

/// A crash of the kernel on a new image, with some names that are durable.
fn crash_of_the_kernel(make: &[&str], options: &str) -> (Vec<u8>, Tree) {
    let mut tree = Tree::from([("/lost+found".to_owned(), Node::Dir)]);
    let image = linux::make_image(16, make);
    let cut = their_turn(&image, options, &mut tree, &mut Random::new(11), 1, End::Crash);
    (cut, tree)
}

#[test]
fn after_a_crash_of_the_kernel_the_free_space_is_what_its_groups_say() {
    if !may_mount() {
        return;
    }
    let (cut, tree) = crash_of_the_kernel(&["-b", "4096", "-O", "^metadata_csum"], "rw");
    let recounted = linux::replay(&cut).unwrap();
    let expected = Disk::new(recounted).mount_read_only().unwrap().statistics();
    let read_only = Disk::new(cut.clone()).mount_read_only().unwrap();
    assert_eq!(read_only.statistics(), expected);
    let disk = Disk::new(cut);
    let volume = disk.mount(400).unwrap();
    assert_eq!(volume.statistics(), expected);
    assert_same(&tree_of_volume(&volume), &tree, "after the crash");
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "after a crash of the kernel");
}

#[test]
fn a_damaged_sum_of_a_whole_transaction_of_the_kernel_is_told() {
    if !may_mount() {
        return;
    }
    let (cut, tree) = crash_of_the_kernel(&["-b", "1024", "-O", "^metadata_csum"], "journal_checksum");
    let image = Image(cut);
    let (_, journal) = image.journal();
    assert_eq!(image.be32(journal + 0x24) & 1, 1, "the kernel sums whole transactions");
    assert_same(&tree_of_volume(&image.disk().mount_read_only().unwrap()), &tree, "undamaged");
    let descriptor = image.log_headers().iter().find(|header| header.1 == 1).unwrap().0;
    let mut damaged = image.clone();
    damaged.0[descriptor + 1024 + 5] ^= 1;
    assert!(matches!(damaged.disk().mount_read_only().map(drop), Err(Error::Corrupt(_))));
    assert!(matches!(damaged.disk().mount(400).map(drop), Err(Error::Corrupt(_))));
}

#[test]
fn a_log_of_the_kernel_with_asynchronous_commits_is_refused_by_name() {
    if !may_mount() {
        return;
    }
    let (cut, _) = crash_of_the_kernel(&["-b", "4096"], "data=writeback,journal_async_commit");
    for answer in [Disk::new(cut.clone()).mount_read_only().map(drop), Disk::new(cut).mount(400).map(drop)] {
        let error = answer.unwrap_err().to_string();
        assert!(error.contains("asynchronous commits"), "{error}");
    }
}

#[test]
fn the_kernel_refuses_what_is_refused_here_and_takes_what_is_taken() {
    if !may_mount() {
        return;
    }
    let source = linux::Scratch::holding("source", &pattern(1, 40_000));
    let mut image = Image::make(16, &["-b", "4096", "-O", "^metadata_csum"])
        .debugfs(&format!("write {} f\n", source.0.display()));
    let start = image.blocks("f")[0] as u32;
    let mut swapped = image.clone();
    swapped.put_extents(12, &[(4, 4, start + 4), (0, 4, start)]);
    let mut over_table = image.clone();
    over_table.put_extents(12, &[(0, 1, image.inode_table())]);
    image.put_extents(12, &[(0, 4, start), (4, 4, start + 4)]);
    for (image, readable) in [(image, true), (swapped, false), (over_table, false)] {
        let kernel = Kernel::mount(&image.0, "ro");
        assert_eq!(fs::read(kernel.root().join("f")).is_ok(), readable);
        let volume = image.disk().mount_read_only().unwrap();
        let file = volume.lookup(ROOT, b"f").unwrap();
        assert_eq!(volume.read(file, 0, &mut [0; 8192]).is_ok(), readable);
        drop(kernel);
    }
}
