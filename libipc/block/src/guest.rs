//! The client in a component.

use core::sync::atomic::AtomicU64;

use rt::channel::{OpenError, Outside};
use rt::env;

use crate::blocking::Blocking;
use crate::client::Client;
use crate::data::Data;

/// The parts of a client of the channel called `name`.
pub fn open(name: &str) -> Result<(Client<'static, AtomicU64>, Outside, Data<'static>), OpenError> {
    let outside = Outside::of(name)?;
    let client = Client::new(outside.end.rings, env::life()).map_err(|_| OpenError::TooSmall)?;
    let data = Data::new(outside.end.data);
    Ok((client, outside, data))
}

/// The disk behind the channel called `name`, for who wants to wait for each transfer. Waits for its driver.
pub fn open_blocking(name: &str) -> Result<Blocking<'static, AtomicU64, Outside>, OpenError> {
    open(name).map(|(client, outside, data)| Blocking::new(client, outside, data))
}
