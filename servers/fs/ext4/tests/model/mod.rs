//! A reference model of a file system, and random operations done on it and on a volume alike.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ext4::{
    Error, Fallocate, FileType, InodeNumber, IoError, NewInode, Rename, Result, SetAttributes, SetXattr, Time,
};

use crate::disk::{Random, Volume, pattern};

/// What a node of the model is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    File(Arc<Vec<u8>>),
    Dir(BTreeMap<Vec<u8>, InodeNumber>),
    Link(Vec<u8>),
}

#[derive(Debug, Clone)]
pub struct Node {
    pub content: Content,
    pub links: u32,
    pub permissions: u16,
    pub uid: u32,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub modified: Option<Time>,
    /// The operation that changed a file's content or size last.
    pub touched: usize,
}

impl Node {
    fn new(content: Content, permissions: u16, links: u32) -> Self {
        Node { content, links, permissions, uid: 0, xattrs: BTreeMap::new(), modified: None, touched: 0 }
    }
}

/// What an operation promised to be durable when it came back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Durable {
    Nothing,
    /// All names, and the data of one file.
    File(InodeNumber),
    /// Everything.
    All,
}

/// How the random operations are chosen.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    /// Percent of operations that sync something.
    pub sync: u64,
    /// The largest offset of a write.
    pub reach: u64,
    /// The largest size of a write.
    pub write: u64,
    /// The longest name.
    pub name: u64,
    /// No more nodes than this.
    pub nodes: usize,
    /// Files are mapped by tables of block numbers: nothing is allocated ahead.
    pub block_maps: bool,
}

pub const MIXED: Mix =
    Mix { sync: 6, reach: 300_000, write: 20_000, name: 40, nodes: 400, block_maps: false };

#[derive(Debug, Clone)]
pub struct Model {
    pub nodes: BTreeMap<InodeNumber, Node>,
    open: BTreeSet<InodeNumber>,
    pub operation: usize,
    random: Random,
    mix: Mix,
    /// How often space ran out.
    pub full: usize,
}

/// Repeats an operation while its blocks are being read.
pub fn retry<R>(mut operation: impl FnMut() -> Result<R>) -> Result<R> {
    for _ in 0..100_000 {
        match operation() {
            Err(Error::Io(IoError::Pending)) => {}
            other => return other,
        }
    }
    panic!("an operation never got its blocks");
}

type Place = (InodeNumber, Vec<u8>);

impl Model {
    /// The model of a volume as mke2fs makes it.
    pub fn new(volume: &Volume, seed: u64, mix: Mix) -> Self {
        let mut nodes = BTreeMap::new();
        let mut root = BTreeMap::new();
        if let Ok(lost) = retry(|| volume.lookup(InodeNumber::ROOT, b"lost+found")) {
            root.insert(b"lost+found".to_vec(), lost);
            nodes.insert(lost, Node::new(Content::Dir(BTreeMap::new()), 0o700, 2));
        }
        let links = 2 + root.len() as u32;
        nodes.insert(InodeNumber::ROOT, Node::new(Content::Dir(root), 0o755, links));
        Model { nodes, open: BTreeSet::new(), operation: 0, random: Random::new(seed), mix, full: 0 }
    }

    fn dir(&self, inode: InodeNumber) -> &BTreeMap<Vec<u8>, InodeNumber> {
        match &self.nodes[&inode].content {
            Content::Dir(names) => names,
            other => panic!("{inode:?} is {other:?}"),
        }
    }

    fn names(&mut self, inode: InodeNumber) -> &mut BTreeMap<Vec<u8>, InodeNumber> {
        match &mut self.nodes.get_mut(&inode).unwrap().content {
            Content::Dir(names) => names,
            other => panic!("{inode:?} is {other:?}"),
        }
    }

    fn is_dir(&self, inode: InodeNumber) -> bool {
        matches!(self.nodes[&inode].content, Content::Dir(_))
    }

    fn pick(&mut self, wanted: impl Fn(&Node) -> bool) -> Option<InodeNumber> {
        let fitting: Vec<InodeNumber> =
            self.nodes.iter().filter(|(_, n)| wanted(n)).map(|(i, _)| *i).collect();
        (!fitting.is_empty()).then(|| fitting[self.random.below(fitting.len() as u64) as usize])
    }

