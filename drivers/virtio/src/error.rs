//! What a device does that it must not.

use core::fmt;

use crate::memory::NoMemory;
use crate::registers::Area;

/// Why a device cannot be used, or not any more. The driver says so and dies of it, or resets the device: after a
/// wrong value nothing that the device says is worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// It does not have these registers, or not enough of them.
    NoRegisters(Area),
    /// Its registers read as all ones: it is not on the bus any more.
    Gone,
    /// It asks for a reset (VirtIO 1.2, 2.1.1).
    NeedsReset,
    /// It is of a kind that nobody knows, or that the driver is not for.
    WrongType(u16),
    /// It does not finish its reset.
    NoReset,
    /// It does not offer VIRTIO_F_VERSION_1, or does not take the features that were chosen from its offer (which
    /// are here).
    Features(u64),
    /// It does not have this queue, or says of it what makes no sense.
    NoQueue(u16),
    /// It does not take an MSI-X vector for this queue, or (`u16::MAX`) for changes of its configuration.
    NoVector(u16),
    /// Its configuration changes each time one looks, or is shorter than what its features promise.
    Configuration,
    /// The index of a used ring went further than there were requests.
    UsedIndex {
        /// Where it was, and
        from: u16,
        /// where it is said to be.
        to: u16,
    },
    /// It says that it used what it was not given, or has given back already.
    UsedId(u32),
    /// It says that it wrote more than it had room for.
    UsedLength {
        /// What it says.
        said: u32,
        /// The room.
        room: u32,
    },
    /// It says that it did all it was asked to, and wrote less than that.
    Short {
        /// What it wrote.
        said: u32,
        /// What it was to write.
        wanted: u32,
    },
    /// Its answer is none that there is.
    Answer(u8),
    /// It has had requests for long and does not answer.
    Silent,
    /// It does not offer what its driver cannot do without.
    Lacks(&'static str),
    /// It answers, but gives nothing, again and again.
    Empty,
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            DeviceError::NoRegisters(area) => write!(f, "the device has no {} registers", area.name()),
            DeviceError::Gone => f.write_str("the device is gone: its registers read as all ones"),
            DeviceError::NeedsReset => f.write_str("the device says that it needs a reset"),
            DeviceError::WrongType(number) => {
                write!(f, "the device is of type {number}, which this is not for")
            }
            DeviceError::NoReset => f.write_str("the device does not finish its reset"),
            DeviceError::Features(bits) => write!(f, "the device does not take the features {bits:#x}"),
            DeviceError::NoQueue(queue) => write!(f, "the device has no usable queue {queue}"),
            DeviceError::NoVector(u16::MAX) => {
                f.write_str("the device takes no vector for its configuration")
            }
            DeviceError::NoVector(queue) => write!(f, "the device takes no vector for queue {queue}"),
            DeviceError::Configuration => f.write_str("the device's configuration cannot be read"),
            DeviceError::UsedIndex { from, to } => {
                write!(f, "the device's used index went from {from} to {to}: more than it was given")
            }
            DeviceError::UsedId(id) => write!(f, "the device used {id}, which it does not have"),
            DeviceError::UsedLength { said, room } => {
                write!(f, "the device says it wrote {said} bytes where {room} fit")
            }
            DeviceError::Short { said, wanted } => {
                write!(f, "the device says it is done, and wrote {said} bytes of {wanted}")
            }
            DeviceError::Answer(answer) => write!(f, "the device answers {answer:#x}, which has no meaning"),
            DeviceError::Silent => f.write_str("the device does not answer"),
            DeviceError::Lacks(what) => write!(f, "the device has no {what}"),
            DeviceError::Empty => f.write_str("the device gives no bytes"),
        }
    }
}

/// Why a device cannot be begun with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginError {
    /// It is not as it must be.
    Device(DeviceError),
    /// There is no memory for its queues.
    NoMemory,
}

impl From<DeviceError> for BeginError {
    fn from(error: DeviceError) -> BeginError {
        BeginError::Device(error)
    }
}

impl From<NoMemory> for BeginError {
    fn from(_: NoMemory) -> BeginError {
        BeginError::NoMemory
    }
}

impl fmt::Display for BeginError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            BeginError::Device(error) => error.fmt(f),
            BeginError::NoMemory => f.write_str("no memory is left for the device's queues"),
        }
    }
}
