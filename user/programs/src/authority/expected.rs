//! What the manifest says that a component holds.
//!
//! This is worked out from the manifest alone, by another way than init's own: what both have in common is the reader of
//! the manifest and the numbers of channels.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use abi::{Kind, Rights};
use init::build::equipment::PCI_BIT;
use init::build::wiring::Wire;
use init::manifest::{Entry, Manifest, Right};
use proto::principal::{self, Principal};
use proto::start::names;

/// A capability that a component is to hold.
pub struct Expected {
    /// The kind of the object.
    pub kind: Kind,
    /// The name in its start block, or nothing.
    pub name: String,
    /// The rights, no more and no less.
    pub rights: Rights,
    /// The badge.
    pub badge: u64,
    /// log2 of the object's size, where the manifest says it.
    pub bits: Option<u32>,
    /// What the object is, where several components have it or might.
    pub object: Option<Object>,
    /// It depends on the machine, or on what the component has done with it.
    pub may_be_missing: bool,
}

/// What an object is.
#[derive(Clone, PartialEq, Eq)]
pub enum Object {
    /// init's Endpoint.
    Init,
    /// A served Endpoint.
    Served(String),
    /// The bell of the component at this place.
    Bell(usize),
    /// The state of the component at this place.
    State(usize),
    /// The rings of channel NAME of the client at this place.
    Rings(String, usize),
    /// Its data.
    Data(String, usize),
}

const READ_WRITE: Rights = Rights(Rights::READ.0 | Rights::WRITE.0);
const CALL: Rights = Rights(Rights::WRITE.0 | Rights::GRANT.0);
/// Bit of a badge that fault handlers have.
const FAULT: u64 = 1 << 32;
/// The highest priority that may be given out.
const CEILING: u64 = 254;

impl Expected {
    fn new(kind: Kind, name: &str, rights: Rights, badge: u64) -> Expected {
        Expected { kind, name: name.into(), rights, badge, bits: None, object: None, may_be_missing: false }
    }

    fn object(self, object: Object) -> Expected {
        Expected { object: Some(object), ..self }
    }

    fn bits(self, bits: u32) -> Expected {
        Expected { bits: Some(bits), ..self }
    }

    fn maybe(self) -> Expected {
        Expected { may_be_missing: true, ..self }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{} `{}` with rights {:#x}, badge {:#x}",
            self.kind.name(),
            self.name,
            self.rights.0,
            self.badge
        )
    }
}

/// What is told of a component that runs.
pub struct Told {
    /// Its place in the manifest.
    pub place: usize,
    /// The number that init knows it by.
    pub number: u64,
    /// Its life.
    pub life: u64,
    /// How often its state was emptied.
    pub emptied: u32,
}

/// What a component is to hold.
pub fn of(manifest: &Manifest, wires: &[Wire], told: &Told) -> Vec<Expected> {
    let &Told { place, number, life, emptied } = told;
    let entry = &manifest.components[place];
    let mut all = own(entry, number);
    rights(entry, &mut all);
    let client = match entry.is_supervised() {
        true => Principal::of_component(place as u16, life as u32).badge(),
        false => principal::stranger(number as u32),
    };
    endpoints(entry, client, Principal::of_state(place as u16, emptied).badge(), &mut all);
    if let Some(bits) = entry.durable {
        // The component can make objects of it and move it, so it is where that has left it.
        all.push(Expected::new(Kind::Untyped, names::DURABLE, Rights::ALL, 0).bits(bits).maybe());
    }
    if entry.is_supervised() {
        all.push(Expected::new(Kind::Notification, names::BELL, Rights::READ, 0).object(Object::Bell(place)));
    }
    if let Some(bits) = entry.state {
        let state = Expected::new(Kind::Frame, names::STATE, READ_WRITE, 0).bits(bits);
        all.push(state.object(Object::State(place)));
    }
    for wire in wires {
        channel(wire, place, &mut all);
    }
    devices(manifest, entry, &mut all);
    all
}

/// What every component has over itself.
fn own(entry: &Entry, number: u64) -> Vec<Expected> {
    let cspace = if reaches_hardware(entry) { Rights::ALL } else { Rights::ALL.without(Rights::PHYSICAL) };
    Vec::from([
        Expected::new(Kind::CNode, names::CNODE, cspace, 0),
        Expected::new(Kind::VSpace, names::VSPACE, Rights::ALL, 0),
        Expected::new(Kind::Tcb, names::TCB, Rights::ALL, 0),
        Expected::new(Kind::Endpoint, names::INIT, CALL, number).object(Object::Init),
        Expected::new(Kind::Endpoint, names::FAULT, CALL, number | FAULT).object(Object::Init),
        Expected::new(Kind::Notification, names::READY, Rights::READ, 0),
    ])
}

