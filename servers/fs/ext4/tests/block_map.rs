//! Files mapped by tables of block numbers: those of ext2, ext3, and volumes that were converted. e2fsck and debugfs are
//! the judges.

mod disk;
mod kernel;
mod linux;

use disk::{Disk, Random, Volume, pattern};
use ext4::{Error, Fallocate, FileType, InodeNumber, NewInode, SetXattr};
use kernel::Mounted;

const ROOT: InodeNumber = InodeNumber::ROOT;
/// An ext3 volume, as mke2fs makes it.
const EXT3: [&str; 2] = ["-t", "ext3"];

fn ext3(megabytes: u64, block_size: &str) -> Disk {
    Disk::new(linux::make_image(megabytes, &[&EXT3[..], &["-b", block_size]].concat()))
}

fn file(volume: &mut Volume, name: &str) -> InodeNumber {
    volume.create(ROOT, name.as_bytes(), &NewInode::file(0o644)).unwrap()
}

fn content(volume: &Volume, inode: InodeNumber) -> Vec<u8> {
    let mut bytes = vec![0; volume.attributes(inode).unwrap().size as usize];
    assert_eq!(volume.read(inode, 0, &mut bytes), Ok(bytes.len()));
    bytes
}

/// Fails unless debugfs says that the inode has no extents.
fn assert_block_map(image: &[u8], inode: InodeNumber) {
    let said =
        linux::debugfs(&linux::Scratch::holding("image", image).0, false, &format!("stat <{}>\n", inode.0));
    assert!(!said.contains("EXTENTS") && said.contains("BLOCKS"), "{said}");
}

#[test]
fn files_reach_through_all_tables_and_give_every_block_back() {
    for (size, far) in [("1024", 80_000_u64), ("2048", 600_000), ("4096", 1_200_000)] {
        let block = size.parse::<u64>().unwrap();
        let disk = ext3(64, size);
        let mut volume = disk.mount(4000).unwrap();
        let free = volume.statistics().free_blocks;
        let inode = file(&mut volume, "file");
        // Around the limits of each table, and one byte far behind.
        let per_block = block / 4;
        let limits = [12, 12 + per_block, 12 + per_block + per_block * per_block, far];
        for limit in limits {
            let offset = (limit - 3) * block - 5;
            let data = pattern(limit, 6 * block as usize + 10);
            assert_eq!(volume.write(inode, offset, &data), Ok(data.len()));
        }
        let check = |volume: &Volume, below: u64| {
            for limit in limits {
                let offset = (limit - 3) * block - 5;
                let expected = pattern(limit, 6 * block as usize + 10);
                let mut bytes = vec![0xee; expected.len()];
                let count = volume.read(inode, offset, &mut bytes).unwrap();
                assert_eq!(count as u64, below.saturating_sub(offset).min(expected.len() as u64));
                assert!(bytes[..count] == expected[..count], "at {limit} with blocks of {size}");
            }
        };
        check(&volume, u64::MAX);
        volume.unmount().unwrap();
        linux::assert_clean(&disk.bytes(), size);
        assert_block_map(&disk.bytes(), inode);
        let mut volume = disk.mount(4000).unwrap();
        check(&volume, u64::MAX);
        for limit in limits.iter().rev() {
            let end = limit * block + 7;
            volume.truncate(inode, end).unwrap();
            check(&volume, end);
            volume.sync().unwrap();
            linux::assert_clean(&linux::replay(&disk.bytes()).unwrap(), &format!("truncated to {end}"));
        }
        volume.unlink(ROOT, b"file").unwrap();
        volume.commit().unwrap();
        assert_eq!(volume.statistics().free_blocks, free);
        volume.unmount().unwrap();
        linux::assert_clean(&disk.bytes(), "removed");
    }
}

#[test]
fn random_writes_holes_and_sizes_agree_with_a_model() {
    for (seed, size) in [(1, "1024"), (2, "4096"), (3, "1024")] {
        let disk = ext3(48, size);
        let mut volume = disk.mount(2000).unwrap();
        let free = volume.statistics().free_blocks;
        let mut random = Random::new(seed);
        let mut models = vec![Vec::<u8>::new(); 3];
        let inodes: Vec<InodeNumber> = (0..3).map(|n| file(&mut volume, &format!("file {n}"))).collect();
        for step in 0..400_u64 {
            let which = random.below(3) as usize;
            let (inode, model) = (inodes[which], &mut models[which]);
            let offset = random.below(6_000_000);
            match random.below(4) {
                0 => {
                    let length = random.below(200_000);
                    volume.fallocate(inode, Fallocate::PunchHole, offset, length + 1).unwrap();
                    let end = model.len().min((offset + length + 1) as usize);
                    if (offset as usize) < end {
                        model[offset as usize..end].fill(0);
                    }
                }
                1 if random.chance(30) => {
                    volume.truncate(inode, offset).unwrap();
                    model.resize(offset as usize, 0);
                }
                _ => {
                    let data = pattern(step, 1 + random.below(60_000) as usize);
                    assert_eq!(volume.write(inode, offset, &data), Ok(data.len()));
                    let end = offset as usize + data.len();
                    model.resize(model.len().max(end), 0);
                    model[offset as usize..end].copy_from_slice(&data);
                }
            }
            if step % 100 == 99 {
                volume.unmount().unwrap();
                linux::assert_clean(&disk.bytes(), &format!("seed {seed}, step {step}"));
                volume = disk.mount(2000).unwrap();
                for (inode, model) in inodes.iter().zip(&models) {
                    assert!(content(&volume, *inode) == *model, "seed {seed}, step {step}");
                }
            }
        }
        for (inode, model) in inodes.iter().zip(&models) {
            assert!(linux::dump(&disk.bytes(), inode.0) == *model);
        }
        (0..3).for_each(|n| volume.unlink(ROOT, format!("file {n}").as_bytes()).unwrap());
        volume.commit().unwrap();
        assert_eq!(volume.statistics().free_blocks, free);
    }
}

