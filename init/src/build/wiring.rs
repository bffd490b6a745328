//! Who shares a channel with whom, and which bit of whose bell tells of it.
//!
//! The manifest names channels from both sides; here they get their numbers. Each end takes the next free bit of
//! its component's bell, in the manifest's order, so the bits are the same at every boot of the same manifest.

extern crate alloc;

use alloc::vec::Vec;

use proto::life::bell;

use crate::manifest::Manifest;

/// A channel: between which components, how large, told by which bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire<'a> {
    /// What is spoken on it.
    pub name: &'a str,
    /// The client's place in the manifest.
    pub client: usize,
    /// The server's.
    pub server: usize,
    /// log2 of the bytes of its rings.
    pub rings: u32,
    /// log2 of the bytes of its data.
    pub data: u32,
    /// The bit of the client's bell that the server signals.
    pub client_bit: u8,
    /// The bit of the server's bell that the client signals.
    pub server_bit: u8,
}

/// All channels of a manifest.
pub fn wires<'a>(manifest: &Manifest<'a>) -> Vec<Wire<'a>> {
    let mut bits = alloc::vec![bell::CHANNEL; manifest.components.len()];
    let mut next = |place: usize| {
        let bit = bits[place];
        bits[place] += 1;
        bit
    };
    let mut wires = Vec::new();
    for (client, entry) in manifest.components.iter().enumerate() {
        for wish in &entry.channels {
            let offered = manifest.components.iter().enumerate().find_map(|(server, entry)| {
                Some((server, entry.offers.iter().find(|offer| offer.name == wish.name)?))
            });
            // The manifest is sound, so what is wished for is offered.
            let Some((server, offer)) = offered else { continue };
            let (client_bit, server_bit) = (next(client), next(server));
            let (name, rings, data) = (wish.name, offer.rings, wish.data);
            wires.push(Wire { name, client, server, rings, data, client_bit, server_bit });
        }
    }
    wires
}

impl Wire<'_> {
    /// The component at the other end of it than `place`, if that has one of its ends.
    pub fn peer(&self, place: usize) -> Option<usize> {
        match place {
            _ if place == self.client => Some(self.server),
            _ if place == self.server => Some(self.client),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: &str = "component disk\n offers block rings 128K\n offers raw rings 4K\n\
                          component fs\n channel block 1M\n offers files rings 64K\n\
                          component storm\n channel block 4M\n channel files 16M\n channel raw 4K\n";

    #[test]
    fn every_client_has_a_channel_of_its_own_and_every_end_a_bit_of_its_own() {
        let manifest = Manifest::parse(SHARED).expect("sound");
        let wires = wires(&manifest);
        let ends: Vec<_> = wires.iter().map(|wire| (wire.name, wire.client, wire.server)).collect();
        assert_eq!(ends, [("block", 1, 0), ("block", 2, 0), ("files", 2, 1), ("raw", 2, 0)]);
        assert_eq!((wires[1].rings, wires[1].data), (17, 22));
        for place in 0..3 {
            let mut bits: Vec<u8> = wires
                .iter()
                .filter_map(|wire| match place {
                    _ if wire.client == place => Some(wire.client_bit),
                    _ if wire.server == place => Some(wire.server_bit),
                    _ => None,
                })
                .collect();
            bits.sort_unstable();
            assert_eq!(bits, (bell::CHANNEL..bell::CHANNEL + bits.len() as u8).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_peer_is_the_other_one() {
        let manifest = Manifest::parse(SHARED).expect("sound");
        let wire = wires(&manifest)[2];
        assert_eq!((wire.peer(1), wire.peer(2), wire.peer(0)), (Some(2), Some(1), None));
    }
}
