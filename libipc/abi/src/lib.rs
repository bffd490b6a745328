//! The kernel interface.
#![no_std]
