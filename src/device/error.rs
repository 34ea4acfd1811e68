//! Why an op could not be done.

use super::ShapeError;

/// Why an op could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments do not fit together.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A token without a row in the table.
    #[error("token {token} at position {position} is outside the table of {rows} rows")]
    Token {
        /// The token.
        token: u16,
        /// Its position, counted over the whole batch.
        position: usize,
        /// Rows of the table.
        rows: usize,
    },
    /// The device cannot be used at all, or not for this.
    #[error("{problem}{}{remedy}", if remedy.is_empty() { "" } else { "; " })]
    Unavailable {
        /// What is missing or does not fit.
        problem: String,
        /// What to do; empty where there is nothing.
        remedy: String,
    },
    /// The device has no memory left.
    #[error("{call}: {message}")]
    OutOfMemory {
        /// The call that asked for more.
        call: String,
        /// What the driver said, and what to do.
        message: String,
    },
    /// Another process of the same run failed, or never came.
    #[error("{0}")]
    Peer(String),
    /// A call of the device's driver failed.
    #[error("{call}: {message}")]
    Driver {
        /// The call, with the kernel if it launched one.
        call: String,
        /// What the driver said, and what to do where that is known.
        message: String,
    },
}

impl Error {
    /// [`Error::Unavailable`].
    pub(crate) fn unavailable(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unavailable { problem: problem.into(), remedy: remedy.into() }
    }
}

/// Result of a device's methods.
pub type Result<T> = std::result::Result<T, Error>;
