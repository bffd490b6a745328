//! Exactly once: which request of each client was the last to take effect, and how it was answered.
//!
//! | words | what |
//! |---|---|
//! | 0, 1 | the request in service: its number; 0 or its lane (from 1 on, low half) and the server's faults so far |
//! | then, for each client | badge, epoch (0: no client), and its lanes |
//! | then | one lane more, for looks whose stamp is not the next of a known lane: its number is their badge |
//! | a lane | number of the last request that took effect, the suspect, two answers |
//! | the suspect | the number of a request that the server died of (from bit 8 on), and how often |
//!
//! A lane's answers lie at the parity of their number. So the answer to request n + 1 is written beside the one to
//! request n, which the client may still ask for, with plain stores; it counts when the lane's number becomes n + 1,
//! and that is a change of the same transaction as what the request did.
//!
//! The request in service is marked outside of transactions: it is for the case that they come to no end.

use ipc::Message;
use proto::once::{MAX_NUMBER, Refusal, Stamp};

use crate::Memory;
use crate::state::{JournalFull, State};

/// Of how many faults of the server in its service a request is refused from then on.
pub const POISON: u64 = 3;

const SERVED_NUMBER: usize = 0;
const SERVED_LANE: usize = 1;
const CLIENTS: usize = 2;

const BADGE: usize = 0;
const EPOCH: usize = 1;
const LANES: usize = 2;

const NUMBER: usize = 0;
const SUSPECT: usize = 1;
const ANSWERS: usize = 2;
/// Label and register words.
const ANSWER: usize = 1 + abi_words();
const LANE: usize = ANSWERS + 2 * ANSWER;

const fn abi_words() -> usize {
    Message::new(0).words.len()
}

/// How many clients are known at a time, and how many lanes each has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Clients.
    pub clients: u32,
    /// Lanes of each, at most `proto::once::MAX_LANES`.
    pub lanes: u32,
}

impl Bounds {
    const fn client_words(self) -> usize {
        LANES + self.lanes as usize * LANE
    }

    /// Words of state that this takes.
    pub const fn words(self) -> usize {
        CLIENTS + self.clients as usize * self.client_words() + LANES + LANE
    }

    const fn all_lanes(self) -> usize {
        self.clients as usize * self.lanes as usize
    }

    /// Changes of state that taking on a client makes, at most.
    pub const fn journal(self) -> usize {
        2 + 2 * self.lanes as usize
    }
}

/// A request that is to be served now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Which of all lanes, and where its words are.
    lane: usize,
    at: usize,
    number: u64,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is the next of its lane.
    New(Ticket),
    /// It has taken effect, and this is the answer.
    Answered(Message),
    /// Its client is not known in this epoch: take it on ([`Sessions::take_on`]), then look again.
    Stranger,
    /// It makes no sense.
    Refused(Refusal),
}

/// The clients' part of a state.
#[derive(Clone, Copy, Debug)]
pub struct Sessions {
    first: usize,
    bounds: Bounds,
    faults: u32,
}

/// Set in the number of a ticket for a request that only looks: it goes by the number of the lane's next request.
const LOOKS: u64 = MAX_NUMBER + 1;

impl Sessions {
    /// The sessions in the words of `state` from `first` on, in a life of a server of whose lives so many have ended
    /// by their own fault.
    pub fn open<M: Memory>(
        state: &mut State<M>,
        first: usize,
        bounds: Bounds,
        faults: u64,
    ) -> Result<Sessions, JournalFull> {
        let sessions = Sessions { first, bounds, faults: faults as u32 };
        sessions.suspect(state)?;
        Ok(sessions)
    }

    /// Takes note of the request that a former life has died of, in one transaction.
    fn suspect<M: Memory>(&self, state: &mut State<M>) -> Result<(), JournalFull> {
        let mark = state.word(self.first + SERVED_LANE);
        let (lane, faults) = (mark as u32 as usize, (mark >> 32) as u32);
        // Only a life that ended by its own fault speaks against the request it had in service.
        if (1..=self.bounds.all_lanes() + 1).contains(&lane) && faults != self.faults {
            let number = state.word(self.first + SERVED_NUMBER);
            let at = self.lane_at(lane - 1);
            let deaths = deaths(state.word(at + SUSPECT), number);
            state.set(at + SUSPECT, number << 8 | (deaths + 1).min(POISON))?;
        }
        state.set(self.first + SERVED_LANE, 0)?;
        state.commit();
        Ok(())
    }

    fn client_at(&self, client: usize) -> usize {
        self.first + CLIENTS + client * self.bounds.client_words()
    }

    fn lane_at(&self, lane: usize) -> usize {
        let lanes = self.bounds.lanes as usize;
        self.client_at(lane / lanes) + LANES + lane % lanes * LANE
    }

