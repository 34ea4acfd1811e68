//! The parser: directives of module scope here, declarations, bodies and operands in the files beside.

mod body;
mod cursor;
mod declaration;
mod frame;
mod function;
mod operand;

use super::error::{PtxError, quote};
use super::form::Form;
use super::lexer::TokenKind;
use super::module::{Linkage, Module, Symbol};
use super::types::StateSpace;
use cursor::{Cursor, error_at};
use std::collections::HashMap;
use std::sync::Arc;

struct Parser<'a> {
    cursor: Cursor<'a>,
    module: Module,
    /// Variables and functions of module scope.
    symbols: HashMap<&'a str, Symbol>,
    /// Instructions that were met, by mnemonic: most of a kernel repeats a few dozen.
    forms: HashMap<&'a str, Arc<Form>>,
    /// Bytes of initial values so far.
    initial_bytes: usize,
}

/// Reads a PTX text. A NUL byte ends it.
///
/// # Errors
/// Where the text is not PTX, names something unknown, or has an instruction that the simulator does not execute: the
/// first such place, with its line.
pub fn parse(text: &str) -> Result<Module, PtxError> {
    let mut parser = Parser {
        cursor: Cursor::new(text),
        module: Module { address_size: 32, ..Module::default() },
        symbols: HashMap::new(),
        forms: HashMap::new(),
        initial_bytes: 0,
    };
    let read = parser.module();
    match parser.cursor.broken() {
        Some(error) => Err(error),
        None => read.map(|()| parser.module),
    }
}

impl<'a> Parser<'a> {
    fn module(&mut self) -> Result<(), PtxError> {
        self.header()?;
        while !self.cursor.at_end() {
            self.directive()?;
        }
        Ok(())
    }

    /// `.version` and `.target`, with which every module begins.
    fn header(&mut self) -> Result<(), PtxError> {
        if !self.cursor.accept_dotted("version") {
            return Err(self.cursor.unexpected("`.version`, with which PTX begins"));
        }
        let token = self.cursor.of_kind(TokenKind::Number, "a version such as 9.0")?;
        let version = token.text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        self.module.version = version.ok_or_else(|| error_at(token, "a version is written as 9.0"))?;
        if !self.cursor.accept_dotted("target") {
            return Err(self.cursor.unexpected("`.target`"));
        }
        loop {
            self.module.targets.push(self.cursor.word("a target such as sm_80")?.text.into());
            if !self.cursor.accept(b',') {
                return Ok(());
            }
        }
    }

    fn directive(&mut self) -> Result<(), PtxError> {
        let token = self.cursor.peek();
        if token.kind != TokenKind::Dotted {
            if self.cursor.accept(b';') {
                return Ok(());
            }
            return Err(self.cursor.unexpected("a directive"));
        }

        match token.text {
            "address_size" => {
                self.cursor.next();
                self.module.address_size = match self.cursor.integer32("an address size")? {
                    size @ (32 | 64) => size,
                    other => return Err(error_at(token, format!("`.address_size {other}`: it is 32 or 64"))),
                };
                Ok(())
            }
            "file" => self.file(),
            "section" => self.section(),
            "pragma" => self.pragma(),
            "loc" => {
                self.cursor.next();
                self.location().map(drop)
            }
            _ => self.definition(),
        }
    }

    /// `.file 1 "kernel.cu"`, optionally with `, time, size`.
    fn file(&mut self) -> Result<(), PtxError> {
        self.cursor.next();
        let number = self.cursor.integer32("the number of a file")?;
        let path = self.cursor.of_kind(TokenKind::Text, "the path of a file")?;
        self.module.files.push((number, path.text.into()));
        while self.cursor.accept(b',') {
            self.cursor.integer("the time or size of a file")?;
        }
        Ok(())
    }

    /// Debugging information: skipped.
    fn section(&mut self) -> Result<(), PtxError> {
        self.cursor.next();
        while !self.cursor.is(b'{') {
            if self.cursor.at_end() {
                return Err(self.cursor.unexpected("`{`"));
            }
            self.cursor.next();
        }

        let mut depth = 0usize;
        loop {
            match self.cursor.peek().kind {
                TokenKind::Punctuation(b'{') => depth += 1,
                TokenKind::Punctuation(b'}') => depth -= 1,
                TokenKind::End => return Err(self.cursor.unexpected("`}`, the end of a section")),
                _ => {}
            }
            self.cursor.next();
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// `.pragma "nounroll";`: advice to a compiler.
    fn pragma(&mut self) -> Result<(), PtxError> {
        self.cursor.next();
        loop {
            self.cursor.of_kind(TokenKind::Text, "a pragma in quotation marks")?;
            if !self.cursor.accept(b',') {
                return self.cursor.expect(b';');
            }
        }
    }

    /// A variable, an entry or a function, behind its linkage.
    fn definition(&mut self) -> Result<(), PtxError> {
        let mut linkage = Linkage::Internal;
        loop {
            let token = self.cursor.next();
            match token.text {
                // Linkage.
                "visible" => linkage = Linkage::Visible,
                "extern" => linkage = Linkage::Extern,
                "weak" => linkage = Linkage::Weak,
                "common" => linkage = Linkage::Common,

                // What is defined.
                "entry" => return self.function(true, linkage, token),
                "func" => return self.function(false, linkage, token),
                "global" => return self.globals(StateSpace::Global, linkage),
                "const" => return self.globals(StateSpace::Const, linkage),
                "shared" => return self.globals(StateSpace::Shared, linkage),

                other => {
                    let directive = quote(&format!(".{other}"));
                    return Err(error_at(token, format!("unknown or unsupported directive {directive}")));
                }
            }

            if self.cursor.peek().kind != TokenKind::Dotted {
                return Err(self.cursor.unexpected("a directive"));
            }
        }
    }

    fn globals(&mut self, space: StateSpace, linkage: Linkage) -> Result<(), PtxError> {
        for (token, variable) in self.variables(space, linkage)? {
            let symbol = Symbol::Global(declaration::index(self.module.variables.len(), token)?);
            // nvcc declares an `extern` variable again where it is used; the first is enough.
            if let Some(&Symbol::Global(before)) = self.symbols.get(token.text) {
                let before = self.module.variables.get_mut(before as usize);
                if let Some(before) = before.filter(|b| b.linkage == Linkage::Extern && b.space == space) {
                    *before = variable;
                    continue;
                }
            }
            if self.symbols.insert(token.text, symbol).is_some() {
                return Err(error_at(token, format!("{} is declared twice", quote(token.text))));
            }
            self.module.variables.push(variable);
        }
        Ok(())
    }
}
