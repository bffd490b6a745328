//! Words of a manifest's lines: names, numbers, sizes, times, and references to what stands above.

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use proto::channel::HANDSHAKE_WORDS;
use proto::start::{MAX_STACK, names};

use super::*;

macro_rules! wrong {
    ($($text:tt)*) => { Err(alloc::format!($($text)*)) };
}
pub(super) use wrong;

/// Lists in one line, and ranges of ports, interrupts and the like for one component, at most. (The start
/// block has to hold a name for each.)
const MAX_LIST: usize = 8;
pub(super) fn one<'a>(words: &[&'a str]) -> Result<&'a str, String> {
    match words {
        [word] => Ok(word),
        [] => wrong!("a value is missing"),
        [_, more, ..] => wrong!("`{more}` is one word too many"),
    }
}

pub(super) fn list<'a, T: PartialEq>(
    words: &[&'a str],
    read: impl Fn(&'a str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    if words.is_empty() || words.len() > MAX_LIST {
        return wrong!("give 1 to {MAX_LIST} values");
    }
    let mut values = Vec::new();
    for word in words {
        let value = read(word)?;
        if values.contains(&value) {
            return wrong!("`{word}` is given twice");
        }
        values.push(value);
    }
    Ok(values)
}

pub(super) fn check_name(name: &str) -> Result<&str, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.len() > 32 || !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(good) {
        return wrong!("`{name}` is no name: small letters, digits and -, at most 32");
    }
    Ok(name)
}

pub(super) fn start(subject: Subject, word: &str) -> Result<Start, String> {
    match word {
        "boot" if subject == Subject::Any => wrong!("`{ANY}` stands for programs started by hand"),
        "boot" => Ok(Start::Boot),
        "demand" => Ok(Start::Demand),
        _ => wrong!("`start` can be: boot, demand"),
    }
}

pub(super) fn served<'a>(name: &'a str, above: &[Entry]) -> Result<&'a str, String> {
    check_name(name)?;
    if names::ALL.contains(&name) || Right::ALL.map(Right::name).contains(&name) {
        return wrong!("`{name}` is the name of something else");
    }
    match above.iter().find(|entry| entry.serves.contains(&name)) {
        Some(other) => wrong!("`{}` serves `{name}` already", other.name),
        None => Ok(name),
    }
}

pub(super) fn called<'a>(name: &'a str, above: &[Entry]) -> Result<&'a str, String> {
    if above.iter().any(|entry| entry.serves.contains(&name)) {
        return Ok(name);
    }
    wrong!("no component further up serves `{name}`")
}

pub(super) fn offer<'a>(words: &[&'a str], above: &[Entry]) -> Result<Offer<'a>, String> {
    let &[name, "rings", bytes] = words else { return wrong!("say: offers NAME rings SIZE") };
    check_name(name)?;
    if let Some(other) = above.iter().find(|entry| entry.offers.iter().any(|each| each.name == name)) {
        return wrong!("`{}` offers `{name}` already", other.name);
    }
    let least = (HANDSHAKE_WORDS * 8).max(4096).ilog2();
    Ok(Offer { name, rings: power(size(bytes)?, least, 30)? })
}

pub(super) fn wish<'a>(words: &[&'a str], above: &[Entry]) -> Result<Wish<'a>, String> {
    let &[name, bytes] = words else { return wrong!("say: channel NAME SIZE") };
    if !above.iter().any(|entry| entry.offers.iter().any(|each| each.name == name)) {
        return wrong!("no component further up offers `{name}`");
    }
    Ok(Wish { name, data: power(size(bytes)?, 12, 40)? })
}

