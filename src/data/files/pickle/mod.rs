//! Python's pickles, read as what they say and never as what they do.
//!
//! A pickle is a program for a small stack machine, and Python's own reader calls whatever that program names. This one
//! calls nothing: there is no opcode here that runs code, a call is kept as a [`Value::Object`] (which function, which
//! arguments) for the caller to understand or to refuse, and a function that is not on the caller's closed list is an error
//! that names it. Protocols 0 to 5.
//!
//! What a pickle can take is bounded: values lie in one list and refer to each other by number, so that neither depth nor
//! cycles cost anything, and there is a limit on values, on the stack, on items of containers and on the memo. Texts and
//! bytes are not copied.

mod calls;
mod machine;
pub(crate) mod numpy;
mod reader;

use std::borrow::Cow;

pub(crate) use machine::parse;

/// A value's number.
pub(crate) type Id = u32;

/// A function or class that a pickle may name: module and name.
pub(crate) type Global = (&'static str, &'static str);

/// Why a pickle is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PickleError {
    /// It asks for something that is not on the list.
    #[error(
        "the pickle asks for {0}, which such a file does not need and which could run code; nothing of it was run. Take the \
         file from a source that you trust, or save it again with plain tensors, arrays, lists and numbers only"
    )]
    Refused(String),
    /// It ends too early.
    #[error("the pickle ends at byte {0}, in the middle of a value. It is truncated: copy or download it again")]
    Truncated(usize),
    /// Not a pickle, or a damaged one.
    #[error("byte {at} of the pickle: {problem}. It is damaged or no pickle: copy or download it again")]
    Broken {
        /// Where.
        at: usize,
        /// What is wrong.
        problem: Cow<'static, str>,
    },
    /// More than such a file needs.
    #[error("the pickle holds more than {limit} {what}, the limit for files of this kind")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many are read.
        limit: usize,
    },
    /// A sound pickle of something else.
    #[error("the pickle does not hold what is needed: {0}")]
    Content(String),
}

/// Bytes within the input, or decoded from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    start: u32,
    length: u32,
    decoded: bool,
}

/// What a pickle can hold.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A float; nothing that is read here needs its value.
    Float,
    /// An integer beyond `i64`: two's complement, little-endian.
    Long(Chunk),
    /// Text, in UTF-8.
    Text(Chunk),
    /// Bytes, and Python 2's plain strings.
    Bytes(Chunk),
    Tuple(Box<[Id]>),
    /// A list or set.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A function or class: its place in the caller's list.
    Global(u16),
    /// What a call would have made.
    Object(Box<Object>),
    /// A reference to something outside the pickle.
    Persistent(Id),
}

/// A call that was not made.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// The function or class: its place in the caller's list.
    pub(crate) global: u16,
    /// Its arguments, a tuple.
    pub(crate) arguments: Id,
    /// What was to be set on the result.
    pub(crate) state: Option<Id>,
    /// What was to be put into the result, a mapping.
    pub(crate) pairs: Vec<(Id, Id)>,
}

/// A pickle that was read.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    input: &'a [u8],
    decoded: Vec<u8>,
    values: Vec<Value>,
    /// The value that the pickle is.
    pub(crate) root: Id,
    /// Where it ends in the input; more may follow.
    pub(crate) end: usize,
}

impl Pickle<'_> {
    /// A value; `None` for a number that is none of this pickle's.
    pub(crate) fn value(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::None)
    }

    /// The bytes of a chunk.
    pub(crate) fn chunk(&self, chunk: Chunk) -> &[u8] {
        let all = if chunk.decoded { &self.decoded } else { self.input };
        let start = chunk.start as usize;
        all.get(start..start + chunk.length as usize).unwrap_or(&[])
    }

    /// Where a chunk starts in the input, if it is there as it is.
    pub(crate) fn place(&self, chunk: Chunk) -> Option<usize> {
        (!chunk.decoded).then_some(chunk.start as usize)
    }

    /// A text; Python 2's plain strings as Latin-1.
    pub(crate) fn text(&self, id: Id) -> Option<Cow<'_, str>> {
        match *self.value(id) {
            Value::Text(chunk) => std::str::from_utf8(self.chunk(chunk)).ok().map(Cow::Borrowed),
            Value::Bytes(chunk) => Some(self.chunk(chunk).iter().map(|&byte| char::from(byte)).collect()),
            _ => None,
        }
    }

    /// A whole number, or a truth value as one.
    pub(crate) fn int(&self, id: Id) -> Option<i64> {
        match *self.value(id) {
            Value::Int(number) => Some(number),
            Value::Bool(flag) => Some(i64::from(flag)),
            _ => None,
        }
    }

    /// The items of a tuple or list.
    pub(crate) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::Tuple(items) => Some(items),
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// A tuple or list of whole numbers that are not negative.
    pub(crate) fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let items = self.items(id)?;
        items.iter().map(|&item| self.int(item).and_then(|number| usize::try_from(number).ok())).collect()
    }

    /// The pairs of a dictionary, or of an object that is one.
    pub(crate) fn pairs(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.value(id) {
            Value::Dict(pairs) => Some(pairs),
            Value::Object(object) => Some(&object.pairs),
            _ => None,
        }
    }

    /// What a dictionary holds under a key, text or bytes; the last of several.
    pub(crate) fn get(&self, dictionary: Id, key: &str) -> Option<Id> {
        let is_key = |id: Id| match *self.value(id) {
            Value::Text(chunk) | Value::Bytes(chunk) => self.chunk(chunk) == key.as_bytes(),
            _ => false,
        };
        let pair = self.pairs(dictionary)?.iter().rev().find(|(found, _)| is_key(*found))?;
        Some(pair.1)
    }

    /// An object, if the value is one of this global.
    pub(crate) fn object(&self, id: Id, globals: &[Global], wanted: &[Global]) -> Option<&Object> {
        match self.value(id) {
            Value::Object(object) if is_one_of(object.global, globals, wanted) => Some(object),
            _ => None,
        }
    }
}

/// Whether entry `index` of the list that the pickle was read with is among those wanted.
pub(crate) fn is_one_of(index: u16, globals: &[Global], wanted: &[Global]) -> bool {
    globals.get(usize::from(index)).is_some_and(|global| wanted.contains(global))
}

#[cfg(test)]
mod tests;
