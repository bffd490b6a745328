//! The driver `edu`, as this program sees it: what it can be told, and what becomes of it.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use abi::{CPtr, Error};
use ipc::Message;
use proto::component::MAX_BYTES;
use proto::control::Cause;
use proto::edu::{BUFFER, OK, Request, about};
use proto::host;
use proto::start::names;
use rt::io::IoError;
use rt::{clock, control, env};

/// The driver's name in the manifest.
const NAME: &str = "edu";
/// How long to wait for anything, in microseconds: the device takes 100 ms for a copy.
const PATIENCE: u64 = 10_000_000;
/// How long to wait before looking again.
const PAUSE: u64 = 2_000;
/// What the driver's own page is filled with.
const PATTERN: u64 = 0x600d_600d_600d_600d;

/// The driver.
pub struct Driver {
    endpoint: CPtr,
    place: u64,
}

/// What the driver says of itself.
pub struct About([u64; 8]);

/// Bus, device and function, for people.
pub struct Device(u64);

/// A life of the driver's that its device has ended.
pub struct Stopped {
    /// What init tells of it.
    pub report: String,
    /// The address that the device was stopped at.
    pub address: u64,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.0 >> 8, self.0 >> 3 & 31, self.0 & 7)
    }
}

impl About {
    /// Whether it has an IoSpace.
    pub fn is_fenced(&self) -> bool {
        self.0[about::FENCED] != 0
    }

    /// Where the device is.
    pub fn device(&self) -> Device {
        Device(self.0[about::ADDRESS])
    }

    /// Which life of the driver it is.
    pub fn life(&self) -> u64 {
        self.0[about::LIFE]
    }
}

fn refused(error: IoError) -> String {
    format!("init: {error}")
}

impl Driver {
    /// The driver of the manifest.
    pub fn find() -> Result<Driver, String> {
        let place = control::find(NAME).map_err(refused)?;
        let place = place.ok_or_else(|| format!("the manifest has no component {NAME}"))?;
        Ok(Driver { endpoint: env::required(NAME), place })
    }

    fn call(&self, request: Request, words: [u64; 2]) -> Result<Message, String> {
        let deadline = Deadline::new();
        while deadline.is_ahead() {
            match ipc::call(self.endpoint, Message::of(request as u32, words)) {
                Ok(answer) => return Ok(answer),
                // It died meanwhile, and comes back.
                Err(Error::PeerDied) => pause(),
                Err(error) => return Err(format!("{NAME} cannot be called: {}", error.name())),
            }
        }
        Err(format!("{NAME} does not come back"))
    }

    /// What the driver says of itself.
    pub fn about(&self) -> Result<About, String> {
        self.call(Request::About, [0, 0]).map(|answer| About(answer.words))
    }

    /// Tells it to do something that must be possible.
    pub fn tell(&self, request: Request, words: [u64; 2]) -> Result<(), String> {
        match self.call(request, words)?.label() {
            OK => Ok(()),
            label => Err(format!("{NAME} refuses {request:?}: {label}")),
        }
    }

    /// Waits until the device has copied.
    pub fn copied(&self) -> Result<About, String> {
        let deadline = Deadline::new();
        while deadline.is_ahead() {
            let about = self.about()?;
            if about.0[about::COPIES] == 0 {
                return Ok(about);
            }
            pause();
        }
        Err("the device does not finish".into())
    }

    /// Looks whether the device does what it may do.
    pub fn works(&self) -> Result<(), String> {
        let before = self.about()?.0[about::INTERRUPTS];
        self.tell(Request::Load, [PATTERN, 0])?;
        self.copied()?;
        self.tell(Request::Fill, [0, 0])?;
        let page = self.about()?.0[about::PAGE];
        self.tell(Request::Store, [page, BUFFER])?;
        self.copied()?;
        let deadline = Deadline::new();
        while deadline.is_ahead() {
            let now = self.about()?.0;
            if [now[about::FIRST], now[about::LAST]] != [PATTERN; 2] {
                return Err("the device did not copy what it may".into());
            }
            // The last interrupt may be on its way.
            if now[about::INTERRUPTS] == before + 2 {
                return Ok(());
            }
            pause();
        }
        Err("the device does not interrupt".into())
    }

    /// Fills the device's buffer.
    pub fn load(&self, pattern: u64) -> Result<(), String> {
        self.tell(Request::Load, [pattern, 0])?;
        self.copied().map(|_| ())
    }

    /// Which life init has it in.
    pub fn life(&self) -> Result<u64, String> {
        let about = control::about(self.place).map_err(refused)?;
        about.map(|about| about.life).ok_or_else(|| format!("{NAME} is gone"))
    }

    /// Waits until the life `life` has ended, and looks whether its device has ended it.
    pub fn stopped(&self, life: u64) -> Result<Stopped, String> {
        let deadline = Deadline::new();
        while deadline.is_ahead() {
            if self.life()? != life {
                return self.report();
            }
            pause();
        }
        Err("nobody has stopped the device".into())
    }

    /// The latest report of init about this driver.
    fn report(&self) -> Result<Stopped, String> {
        let mut place = [0; MAX_BYTES];
        let mut number = 0;
        while let Some(crash) = control::crash(number, &mut place).map_err(refused)? {
            number += 1;
            if crash.place != self.place {
                continue;
            }
            let record = host::from_plain(&place[..crash.length]).map_err(|_| "init's record is none")?;
            if crash.cause != Cause::Device {
                return Err(format!("{NAME} has died of something else: {} {}", record.what, record.message));
            }
            return Ok(Stopped { report: record.message.to_string(), address: record.address });
        }
        Err(format!("init has no record of {NAME}"))
    }
}

/// When waiting is in vain.
pub struct Deadline(u64);

impl Deadline {
    /// A long time from now.
    pub fn new() -> Deadline {
        Deadline::after(PATIENCE)
    }

    /// So many microseconds from now.
    pub fn after(time: u64) -> Deadline {
        Deadline(clock::now() + clock::microseconds(time))
    }

    /// Whether it has not come.
    pub fn is_ahead(&self) -> bool {
        clock::now() < self.0
    }
}

/// Waits a moment.
pub fn pause() {
    // What comes on this notification means nothing here.
    let _ = ipc::wait_until(env::required(names::READY), clock::now() + clock::microseconds(PAUSE));
}
