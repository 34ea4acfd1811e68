//! The stack machine: one value or one change of a container per opcode.

use std::collections::HashMap;

use super::reader::{Reader, unescape, unquote};
use super::{Chunk, Global, Id, Pickle, PickleError, Value};

/// Most values of a pickle; CIFAR-100's labels and file names are 150,000.
const MAX_VALUES: usize = 1 << 19;
/// Most values on the stack.
const MAX_STACK: usize = 1 << 20;
/// Most items in all containers together.
const MAX_ITEMS: usize = 1 << 22;
/// The newest protocol.
const NEWEST: u8 = 5;

pub(super) type Result<T> = std::result::Result<T, PickleError>;

/// Reads the pickle that `input` starts with. Of functions and classes, it may name those in `globals`.
///
/// # Errors
/// [`PickleError`].
pub(crate) fn parse<'a>(input: &'a [u8], globals: &[Global]) -> Result<Pickle<'a>> {
    if u32::try_from(input.len()).is_err() {
        return Err(PickleError::TooLarge { what: "bytes", limit: u32::MAX as usize });
    }
    let mut machine = Machine {
        reader: Reader { input, at: 0 },
        globals,
        decoded: Vec::new(),
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        items: 0,
    };

    while machine.step()? {}
    let root = machine.pop()?;
    let Machine { reader, decoded, values, .. } = machine;
    Ok(Pickle { input, decoded, values, root, end: reader.at })
}

pub(super) struct Machine<'a, 'g> {
    pub(super) reader: Reader<'a>,
    pub(super) globals: &'g [Global],
    pub(super) decoded: Vec<u8>,
    pub(super) values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    items: usize,
}

impl Machine<'_, '_> {
    /// Does one opcode; whether there are more.
    fn step(&mut self) -> Result<bool> {
        let opcode = self.reader.byte()?;
        match opcode {
            b'.' => return Ok(false),

            // What makes values, moves them or calls.
            b'N' | b'I' | b'J' | b'K' | b'M' | b'L' | b'F' | b'G' | 0x88..=0x8b => self.number(opcode)?,
            b'S' | b'T' | b'U' | b'V' | b'X' | b'B' | b'C' | 0x8c..=0x8e | 0x96 => self.string(opcode)?,
            b'(' | b')' | b']' | b'}' | b't' | b'l' | b'd' | b'a' | b'e' | b's' | b'u' | 0x85..=0x87 | 0x8f..=0x91 => {
                self.container(opcode)?;
            }
            b'0' | b'1' | b'2' | b'p' | b'q' | b'r' | b'g' | b'h' | b'j' | 0x94 => self.memory(opcode)?,
            b'c' | b'i' | b'o' | b'R' | b'b' | b'P' | b'Q' | 0x81 | 0x93 => self.call(opcode)?,

            // Protocol and frames: a version, and lengths that are not needed.
            0x80 => {
                let version = self.reader.byte()?;
                if version > NEWEST {
                    return Err(self
                        .reader
                        .broken(format!("protocol {version} is newer than {NEWEST}, the newest known")));
                }
            }
            0x95 => drop(self.reader.take(8)?),
            // The buffer on the stack is read-only, as are all here.
            0x98 => {}

            // What is refused, and what is none.
            0x82..=0x84 => return Err(PickleError::Refused("an entry of Python's extension registry".into())),
            0x92 => return Err(PickleError::Refused("an object made with named arguments".into())),
            0x97 => return Err(PickleError::Content("its buffers lie outside of it; save it with protocol 4".into())),
            other => return Err(self.reader.broken(format!("{other:#04x} is no opcode"))),
        }
        Ok(true)
    }

