//! Variables and parameters: types, alignments, dimensions and initial values.

use super::Parser;
use super::cursor::error_at;
use crate::ptx::error::{PtxError, quote};
use crate::ptx::lexer::{Token, TokenKind};
use crate::ptx::module::{Linkage, Parameter, Relocation, Symbol, Variable};
use crate::ptx::operand::Immediate;
use crate::ptx::types::{ScalarType, StateSpace};

/// Larger than the memory of any device there is: what is above is a mistake, and sums below cannot overflow.
const MAX_BYTES: u64 = 1 << 40;
/// Initial values of a module, all together.
const MAX_INITIAL: usize = 64 << 20;
const MAX_ALIGN: u64 = 1 << 16;
const MAX_DIMENSIONS: usize = 8;

/// What stands before the names of a declaration.
struct Head {
    ty: ScalarType,
    /// 2 or 4 with `.v2`, `.v4`.
    lanes: u64,
    align: u64,
}

/// An index as an id holds it.
pub(super) fn index(length: usize, token: Token<'_>) -> Result<u32, PtxError> {
    u32::try_from(length).map_err(|_| error_at(token, "too many declarations"))
}

impl<'a> Parser<'a> {
    /// `.align 16 .b8 a[4], b;` behind its space. The tokens are the names.
    pub(super) fn variables(
        &mut self,
        space: StateSpace,
        linkage: Linkage,
    ) -> Result<Vec<(Token<'a>, Variable)>, PtxError> {
        let head = self.head()?;
        let mut variables = Vec::new();
        loop {
            let token = self.cursor.word("the name of a variable")?;
            let dimensions = self.dimensions()?;
            let mut variable = Variable {
                name: token.text.into(),
                space,
                ty: head.ty,
                align: head.align,
                size: size(&head, &dimensions, token)?,
                linkage,
                initial: Vec::new(),
                relocations: Vec::new(),
                line: token.line,
            };

            if self.cursor.accept(b'=') {
                self.initialise(&mut variable, &head, &dimensions, token)?;
            }

            variables.push((token, variable));
            if !self.cursor.accept(b',') {
                break;
            }
        }
        self.cursor.expect(b';')?;
        Ok(variables)
    }

    /// `(.param .b32 a, .param .align 8 .b8 b[16])`, with offsets from 0.
    pub(super) fn parameters(&mut self) -> Result<Vec<(Token<'a>, Parameter)>, PtxError> {
        self.cursor.expect(b'(')?;
        let mut parameters = Vec::new();
        let mut end = 0u64;

        while !self.cursor.accept(b')') {
            if !parameters.is_empty() {
                self.cursor.expect(b',')?;
            }
            if !self.cursor.accept_dotted("param") {
                return Err(self.cursor.unexpected("`.param`"));
            }

            let head = self.head()?;
            let token = self.cursor.word("the name of a parameter")?;
            let dimensions = self.dimensions()?;
            let size = size(&head, &dimensions, token)?;

            // It starts at the next multiple of its alignment.
            let offset = end.next_multiple_of(head.align);
            end = offset + size;
            if end > MAX_BYTES {
                return Err(error_at(token, "the parameters are too large"));
            }
            parameters
                .push((token, Parameter { name: token.text.into(), ty: head.ty, align: head.align, size, offset }));
        }
        Ok(parameters)
    }

    fn head(&mut self) -> Result<Head, PtxError> {
        let (mut ty, mut lanes, mut align, mut points) = (None, 1, None, false);
        while self.cursor.peek().kind == TokenKind::Dotted {
            let token = self.cursor.next();
            match token.text {
                "align" => {
                    let number = self.cursor.peek();
                    let value = self.cursor.integer("an alignment")?;
                    if !value.is_power_of_two() || value > MAX_ALIGN {
                        return Err(error_at(
                            number,
                            format!("{value} is not an alignment: a power of two up to 65536"),
                        ));
                    }
                    // Behind `.ptr` it is that of the memory pointed to.
                    if !points {
                        align = Some(value);
                    }
                }
                "v2" => lanes = 2,
                "v4" => lanes = 4,
                "ptr" => points = true,
                "const" | "global" | "local" | "shared" if points => {}
                word => match ScalarType::from_name(word).filter(|ty| ty.is_fundamental() && *ty != ScalarType::Pred) {
                    Some(found) => ty = Some(found),
                    None => {
                        let word = quote(&format!(".{word}"));
                        return Err(error_at(token, format!("{word} is not the type of a variable")));
                    }
                },
            }
        }

        let ty = ty.ok_or_else(|| self.cursor.unexpected("a type"))?;
        let natural = u64::from(ty.bytes()) * lanes;
        Ok(Head { ty, lanes, align: align.unwrap_or(natural) })
    }

    /// `[2][3]`; `[]` is 0.
    fn dimensions(&mut self) -> Result<Vec<u64>, PtxError> {
        let mut dimensions = Vec::new();
        while self.cursor.is(b'[') {
            if dimensions.len() == MAX_DIMENSIONS {
                return Err(self.cursor.unexpected("no more dimensions"));
            }
            self.cursor.expect(b'[')?;
            let open = self.cursor.is(b']');
            dimensions.push(if open { 0 } else { self.cursor.integer("a dimension")? });
            self.cursor.expect(b']')?;
        }
        Ok(dimensions)
    }

