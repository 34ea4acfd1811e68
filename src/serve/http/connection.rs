//! One client: what it sends within limits of size and time, and what it is sent.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::refusal::Refusal;
use super::request::{Head, MAX_HEAD, parse};
use super::response::{Response, head};

/// Time for a request's head, for its body, and for an answer to be taken.
const HEAD_TIME: Duration = Duration::from_secs(10);
const BODY_TIME: Duration = Duration::from_secs(60);
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Time for one piece of an answer that comes in pieces.
const PIECE_TIME: Duration = Duration::from_secs(10);
/// What a client may still be sending when its answer is done: so much is read, or so long.
const REST: usize = 1 << 20;
const REST_TIME: Duration = Duration::from_secs(1);

/// A connection, which serves one request.
pub struct Connection {
    stream: TcpStream,
    /// What was read beyond the head.
    rest: Vec<u8>,
    /// Whether the answer to `HEAD` is its head alone.
    bodiless: bool,
}

impl Connection {
    /// A client that has connected.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, rest: Vec::new(), bodiless: false }
    }

    /// The head of the request; `None` if the client left without one.
    ///
    /// # Errors
    /// 408 for one that takes too long, 431 for one too large, 400 for what is none.
    pub fn read_head(&mut self) -> Result<Option<Head>, Refusal> {
        let deadline = Instant::now() + HEAD_TIME;
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match self.read(&mut buffer, deadline) {
                Ok(0) => return Ok(None),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if is_late(&error) => return Err(late("the request's head", HEAD_TIME)),
                Err(_) => return Ok(None),
            }
            if let Some((head, length)) = parse(&bytes)? {
                self.rest = bytes.split_off(length);
                self.bodiless = head.method == "HEAD";
                return Ok(Some(head));
            }
            debug_assert!(bytes.len() < MAX_HEAD + buffer.len());
        }
    }

    /// The body of the request, of at most `limit` bytes.
    ///
    /// # Errors
    /// 413 for a larger one, before it is read; 408 for one that takes too long; 400 for one that is cut off.
    pub fn read_body(&mut self, head: &Head, limit: usize) -> Result<Vec<u8>, Refusal> {
        let length = head.content_length()?;
        if length > limit {
            return Err(Refusal::new(413, format!("{length} bytes are above the limit of {limit}")));
        }
        // Some clients wait for a word before they send a large body.
        if head.header("expect")?.is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            let _ = self.write(b"HTTP/1.1 100 Continue\r\n\r\n", PIECE_TIME);
        }

        let deadline = Instant::now() + BODY_TIME;
        let mut body = std::mem::take(&mut self.rest);
        // Nothing of the stated size is taken before it has come.
        let mut buffer = vec![0; 64 << 10];
        while body.len() < length {
            match self.read(&mut buffer, deadline) {
                Ok(0) => return Err(Refusal::bad(format!("the body ends after {} of {length} bytes", body.len()))),
                Ok(count) => body.extend_from_slice(&buffer[..count]),
                Err(error) if is_late(&error) => return Err(late("the request's body", BODY_TIME)),
                Err(error) => return Err(Refusal::bad(format!("the body cannot be read: {error}"))),
            }
        }
        body.truncate(length);
        Ok(body)
    }

    /// Sends an answer.
    ///
    /// # Errors
    /// A client that is gone, or does not take it in time.
    pub fn respond(&mut self, response: &Response) -> io::Result<()> {
        let mut bytes = response.head().into_bytes();
        if !self.bodiless {
            bytes.extend_from_slice(&response.body);
        }
        self.write(&bytes, ANSWER_TIME)
    }

    /// Begins an answer that comes in pieces.
    ///
    /// # Errors
    /// A client that is gone.
    pub fn begin(&mut self, content_type: &str) -> io::Result<()> {
        // Small pieces are not held back until there are more.
        self.stream.set_nodelay(true)?;
        self.write(head(200, content_type, None, &[]).as_bytes(), PIECE_TIME)
    }

    /// Sends a piece.
    ///
    /// # Errors
    /// A client that is gone, or does not take it in time.
    pub fn send(&mut self, piece: &[u8]) -> io::Result<()> {
        self.write(piece, PIECE_TIME)
    }

    /// Ends the connection. What the client was still sending is read, within bounds: a system that closes with unread bytes
    /// takes back the answer too.
    pub fn close(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let deadline = Instant::now() + REST_TIME;
        let (mut left, mut buffer) = (REST, [0; 16 << 10]);
        while let Ok(count) = self.read(&mut buffer, deadline)
            && count > 0
            && left > count
        {
            left -= count;
        }
    }

    fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            self.stream.set_read_timeout(Some(left_until(deadline)?))?;
            match self.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8], time: Duration) -> io::Result<()> {
        let deadline = Instant::now() + time;
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(left_until(deadline)?))?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Time left, never none: to the system, none is for ever.
fn left_until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_millis(1))) }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

fn late(what: &str, time: Duration) -> Refusal {
    Refusal::new(408, format!("{what} did not come within {} seconds", time.as_secs()))
}
