//! NumPy's arrays and scalars in a pickle, as NumPy 1 and 2 write them for Python 2 and 3.

use std::borrow::Cow;

use super::{Global, Id, Pickle, PickleError, Value};

/// What such arrays may name.
pub(crate) const GLOBALS: &[Global] = &[
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("__builtin__", "bytearray"),
    ("builtins", "bytearray"),
    ("__builtin__", "bytes"),
    ("builtins", "bytes"),
];
const RECONSTRUCT: &[Global] = &[GLOBALS[0], GLOBALS[1]];
const SCALAR: &[Global] = &[GLOBALS[2], GLOBALS[3]];
const FROM_BUFFER: &[Global] = &[GLOBALS[4], GLOBALS[5]];
const DTYPE: &[Global] = &[GLOBALS[7]];
const ENCODE: &[Global] = &[GLOBALS[8]];
const BYTES: &[Global] = &[GLOBALS[9], GLOBALS[10], GLOBALS[11], GLOBALS[12]];

type Result<T> = std::result::Result<T, PickleError>;

/// Type of an array's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dtype {
    /// `u` and `i` for whole numbers, `b` for truth values, `f` for floats.
    pub(crate) kind: u8,
    /// Bytes of a value: 1, 2, 4 or 8.
    pub(crate) size: usize,
    big_endian: bool,
}

/// An array.
#[derive(Debug)]
pub(crate) struct Array<'p> {
    /// Length of each axis.
    pub(crate) shape: Vec<usize>,
    /// Type of the values.
    pub(crate) dtype: Dtype,
    /// Whether the first axis runs fastest.
    pub(crate) fortran: bool,
    /// The values; as many bytes as shape and type say.
    pub(crate) bytes: Cow<'p, [u8]>,
    /// Where they start in the input, if they lie there as they are.
    pub(crate) place: Option<usize>,
}

/// The array that a value is. `what` names it in errors.
///
/// # Errors
/// [`PickleError::Content`] for anything else, or an array that contradicts itself.
pub(crate) fn array<'p>(pickle: &'p Pickle<'_>, id: Id, what: &str) -> Result<Array<'p>> {
    let wrong = |problem: &str| PickleError::Content(format!("{what} {problem}"));

    // Shape, type, order and bytes, as either form holds them.
    let parts = if let Some(object) = pickle.object(id, GLOBALS, RECONSTRUCT) {
        match object.state.and_then(|state| pickle.items(state)) {
            Some(&[_, shape, dtype, fortran, bytes]) | Some(&[shape, dtype, fortran, bytes]) => {
                Some((shape, dtype, pickle.int(fortran) == Some(1), bytes))
            }
            _ => None,
        }
    } else if let Some(object) = pickle.object(id, GLOBALS, FROM_BUFFER) {
        match pickle.items(object.arguments) {
            Some(&[bytes, dtype, shape, order]) => {
                Some((shape, dtype, pickle.text(order).as_deref() == Some("F"), bytes))
            }
            _ => None,
        }
    } else {
        return Err(wrong("is not a NumPy array"));
    };
    let (shape, dtype, fortran, bytes) = parts.ok_or_else(|| wrong("is an array without its parts"))?;

    let shape = pickle.sizes(shape).filter(|shape| shape.len() <= 8).ok_or_else(|| wrong("has no sound shape"))?;
    let dtype = dtype_of(pickle, dtype).ok_or_else(|| wrong("is an array of neither whole numbers nor floats"))?;
    let place = match pickle.value(bytes) {
        Value::Bytes(chunk) => pickle.place(*chunk),
        _ => None,
    };
    let bytes = bytes_of(pickle, bytes).ok_or_else(|| wrong("is an array without bytes"))?;

    // The bytes must be those that the shape asks for.
    let expected = shape.iter().try_fold(dtype.size, |size, &side| size.checked_mul(side));
    if expected != Some(bytes.len()) {
        return Err(wrong(&format!("has the shape {shape:?} and {} bytes, which do not go together", bytes.len())));
    }
    Ok(Array { shape, dtype, fortran, bytes, place })
}

/// The whole numbers that a value is: a list of numbers or of NumPy's scalars, or an array of one axis.
///
/// # Errors
/// As [`array`].
pub(crate) fn integers(pickle: &Pickle<'_>, id: Id, what: &str) -> Result<Vec<i64>> {
    let wrong = || PickleError::Content(format!("{what} holds something other than whole numbers"));
    if let Some(items) = pickle.items(id) {
        let number = |&item: &Id| pickle.int(item).or_else(|| scalar(pickle, item)).ok_or_else(wrong);
        return items.iter().map(number).collect();
    }
    let array = array(pickle, id, what)?;
    if !matches!(array.dtype.kind, b'u' | b'i' | b'b') {
        return Err(wrong());
    }
    Ok(array.bytes.chunks_exact(array.dtype.size).map(|bytes| integer(array.dtype, bytes)).collect())
}

