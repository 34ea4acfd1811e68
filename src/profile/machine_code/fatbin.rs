//! Fat binaries and the ELF files of machine code in them: the code of each kernel, and its PTX.
//!
//! A fat binary is 16 bytes of header (its own size at 6) and entries of a header (kind at 0, its own size at 4, the content's at
//! 8, the architecture at 28) and a content; kind 1 is PTX, kind 2 machine code. In the ELF file of an architecture the code of
//! a kernel is the section `.text.NAME`.

/// An entry of a fat binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// PTX for an architecture (90 for sm_90 and sm_90a).
    Ptx(u32, &'a str),
    /// An ELF file for an architecture.
    MachineCode(u32, &'a [u8]),
}

/// A number of `BYTES` bytes, little-endian.
fn number<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(BYTES)?)?;
    usize::try_from(field.iter().rev().fold(0_u64, |number, &byte| number << 8 | u64::from(byte))).ok()
}

/// The uncompressed entries of a fat binary; what is malformed ends it.
pub fn entries(fatbin: &[u8]) -> Vec<Entry<'_>> {
    let mut found = Vec::new();
    let mut at = number::<2>(fatbin, 6).unwrap_or(0);
    while let Some((entry, next)) = entry(fatbin, at) {
        found.extend(entry);
        at = next;
    }
    found
}

/// The entry at a place, if it is one to be read, and where the next begins.
fn entry(fatbin: &[u8], at: usize) -> Option<(Option<Entry<'_>>, usize)> {
    let (kind, header, size) = (number::<2>(fatbin, at)?, number::<4>(fatbin, at + 4)?, number::<8>(fatbin, at + 8)?);
    let architecture = u32::try_from(number::<4>(fatbin, at + 28)?).ok()?;
    let start = at.checked_add(header)?;
    let content = fatbin.get(start..start.checked_add(size)?)?;
    let next = (start + size > at).then_some(start + size)?;

    let entry = match kind {
        1 => {
            let text = content.split(|&byte| byte == 0).next()?;
            std::str::from_utf8(text)
                .ok()
                .filter(|text| text.contains(".version"))
                .map(|text| Entry::Ptx(architecture, text))
        }
        2 if content.starts_with(b"\x7fELF") => Some(Entry::MachineCode(architecture, content)),
        _ => None,
    };
    Some((entry, next))
}

/// The machine code of a kernel in an ELF file; `None` where it has none or is malformed.
pub fn code_of<'a>(elf: &'a [u8], kernel: &str) -> Option<&'a [u8]> {
    let sections = number::<8>(elf, 0x28)?;
    let (size, count, names) = (number::<2>(elf, 0x3a)?, number::<2>(elf, 0x3c)?, number::<2>(elf, 0x3e)?);
    let header = |index: usize| elf.get(sections.checked_add(index.checked_mul(size)?)?..);
    let content = |header: &[u8]| {
        let (start, bytes) = (number::<8>(header, 0x18)?, number::<8>(header, 0x20)?);
        elf.get(start..start.checked_add(bytes)?)
    };

    let names = content(header(names)?)?;
    (0..count).find_map(|index| {
        let header = header(index)?;
        let name = names.get(number::<4>(header, 0)?..)?.split(|&byte| byte == 0).next()?;
        let of_kernel = name.strip_prefix(b".text.").is_some_and(|name| name == kernel.as_bytes());
        content(header).filter(|_| of_kernel)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_malformed_ends_the_list_and_never_panics() {
        let mut fatbin = vec![0_u8; 16 + 64];
        fatbin[6] = 16;
        fatbin[16] = 1;
        fatbin[20] = 64;
        fatbin[24] = 9;
        fatbin[44] = 80;
        fatbin.extend(b".version\0");
        assert_eq!(entries(&fatbin), [Entry::Ptx(80, ".version")]);
        for cut in 0..fatbin.len() {
            assert!(entries(&fatbin[..cut]).is_empty(), "{cut}");
        }
        fatbin[24..32].fill(0xff);
        assert!(entries(&fatbin).is_empty());
        for length in 0..128 {
            assert_eq!(code_of(&vec![0xff; length], "k"), None);
            assert_eq!(code_of(&vec![0; length], "k"), None);
        }
    }
}
