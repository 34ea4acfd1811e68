//! The little of MATLAB's MAT-file format (level 5) that ImageNet's `meta.mat` needs: struct arrays of numbers and texts.
//!
//! Follows "MAT-File Format", MathWorks, chapter 1: a header of 128 bytes, then elements of a tag (type, length) and data
//! padded to 8 bytes; small ones have tag and data in 8 bytes together; compressed ones hold another element.

use std::collections::HashMap;
use std::io::Read as _;

use flate2::read::ZlibDecoder;

/// Bytes of the file's header.
const HEADER: usize = 128;
/// Maximum bytes that a compressed element unpacks to.
const MAX_UNPACKED: u64 = 64 << 20;
/// Maximum depth of structs within structs.
const MAX_DEPTH: usize = 8;

// Types of elements.
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
// Classes of matrices.
const STRUCT: u8 = 2;
const CHARACTERS: u8 = 4;
const FIRST_NUMERIC: u8 = 6;
const LAST_NUMERIC: u8 = 15;

/// A variable.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Any real numeric array, in storage order.
    Numbers(Vec<f64>),
    /// A char array, in storage order (a row is a string).
    Text(String),
    /// The elements of a struct array, in storage order.
    Struct(Vec<HashMap<String, Value>>),
    /// Something else.
    Other,
}

/// The variable `name` of a MAT-file.
///
/// # Errors
/// What is wrong, as text.
pub(super) fn variable(file: &[u8], name: &str) -> Result<Value, String> {
    let order = file.get(126..HEADER).ok_or("it is not a MAT-file: shorter than its header")?;
    if order != b"IM" {
        return Err("it is not a MAT-file of level 5 in little-endian order".into());
    }

    let mut rest = &file[HEADER..];
    while !rest.is_empty() {
        let (kind, data) = element(&mut rest)?;
        let mut unpacked = Vec::new();
        let (kind, data) = if kind == COMPRESSED {
            let mut decoder = ZlibDecoder::new(data).take(MAX_UNPACKED);
            decoder.read_to_end(&mut unpacked).map_err(|error| format!("cannot unpack it: {error}"))?;
            element(&mut unpacked.as_slice()).map(|(kind, data)| (kind, data.to_vec()))?
        } else {
            (kind, data.to_vec())
        };

        if kind != MATRIX {
            continue;
        }
        let (found, value) = matrix(&data, 0)?;
        if found == name {
            return Ok(value);
        }
    }
    Err(format!("there is no variable {name} in it"))
}

/// Takes an element off the front: its type and data.
fn element<'a>(rest: &mut &'a [u8]) -> Result<(u32, &'a [u8]), String> {
    let short = || "it ends inside an element".to_owned();
    let tag = rest.get(..8).ok_or_else(short)?;
    let word = |at: usize| u32::from_le_bytes([tag[at], tag[at + 1], tag[at + 2], tag[at + 3]]);
    // Small: the length is in the upper half of the type's word, the data in the second word.
    let small = (word(0) >> 16) as usize;
    if small > 0 {
        let data = tag.get(4..4 + small).ok_or_else(short)?;
        *rest = &rest[8..];
        return Ok((word(0) & 0xffff, data));
    }
    let (kind, length) = (word(0), word(4) as usize);
    let data = rest.get(8..8 + length).ok_or_else(short)?;
    // Compressed elements are not padded, and the last one need not be.
    let padded = if kind == COMPRESSED { length } else { length.next_multiple_of(8) };
    *rest = rest.get(8 + padded..).unwrap_or_default();
    Ok((kind, data))
}

/// Name and value of a matrix element's data.
fn matrix(mut rest: &[u8], depth: usize) -> Result<(String, Value), String> {
    if rest.is_empty() {
        return Ok((String::new(), Value::Other));
    }
    if depth > MAX_DEPTH {
        return Err("structs are nested too deeply".into());
    }

    // Flags, sides, name, then the values.
    let rest = &mut rest;
    let class = *element(rest)?.1.first().ok_or("a matrix has no class")?;
    let sides = numbers(element(rest)?)?;
    let name = String::from_utf8_lossy(element(rest)?.1).into_owned();

    let value = match class {
        FIRST_NUMERIC..=LAST_NUMERIC => Value::Numbers(numbers(element(rest)?)?),
        CHARACTERS => Value::Text(text(element(rest)?)?),
        STRUCT => Value::Struct(structs(rest, &sides, depth)?),
        _ => Value::Other,
    };
    Ok((name, value))
}

