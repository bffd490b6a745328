//! The loop of a server that asks other ones for its clients.
//!
//! A request takes two transactions: one that logs the question ([`crate::intent`]), and one that stores the answer
//! to the client with what follows of the other's answer. Killed between the two, the server asks again under the
//! same number, and the other one answers from what it has stored. So the server asks in its own name over all of its
//! lives (`guest::durable_link`), not in that of one life.

use ipc::{Error, Message};
use proto::once::Refusal;

use crate::Memory;
use crate::caller::Link;
use crate::intent::Ask;
use crate::server::{Extra, Request, Server, Service, Work, refuse, words};
use crate::sessions::Ticket;
use crate::state::JournalFull;

/// A service that asks other servers for some of its requests.
pub trait Relay: Service {
    /// Begins a request: what is to be asked for it, or `None` if [`Service::work`] serves it alone. What this does to
    /// `words` is committed before the question goes out, and not undone by the answer.
    fn ask<M: Memory>(&self, words: &mut Work<M>, request: &Request) -> Result<Option<Ask>, JournalFull>;

    /// Ends it. The answer may be a refusal (`proto::once::Refusal`). `request` has no words beside those in
    /// registers any more. What this does takes effect together with the answer to the client. It changes no more words
    /// than the question had announced ([`Ask::changes`]): the other server has acted, and cannot be asked to take it
    /// back.
    fn answered<M: Memory>(
        &self,
        words: &mut Work<M>,
        request: &Request,
        answer: &Message,
    ) -> Result<Message, JournalFull>;
}

impl<M: Memory, S: Relay> Server<M, S> {
    /// As [`Self::serve`], of a service that asks the servers behind `links`. An error of a link leaves what was asked
    /// under way; the next request begins with it.
    pub fn serve_relayed<L: Link>(
        &mut self,
        request: &Request,
        extra: &mut Extra,
        links: &mut [L],
    ) -> Result<Message, Error> {
        if self.service.only_looks(request.message.label()) {
            return Ok(self.serve(request, extra));
        }
        self.resume(links)?;
        match self.known(request) {
            Ok(ticket) if !self.sessions.is_poison(&self.state, ticket) => {
                match self.begin(request, ticket) {
                    Ok(Begun::Asks) => {
                        self.state.commit();
                        self.finish(links)
                    }
                    Ok(Begun::Alone) => Ok(self.serve(request, extra)),
                    Err(JournalFull) => {
                        let refused = self.refuse_for_good(ticket, Refusal::TooLarge);
                        self.state.commit();
                        Ok(refused)
                    }
                }
            }
            _ => Ok(self.serve(request, extra)),
        }
    }

    /// Goes on with what is under way: to be done in each new life, whether its client asks again or not, and before
    /// [`Self::sweep`].
    pub fn resume<L: Link>(&mut self, links: &mut [L]) -> Result<(), Error> {
        if self.is_asking() { self.finish(links).map(|_| ()) } else { Ok(()) }
    }

    /// Logs what is to be asked for the request.
    fn begin(&mut self, request: &Request, ticket: Ticket) -> Result<Begun, JournalFull> {
        let before = self.state.position();
        self.sessions.begin(&mut self.state, ticket);
        let ask = self.service.ask(&mut words(&mut self.state, self.layout), request);
        let logged = ask.and_then(|ask| match ask {
            // From the question on there is no way back, so this is the last moment to find that out.
            Some(ask) if ask.changes > self.layout.journal => Err(JournalFull),
            Some(ask) => self.intent.log(&mut self.state, request, &ask).map(|()| Begun::Asks),
            None => Ok(Begun::Alone),
        });
        self.sessions.end(&mut self.state);
        if logged != Ok(Begun::Asks) {
            self.state.undo_to(before);
        }
        logged
    }

    /// Asks what is logged, as often as it takes, and answers the client.
    fn finish<L: Link>(&mut self, links: &mut [L]) -> Result<Message, Error> {
        let Some(server) = self.intent.under_way(&self.state) else { return Err(Error::NoCaller) };
        let asked = self.intent.message(&self.state, server);
        let link = links.get_mut(server).ok_or(Error::NoCapability)?;
        let answer = loop {
            match link.call(asked, &[], &mut Extra::new()) {
                Err(Error::PeerDied) => {}
                answer => break answer?,
            }
        };
        let (badge, message) = self.intent.request(&self.state);
        let ended = self.end(&Request { badge, message, extra: &[] }, server, &answer);
        self.state.commit();
        Ok(ended)
    }

    /// Lets the other's answer take effect, with the answer to the client, and nothing be under way any more.
    fn end(&mut self, request: &Request, server: usize, answer: &Message) -> Message {
        // It is the next of its lane: nothing else was served since it was logged, and no slot has changed hands.
        let ended = match self.known(request) {
            // The other server has acted, so this is not the refusal of a request that was never begun.
            Ok(ticket) if self.sessions.is_poison(&self.state, ticket) => {
                self.refuse_for_good(ticket, Refusal::HalfDone)
            }
            Ok(ticket) => self.answer_relayed(request, ticket, answer),
            Err(_) => refuse(Refusal::HalfDone),
        };
        let used = Refusal::from_label(answer.label()).is_none_or(Refusal::uses_number);
        // Two words, for which the journal has room beside the service's (`Layout::shape`).
        let _ = self.intent.end(&mut self.state, server, used);
        ended
    }

    fn answer_relayed(&mut self, request: &Request, ticket: Ticket, answer: &Message) -> Message {
        let before = self.state.position();
        self.sessions.begin(&mut self.state, ticket);
        let ended = self.service.answered(&mut words(&mut self.state, self.layout), request, answer);
        self.sessions.end(&mut self.state);
        let stored =
            ended.and_then(|ended| self.sessions.answer(&mut self.state, ticket, &ended).map(|()| ended));
        stored.unwrap_or_else(|JournalFull| {
            self.state.undo_to(before);
            self.refuse_for_good(ticket, Refusal::HalfDone)
        })
    }
}

/// What the beginning of a request has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// Another server is to be asked.
    Asks,
    /// Nothing is to be asked.
    Alone,
}
