//! Answers, and the headers that every one of them has.

use std::borrow::Cow;

use super::refusal::Refusal;

/// Nothing but what this server itself sends may run, be shown or be asked for; nobody may frame the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// An answer that is known whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: Cow<'static, [u8]>,
    /// More headers.
    pub headers: Vec<(&'static str, String)>,
}

impl Response {
    /// What was asked for.
    pub fn ok(content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { status: 200, content_type, body: body.into(), headers: Vec::new() }
    }

    /// Status line and headers, to the empty line.
    pub(super) fn head(&self) -> String {
        head(self.status, self.content_type, Some(self.body.len()), &self.headers)
    }
}

impl From<Refusal> for Response {
    fn from(Refusal { status, message, headers }: Refusal) -> Self {
        let body = format!("{message}\n").into_bytes();
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into(), headers }
    }
}

/// Status line and headers. A body without a length ends where the connection does, which every answer ends.
pub(super) fn head(
    status: u16,
    content_type: &str,
    length: Option<usize>,
    headers: &[(&'static str, String)],
) -> String {
    let mut text = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name}: {value}\r\n"));
    line("Content-Type", content_type);
    if let Some(length) = length {
        line("Content-Length", &length.to_string());
    }
    line("Connection", "close");
    line("Cache-Control", "no-store");
    line("Content-Security-Policy", POLICY);
    line("X-Content-Type-Options", "nosniff");
    line("X-Frame-Options", "DENY");
    line("Referrer-Policy", "no-referrer");
    line("Cross-Origin-Resource-Policy", "same-origin");
    line("Cross-Origin-Opener-Policy", "same-origin");
    headers.iter().for_each(|(name, value)| line(name, value));
    text.push_str("\r\n");
    text
}

/// A status in words.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