    fn pick_dir(&mut self) -> InodeNumber {
        self.pick(|n| matches!(n.content, Content::Dir(_)) && n.links > 0).unwrap_or(InodeNumber::ROOT)
    }

    fn pick_file(&mut self) -> Option<InodeNumber> {
        self.pick(|n| matches!(n.content, Content::File(_)))
    }

    fn new_name(&mut self) -> Vec<u8> {
        let length = 1 + self.random.below(self.mix.name) as usize;
        let letters = if self.random.chance(30) { 3 } else { 255 };
        let mut name: Vec<u8> =
            (0..length).map(|_| b'a'.wrapping_add(self.random.below(letters) as u8)).collect();
        name.iter_mut().filter(|byte| matches!(**byte, 0 | b'/' | b'.')).for_each(|byte| *byte = b'-');
        name
    }

    fn new_place(&mut self) -> Place {
        let dir = self.pick_dir();
        (dir, self.new_name())
    }

    /// A name that exists, if the chosen directory has one.
    fn old_place(&mut self) -> Option<Place> {
        let dir = self.pick(|n| matches!(&n.content, Content::Dir(names) if !names.is_empty()))?;
        let names: Vec<Vec<u8>> = self.dir(dir).keys().cloned().collect();
        let name = names[self.random.below(names.len() as u64) as usize].clone();
        (name != b"lost+found").then_some((dir, name))
    }

    fn any_place(&mut self) -> Place {
        match self.old_place() {
            Some(place) if self.random.chance(60) => place,
            _ => self.new_place(),
        }
    }

    fn named(&self, place: &Place) -> Option<InodeNumber> {
        self.dir(place.0).get(&place.1).copied()
    }

    /// Whether `dir` is `ancestor` or lies below it.
    fn is_within(&self, dir: InodeNumber, ancestor: InodeNumber) -> bool {
        dir == ancestor
            || self.nodes.get(&ancestor).is_some_and(|node| match &node.content {
                Content::Dir(names) => names.values().any(|child| self.is_within(dir, *child)),
                _ => false,
            })
    }

    /// Compares an answer with what the model expects. Answers whether the operation was done.
    fn same(&mut self, what: &str, answer: Result<()>, expected: Result<()>) -> bool {
        if answer == Err(Error::NoSpace) {
            self.full += 1;
            return false;
        }
        assert_eq!(answer, expected, "{what} (operation {})", self.operation);
        answer.is_ok()
    }

    /// One random operation on both; answers what it made durable.
    pub fn step(&mut self, volume: &mut Volume) -> Durable {
        self.operation += 1;
        let now = Time { seconds: 1_800_000_000 + self.operation as i64, nanoseconds: self.operation as u32 };
        volume.set_time(now);
        if self.random.chance(self.mix.sync) {
            return self.step_sync(volume);
        }
        match self.random.below(100) {
            0..=17 if self.nodes.len() < self.mix.nodes => self.step_create(volume),
            18..=21 if self.nodes.len() < self.mix.nodes => self.step_mkdir(volume),
            22..=24 if self.nodes.len() < self.mix.nodes => self.step_symlink(volume),
            0..=33 => self.step_unlink(volume),
            34..=37 => self.step_rmdir(volume),
            38..=46 => self.step_rename(volume),
            47..=49 => self.step_link(volume),
            50..=70 => self.step_write(volume),
            71..=75 => self.step_truncate(volume),
            76..=82 => self.step_fallocate(volume),
            83..=86 => self.step_xattr(volume),
            87..=88 => self.step_attributes(volume),
            89..=91 => self.step_open_close(volume),
            92..=97 => self.step_read(volume),
            _ => self.step_list(volume),
        }
        Durable::Nothing
    }

