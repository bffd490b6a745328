//! Works on ext4 images from the command line, to be tried beside debugfs.
//!
//! ```text
//! cargo run -p ext4 --example ext4-tool -- IMAGE mkfs [BLOCK_SIZE]      (the file must exist)
//! cargo run -p ext4 --example ext4-tool -- IMAGE ls [PATH]
//! cargo run -p ext4 --example ext4-tool -- IMAGE cat PATH
//! cargo run -p ext4 --example ext4-tool -- IMAGE put HOST_FILE PATH
//! cargo run -p ext4 --example ext4-tool -- IMAGE rm|mkdir|rmdir PATH
//! cargo run -p ext4 --example ext4-tool -- IMAGE mv OLD NEW
//! cargo run -p ext4 --example ext4-tool -- IMAGE ln TARGET PATH         (a symbolic link)
//! cargo run -p ext4 --example ext4-tool -- IMAGE stat PATH
//! cargo run -p ext4 --example ext4-tool -- IMAGE fsck-walk
//! ```

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use ext4::{
    BlockDevice, Ext4, FileType, FormatOptions, InodeNumber, IoError, MountOptions, NewInode, Rename, Time,
    WriteBackCache,
};

type Answer<T> = Result<T, Box<dyn Error>>;
type Volume = Ext4<WriteBackCache<ImageFile>>;

/// An image in a file.
struct ImageFile(File);

impl BlockDevice for ImageFile {
    fn size(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
        self.0.read_exact_at(out, offset).map_err(|_| IoError::Failed)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        self.0.write_all_at(data, offset).map_err(|_| IoError::Failed)
    }

    fn flush(&mut self) -> Result<(), IoError> {
        self.0.sync_data().map_err(|_| IoError::Failed)
    }
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() }
}

fn open(image: &str, writing: bool) -> Answer<WriteBackCache<ImageFile>> {
    let file =
        OpenOptions::new().read(true).write(writing).open(image).map_err(|e| format!("{image}: {e}"))?;
    Ok(WriteBackCache::new(ImageFile(file), 8192))
}

fn mount(image: &str, writing: bool) -> Answer<Volume> {
    let options = MountOptions { read_only: !writing, now: now() };
    let volume = Ext4::mount(open(image, writing)?, &options)?;
    if writing && !volume.is_writable() {
        return Err("this image can only be read".into());
    }
    Ok(volume)
}

fn find(volume: &Volume, path: &str) -> Answer<InodeNumber> {
    let steps = path.split('/').filter(|step| !step.is_empty());
    let mut at = InodeNumber::ROOT;
    for step in steps {
        at = volume.lookup(at, step.as_bytes()).map_err(|e| format!("{path}: {e}"))?;
    }
    Ok(at)
}

/// The directory of a path, and its last step.
fn split<'a>(volume: &Volume, path: &'a str) -> Answer<(InodeNumber, &'a [u8])> {
    let path = path.trim_end_matches('/');
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    Ok((find(volume, dir)?, name.as_bytes()))
}

fn letter(kind: FileType) -> char {
    match kind {
        FileType::Regular => '-',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::CharDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
    }
}

fn link_target(volume: &Volume, inode: InodeNumber) -> String {
    let mut target = [0; 4096];
    let length = volume.read_link(inode, &mut target).unwrap_or(0);
    String::from_utf8_lossy(&target[..length]).into_owned()
}

fn line(volume: &Volume, inode: InodeNumber, name: &str) -> Answer<String> {
    let a = volume.attributes(inode)?;
    let arrow = if a.kind == FileType::Symlink {
        format!(" -> {}", link_target(volume, inode))
    } else {
        String::new()
    };
    Ok(format!(
        "{:>8} {}{:04o} {:>3} {:>5} {:>5} {:>12} {:>11} {name}{arrow}",
        inode.0,
        letter(a.kind),
        a.permissions,
        a.links,
        a.uid,
        a.gid,
        a.size,
        a.modified.seconds
    ))
}

fn names(volume: &Volume, dir: InodeNumber) -> Answer<Vec<(Vec<u8>, InodeNumber)>> {
    let mut names = Vec::new();
    volume.read_dir(dir, 0, |entry| {
        names.push((entry.name.to_vec(), entry.inode));
        true
    })?;
    Ok(names)
}

fn list(volume: &Volume, path: &str) -> Answer<()> {
    let inode = find(volume, path)?;
    if volume.attributes(inode)?.kind != FileType::Directory {
        println!("{}", line(volume, inode, path)?);
        return Ok(());
    }
    for (name, inode) in names(volume, inode)? {
        println!("{}", line(volume, inode, &String::from_utf8_lossy(&name))?);
    }
    Ok(())
}

fn cat(volume: &Volume, path: &str) -> Answer<()> {
    let inode = find(volume, path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let count = volume.read(inode, offset, &mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        std::io::stdout().write_all(&buffer[..count])?;
        offset += count as u64;
    }
}

fn put(volume: &mut Volume, host: &str, path: &str) -> Answer<()> {
    let mut source = File::open(host).map_err(|e| format!("{host}: {e}"))?;
    let (dir, name) = split(volume, path)?;
    let inode = match volume.lookup(dir, name) {
        Ok(inode) => inode,
        Err(ext4::Error::NotFound) => volume.create(dir, name, &NewInode::file(0o644))?,
        Err(error) => return Err(error.into()),
    };
    volume.truncate(inode, 0)?;
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        if volume.write(inode, offset, &buffer[..count])? < count {
            return Err("no space left".into());
        }
        offset += count as u64;
    }
}

