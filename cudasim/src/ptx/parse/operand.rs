//! Operands. Their syntax tells their kind; whether an instruction takes that kind is checked afterwards.

use super::Parser;
use super::cursor::error_at;
use super::frame::Frame;
use crate::ptx::error::{PtxError, quote};
use crate::ptx::lexer::{Token, TokenKind};
use crate::ptx::module::{RegisterId, Symbol};
use crate::ptx::operand::{Address, AddressBase, Operand, Selector, SpecialRegister};
use crate::ptx::scope::Name;

impl<'a> Parser<'a> {
    /// One operand of an instruction (not the label of a branch).
    pub(super) fn operand(&mut self, frame: &Frame<'a>) -> Result<Operand, PtxError> {
        let token = self.cursor.peek();
        match token.kind {
            TokenKind::Punctuation(b'{') => self.vector(frame),
            TokenKind::Punctuation(b'[') => self.address(frame),
            TokenKind::Punctuation(b'!') => {
                self.cursor.next();
                Ok(Operand::Not(self.register(frame)?))
            }
            TokenKind::Punctuation(b'-') if self.cursor.peek_second().kind == TokenKind::Word => {
                self.cursor.next();
                self.part(frame)
            }
            TokenKind::Punctuation(b'-') | TokenKind::Number => Ok(Operand::Immediate(self.cursor.immediate()?)),
            TokenKind::Word => self.named(frame),
            _ => Err(self.cursor.unexpected("an operand")),
        }
    }

    fn named(&mut self, frame: &Frame<'a>) -> Result<Operand, PtxError> {
        let token = self.cursor.next();
        if token.text == "_" {
            return match self.cursor.accept(b'|') {
                true => Ok(Operand::Pair(None, Some(self.register(frame)?))),
                false => Ok(Operand::Sink),
            };
        }
        match self.meaning(frame, token) {
            Some(Name::Register(register)) => match self.selector(token)? {
                Some(selector) => Ok(Operand::Part(register, selector)),
                None => self.after_register(frame, register),
            },
            Some(Name::Symbol(symbol)) => Ok(Operand::Symbol(symbol, self.cursor.offset()?)),
            Some(Name::Prototype(index)) => Ok(Operand::Prototype(index)),
            Some(Name::Targets(_) | Name::Label(_)) => {
                Err(error_at(token, format!("{} is a label, which cannot stand here", quote(token.text))))
            }
            None => self.special(token),
        }
    }

    /// A register behind a minus.
    fn part(&mut self, frame: &Frame<'a>) -> Result<Operand, PtxError> {
        let token = self.cursor.peek();
        let register = self.register(frame)?;
        let selector = self.selector(token)?.unwrap_or_default();
        Ok(Operand::Part(register, Selector { negated: true, ..selector }))
    }

    /// The selector that follows a register without a space, where one does.
    fn selector(&mut self, register: Token<'a>) -> Result<Option<Selector>, PtxError> {
        let next = self.cursor.peek();
        if next.kind != TokenKind::Dotted || next.start != register.end {
            return Ok(None);
        }
        let selector = Selector::from_name(next.text);
        let selector = selector.ok_or_else(|| error_at(next, format!("unknown part {}", quote(next.text))))?;
        self.cursor.next();
        Ok(Some(selector))
    }

    fn after_register(&mut self, frame: &Frame<'a>, register: RegisterId) -> Result<Operand, PtxError> {
        if !self.cursor.accept(b'|') {
            return Ok(Operand::Register(register));
        }
        let second = if self.cursor.accept_word("_") { None } else { Some(self.register(frame)?) };
        Ok(Operand::Pair(Some(register), second))
    }

    fn special(&mut self, token: Token<'a>) -> Result<Operand, PtxError> {
        let axis = Some(self.cursor.peek()).filter(|next| next.kind == TokenKind::Dotted && next.start == token.end);
        match SpecialRegister::from_name(token.text, axis.map(|next| next.text)) {
            Some(special) => {
                if axis.is_some() {
                    self.cursor.next();
                }
                Ok(Operand::Special(special))
            }
            None => Err(error_at(token, format!("unknown name {}", quote(token.text)))),
        }
    }

    /// What a word means in the open scope, or else in the module.
    pub(super) fn meaning(&self, frame: &Frame<'a>, token: Token<'a>) -> Option<Name> {
        let inside = frame.scopes.lookup(frame.scopes.current(), token.text);
        inside.or_else(|| self.symbols.get(token.text).copied().map(Name::Symbol))
    }

    pub(super) fn register(&mut self, frame: &Frame<'a>) -> Result<RegisterId, PtxError> {
        let token = self.cursor.word("a register")?;
        match self.meaning(frame, token) {
            Some(Name::Register(register)) => Ok(register),
            Some(_) => Err(error_at(token, format!("{} is not a register", quote(token.text)))),
            None => Err(error_at(token, format!("unknown register {}", quote(token.text)))),
        }
    }

    fn vector(&mut self, frame: &Frame<'a>) -> Result<Operand, PtxError> {
        self.cursor.expect(b'{')?;
        let mut elements = Vec::new();
        loop {
            // Vectors hold no vectors, so this does not nest.
            if self.cursor.is(b'{') || self.cursor.is(b'[') {
                return Err(self.cursor.unexpected("a register or a constant"));
            }
            elements.push(self.operand(frame)?);
            if !self.cursor.accept(b',') {
                break;
            }
        }
        self.cursor.expect(b'}')?;
        Ok(Operand::Vector(elements))
    }

    fn address(&mut self, frame: &Frame<'a>) -> Result<Operand, PtxError> {
        self.cursor.expect(b'[')?;

        // The base: a register, a symbol, or none.
        let token = self.cursor.peek();
        let address = if token.kind == TokenKind::Word {
            let base = match self.meaning(frame, token) {
                Some(Name::Register(register)) => AddressBase::Register(register),
                Some(Name::Symbol(Symbol::Function(_))) => {
                    return Err(error_at(token, format!("{} is a function, not memory", quote(token.text))));
                }
                Some(Name::Symbol(symbol)) => AddressBase::Symbol(symbol),
                _ => return Err(error_at(token, format!("unknown name {} in an address", quote(token.text)))),
            };
            self.cursor.next();
            Address { base, offset: self.cursor.offset()? }
        } else {
            let negative = self.cursor.accept(b'-');
            let offset = self.cursor.integer("an address")?.cast_signed();
            Address { base: AddressBase::Absolute, offset: if negative { offset.wrapping_neg() } else { offset } }
        };

        // Coordinates make it the address of a tensor.
        let operand = if self.cursor.accept(b',') {
            let Operand::Vector(coordinates) = self.vector(frame)? else {
                return Err(self.cursor.unexpected("coordinates in braces"));
            };
            Operand::Tensor(address, coordinates)
        } else {
            Operand::Address(address)
        };

        self.cursor.expect(b']')?;
        Ok(operand)
    }
}
