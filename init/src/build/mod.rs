//! Building components: from a program and a manifest entry to threads, memory and capabilities.

pub mod component;
pub mod contents;
pub mod cspace;
pub mod device_memory;
pub mod durable;
pub mod elf;
pub mod equipment;
pub mod error;
pub mod functions;
pub mod image;
pub mod plan;
pub mod resources;
pub mod symbols;
pub mod wiring;
