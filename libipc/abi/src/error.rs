//! The kernel's errors.

macro_rules! errors {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal,)*) => {
        /// Why a system call or invocation was refused. Nothing has changed when one is returned, except
        /// where the method's page says so.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Error { $($(#[doc = $doc])+ $name = $number,)* }

        impl Error {
            /// Every error.
            pub const ALL: &[Error] = &[$(Error::$name,)*];

            /// The error with this status word; `None` for 0 (success) and for numbers not assigned.
            pub const fn from_status(status: u64) -> Option<Error> {
                match status { $($number => Some(Error::$name),)* _ => None }
            }

            /// The name, as in this table.
            pub const fn name(self) -> &'static str {
                match self { $(Error::$name => stringify!($name),)* }
            }

            /// What it means, as in this table.
            pub const fn meaning(self) -> &'static str {
                match self { $(Error::$name => concat!($($doc,)+),)* }
            }
        }
    };
}

errors! {
    /// The slot is empty, or the number is beyond the CSpace.
    NoCapability = 1,
    /// The capability is for another kind of object.
    WrongKind = 2,
    /// The capability lacks the right.
    NoRights = 3,
    /// An argument is malformed, misaligned or contradicts another.
    InvalidArgument = 4,
    /// A number lies outside the range the object has.
    OutOfRange = 5,
    /// The destination slot is not empty.
    SlotOccupied = 6,
    /// The Untyped has too little room left.
    OutOfMemory = 7,
    /// The VSpace or IoSpace has no memory for tables or mapping records left: donate more.
    OutOfTables = 8,
    /// Something is mapped there already.
    AlreadyMapped = 9,
    /// Nothing is mapped there.
    NotMapped = 10,
    /// The one who should have answered died, or dropped the reply.
    PeerDied = 11,
    /// The deadline passed.
    TimedOut = 12,
    /// It would have to wait, and the call was a non-blocking one.
    WouldBlock = 13,
    /// The object waited on was destroyed, or the wait was broken off.
    Cancelled = 14,
    /// It is bound, in use or derived from already.
    Busy = 15,
    /// No such system call, or no such method on this kind of object.
    NoSuchMethod = 16,
    /// The thread lacks something it needs to run (VSpace, SchedContext, IPC buffer).
    NotConfigured = 17,
    /// There is nothing to answer: no caller waits on this reply.
    NoCaller = 18,
    /// The machine lacks the feature or the resource (an interrupt vector, a CPU).
    Unavailable = 19,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_word_names_its_error_and_zero_none() {
        for &error in Error::ALL {
            assert_eq!(Error::from_status(error as u64), Some(error));
        }
        assert_eq!(Error::from_status(0), None);
        assert_eq!(Error::from_status(u64::MAX), None);
    }
}
