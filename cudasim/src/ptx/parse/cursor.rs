//! A place in the tokens, and the small steps that every part of the parser takes.

use crate::ptx::error::{PtxError, quote};
use crate::ptx::lexer::{Token, TokenKind, tokenize};
use crate::ptx::operand::Immediate;

pub(super) struct Cursor<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    position: usize,
    end: Token<'a>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, PtxError> {
        let tokens = tokenize(text)?;
        let end = Token { kind: TokenKind::End, text: "", line: 1, column: 1, start: text.len(), end: text.len() };
        let end = tokens.last().copied().unwrap_or(end);
        Ok(Self { text, tokens, position: 0, end })
    }

    /// The token `ahead` of the next one.
    pub(super) fn peek_at(&self, ahead: usize) -> Token<'a> {
        self.tokens.get(self.position + ahead).copied().unwrap_or(self.end)
    }

    pub(super) fn peek(&self) -> Token<'a> {
        self.peek_at(0)
    }

    pub(super) fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.position += 1;
        token
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
        let found = self.is(punctuation);
        self.position += usize::from(found);
        found
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
        let found = token.kind == TokenKind::Dotted && token.text == name;
        self.position += usize::from(found);
        found
    }

    /// Takes the word `name` if it is next.
    pub(super) fn accept_word(&mut self, name: &str) -> bool {
        let token = self.peek();
        let found = token.kind == TokenKind::Word && token.text == name;
        self.position += usize::from(found);
        found
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
