//! Exactly once: which request of each client was the last to take effect, and how it was answered.
//!
//! | words | what |
//! |---|---|
//! | 0, 1 | the request in service: its number or print; 0 or its lane or slot (from 1 on) and the server's faults so far |
//! | then, for each slot | generation of its holder, deaths of the server in its requests, its deadly look, a lane |
//! | then | the lanes of the pool, and their index ([`crate::pool`]) |
//! | a lane | owner, number of the last request that took effect, the suspect, two answers |
//! | the suspect | the number of a request that the server died of (from bit 8 on), and how often |
//! | the deadly look | the print of a look that the server died of (but for the low 8 bits), and how often |
//!
//! A client is a slot and a generation ([`proto::principal`]), and is found without a search. A request of a later
//! generation ends the former holder of the slot: everything kept for it goes.
//!
//! A lane's answers lie at the parity of their number. So the answer to request n + 1 is written beside the one to
//! request n, which the client may still ask for, with plain stores; it counts when the lane's number becomes n + 1,
//! and that is a change of the same transaction as what the request did.
//!
//! The request in service is marked outside of transactions: it is for the case that they come to no end. A request that
//! only looks has no number: its *print* is made of its words.
//!
//! A request that the server has died of [`POISON`] times is refused. Of a client in whose requests it died as often, one
//! death in a request is enough. A client that has cost [`BANNED`] deaths is not served any more. A request that is
//! answered after all takes back the deaths it was blamed for.

use ipc::Message;
use proto::once::{Refusal, Stamp};
use proto::principal::Principal;

use crate::Memory;
use crate::pool::{BadOwner, Pool, owner, slot_of};
use crate::state::{BadState, JournalFull, State};

/// Of how many faults of the server in its service a request is refused from then on.
pub const POISON: u64 = 3;
/// After how many faults of the server in its requests a client is refused.
pub const BANNED: u64 = 6;

const MARKED: usize = 0;
const MARK: usize = 1;
const SLOTS: usize = 2;
/// In a mark: it is a look's, and names a slot.
const LOOK_MARK: u64 = 1 << 31;

const GENERATION: usize = 0;
const DEATHS: usize = 1;
const DEADLY_LOOK: usize = 2;
const OWN_LANE: usize = 3;
const SLOT: usize = OWN_LANE + LANE;

const OWNER: usize = 0;
const NUMBER: usize = 1;
const SUSPECT: usize = 2;
const ANSWERS: usize = 3;
/// Label and register words.
const ANSWER: usize = 1 + abi_words();
const LANE: usize = ANSWERS + 2 * ANSWER;

/// The bits of a suspect or of a deadly look that count.
const COUNT: u64 = 0xff;

const fn abi_words() -> usize {
    Message::new(0).words.len()
}

/// How many clients there are, and how many lanes they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Clients are in slots below this.
    pub slots: u32,
    /// Lanes that clients share, beside the one that each has.
    pub pool: u32,
    /// Lanes of the pool that one client can have.
    pub each: u32,
}

impl Bounds {
    /// Words of state that this takes.
    pub const fn words(self) -> usize {
        self.index() + Pool::words(self.slots as usize, self.pool as usize)
    }

    const fn pool(self) -> usize {
        SLOTS + self.slots as usize * SLOT
    }

    const fn index(self) -> usize {
        self.pool() + self.pool as usize * LANE
    }

    const fn all_lanes(self) -> usize {
        self.slots as usize + self.pool as usize
    }

    /// Changes of state that a transaction of this module makes, at most, where the service has no part in it.
    pub const JOURNAL: u32 = 6;
    /// Changes of state that an answer makes, at most.
    pub const ANSWER_JOURNAL: u32 = 3;
}

/// A request that is to be served now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    slot: usize,
    /// Which of all lanes, and where its words are.
    lane: usize,
    at: usize,
    number: u64,
}

/// A request that only looks, and is to be served now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    slot: usize,
    print: u64,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// It is to be served.
    New(T),
    /// It has taken effect, and this is the answer.
    Answered(Message),
    /// The former holder of its slot is to be retired.
    NewHolder,
    /// Its lane is to be taken on.
    NewLane,
    /// It makes no sense.
    Refused(Refusal),
}