    /// None, truth values and numbers.
    fn number(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool(opcode == 0x88),

            // Of fixed size.
            b'K' => Value::Int(self.reader.unsigned::<1>()? as i64),
            b'M' => Value::Int(self.reader.unsigned::<2>()? as i64),
            b'J' => Value::Int(i64::from(self.reader.unsigned::<4>()? as u32 as i32)),
            b'G' => {
                self.reader.take(8)?;
                Value::Float
            }

            // As text, of protocol 0: `00` and `01` are truth values.
            b'F' => match self.reader.line()?.trim().parse::<f64>() {
                Ok(_) => Value::Float,
                Err(_) => return Err(self.reader.broken("a line that is no number")),
            },
            b'I' | b'L' => {
                let line = self.reader.line()?.trim();
                match line {
                    "00" | "01" => Value::Bool(line == "01"),
                    _ => match line.strip_suffix('L').unwrap_or(line).parse() {
                        Ok(number) => Value::Int(number),
                        Err(_) => return Err(self.reader.broken("a line that is no whole number of 64 bits")),
                    },
                }
            }

            // LONG1 and LONG4: a length, then two's complement.
            _ => {
                let length = if opcode == 0x8a { self.reader.length::<1>()? } else { self.reader.length::<4>()? };
                let chunk = self.chunk(length)?;
                match self.reader.input.get(chunk.start as usize..self.reader.at) {
                    Some(bytes) if bytes.len() <= 8 => {
                        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                        let mut whole = [if negative { 0xff } else { 0 }; 8];
                        whole[..bytes.len()].copy_from_slice(bytes);
                        Value::Int(i64::from_le_bytes(whole))
                    }
                    _ => Value::Long(chunk),
                }
            }
        };
        self.push(value)
    }

    /// Texts and bytes.
    fn string(&mut self, opcode: u8) -> Result<()> {
        let start = self.decoded.len();
        if matches!(opcode, b'S' | b'V') {
            let line = self.reader.long_line()?;
            let outcome =
                if opcode == b'S' { unquote(line, &mut self.decoded) } else { unescape(line, &mut self.decoded) };
            outcome.ok_or_else(|| self.reader.broken("a text that ends inside an escape or without its quote"))?;
            let length = self.decoded.len() - start;
            // At most twice the input, whose length fits.
            let (Ok(start), Ok(length)) = (u32::try_from(start), u32::try_from(length)) else {
                return Err(PickleError::TooLarge { what: "bytes of text", limit: u32::MAX as usize });
            };
            let chunk = Chunk { start, length, decoded: true };
            return self.push(if opcode == b'S' { Value::Bytes(chunk) } else { Value::Text(chunk) });
        }

        let length = match opcode {
            b'U' | b'C' | 0x8c => self.reader.length::<1>()?,
            b'T' | b'X' | b'B' => self.reader.length::<4>()?,
            _ => self.reader.length::<8>()?,
        };
        let chunk = self.chunk(length)?;
        self.push(if matches!(opcode, b'X' | 0x8c | 0x8d) { Value::Text(chunk) } else { Value::Bytes(chunk) })
    }

    /// Tuples, lists, sets and dictionaries.
    fn container(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            b'(' => {
                self.room(self.marks.len(), MAX_STACK, "marks")?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            b')' => self.push(Value::Tuple(Box::new([]))),
            b']' | 0x8f => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b't' => {
                let items = self.marked()?;
                self.push(Value::Tuple(items.into()))
            }
            b'l' | 0x91 => {
                let items = self.marked()?;
                self.push(Value::List(items))
            }
            b'd' => {
                let pairs = self.marked_pairs()?;
                self.push(Value::Dict(pairs))
            }
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0..opcode - 0x84 {
                    items.insert(0, self.pop()?);
                }
                self.count(items.len())?;
                self.push(Value::Tuple(items.into()))
            }

            // What changes the container below.
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' | 0x90 => {
                let items = self.marked()?;
                self.append(items)
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![(key, value)])
            }
            _ => {
                let pairs = self.marked_pairs()?;
                self.set(pairs)
            }
        }
    }

    /// The stack and the memo.
    fn memory(&mut self, opcode: u8) -> Result<()> {
        // The place in the memo: a line, one byte or four, or the next one.
        let key = match opcode {
            b'p' | b'g' => {
                let line = self.reader.line()?.trim().parse();
                line.map_err(|_| self.reader.broken("a place in the memo that is no number"))?
            }
            b'q' | b'h' => self.reader.unsigned::<1>()? as u32,
            b'r' | b'j' => self.reader.unsigned::<4>()? as u32,
            _ => self.memo.len() as u32,
        };

        match opcode {
            // A mark on top is what is popped.
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.marked()?),
            b'2' => {
                let top = self.top()?;
                self.push_id(top)?;
            }

            // From the memo to the stack, and the other way.
            b'g' | b'h' | b'j' => {
                let id = self.memo.get(&key).copied();
                let id = id.ok_or_else(|| self.reader.broken(format!("nothing was noted under {key}")))?;
                self.push_id(id)?;
            }
            _ => {
                self.room(self.memo.len(), MAX_VALUES, "notes")?;
                let top = self.top()?;
                self.memo.insert(key, top);
            }
        }
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        self.count(items.len())?;
        let top = self.top()?;
        match self.values.get_mut(top as usize) {
            Some(Value::List(list)) => list.extend(items),
            _ => return Err(self.reader.broken("items for what is no list")),
        }
        Ok(())
    }

    fn set(&mut self, pairs: Vec<(Id, Id)>) -> Result<()> {
        self.count(2 * pairs.len())?;
        let top = self.top()?;
        match self.values.get_mut(top as usize) {
            Some(Value::Dict(dictionary)) => dictionary.extend(pairs),
            Some(Value::Object(object)) => object.pairs.extend(pairs),
            _ => return Err(self.reader.broken("pairs for what is no dictionary")),
        }
        Ok(())
    }

    /// What lies above the last mark.
    pub(super) fn marked(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| self.reader.broken("there is no mark"))?;
        let items = self.stack.split_off(mark.min(self.stack.len()));
        self.count(items.len())?;
        Ok(items)
    }

    fn marked_pairs(&mut self) -> Result<Vec<(Id, Id)>> {
        let items = self.marked()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if rest.is_empty() {
            Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
        } else {
            Err(self.reader.broken("a key without a value"))
        }
    }

    /// The next `length` bytes, where they are.
    fn chunk(&mut self, length: usize) -> Result<Chunk> {
        let start = self.reader.at;
        self.reader.take(length)?;
        Ok(self.chunk_at(start, length))
    }

    /// Bytes of the input; its length was checked to fit.
    pub(super) fn chunk_at(&self, start: usize, length: usize) -> Chunk {
        Chunk { start: start as u32, length: length as u32, decoded: false }
    }

    pub(super) fn push(&mut self, value: Value) -> Result<()> {
        self.room(self.values.len(), MAX_VALUES, "values")?;
        self.values.push(value);
        self.push_id(self.values.len() as Id - 1)
    }

    fn push_id(&mut self, id: Id) -> Result<()> {
        self.room(self.stack.len(), MAX_STACK, "values on its stack")?;
        self.stack.push(id);
        Ok(())
    }

    /// The top of the stack, above the last mark.
    pub(super) fn top(&self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let above = self.stack.get(floor..).unwrap_or(&[]);
        above.last().copied().ok_or_else(|| self.reader.broken("its stack is empty"))
    }

    pub(super) fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn count(&mut self, more: usize) -> Result<()> {
        self.items += more;
        self.room(self.items, MAX_ITEMS, "items in its lists")
    }

    fn room(&self, found: usize, limit: usize, what: &'static str) -> Result<()> {
        if found < limit { Ok(()) } else { Err(PickleError::TooLarge { what, limit }) }
    }
}
