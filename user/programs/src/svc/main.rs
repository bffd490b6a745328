//! `svc`, the operator's tool: what runs, how it fares, why it died; to kill it and to have it start again.
#![no_std]
#![no_main]

extern crate alloc;

mod act;
mod crashes;
mod list;
mod logs;

use alloc::string::String;
use alloc::vec::Vec;

use rt::io::IoError;
use rt::{control, env};

rt::entry!(main);

const USAGE: &str = "\
svc list                 components: state, life, deaths, memory, processor time, requests
svc kill NAME            ends a component; it begins again as the manifest says
svc crash NAME --kind KIND [--at-message N]
                         has a component do to itself: kill, fault, hang, corrupt or panic, when it
                         has begun N messages in its life (without it at once)
svc restart NAME         ends a component and starts it again, also one that is left dead
svc reset NAME           the same with an empty state, where that is damaged; what clients had in it is lost
svc crashes [N]          the last crashes (3 without N): registers, who called whom, last words
svc caps NAME            every capability of a component
svc recoveries NAME [N]  how long its last recoveries took (10 without N), and what of it
svc top                  who uses the processor, over one second
svc trace [MILLISECONDS] what the kernel does meanwhile (10 without a number): the last of it
svc log                  the kernel's log
";

/// What a command comes to: an exit status, or what is wrong.
type Outcome = Result<(), String>;

fn main() -> Result<u8, String> {
    let arguments: Vec<&str> = env::arguments().skip(1).collect();
    match arguments[..] {
        ["list"] => list::all(),
        ["top"] => list::top(),
        ["caps", name] => list::capabilities(name),
        ["recoveries", name] => list::recoveries(name, 10),
        ["recoveries", name, count] => list::recoveries(name, number(count)?),
        ["kill", name] => act::kill(name),
        ["restart", name] => act::restart(name),
        ["reset", name] => act::reset(name),
        ["crash", name, ref options @ ..] => act::crash(name, options),
        ["crashes"] => crashes::show(3),
        ["crashes", count] => crashes::show(number(count)?),
        ["log"] => logs::log(),
        ["trace"] => logs::trace(10),
        ["trace", milliseconds] => logs::trace(number(milliseconds)?),
        ["help" | "--help"] => {
            rt::print!("{USAGE}");
            Ok(())
        }
        [] => {
            rt::eprintln!("{USAGE}");
            return Ok(2);
        }
        [command, ..] => Err(alloc::format!("`{command}` is not said so; `svc help` shows how")),
    }
    .map(|()| 0)
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| alloc::format!("`{word}` is no number"))
}

/// The place of a component, which must be in the manifest.
fn place(name: &str) -> Result<u64, String> {
    if name == "init" {
        return Err("init supervises all others and is supervised by none: it cannot be asked for".into());
    }
    match control::find(name) {
        Ok(Some(place)) => Ok(place),
        Ok(None) => Err(alloc::format!("the manifest has no component `{name}`; `svc list` shows all")),
        Err(error) => Err(refused(error)),
    }
}

/// Why init did not do it.
fn refused(error: IoError) -> String {
    alloc::format!("{error}")
}
