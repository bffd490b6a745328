//! What the feature bits of a volume say is what is written: e2fsck and debugfs are the judges.

mod disk;
mod linux;

use disk::{Disk, pattern};
use ext4::{Error, InodeNumber, NewInode, SetXattr};

const ROOT: InodeNumber = InodeNumber::ROOT;

/// Runs commands of debugfs on a copy of an image; answers the changed image.
fn changed(image: &[u8], commands: &str) -> Vec<u8> {
    let file = linux::Scratch::holding("image", image);
    linux::debugfs(&file.0, true, commands);
    file.read()
}

fn asked(image: &[u8], command: &str) -> String {
    linux::debugfs(&linux::Scratch::holding("image", image).0, false, command)
}

#[test]
fn the_first_attribute_brings_its_feature() {
    // In the inode, and in a block.
    for length in [20, 600] {
        let disk = Disk::new(linux::make_image(16, &["-b", "1024", "-O", "^ext_attr"]));
        let mut volume = disk.mount(500).unwrap();
        let file = volume.create(ROOT, b"file", &NewInode::file(0o644)).unwrap();
        volume.sync().unwrap();
        assert!(!asked(&disk.bytes(), "show_super_stats -h\n").contains("ext_attr"));
        // A failed operation brings nothing.
        assert!(volume.set_xattr(file, b"user.large", &[1; 1024], SetXattr::Any).is_err());
        volume.sync().unwrap();
        assert!(!asked(&disk.bytes(), "show_super_stats -h\n").contains("ext_attr"));
        let value = vec![b'v'; length];
        volume.set_xattr(file, b"user.name", &value, SetXattr::Any).unwrap();
        volume.unmount().unwrap();
        linux::assert_clean(&disk.bytes(), "with a first attribute");
        assert!(asked(&disk.bytes(), "show_super_stats -h\n").contains("ext_attr"));
        let said = asked(&disk.bytes(), "ea_get file user.name\n");
        assert!(said.contains(str::from_utf8(&value[..20]).unwrap()), "{said}");
    }
}

#[test]
fn inodes_that_were_enlarged_later_take_attributes_that_linux_sees() {
    let image = linux::Scratch::holding(
        "image",
        &linux::make_image(16, &["-I", "128", "-O", "^flex_bg,^metadata_csum,^resize_inode", "-b", "4096"]),
    );
    let source = linux::Scratch::holding("source", b"hello");
    linux::debugfs(
        &image.0,
        true,
        &format!("write {} file\nwrite {} other\n", source.0.display(), source.0.display()),
    );
    let output = linux::run("tune2fs", &["-I", "256", image.0.to_str().unwrap()]);
    assert!(output.status.success(), "{}", linux::text(&output));
    // What lies where nothing is used must not come to life.
    linux::debugfs(&image.0, true, "set_inode_field other projid 77\n");
    let disk = Disk::new(image.read());
    let mut volume = disk.mount(500).unwrap();
    let file = volume.lookup(ROOT, b"file").unwrap();
    let mut names = 0;
    volume.list_xattrs(file, |_| names += 1).unwrap();
    assert_eq!(names, 0);
    volume.set_xattr(file, b"user.a", &[b'A'; 20], SetXattr::Any).unwrap();
    let other = volume.lookup(ROOT, b"other").unwrap();
    volume.write(other, 3, b"lo again").unwrap();
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "enlarged inodes");
    assert!(asked(&disk.bytes(), "ea_get file user.a\n").contains(&"A".repeat(20)));
    let said = asked(&disk.bytes(), "stat other\n");
    assert!(said.contains("Size of extra inode fields: 32"), "{said}");
    assert!(said.contains("Project:     0"), "{said}");
    let volume = disk.mount(500).unwrap();
    let mut value = [0; 32];
    assert_eq!(volume.get_xattr(file, b"user.a", &mut value), Ok(20));
}

#[test]
fn the_high_half_of_a_directorys_size_is_another_field() {
    let disk = Disk::new(linux::make_image(16, &["-b", "1024", "-O", "^metadata_csum"]));
    let mut volume = disk.mount(500).unwrap();
    let dir = volume.create(ROOT, b"dir", &NewInode::directory(0o755)).unwrap();
    volume.create(dir, b"inner", &NewInode::file(0)).unwrap();
    volume.unmount().unwrap();
    let disk = Disk::new(changed(&disk.bytes(), "set_inode_field dir size 4294968320\n"));
    assert!(asked(&disk.bytes(), "stat dir\n").contains("Size: 4294968320"));
    let mut volume = disk.mount(500).unwrap();
    assert_eq!(volume.attributes(dir).unwrap().size, 1024);
    assert!(volume.lookup(dir, b"inner").is_ok());
    volume.create(dir, b"another", &NewInode::file(0)).unwrap();
    let mut names = 0;
    volume
        .read_dir(dir, 0, |_| {
            names += 1;
            true
        })
        .unwrap();
    assert_eq!(names, 4);
}

#[test]
fn large_directories_are_refused_by_name() {
    let error = Disk::new(linux::make_image(16, &["-O", "large_dir"])).mount(64).unwrap_err();
    assert!(error.to_string().ends_with("large_dir"), "{error}");
}

#[test]
fn volumes_of_clusters_are_read() {
    let folder = linux::Scratch::new("tree");
    std::fs::create_dir(&folder.0).unwrap();
    std::fs::write(folder.0.join("file"), pattern(1, 300_000)).unwrap();
    for cluster in ["8192", "65536"] {
        let options = ["-b", "4096", "-O", "bigalloc", "-C", cluster, "-d", folder.0.to_str().unwrap()];
        let disk = Disk::new(linux::make_image(64, &options));
        let mut volume = disk.mount(500).unwrap();
        assert!(!volume.is_writable());
        let file = volume.lookup(ROOT, b"file").unwrap();
        let mut bytes = vec![0; 300_000];
        assert_eq!(volume.read(file, 0, &mut bytes), Ok(bytes.len()));
        assert!(bytes == pattern(1, 300_000));
        assert_eq!(volume.write(file, 0, b"x"), Err(Error::ReadOnly));
        assert!(volume.statistics().free_blocks < volume.statistics().blocks);
    }
}

/// An image whose journal holds the superblock with one more feature.
fn with_feature_in_journal(feature: &str) -> Disk {
    let image = linux::make_image(16, &["-b", "4096", "-O", "^metadata_csum"]);
    let other = linux::Scratch::holding("other", &image);
    linux::debugfs(&other.0, true, &format!("feature {feature}\n"));
    let first = linux::Scratch::holding("first", &other.read()[..4096]);
    Disk::new(changed(&image, &format!("jo\njw -b 0 {}\njc\n", first.0.display())))
}

#[test]
fn features_that_the_journal_brings_are_honoured_at_once() {
    for options in ["verity", "quota"] {
        let disk = with_feature_in_journal(options);
        for mount in [disk.mount_read_only(), disk.mount(500), disk.mount(500)] {
            let mut volume = mount.unwrap();
            assert!(!volume.is_writable(), "{options}");
            assert_eq!(volume.create(ROOT, b"x", &NewInode::file(0)), Err(Error::ReadOnly));
            assert!(volume.lookup(ROOT, b"lost+found").is_ok());
            volume.unmount().unwrap();
        }
    }
    let disk = with_feature_in_journal("casefold");
    for mount in [disk.mount_read_only(), disk.mount(500), disk.mount(500)] {
        assert!(mount.unwrap_err().to_string().ends_with("casefold"));
    }
}