/// Returns true if the component may be told physical addresses: it has a device, or a right over hardware.
fn reaches_hardware(entry: &Entry) -> bool {
    let over_hardware = |right: &Right| match right {
        Right::IrqControl | Right::IoControl | Right::System | Right::DeviceMemory | Right::Pci => true,
        Right::SchedControl | Right::IoPorts | Right::Inventory => false,
        Right::Control | Right::Supervise | Right::Trace => false,
    };
    entry.device.is_some() || entry.holds.iter().any(over_hardware)
}

fn rights(entry: &Entry, all: &mut Vec<Expected>) {
    for right in &entry.holds {
        let (kind, rights, badge) = match right {
            Right::SchedControl => (Kind::SchedControl, Rights::ALL, CEILING),
            Right::IrqControl => (Kind::IrqControl, Rights::ALL, 0),
            Right::IoControl => (Kind::IoControl, Rights::ALL, 0),
            Right::IoPorts => (Kind::IoPort, Rights::ALL, 0xffff_0000),
            Right::System => (Kind::System, Rights::ALL, 0),
            Right::Trace => (Kind::Frame, Rights::READ, 0),
            Right::DeviceMemory => (Kind::Untyped, Rights::ALL, 0),
            Right::Inventory | Right::Control | Right::Supervise | Right::Pci => continue,
        };
        all.push(Expected::new(kind, right.name(), rights, badge));
    }
    for (first, last) in &entry.ports {
        let badge = u64::from(*first) | u64::from(*last) << 16;
        all.push(Expected::new(Kind::IoPort, &format!("ports-{first:#x}"), Rights::ALL, badge));
    }
    for irq in &entry.irqs {
        all.push(Expected::new(Kind::IrqHandler, &format!("irq-{irq}"), Rights::ALL, 0));
    }
}

/// `client` and `durable` are the badges of the component, and of its state Frame, as a client of servers.
fn endpoints(entry: &Entry, client: u64, durable: u64, all: &mut Vec<Expected>) {
    let endpoint = |name: &str, server: &str, rights, badge| {
        Expected::new(Kind::Endpoint, name, rights, badge).object(Object::Served(server.to_string()))
    };
    all.extend(entry.serves.iter().map(|name| endpoint(name, name, Rights::READ, 0)));
    for name in &entry.calls {
        all.push(endpoint(name, name, CALL, client));
        if let Some(name_of_durable) = entry.state.and_then(|_| principal::durable_name(name)) {
            all.push(endpoint(&name_of_durable, name, CALL, durable));
        }
    }
}

fn channel(wire: &Wire, place: usize, all: &mut Vec<Expected>) {
    let (peer, bit) = match place {
        _ if place == wire.client => (wire.server, wire.server_bit),
        _ if place == wire.server => (wire.client, wire.client_bit),
        _ => return,
    };
    let frame = |bits| Expected::new(Kind::Frame, "", READ_WRITE, 0).bits(bits);
    all.push(frame(wire.rings).object(Object::Rings(wire.name.to_string(), wire.client)));
    all.push(frame(wire.data).object(Object::Data(wire.name.to_string(), wire.client)));
    all.push(Expected::new(Kind::Notification, "", Rights::WRITE, 1 << bit).object(Object::Bell(peer)));
}

/// What `pci` and drivers have. How many Frames of registers those are is the device's affair, so all may be missing.
fn devices(manifest: &Manifest, entry: &Entry, all: &mut Vec<Expected>) {
    let registers = || Expected::new(Kind::Frame, "", READ_WRITE, 0).maybe();
    if entry.holds.contains(&Right::Pci) {
        all.push(Expected::new(Kind::Frame, "ecam", READ_WRITE, 0).maybe());
        all.push(Expected::new(Kind::Frame, "pci-table", READ_WRITE, 0).bits(15));
        all.push(Expected::new(Kind::Frame, "pci-orders", Rights::READ, 0).bits(14));
        all.push(Expected::new(Kind::Notification, "init-bell", Rights::WRITE, 1 << PCI_BIT));
        let drivers = manifest.components.iter().filter(|each| each.device.is_some()).count();
        all.extend((0..2 * drivers).map(|_| registers()));
    }
    if let Some(device) = entry.device {
        all.extend((0..6).map(|_| registers()));
        all.push(Expected::new(Kind::IoSpace, "", READ_WRITE, 0).maybe());
        all.extend((0..device.vectors).map(|_| Expected::new(Kind::IrqHandler, "", Rights::WRITE, 0)));
    }
}
