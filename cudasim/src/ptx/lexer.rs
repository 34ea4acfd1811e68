//! Text to tokens. Comments and white space fall away; every token knows its line and column.

use super::error::{PtxError, quote};

/// What a token is. Its text is in [`Token::text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// An identifier or the base of an opcode: `%r1`, `$L__BB0_2`, `add`, `_`.
    Word,
    /// A directive or modifier, its text without the dot: `.shared::cta` has the text `shared::cta`.
    Dotted,
    /// A number as written, without a sign: `12`, `0x1FU`, `0f3F800000`, `9.0`.
    Number,
    /// A string; the text is what stands between the quotation marks, escapes untouched.
    Text,
    /// One punctuation character.
    Punctuation(u8),
    /// The end of the input; the last token, and only it.
    End,
}

/// One token, borrowed from the PTX text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: TokenKind,
    /// Its text (see [`TokenKind`]).
    pub text: &'a str,
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
    /// Byte at which the token starts, its dot or quotation mark included.
    pub start: usize,
    /// Byte after the token.
    pub end: usize,
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%')
}

/// Splits a PTX text into tokens, one at a time. A NUL byte ends the text, as it does for the driver, which takes a C string.
pub struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    position: usize,
    line: u32,
    line_start: usize,
}

impl<'a> Lexer<'a> {
    /// At the beginning of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), position: 0, line: 1, line_start: 0 }
    }

    /// The token that ends the text where it stands.
    pub fn end(&self) -> Token<'a> {
        let position = self.position;
        let (line, column) = (self.line, self.column(position));
        Token { kind: TokenKind::End, text: "", line, column, start: position, end: position }
    }

    fn at(&self, ahead: usize) -> u8 {
        self.bytes.get(self.position + ahead).copied().unwrap_or(0)
    }

    fn column(&self, position: usize) -> u32 {
        (position - self.line_start + 1).try_into().unwrap_or(u32::MAX)
    }

    fn error(&self, message: String) -> PtxError {
        PtxError::new(self.line, self.column(self.position), message)
    }

    fn newline(&mut self) {
        self.line = self.line.saturating_add(1);
        self.line_start = self.position + 1;
    }

    fn skip_blank(&mut self) -> Result<(), PtxError> {
        loop {
            match self.at(0) {
                b'\n' => {
                    self.newline();
                    self.position += 1;
                }
                b' ' | b'\t' | b'\r' | 0x0B | 0x0C => self.position += 1,
                b'/' if self.at(1) == b'/' => {
                    while self.position < self.bytes.len() && self.at(0) != b'\n' {
                        self.position += 1;
                    }
                }
                b'/' if self.at(1) == b'*' => self.skip_block_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn skip_block_comment(&mut self) -> Result<(), PtxError> {
        let open = self.error("this comment does not end: `*/` is missing".into());
        self.position += 2;
        while self.position < self.bytes.len() {
            match self.at(0) {
                b'*' if self.at(1) == b'/' => {
                    self.position += 2;
                    return Ok(());
                }
                b'\n' => self.newline(),
                _ => {}
            }
            self.position += 1;
        }
        Err(open)
    }

    /// The next token; at the end of the text, [`TokenKind::End`] again and again.
    ///
    /// # Errors
    /// An unknown character, or a comment or string that does not end.
    pub fn token(&mut self) -> Result<Token<'a>, PtxError> {
        self.skip_blank()?;
        let start = self.position;
        let (line, column) = (self.line, self.column(start));

        let (kind, text) = match self.at(0) {
            // Also at the end of the bytes, where `at` gives 0.
            0 => (TokenKind::End, ""),
            b'.' if is_word(self.at(1)) => {
                self.position += 1;
                (TokenKind::Dotted, self.dotted())
            }
            byte if is_word_start(byte) => (TokenKind::Word, self.span(is_word)),
            byte if byte.is_ascii_digit() => (TokenKind::Number, self.number()),
            b'"' => (TokenKind::Text, self.string()?),
            byte if b"{}[]()<>,;:@!|+-=*.~&^?/".contains(&byte) => {
                self.position += 1;
                (TokenKind::Punctuation(byte), self.text.get(start..self.position).unwrap_or(""))
            }
            _ => {
                let found = self.text.get(start..).and_then(|rest| rest.chars().next()).unwrap_or('?');
                return Err(self.error(format!("unexpected character {}", quote(&found.to_string()))));
            }
        };

        Ok(Token { kind, text, line, column, start, end: self.position })
    }

    fn span(&mut self, accept: fn(u8) -> bool) -> &'a str {
        let start = self.position;
        while accept(self.at(0)) {
            self.position += 1;
        }
        self.text.get(start..self.position).unwrap_or("")
    }

    /// A modifier may hold `::` (`L1::no_allocate`, `mbarrier::complete_tx::bytes`).
    fn dotted(&mut self) -> &'a str {
        let start = self.position;
        loop {
            self.span(is_word);
            if self.at(0) != b':' || self.at(1) != b':' || !is_word(self.at(2)) {
                return self.text.get(start..self.position).unwrap_or("");
            }
            self.position += 2;
        }
    }

    /// Digits, letters (radix, suffix, exponent) and at most one decimal point with digits after it.
    fn number(&mut self) -> &'a str {
        let start = self.position;
        self.span(|byte| byte.is_ascii_alphanumeric());
        if self.at(0) == b'.' && self.at(1).is_ascii_digit() {
            self.position += 1;
            let fraction = self.span(|byte| byte.is_ascii_alphanumeric());
            if fraction.ends_with(['e', 'E']) && matches!(self.at(0), b'+' | b'-') {
                self.position += 1;
                self.span(|byte| byte.is_ascii_digit());
            }
        }
        self.text.get(start..self.position).unwrap_or("")
    }

    fn string(&mut self) -> Result<&'a str, PtxError> {
        let open = self.error("this string does not end on its line".into());
        self.position += 1;
        let start = self.position;
        while self.position < self.bytes.len() {
            match self.at(0) {
                b'"' => {
                    let text = self.text.get(start..self.position).unwrap_or("");
                    self.position += 1;
                    return Ok(text);
                }
                b'\n' => return Err(open),
                b'\\' if self.at(1) != b'\n' => self.position += 2,
                _ => self.position += 1,
            }
        }
        self.position = self.bytes.len();
        Err(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenize(text: &str) -> Result<Vec<Token<'_>>, PtxError> {
        let mut lexer = Lexer::new(text);
        let mut tokens = Vec::new();
        while tokens.last().is_none_or(|token: &Token<'_>| token.kind != TokenKind::End) {
            tokens.push(lexer.token()?);
        }
        Ok(tokens)
    }

    fn texts(source: &str) -> Vec<(TokenKind, &str)> {
        tokenize(source).unwrap().iter().map(|t| (t.kind, t.text)).collect()
    }

    #[test]
    fn an_instruction() {
        use TokenKind::*;
        let expected = [
            // The guard.
            (Punctuation(b'@'), "@"),
            (Punctuation(b'!'), "!"),
            (Word, "%p1"),
            // The mnemonic.
            (Word, "ld"),
            (Dotted, "shared::cta"),
            (Dotted, "L1::no_allocate"),
            (Dotted, "2d"),
            // The operands.
            (Word, "%r1"),
            (Punctuation(b','), ","),
            (Punctuation(b'['), "["),
            (Word, "%rd1"),
            (Punctuation(b'+'), "+"),
            (Punctuation(b'-'), "-"),
            (Number, "4"),
            (Punctuation(b']'), "]"),
            (Punctuation(b';'), ";"),
            (End, ""),
        ];

        assert_eq!(texts("@!%p1 ld.shared::cta.L1::no_allocate.2d %r1, [%rd1+-4]; // end"), expected);
    }

    #[test]
    fn numbers_and_strings() {
        use TokenKind::*;
        assert_eq!(
            texts("0f3F800000 0x1FU 9.0 1.5e-3")[..4].iter().map(|t| t.1).collect::<Vec<_>>(),
            ["0f3F800000", "0x1FU", "9.0", "1.5e-3"]
        );
        assert_eq!(texts(r#""a\"b" "é""#)[..2], [(Text, r#"a\"b"#), (Text, "é")]);
    }

    #[test]
    fn lines_and_columns_survive_comments() {
        let tokens = tokenize("a /* x\n y */ b\n  // c\n  d\0 rest").unwrap();
        let places: Vec<_> = tokens.iter().map(|t| (t.text, t.line, t.column)).collect();
        assert_eq!(places, [("a", 1, 1), ("b", 2, 7), ("d", 4, 3), ("", 4, 4)]);
    }

    #[test]
    fn errors_name_the_place() {
        assert_eq!(tokenize("a\n é").unwrap_err().to_string(), "PTX line 2, column 2: unexpected character `é`");
        assert_eq!(tokenize("\n /* a").unwrap_err().line, 2);
        assert_eq!(tokenize("\"abc\n\"").unwrap_err().line, 1);
        assert!(tokenize("\"abc\\").is_err());
    }
}
