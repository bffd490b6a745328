//! The modules of init use each other in one direction.

use std::fs;
use std::path::{Path, PathBuf};

/// From below to above: a module uses those before it, and itself.
const LAYERS: [&str; 11] = [
    "log",
    "manifest",
    "supervision",
    "archive",
    "machine",
    "build",
    "registry",
    "system",
    "console",
    "serve",
    "guardian",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules of the crate that a text names, and the lines that do.
fn used(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| {
        line.match_indices("crate::").map(move |(at, found)| {
            let rest = &line[at + found.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (&rest[..end], line)
        })
    })
}

#[test]
fn no_module_uses_one_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut uses = 0;
    for file in files {
        let inner = file.strip_prefix(&root).expect("within");
        let module = inner.iter().next().and_then(|first| Path::new(first).file_stem()).expect("a name");
        let module = module.to_str().expect("UTF-8");
        if matches!(module, "lib" | "main" | "layers") {
            continue;
        }
        let layer = LAYERS.iter().position(|each| *each == module);
        let layer = layer.unwrap_or_else(|| panic!("`{module}` has no place among the layers"));
        for (used, line) in used(&fs::read_to_string(&file).expect("text")) {
            let below = LAYERS.iter().position(|each| *each == used);
            assert!(below.is_some_and(|below| below <= layer), "{}: {line}", file.display());
            uses += 1;
        }
    }
    assert!(uses > 100, "only {uses} uses were found");
}

#[test]
fn supervision_knows_nothing_of_the_kernel() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/supervision");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() >= 6);
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        for outside in ["use abi", "use ipc", "use rt", "unsafe", "CPtr"] {
            assert!(!text.contains(outside), "{}: {outside}", file.display());
        }
    }
}