#[test]
fn volumes_of_ext3_are_used_whole() {
    for size in ["1024", "4096"] {
        let disk = ext3(32, size);
        let mut volume = disk.mount(2000).unwrap();
        assert!(volume.is_writable());
        let dir = volume.create(ROOT, b"dir", &NewInode::directory(0o755)).unwrap();
        for n in 0..2000_u64 {
            volume
                .create(dir, format!("a file with a longer name {n}").as_bytes(), &NewInode::file(0))
                .unwrap();
        }
        let target = [b'l'; 700];
        let link = volume.symlink(ROOT, b"link", &target, &NewInode::file(0)).unwrap();
        let mut out = [0; 1024];
        assert_eq!(volume.read_link(link, &mut out), Ok(700));
        let inode = file(&mut volume, "file");
        volume.set_xattr(inode, b"user.large", &[7; 500], SetXattr::Any).unwrap();
        let allocate = Fallocate::Allocate { keep_size: false };
        let ahead = volume.fallocate(inode, allocate, 0, 100_000);
        assert!(matches!(ahead, Err(Error::Unsupported(_))), "{ahead:?}");
        assert_eq!(volume.attributes(inode).unwrap().size, 0);
        volume.unmount().unwrap();
        linux::assert_clean(&disk.bytes(), "ext3 filled");
        assert_block_map(&disk.bytes(), inode);
        let mut volume = disk.mount(2000).unwrap();
        for n in 0..2000_u64 {
            volume.unlink(dir, format!("a file with a longer name {n}").as_bytes()).unwrap();
        }
        volume.rmdir(ROOT, b"dir").unwrap();
        volume.unlink(ROOT, b"link").unwrap();
        volume.unlink(ROOT, b"file").unwrap();
        volume.unmount().unwrap();
        linux::assert_clean(&disk.bytes(), "ext3 emptied");
    }
}

#[test]
fn files_from_before_a_conversion_are_changed_and_freed() {
    let image = linux::Scratch::holding("image", &ext3(16, "1024").bytes());
    let source = linux::Scratch::holding("source", &pattern(1, 500_000));
    let write = (0..4).map(|n| format!("write {} old{n}\n", source.0.display())).collect::<String>();
    linux::debugfs(&image.0, true, &write);
    let output = linux::run("tune2fs", &["-O", "extents", image.0.to_str().unwrap()]);
    assert!(output.status.success(), "{}", linux::text(&output));
    let disk = Disk::new(image.read());
    let mut volume = disk.mount(500).unwrap();
    let old = |volume: &Volume, n: u32| volume.lookup(ROOT, format!("old{n}").as_bytes()).unwrap();
    for n in 0..4 {
        assert!(content(&volume, old(&volume, n)) == pattern(1, 500_000));
    }
    volume.unlink(ROOT, b"old0").unwrap();
    let (cut, grown) = (old(&volume, 1), old(&volume, 2));
    volume.truncate(cut, 0).unwrap();
    assert_eq!(volume.write(grown, 490_000, &pattern(2, 300_000)), Ok(300_000));
    let new = file(&mut volume, "new");
    volume.write(new, 0, &pattern(3, 100_000)).unwrap();
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "converted");
    assert_block_map(&disk.bytes(), grown);
    let mut expected = pattern(1, 490_000);
    expected.extend(pattern(2, 300_000));
    assert!(linux::dump(&disk.bytes(), grown.0) == expected);
    assert!(linux::dump(&disk.bytes(), new.0) == pattern(3, 100_000));
    let said = linux::debugfs(&linux::Scratch::holding("image", &disk.bytes()).0, false, "stat new\n");
    assert!(said.contains("EXTENTS"), "{said}");
}

#[test]
fn volumes_of_ext2_are_read() {
    let folder = linux::Scratch::new("tree");
    std::fs::create_dir(&folder.0).unwrap();
    std::fs::write(folder.0.join("file"), pattern(5, 3_000_000)).unwrap();
    let options = ["-t", "ext2", "-b", "1024", "-d", folder.0.to_str().unwrap()];
    let volume = Disk::new(linux::make_image(16, &options)).mount(500).unwrap();
    assert!(!volume.is_writable());
    let inode = volume.lookup(ROOT, b"file").unwrap();
    assert!(content(&volume, inode) == pattern(5, 3_000_000));
}

