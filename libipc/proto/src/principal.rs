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
//! | the one behind | the same component, of which the state Frame remembers what it asked | rises when the state Frame is emptied |
//! | from [`COMPONENTS`] on | free for other managers of clients | theirs |
//!
//! A component has two slots, because its questions may have to be asked again in its next life (`recover::relay`): what
//! a server keeps for them must outlive the life that asked first. With an empty state Frame it has asked nothing yet, so it is
//! another client then.

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

    /// The same component by its state Frame, which was emptied `emptied` times since boot.
    pub const fn of_state(place: u16, emptied: u32) -> Principal {
        Principal { slot: place * 2 + 1, generation: emptied as u64 + 1 }
    }

    /// Returns the present holder of a component's slot, by what init tells of the component at a place: its life, and how
    /// often its state Frame was emptied. `None` for all other slots, and for a component that has not lived yet.
    pub fn holder(
        slot: u16,
        life: impl FnOnce(u16) -> u32,
        emptied: impl FnOnce(u16) -> u32,
    ) -> Option<Principal> {
        let place = slot / 2;
        let holder = match slot {
            COMPONENTS.. => return None,
            _ if slot.is_multiple_of(2) => Principal::of_component(place, life(place)),
            _ => Principal::of_state(place, emptied(place)),
        };
        if holder.generation == 0 { None } else { Some(holder) }
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
    fn the_holder_of_a_components_slot_is_its_life_or_its_state() {
        let holder = |slot| {
            let tell = |word: u32| move |place| if place == 63 { word } else { 0 };
            Principal::holder(slot, tell(5), tell(2))
        };
        assert_eq!(holder(126), Some(Principal::of_component(63, 5)));
        assert_eq!(holder(127), Some(Principal::of_state(63, 2)));
        assert_eq!(holder(COMPONENTS), None, "another manager's");
        assert_eq!(holder(0), None, "it has not lived yet");
        assert_eq!(holder(1), Some(Principal { slot: 1, generation: 1 }), "its state was never emptied");
    }
}
