//! The boot archive: init, the programs, and what the user adds.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use init::manifest::Manifest;

use crate::cli::GuestOptions;
use crate::programs::Programs;
use crate::{cpio, elf, placed, symbol_table, workspace};

/// One entry to be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    source: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// init, as the kernel loads it.
    Init,
    /// A guest program, stripped.
    Program,
    /// The names of its functions.
    Symbols,
    /// A host file as it is.
    File,
    Folder,
}

/// Makes the boot archive, or takes the last one where nothing changed, and returns its path in `scratch`: another
/// run may replace the one that is kept while this one boots.
pub fn make(programs: &Programs, options: &GuestOptions, scratch: &Path) -> Result<PathBuf> {
    let mut entries = of_programs(programs);
    let path = scratch.join("boot.cpio");
    if options.add.is_empty() && options.manifest.is_none() {
        let kept = workspace::boot_archive();
        let stamp_path = kept.with_extension("stamp");
        let stamp = stamp(&entries)?;
        if !kept.exists() || !fs::read_to_string(&stamp_path).is_ok_and(|last| last == stamp) {
            replace(&kept, &written(&entries)?)?;
            replace(&stamp_path, stamp.as_bytes())?;
        }
        // (A link is not possible between file systems.)
        if fs::hard_link(&kept, &path).is_err() {
            fs::copy(&kept, &path).with_context(|| format!("cannot write {}", path.display()))?;
        }
        return Ok(path);
    }
    for add in &options.add {
        added(add, &mut entries)?;
    }
    if let Some(manifest) = &options.manifest {
        entries.push(sound_manifest(manifest)?);
    }
    fits(&entries, options.memory)?;
    fs::write(&path, written(&entries)?).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn of_programs(programs: &Programs) -> Vec<Entry> {
    let init = Entry { name: "init".into(), source: programs.init.clone(), kind: Kind::Init };
    let others = programs.programs.iter().flat_map(|program| {
        let entry = |folder, kind| Entry {
            name: format!("{folder}/{}", program.name),
            source: program.path.clone(),
            kind,
        };
        [entry("bin", Kind::Program), entry("sym", Kind::Symbols)]
    });
    std::iter::once(init).chain(others).collect()
}

/// The entry of a manifest that init can read.
fn sound_manifest(path: &Path) -> Result<Entry> {
    let what = || format!("--manifest {}", path.display());
    kind_of(path).with_context(what)?;
    let text = fs::read_to_string(path).with_context(what)?;
    if let Err(complaint) = Manifest::parse(&text) {
        bail!("{}: {complaint}", what());
    }
    Ok(Entry { name: "manifest".into(), source: path.to_owned(), kind: Kind::File })
}

/// Refuses files that the guest has no room for, before they are read.
fn fits(entries: &[Entry], memory_mib: u32) -> Result<()> {
    let mut left = placed::room(memory_mib);
    for Entry { source, .. } in entries.iter().filter(|entry| entry.kind == Kind::File) {
        let size = fs::metadata(source).with_context(|| format!("cannot read {}", source.display()))?.len();
        left = left.checked_sub(size).with_context(|| placed::too_large(source, memory_mib))?;
    }
    Ok(())
}

/// Returns whether `path` is a file or a folder; nothing else goes into an archive, as a device may never end.
fn kind_of(path: &Path) -> Result<Kind> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    match metadata.file_type() {
        kind if kind.is_dir() => Ok(Kind::Folder),
        kind if kind.is_file() => Ok(Kind::File),
        _ => bail!("{} is neither a file nor a folder", path.display()),
    }
}

/// Adds what an `--add HOST[:GUEST]` names.
fn added(option: &str, entries: &mut Vec<Entry>) -> Result<()> {
    let (host, guest) = match option.rsplit_once(':') {
        Some((host, guest)) => (Path::new(host), Some(guest.trim_matches('/'))),
        None => (Path::new(option), None),
    };
    let own_name = host.file_name().and_then(|name| name.to_str());
    let name = match guest.or(own_name) {
        Some(name) if !name.is_empty() && name.split('/').all(|part| !matches!(part, "" | "." | "..")) => {
            name
        }
        _ => bail!("--add {option}: say where it goes in the guest: --add {}:NAME", host.display()),
    };
    added_tree(host, name, entries).with_context(|| format!("--add {option}"))
}

fn added_tree(host: &Path, name: &str, entries: &mut Vec<Entry>) -> Result<()> {
    if entries.iter().any(|entry| entry.name == name) {
        bail!("the boot archive has a {name} already: give it another name with HOST:GUEST");
    }
    let cannot_read = || format!("cannot read {}", host.display());
    let kind = kind_of(host)?;
    entries.push(Entry { name: name.into(), source: host.into(), kind });
    if kind == Kind::Folder {
        let mut inside = fs::read_dir(host)
            .and_then(|list| list.collect::<Result<Vec<_>, _>>())
            .with_context(cannot_read)?;
        inside.sort_by_key(fs::DirEntry::file_name);
        for entry in inside {
            let file_name = entry.file_name();
            let part = file_name
                .to_str()
                .with_context(|| format!("{}: its name is not UTF-8", entry.path().display()))?;
            added_tree(&entry.path(), &format!("{name}/{part}"), entries)?;
        }
    }
    Ok(())
}

