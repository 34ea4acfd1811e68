//! Functions, classes and calls of them: looked up in the caller's list, noted, never made.

use super::machine::{Machine, Result};
use super::{Id, Object, PickleError, Value};

impl Machine<'_, '_> {
    /// Globals, and calls: kept, not made.
    pub(super) fn call(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            // A function or class: its name on two lines, or in two texts of the stack.
            b'c' => {
                let global = self.named_global()?;
                self.push(Value::Global(global))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let global = self.global(&self.name(module)?, &self.name(name)?)?;
                self.push(Value::Global(global))
            }

            // A call: a class and its arguments above the mark, or a callee and a tuple.
            b'i' | b'o' => {
                let named = if opcode == b'i' { Some(self.named_global()?) } else { None };
                let mut arguments = self.marked()?;
                let global = match named {
                    Some(global) => global,
                    None if arguments.is_empty() => return Err(self.reader.broken("a call of nothing")),
                    None => self.callee(arguments.remove(0))?,
                };
                self.push(Value::Tuple(arguments.into()))?;
                let arguments = self.pop()?;
                self.push_object(global, arguments)
            }
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                let global = self.callee(callee)?;
                self.push_object(global, arguments)
            }

            // The state of an object that was made.
            b'b' => {
                let state = self.pop()?;
                let top = self.top()?;
                match self.values.get_mut(top as usize) {
                    Some(Value::Object(object)) => object.state = Some(state),
                    _ => return Err(self.reader.broken("a state for what is no object")),
                }
                Ok(())
            }

            // What lies outside of the pickle, under an id: a line, or a value of the stack.
            b'P' => {
                let start = self.reader.at;
                let length = self.reader.long_line()?.len();
                let id = self.chunk_at(start, length);
                self.push(Value::Text(id))?;
                let id = self.pop()?;
                self.push(Value::Persistent(id))
            }
            _ => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))
            }
        }
    }

    /// The global that the next two lines name.
    fn named_global(&mut self) -> Result<u16> {
        let module = self.reader.line()?;
        let name = self.reader.line()?;
        self.global(module, name)
    }

    /// The place of a global in the list; one that is not on it is refused.
    fn global(&self, module: &str, name: &str) -> Result<u16> {
        let place = self.globals.iter().position(|global| *global == (module, name));
        place
            .and_then(|place| u16::try_from(place).ok())
            .ok_or_else(|| PickleError::Refused(format!("{module}.{name}").escape_debug().take(200).collect()))
    }

    fn name(&self, id: Id) -> Result<String> {
        match self.values.get(id as usize) {
            Some(&Value::Text(chunk)) => {
                let all = if chunk.decoded { &self.decoded[..] } else { self.reader.input };
                let bytes = all.get(chunk.start as usize..(chunk.start + chunk.length) as usize).unwrap_or(&[]);
                Ok(String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).into_owned())
            }
            _ => Err(self.reader.broken("a name that is no text")),
        }
    }

    fn callee(&self, id: Id) -> Result<u16> {
        match self.values.get(id as usize) {
            Some(Value::Global(global)) => Ok(*global),
            _ => Err(self.reader.broken("a call of what is no function")),
        }
    }

    fn push_object(&mut self, global: u16, arguments: Id) -> Result<()> {
        self.push(Value::Object(Box::new(Object { global, arguments, state: None, pairs: Vec::new() })))
    }
}
