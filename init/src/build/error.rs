//! Why a component was not built.

use core::fmt;

use abi::Error;
use rt::alloc::AllocError;

use crate::build::elf::BadProgram;

/// Why a component was not built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// Its program is none.
    Program(BadProgram),
    /// Its memory budget is too small: bytes it needs before it runs.
    Budget(u64),
    /// The arguments are too long.
    Arguments,
    /// Its CPU does not run.
    Cpu(u32),
    /// Its budget of processor time is refused.
    Time,
    /// Something it is to have could not be had: what, and why.
    Grant(&'static str, Error),
    /// init is short of something.
    Alloc(AllocError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            BuildError::Program(bad) => write!(f, "its program cannot be loaded: {bad}"),
            BuildError::Budget(needed) => {
                write!(f, "its memory budget is too small: it needs {} KiB to start", needed.div_ceil(1024))
            }
            BuildError::Arguments => f.write_str("the arguments are too long"),
            BuildError::Cpu(cpu) => write!(f, "the machine has no CPU {cpu}"),
            BuildError::Time => f.write_str("the kernel refuses its budget of processor time"),
            BuildError::Grant(what, error) => {
                write!(f, "it cannot be given {what}:{}", error.meaning().trim_end_matches('.'))
            }
            BuildError::Alloc(error) => write!(f, "{error}"),
        }
    }
}

impl From<AllocError> for BuildError {
    fn from(error: AllocError) -> BuildError {
        BuildError::Alloc(error)
    }
}

impl From<Error> for BuildError {
    fn from(error: Error) -> BuildError {
        BuildError::Alloc(AllocError::Kernel(error))
    }
}
