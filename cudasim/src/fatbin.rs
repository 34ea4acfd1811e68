//! Fat binaries, as `fatbinary` writes them: a header, then entries of PTX or machine code for one architecture each; and the ELF files
//! of machine code in them. In the file of an architecture the code of a kernel is the section `.text.NAME`.

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
    /// PTX text for an architecture (90 for sm_90 and sm_90a), without its final zero.
    Ptx(u32, &'a [u8]),
    /// An ELF file for an architecture.
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

        let architecture = number::<4>(header, 28)? as u32;
        let compressed = number::<8>(header, 40)? & COMPRESSED != 0;
        entries.push(match (number::<2>(header, 0)? as u16, compressed) {
            (PTX, true) => Entry::CompressedPtx,
            (PTX, false) => Entry::Ptx(architecture, content.split(|&byte| byte == 0).next().unwrap_or(content)),
            (MACHINE_CODE, false) => Entry::MachineCode(architecture, content),
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

/// The machine code of a kernel in an ELF file; `None` where it has none or is malformed.
pub fn code_of<'a>(elf: &'a [u8], kernel: &str) -> Option<&'a [u8]> {
    let sections = Sections::of(elf)?;
    let name = format!(".text.{kernel}");
    (0..sections.count).find_map(|index| {
        let is_kernel = sections.name(index)? == name;
        sections.content(index).filter(|_| is_kernel)
    })
}

/// The sections of an ELF file, whose place and shape its header gives.
struct Sections<'a> {
    elf: &'a [u8],
    start: usize,
    size: usize,
    count: usize,
    names: &'a [u8],
}

impl<'a> Sections<'a> {
    fn of(elf: &'a [u8]) -> Option<Self> {
        let start = number::<8>(elf, 0x28)? as usize;
        let (size, count) = (number::<2>(elf, 0x3a)? as usize, number::<2>(elf, 0x3c)? as usize);
        let unnamed = Self { elf, start, size, count, names: &[] };
        Some(Self { names: unnamed.content(number::<2>(elf, 0x3e)? as usize)?, ..unnamed })
    }

    fn header(&self, index: usize) -> Option<&'a [u8]> {
        self.elf.get(self.start.checked_add(index.checked_mul(self.size)?)?..)
    }

    fn name(&self, index: usize) -> Option<String> {
        text(self.names, number::<4>(self.header(index)?, 0)? as usize)
    }

    fn content(&self, index: usize) -> Option<&'a [u8]> {
        let header = self.header(index)?;
        let (start, bytes) = (number::<8>(header, 0x18)? as usize, number::<8>(header, 0x20)? as usize);
        self.elf.get(start..start.checked_add(bytes)?)
    }
}

/// The text at a place in a table of texts that end with zeros.
fn text(table: &[u8], at: usize) -> Option<String> {
    let name = table.get(at..)?.split(|&byte| byte == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

fn parse_registers(elf: &[u8]) -> Option<Registers> {
    // The records, and what they refer to.
    let sections = Sections::of(elf)?;
    let (mut info, mut symbols, mut symbol_names) = (None, None, None);
    for index in 0..sections.count {
        if sections.name(index)? == ".nv.info" {
            info = sections.content(index);
        }
        let header = sections.header(index)?;
        if number::<4>(header, 4)? == SYMBOL_TABLE {
            symbols = sections.content(index);
            symbol_names = sections.content(number::<4>(header, 0x28)? as usize);
        }
    }
    let (info, symbols, symbol_names) = (info?, symbols?, symbol_names?);

    // Records: format, attribute, then a 16-bit value, or the length of what follows (format 4).
    let mut registers = Registers::new();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_malformed_is_refused_and_never_panics() {
        let mut fatbin = vec![0_u8; HEADER + ENTRY_HEADER];
        fatbin[..4].copy_from_slice(&MAGIC.to_le_bytes());
        fatbin[6] = 16;
        fatbin[8] = 64 + 9;
        fatbin[16] = 1;
        fatbin[20] = 64;
        fatbin[24] = 9;
        fatbin[44] = 80;
        fatbin.extend(b".version\0");
        assert_eq!(entries(&fatbin), Some(vec![Entry::Ptx(80, b".version")]));
        for cut in 0..fatbin.len() {
            assert_eq!(entries(&fatbin[..cut]), None, "{cut}");
        }
        fatbin[24..32].fill(0xff);
        assert_eq!(entries(&fatbin), None);
        for length in 0..128 {
            assert_eq!(code_of(&vec![0xff; length], "k"), None);
            assert_eq!(code_of(&vec![0; length], "k"), None);
        }
    }
}