impl<T> Known<T> {
    /// Looks further, where it may be served as far as is known.
    #[inline]
    fn and_then<U>(self, further: impl FnOnce(T) -> Known<U>) -> Known<U> {
        match self {
            Known::New(found) => further(found),
            Known::Answered(answer) => Known::Answered(answer),
            Known::NewHolder => Known::NewHolder,
            Known::NewLane => Known::NewLane,
            Known::Refused(refusal) => Known::Refused(refusal),
        }
    }
}

/// The clients' part of a state.
#[derive(Clone, Copy, Debug)]
pub struct Sessions {
    first: usize,
    bounds: Bounds,
    faults: u32,
    pool: Pool,
}

impl Sessions {
    /// The sessions in the words of `state` from `first` on, in a life of a server of whose lives so many have ended
    /// by their own fault.
    pub fn open<M: Memory>(
        state: &mut State<M>,
        first: usize,
        bounds: Bounds,
        faults: u64,
    ) -> Result<Sessions, BadState> {
        let pool = Pool {
            first: first + bounds.index(),
            slots: bounds.slots as usize,
            lanes: bounds.pool as usize,
            owners: (first + bounds.pool() + OWNER, LANE),
        };
        let sessions = Sessions { first, bounds, faults: faults as u32, pool };
        // A layout whose journal does not hold these few words is none.
        sessions.blame(state).map_err(|JournalFull| BadState::OtherShape)?;
        sessions.pool.build(state).map_err(|BadOwner| BadState::Damaged)?;
        Ok(sessions)
    }

    /// Takes note of the request that a former life has died of, in one transaction.
    fn blame<M: Memory>(&self, state: &mut State<M>) -> Result<(), JournalFull> {
        let (marked, mark) = (state.word(self.first + MARKED), state.word(self.first + MARK));
        let (of, faults) = ((mark & (LOOK_MARK - 1)) as usize, (mark >> 32) as u32);
        // Only a life that ended by its own fault speaks against the request it had in service.
        if of != 0 && faults != self.faults {
            let slot = if mark & LOOK_MARK != 0 {
                (of <= self.bounds.slots as usize).then_some(of - 1)
            } else {
                (of <= self.bounds.all_lanes())
                    .then(|| self.blame_number(state, of - 1, marked))
                    .transpose()?
            };
            if let Some(slot) = slot.filter(|slot| *slot < self.bounds.slots as usize) {
                let at = self.slot_at(slot);
                if mark & LOOK_MARK != 0 {
                    state.set(at + DEADLY_LOOK, blamed(state.word(at + DEADLY_LOOK), marked & !COUNT))?;
                }
                state.set(at + DEATHS, state.word(at + DEATHS).saturating_add(1))?;
            }
        }
        state.set(self.first + MARK, 0)?;
        state.commit();
        Ok(())
    }

    /// Blames a request of a lane: whose it is.
    fn blame_number<M: Memory>(
        &self,
        state: &mut State<M>,
        lane: usize,
        number: u64,
    ) -> Result<usize, JournalFull> {
        let at = self.lane_at(lane);
        state.set(at + SUSPECT, blamed(state.word(at + SUSPECT), number << 8))?;
        Ok(slot_of(state.word(at + OWNER)))
    }

    fn slot_at(&self, slot: usize) -> usize {
        self.first + SLOTS + slot * SLOT
    }

    /// Lanes below the number of slots are the slots' own, the others the pool's.
    fn lane_at(&self, lane: usize) -> usize {
        match lane.checked_sub(self.bounds.slots as usize) {
            None => self.slot_at(lane) + OWN_LANE,
            Some(of_pool) => self.first + self.bounds.pool() + of_pool * LANE,
        }
    }

    fn lane_of<M: Memory>(&self, state: &State<M>, slot: usize, lane: u16) -> Option<usize> {
        let owner = owner(slot, lane);
        if state.word(self.lane_at(slot) + OWNER) == owner {
            return Some(slot);
        }
        self.pool.find(state, owner).map(|of_pool| self.bounds.slots as usize + of_pool)
    }

    /// Returns the generation of the slot's holder; 0 before the first.
    pub fn generation<M: Memory>(&self, state: &State<M>, slot: u16) -> u64 {
        if u32::from(slot) < self.bounds.slots {
            state.word(self.slot_at(usize::from(slot)) + GENERATION)
        } else {
            0
        }
    }

