//! Who kills, and keeps the books of deaths and recoveries.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use proto::component::Refusal;
use proto::control::{State, recovery};
use proto::life::{Injection, bell};
use rt::io::IoError;
use rt::{clock, control, env};
use storm::arguments::{Arguments, Mode, When};
use storm::random::Random;
use storm::times::Times;

use crate::WorkError;

/// Microseconds until a victim that has died is looked at again.
const GLANCE: u64 = 500;
/// Microseconds until one is looked at that is not known to have died.
const LONG_GLANCE: u64 = 20_000;
/// Seconds in which a victim dies of what was done to it.
const PATIENCE: u64 = 20;
/// The bit of the bell, from `bell::OWN` on, that says that a life has ended.
const DEATH_BIT: u8 = 0;
const _: () = assert!(bell::OWN + DEATH_BIT < bell::INIT);

/// A component that is to die.
#[derive(Clone, Debug)]
struct Victim {
    name: &'static str,
    place: u64,
    /// The latest life whose recovery is in the books.
    booked: u64,
}

/// What was done to a victim, in one of its lives.
#[derive(Clone, Copy, Debug)]
struct Shot {
    victim: usize,
    life: u64,
    at: u64,
    how: Injection,
}

/// Something worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A victim was made to die so.
    Killed(&'static str, Injection),
    /// It served its first request again, so many ticks after its death was detected.
    Recovered(&'static str, u64),
    /// It did not die of it, and was killed plainly.
    WouldNotDie(&'static str, Injection),
}

/// When the next shot is due.
#[derive(Clone, Debug)]
enum Timing {
    /// At a time, and again so many ticks later.
    Every { due: u64, ticks: u64 },
    /// At messages of lives.
    AtMessages(VecDeque<u64>),
    /// When it is asked for.
    ByHand,
}

/// Who kills.
#[derive(Clone, Debug)]
pub struct Killer {
    victims: Vec<Victim>,
    timing: Timing,
    mode: Mode,
    random: Random,
    /// How many are still to die.
    left: u64,
    pending: Option<Shot>,
    /// The bell has told of a death since the last shot.
    saw_death: bool,
    /// Otherwise, this is when to look whether the victim has died.
    look_at: u64,
    kills: u64,
    recoveries: u64,
    refused: u64,
    times: Times,
    parts: [Times; PARTS.len()],
    events: VecDeque<Event>,
}

/// The parts of a recovery: what each is, and the word of `proto::control::recovery` that it ends with.
pub const PARTS: [(&str, usize); 5] = [
    ("fence", recovery::FENCED),
    ("revoke", recovery::REVOKED),
    ("start", recovery::STARTED),
    ("ready", recovery::READY),
    ("serve", recovery::SERVED),
];

/// Events that are kept until they are told.
const MOST_EVENTS: usize = 64;

impl Killer {
    /// Who kills as the arguments say, from now on.
    pub fn new(arguments: &Arguments<'static>) -> Result<Killer, WorkError> {
        let now = clock::now();
        let (timing, left) = match arguments.when {
            When::Every(milliseconds) => {
                let ticks = clock::microseconds(milliseconds.saturating_mul(1000));
                (Timing::Every { due: now + ticks, ticks }, arguments.kills)
            }
            When::AtMessage(range) => {
                let end = range.last.unwrap_or(range.first);
                let places: VecDeque<u64> = range.places(end, arguments.sample, arguments.seed).into();
                let left = places.len() as u64;
                (Timing::AtMessages(places), left)
            }
            When::AtInstruction(_) => (Timing::ByHand, 0),
        };
        let mut killer = Killer {
            victims: Vec::new(),
            timing,
            mode: arguments.mode,
            random: Random::new(arguments.seed),
            left,
            pending: None,
            saw_death: false,
            look_at: 0,
            kills: 0,
            recoveries: 0,
            refused: 0,
            times: Times::default(),
            parts: Default::default(),
            events: VecDeque::new(),
        };
        for name in &arguments.victims {
            killer.add(name)?;
        }
        if killer.victims.is_empty() {
            killer.left = 0;
        } else {
            control::watch(DEATH_BIT)?;
        }
        Ok(killer)
    }

    fn add(&mut self, name: &'static str) -> Result<(), WorkError> {
        let place = control::find(name)?.ok_or(WorkError::NoVictim(name))?;
        let life = control::about(place)?.map_or(0, |about| about.life);
        self.victims.push(Victim { name, place, booked: life });
        Ok(())
    }

    /// All that was to die has died, and is there again.
    pub fn is_done(&self) -> bool {
        self.left == 0 && self.pending.is_none()
    }

    /// How many died.
    pub fn kills(&self) -> u64 {
        self.kills
    }

    /// How many came back.
    pub fn recoveries(&self) -> u64 {
        self.recoveries
    }

    /// How many did not die of what was done to them.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// How long it took from the detection of deaths to the first requests served again.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// How long each of the [`PARTS`] took.
    pub fn parts(&self) -> &[Times; PARTS.len()] {
        &self.parts
    }

    /// The next thing worth telling.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Kills who is to die now. `bits` is what the bell has told since the last time. Gives the time until when it need
    /// not be asked again, unless the bell rings.
    pub fn step(&mut self, bits: u64) -> Result<u64, WorkError> {
        let now = clock::now();
        self.saw_death |= bits & 1 << (bell::OWN + DEATH_BIT) != 0;
        if let Some(shot) = self.pending {
            if !self.saw_death && now < self.look_at {
                return Ok(self.look_at);
            }
            if !self.is_over(shot, now)? {
                self.look_at = now + clock::microseconds(if self.saw_death { GLANCE } else { LONG_GLANCE });
                return Ok(self.look_at);
            }
        }
        if self.pending.take().is_some()
            && let Timing::Every { due, ticks } = &mut self.timing
            && *due <= now
        {
            // It took longer to come back than it was to live.
            *due = now + *ticks;
        }
        if self.left == 0 {
            return Ok(u64::MAX);
        }
        let at_message = match &mut self.timing {
            Timing::Every { due, .. } if now < *due => return Ok(*due),
            Timing::Every { due, ticks } => {
                // A time that was missed is not made up for.
                *due = now.max(*due + *ticks);
                0
            }
            Timing::AtMessages(places) => places.front().copied().unwrap_or(1),
            Timing::ByHand => return Ok(u64::MAX),
        };
        let victim = self.random.below(self.victims.len() as u64) as usize;
        if self.shoot(victim, at_message)? {
            self.left -= 1;
            if let Timing::AtMessages(places) = &mut self.timing {
                places.pop_front();
            }
        }
        Ok(now + clock::microseconds(GLANCE))
    }

    /// For how many ticks the victims have worked in all their lives.
    pub fn worked(&self) -> Result<u64, WorkError> {
        let mut ticks = 0;
        for victim in &self.victims {
            ticks += control::about(victim.place)?.map_or(0, |about| about.time);
        }
        Ok(ticks)
    }

    /// Kills the victim at `place` of the list now.
    pub fn shoot_now(&mut self, victim: usize) -> Result<bool, WorkError> {
        let victim = victim % self.victims.len().max(1);
        Ok(self.pending.is_none() && self.shoot(victim, 0)?)
    }

    /// Makes a victim die at a message of its life (0: now). False: it is not there to be killed.
    fn shoot(&mut self, victim: usize, at_message: u64) -> Result<bool, WorkError> {
        self.book()?;
        let how = match self.mode {
            Mode::Always(how) => how,
            Mode::Random => self.random.one_of(&Injection::ALL).copied().unwrap_or(Injection::Kill),
        };
        let Victim { name, place, .. } = self.victims[victim];
        let about = control::about(place)?.ok_or(WorkError::NoVictim(name))?;
        if about.state != State::Runs {
            return Ok(false);
        }
        let done = match (how, at_message) {
            (Injection::Kill, 0) => control::kill(place),
            _ => control::inject(place, how, at_message, false),
        };
        match done {
            Ok(()) => {}
            // It has died by itself meanwhile.
            Err(IoError::Refused(Refusal::Unknown)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        self.kills += 1;
        self.pending = Some(Shot { victim, life: about.life, at: clock::now(), how });
        self.saw_death = false;
        self.look_at = 0;
        self.tell(Event::Killed(name, how));
        Ok(true)
    }

    /// Whether a victim has died of a shot and is there again.
    fn is_over(&mut self, shot: Shot, now: u64) -> Result<bool, WorkError> {
        let Victim { name, place, .. } = self.victims[shot.victim];
        let about = control::about(place)?.ok_or(WorkError::NoVictim(name))?;
        if about.life > shot.life {
            let is_there = about.state == State::Runs;
            self.recoveries += u64::from(is_there);
            return Ok(is_there);
        }
        if now > shot.at + PATIENCE * env::tsc_hz() {
            self.refused += 1;
            self.tell(Event::WouldNotDie(name, shot.how));
            control::kill(place)?;
            self.pending = Some(Shot { at: now, how: Injection::Kill, ..shot });
        }
        Ok(false)
    }

    /// Puts recoveries into the books that are not there yet.
    pub fn book(&mut self) -> Result<(), WorkError> {
        for at in 0..self.victims.len() {
            let Victim { name, place, booked } = self.victims[at];
            let mut latest = booked;
            for ago in 0.. {
                let Some(times) = control::recovery(place, ago)? else { break };
                if times[recovery::LIFE] <= booked {
                    break;
                }
                if times[recovery::SERVED] != 0 {
                    let took = times[recovery::SERVED].saturating_sub(times[recovery::DETECTED]);
                    self.times.add(took);
                    let mut before = times[recovery::DETECTED];
                    for (part, (_, end)) in self.parts.iter_mut().zip(PARTS) {
                        part.add(times[end].saturating_sub(before));
                        before = times[end];
                    }
                    self.tell(Event::Recovered(name, took));
                } else if ago == 0 {
                    // It may still serve in this life.
                    continue;
                }
                latest = latest.max(times[recovery::LIFE]);
            }
            self.victims[at].booked = latest;
        }
        Ok(())
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() < MOST_EVENTS {
            self.events.push_back(event);
        }
    }
}
