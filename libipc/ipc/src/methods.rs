//! The methods on objects, generated from `abi`'s table: for each kind of object a type that wraps a capability
//! pointer, with one function per method. A method without results returns `()`, one with one word that word,
//! others an array of words.

use core::mem::MaybeUninit;

use abi::object::Word;
use abi::{CPtr, Error, Kind, MapFlags, Rights, Syscall};

use crate::trap::{NO_WORDS, Returned, trap};

/// Calls the method `method` of the object behind `capability`: what the generated functions stand on, and for
/// those who call what the table does not have (tests).
#[inline(always)]
pub fn invoke<const N: usize>(capability: CPtr, method: u32, arguments: [u64; N]) -> Result<Returned, Error> {
    const { assert!(N <= NO_WORDS.len(), "more arguments than word registers") };
    let mut words = NO_WORDS;
    for (place, argument) in words.iter_mut().zip(arguments) {
        *place = MaybeUninit::new(argument);
    }
    trap(Syscall::invoke, capability.word(), u64::from(method), words).checked()
}

/// The results of a method, by their number.
trait Results {
    /// Takes them out of the registers.
    fn taken(returned: &Returned) -> Self;
}

impl Results for () {
    #[inline(always)]
    fn taken(_: &Returned) {}
}

impl Results for u64 {
    #[inline(always)]
    fn taken(returned: &Returned) -> u64 {
        returned.words[0]
    }
}

impl<const N: usize> Results for [u64; N] {
    #[inline(always)]
    fn taken(returned: &Returned) -> [u64; N] {
        core::array::from_fn(|at| returned.words[at])
    }
}

macro_rules! results {
    (0) => {
        ()
    };
    (1) => {
        u64
    };
    ($count:literal) => {
        [u64; $count]
    };
}

macro_rules! stubs {
    (
        syscalls { $($(#[doc = $sdoc:literal])+ $syscall:ident = $number:literal [$($serror:ident),*];)* }
        methods { $($kind:ident { $($(#[doc = $mdoc:literal])+ $method:ident = $id:tt
            ($($arg:ident: $type:ident),*) -> $results:tt [$($merror:ident),*];)* })* }
    ) => { $(
        #[doc = concat!("A capability for an object of kind ", stringify!($kind), ".")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $kind(pub CPtr);

        impl $kind { $(
            $(#[doc = $mdoc])+
            #[doc = ""]
            #[doc = concat!("Errors: NoCapability, WrongKind, NoRights", $(", ", stringify!($merror),)* ".")]
            #[inline(always)]
            #[allow(unused_parens, reason = "the type of a result may be in parentheses")]
            pub fn $method(self, $($arg: $type),*) -> Result<results!($results), Error> {
                let returned = invoke(self.0, $id, [$($arg.word()),*])?;
                Ok(<results!($results) as Results>::taken(&returned))
            }
        )* }
    )* };
}

abi::interface!(stubs);

/// What [`CNode::identify`] tells of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What the capability is for; `Kind::Null` for an empty slot.
    pub kind: Kind,
    /// log2 of the object's size.
    pub bits: u64,
    /// What the capability allows.
    pub rights: Rights,
    /// The badge, 0 for none.
    pub badge: u64,
    /// The same for the same object, 0 for an empty slot.
    pub identity: u64,
    /// Free bytes of an Untyped; of others whether capabilities are derived from it (0 or 1).
    pub free: u64,
}

impl CNode {
    /// [`CNode::identify`], with names.
    pub fn describe(self, slot: u64) -> Result<Identity, Error> {
        let [kind, bits, rights, badge, identity, free] = self.identify(slot)?;
        let kind = Kind::from_word(kind).unwrap_or(Kind::Null);
        Ok(Identity { kind, bits, rights: Rights(rights as u8), badge, identity, free })
    }
}
