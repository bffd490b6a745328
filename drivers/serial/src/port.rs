//! The line and the client's rings (`proto::stream`).

use channel::{End, Role, Step};
use proto::channel::HANDSHAKE_WORDS;
use proto::stream::{IN, OUT, properties};
use ring::index::{self, Role as Side};
use ring::stream::{Reader, Writer};
use ring::{Begin, Corrupt, Word};

use crate::line::FIFO;
use crate::{Gone, Line, Registers};

/// FIFOs that are served before others have their turn.
const TURNS: usize = 8;

/// What a turn has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// The client is to be signalled.
    pub ring: bool,
    /// The client has written nonsense into its words: this side waits for its next life.
    pub corrupt: bool,
    /// Bytes that were passed on, either way.
    pub bytes: usize,
}

/// The rings of one pairing.
#[derive(Debug)]
struct Rings<'m, W> {
    output: Reader<'m, W>,
    input: Writer<'m, W>,
}

/// A line with one client.
#[derive(Debug)]
pub struct Port<'m, R, W> {
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

    /// Passes on what there is, both ways, now that the client is in life `client`. To be called whenever something may
    /// have happened.
    pub fn turn(&mut self, client: u32) -> Result<Turn, Gone> {
        let mut turn = Turn { ring: self.join(client), ..Turn::default() };
        let Some(mut rings) = self.rings.take() else {
            self.line.listen(false, false, false);
            return Ok(turn);
        };
        match self.pass(&mut rings, &mut turn)? {
            Ok(()) => self.rings = Some(rings),
            // What looks so may be the beginning of the client's next life.
            Err(Corrupt) => {
                turn.corrupt = true;
                self.line.listen(false, false, false);
            }
        }
        Ok(turn)
    }

    /// Meets the client's life; whether to signal it.
    fn join(&mut self, client: u32) -> bool {
        let mut ring = false;
        loop {
            match self.end.update(client) {
                Step::Reset => {
                    self.rings = None;
                    index::clear(&self.words[OUT], Side::Consumer);
                    index::clear(&self.words[IN], Side::Producer);
                    // A line has no other end that could be closed.
                    self.words[properties::FLAGS].write(properties::OPEN);
                    self.end.joined();
                    ring = true;
                }
                Step::Begin => self.rings = self.begin(),
                Step::Wait | Step::Together => return ring,
            }
        }
    }

    fn begin(&self) -> Option<Rings<'m, W>> {
        let output = Reader::new(&self.words[OUT], Begin::New).ok()?;
        let input = Writer::new(&self.words[IN], Begin::New).ok()?;
        Some(Rings { output, input })
    }

    /// Passes on until nothing moves or others shall have their turn, and says what to be interrupted for.
    fn pass(&mut self, rings: &mut Rings<'m, W>, turn: &mut Turn) -> Result<Result<(), Corrupt>, Gone> {
        let mut more = true;
        for _ in 0..TURNS {
            let moved = match self.move_bytes(rings, turn)? {
                Ok(moved) => moved,
                Err(corrupt) => return Ok(Err(corrupt)),
            };
            turn.bytes += moved;
            more = moved > 0;
            if !more {
                break;
            }
        }
        let (Ok(empty), Ok(full)) = (rings.output.sleep(), rings.input.sleep()) else {
            return Ok(Err(Corrupt));
        };
        // What came between the last look and here, or is left, made no edge that anyone saw.
        let again = core::mem::take(&mut self.interrupted) || more;
        self.line.listen(self.count == 0 || !full, !empty, again);
        Ok(Ok(()))
    }

    /// One FIFO's worth each way; how many bytes moved.
    fn move_bytes(
        &mut self,
        rings: &mut Rings<'m, W>,
        turn: &mut Turn,
    ) -> Result<Result<usize, Corrupt>, Gone> {
        let mut bytes = [0; FIFO];
        let Ok(there) = rings.output.peek(0, &mut bytes) else { return Ok(Err(Corrupt)) };
        let sent = self.line.send(&bytes[..there])?;
        rings.output.skip(sent as u64);
        // Said as soon as it is so: what a death leaves unsaid is sent twice.
        turn.ring |= rings.output.publish();
        if self.count == 0 {
            self.count = self.line.receive(&mut self.waiting)?;
        }
        let Ok(taken) = rings.input.write(&self.waiting[..self.count]) else { return Ok(Err(Corrupt)) };
        turn.ring |= rings.input.publish();
        self.waiting.copy_within(taken..self.count, 0);
        self.count -= taken;
        Ok(Ok(sent + taken))
    }
}
