//! What the directory of a TIFF claims, before a decoder believes it.

/// Values of a tag up to which nobody asks where they are.
const FEW: u64 = 1 << 16;

/// The tag of the first directory that claims more values than the file has bytes, and how many: the `tiff` crate makes room for
/// them, 32 bytes each and up to 256 MiB, before it looks for them. What it refuses itself is left to it.
pub(super) fn overclaimed(bytes: &[u8]) -> Option<(u16, u64)> {
    let is_big_endian = bytes.starts_with(b"MM");
    let number = |field: &[u8]| {
        let shifted = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        if is_big_endian { field.iter().fold(0, shifted) } else { field.iter().rev().fold(0, shifted) }
    };
    let number_at = |at: usize, size: usize| bytes.get(at..at.checked_add(size)?).map(number);

    // Classic: offsets and counts of 4 bytes, and of 2 bytes the number of entries. BigTIFF: all of them of 8.
    let is_big = number_at(2, 2)? == 43;
    let (first, size, entries, entry) = if is_big { (8, 8, 8, 20) } else { (4, 4, 2, 12) };
    let directory = usize::try_from(number_at(first, size)?).ok()?;
    let count = usize::try_from(number_at(directory, entries)?).unwrap_or(usize::MAX);

    // Entries: tag, type, how many values, and the values or where they are.
    let table = bytes.get(directory.checked_add(entries)?..)?;
    let mut claims = table.chunks_exact(entry).take(count).map(|entry| {
        let (tag, values) = (number(&entry[..2]), number(&entry[4..4 + size]));
        (tag as u16, values)
    });
    claims.find(|(_, values)| *values > FEW.max(bytes.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TIFF of one entry: tag 277, SHORT.
    fn tiff(is_big_endian: bool, is_big: bool, values: u32) -> Vec<u8> {
        let mut bytes = if is_big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        let mut put = |value: u64, size: usize| {
            let bytes_of = value.to_be_bytes();
            let field = &bytes_of[8 - size..];
            if is_big_endian { bytes.extend(field) } else { bytes.extend(field.iter().rev()) }
        };
        let (magic, size, entries) = if is_big { (43, 8, 8) } else { (42, 4, 2) };
        put(magic, 2);
        if is_big {
            put(8, 2);
            put(0, 2);
        }
        put(if is_big { 16 } else { 8 }, size);
        put(1, entries);
        put(277, 2);
        put(3, 2);
        put(values.into(), size);
        put(0, size);
        bytes
    }

    #[test]
    fn a_tag_of_more_values_than_bytes_is_found() {
        for (is_big_endian, is_big) in [(false, false), (true, false), (false, true), (true, true)] {
            let of = |values| tiff(is_big_endian, is_big, values);
            assert_eq!(overclaimed(&of(3_211_265)), Some((277, 3_211_265)));
            assert_eq!(overclaimed(&of(3)), None);
            let whole = of(3_211_265);
            // Cut short, and never a panic.
            (0..whole.len()).for_each(|length| assert_eq!(overclaimed(&whole[..length]), None));
        }
    }
}
