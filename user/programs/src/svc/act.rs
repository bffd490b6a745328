//! What is done to components.

use alloc::string::String;

use proto::component::Refusal;
use proto::control::State;
use proto::life::Injection;
use rt::control::{self, About};
use rt::io::IoError;

use crate::{Outcome, number, place, refused};

/// `svc kill NAME`.
pub fn kill(name: &str) -> Outcome {
    not_init(name, "killed")?;
    let place = place(name)?;
    match control::kill(place) {
        Ok(()) => tell(name, place, "was killed"),
        Err(IoError::Refused(Refusal::Unknown)) => Err(alloc::format!("{name} does not run")),
        Err(error) => Err(refused(error)),
    }
}

/// `svc restart NAME`.
pub fn restart(name: &str) -> Outcome {
    not_init(name, "restarted")?;
    let place = place(name)?;
    match control::restart(place) {
        Ok(()) => tell(name, place, "was ended"),
        Err(IoError::Refused(Refusal::Unknown)) => {
            Err(alloc::format!("{name} is not supervised: it is started by its name"))
        }
        Err(IoError::Refused(Refusal::Short)) => {
            Err(alloc::format!("{name} could not be started; `svc log` says why"))
        }
        Err(error) => Err(refused(error)),
    }
}

/// `svc reset NAME`.
pub fn reset(name: &str) -> Outcome {
    let place = place(name)?;
    match control::reset(place) {
        Ok(()) => tell(name, place, "begins anew"),
        Err(IoError::Refused(Refusal::Unknown)) => {
            Err(alloc::format!("{name} keeps no state: `svc restart {name}` is enough"))
        }
        Err(IoError::Refused(Refusal::Short)) => {
            Err(alloc::format!("{name} could not be started; `svc log` says why"))
        }
        Err(error) => Err(refused(error)),
    }
}

/// `svc crash NAME --kind KIND [--at-message N]`.
pub fn crash(name: &str, options: &[&str]) -> Outcome {
    not_init(name, "made to crash")?;
    let (mut kind, mut at) = (None, 0);
    for option in options.chunks(2) {
        match *option {
            ["--kind", word] => kind = Some(injection(word)?),
            ["--at-message", count] => at = number(count)?,
            [option, ..] => return Err(alloc::format!("`{option}` is not said so; `svc help` shows how")),
            [] => {}
        }
    }
    let kind = kind.ok_or_else(|| alloc::format!("say --kind and one of: {}", kinds()))?;
    let place = place(name)?;
    let before = about(place)?;
    match control::inject(place, kind, at, false) {
        Ok(()) if at > before.messages => {
            rt::println!(
                "{name} has begun {} messages; at the {at}. comes the {}",
                before.messages,
                kind.name()
            );
            Ok(())
        }
        Ok(()) => {
            rt::println!("{name} is told: {}", kind.name());
            Ok(())
        }
        Err(IoError::Refused(Refusal::Unknown)) => {
            Err(alloc::format!("{name} does not run, or is not supervised: only who is listens to this"))
        }
        Err(error) => Err(refused(error)),
    }
}

fn injection(word: &str) -> Result<Injection, String> {
    let found = Injection::ALL.into_iter().find(|each| each.name() == word);
    found.ok_or_else(|| alloc::format!("`{word}` is no kind of crash: {}", kinds()))
}

fn kinds() -> String {
    Injection::ALL.map(Injection::name).join(", ")
}

fn not_init(name: &str, what: &str) -> Outcome {
    if name == "init" {
        return Err(alloc::format!(
            "init cannot be {what}: it owns everything that outlives the others, and nobody could start it again"
        ));
    }
    Ok(())
}

fn about(place: u64) -> Result<About, String> {
    let about = control::about(place).map_err(refused)?;
    about.ok_or_else(|| "the manifest has no such component".into())
}

/// Says what has become of a component.
fn tell(name: &str, place: u64, what: &str) -> Outcome {
    let about = about(place)?;
    match about.state {
        State::Runs if about.life > 1 => rt::println!("{name} {what}; it runs, in life {}", about.life),
        state => rt::println!("{name} {what}; it {}", described(state)),
    }
    Ok(())
}

fn described(state: State) -> &'static str {
    match state {
        State::Idle => "does not run",
        State::Runs => "runs",
        State::Fencing => "waits for its device",
        State::Waits => "waits to be started again",
        State::Parked => "is left dead",
    }
}
