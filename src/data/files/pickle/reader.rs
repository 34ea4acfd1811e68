//! The bytes of a pickle, one after the other, never beyond their end.

use std::borrow::Cow;

use super::PickleError;

/// Longest line of the text protocol that names something.
const MAX_LINE: usize = 1 << 12;

pub(super) struct Reader<'a> {
    pub(super) input: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.input.len());
        let end = end.ok_or(PickleError::Truncated(self.input.len()))?;
        let bytes = &self.input[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of `N` bytes, `N` at most 8.
    pub(super) fn unsigned<const N: usize>(&mut self) -> Result<u64, PickleError> {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(self.take(N)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// A length of `N` bytes. One beyond the input is truncation, whatever it is.
    pub(super) fn length<const N: usize>(&mut self) -> Result<usize, PickleError> {
        usize::try_from(self.unsigned::<N>()?).map_err(|_| PickleError::Truncated(self.input.len()))
    }

    /// A line without its end, of any length.
    pub(super) fn long_line(&mut self) -> Result<&'a [u8], PickleError> {
        let rest = &self.input[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or(PickleError::Truncated(self.input.len()))?;
        self.at += length + 1;
        Ok(&rest[..length])
    }

    /// A short line of text.
    pub(super) fn line(&mut self) -> Result<&'a str, PickleError> {
        let at = self.at;
        let line = self.long_line()?;
        let text = std::str::from_utf8(line).ok().filter(|line| line.len() <= MAX_LINE);
        text.ok_or_else(|| PickleError::Broken { at, problem: "a line that is no text, or too long".into() })
    }

    /// What is wrong here.
    pub(super) fn broken(&self, problem: impl Into<Cow<'static, str>>) -> PickleError {
        PickleError::Broken { at: self.at, problem: problem.into() }
    }
}

/// Decodes a string of the text protocol, quotes and Python's escapes, onto `out`.
pub(super) fn unquote(line: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let quote = *line.first().filter(|quote| matches!(quote, b'\'' | b'"'))?;
    let mut rest = line[1..].strip_suffix(&[quote])?;

    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&escape, tail) = rest.split_first()?;
        rest = tail;
        match escape {
            b'\\' | b'\'' | b'"' => out.push(escape),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'v' => out.push(11),
            b'f' => out.push(12),
            b'x' => {
                out.push(u8::try_from(hexadecimal(rest.get(..2)?)?).ok()?);
                rest = &rest[2..];
            }
            b'0'..=b'7' => {
                let digits = rest.iter().take(2).take_while(|digit| matches!(digit, b'0'..=b'7')).count();
                let value = rest[..digits].iter().fold(u32::from(escape - b'0'), |n, d| 8 * n + u32::from(d - b'0'));
                out.push(value as u8);
                rest = &rest[digits..];
            }
            other => out.extend([b'\\', other]),
        }
    }
    Some(())
}

/// Decodes text of the text protocol (`\uXXXX` and `\UXXXXXXXX` apart, Latin-1) onto `out`, as UTF-8.
pub(super) fn unescape(mut rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = match (byte, tail.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => 0,
        };
        let (code, length) = match digits {
            0 => (u32::from(byte), 1),
            _ => (hexadecimal(rest.get(2..2 + digits)?)?, 2 + digits),
        };
        let mut buffer = [0; 4];
        out.extend(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
        rest = &rest[length..];
    }
    Some(())
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |number, &digit| Some((number << 4) | char::from(digit).to_digit(16)?))
}
