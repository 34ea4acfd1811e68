//! The table that an `.index` is: LevelDB's format. Blocks of sorted entries whose keys share prefixes, a block that lists the
//! blocks, and a footer of fixed length. Every block has a checksum, which is verified.

use super::masked_crc;
use super::proto::varint;

/// Bytes of the footer, and what it ends with.
const FOOTER: usize = 48;
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// Behind each block: how it is compressed, and its checksum.
const TRAILER: usize = 5;
/// Most bytes of all blocks together, once they are uncompressed; those of iGPT-L take 40 kB.
const MAX_BYTES: usize = 16 << 20;
/// Most entries, and longest key.
const MAX_ENTRIES: usize = 1 << 16;
const MAX_KEY: usize = 256;

type Result<T> = std::result::Result<T, String>;

/// Keys and values, in the order of the keys. Errors are the problem in words.
pub(super) fn entries(table: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let footer = table.len().checked_sub(FOOTER).map(|start| &table[start..]);
    let footer = footer.ok_or_else(|| format!("{} bytes are less than its footer", table.len()))?;
    if footer[FOOTER - 8..] != MAGIC.to_le_bytes() {
        return Err("it does not end as an index does".into());
    }

    // The footer holds the places of two blocks: of metadata, which there are none of, and the one that lists the others.
    let mut rest = &footer[..FOOTER - 8];
    let mut budget = MAX_BYTES;
    block(table, handle(&mut rest)?, &mut budget)?;
    let mut found = Vec::new();
    let blocks = block_entries(&block(table, handle(&mut rest)?, &mut budget)?, MAX_ENTRIES)?;
    for (_, value) in blocks {
        let block = block(table, handle(&mut value.as_slice())?, &mut budget)?;
        found.extend(block_entries(&block, MAX_ENTRIES - found.len())?);
    }
    Ok(found)
}

/// A block's place: offset and length.
fn handle(bytes: &mut &[u8]) -> Result<(usize, usize)> {
    let mut number = || varint(bytes).and_then(|number| usize::try_from(number).ok());
    match (number(), number()) {
        (Some(offset), Some(length)) => Ok((offset, length)),
        _ => Err("the place of a block cannot be read".into()),
    }
}

/// The content of a block. Its bytes count against `budget`.
fn block(table: &[u8], (offset, length): (usize, usize), budget: &mut usize) -> Result<Vec<u8>> {
    let end = offset.checked_add(length).and_then(|end| end.checked_add(TRAILER)).filter(|&end| end <= table.len());
    let end = end.ok_or("a block lies outside of it")?;
    let (content, checksum) = table[offset..end].split_at(length + 1);
    if masked_crc(crc32c::crc32c(content)).to_le_bytes() != checksum {
        return Err(format!("the block at byte {offset} does not have its checksum"));
    }

    let (compression, content) = (content[length], &content[..length]);
    let bytes = match compression {
        0 => Some(length),
        1 => snap::raw::decompress_len(content).ok(),
        other => return Err(format!("a block is compressed in way {other}; known are none (0) and Snappy (1)")),
    };
    let bytes = bytes.filter(|bytes| bytes <= budget).ok_or("its blocks are longer than those of any checkpoint")?;
    *budget -= bytes;
    match compression {
        0 => Ok(content.to_vec()),
        _ => snap::raw::Decoder::new().decompress_vec(content).map_err(|error| format!("a block is damaged ({error})")),
    }
}

/// The entries of a block, at most `limit`.
fn block_entries(block: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let damaged = || "a block is damaged".to_owned();
    // At the end, where keys start anew: offsets, and how many there are.
    let count = block.len().checked_sub(4).ok_or_else(damaged)?;
    let restarts = block[count..].iter().rev().fold(0_usize, |number, &byte| (number << 8) | usize::from(byte));
    let end = restarts.checked_mul(4).and_then(|bytes| count.checked_sub(bytes)).ok_or_else(damaged)?;

    let (mut rest, mut key, mut found) = (&block[..end], Vec::new(), Vec::new());
    while !rest.is_empty() {
        let mut number = || varint(&mut rest).and_then(|number| usize::try_from(number).ok()).ok_or_else(damaged);
        let (shared, own, value) = (number()?, number()?, number()?);
        if shared > key.len() || own > rest.len() || value > rest.len() - own {
            return Err(damaged());
        }
        if shared + own > MAX_KEY || found.len() == limit {
            return Err(format!("it has more than {MAX_ENTRIES} entries, or a name longer than {MAX_KEY} bytes"));
        }
        key.truncate(shared);
        key.extend(&rest[..own]);
        found.push((key.clone(), rest[own..own + value].to_vec()));
        rest = &rest[own + value..];
    }
    Ok(found)
}
