//! The loop of a server that asks another one for its clients.
//!
//! A request takes two transactions: one that logs the question ([`crate::intent`]), and one that stores the answer
//! to the client with what follows of the other's answer. Killed between the two, the server asks again under the
//! same number, and the other one answers from what it has stored.

use ipc::{Error, Message};
use proto::once::Refusal;

use crate::Memory;
use crate::caller::Link;
use crate::intent::Ask;
use crate::server::{Extra, Request, Server, Service, Work};
use crate::sessions::Ticket;
use crate::state::JournalFull;

/// A service that asks another server for some of its requests.
pub trait Relay: Service {
    /// Begins a request: what is to be asked for it, or `None` if [`Service::work`] serves it alone. What this does to
    /// `words` is committed before the question goes out, and not undone by the answer.
    fn ask<M: Memory>(&self, words: &mut Work<M>, request: &Request) -> Result<Option<Ask>, JournalFull>;

    /// Ends it. The answer may be a refusal (`proto::once::Refusal`). `request` has no words beside those in
    /// registers any more. What this does takes effect together with the answer to the client.
    fn answered<M: Memory>(
        &self,
        words: &mut Work<M>,
        request: &Request,
        answer: &Message,
    ) -> Result<Message, JournalFull>;
}

impl<M: Memory, S: Relay> Server<M, S> {
    /// As [`Self::serve`], of a service that asks another server over `link`. An error of the link's leaves what was
    /// asked under way; the next request begins with it.
    pub fn serve_relayed(
        &mut self,
        request: &Request,
        extra: &mut Extra,
        link: &mut impl Link,
    ) -> Result<Message, Error> {
        if self.service.only_looks(request.message.label()) {
            return Ok(self.serve(request, extra));
        }
        self.resume(link)?;
        match self.known(request) {
            Ok(ticket) if !self.sessions.is_poison(&self.state, ticket) => {
                match self.begin(request, ticket) {
                    Ok(true) => {
                        self.state.commit();
                        self.finish(link)
                    }
                    // Nothing is to be asked.
                    Ok(false) => Ok(self.serve(request, extra)),
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

    /// Goes on with what is under way: to be done in each new life, whether its client asks again or not.
    pub fn resume(&mut self, link: &mut impl Link) -> Result<(), Error> {
        if self.intent.is_under_way(&self.state) { self.finish(link).map(|_| ()) } else { Ok(()) }
    }

    /// Whether something is to be asked for the request; it is logged then.
    fn begin(&mut self, request: &Request, ticket: Ticket) -> Result<bool, JournalFull> {
        let before = self.state.position();
        self.sessions.begin(&mut self.state, ticket);
        let ask = self.service.ask(&mut Work { state: &mut self.state, first: self.own }, request);
        let logged = ask.and_then(|ask| match ask {
            Some(ask) => self.intent.log(&mut self.state, self.life, request, &ask).map(|()| true),
            None => Ok(false),
        });
        self.sessions.end(&mut self.state);
        if logged != Ok(true) {
            self.state.undo_to(before);
        }
        logged
    }

    /// Asks what is logged, as often as it takes, and answers the client.
    fn finish(&mut self, link: &mut impl Link) -> Result<Message, Error> {
        let asked = self.intent.message(&self.state);
        let answer = loop {
            match link.call(asked, &[], &mut Extra::new()) {
                Err(Error::PeerDied) => {}
                answer => break answer?,
            }
        };
        let (badge, message) = self.intent.request(&self.state);
        let ended = self.end(&Request { badge, message, extra: &[] }, &answer);
        self.state.commit();
        Ok(ended)
    }

    /// Lets the other's answer take effect, with the answer to the client, and nothing be under way any more.
    fn end(&mut self, request: &Request, answer: &Message) -> Message {
        // It is the next of its lane: nothing else was served since it was logged.
        let ended = match self.known(request) {
            Ok(ticket) if self.sessions.is_poison(&self.state, ticket) => {
                self.refuse_for_good(ticket, Refusal::Poison)
            }
            Ok(ticket) => self.answer_relayed(request, ticket, answer),
            Err(ended) => ended,
        };
        let used = Refusal::from_label(answer.label()).is_none_or(Refusal::uses_number);
        // Two words, for which the journal has room beside the service's (`Layout::shape`).
        let _ = self.intent.end(&mut self.state, used);
        ended
    }

    fn answer_relayed(&mut self, request: &Request, ticket: Ticket, answer: &Message) -> Message {
        let before = self.state.position();
        self.sessions.begin(&mut self.state, ticket);
        let mut work = Work { state: &mut self.state, first: self.own };
        let ended = self.service.answered(&mut work, request, answer);
        self.sessions.end(&mut self.state);
        let stored =
            ended.and_then(|ended| self.sessions.answer(&mut self.state, ticket, &ended).map(|()| ended));
        stored.unwrap_or_else(|JournalFull| {
            self.state.undo_to(before);
            self.refuse_for_good(ticket, Refusal::TooLarge)
        })
    }
}