    fn find<M: Memory>(&self, state: &State<M>, badge: u64) -> Option<usize> {
        (0..self.bounds.clients as usize).find(|&client| {
            let at = self.client_at(client);
            state.word(at + EPOCH) != 0 && state.word(at + BADGE) == badge
        })
    }

    /// What is known of the request `stamp` of the client with this badge.
    pub fn look<M: Memory>(&self, state: &State<M>, badge: u64, stamp: Stamp) -> Known {
        if stamp.lane >= self.bounds.lanes {
            return Known::Refused(Refusal::NoSuchLane);
        }
        let Some(client) = self.find(state, badge) else { return Known::Stranger };
        let epoch = state.word(self.client_at(client) + EPOCH);
        match u64::from(stamp.epoch).cmp(&epoch) {
            core::cmp::Ordering::Less => Known::Refused(Refusal::OldEpoch),
            core::cmp::Ordering::Greater => Known::Stranger,
            core::cmp::Ordering::Equal => self.look_in_lane(
                state,
                client * self.bounds.lanes as usize + stamp.lane as usize,
                stamp.number,
            ),
        }
    }

    fn look_in_lane<M: Memory>(&self, state: &State<M>, lane: usize, number: u64) -> Known {
        let at = self.lane_at(lane);
        let last = state.word(at + NUMBER);
        if number == last {
            return Known::Answered(stored(state, at, number));
        }
        if number < last {
            return Known::Refused(Refusal::OldNumber);
        }
        if number - last > 1 {
            return Known::Refused(Refusal::NumberAhead);
        }
        Known::New(Ticket { lane, at, number })
    }

    /// The ticket of a request that only looks: of its lane, if its stamp is the next one there.
    pub fn ticket_of_look<M: Memory>(&self, state: &State<M>, badge: u64, stamp: Option<Stamp>) -> Ticket {
        match stamp.map(|stamp| self.look(state, badge, stamp)) {
            Some(Known::New(ticket)) => Ticket { number: ticket.number | LOOKS, ..ticket },
            _ => {
                let lane = self.bounds.all_lanes();
                Ticket { lane, at: self.lane_at(lane), number: badge & MAX_NUMBER | LOOKS }
            }
        }
    }

    /// Whether the server has died of this request so often that it is not to be tried again.
    pub fn is_poison<M: Memory>(&self, state: &State<M>, ticket: Ticket) -> bool {
        deaths(state.word(ticket.at + SUSPECT), ticket.number) >= POISON
    }

    /// Forgets how often the server has died of this lane's requests.
    pub fn acquit<M: Memory>(&self, state: &mut State<M>, ticket: Ticket) -> Result<(), JournalFull> {
        state.set(ticket.at + SUSPECT, 0)
    }

    /// Takes on the client of a request that [`Self::look`] found to be a stranger's, and forgets its former epoch.
    /// It is to be committed before the request is served: a mark needs a lane to refer to.
    pub fn take_on<M: Memory>(
        &self,
        state: &mut State<M>,
        badge: u64,
        stamp: Stamp,
    ) -> Result<Result<(), Refusal>, JournalFull> {
        let unused = || {
            (0..self.bounds.clients as usize).find(|&client| state.word(self.client_at(client) + EPOCH) == 0)
        };
        let Some(client) = self.find(state, badge).or_else(unused) else {
            return Ok(Err(Refusal::TooManyClients));
        };
        let at = self.client_at(client);
        state.set(at + BADGE, badge)?;
        state.set(at + EPOCH, u64::from(stamp.epoch))?;
        let lanes = self.bounds.lanes as usize;
        for lane in client * lanes..(client + 1) * lanes {
            state.set(self.lane_at(lane) + NUMBER, 0)?;
            state.set(self.lane_at(lane) + SUSPECT, 0)?;
        }
        Ok(Ok(()))
    }

    /// Forgets a client that will not come again, so that another has its place.
    pub fn forget<M: Memory>(&self, state: &mut State<M>, badge: u64) -> Result<(), JournalFull> {
        match self.find(state, badge) {
            Some(client) => state.set(self.client_at(client) + EPOCH, 0),
            None => Ok(()),
        }
    }

    /// Marks a request as in service.
    pub fn begin<M: Memory>(&self, state: &mut State<M>, ticket: Ticket) {
        state.set_now(self.first + SERVED_NUMBER, ticket.number);
        state.set_now(self.first + SERVED_LANE, u64::from(self.faults) << 32 | (ticket.lane as u64 + 1));
    }

    /// No request is in service any more.
    pub fn end<M: Memory>(&self, state: &mut State<M>) {
        state.set_now(self.first + SERVED_LANE, 0);
    }

    /// Stores the answer to a request, as part of the transaction in which it takes effect. What counts of it are
    /// label and register words.
    pub fn answer<M: Memory>(
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
}

/// How often the server has died of request `number`, by a lane's suspect.
fn deaths(suspect: u64, number: u64) -> u64 {
    if suspect >> 8 == number { suspect & 0xff } else { 0 }
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
