//! The table of tests.

use abi::Error;
use abi::table::{CallInfo, METHODS, SYSCALLS};

use crate::world::World;

/// What a test needs beyond one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// So many CPUs.
    Cpus(u64),
    /// The Frames of the kernel's log and of the trace rings.
    Records,
    /// Device memory.
    Device,
    /// An IOMMU.
    Iommu,
    /// An IOMMU, and QEMU's device for teaching, which does what it is told.
    Edu,
}

/// A test: a row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// Area and name, a promise as a sentence.
    pub name: &'static str,
    /// The promise in words.
    pub promise: &'static str,
    /// What it needs.
    pub need: Need,
    /// What it does.
    pub run: fn(&mut World),
}

/// A row: `row!("area", function, "promise")`, with what it needs after it.
#[macro_export]
macro_rules! row {
    ($area:literal, $run:ident, $promise:literal) => {
        row!($area, $run, $promise, $crate::table::Need::Nothing)
    };
    ($area:literal, $run:ident, $promise:literal, $need:expr) => {
        $crate::table::Test {
            name: concat!($area, ".", stringify!($run)),
            promise: $promise,
            need: $need,
            run: $run,
        }
    };
}

/// A documented error of a call, and how to provoke it.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// The system call or `Kind.method`.
    pub call: &'static str,
    /// The error.
    pub error: Error,
    /// What it needs.
    pub need: Need,
    /// Makes the call that ends with it.
    pub provoke: fn(&mut World) -> Result<(), Error>,
}

/// What the bench runs in a sandbox.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// A test.
    Test(fn(&mut World)),
    /// A call that must end with this error.
    Refusal(fn(&mut World) -> Result<(), Error>, Error),
}

impl Run {
    /// Runs it; a panic is a failure.
    pub fn perform(self, world: &mut World) {
        match self {
            Run::Test(run) => run(world),
            Run::Refusal(provoke, error) => assert_eq!(provoke(world), Err(error)),
        }
    }
}

/// Every area's tests.
pub const AREAS: &[&[Test]] = &[
    crate::ipc_tests::TESTS,
    crate::replies::TESTS,
    crate::notifications::TESTS,
    crate::capabilities::TESTS,
    crate::mapping::TESTS,
    crate::exceptions::TESTS,
    crate::faults::TESTS,
    crate::vectors::TESTS,
    crate::foreign::TESTS,
    crate::scheduling::TESTS,
    crate::loans::TESTS,
    crate::deadlines::TESTS,
    crate::system::TESTS,
    crate::components::TESTS,
    crate::smp::TESTS,
    crate::stops::TESTS,
    crate::latency::TESTS,
    crate::entries::TESTS,
    crate::privileges::TESTS,
    crate::devices::TESTS,
    crate::iommu::TESTS,
    crate::domains::TESTS,
    crate::bounces::TESTS,
];

/// Every documented error: its call, and how it is provoked (nobody having written that is a failure, too).
pub fn documented_errors() -> impl Iterator<Item = (&'static CallInfo, Error, Option<&'static Refusal>)> {
    SYSCALLS.iter().chain(METHODS).flat_map(|call| {
        call.errors.iter().map(move |&error| (call, error, crate::errors::find(call, error)))
    })
}