pub(super) fn device(words: &[&str]) -> Result<Device, String> {
    let (identity, index, vectors) = match *words {
        [identity, "vectors", vectors] => (identity, "0", vectors),
        [identity, index, "vectors", vectors] => (identity, index, vectors),
        _ => return wrong!("say: device VENDOR:DEVICE [INDEX] vectors NUMBER"),
    };
    let part = |digits: &str| match digits.len() {
        4 => u16::from_str_radix(digits, 16).ok(),
        _ => None,
    };
    let parts = identity.split_once(':').map(|(vendor, device)| (part(vendor), part(device)));
    let Some((Some(vendor), Some(device))) = parts else {
        return wrong!("`{identity}` is not VENDOR:DEVICE, four hexadecimal digits each");
    };
    Ok(Device {
        identity: (vendor, device),
        index: ranged(index, 0, 62)? as usize,
        vectors: ranged(vectors, 0, 8)? as u32,
    })
}

pub(super) fn heartbeat(word: &str) -> Result<u64, String> {
    match time(word)? {
        time if (1000..=10_000_000).contains(&time) => Ok(time),
        _ => wrong!("`{word}` is not within 1ms to 10000ms"),
    }
}

pub(super) fn right(word: &str) -> Result<Right, String> {
    match Right::ALL.into_iter().find(|right| right.name() == word) {
        Some(right) => Ok(right),
        None => {
            wrong!("`{word}` is no right: {}", Right::ALL.map(Right::name).join(", "))
        }
    }
}

pub(super) fn ports(word: &str) -> Result<(u16, u16), String> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let port = |word| ranged(word, 0, 0xffff).map(|port| port as u16);
    match (port(first)?, port(last)?) {
        (_, 0) => wrong!("port 0 cannot be given alone"),
        (first, last) if first <= last => Ok((first, last)),
        _ => wrong!("the ports `{word}` end before they begin"),
    }
}

pub(super) fn number(word: &str) -> Result<u64, String> {
    let parsed = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| alloc::format!("`{word}` is no number"))
}

pub(super) fn ranged(word: &str, least: u64, most: u64) -> Result<u64, String> {
    match number(word)? {
        value if (least..=most).contains(&value) => Ok(value),
        _ => wrong!("`{word}` is not within {least} to {most}"),
    }
}

/// A number with one of the units.
pub(super) fn with_unit(word: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    for (unit, factor) in units {
        if let Some(digits) = word.strip_suffix(unit) {
            let value = number(digits)?.checked_mul(*factor);
            return value.ok_or_else(|| alloc::format!("`{word}` is too much"));
        }
    }
    let names: Vec<&str> = units.iter().map(|(unit, _)| *unit).collect();
    wrong!("`{word}` needs a unit: {}", names.join(", "))
}

pub(super) fn size(word: &str) -> Result<u64, String> {
    with_unit(word, &[("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)])
}

pub(super) fn power(value: u64, least: u32, most: u32) -> Result<u32, String> {
    let bits = value.checked_ilog2().unwrap_or(0);
    if !value.is_power_of_two() || !(least..=most).contains(&bits) {
        return wrong!("{value} is not a power of two from {} to {}", 1u64 << least, 1u64 << most);
    }
    Ok(bits)
}

pub(super) fn stack(word: &str) -> Result<u64, String> {
    match size(word)? {
        size if size.is_multiple_of(4096) && (4096..=MAX_STACK).contains(&size) => Ok(size),
        _ => wrong!("a stack has whole pages, 4K to {}K", MAX_STACK / 1024),
    }
}

pub(super) fn time(word: &str) -> Result<u64, String> {
    with_unit(word, &[("us", 1), ("ms", 1000)])
}

pub(super) fn budget(words: &[&str]) -> Result<Time, String> {
    let (&[budget, "of", period], strict) = (match words {
        [front @ .., "strict"] => (front, true),
        all => (all, false),
    }) else {
        return wrong!("say: budget TIME of TIME, or budget TIME of TIME strict");
    };
    match (time(budget)?, time(period)?) {
        (budget, period) if (1..=period).contains(&budget) && period <= 10_000_000 => {
            Ok(Time { budget, period, strict })
        }
        _ => wrong!("a budget is at most its period, and that at most 10000ms"),
    }
}
