//! Consoles: the operator's terminal, the channel to the host's tool, the port that the log goes out by.

pub mod channel;
pub mod commands;
pub mod line;
pub mod log_port;
pub mod operator;
pub mod port;
pub mod serial;
pub mod uart;
