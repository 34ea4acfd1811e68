//! The head of a request.

use super::refusal::Refusal;

/// Bytes of a request's head at most.
pub const MAX_HEAD: usize = 16 << 10;
/// Headers at most.
const MAX_HEADERS: usize = 64;

/// Request line and headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// The path, without a query.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
    headers: Vec<(String, String)>,
}

/// Parses the head at the beginning of `bytes`: it and its length in bytes; `None` while it is not whole.
///
/// # Errors
/// What is no HTTP/1, or larger than any head of a browser (as a refusal's status and message).
pub fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, (u16, String)> {
    parse(bytes).map_err(|Refusal { status, message, .. }| (status, message))
}

pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    let too_large =
        || Refusal::new(431, format!("a request's head has {MAX_HEAD} bytes and {MAX_HEADERS} lines at most"));
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut lines);
    let length = match request.parse(&bytes[..bytes.len().min(MAX_HEAD)]) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD => return Err(too_large()),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
        Err(error) => return Err(Refusal::bad(format!("this is not HTTP: {error}"))),
    };

    // A complete head has both.
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    if !target.starts_with('/') {
        return Err(Refusal::bad("the target of a request must be a path"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let text = |value: &[u8]| String::from_utf8_lossy(value).trim().to_owned();
    let headers = request.headers.iter().map(|line| (line.name.to_ascii_lowercase(), text(line.value))).collect();
    Ok(Some((Head { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), headers }, length)))
}

impl Head {
    /// The value of a header (`name` in lower case).
    ///
    /// # Errors
    /// A header that is there twice: two readers would each believe another one.
    pub(in crate::serve) fn header(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(Refusal::bad(format!("the header {name} is there twice"))),
        }
    }

    /// Bytes of the body.
    ///
    /// # Errors
    /// A body without a length, or with one that is no number.
    pub(super) fn content_length(&self) -> Result<usize, Refusal> {
        if self.header("transfer-encoding")?.is_some() {
            return Err(Refusal::new(411, "send the body whole, with its Content-Length"));
        }
        let Some(text) = self.header("content-length")? else { return Ok(0) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse().ok().filter(|_| digits) {
            Some(length) => Ok(length),
            None => Err(Refusal::bad("Content-Length is no number of bytes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        parse(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn heads_are_parsed_whole_or_not_at_all() {
        let text = "POST /draw?x=1 HTTP/1.1\r\nHost:  localhost \r\nContent-Length: 7\r\n\r\nbody";
        let (found, length) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!((found.method.as_str(), found.path.as_str(), found.query.as_str()), ("POST", "/draw", "x=1"));
        assert_eq!((found.header("host"), found.content_length()), (Ok(Some("localhost")), Ok(7)));
        assert_eq!(&text[length..], "body");
        for end in 0..length {
            assert_eq!(parse(&text.as_bytes()[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(MAX_HEADERS + 1));
        for (text, status) in [
            ("\u{16}\u{3}\u{1}\0", 400),
            ("GET http://evil/ HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/3\r\n\r\n", 400),
            (&long, 431),
            (&many, 431),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().status, status, "{text:.40}");
        }
    }

    #[test]
    fn lengths_that_two_readers_would_read_differently_are_refused() {
        let length = |lines: &str| head(&format!("POST / HTTP/1.1\r\n{lines}\r\n")).content_length();
        assert_eq!(length(""), Ok(0));
        for lines in [
            "Content-Length: +1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Transfer-Encoding: chunked\r\n",
        ] {
            assert!(length(lines).is_err(), "{lines}");
        }
    }
}
