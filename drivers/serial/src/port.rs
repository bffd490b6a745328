//! The line and the client's rings (`proto::stream`).

use core::sync::atomic::AtomicU64;

use channel::{End, Role, Step};
use proto::channel::HANDSHAKE_WORDS;
use proto::life::bell;
use proto::stream::{IN, OUT, properties};
use ring::index::{self, Role as Side};
use ring::stream::{Reader, Writer};
use ring::{Begin, Corrupt, Word};
use rt::work::{Work, World};
use uart::{FIFO, Gone, Line, Registers};

/// FIFOs that are served before others have their turn.
const TURNS: usize = 8;
/// The place of the only client.
const CLIENT: usize = 0;

/// Why nothing can be passed on.
enum Trouble {
    /// The line is gone.
    Line(Gone),
    /// The client has written nonsense into its words: this side waits for its next life.
    Client,
}

impl From<Gone> for Trouble {
    fn from(gone: Gone) -> Trouble {
        Trouble::Line(gone)
    }
}

impl From<Corrupt> for Trouble {
    fn from(_: Corrupt) -> Trouble {
        Trouble::Client
    }
}

/// The rings of one pairing.
#[derive(Debug)]
struct Rings<'m, W> {
    output: Reader<'m, W>,
    input: Writer<'m, W>,
}

/// A line with one client.
#[derive(Debug)]
pub struct Port<'m, R, W = AtomicU64> {
    line: Line<R>,
    /// The line has interrupted since the last turn.
    interrupted: bool,
    words: &'m [W],
    end: End<'m, W>,
    rings: Option<Rings<'m, W>>,
    /// What was received and has found no room: `waiting[..count]`.
    waiting: [u8; FIFO],
    count: usize,
}

impl<'m, R: Registers, W: Word> Port<'m, R, W> {
    /// The line, with the rings of its client, in life `life` of this component. `None`: the memory is too small.
    pub fn new(line: Line<R>, words: &'m [W], life: u32) -> Option<Port<'m, R, W>> {
        words.get(IN)?;
        let handshake: &[W; HANDSHAKE_WORDS] = words.first_chunk()?;
        let end = End::new(handshake, Role::Server, life);
        Some(Port { line, interrupted: false, words, end, rings: None, waiting: [0; FIFO], count: 0 })
    }

    /// The line has interrupted.
    pub fn interrupt(&mut self) {
        self.line.interrupt();
        self.interrupted = true;
    }

    /// Meets the client's life.
    fn join(&mut self, world: &mut impl World) {
        loop {
            match self.end.update(world.life(CLIENT)) {
                Step::Reset => {
                    self.rings = None;
                    index::clear(&self.words[OUT], Side::Consumer);
                    index::clear(&self.words[IN], Side::Producer);
                    // A line has no other end that could be closed.
                    self.words[properties::FLAGS].write(properties::OPEN);
                    self.end.joined();
                    world.ring(CLIENT);
                }
                Step::Begin => self.rings = self.begin(),
                Step::Wait | Step::Together => return,
            }
        }
    }

    fn begin(&self) -> Option<Rings<'m, W>> {
        let output = Reader::new(&self.words[OUT], Begin::New).ok()?;
        let input = Writer::new(&self.words[IN], Begin::New).ok()?;
        Some(Rings { output, input })
    }

    /// Passes on until nothing moves or others shall have their turn, and says what to be interrupted for.
    fn pass(&mut self, rings: &mut Rings<'m, W>, world: &mut impl World) -> Result<(), Trouble> {
        let mut more = true;
        for _ in 0..TURNS {
            more = self.move_bytes(rings, world)?;
            if !more {
                break;
            }
        }
        let (empty, full) = (rings.output.sleep()?, rings.input.sleep()?);
        // What came between the last look and here, or is left, made no edge that anyone saw.
        let again = core::mem::take(&mut self.interrupted) || more;
        self.line.listen(self.count == 0 || !full, !empty, again);
        Ok(())
    }

    /// One FIFO's worth each way; whether any byte moved.
    fn move_bytes(&mut self, rings: &mut Rings<'m, W>, world: &mut impl World) -> Result<bool, Trouble> {
        let mut bytes = [0; FIFO];
        let there = rings.output.peek(0, &mut bytes)?;
        let sent = self.line.send(&bytes[..there])?;
        rings.output.skip(sent as u64);
        // Said as soon as it is so: what a death leaves unsaid is sent twice.
        let mut ring = rings.output.publish();
        if self.count == 0 {
            self.count = self.line.receive(&mut self.waiting)?;
        }
        let taken = rings.input.write(&self.waiting[..self.count])?;
        ring |= rings.input.publish();
        self.waiting.copy_within(taken..self.count, 0);
        self.count -= taken;
        if ring {
            world.ring(CLIENT);
        }
        let moved = sent + taken > 0;
        if moved {
            world.served();
        }
        Ok(moved)
    }
}

impl<R: Registers, W: Word> Work for Port<'_, R, W> {
    type Error = Gone;

    fn rung(&mut self, bits: u64, world: &mut impl World) -> Result<(), Gone> {
        if bits & 1 << bell::IRQ != 0 {
            world.begun();
            self.interrupt();
        }
        Ok(())
    }

    /// Passes on what there is, both ways. What is left when others shall have their turn, the line interrupts for.
    fn turn(&mut self, world: &mut impl World) -> Result<bool, Gone> {
        self.join(world);
        let Some(mut rings) = self.rings.take() else {
            self.line.listen(false, false, false);
            return Ok(true);
        };
        match self.pass(&mut rings, world) {
            Ok(()) => self.rings = Some(rings),
            Err(Trouble::Client) => {
                self.line.listen(false, false, false);
                world.accuse(CLIENT, self.end.peer(), 0);
            }
            Err(Trouble::Line(gone)) => return Err(gone),
        }
        Ok(true)
    }
}
