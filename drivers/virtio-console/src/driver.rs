//! Ports and lines, brought together by their names.

use heapless::Vec;
use proto::life::bell;
use proto::start::MAX_CHANNELS;
use ring::Corrupt;
use rt::work::{Work, World};
use virtio::{DeviceError, Registers};

use crate::console::{Console, Known, vectors};
use crate::line::Line;
use crate::port::{OUT, Port};

/// The bell's bit for changes of the configuration.
const CONFIG: u64 = 1 << (bell::IRQ + vectors::CONFIG as u8);

/// Lines, at most.
pub type Lines<'m> = Vec<Line<'m>, MAX_CHANNELS>;

/// The driver.
#[derive(Debug)]
pub struct Driver<'m, R> {
    console: Console<'m, R>,
    lines: Lines<'m>,
}

impl<R: Registers> Work for Driver<'_, R> {
    type Error = DeviceError;

    fn rung(&mut self, bits: u64, _: &mut impl World) -> Result<(), DeviceError> {
        if bits & CONFIG == 0 { Ok(()) } else { self.console.look() }
    }

    fn turn(&mut self, world: &mut impl World) -> Result<bool, DeviceError> {
        for (at, line) in self.lines.iter_mut().enumerate() {
            if line.meet(world.life(at)) {
                world.ring(at);
            }
        }
        self.console.awake();
        // What came in from a port before it went away is passed on; to one that has gone away nothing is sent.
        self.pass(world, pass_in)?;
        if self.console.hear()? {
            self.open_ports(world);
        }
        self.pass(world, pass_in)?;
        self.pass(world, pass_out)?;
        self.console.notify()?;
        for (at, line) in self.lines.iter_mut().enumerate() {
            if line.publish() {
                world.ring(at);
            }
        }
        let asleep = self.console.sleep();
        Ok(self.lines_sleep() && asleep)
    }
}

impl<'m, R: Registers> Driver<'m, R> {
    /// The driver of a console whose ports are for these lines.
    pub fn new(console: Console<'m, R>, lines: Lines<'m>) -> Driver<'m, R> {
        Driver { console, lines }
    }

    /// Messages of the device that made no sense.
    pub fn nonsense(&self) -> u64 {
        self.console.nonsense()
    }

    /// Tells the device which ports are used, and the lines who is there.
    fn open_ports(&mut self, world: &mut impl World) {
        for (at, line) in self.lines.iter_mut().enumerate() {
            let port = port_of(&mut self.console.ports, line);
            let open = port.is_some_and(|(_, known)| {
                known.open();
                known.is_open()
            });
            if line.set_open(open) {
                world.ring(at);
            }
        }
    }

    fn pass<W: World>(&mut self, world: &mut W, way: Way<W>) -> Result<(), DeviceError> {
        for (port, _) in &mut self.console.ports {
            port.look()?;
        }
        for (at, line) in self.lines.iter_mut().enumerate() {
            let Some((port, known)) = port_of(&mut self.console.ports, line) else { continue };
            if way(port, known, line, world).is_err() {
                line.break_off();
                world.accuse(at, line.life(), 0);
            }
        }
        Ok(())
    }

    fn lines_sleep(&mut self) -> bool {
        let mut asleep = true;
        for line in &mut self.lines {
            let Some((port, known)) = port_of(&mut self.console.ports, line) else { continue };
            // What makes no sense is found out by the next turn.
            asleep &= line_sleeps(port, known, line).unwrap_or(false);
        }
        asleep
    }
}

/// The port that a line is for: the first of its name.
fn port_of<'p, 'm>(ports: &'p mut [(Port<'m>, Known)], line: &Line) -> Option<&'p mut (Port<'m>, Known)> {
    ports.iter_mut().find(|(_, known)| known.name().is_some_and(|port| is_name_of(port, line.name())))
}

/// A channel is named like its port; but where that has a dot, which names of channels cannot have, it has a dash.
fn is_name_of(port: &[u8], channel: &str) -> bool {
    port.iter().map(|byte| if *byte == b'.' { b'-' } else { *byte }).eq(channel.bytes())
}

/// A way that bytes go, between a port and its line.
type Way<W> = fn(&mut Port, &Known, &mut Line, &mut W) -> Result<(), Corrupt>;

fn pass_in(port: &mut Port, _: &Known, line: &mut Line, world: &mut impl World) -> Result<(), Corrupt> {
    let mut place = [0; OUT];
    while line.is_together() && port.has_received() {
        world.begun();
        let count = line.pass_on(port.peek(&mut place))?;
        if count == 0 {
            break;
        }
        port.take(count);
        world.served();
    }
    Ok(())
}

fn pass_out(port: &mut Port, known: &Known, line: &mut Line, world: &mut impl World) -> Result<(), Corrupt> {
    if let Some(count) = port.sent() {
        line.sent(count);
        world.served();
    }
    if !known.is_open() || port.is_sending() {
        return Ok(());
    }
    let mut place = [0; OUT];
    let bytes = line.to_send(&mut place)?;
    if !bytes.is_empty() {
        world.begun();
        port.send(bytes);
    }
    Ok(())
}

/// Asks a client for what the port waits for, which is nothing while the device is at work.
fn line_sleeps(port: &Port, known: &Known, line: &mut Line) -> Result<bool, Corrupt> {
    let sends = !known.is_open() || port.is_sending() || line.sleep_to_send()?;
    let receives = !port.has_received() || line.sleep_for_room()?;
    Ok(sends && receives)
}
