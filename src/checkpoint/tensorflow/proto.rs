//! As much of Protocol Buffers as two small messages need: fields, one after the other.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// A number in groups of 7 bits, lowest first, taken off the front.
pub(super) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The fields of a message with their numbers; `None` for what is no message.
pub(super) fn fields(mut message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let length = match tag & 7 {
            0 => {
                found.push((tag >> 3, Field::Number(varint(&mut message)?)));
                continue;
            }
            1 => 8,
            5 => 4,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            _ => return None,
        };
        let bytes = message.get(..length)?;
        message = &message[length..];
        let number = bytes.iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte));
        found.push((tag >> 3, if tag & 7 == 2 { Field::Bytes(bytes) } else { Field::Number(number) }));
    }
    Some(found)
}