    fn step_sync(&mut self, volume: &mut Volume) -> Durable {
        match (self.random.below(3), self.pick(|n| n.links > 0)) {
            (0, _) | (_, None) => {
                retry(|| volume.sync()).unwrap();
                Durable::All
            }
            (1, Some(inode)) => {
                retry(|| volume.fsync(inode)).unwrap();
                Durable::File(inode)
            }
            (_, Some(inode)) => {
                retry(|| volume.fdatasync(inode)).unwrap();
                Durable::File(inode)
            }
        }
    }

    fn step_create(&mut self, volume: &mut Volume) {
        let (dir, name) = self.any_place();
        let permissions = self.random.below(0o1000) as u16;
        let answer = retry(|| volume.create(dir, &name, &NewInode::file(permissions)));
        self.made(dir, name, answer, Node::new(Content::File(Arc::default()), permissions, 1), 0);
    }

    fn step_mkdir(&mut self, volume: &mut Volume) {
        let (dir, name) = self.any_place();
        let answer = retry(|| volume.create(dir, &name, &NewInode::directory(0o755)));
        self.made(dir, name, answer, Node::new(Content::Dir(BTreeMap::new()), 0o755, 2), 1);
    }

    fn step_symlink(&mut self, volume: &mut Volume) {
        let (dir, name) = self.any_place();
        let length = 1 + if self.random.chance(70) { self.random.below(80) } else { self.random.below(1000) };
        let target: Vec<u8> = (0..length).map(|n| if n % 50 == 49 { b'/' } else { b't' }).collect();
        let answer = retry(|| volume.symlink(dir, &name, &target, &NewInode::file(0)));
        self.made(dir, name, answer, Node::new(Content::Link(target), 0o777, 1), 0);
    }

    fn made(
        &mut self,
        dir: InodeNumber,
        name: Vec<u8>,
        answer: Result<InodeNumber>,
        mut node: Node,
        subdirs: u32,
    ) {
        let expected = if self.dir(dir).contains_key(&name) { Err(Error::Exists) } else { Ok(()) };
        if self.same("create", answer.map(|_| ()), expected) {
            let inode = answer.unwrap();
            node.touched = self.operation;
            assert!(self.nodes.insert(inode, node).is_none(), "an inode was given out twice");
            self.names(dir).insert(name, inode);
            self.nodes.get_mut(&dir).unwrap().links += subdirs;
        }
    }

    fn step_unlink(&mut self, volume: &mut Volume) {
        let (dir, name) = self.any_place();
        let expected = match self.named(&(dir, name.clone())) {
            None => Err(Error::NotFound),
            Some(inode) if self.is_dir(inode) => Err(Error::IsDirectory),
            Some(_) => Ok(()),
        };
        if self.same("unlink", retry(|| volume.unlink(dir, &name)), expected) {
            let inode = self.names(dir).remove(&name).unwrap();
            self.lose_link(inode);
        }
    }

    fn lose_link(&mut self, inode: InodeNumber) {
        let node = self.nodes.get_mut(&inode).unwrap();
        node.links -= 1;
        if node.links == 0 && !self.open.contains(&inode) {
            self.nodes.remove(&inode);
        }
    }

    fn step_rmdir(&mut self, volume: &mut Volume) {
        let (dir, name) = self.any_place();
        let expected = match self.named(&(dir, name.clone())) {
            None => Err(Error::NotFound),
            Some(inode) if !self.is_dir(inode) => Err(Error::NotDirectory),
            Some(inode) if !self.dir(inode).is_empty() => Err(Error::NotEmpty),
            Some(_) => Ok(()),
        };
        if self.same("rmdir", retry(|| volume.rmdir(dir, &name)), expected) {
            let inode = self.names(dir).remove(&name).unwrap();
            self.nodes.remove(&inode);
            self.nodes.get_mut(&dir).unwrap().links -= 1;
        }
    }

    fn step_rename(&mut self, volume: &mut Volume) {
        let (Some(from), to) = (self.old_place(), self.any_place()) else { return };
        let how = [Rename::Replace, Rename::Replace, Rename::NoReplace, Rename::Exchange]
            [self.random.below(4) as usize];
        let expected = self.may_rename(&from, &to, how);
        let answer = retry(|| volume.rename((from.0, &from.1), (to.0, &to.1), how));
        if self.same(&format!("rename {how:?} {from:?} {to:?}"), answer, expected) {
            self.rename(from, to, how);
        }
    }

