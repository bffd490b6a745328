//! The one error type of the crate.

use core::fmt;

use crate::features::{IncompatFeatures, feature_names};

/// What the store under the file system answers when it cannot do what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoError {
    /// The block is not in memory yet and a read was started: repeat the whole operation once it arrived.
    Pending,
    /// The device failed, or the block lies outside of it.
    Failed,
}

/// Why an operation was refused or failed. Except for [`Error::Aborted`] and a failed commit, an operation that
/// answers an error has changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The store failed or is still reading; see [`IoError`].
    Io(IoError),
    /// The image contradicts itself; the text names the structure.
    Corrupt(&'static str),
    /// The image needs features that this crate does not know (the bits it does not know).
    UnsupportedFeatures(IncompatFeatures),
    /// The image or the request needs something this crate does not do; the text names it.
    Unsupported(&'static str),
    /// No such name, or no such inode.
    NotFound,
    /// The name exists already.
    Exists,
    /// A directory was needed.
    NotDirectory,
    /// The operation does not work on directories.
    IsDirectory,
    /// The directory still has entries.
    NotEmpty,
    /// No blocks or inodes are left; nothing was changed.
    NoSpace,
    /// A name of more than 255 bytes, or a symbolic link target of more than a block.
    NameTooLong,
    /// An argument is outside of what the format or the operation allows.
    Invalid,
    /// The volume is mounted read-only.
    ReadOnly,
    /// The inode has as many links as the format can count.
    TooManyLinks,
    /// The offset lies beyond the largest file (16 TiB less one block with 4 KiB blocks).
    FileTooBig,
    /// No such extended attribute.
    NoAttribute,
    /// The caller's buffer is too small for the answer.
    BufferTooSmall,
    /// The inode is immutable or append-only, or the caller lacks the permission.
    NotPermitted,
    /// Memory for the operation could not be reserved; nothing was changed.
    NoMemory,
    /// An earlier commit failed: the volume refuses all writes until it is mounted again.
    Aborted,
}

impl From<IoError> for Error {
    fn from(error: IoError) -> Self {
        Error::Io(error)
    }
}

/// The answer of every operation.
pub type Result<T> = core::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(IoError::Pending) => f.write_str("the block is being read, try again"),
            Error::Io(IoError::Failed) => f.write_str("the device failed"),
            Error::Corrupt(what) => write!(f, "the image is damaged: {what}"),
            Error::UnsupportedFeatures(features) => {
                f.write_str("the image needs unknown features:")?;
                feature_names(features.0, f)
            }
            Error::Unsupported(what) => write!(f, "not supported: {what}"),
            Error::NotFound => f.write_str("not found"),
            Error::Exists => f.write_str("exists already"),
            Error::NotDirectory => f.write_str("not a directory"),
            Error::IsDirectory => f.write_str("is a directory"),
            Error::NotEmpty => f.write_str("directory not empty"),
            Error::NoSpace => f.write_str("no space left"),
            Error::NameTooLong => f.write_str("name too long"),
            Error::Invalid => f.write_str("invalid argument"),
            Error::ReadOnly => f.write_str("mounted read-only"),
            Error::TooManyLinks => f.write_str("too many links"),
            Error::FileTooBig => f.write_str("file too big"),
            Error::NoAttribute => f.write_str("no such attribute"),
            Error::BufferTooSmall => f.write_str("buffer too small"),
            Error::NotPermitted => f.write_str("not permitted"),
            Error::NoMemory => f.write_str("out of memory"),
            Error::Aborted => f.write_str("writes stopped after a failed commit"),
        }
    }
}

impl core::error::Error for Error {}