fn structs(rest: &mut &[u8], sides: &[f64], depth: usize) -> Result<Vec<HashMap<String, Value>>, String> {
    let width = numbers(element(rest)?)?.first().map_or(0, |&width| width as usize);
    let names = element(rest)?.1;
    if width == 0 {
        return Err("a struct has no names of fields".into());
    }

    let names: Vec<String> = names
        .chunks_exact(width)
        .map(|name| name.split(|&byte| byte == 0).next().unwrap_or_default())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();

    let count = sides.iter().product::<f64>();
    // Every field of every struct takes at least a tag: what promises more is not believed.
    if !(count >= 0.0 && count * names.len().max(1) as f64 * 8.0 <= rest.len() as f64) {
        return Err(format!("a struct array of {sides:?} is larger than the file"));
    }

    let mut structs = Vec::new();
    for _ in 0..count as usize {
        let mut fields = HashMap::new();
        for name in &names {
            let (kind, data) = element(rest)?;
            if kind != MATRIX {
                return Err(format!("field {name} is of type {kind}"));
            }
            fields.insert(name.clone(), matrix(data, depth + 1)?.1);
        }
        structs.push(fields);
    }
    Ok(structs)
}

/// Characters, stored in 8 or 16 bits each.
fn text((kind, data): (u32, &[u8])) -> Result<String, String> {
    Ok(match kind {
        // int8, uint8, UTF-8
        1 | 2 | 16 => String::from_utf8_lossy(data).into_owned(),
        // int16, uint16, UTF-16
        3 | 4 | 17 => {
            let units: Vec<u16> = data.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        _ => return Err(format!("a text is stored as type {kind}")),
    })
}

/// Numbers, whatever their storage type: MATLAB stores doubles that are small integers as such.
fn numbers((kind, data): (u32, &[u8])) -> Result<Vec<f64>, String> {
    macro_rules! read {
        ($type:ty) => {
            data.chunks_exact(size_of::<$type>())
                .map(|bytes| <$type>::from_le_bytes(bytes.try_into().unwrap_or_default()) as f64)
                .collect()
        };
    }

    Ok(match kind {
        1 => read!(i8),
        2 => read!(u8),
        3 => read!(i16),
        4 => read!(u16),
        5 => read!(i32),
        6 => read!(u32),
        7 => read!(f32),
        9 => read!(f64),
        12 => read!(i64),
        13 => read!(u64),
        _ => return Err(format!("numbers are stored as type {kind}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by SciPy: see `tests/fixtures/README.md`.
    const COMPRESSED_FILE: &[u8] = include_bytes!("../../../../tests/fixtures/devkit/meta.mat");

    #[test]
    fn scipys_structs_are_read() {
        let Value::Struct(synsets) = variable(COMPRESSED_FILE, "synsets").unwrap() else { panic!("no struct") };
        assert_eq!(synsets.len(), 8);
        assert_eq!(synsets[0]["WNID"], Value::Text("n00000006".into()));
        assert_eq!(synsets[0]["ILSVRC2012_ID"], Value::Numbers(vec![1.0]));
        assert_eq!(synsets[6]["num_children"], Value::Numbers(vec![2.0]));
        assert!(variable(COMPRESSED_FILE, "other").unwrap_err().contains("no variable other"));
    }

    #[test]
    fn damaged_files_are_errors_or_other_values_and_never_panics() {
        for cut in 0..COMPRESSED_FILE.len() {
            assert!(variable(&COMPRESSED_FILE[..cut], "synsets").is_err(), "cut at {cut}");
        }
        // Damage behind the compression, where a checksum does not find it.
        let mut unpacked = Vec::new();
        ZlibDecoder::new(&COMPRESSED_FILE[HEADER + 8..]).read_to_end(&mut unpacked).unwrap();
        let plain = [&COMPRESSED_FILE[..HEADER], &unpacked].concat();
        assert!(matches!(variable(&plain, "synsets"), Ok(Value::Struct(_))));
        for at in HEADER..plain.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = plain.clone();
                damaged[at] = value;
                let _ = variable(&damaged, "synsets");
            }
        }
    }
}
