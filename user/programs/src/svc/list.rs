//! Tables of components.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use abi::Kind;
use proto::control::{State, recovery};
use rt::control::{self, About};
use rt::{clock, env};

use crate::{Outcome, place, refused};

/// All components of the manifest.
fn components() -> Result<Vec<About>, String> {
    let mut all = Vec::new();
    while let Some(about) = control::about(all.len() as u64).map_err(refused)? {
        all.push(about);
    }
    Ok(all)
}

/// `svc list`.
pub fn all() -> Outcome {
    rt::println!(
        "{:16} {:8} {:>5} {:>6} {:>5} {:>8} {:>8} {:>10} {:>9} {:>9}",
        "COMPONENT",
        "STATE",
        "LIFE",
        "FAULTS",
        "KILLS",
        "MEMORY",
        "DURABLE",
        "CPU ms",
        "MESSAGES",
        "SERVED"
    );
    for each in components()? {
        rt::println!(
            "{:16} {:8} {:>5} {:>6} {:>5} {:>8} {:>8} {:>10} {:>9} {:>9}",
            each.name,
            each.state.name(),
            or_dash(each.life),
            each.faults,
            each.kills,
            if each.memory_bits == 0 { "half".into() } else { bytes(1 << each.memory_bits) },
            if each.durable == 0 { "-".into() } else { bytes(each.durable) },
            milliseconds(each.time),
            or_dash(each.messages),
            or_dash(each.served),
        );
    }
    Ok(())
}

fn or_dash(number: u64) -> String {
    if number == 0 { "-".into() } else { number.to_string() }
}

fn bytes(count: u64) -> String {
    match count {
        0..0x10_0000 => alloc::format!("{}K", count >> 10),
        _ => alloc::format!("{}M", count >> 20),
    }
}

fn milliseconds(ticks: u64) -> String {
    let time = clock::to_microseconds(ticks);
    alloc::format!("{}.{:03}", time / 1000, time % 1000)
}

/// `svc top`.
pub fn top() -> Outcome {
    let (before, start) = (components()?, clock::now());
    let second = start + env::tsc_hz();
    // Nobody signals it; the wait is for the time.
    let _ = ipc::wait_until(env::required(proto::start::names::READY), second);
    while clock::now() < second {
        ipc::yield_now();
    }
    let took = (clock::now() - start).max(1);
    let mut used: Vec<(u64, About)> = components()?
        .into_iter()
        .zip(before)
        .map(|(now, before)| (now.time.saturating_sub(before.time), now))
        .filter(|(_, each)| each.state != State::Idle)
        .collect();
    used.sort_by_key(|(time, _)| core::cmp::Reverse(*time));
    rt::println!("{:16} {:>7} {:8} {:>5}", "COMPONENT", "CPU %", "STATE", "LIFE");
    for (time, each) in used {
        let permille = u128::from(time) * 1000 / u128::from(took);
        rt::println!(
            "{:16} {:>5}.{} {:8} {:>5}",
            each.name,
            permille / 10,
            permille % 10,
            each.state.name(),
            or_dash(each.life)
        );
    }
    Ok(())
}

/// `svc caps NAME`.
pub fn capabilities(name: &str) -> Outcome {
    let place = place(name)?;
    let mut from = 0;
    while let Some(held) = control::capability(place, from).map_err(refused)? {
        if from == 0 {
            rt::println!(
                "{:>6} {:16} {:14} {:6} {:>5} {:>18} {:>18}",
                "SLOT",
                "NAME",
                "KIND",
                "RIGHTS",
                "BITS",
                "BADGE",
                "IDENTITY"
            );
        }
        let kind = Kind::from_word(held.kind).map_or("?", Kind::name);
        rt::println!(
            "{:>6} {:16} {kind:14} {:6} {:>5} {:>#18x} {:>#18x}",
            held.slot,
            if held.name.is_empty() { "-" } else { held.name.as_str() },
            rights(held.rights),
            held.bits,
            held.badge,
            held.identity
        );
        from = held.slot + 1;
    }
    if from == 0 { Err(alloc::format!("{name} does not run")) } else { Ok(()) }
}

fn rights(bits: u64) -> String {
    "rwgx".chars().enumerate().map(|(bit, c)| if bits >> bit & 1 == 1 { c } else { '-' }).collect()
}

/// `svc recoveries NAME [N]`.
pub fn recoveries(name: &str, count: u64) -> Outcome {
    let place = place(name)?;
    rt::println!(
        "{:>5} {:>12} {:>10} {:>10} {:>10} {:>10} {:>12}   (microseconds since the death was noticed)",
        "LIFE",
        "AT ms",
        "FENCED",
        "REVOKED",
        "STARTED",
        "READY",
        "FIRST SERVED"
    );
    for ago in 0..count {
        let Some(times) = control::recovery(place, ago).map_err(refused)? else { break };
        let since = |word: usize| match times[word].checked_sub(times[recovery::DETECTED]) {
            Some(ticks) if times[word] != 0 => clock::to_microseconds(ticks).to_string(),
            _ => "-".into(),
        };
        rt::println!(
            "{:>5} {:>12} {:>10} {:>10} {:>10} {:>10} {:>12}",
            times[recovery::LIFE],
            clock::to_microseconds(times[recovery::DETECTED]) / 1000,
            since(recovery::FENCED),
            since(recovery::REVOKED),
            since(recovery::STARTED),
            since(recovery::READY),
            since(recovery::SERVED),
        );
    }
    Ok(())
}