/// What a dictionary holds under a key, which Python 3 may have written as bytes to be encoded.
pub(crate) fn get(pickle: &Pickle<'_>, dictionary: Id, key: &str) -> Option<Id> {
    pickle.get(dictionary, key).or_else(|| {
        let is_key = |id: Id| encoded(pickle, id).is_some_and(|bytes| *bytes == *key.as_bytes());
        pickle.pairs(dictionary)?.iter().rev().find(|(found, _)| is_key(*found)).map(|pair| pair.1)
    })
}

/// A text, or bytes that are one in Latin-1.
pub(crate) fn text(pickle: &Pickle<'_>, id: Id) -> Option<String> {
    let encoded = || encoded(pickle, id).map(|bytes| bytes.iter().map(|&byte| char::from(byte)).collect());
    pickle.text(id).map(Cow::into_owned).or_else(encoded)
}

/// One of NumPy's whole numbers.
fn scalar(pickle: &Pickle<'_>, id: Id) -> Option<i64> {
    let object = pickle.object(id, GLOBALS, SCALAR)?;
    let &[dtype, bytes] = pickle.items(object.arguments)? else { return None };
    let dtype = dtype_of(pickle, dtype).filter(|dtype| matches!(dtype.kind, b'u' | b'i' | b'b'))?;
    let bytes = bytes_of(pickle, bytes)?;
    (bytes.len() == dtype.size).then(|| integer(dtype, &bytes))
}

/// The value of `bytes`, as many as the type has.
fn integer(dtype: Dtype, bytes: &[u8]) -> i64 {
    let byte = |at: usize| bytes[if dtype.big_endian { bytes.len() - 1 - at } else { at }];
    let negative = dtype.kind == b'i' && byte(bytes.len() - 1) & 0x80 != 0;
    let mut whole = [if negative { 0xff } else { 0 }; 8];
    (0..bytes.len().min(8)).for_each(|at| whole[at] = byte(at));
    i64::from_le_bytes(whole)
}

/// `numpy.dtype('u1', …)` with its state, in which the byte order stands.
fn dtype_of(pickle: &Pickle<'_>, id: Id) -> Option<Dtype> {
    let object = pickle.object(id, GLOBALS, DTYPE)?;
    let name = pickle.text(*pickle.items(object.arguments)?.first()?)?;
    let (kind, size) = (*name.as_bytes().first()?, name.get(1..)?.parse().ok()?);
    let order = object.state.and_then(|state| pickle.text(*pickle.items(state)?.get(1)?));
    let sound = matches!((kind, size), (b'u' | b'i', 1 | 2 | 4 | 8) | (b'b', 1) | (b'f', 2 | 4 | 8));
    sound.then_some(Dtype { kind, size, big_endian: order.as_deref() == Some(">") })
}

/// Bytes: as they are, or as Python 3 writes them for the old protocols, that is as the text of the same Latin-1 characters.
fn bytes_of<'p>(pickle: &'p Pickle<'_>, id: Id) -> Option<Cow<'p, [u8]>> {
    if let Value::Bytes(chunk) = *pickle.value(id) {
        return Some(Cow::Borrowed(pickle.chunk(chunk)));
    }
    if let Some(object) = pickle.object(id, GLOBALS, BYTES) {
        // No argument: no bytes. The argument of a bytearray may be bytes of either kind, but no further bytearray.
        return match pickle.items(object.arguments) {
            Some([]) => Some(Cow::Borrowed(&[])),
            Some(&[inner, ..]) => match *pickle.value(inner) {
                Value::Bytes(chunk) => Some(Cow::Borrowed(pickle.chunk(chunk))),
                _ => encoded(pickle, inner),
            },
            None => None,
        };
    }
    encoded(pickle, id)
}

/// `_codecs.encode(text, 'latin1')`.
fn encoded<'p>(pickle: &'p Pickle<'_>, id: Id) -> Option<Cow<'p, [u8]>> {
    let object = pickle.object(id, GLOBALS, ENCODE)?;
    let &[text, encoding] = pickle.items(object.arguments)? else { return None };
    if !matches!(pickle.text(encoding)?.as_ref(), "latin1" | "latin-1" | "iso-8859-1") {
        return None;
    }
    let bytes: Option<Vec<u8>> = pickle.text(text)?.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    bytes.map(Cow::Owned)
}
