//! What the simulator has to say: faults of kernels, and misuse of the driver API.

use std::fmt::{self, Write as _};

use super::error::CudaError;
use crate::report::{FaultKind, Level, Report};

/// What is reported.
#[derive(Clone, Debug)]
pub enum Problem {
    /// A kernel's fault.
    Kernel(Box<Report>),
    /// What a kernel did and went on.
    Warning(Box<Report>),
    /// Host code that breaks the rules of the driver API in a way that a GPU may not show.
    Host {
        /// The nearest kind.
        kind: FaultKind,
        /// The function that was called.
        function: &'static str,
        /// What is wrong, in a sentence without a full stop.
        message: String,
    },
    /// A call that the driver refuses, but whose caller may not look.
    Misuse {
        /// The function that was called.
        function: &'static str,
        /// What is wrong, in a sentence without a full stop.
        message: String,
    },
    /// Something that outlived its context.
    Leak(String),
}

impl Problem {
    /// The code that the context gets; `None` where it goes on.
    pub fn code(&self) -> Option<CudaError> {
        match self {
            Self::Kernel(report) => Some(CudaError::of_fault(report.fault.kind)),
            Self::Host { kind, .. } => Some(CudaError::of_fault(*kind)),
            Self::Warning(_) | Self::Misuse { .. } | Self::Leak(_) => None,
        }
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        let mut json = Json::new();
        match self {
            Self::Kernel(report) | Self::Warning(report) => {
                let Report { fault, kernel, block, thread, instruction, ptx_line, source, nearest, shows } = &**report;
                let level = if fault.level == Level::Warning { "warning" } else { "error" };
                json.text("kind", fault.kind.name())
                    .text("level", level)
                    .text("message", &fault.message)
                    .text("kernel", kernel);
                json.raw("block", &format!("{block:?}")).raw("thread", &format!("{thread:?}"));
                if let Some(address) = fault.address {
                    json.text("address", &format!("{address:#x}"));
                }
                if let Some(shows) = shows {
                    json.text("used", shows);
                }
                if let Some(nearest) = nearest {
                    json.text("nearest", nearest);
                }
                let lines: Vec<String> = source
                    .iter()
                    .map(|place| Json::new().text("file", &place.file).raw("line", &place.line.to_string()).end())
                    .collect();
                json.raw("source", &format!("[{}]", lines.join(",")));
                json.raw("ptx_line", &ptx_line.to_string()).text("instruction", instruction);
            }
            Self::Host { kind, function, message } => {
                json.text("kind", kind.name()).text("message", message).text("function", function);
            }
            Self::Misuse { function, message } => {
                json.text("kind", "misuse").text("message", message).text("function", function);
            }
            Self::Leak(what) => {
                json.text("kind", "leak").text("message", what);
            }
        }

        if let Some(code) = self.code() {
            json.raw("code", &code.code().to_string());
        }
        json.end()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(report) | Self::Warning(report) => report.fmt(f),
            Self::Host { kind, function, message } => write!(f, "{}: {message}\n  in {function}", kind.name()),
            Self::Misuse { function, message } => write!(f, "misuse: {message}\n  in {function}"),
            Self::Leak(what) => write!(f, "leak: {what}"),
        }
    }
}

/// Writes a JSON object.
pub struct Json(String);

impl Json {
    /// An empty object.
    pub fn new() -> Self {
        Self("{".into())
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.string(key);
        self.0.push(':');
    }

    fn string(&mut self, text: &str) {
        self.0.push('"');
        for letter in text.chars() {
            match letter {
                '"' | '\\' => self.0.extend(['\\', letter]),
                '\n' => self.0.push_str("\\n"),
                control if control < ' ' => {
                    // Writing to a string does not fail.
                    let _ = write!(self.0, "\\u{:04x}", u32::from(control));
                }
                other => self.0.push(other),
            }
        }
        self.0.push('"');
    }

    /// A member that is a string.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        self.string(value);
        self
    }

    /// A member that is JSON already.
    pub fn raw(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        self.0.push_str(value);
        self
    }

    /// The object.
    pub fn end(&mut self) -> String {
        let mut text = std::mem::take(&mut self.0);
        text.push('}');
        text
    }
}
