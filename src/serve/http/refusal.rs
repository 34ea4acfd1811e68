//! Requests that are refused: a status, and a sentence for whoever sent them.

/// Why a request gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: u16,
    /// What is wrong, and what to do.
    pub message: String,
    /// Headers that belong to the status, such as `Allow`.
    pub headers: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A refusal with `status`.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), headers: Vec::new() }
    }

    /// What the client sent is not as it should be.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// There are too many at the moment; `seconds` later there may be room.
    pub fn busy(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(503, message).with("Retry-After", seconds.to_string())
    }

    /// The same with one more header.
    pub fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}