/// Reads everything that can be reached; answers (directories, other inodes, bytes, errors).
fn walk(volume: &Volume, dir: InodeNumber, path: &str, totals: &mut [u64; 4]) {
    totals[0] += 1;
    let names = match names(volume, dir) {
        Ok(names) => names,
        Err(error) => {
            println!("{path}/: {error}");
            totals[3] += 1;
            return;
        }
    };
    for (name, inode) in names.into_iter().filter(|(name, _)| name != b"." && name != b"..") {
        let path = format!("{path}/{}", String::from_utf8_lossy(&name));
        match check(volume, inode) {
            Ok(None) => walk(volume, inode, &path, totals),
            Ok(Some(bytes)) => {
                totals[1] += 1;
                totals[2] += bytes;
            }
            Err(error) => {
                println!("{path}: {error}");
                totals[3] += 1;
            }
        }
    }
}

/// Reads one inode with all it has; `None` for a directory, otherwise its bytes.
fn check(volume: &Volume, inode: InodeNumber) -> ext4::Result<Option<u64>> {
    let attributes = volume.attributes(inode)?;
    volume.list_xattrs(inode, |_| {})?;
    match attributes.kind {
        FileType::Directory => return Ok(None),
        FileType::Symlink => drop(volume.read_link(inode, &mut [0; 4096])?),
        FileType::Regular => {
            let mut buffer = vec![0; 1 << 20];
            let mut offset = 0;
            while offset < attributes.size {
                offset += volume.read(inode, offset, &mut buffer)?.max(1) as u64;
            }
        }
        _ => {}
    }
    Ok(Some(attributes.size))
}

fn fsck_walk(volume: &Volume) -> Answer<()> {
    let mut totals = [0; 4];
    walk(volume, InodeNumber::ROOT, "", &mut totals);
    let statistics = volume.statistics();
    println!(
        "{} directories, {} other names, {} bytes, {} errors",
        totals[0], totals[1], totals[2], totals[3]
    );
    println!(
        "{} of {} blocks of {} bytes and {} of {} inodes are free",
        statistics.free_blocks,
        statistics.blocks,
        statistics.block_size,
        statistics.free_inodes,
        statistics.inodes
    );
    if totals[3] == 0 { Ok(()) } else { Err("the image is damaged".into()) }
}

fn make(image: &str, block_size: &str) -> Answer<()> {
    let mut uuid = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut uuid)?;
    let options = FormatOptions { block_size: block_size.parse()?, ..FormatOptions::new(uuid, now()) };
    Ok(ext4::format(&mut open(image, true)?, &options)?)
}

fn change(image: &str, work: impl FnOnce(&mut Volume) -> Answer<()>) -> Answer<()> {
    let mut volume = mount(image, true)?;
    let done = work(&mut volume);
    volume.unmount()?;
    done
}

fn remove(volume: &mut Volume, path: &str, is_dir: bool) -> Answer<()> {
    let (dir, name) = split(volume, path)?;
    if is_dir {
        volume.rmdir(dir, name)?
    } else {
        volume.unlink(dir, name)?
    }
    Ok(())
}

fn run(arguments: &[&str]) -> Answer<()> {
    match arguments {
        [image, "mkfs"] => make(image, "4096"),
        [image, "mkfs", size] => make(image, size),
        [image, "ls"] => list(&mount(image, false)?, "/"),
        [image, "ls", path] => list(&mount(image, false)?, path),
        [image, "cat", path] => cat(&mount(image, false)?, path),
        [image, "fsck-walk"] => fsck_walk(&mount(image, false)?),
        [image, "stat", path] => {
            let volume = mount(image, false)?;
            println!("{:#?}", volume.attributes(find(&volume, path)?)?);
            Ok(())
        }
        [image, "put", host, path] => change(image, |v| put(v, host, path)),
        [image, "rm", path] => change(image, |v| remove(v, path, false)),
        [image, "rmdir", path] => change(image, |v| remove(v, path, true)),
        [image, "mkdir", path] => change(image, |v| {
            let (dir, name) = split(v, path)?;
            v.create(dir, name, &NewInode::directory(0o755))?;
            Ok(())
        }),
        [image, "ln", target, path] => change(image, |v| {
            let (dir, name) = split(v, path)?;
            v.symlink(dir, name, target.as_bytes(), &NewInode::file(0))?;
            Ok(())
        }),
        [image, "mv", old, new] => change(image, |v| {
            let (from, to) = (split(v, old)?, split(v, new)?);
            Ok(v.rename(from, to, Rename::Replace)?)
        }),
        _ => Err("usage: ext4-tool IMAGE ls|cat|put|rm|mkdir|rmdir|mv|ln|stat|mkfs|fsck-walk ...".into()),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Err(error) = run(&arguments) {
        eprintln!("ext4-tool: {error}");
        std::process::exit(1);
    }
}
