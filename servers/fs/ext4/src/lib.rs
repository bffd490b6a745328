//! ext4 with a journal.
#![no_std]
#![forbid(unsafe_code)]
