//! Bodies of functions: scopes, declarations, labels, positions and instructions.

use super::Parser;
use super::cursor::error_at;
use super::declaration::index;
use super::frame::{Frame, Pending, Place, UNRESOLVED, declare, twice};
use crate::ptx::check;
use crate::ptx::error::{PtxError, quote};
use crate::ptx::form::{Form, OperandKind};
use crate::ptx::lexer::{Token, TokenKind};
use crate::ptx::module::{
    Body, Guard, Instruction, Label, LabelId, Linkage, Parameter, Prototype, RegisterId, RegisterRange, Symbol,
};
use crate::ptx::opcode::Opcode;
use crate::ptx::operand::Operand;
use crate::ptx::scope::Name;
use crate::ptx::types::{ScalarType, StateSpace};
use std::sync::Arc;

/// Registers of one function; the largest kernels nvcc writes have some ten thousand.
const MAX_REGISTERS: u32 = 1 << 20;
const MAX_MODIFIERS: usize = 24;

impl<'a> Parser<'a> {
    /// `{ ... }` of a function.
    pub(super) fn body(
        &mut self,
        results: &[(Token<'a>, Parameter)],
        parameters: &[(Token<'a>, Parameter)],
    ) -> Result<Body, PtxError> {
        let mut frame = Frame::new();

        // Results and parameters are named in the whole body.
        for (place, (token, _)) in (0..).zip(results) {
            declare(&mut frame, *token, Name::Symbol(Symbol::Result(place)))?;
        }
        for (place, (token, _)) in (0..).zip(parameters) {
            declare(&mut frame, *token, Name::Symbol(Symbol::Parameter(place)))?;
        }

        // Statements up to the brace that closes the outermost scope.
        self.cursor.expect(b'{')?;
        loop {
            let token = self.cursor.peek();
            match token.kind {
                TokenKind::Punctuation(b'{') => {
                    if !frame.scopes.enter() {
                        return Err(error_at(token, "too many scopes inside one another"));
                    }
                    self.cursor.next();
                }
                TokenKind::Punctuation(b'}') => {
                    self.cursor.next();
                    if !frame.scopes.leave() {
                        break;
                    }
                }
                TokenKind::Punctuation(b';') => {
                    self.cursor.next();
                }
                TokenKind::Dotted => self.body_directive(&mut frame)?,
                TokenKind::Word if self.cursor.peek_second().kind == TokenKind::Punctuation(b':') => {
                    self.label(&mut frame)?;
                }
                TokenKind::Word | TokenKind::Punctuation(b'@') => self.instruction(&mut frame)?,
                _ => return Err(self.cursor.unexpected("a statement or `}`")),
            }
        }
        frame.resolve()
    }

    fn body_directive(&mut self, frame: &mut Frame<'a>) -> Result<(), PtxError> {
        let token = self.cursor.peek();
        let space = match token.text {
            "reg" => return self.registers(frame),
            "loc" => {
                self.cursor.next();
                let (source, inlined_at) = self.location()?;
                return frame.locate(source, inlined_at, token);
            }
            "pragma" => return self.pragma(),
            "local" => StateSpace::Local,
            "shared" => StateSpace::Shared,
            "param" => StateSpace::Param,
            "global" | "const" => {
                self.cursor.next();
                let space = if token.text == "global" { StateSpace::Global } else { StateSpace::Const };
                // Static data of a function lives as long as the module; only its name is local.
                for (name, variable) in self.variables(space, Linkage::Internal)? {
                    let id = index(self.module.variables.len(), name)?;
                    self.module.variables.push(variable);
                    declare(frame, name, Name::Symbol(Symbol::Global(id)))?;
                }
                return Ok(());
            }
            other => {
                let directive = quote(&format!(".{other}"));
                return Err(error_at(token, format!("unknown or unsupported directive {directive}")));
            }
        };

        // Space of the function's own: its variables, with names in this scope.
        self.cursor.next();
        for (name, variable) in self.variables(space, Linkage::Internal)? {
            let id = index(frame.body.variables.len(), name)?;
            frame.body.variables.push(variable);
            declare(frame, name, Name::Symbol(Symbol::Local(id)))?;
        }
        Ok(())
    }

    /// `.reg .b32 %r<10>, %x;`
    fn registers(&mut self, frame: &mut Frame<'a>) -> Result<(), PtxError> {
        self.cursor.next();
        let token = self.cursor.of_kind(TokenKind::Dotted, "the type of a register")?;
        let ty = ScalarType::from_name(token.text).filter(|ty| ty.is_fundamental()).ok_or_else(|| {
            error_at(token, format!("{} is not the type of a register", quote(&format!(".{}", token.text))))
        })?;

        loop {
            let name = self.cursor.word("the name of a register")?;
            let numbered = self.cursor.accept(b'<');
            let count = if numbered { self.cursor.integer32("a number of registers")? } else { 1 };
            if numbered {
                self.cursor.expect(b'>')?;
            }

            let first = index(frame.body.register_count(), name)?;
            if first.saturating_add(count) > MAX_REGISTERS {
                return Err(error_at(name, format!("more than {MAX_REGISTERS} registers in a function")));
            }
            let first = RegisterId(first);

            match numbered {
                true if frame.scopes.declare_numbered(name.text, first, count) => {}
                true => return Err(twice(name)),
                false => declare(frame, name, Name::Register(first))?,
            }

            if count > 0 {
                let name = name.text.into();
                frame.body.registers.push(RegisterRange { name, numbered, first, count, ty });
            }

            if !self.cursor.accept(b',') {
                return self.cursor.expect(b';');
            }
        }
    }

    /// Behind `.loc`: `1 20 5, function_name $L__info_string0, inlined_at 1 30 8`.
    pub(super) fn location(&mut self) -> Result<([u32; 3], Option<[u32; 3]>), PtxError> {
        let source = self.position()?;
        let mut inlined_at = None;
        while self.cursor.accept(b',') {
            if self.cursor.accept_word("function_name") {
                self.cursor.word("the label of a function's name")?;
                self.cursor.offset()?;
            } else if self.cursor.accept_word("inlined_at") {
                inlined_at = Some(self.position()?);
            } else {
                return Err(self.cursor.unexpected("`function_name` or `inlined_at`"));
            }
        }
        Ok((source, inlined_at))
    }

    fn position(&mut self) -> Result<[u32; 3], PtxError> {
        let file = self.cursor.integer32("the number of a file")?;
        Ok([file, self.cursor.integer32("a line")?, self.cursor.integer32("a column")?])
    }

    /// `name:`, behind which a branch table or a prototype may stand.
    fn label(&mut self, frame: &mut Frame<'a>) -> Result<(), PtxError> {
        let name = self.cursor.next();
        self.cursor.expect(b':')?;

        // A branch table: its labels are resolved when all are known.
        if self.cursor.accept_dotted("branchtargets") {
            let table = frame.body.branch_tables.len();
            declare(frame, name, Name::Targets(index(table, name)?))?;
            let mut labels = Vec::new();
            loop {
                let token = self.cursor.word("a label")?;
                frame.pending.push(Pending {
                    token,
                    scope: frame.scopes.current(),
                    place: Place::Table(table, labels.len()),
                });
                labels.push(UNRESOLVED);
                if !self.cursor.accept(b',') {
                    break;
                }
            }
            frame.body.branch_tables.push(labels);
            return self.cursor.expect(b';');
        }

        // A prototype for indirect calls.
        if self.cursor.accept_dotted("callprototype") {
            let id = index(frame.body.prototypes.len(), name)?;
            declare(frame, name, Name::Prototype(id))?;
            let results = if self.cursor.is(b'(') { self.parameters()? } else { Vec::new() };
            self.cursor.word("`_`")?;
            let parameters = if self.cursor.is(b'(') { self.parameters()? } else { Vec::new() };
            let only = |list: Vec<(Token<'a>, Parameter)>| list.into_iter().map(|(_, parameter)| parameter).collect();
            frame.body.prototypes.push(Prototype { results: only(results), parameters: only(parameters) });
            self.cursor.accept_dotted("noreturn");
            return self.cursor.expect(b';');
        }

        // A plain label: the next instruction.
        let id = LabelId(index(frame.body.labels.len(), name)?);
        frame.body.labels.push(Label { name: name.text.into(), target: frame.body.instructions.len() });
        declare(frame, name, Name::Label(id))
    }

    fn instruction(&mut self, frame: &mut Frame<'a>) -> Result<(), PtxError> {
        // The guard: `@%p1` or `@!%p1`.
        let guard = match self.cursor.accept(b'@') {
            true => {
                let negated = self.cursor.accept(b'!');
                let token = self.cursor.peek();
                let register = self.register(frame)?;
                if frame.body.register_type(register) != Some(ScalarType::Pred) {
                    return Err(error_at(token, format!("{} is not a predicate", quote(token.text))));
                }
                Some(Guard { register, negated })
            }
            false => None,
        };

        // The form and the operands; labels are resolved later.
        let start = self.cursor.word("an instruction")?;
        let form = self.form(start)?;
        let operands = match form.opcode {
            Opcode::Bra => vec![self.later(frame, 0, Operand::Label(UNRESOLVED))?],
            Opcode::Brx => {
                let selector = self.operand(frame)?;
                self.cursor.expect(b',')?;
                vec![selector, self.later(frame, 1, Operand::Targets(u32::MAX))?]
            }
            Opcode::Call => self.call(frame, start)?,
            _ => self.operands(frame)?,
        };
        self.cursor.expect(b';')?;

        // The operand list that these operands follow.
        let signature = check::signature(&form, &operands, &frame.body)
            .map_err(|message| error_at(start, format!("{}: {message}", quote(&form.mnemonic))))?;

        // Where a value is wanted, `{%r1}` is `%r1`.
        let mut operands = operands;
        let rules = form.signatures.get(usize::from(signature)).map_or(&[][..], Vec::as_slice);
        for (operand, rule) in operands.iter_mut().zip(rules) {
            if let (Operand::Vector(elements), OperandKind::Value { .. }) = (&mut *operand, rule.kind)
                && let Some(only) = elements.pop()
            {
                *operand = only;
            }
        }

        let source = frame.source;
        frame.body.instructions.push(Instruction { form, signature, guard, operands, line: start.line, source });
        Ok(())
    }

    fn form(&mut self, start: Token<'a>) -> Result<Arc<Form>, PtxError> {
        let mut modifiers = [""; MAX_MODIFIERS];
        let mut count = 0;

        // All the modifiers that follow.
        let mut last = start;
        while self.cursor.peek().kind == TokenKind::Dotted {
            last = self.cursor.next();
            let Some(place) = modifiers.get_mut(count) else {
                return Err(error_at(last, "too many modifiers"));
            };
            *place = last.text;
            count += 1;
        }

        // Forms are made once and shared.
        let mnemonic = self.cursor.slice(start, last);
        if let Some(form) = self.forms.get(mnemonic) {
            return Ok(Arc::clone(form));
        }

        let form = Form::new(start.text, modifiers.get(..count).unwrap_or(&[]), mnemonic);
        let form = Arc::new(form.map_err(|message| error_at(start, message))?);
        self.forms.insert(mnemonic, Arc::clone(&form));
        Ok(form)
    }

    fn operands(&mut self, frame: &Frame<'a>) -> Result<Vec<Operand>, PtxError> {
        let mut operands = Vec::with_capacity(4);
        if self.cursor.is(b';') {
            return Ok(operands);
        }
        loop {
            operands.push(self.operand(frame)?);
            if !self.cursor.accept(b',') {
                return Ok(operands);
            }
        }
    }

    /// A label or branch table, as operand number `place` of the instruction that is being read. `stand_in` stands for
    /// it until all names are known.
    fn later(&mut self, frame: &mut Frame<'a>, place: usize, stand_in: Operand) -> Result<Operand, PtxError> {
        let token = self.cursor.word("a label")?;
        let place = Place::Operand(frame.body.instructions.len(), place);
        frame.pending.push(Pending { token, scope: frame.scopes.current(), place });
        Ok(stand_in)
    }

    /// `(results), callee, (arguments), prototype`, of which all but the callee may be missing.
    fn call(&mut self, frame: &Frame<'a>, start: Token<'a>) -> Result<Vec<Operand>, PtxError> {
        let results = if self.cursor.is(b'(') {
            let results = self.list(frame)?;
            self.cursor.expect(b',')?;
            results
        } else {
            Vec::new()
        };

        let token = self.cursor.peek();
        let callee = self.operand(frame)?;
        let mut arguments = Vec::new();
        let mut prototype = None;
        while self.cursor.accept(b',') {
            if self.cursor.is(b'(') && arguments.is_empty() {
                arguments = self.list(frame)?;
            } else if prototype.is_none() {
                prototype = Some(self.operand(frame)?);
            } else {
                return Err(self.cursor.unexpected("`;`"));
            }
        }

        // The callee, or the prototype of an indirect call, says how many of each there must be.
        let counts = (results.len(), arguments.len());
        let expected = match (&callee, &prototype) {
            (Operand::Symbol(Symbol::Function(id), 0), None) => {
                self.module.functions.get(*id as usize).map(|f| (f.results.len(), f.parameters.len()))
            }
            (Operand::Register(_), Some(Operand::Prototype(id))) => {
                frame.body.prototypes.get(*id as usize).map(|p| (p.results.len(), p.parameters.len()))
            }
            _ => None,
        };

        let Some(expected) = expected else {
            let message = format!("{} is not a function, nor a register with a prototype", quote(token.text));
            return Err(error_at(token, message));
        };

        if counts != expected {
            let message = format!(
                "this call has {} results and {} arguments; {} has {} and {}",
                counts.0,
                counts.1,
                quote(token.text),
                expected.0,
                expected.1
            );
            return Err(error_at(start, message));
        }

        let mut operands = vec![Operand::List(results), callee, Operand::List(arguments)];
        operands.extend(prototype);
        Ok(operands)
    }

    fn list(&mut self, frame: &Frame<'a>) -> Result<Vec<Operand>, PtxError> {
        self.cursor.expect(b'(')?;
        let mut operands = Vec::new();
        while !self.cursor.accept(b')') {
            if !operands.is_empty() {
                self.cursor.expect(b',')?;
            }
            operands.push(self.operand(frame)?);
        }
        Ok(operands)
    }
}