    /// Returns what is known of the client with this badge: its slot, if it may ask.
    #[inline]
    fn client<M: Memory>(&self, state: &State<M>, badge: u64) -> Known<usize> {
        let Some(principal) = Principal::from_badge(badge) else {
            return Known::Refused(Refusal::NoPrincipal);
        };
        if u32::from(principal.slot) >= self.bounds.slots {
            return Known::Refused(Refusal::NoSuchSlot);
        }
        let slot = usize::from(principal.slot);
        let at = self.slot_at(slot);
        match principal.generation.cmp(&state.word(at + GENERATION)) {
            core::cmp::Ordering::Less => Known::Refused(Refusal::OldGeneration),
            core::cmp::Ordering::Greater => Known::NewHolder,
            core::cmp::Ordering::Equal if state.word(at + DEATHS) >= BANNED => {
                Known::Refused(Refusal::Banned)
            }
            core::cmp::Ordering::Equal => Known::New(slot),
        }
    }

    /// Returns what is known of the request `stamp` of the client with this badge.
    pub fn known<M: Memory>(&self, state: &State<M>, badge: u64, stamp: Stamp) -> Known<Ticket> {
        self.client(state, badge).and_then(|slot| match self.lane_of(state, slot, stamp.lane) {
            Some(lane) => self.known_in_lane(state, slot, lane, stamp.number),
            None => Known::NewLane,
        })
    }

    fn known_in_lane<M: Memory>(
        &self,
        state: &State<M>,
        slot: usize,
        lane: usize,
        number: u64,
    ) -> Known<Ticket> {
        let at = self.lane_at(lane);
        let last = state.word(at + NUMBER);
        if number == last.wrapping_add(1) {
            Known::New(Ticket { slot, lane, at, number })
        } else if number == last {
            Known::Answered(stored(state, at, number))
        } else if number < last {
            Known::Refused(Refusal::OldNumber)
        } else {
            Known::Refused(Refusal::NumberAhead)
        }
    }

    /// Returns what is known of a look with this print. It needs no lane.
    #[inline]
    pub fn known_look<M: Memory>(&self, state: &State<M>, badge: u64, print: u64) -> Known<Glance> {
        self.client(state, badge).and_then(|slot| Known::New(Glance { slot, print }))
    }

    /// Returns true if the server has died of this request so often that it is not to be tried again.
    pub fn is_poison<M: Memory>(&self, state: &State<M>, ticket: Ticket) -> bool {
        let own = deaths(state.word(ticket.at + SUSPECT), ticket.number << 8);
        own != 0 && self.is_too_much(state, ticket.slot, own)
    }

    /// The same for a look.
    #[inline]
    pub fn is_poison_look<M: Memory>(&self, state: &State<M>, glance: Glance) -> bool {
        let own = self.deaths_of_look(state, glance);
        own != 0 && self.is_too_much(state, glance.slot, own)
    }

    fn deaths_of_look<M: Memory>(&self, state: &State<M>, glance: Glance) -> u64 {
        deaths(state.word(self.slot_at(glance.slot) + DEADLY_LOOK), glance.print & !COUNT)
    }

    fn is_too_much<M: Memory>(&self, state: &State<M>, slot: usize, own: u64) -> bool {
        own >= POISON || state.word(self.slot_at(slot) + DEATHS) >= POISON
    }

    /// Gives the client in a slot a lane. It is to be committed before a request is served: a mark needs a lane to
    /// refer to.
    pub fn take_lane<M: Memory>(
        &self,
        state: &mut State<M>,
        slot: u16,
        lane: u16,
    ) -> Result<Result<(), Refusal>, JournalFull> {
        let slot = usize::from(slot);
        let owner = owner(slot, lane);
        let own = self.lane_at(slot) + OWNER;
        if state.word(own) == 0 {
            state.set(own, owner)?;
            state.commit();
            return Ok(Ok(()));
        }
        let free = self.pool.free(state);
        let Some(of_pool) = free.filter(|_| self.pool.count(state, slot) < self.bounds.each as usize) else {
            return Ok(Err(Refusal::TooManyLanes));
        };
        state.set(self.lane_at(self.bounds.slots as usize + of_pool) + OWNER, owner)?;
        state.commit();
        self.pool.take(state, of_pool);
        Ok(Ok(()))
    }

