//! The header of a `.npy` file: magic, version, length, and a Python dictionary.

use byteorder::{ByteOrder, LittleEndian};

use crate::fs::first_bytes::recognise;

/// Longest header that is read. NumPy's own cap for untrusted files is 10,000; an array needs about 60.
const MAX_HEADER: usize = 10_000;
/// Maximum number of axes (NumPy allows 64).
const MAX_AXES: usize = 8;

/// Type of an array's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Dtype {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

impl Dtype {
    const ALL: [(Dtype, &'static str, &'static str, usize); 12] = [
        (Dtype::Bool, "|b1", "bool", 1),
        (Dtype::U8, "|u1", "uint8", 1),
        (Dtype::I8, "|i1", "int8", 1),
        (Dtype::U16, "<u2", "uint16", 2),
        (Dtype::I16, "<i2", "int16", 2),
        (Dtype::U32, "<u4", "uint32", 4),
        (Dtype::I32, "<i4", "int32", 4),
        (Dtype::U64, "<u8", "uint64", 8),
        (Dtype::I64, "<i8", "int64", 8),
        (Dtype::F16, "<f2", "float16", 2),
        (Dtype::F32, "<f4", "float32", 4),
        (Dtype::F64, "<f8", "float64", 8),
    ];

    fn row(self) -> (Dtype, &'static str, &'static str, usize) {
        Self::ALL[self as usize]
    }

    /// The `descr` of a little-endian header, as `<f4`.
    pub fn descr(self) -> &'static str {
        self.row().1
    }

    /// NumPy's name, as `float32`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Bytes of a value.
    pub fn size(self) -> usize {
        self.row().3
    }

    /// Whether values are whole numbers (booleans count as 0 and 1).
    pub fn is_integer(self) -> bool {
        !matches!(self, Dtype::F16 | Dtype::F32 | Dtype::F64)
    }

    /// The type, and whether the values are big-endian.
    fn from_descr(descr: &str) -> Result<(Self, bool), String> {
        // Byte order means nothing for one-byte types, and writers differ: `<u1`, `=u1` and `u1` are `|u1`. Without an order
        // or with `=` it is the machine's, which is little-endian wherever this program runs.
        let (order, kind) = match descr.as_bytes().first() {
            Some(b'<' | b'|' | b'=' | b'>') => descr.split_at(1),
            _ => ("", descr),
        };
        let found = Self::ALL.iter().find(|row| row.1.get(1..) == Some(kind));
        match found {
            Some(&(dtype, _, _, size)) => Ok((dtype, order == ">" && size > 1)),
            None => Err(format!("dtype {descr:?} is not supported; convert it to int32 or float32 with array.astype")),
        }
    }

    /// One value as an integer; meaningless for floats. `bytes` has [`Dtype::size`] bytes.
    pub(super) fn integer(self, bytes: &[u8]) -> i64 {
        match self {
            Dtype::Bool | Dtype::U8 => i64::from(bytes[0]),
            Dtype::I8 => i64::from(bytes[0].cast_signed()),
            Dtype::U16 => i64::from(LittleEndian::read_u16(bytes)),
            Dtype::I16 => i64::from(LittleEndian::read_i16(bytes)),
            Dtype::U32 => i64::from(LittleEndian::read_u32(bytes)),
            Dtype::I32 => i64::from(LittleEndian::read_i32(bytes)),
            Dtype::U64 => i64::try_from(LittleEndian::read_u64(bytes)).unwrap_or(i64::MAX),
            Dtype::I64 => LittleEndian::read_i64(bytes),
            Dtype::F16 | Dtype::F32 | Dtype::F64 => 0,
        }
    }

    /// One value as f64. `bytes` has [`Dtype::size`] bytes.
    pub(super) fn float(self, bytes: &[u8]) -> f64 {
        match self {
            Dtype::F16 => half::f16::from_bits(LittleEndian::read_u16(bytes)).to_f64(),
            Dtype::F32 => f64::from(LittleEndian::read_f32(bytes)),
            Dtype::F64 => LittleEndian::read_f64(bytes),
            _ => self.integer(bytes) as f64,
        }
    }
}

