//! Answers to calls (`proto::edu`).

use core::sync::atomic::{AtomicU64, Ordering};

use ipc::{Message, Received};
use proto::edu::{BUFFER, OK, Refusal, Request};
use proto::life::bell;
use rt::work::{Answer, Work, World};

use crate::{Copy, Edu, Failure, Registers};

/// Memory that the device may reach.
#[derive(Clone, Copy, Debug)]
pub struct Page<'m> {
    /// The memory: at least [`BUFFER`] bytes.
    pub words: &'m [AtomicU64],
    /// Where the device finds it.
    pub address: u64,
}

impl Page<'_> {
    fn fill(&self, pattern: u64) {
        self.words.iter().for_each(|word| word.store(pattern, Ordering::Relaxed));
    }

    fn word(&self, at: usize) -> u64 {
        self.words.get(at).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

/// What the driver is.
#[derive(Debug)]
pub struct Server<'m, R> {
    /// The device.
    pub edu: Edu<R>,
    /// Its page.
    pub page: Page<'m>,
    /// Whether an IOMMU is before the device.
    pub fenced: bool,
    /// Which life this is.
    pub life: u32,
    /// Bus, device and function.
    pub address: u16,
}

impl<R: Registers> Work for Server<'_, R> {
    type Error = Failure;

    fn rung(&mut self, bits: u64, world: &mut impl World) -> Result<(), Failure> {
        if bits & 1 << bell::IRQ == 0 {
            return Ok(());
        }
        world.begun();
        self.edu.interrupt()
    }

    /// It has no clients but those who call.
    fn turn(&mut self, _: &mut impl World) -> Result<bool, Failure> {
        Ok(true)
    }
}

impl<R: Registers> Answer for Server<'_, R> {
    fn answer(&mut self, received: &Received) -> Result<Option<Message>, Failure> {
        let Message { words, .. } = received.message;
        self.answer_to(received.message.label(), &words).map(Some)
    }
}

impl<R: Registers> Server<'_, R> {
    /// The answer to a call with this label and these words. A failure of the device ends the driver.
    pub fn answer_to(&mut self, label: u32, words: &[u64; 8]) -> Result<Message, Failure> {
        let copied = match Request::from_label(label) {
            Some(Request::About) => return self.about(),
            Some(Request::Fill) => {
                self.page.fill(words[0]);
                Ok(())
            }
            Some(Request::Load) if !self.edu.copies()? => {
                self.page.fill(words[0]);
                self.edu.copy(Copy::Load(self.page.address, BUFFER))
            }
            Some(Request::Load) => Err(Failure::Busy),
            Some(Request::Fetch) => self.edu.copy(Copy::Load(words[0], words[1])),
            Some(Request::Store) => self.edu.copy(Copy::Store(words[0], words[1])),
            None => return Ok(Message::new(Refusal::Malformed as u32)),
        };
        match copied {
            Ok(()) => Ok(Message::new(OK)),
            Err(Failure::Busy) => Ok(Message::new(Refusal::NotNow as u32)),
            Err(Failure::Length) => Ok(Message::new(Refusal::Malformed as u32)),
            Err(failure @ Failure::NoEdu) => Err(failure),
        }
    }

    fn about(&mut self) -> Result<Message, Failure> {
        let last = (BUFFER / 8 - 1) as usize;
        Ok(Message::of(
            OK,
            [
                self.edu.copies()?.into(),
                self.edu.interrupts(),
                self.page.address,
                self.page.word(0),
                self.page.word(last),
                self.fenced.into(),
                self.life.into(),
                self.address.into(),
            ],
        ))
    }
}