#[test]
fn a_file_of_two_gigabytes_brings_its_feature() {
    let disk = ext3(16, "4096");
    let image = linux::Scratch::holding("image", &disk.bytes());
    linux::debugfs(&image.0, true, "feature -large_file\n");
    let disk = Disk::new(image.read());
    let features = |disk: &Disk| {
        linux::debugfs(&linux::Scratch::holding("image", &disk.bytes()).0, false, "show_super_stats -h\n")
    };
    assert!(!features(&disk).contains("large_file"));
    let mut volume = disk.mount(500).unwrap();
    let inode = file(&mut volume, "file");
    let largest = (12 + 1024 + 1024 * 1024 + 1024 * 1024 * 1024_u64) * 4096;
    assert_eq!(volume.truncate(inode, largest + 1), Err(Error::FileTooBig));
    assert_eq!(volume.write(inode, largest, b"x"), Err(Error::FileTooBig));
    assert_eq!(volume.write(inode, (1 << 31) - 2, b"end"), Ok(3));
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "with a large file");
    assert!(features(&disk).contains("large_file"));
}

#[test]
fn a_full_volume_takes_back_what_a_write_began() {
    let disk = ext3(8, "1024");
    let mut volume = disk.mount(500).unwrap();
    let inode = file(&mut volume, "file");
    let mut offset = 0;
    while let Ok(count) = volume.write(inode, offset, &[1; 70_000]) {
        offset += count as u64;
        if count < 70_000 {
            break;
        }
    }
    assert_eq!(volume.write(inode, 1 << 26, b"x"), Err(Error::NoSpace));
    volume.sync().unwrap();
    linux::assert_clean(&linux::replay(&disk.bytes()).unwrap(), "full");
    volume.truncate(inode, 100).unwrap();
    assert_eq!(volume.write(inode, 1 << 26, b"x"), Ok(1));
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "after the volume was full");
}

#[test]
fn damaged_tables_are_errors() {
    let disk = ext3(16, "1024");
    let mut volume = disk.mount(500).unwrap();
    let inode = file(&mut volume, "file");
    volume.write(inode, 0, &pattern(1, 400_000)).unwrap();
    volume.unmount().unwrap();
    let fields = [("block[3]", 3), ("block[IND]", 12), ("block[DIND]", 300)];
    for ((field, blocks), number) in
        fields.into_iter().flat_map(|field| [4_000_000_000_u32, u32::MAX, 2].map(|number| (field, number)))
    {
        let image = linux::Scratch::holding("image", &disk.bytes());
        linux::debugfs(&image.0, true, &format!("set_inode_field file {field} {number}\n"));
        let damaged = Disk::new(image.read());
        let mut volume = damaged.mount(500).unwrap();
        let mut bytes = [0; 1024];
        assert!(matches!(volume.read(inode, blocks * 1024, &mut bytes), Err(Error::Corrupt(_))), "{field}");
        assert!(matches!(volume.write(inode, blocks * 1024, &bytes), Err(Error::Corrupt(_))));
        assert_eq!(volume.read(inode, 1024, &mut bytes), Ok(1024));
        assert_eq!(volume.attributes(inode).unwrap().kind, FileType::Regular);
    }
}

#[test]
fn linux_takes_turns_on_a_volume_of_ext3() {
    for size in ["1024", "4096"] {
        let disk = ext3(32, size);
        let mut volume = disk.mount(500).unwrap();
        let inode = file(&mut volume, "ours");
        volume.write(inode, 0, &pattern(1, 600_000)).unwrap();
        volume.fallocate(inode, Fallocate::PunchHole, 20_000, 300_000).unwrap();
        volume.write(inode, 5_000_000, &pattern(2, 70_000)).unwrap();
        volume.sync().unwrap();
        let mut expected = content(&volume, inode);
        // Linux replays our journal, and we replay Linux's.
        let image = linux::Scratch::holding("image", &disk.bytes());
        let Some(mounted) = Mounted::new(&image.0, "ext4") else { return };
        assert!(std::fs::read(mounted.path("ours")).unwrap() == expected, "blocks of {size}");
        std::fs::write(mounted.path("theirs"), pattern(3, 900_000)).unwrap();
        let ours = std::fs::File::options().write(true).open(mounted.path("ours")).unwrap();
        ours.set_len(5_010_000).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&ours, &pattern(4, 50_000), 100_000).unwrap();
        drop(ours);
        mounted.sync();
        let crashed = Disk::new(image.read());
        drop(mounted);
        expected.truncate(5_010_000);
        expected[100_000..150_000].copy_from_slice(&pattern(4, 50_000));
        let mut volume = crashed.mount(500).unwrap();
        assert!(content(&volume, inode) == expected, "blocks of {size}");
        let theirs = volume.lookup(ROOT, b"theirs").unwrap();
        assert!(content(&volume, theirs) == pattern(3, 900_000));
        volume.truncate(theirs, 13_000).unwrap();
        volume.unlink(ROOT, b"ours").unwrap();
        volume.unmount().unwrap();
        linux::assert_clean(&crashed.bytes(), "after turns on ext3");
    }
}