    fn may_rename(&self, from: &Place, to: &Place, how: Rename) -> Result<()> {
        let moved = self.named(from).unwrap();
        if self.is_dir(moved) && from.0 != to.0 && self.is_within(to.0, moved) {
            return Err(Error::Invalid);
        }
        let Some(target) = self.named(to) else {
            return if how == Rename::Exchange { Err(Error::NotFound) } else { Ok(()) };
        };
        match how {
            Rename::NoReplace => Err(Error::Exists),
            _ if target == moved => Ok(()),
            Rename::Exchange if self.is_dir(target) && from.0 != to.0 && self.is_within(from.0, target) => {
                Err(Error::Invalid)
            }
            Rename::Exchange => Ok(()),
            Rename::Replace => match (self.is_dir(moved), self.is_dir(target)) {
                (false, true) => Err(Error::IsDirectory),
                (true, false) => Err(Error::NotDirectory),
                (true, true) if !self.dir(target).is_empty() => Err(Error::NotEmpty),
                _ => Ok(()),
            },
        }
    }

    fn rename(&mut self, from: Place, to: Place, how: Rename) {
        let moved = self.named(&from).unwrap();
        let target = self.named(&to);
        if target == Some(moved) {
            return;
        }
        let count = |model: &mut Model, inode, from: InodeNumber, to: InodeNumber| {
            if model.is_dir(inode) {
                model.nodes.get_mut(&from).unwrap().links -= 1;
                model.nodes.get_mut(&to).unwrap().links += 1;
            }
        };
        if how == Rename::Exchange {
            let target = target.unwrap();
            count(self, moved, from.0, to.0);
            count(self, target, to.0, from.0);
            self.names(from.0).insert(from.1, target);
            self.names(to.0).insert(to.1, moved);
            return;
        }
        match target {
            Some(target) if self.is_dir(target) => {
                self.nodes.remove(&target);
                self.nodes.get_mut(&to.0).unwrap().links -= 1;
            }
            Some(target) => self.lose_link(target),
            None => {}
        }
        count(self, moved, from.0, to.0);
        self.names(from.0).remove(&from.1);
        self.names(to.0).insert(to.1, moved);
    }

    fn step_link(&mut self, volume: &mut Volume) {
        let (dir, name) = self.new_place();
        let Some(inode) = self.pick(|n| !matches!(n.content, Content::Dir(_)) && n.links > 0) else { return };
        let exists = self.dir(dir).contains_key(&name);
        let expected = if exists { Err(Error::Exists) } else { Ok(()) };
        if self.same("link", retry(|| volume.link(inode, dir, &name)), expected) {
            self.names(dir).insert(name, inode);
            self.nodes.get_mut(&inode).unwrap().links += 1;
        }
    }

    /// A file's content, to be changed.
    fn bytes(&mut self, inode: InodeNumber) -> &mut Vec<u8> {
        let operation = self.operation;
        let node = self.nodes.get_mut(&inode).unwrap();
        node.touched = operation;
        node.modified = None;
        match &mut node.content {
            Content::File(bytes) => Arc::make_mut(bytes),
            other => panic!("{other:?}"),
        }
    }

    fn step_write(&mut self, volume: &mut Volume) {
        let Some(inode) = self.pick_file() else { return };
        let size = match &self.nodes[&inode].content {
            Content::File(bytes) => bytes.len() as u64,
            _ => 0,
        };
        let offset = if self.random.chance(40) { size } else { self.random.below(self.mix.reach) };
        let length = match self.random.below(10) {
            0 => self.mix.write * 5,
            1..=4 => self.mix.write,
            _ => 600,
        };
        let data = pattern(self.operation as u64, 1 + self.random.below(length) as usize);
        let answer = retry(|| volume.write(inode, offset, &data));
        if self.same("write", answer.map(|_| ()), Ok(())) {
            let count = answer.unwrap();
            if count < data.len() {
                self.full += 1;
            }
            let (start, end) = (offset as usize, offset as usize + count);
            let bytes = self.bytes(inode);
            bytes.resize(bytes.len().max(end), 0);
            bytes[start..end].copy_from_slice(&data[..count]);
        }
    }