/// A parsed header.
pub(super) struct Header {
    pub(super) dtype: Dtype,
    pub(super) big_endian: bool,
    /// Whether the first axis runs fastest.
    pub(super) fortran: bool,
    pub(super) shape: Vec<usize>,
    pub(super) start: usize,
}

/// Longest beginning of a file that [`parse`] looks at.
pub(super) const LONGEST: usize = 12 + MAX_HEADER;

/// Parses the header at the start of a file.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, String> {
    let magic = b"\x93NUMPY";
    if !bytes.starts_with(magic)
        && let Some(found) = recognise(bytes)
    {
        return Err(format!("is not a .npy file: it {}", found.sentence()));
    }
    if bytes.len() < 10 || &bytes[..6] != magic {
        return Err("is not a .npy file (it does not start with \\x93NUMPY). Write it with numpy.save".into());
    }
    let (length, start) = match bytes[6] {
        1 => (usize::from(LittleEndian::read_u16(&bytes[8..10])), 10),
        2 | 3 if bytes.len() >= 12 => (LittleEndian::read_u32(&bytes[8..12]) as usize, 12),
        version => return Err(format!("has .npy version {version}, known are 1 to 3. Write it again with numpy.save")),
    };
    if length > MAX_HEADER {
        return Err(format!("has a header of {length} bytes, at most {MAX_HEADER} are read. The file is damaged"));
    }
    let text = bytes.get(start..start + length).ok_or("is truncated inside its header. Write it again")?;
    let text = std::str::from_utf8(text).map_err(|_| "has a header that is not text. The file is damaged")?;
    Ok(Header { start: start + length, ..dictionary(text)? })
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (512, 3), }` in any order and spacing.
fn dictionary(text: &str) -> Result<Header, String> {
    let mut cursor = Cursor { rest: text };
    let (mut dtype, mut fortran, mut shape) = (None, None, None);

    cursor.expect('{')?;
    while !cursor.accept('}') {
        let key = cursor.string()?;
        cursor.expect(':')?;
        match key {
            "descr" if cursor.peek() == Some('[') => {
                return Err("is a structured array; save one plain array with numpy.save".into());
            }
            "descr" => dtype = Some(Dtype::from_descr(cursor.string()?)?),
            "fortran_order" => fortran = Some(cursor.boolean()?),
            "shape" => shape = Some(cursor.tuple()?),
            other => return Err(format!("has the unknown header entry {other:?}. The file is damaged")),
        }
        if !cursor.accept(',') {
            cursor.expect('}')?;
            break;
        }
    }

    if !cursor.rest.trim().is_empty() {
        return Err("has text after the header's dictionary. The file is damaged".into());
    }
    match (dtype, fortran, shape) {
        (Some((dtype, big_endian)), Some(fortran), Some(shape)) => {
            Ok(Header { dtype, big_endian, fortran, shape, start: 0 })
        }
        _ => Err("has a header without one of descr, fortran_order and shape. The file is damaged".into()),
    }
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn accept(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.rest = &self.rest[wanted.len_utf8()..];
        }
        there
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.accept(wanted) { Ok(()) } else { Err(format!("has a header without {wanted:?} where one belongs")) }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let quote = self.peek().filter(|c| matches!(c, '\'' | '"')).ok_or("has a header with a missing string")?;
        let body = &self.rest[1..];
        let end = body.find(quote).ok_or("has a header with an endless string")?;
        self.rest = &body[end + 1..];
        Ok(&body[..end])
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.peek();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("has a header with a fortran_order that is neither True nor False".into())
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        self.expect('(')?;
        let mut shape = Vec::new();
        while !self.accept(')') {
            self.peek();
            let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
            let side = self.rest[..end].parse().map_err(|_| "has a header with a bad shape")?;
            self.rest = &self.rest[end..];
            shape.push(side);
            if shape.len() > MAX_AXES {
                return Err(format!("has more than {MAX_AXES} axes"));
            }
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }
}