    /// Forgets everything of the holder of a slot, and lets it have another, of the generation given. Each of its
    /// transactions leaves less to be done: a life that is killed in here is followed by one that goes on.
    pub fn hand_over<M: Memory>(
        &self,
        state: &mut State<M>,
        slot: u16,
        generation: u64,
    ) -> Result<(), JournalFull> {
        let slot = usize::from(slot);
        while let Some(of_pool) = self.pool.some_lane(state, slot) {
            let at = self.lane_at(self.bounds.slots as usize + of_pool);
            let owner = state.word(at + OWNER);
            self.clear_lane(state, at)?;
            state.commit();
            self.pool.give_back(state, of_pool, owner);
        }
        let at = self.slot_at(slot);
        self.clear_lane(state, at + OWN_LANE)?;
        state.set(at + DEATHS, 0)?;
        state.set(at + DEADLY_LOOK, 0)?;
        state.set(at + GENERATION, generation)?;
        state.commit();
        Ok(())
    }

    fn clear_lane<M: Memory>(&self, state: &mut State<M>, at: usize) -> Result<(), JournalFull> {
        [OWNER, NUMBER, SUSPECT].into_iter().try_for_each(|word| state.set(at + word, 0))
    }

    /// Marks a request as in service.
    pub fn begin<M: Memory>(&self, state: &mut State<M>, ticket: Ticket) {
        state.set_now(self.first + MARKED, ticket.number);
        state.set_now(self.first + MARK, u64::from(self.faults) << 32 | (ticket.lane as u64 + 1));
    }

    /// Marks a look as in service.
    #[inline]
    pub fn begin_look<M: Memory>(&self, state: &mut State<M>, glance: Glance) {
        state.set_now(self.first + MARKED, glance.print);
        let mark = u64::from(self.faults) << 32 | LOOK_MARK | (glance.slot as u64 + 1);
        state.set_now(self.first + MARK, mark);
    }

    /// No request is in service any more.
    #[inline]
    pub fn end<M: Memory>(&self, state: &mut State<M>) {
        state.set_now(self.first + MARK, 0);
    }

    /// Stores the answer to a request, as part of the transaction in which it takes effect. What counts of it are
    /// label and register words.
    pub fn answer<M: Memory>(
        &self,
        state: &mut State<M>,
        ticket: Ticket,
        answer: &Message,
    ) -> Result<(), JournalFull> {
        let suspect = state.word(ticket.at + SUSPECT);
        if deaths(suspect, ticket.number << 8) != 0 {
            self.acquit(state, ticket.slot, ticket.at + SUSPECT)?;
        }
        self.refuse(state, ticket, answer)
    }

    /// The same for an answer that takes nothing back of what the request is blamed for.
    pub fn refuse<M: Memory>(
        &self,
        state: &mut State<M>,
        ticket: Ticket,
        answer: &Message,
    ) -> Result<(), JournalFull> {
        let at = answer_at(ticket.at, ticket.number);
        state.set_now(at, u64::from(answer.label()));
        for (place, word) in answer.words.iter().enumerate() {
            state.set_now(at + 1 + place, *word);
        }
        state.set(ticket.at + NUMBER, ticket.number)
    }

    /// A look is answered: takes back what it is blamed for, in a transaction of its own.
    #[inline]
    pub fn acquit_look<M: Memory>(&self, state: &mut State<M>, glance: Glance) -> Result<(), JournalFull> {
        if self.deaths_of_look(state, glance) == 0 {
            return Ok(());
        }
        self.acquit(state, glance.slot, self.slot_at(glance.slot) + DEADLY_LOOK)?;
        state.commit();
        Ok(())
    }

    fn acquit<M: Memory>(
        &self,
        state: &mut State<M>,
        slot: usize,
        suspect: usize,
    ) -> Result<(), JournalFull> {
        let deaths = self.slot_at(slot) + DEATHS;
        state.set(deaths, state.word(deaths).saturating_sub(state.word(suspect) & COUNT))?;
        state.set(suspect, 0)
    }
}

/// How often the server has died of what `print` stands for, by a suspect word.
#[inline]
fn deaths(suspect: u64, print: u64) -> u64 {
    if suspect & !COUNT == print { suspect & COUNT } else { 0 }
}

/// The suspect word with one death more.
fn blamed(suspect: u64, print: u64) -> u64 {
    print | (deaths(suspect, print) + 1).min(COUNT)
}

fn answer_at(lane: usize, number: u64) -> usize {
    lane + ANSWERS + (number & 1) as usize * ANSWER
}

fn stored<M: Memory>(state: &State<M>, lane: usize, number: u64) -> Message {
    let at = answer_at(lane, number);
    let mut message = Message::new(state.word(at) as u32);
    for (place, word) in message.words.iter_mut().enumerate() {
        *word = state.word(at + 1 + place);
    }
    message
}