    fn step_truncate(&mut self, volume: &mut Volume) {
        let Some(inode) = self.pick_file() else { return };
        let size = if self.random.chance(30) { 0 } else { self.random.below(self.mix.reach) };
        if self.same("truncate", retry(|| volume.truncate(inode, size)), Ok(())) {
            self.bytes(inode).resize(size as usize, 0);
        }
    }

    fn step_fallocate(&mut self, volume: &mut Volume) {
        let Some(inode) = self.pick_file() else { return };
        let offset = self.random.below(self.mix.reach);
        let length = 1 + self.random.below(self.mix.write * 4);
        let keep_size = self.random.chance(50);
        let how = match self.random.below(3) {
            0 => Fallocate::PunchHole,
            _ if self.mix.block_maps => Fallocate::PunchHole,
            1 => Fallocate::Allocate { keep_size },
            _ => Fallocate::ZeroRange { keep_size },
        };
        if self.same("fallocate", retry(|| volume.fallocate(inode, how, offset, length)), Ok(())) {
            let end = (offset + length) as usize;
            let bytes = self.bytes(inode);
            if how != Fallocate::PunchHole && !keep_size {
                bytes.resize(bytes.len().max(end), 0);
            }
            let end = end.min(bytes.len());
            if !matches!(how, Fallocate::Allocate { .. }) && (offset as usize) < end {
                bytes[offset as usize..end].fill(0);
            }
        }
    }

    fn step_xattr(&mut self, volume: &mut Volume) {
        let Some(inode) = self.pick(|n| n.links > 0) else { return };
        let name = format!("user.{}", self.random.below(6)).into_bytes();
        let exists = self.nodes[&inode].xattrs.contains_key(&name);
        if self.random.chance(35) {
            let expected = if exists { Ok(()) } else { Err(Error::NoAttribute) };
            if self.same("remove_xattr", retry(|| volume.remove_xattr(inode, &name)), expected) {
                self.nodes.get_mut(&inode).unwrap().xattrs.remove(&name);
            }
            return;
        }
        let how = [SetXattr::Any, SetXattr::Create, SetXattr::Replace][self.random.below(3) as usize];
        let value = pattern(self.operation as u64, self.random.below(300) as usize);
        let expected = match (how, exists) {
            (SetXattr::Create, true) => Err(Error::Exists),
            (SetXattr::Replace, false) => Err(Error::NoAttribute),
            _ => Ok(()),
        };
        if self.same("set_xattr", retry(|| volume.set_xattr(inode, &name, &value, how)), expected) {
            self.nodes.get_mut(&inode).unwrap().xattrs.insert(name, value);
        }
    }

    fn step_attributes(&mut self, volume: &mut Volume) {
        let Some(inode) = self.pick(|n| n.links > 0 && !matches!(n.content, Content::Dir(_))) else { return };
        let permissions = self.random.below(0o10000) as u16;
        let uid = self.random.next() as u32;
        // Without bit 31, which the independent reader of the power-cut tests takes for a negative time.
        let seconds = (self.random.below(4) << 32 | self.random.below(1 << 31)) as i64;
        let modified = Time { seconds, nanoseconds: 999_999_999 };
        let set = SetAttributes {
            permissions: Some(permissions),
            uid: Some(uid),
            modified: Some(modified),
            ..SetAttributes::default()
        };
        if self.same("set_attributes", retry(|| volume.set_attributes(inode, &set)), Ok(())) {
            let node = self.nodes.get_mut(&inode).unwrap();
            (node.permissions, node.uid, node.modified) = (permissions, uid, Some(modified));
        }
    }

    fn step_open_close(&mut self, volume: &mut Volume) {
        if self.random.chance(40) {
            self.close_one(volume);
        } else if let Some(inode) = self.pick_file()
            && self.open.insert(inode)
        {
            retry(|| volume.open(inode)).unwrap();
        }
    }

