//! Servers with state and their clients in the guest: endpoints, state Frames, init's orders.

use core::sync::atomic::AtomicU64;

use abi::{CPtr, Error};
use ipc::serve::Serve;
use ipc::{Message, Received};
use proto::life::bell;
use proto::principal::{Principal, durable_name};
use rt::alloc::AllocError;
use rt::{env, life, memory};

use crate::caller::{Caller, Link};
use crate::server::{Extra, Layout, Life, Request, Server, Service, View};
use crate::state::BadState;

/// The state of a component, as its memory has it.
pub type Words = &'static [AtomicU64];

/// Why a component cannot serve, or not call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoService {
    /// The manifest gives it no `state`.
    NoState,
    /// Its state is of no use.
    State(BadState),
    /// Something it needs could not be had.
    Alloc(AllocError),
    /// It does not receive from its endpoint.
    Kernel(Error),
    /// The manifest does not let it call this.
    NoEndpoint,
    /// It is not supervised: its lives are not told apart, so nothing that it asks could be known to be repeated.
    NotSupervised,
}

impl From<AllocError> for NoService {
    fn from(error: AllocError) -> NoService {
        NoService::Alloc(error)
    }
}

impl From<BadState> for NoService {
    fn from(error: BadState) -> NoService {
        NoService::State(error)
    }
}

impl core::fmt::Display for NoService {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        match self {
            NoService::NoState => f.write_str("the manifest gives this component no `state`"),
            NoService::State(error) => error.fmt(f),
            NoService::Alloc(error) => error.fmt(f),
            NoService::Kernel(error) => f.write_str(error.meaning().trim_start()),
            NoService::NoEndpoint => f.write_str("the manifest does not let this component call that"),
            NoService::NotSupervised => f.write_str("init does not tell this component's lives apart"),
        }
    }
}

/// The component's state frame, mapped.
pub fn state() -> Result<Words, NoService> {
    let frame = env::state().ok_or(NoService::NoState)?;
    Ok(memory::map_words(CPtr(frame.slot), u32::from(frame.bits))?)
}

/// The life that the component is in.
pub fn this_life() -> Life {
    Life { number: env::life(), faults: life::faults_of(env::place()) }
}

/// The server whose state lies in the component's state frame.
pub fn open<S: Service>(layout: Layout, service: S) -> Result<Server<Words, S>, NoService> {
    Ok(Server::open(state()?, layout, this_life(), service)?)
}

/// Returns the generation of a slot's holder, where the slot is a component's.
fn generation(slot: u16) -> Option<u64> {
    let life = |place| life::life_of(usize::from(place));
    let emptied = |place| life::emptied_of(usize::from(place));
    Principal::holder(slot, life, emptied).map(|holder| holder.generation)
}

/// Serves the endpoint that the manifest calls `name`, as long as the component lives: one transaction for each
/// request, answered when it is committed.
pub fn serve<S: Service>(name: &str, server: &mut Server<Words, S>) -> NoService {
    serve_then(name, server, |_| {})
}

/// The same, with something to be done between each commit and its answer: a heap's `end`, bells to be rung. It sees
/// the service's words.
pub fn serve_then<S: Service>(
    name: &str,
    server: &mut Server<Words, S>,
    then: impl FnMut(&View<Words>),
) -> NoService {
    if let Err(error) = life::bind_bell() {
        return NoService::Alloc(error);
    }
    server.sweep(generation);
    life::ready();
    NoService::Kernel(ipc::serve::serve(env::required(name), &mut Loop { server, then }))
}

struct Loop<'s, S, T> {
    server: &'s mut Server<Words, S>,
    then: T,
}

impl<S: Service, T: FnMut(&View<Words>)> Serve for Loop<'_, S, T> {
    fn message(&mut self, received: &Received) -> Option<Message> {
        let mut words = Extra::new();
        take(&received.message, &mut words);
        life::begun();
        let request = Request { badge: received.badge, message: received.message, extra: &words };
        let mut extra = Extra::new();
        let answer = self.server.serve(&request, &mut extra);
        (self.then)(&self.server.view());
        life::served();
        Some(put(answer, &extra))
    }

    fn notified(&mut self, bits: u64) {
        if bits & 1 << bell::ORDERS != 0 {
            life::beat();
        }
        if bits & 1 << bell::LIVES != 0 {
            self.server.sweep(generation);
        }
    }
}

/// Puts a message's further words into the IPC buffer.
fn put(message: Message, extra: &[u64]) -> Message {
    for (place, word) in ipc::buffer().words.iter().zip(extra) {
        place.set(*word);
    }
    message.with(extra.len(), 0)
}

/// Takes them from there.
fn take(message: &Message, extra: &mut Extra) {
    // No message has more words than there is room for.
    extra.extend(ipc::buffer().words.iter().take(message.info.extra()).map(|word| word.get()));
}

/// A server's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint(pub CPtr);

impl Link for Endpoint {
    fn call(&mut self, message: Message, extra: &[u64], answer: &mut Extra) -> Result<Message, Error> {
        let message = ipc::call(self.0, put(message, extra))?;
        take(&message, answer);
        Ok(message)
    }
}

/// A lane to the server that the manifest calls `name`. Each thread has its own.
pub fn caller(name: &str, lane: u16) -> Result<Caller<Endpoint>, NoService> {
    let endpoint = env::capability(name).ok_or(NoService::NoEndpoint)?;
    if !life::is_supervised() {
        return Err(NoService::NotSupervised);
    }
    Ok(Caller::new(Endpoint(endpoint), lane))
}

/// The way to the server that the manifest calls `name`, for what this component asks in the name of its state Frame
/// ([`crate::relay`]): the other server knows it over all of its lives.
pub fn durable_link(name: &str) -> Result<Endpoint, NoService> {
    durable_name(name).as_deref().and_then(env::capability).map(Endpoint).ok_or(NoService::NoEndpoint)
}
