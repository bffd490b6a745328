//! The runtime of native programs.
//!
//! A program is a function named to [`entry!`]; init gives it its arguments, memory and capabilities in the
//! start block ([`env`]). This crate starts it, keeps its stack, heap ([`heap`]) and objects ([`memory`],
//! [`alloc`]), its threads ([`thread`]), its way to print, read and end ([`io`]), and turns a panic into a
//! crash that init reports ([`panic`]).
//!
//! A component that dies and comes back has more: what it shares with init and others is in [`life`], its ends
//! of channels in [`channel`], the loop of one that serves in [`work`]; who may look after others does so by [`control`].
//!
//! init itself, which nobody starts but the kernel, uses the same parts ([`root!`]).
#![cfg_attr(not(test), no_std)]

pub mod alloc;
pub mod channel;
pub mod clock;
pub mod control;
pub mod env;
pub mod heap;
pub mod inventory;
pub mod io;
pub mod life;
pub mod lock;
pub mod memory;
pub mod panic;
pub mod start;
pub mod thread;
pub mod work;

/// What only a program of its own needs and a test on the host has already. Programs are built without
/// unwinding, host tests with it.
#[cfg(panic = "abort")]
mod freestanding;

pub use io::exit;
