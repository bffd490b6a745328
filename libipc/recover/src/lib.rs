//! What servers that die and come back stand on.
//!
//! The rule: a component can be killed between any two instructions, and nothing it has acknowledged is lost, doubled
//! or half done. `docs/recovery.md` says how that is so, step by step, and how a server is written.
//!
//! - [`state`]: words that outlive the server and change by transactions, committed by one store.
//! - [`sessions`]: which requests have taken effect and how they were answered; requests that kill.
//! - [`server`]: the loop over both, for a service that knows of neither.
//! - [`relay`] and [`intent`]: what a server asks of others for its clients.
//! - [`caller`]: the client's side.
//! - [`readiness`]: how a client waits without a kept reply.
//! - [`objects`]: pages of durable memory that a new life finds again by their keys.
//! - [`undo`]: a heap that outlives the server.
//! - `guest`: all of it on the kernel's endpoints, and `pager`, which notices first writes (feature `guest`).
//! - `mortal`: memory that dies, for tests on the host (feature `mortal`).
//!
//! All else is logic over a [`Memory`] of words, so that the tests kill it after every single store.
#![no_std]
#![forbid(unsafe_code)]

pub mod caller;
#[cfg(feature = "guest")]
pub mod guest;
pub mod intent;
mod memory;
#[cfg(feature = "mortal")]
pub mod mortal;
pub mod objects;
#[cfg(feature = "guest")]
pub mod pager;
mod pool;
pub mod readiness;
pub mod relay;
pub mod server;
pub mod sessions;
pub mod state;
pub mod undo;

pub use caller::{CallError, Caller, Link};
pub use intent::Ask;
pub use memory::Memory;
pub use relay::Relay;
pub use server::{Extra, Layout, Life, Ready, Request, Retired, Server, Service, View, Work};
pub use state::{BadState, JournalFull};