    fn close_one(&mut self, volume: &mut Volume) {
        if let Some(inode) = self.open.pop_first() {
            volume.close(inode).unwrap();
            if self.nodes[&inode].links == 0 {
                self.nodes.remove(&inode);
            }
        }
    }

    /// Closes all files.
    pub fn close_all(&mut self, volume: &mut Volume) {
        while !self.open.is_empty() {
            self.close_one(volume);
        }
    }

    fn step_read(&mut self, volume: &Volume) {
        let Some(inode) = self.pick_file() else { return };
        let offset = self.random.below(self.mix.reach) as usize;
        let mut out = vec![0xee; 1 + self.random.below(self.mix.write * 2) as usize];
        let count = retry(|| volume.read(inode, offset as u64, &mut out)).unwrap();
        let Content::File(bytes) = &self.nodes[&inode].content else { return };
        let expected = bytes.get(offset..).unwrap_or(&[]);
        assert!(
            out[..count] == expected[..expected.len().min(out.len())],
            "read (operation {})",
            self.operation
        );
    }

    fn step_list(&mut self, volume: &Volume) {
        let dir = self.pick_dir();
        let mut listed = BTreeMap::new();
        let mut cookie = 0;
        loop {
            // In pieces of at most seven names.
            let mut piece = Vec::new();
            retry(|| {
                piece.clear();
                volume.read_dir(dir, cookie, |entry| {
                    piece.push((entry.name.to_vec(), entry.inode, entry.next));
                    piece.len() < 7
                })
            })
            .unwrap();
            let Some(last) = piece.last() else { break };
            cookie = last.2;
            for (name, inode, _) in piece {
                if name != b"." && name != b".." {
                    assert!(listed.insert(name, inode).is_none(), "a name was listed twice");
                }
            }
        }
        assert_eq!(&listed, self.dir(dir), "directory {dir:?}");
    }

    /// Compares everything.
    pub fn check(&self, volume: &Volume) {
        for (inode, node) in &self.nodes {
            let attributes = retry(|| volume.attributes(*inode)).unwrap();
            assert_eq!(attributes.links as u32, node.links, "links of {inode:?}");
            assert_eq!((attributes.permissions, attributes.uid), (node.permissions, node.uid), "{inode:?}");
            if let Some(modified) = node.modified {
                assert_eq!(attributes.modified, modified);
            }
            self.check_content(volume, *inode, node, attributes.kind);
            self.check_xattrs(volume, *inode, node);
        }
    }

    fn check_content(&self, volume: &Volume, inode: InodeNumber, node: &Node, kind: FileType) {
        match &node.content {
            Content::File(bytes) => {
                let mut out = vec![0; bytes.len() + 1];
                let count = retry(|| volume.read(inode, 0, &mut out)).unwrap();
                assert!(kind == FileType::Regular && out[..count] == bytes[..], "content of {inode:?}");
            }
            Content::Link(target) => {
                let mut out = vec![0; 5000];
                let count = retry(|| volume.read_link(inode, &mut out)).unwrap();
                assert!(kind == FileType::Symlink && out[..count] == target[..], "target of {inode:?}");
            }
            Content::Dir(names) => {
                let mut listed = BTreeMap::new();
                retry(|| {
                    listed.clear();
                    volume
                        .read_dir(inode, 2, |entry| listed.insert(entry.name.to_vec(), entry.inode).is_none())
                })
                .unwrap();
                assert!(kind == FileType::Directory);
                assert_eq!(&listed, names, "names of {inode:?}");
            }
        }
    }

    fn check_xattrs(&self, volume: &Volume, inode: InodeNumber, node: &Node) {
        let mut names = BTreeSet::new();
        retry(|| {
            names.clear();
            volume.list_xattrs(inode, |name| names.extend([name.to_vec()]))
        })
        .unwrap();
        assert!(names.iter().eq(node.xattrs.keys()), "attributes of {inode:?}");
        for (name, value) in &node.xattrs {
            let mut out = vec![0; 5000];
            let count = retry(|| volume.get_xattr(inode, name, &mut out)).unwrap();
            assert!(out[..count] == value[..], "attribute of {inode:?}");
        }
    }
}