fn written(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut archive = cpio::Writer::default();
    for entry in entries {
        let source = entry.source.display();
        let read = || fs::read(&entry.source).with_context(|| format!("cannot read {source}"));
        let (mode, data) = match entry.kind {
            Kind::Init => (cpio::MODE_FILE, elf::image(&read()?).with_context(|| source.to_string())?),
            Kind::Program => {
                (cpio::MODE_PROGRAM, elf::stripped(&read()?).with_context(|| source.to_string())?)
            }
            Kind::Symbols => {
                (cpio::MODE_FILE, symbol_table::of(&read()?).with_context(|| source.to_string())?)
            }
            Kind::File => (file_mode(&entry.source)?, read()?),
            Kind::Folder => (cpio::MODE_FOLDER, Vec::new()),
        };
        if archive.add(&entry.name, mode, &data).is_err() {
            bail!("{source} is too large for a boot archive (4 GiB and more)");
        }
    }
    Ok(archive.finish())
}

fn file_mode(path: &Path) -> Result<u32> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let executable = metadata.permissions().mode() & 0o111 != 0;
    Ok(if executable { cpio::MODE_PROGRAM } else { cpio::MODE_FILE })
}

/// What an archive of these entries depends on: as long as it is the same, so is the archive.
fn stamp(entries: &[Entry]) -> Result<String> {
    let mut stamp = format!("skink boot archive, init as an image, {}\n", env!("CARGO_PKG_VERSION"));
    for Entry { name, source, .. } in entries {
        let metadata = fs::metadata(source).with_context(|| format!("cannot read {}", source.display()))?;
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        writeln!(stamp, "{name} {} {} {modified:?}", source.display(), metadata.len())?;
    }
    Ok(stamp)
}

/// Writes a file in one step, so that a guest booting at the same time reads the old or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(path.parent().context("no folder")?)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(option: &str) -> Result<Vec<String>> {
        let mut entries = Vec::new();
        added(option, &mut entries)?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("data")).expect("created");
        fs::write(folder.path().join("data/b"), "2").expect("written");
        fs::write(folder.path().join("data/a"), "1").expect("written");
        folder
    }

    #[test]
    fn a_file_goes_to_its_own_name_or_to_the_one_given() {
        let folder = folder();
        let file = folder.path().join("data/a").display().to_string();
        assert_eq!(names(&file).expect("there"), ["a"]);
        assert_eq!(names(&format!("{file}:/etc/motd")).expect("there"), ["etc/motd"]);
    }

    #[test]
    fn a_folder_goes_with_all_that_is_in_it_in_order() {
        let folder = folder();
        let data = folder.path().join("data").display().to_string();
        assert_eq!(names(&data).expect("there"), ["data", "data/a", "data/b"]);
    }

    #[test]
    fn a_missing_file_and_a_name_outside_the_archive_are_refused() {
        assert!(names("/no/such/file").is_err());
        assert!(names("/:..").is_err());
        assert!(names("/").is_err());
    }

    #[test]
    fn what_is_neither_file_nor_folder_is_refused() {
        let complaint = format!("{:#}", names("/dev/zero").expect_err("no end"));
        assert!(complaint.contains("--add /dev/zero") && complaint.contains("neither"), "{complaint}");
        assert!(sound_manifest(Path::new("/dev/zero")).is_err());
    }

    #[test]
    fn what_the_guest_has_no_room_for_is_refused_unread() {
        let folder = folder();
        let source = folder.path().join("data/a");
        let entries = [Entry { name: "a".into(), source: source.clone(), kind: Kind::File }];
        assert!(fits(&entries, 32).is_ok());
        fs::File::options().write(true).open(&source).and_then(|file| file.set_len(1 << 40)).expect("sparse");
        let complaint = format!("{:#}", fits(&entries, 512).expect_err("too large"));
        assert!(complaint.contains("--memory"), "{complaint}");
    }

    #[test]
    fn a_manifest_that_init_would_refuse_is_refused_with_its_line() {
        let folder = folder();
        let manifest = folder.path().join("manifest");
        fs::write(&manifest, "component a\n memory 3M\n").expect("written");
        let complaint = format!("{:#}", sound_manifest(&manifest).expect_err("unsound"));
        assert!(complaint.contains("line 2: 3145728 is not a power of two"), "{complaint}");
        fs::write(&manifest, init::manifest::BUILT_IN).expect("written");
        sound_manifest(&manifest).expect("init's own");
    }

    #[test]
    fn a_name_that_is_taken_is_refused() {
        let folder = folder();
        let mut entries = Vec::new();
        let option = format!("{}:init", folder.path().join("data/a").display());
        added(&option, &mut entries).expect("free");
        assert!(added(&option, &mut entries).is_err());
    }

    #[test]
    fn the_stamp_tells_a_changed_file() {
        let folder = folder();
        let source = folder.path().join("data/a");
        let entries = [Entry { name: "a".into(), source: source.clone(), kind: Kind::File }];
        let before = stamp(&entries).expect("there");
        assert_eq!(stamp(&entries).expect("there"), before);
        fs::write(&source, "longer").expect("written");
        assert_ne!(stamp(&entries).expect("there"), before);
    }
}
