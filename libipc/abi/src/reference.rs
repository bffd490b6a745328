//! The reference page, generated from the table: docs/kernel.md.

use core::fmt::{self, Write};

use crate::table::{CallInfo, METHODS, SYSCALLS};
use crate::{Error, Kind};

/// Writes docs/kernel.md; a test of crate `tests` holds the file against it.
pub fn write(out: &mut dyn Write) -> fmt::Result {
    out.write_str("# The kernel's interface\n\nGenerated from `libipc/abi` (`cargo run -- reference`).\n\n")?;
    out.write_str(
        "## Registers\n\nHow a system call's registers are used: see `libipc/abi/src/message.rs`.\n\n",
    )?;
    objects(out)?;
    errors(out)?;
    out.write_str("## System calls\n\n")?;
    SYSCALLS.iter().try_for_each(|call| describe(out, call))?;
    out.write_str("## Methods\n\n")?;
    out.write_str(
        "Called by `invoke`; each can also end with NoCapability, WrongKind, NoRights or NoSuchMethod.\n\n",
    )?;
    METHODS.iter().try_for_each(|call| describe(out, call))
}

fn objects(out: &mut dyn Write) -> fmt::Result {
    out.write_str("## Objects\n\n| object | what it is |\n|---|---|\n")?;
    for kind in Kind::ALL {
        writeln!(out, "| {} |{} |", kind.name(), kind.meaning())?;
    }
    out.write_str("\n")
}

fn errors(out: &mut dyn Write) -> fmt::Result {
    out.write_str("## Errors\n\n| number | error | meaning |\n|---|---|---|\n")?;
    for &error in Error::ALL {
        writeln!(out, "| {} | {} |{} |", error as u32, error.name(), error.meaning())?;
    }
    out.write_str("\n")
}

fn describe(out: &mut dyn Write, call: &CallInfo) -> fmt::Result {
    match call.kind {
        Some(kind) => write!(out, "### {}.{}(", kind.name(), call.name)?,
        None => write!(out, "### {}(", call.name)?,
    }
    for (at, (name, kind)) in call.arguments.iter().enumerate() {
        write!(out, "{}{name}: {kind}", if at == 0 { "" } else { ", " })?;
    }
    write!(out, ")")?;
    if call.results > 0 {
        write!(out, " -> {} word{}", call.results, if call.results == 1 { "" } else { "s" })?;
    }
    writeln!(out, "\n\nNumber {:#x}.{}\n", call.number, call.text)?;
    if !call.errors.is_empty() {
        out.write_str("Errors: ")?;
        for (at, error) in call.errors.iter().enumerate() {
            write!(out, "{}{}", if at == 0 { "" } else { ", " }, error.name())?;
        }
        out.write_str(".\n\n")?;
    }
    Ok(())
}
