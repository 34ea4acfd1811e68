//! Fat binaries, as `fatbinary` writes them: a header, then entries of PTX or machine code for one architecture each.

use std::collections::HashMap;

/// Registers of a thread by kernel.
pub type Registers = HashMap<String, u32>;

/// The first word of a fat binary.
pub const MAGIC: u32 = 0xba55_ed50;
/// Bytes of its header.
pub const HEADER: usize = 16;
const ENTRY_HEADER: usize = 64;
const PTX: u16 = 1;
const MACHINE_CODE: u16 = 2;
/// Flags of an entry that is compressed, by either method.
const COMPRESSED: u64 = 0x2000 | 0x8000;

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// PTX text, without its final zero.
    Ptx(&'a [u8]),
    /// An ELF file for one architecture (90 for sm_90 and sm_90a).
    MachineCode(u32, &'a [u8]),
    /// Compressed PTX.
    CompressedPtx,
    /// Compressed machine code, or something else.
    Other,
}

fn number<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut word = [0; 8];
    word[..BYTES].copy_from_slice(bytes.get(at..at.checked_add(BYTES)?)?);
    Some(u64::from_le_bytes(word))
}

/// How many bytes a fat binary with this header has; `None` where it is not one.
pub fn length(header: &[u8]) -> Option<usize> {
    if number::<4>(header, 0)? != u64::from(MAGIC) {
        return None;
    }
    let start = number::<2>(header, 6)?;
    usize::try_from(number::<8>(header, 8)?.checked_add(start)?).ok()
}

/// The entries of a whole fat binary; `None` where it is malformed.
pub fn entries(binary: &[u8]) -> Option<Vec<Entry<'_>>> {
    let end = length(binary)?;
    let mut at = number::<2>(binary, 6)? as usize;
    let mut entries = Vec::new();
    while at < end {
        let header = binary.get(at..at.checked_add(ENTRY_HEADER)?)?;
        let start = at.checked_add(number::<4>(header, 4)? as usize)?;
        let size = usize::try_from(number::<8>(header, 8)?).ok()?;
        let after = start.checked_add(size)?;
        let content = binary.get(start..after)?;

        let compressed = number::<8>(header, 40)? & COMPRESSED != 0;
        entries.push(match (number::<2>(header, 0)? as u16, compressed) {
            (PTX, true) => Entry::CompressedPtx,
            (PTX, false) => Entry::Ptx(content.split(|&byte| byte == 0).next().unwrap_or(content)),
            (MACHINE_CODE, false) => Entry::MachineCode(number::<4>(header, 28)? as u32, content),
            _ => Entry::Other,
        });

        // An entry without a length would never end.
        at = if after > at { after } else { return None };
    }
    Some(entries)
}

/// Registers of a thread by kernel, from `.nv.info` of an ELF file of machine code; what is not understood is left out.
pub fn registers(elf: &[u8]) -> Registers {
    parse_registers(elf).unwrap_or_default()
}

const REGISTER_COUNT: u64 = 0x2f;
const SYMBOL_TABLE: u64 = 2;

/// What the records of `.nv.info` refer to, in an ELF file of machine code.
struct Sections<'a> {
    info: &'a [u8],
    symbols: &'a [u8],
    symbol_names: &'a [u8],
}

impl<'a> Sections<'a> {
    /// Finds them by the table of sections, whose place and shape the header of the file gives.
    fn find(elf: &'a [u8]) -> Option<Self> {
        let sections = number::<8>(elf, 0x28)? as usize;
        let size = number::<2>(elf, 0x3a)? as usize;
        let count = number::<2>(elf, 0x3c)? as usize;
        let names = number::<2>(elf, 0x3e)? as usize;
        let section = |index: usize| elf.get(sections.checked_add(index.checked_mul(size)?)?..);
        let content = |header: &[u8]| {
            let (start, bytes) = (number::<8>(header, 0x18)? as usize, number::<8>(header, 0x20)? as usize);
            elf.get(start..start.checked_add(bytes)?)
        };

        let section_names = content(section(names)?)?;
        let (mut info, mut symbols, mut symbol_names) = (None, None, None);
        for index in 0..count {
            let header = section(index)?;
            if text(section_names, number::<4>(header, 0)? as usize)? == ".nv.info" {
                info = content(header);
            }
            if number::<4>(header, 4)? == SYMBOL_TABLE {
                symbols = content(header);
                symbol_names = content(section(number::<4>(header, 0x28)? as usize)?);
            }
        }
        Some(Self { info: info?, symbols: symbols?, symbol_names: symbol_names? })
    }
}

/// The text at a place in a table of texts that end with zeros.
fn text(table: &[u8], at: usize) -> Option<String> {
    let name = table.get(at..)?.split(|&byte| byte == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

fn parse_registers(elf: &[u8]) -> Option<Registers> {
    let Sections { info, symbols, symbol_names } = Sections::find(elf)?;
    let mut registers = Registers::new();

    // Records: format, attribute, then a 16-bit value, or the length of what follows (format 4).
    let mut at = 0;
    while let Some(format) = number::<1>(info, at) {
        let (attribute, value) = (number::<1>(info, at + 1)?, number::<2>(info, at + 2)? as usize);
        at += 4;
        if format != 4 {
            continue;
        }
        if attribute == REGISTER_COUNT {
            let symbol = (number::<4>(info, at)? as usize).checked_mul(24)?;
            let name = text(symbol_names, number::<4>(symbols, symbol)? as usize)?;
            registers.insert(name, number::<4>(info, at + 4)? as u32);
        }
        at += value;
    }
    Some(registers)
}
