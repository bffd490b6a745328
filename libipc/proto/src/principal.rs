//! Who calls: the badge of the capability that a request came by.
//!
//! A server's client is a *slot*, and each holder of a slot has a *generation* of its own, counted up from 1. Whoever
//! manages clients mints both into the badges of the endpoints that it gives out: init for components, later `process`
//! for Linux processes. No client chooses its badge, so a server believes it: a request of a later generation says that
//! the former holder of the slot is gone, and everything that the server keeps for it goes, too.
//!
//! ```text
//! badge    63          62 to 16     15 to 0
//!          stranger    generation   slot
//! ```
//!
//! | slots | whose | generation |
//! |---|---|---|
//! | twice its place in the manifest | a supervised component | its life ([`crate::life::lives`]) |
//! | the one behind | the same component, of which the state Frame remembers what it asked | of the state Frame |
//! | from [`COMPONENTS`] on | free for other managers of clients | theirs |
//!
//! A component has two slots, because its questions may have to be asked again in its next life (`recover::relay`): what
//! a server keeps for them must outlive the life that asked first.

/// The first slot that is no component's.
pub const COMPONENTS: u16 = 128;
/// The largest generation.
pub const MAX_GENERATION: u64 = (1 << 47) - 1;

const SLOT_BITS: u32 = 16;
const STRANGER: u64 = 1 << 63;

/// A client of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its slot.
    pub slot: u16,
    /// Which holder of the slot it is, from 1 on.
    pub generation: u64,
}

impl Principal {
    /// The component at `place` of the manifest, in its life `life`.
    pub const fn of_component(place: u16, life: u32) -> Principal {
        Principal { slot: place * 2, generation: life as u64 }
    }

    /// The same component by its state Frame, which was cleared `cleared` times since boot.
    pub const fn of_state(place: u16, cleared: u32) -> Principal {
        Principal { slot: place * 2 + 1, generation: cleared as u64 + 1 }
    }

    /// The place of the component whose lives are this slot's generations; `None` for all other slots.
    pub const fn place(slot: u16) -> Option<u16> {
        if slot < COMPONENTS && slot.is_multiple_of(2) { Some(slot / 2) } else { None }
    }

    /// The badge of its capabilities.
    pub const fn badge(self) -> u64 {
        self.generation << SLOT_BITS | self.slot as u64
    }

    /// Returns the principal with this badge, or `None` for a stranger's badge.
    #[inline]
    pub const fn from_badge(badge: u64) -> Option<Principal> {
        let principal = Principal { slot: badge as u16, generation: badge >> SLOT_BITS };
        let valid = badge & STRANGER == 0 && principal.generation != 0;
        if valid { Some(principal) } else { None }
    }
}

/// The name of the capability by which a component asks the server `name` in the name of its state Frame; `None` if the
/// name is too long.
pub fn durable_name(name: &str) -> Option<heapless::String<40>> {
    let mut durable = heapless::String::try_from(name).ok()?;
    durable.push_str("-durable").ok()?;
    Some(durable)
}

/// The badge of program number `number`, whose lives nobody tells apart: no principal.
pub const fn stranger(number: u32) -> u64 {
    STRANGER | number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badge_is_frozen_and_leads_back_to_its_principal() {
        let principal = Principal::of_component(7, 3);
        assert_eq!(principal.badge(), 0x3_000e);
        assert_eq!(Principal::of_state(7, 0).badge(), 0x1_000f);
        let last = Principal { slot: u16::MAX, generation: MAX_GENERATION };
        for each in [principal, last, Principal::of_state(63, 5)] {
            assert_eq!(Principal::from_badge(each.badge()), Some(each));
        }
    }

    #[test]
    fn badges_of_strangers_are_no_principals() {
        for badge in [0, 5, u64::from(u16::MAX), stranger(0), stranger(u32::MAX), u64::MAX] {
            assert_eq!(Principal::from_badge(badge), None, "{badge:#x}");
        }
    }

    #[test]
    fn a_slot_leads_to_the_component_whose_lives_it_counts() {
        assert_eq!(Principal::place(Principal::of_component(63, 1).slot), Some(63));
        assert_eq!(Principal::place(Principal::of_state(63, 1).slot), None);
        assert_eq!(Principal::place(COMPONENTS), None);
    }
}
