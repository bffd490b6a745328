//! From addresses to functions and lines of source.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::Path;

use addr2line::{Loader, demangle_auto};

use crate::programs::Programs;
use crate::workspace;

/// Addresses from here on are the kernel's.
const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

/// The symbols of the kernel and the programs, read when first asked for.
pub struct Symbols<'p> {
    programs: &'p Programs,
    kernel: OnceCell<Option<Loader>>,
    others: HashMap<String, Option<Loader>>,
}

/// Which program an address belongs to where it is not the kernel's.
#[derive(Debug, Clone, Copy)]
pub struct Component<'a>(pub &'a str);

impl<'p> Symbols<'p> {
    /// The symbols of what was built.
    pub fn new(programs: &'p Programs) -> Self {
        Symbols { programs, kernel: OnceCell::new(), others: HashMap::new() }
    }

    /// The functions around `address`, innermost first, inlined ones before those they are in: each as
    /// `function  file:line`. An address without symbols gives nothing.
    pub fn look_up(&mut self, component: Component, address: u64) -> Vec<String> {
        let loader = if address >= KERNEL_BASE {
            self.kernel.get_or_init(|| load(&self.programs.kernel)).as_ref()
        } else {
            let Component(name) = component;
            let path = self.programs.find(name);
            let load = || path.and_then(|path| load(path));
            self.others.entry(name.to_owned()).or_insert_with(load).as_ref()
        };
        loader.map(|loader| frames(loader, address)).unwrap_or_default()
    }
}

/// A program without readable symbols leaves its addresses bare.
fn load(path: &Path) -> Option<Loader> {
    Loader::new(path).ok()
}

fn frames(loader: &Loader, address: u64) -> Vec<String> {
    let mut lines = Vec::new();
    if let Ok(mut frames) = loader.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref().and_then(|name| Some(name.demangle().ok()?.into_owned()));
            let place =
                frame.location.as_ref().and_then(|at| Some(format!("{}:{}", here(at.file?), at.line?)));
            lines.push(match (function, place) {
                (Some(function), Some(place)) => format!("{function}  {place}"),
                (Some(function), None) => function,
                (None, Some(place)) => place,
                (None, None) => continue,
            });
        }
    }
    if lines.is_empty()
        && let Some(symbol) = loader.find_symbol(address)
    {
        lines.push(demangle_auto(symbol.into(), None).into_owned());
    }
    lines
}

/// A source file's path from the root of the workspace, or of Rust's own sources, if it lies there.
fn here(file: &str) -> String {
    if let Some((_, path)) = file.strip_prefix("/rustc/").and_then(|file| file.split_once('/')) {
        return path.to_owned();
    }
    let root = workspace::root();
    Path::new(file).strip_prefix(&root).map_or_else(|_| file.to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_programs() -> Programs {
        let own = std::env::current_exe().expect("tests have a path");
        Programs { kernel: own.clone(), init: own, programs: Vec::new() }
    }

    /// The file address of a function of this very program.
    fn address_of(name: &str) -> u64 {
        use object::{Object, ObjectSymbol};
        let bytes = std::fs::read(std::env::current_exe().expect("path")).expect("readable");
        let file = object::File::parse(&*bytes).expect("ELF");
        file.symbols()
            .find(|symbol| symbol.name().is_ok_and(|symbol| symbol.contains(name)))
            .expect("there")
            .address()
    }

    #[test]
    fn a_function_is_found_with_its_file_and_line() {
        let programs = own_programs();
        let mut symbols = Symbols::new(&programs);
        let lines =
            symbols.look_up(Component("init"), address_of("a_function_is_found_with_its_file_and_line"));
        let all = lines.join("\n");
        assert!(
            all.contains("a_function_is_found_with_its_file_and_line") && all.contains("symbols.rs:"),
            "{all}"
        );
        assert!(!all.contains(&workspace::root().display().to_string()), "{all}");
    }

    #[test]
    fn paths_begin_where_the_reader_knows_them() {
        assert_eq!(here("/rustc/0123abcd/library/core/src/panicking.rs"), "library/core/src/panicking.rs");
        let own = workspace::root().join("init/src/main.rs").display().to_string();
        assert_eq!(here(&own), "init/src/main.rs");
        assert_eq!(here("/elsewhere/x.rs"), "/elsewhere/x.rs");
    }

    #[test]
    fn an_address_in_no_program_gives_nothing() {
        let programs = own_programs();
        let mut symbols = Symbols::new(&programs);
        assert!(symbols.look_up(Component("no-such-program"), 0x1000).is_empty());
        assert!(symbols.look_up(Component("init"), 0x7fff_0000_0000).is_empty());
    }
}
