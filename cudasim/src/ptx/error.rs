//! The one error of the front end.

use std::fmt;

/// Why a PTX text was refused, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtxError {
    /// Line of the PTX text, from 1.
    pub line: u32,
    /// Column in bytes, from 1; 0 where the whole line is meant.
    pub column: u32,
    /// What is wrong; quotes the offending text.
    pub message: String,
}

impl PtxError {
    pub(crate) fn new(line: u32, column: u32, message: impl Into<String>) -> Self {
        Self { line, column, message: message.into() }
    }
}

impl fmt::Display for PtxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            0 => write!(f, "PTX line {}: {}", self.line, self.message),
            column => write!(f, "PTX line {}, column {column}: {}", self.line, self.message),
        }
    }
}

impl std::error::Error for PtxError {}

/// `text` for a message: in backticks, cut where it is long.
pub(crate) fn quote(text: &str) -> String {
    const LIMIT: usize = 60;
    if text.chars().count() <= LIMIT {
        return format!("`{}`", text.escape_debug());
    }
    let head: String = text.chars().take(LIMIT).collect();
    format!("`{}...`", head.escape_debug())
}
