//! A place in the tokens, and the small steps that every part of the parser takes. Tokens are read as they are needed: a list of
//! all of them would be many times as large as the text.

use crate::ptx::error::{PtxError, quote};
use crate::ptx::lexer::{Lexer, Token, TokenKind};
use crate::ptx::operand::Immediate;

pub(super) struct Cursor<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    /// The next token, and the one behind it.
    ahead: [Token<'a>; 2],
    /// Why the text seems to end where it cannot be split into tokens.
    broken: Option<PtxError>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let lexer = Lexer::new(text);
        let mut cursor = Self { text, ahead: [lexer.end(); 2], lexer, broken: None };
        cursor.next();
        cursor.next();
        cursor
    }

    /// What kept the text from being read to its end, if it was not the parser.
    pub(super) fn broken(self) -> Option<PtxError> {
        self.broken
    }

    pub(super) fn peek(&self) -> Token<'a> {
        self.ahead[0]
    }

    /// The token behind the next one.
    pub(super) fn peek_second(&self) -> Token<'a> {
        self.ahead[1]
    }

    pub(super) fn next(&mut self) -> Token<'a> {
        let [token, second] = self.ahead;
        let read = if self.broken.is_none() { self.lexer.token() } else { Ok(self.lexer.end()) };
        let third = read.unwrap_or_else(|error| {
            self.broken = Some(error);
            self.lexer.end()
        });
        self.ahead = [second, third];
        token
    }

    /// Takes the next token if it is the right one.
    fn next_if(&mut self, found: bool) -> bool {
        if found {
            self.next();
        }
        found
    }

    /// The text from one token to another, both included.
    pub(super) fn slice(&self, first: Token<'a>, last: Token<'a>) -> &'a str {
        self.text.get(first.start..last.end).unwrap_or(first.text)
    }

    pub(super) fn at_end(&self) -> bool {
        self.peek().kind == TokenKind::End
    }

    pub(super) fn is(&self, punctuation: u8) -> bool {
        self.peek().kind == TokenKind::Punctuation(punctuation)
    }

    /// Takes `punctuation` if it is next.
    pub(super) fn accept(&mut self, punctuation: u8) -> bool {
        self.next_if(self.is(punctuation))
    }

    pub(super) fn expect(&mut self, punctuation: u8) -> Result<(), PtxError> {
        if self.accept(punctuation) {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{}`", char::from(punctuation))))
    }

    /// Takes `.name` if it is next.
    pub(super) fn accept_dotted(&mut self, name: &str) -> bool {
        let token = self.peek();
        self.next_if(token.kind == TokenKind::Dotted && token.text == name)
    }

    /// Takes the word `name` if it is next.
    pub(super) fn accept_word(&mut self, name: &str) -> bool {
        let token = self.peek();
        self.next_if(token.kind == TokenKind::Word && token.text == name)
    }

    pub(super) fn word(&mut self, what: &str) -> Result<Token<'a>, PtxError> {
        self.of_kind(TokenKind::Word, what)
    }

    pub(super) fn of_kind(&mut self, kind: TokenKind, what: &str) -> Result<Token<'a>, PtxError> {
        match self.peek() {
            token if token.kind == kind => Ok(self.next()),
            _ => Err(self.unexpected(what)),
        }
    }

    /// An unsigned integer.
    pub(super) fn integer(&mut self, what: &str) -> Result<u64, PtxError> {
        let token = self.of_kind(TokenKind::Number, what)?;
        match Immediate::from_text(token.text) {
            Some(Immediate::Integer(value)) => Ok(value),
            _ => Err(error_at(token, format!("{} is not {what}", quote(token.text)))),
        }
    }

    /// An unsigned integer of 32 bits.
    pub(super) fn integer32(&mut self, what: &str) -> Result<u32, PtxError> {
        let token = self.peek();
        u32::try_from(self.integer(what)?)
            .map_err(|_| error_at(token, format!("{} is too large for {what}", quote(token.text))))
    }

    /// A number of any kind, with a sign or without.
    pub(super) fn immediate(&mut self) -> Result<Immediate, PtxError> {
        let negative = self.accept(b'-');
        let token = self.of_kind(TokenKind::Number, "a number")?;
        let value = Immediate::from_text(token.text)
            .ok_or_else(|| error_at(token, format!("{} is not a number", quote(token.text))))?;
        Ok(if negative { value.negated() } else { value })
    }

    /// `+4`, `-4`, `+-4` or nothing, which is 0.
    pub(super) fn offset(&mut self) -> Result<i64, PtxError> {
        let token = self.peek();
        if !self.accept(b'+') && !self.is(b'-') {
            return Ok(0);
        }
        match self.immediate()? {
            Immediate::Integer(value) => Ok(value.cast_signed()),
            _ => Err(error_at(token, "an offset must be an integer")),
        }
    }

    pub(super) fn unexpected(&self, wanted: &str) -> PtxError {
        let token = self.peek();
        let found = match token.kind {
            TokenKind::End => "the end of the text".into(),
            TokenKind::Dotted => quote(&format!(".{}", token.text)),
            _ => quote(token.text),
        };
        error_at(token, format!("expected {wanted}, found {found}"))
    }
}

pub(super) fn error_at(token: Token<'_>, message: impl Into<String>) -> PtxError {
    PtxError::new(token.line, token.column, message)
}