    fn initialise(
        &mut self,
        variable: &mut Variable,
        head: &Head,
        dimensions: &[u64],
        name: Token<'a>,
    ) -> Result<(), PtxError> {
        // A vector is one more dimension.
        let mut dimensions = dimensions.to_vec();
        if head.lanes > 1 {
            dimensions.push(head.lanes);
        }

        // `[]` takes its size from the initial value.
        let open = dimensions.first() == Some(&0);
        if open {
            if dimensions.iter().skip(1).any(|&dimension| dimension == 0) {
                return Err(error_at(name, "only the first dimension may be left open"));
            }
        } else if variable.size == 0 {
            return Err(error_at(name, "a variable without size has no initial value"));
        }

        let limit = if open { MAX_BYTES } else { variable.size };
        if self.cursor.is(b'{') {
            self.nested(variable, &dimensions, 0, limit)?;
        } else {
            self.element(variable, 0, limit)?;
        }

        if open {
            let row: u64 = dimensions.iter().skip(1).product::<u64>() * u64::from(head.ty.bytes());
            variable.size = (variable.initial.len() as u64).next_multiple_of(row.max(1));
        }
        Ok(())
    }

    /// `{...}`, whose braces may be nested as the dimensions are; their depth is capped by that of the dimensions.
    fn nested(&mut self, variable: &mut Variable, inner: &[u64], start: u64, limit: u64) -> Result<(), PtxError> {
        let Some((_, inner)) = inner.split_first() else {
            return Err(self.cursor.unexpected("a value: the variable has fewer dimensions"));
        };

        self.cursor.expect(b'{')?;
        let element = u64::from(variable.ty.bytes());
        let row = inner.iter().product::<u64>() * element;
        let mut at = start;

        while !self.cursor.accept(b'}') {
            if at != start {
                self.cursor.expect(b',')?;
            }
            if self.cursor.is(b'{') {
                self.nested(variable, inner, at, limit)?;
                at = at.saturating_add(row.max(1));
            } else {
                self.element(variable, at, limit)?;
                at = at.saturating_add(element);
            }
        }
        Ok(())
    }

    /// A number or an address, to be stored at byte `at`.
    fn element(&mut self, variable: &mut Variable, at: u64, limit: u64) -> Result<(), PtxError> {
        let token = self.cursor.peek();
        let width = variable.ty.bytes() as usize;
        let end = at.saturating_add(width as u64);

        if end > limit {
            return Err(error_at(token, format!("the initial value of {} is too long", quote(&variable.name))));
        }

        let bytes = if token.kind == TokenKind::Word {
            variable.relocations.push(self.relocation(at, width)?);
            [0; 16]
        } else {
            number(self.cursor.immediate()?, variable.ty)
        };

        // Grow the initial value up to this element, within what a module may have.
        let (start, end) = (at as usize, end as usize);
        let grown = end.saturating_sub(variable.initial.len());
        self.initial_bytes = self.initial_bytes.saturating_add(grown);
        if self.initial_bytes > MAX_INITIAL {
            return Err(error_at(token, "the initial values of the module are too large"));
        }

        if grown > 0 {
            variable.initial.resize(end, 0);
        }

        if let (Some(place), Some(bytes)) = (variable.initial.get_mut(start..end), bytes.get(..width)) {
            place.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// `symbol+4` or `generic(symbol)+4`.
    fn relocation(&mut self, at: u64, width: usize) -> Result<Relocation, PtxError> {
        let generic = self.cursor.accept_word("generic");
        if generic {
            self.cursor.expect(b'(')?;
        }

        let token = self.cursor.word("a variable or function")?;
        let symbol = *self
            .symbols
            .get(token.text)
            .ok_or_else(|| error_at(token, format!("unknown name {} in an initial value", quote(token.text))))?;
        if generic {
            self.cursor.expect(b')')?;
        }

        let addend = self.cursor.offset()?;
        let width = match width {
            4 => 4,
            8 => 8,
            _ => return Err(error_at(token, "an address does not fit this type: use .b64 or .b32")),
        };
        let generic = generic && !matches!(symbol, Symbol::Function(_));
        Ok(Relocation { at, width, symbol, addend, generic })
    }
}

fn size(head: &Head, dimensions: &[u64], token: Token<'_>) -> Result<u64, PtxError> {
    let element = u64::from(head.ty.bytes()) * head.lanes;
    // Every dimension counts towards the cap, also beside an open one: initial values are laid out by their product.
    let full = dimensions.iter().try_fold(element, |size, &dimension| size.checked_mul(dimension.max(1)));
    let fits = full.is_some_and(|size| size <= MAX_BYTES);
    let size = dimensions.iter().fold(element, |size, &dimension| size.wrapping_mul(dimension));
    fits.then_some(size).ok_or_else(|| error_at(token, format!("{} is too large", quote(token.text))))
}

/// The bytes of a constant of this type, little endian, zeros behind.
fn number(value: Immediate, ty: ScalarType) -> [u8; 16] {
    let bits = match (value, ty) {
        (Immediate::Integer(integer), ScalarType::F32) => u64::from((integer.cast_signed() as f32).to_bits()),
        (Immediate::Integer(integer), ScalarType::F64) => (integer.cast_signed() as f64).to_bits(),
        (Immediate::F64(bits), ScalarType::F32) => u64::from((f64::from_bits(bits) as f32).to_bits()),
        (Immediate::F32(bits), ScalarType::F64) => f64::from(f32::from_bits(bits)).to_bits(),
        (Immediate::Integer(bits) | Immediate::F64(bits), _) => bits,
        (Immediate::F32(bits), _) => u64::from(bits),
    };
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().zip(bits.to_le_bytes()) {
        *place = byte;
    }
    bytes
}
