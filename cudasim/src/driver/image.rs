//! What a module is loaded from: PTX text, a fat binary with PTX, or what is refused.

use super::error::CudaError;
use super::fatbin::{self, Entry, Registers};
use super::ffi::In;

/// Text to load, and what is known of its machine code.
#[derive(Debug)]
pub struct Image {
    /// PTX.
    pub text: String,
    /// Registers, where machine code came with it.
    pub registers: Registers,
}

/// Why an image is refused: the code, and the reason.
pub type Refusal = (CudaError, String);

const ELF: [u8; 4] = *b"\x7fELF";
/// The first word of what nvcc's host code passes: a pointer to the fat binary follows.
const WRAPPER: u32 = 0x4662_43b1;
/// No image is longer.
const LIMIT: usize = 1 << 30;

/// The architecture of the device.
const ARCHITECTURE: u32 = 90;
/// The PTX version that a driver of CUDA 13.0 reads.
const PTX_VERSION: (u32, u32) = (9, 0);

impl Image {
    /// The image at a pointer.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn at(pointer: In<u8>) -> Result<Self, Refusal> {
        let read = |count: usize| pointer.list(count).map_err(|error| (error, "no image".to_owned()));
        let first = read(1)?;
        // A text may end anywhere; the others begin with letters that no text has.
        if !matches!(first[0], 0x7f | 0x50 | 0xb1) {
            return Self::text(&until_zero(pointer)?);
        }

        let start = read(4)?;
        if start == ELF {
            return Err((CudaError::NoBinaryForGpu, "machine code (a cubin) without PTX".into()));
        }

        match u32::from_le_bytes([start[0], start[1], start[2], start[3]]) {
            fatbin::MAGIC => {
                let length = fatbin::length(&read(fatbin::HEADER)?).filter(|&length| length <= LIMIT);
                let malformed = (CudaError::InvalidImage, "a malformed fat binary".to_owned());
                Self::fat(&read(length.ok_or(malformed)?)?)
            }
            WRAPPER => {
                let header = read(16)?;
                let address = u64::from_le_bytes(header[8..].try_into().unwrap_or_default());
                Self::at(In::of_address(address))
            }
            _ => Self::text(&until_zero(pointer)?),
        }
    }

    /// PTX text.
    ///
    /// # Errors
    /// It is for a newer device, or of a newer version.
    fn text(text: &[u8]) -> Result<Self, Refusal> {
        let text = String::from_utf8_lossy(text).into_owned();
        if let Some(target) = target(&text).filter(|target| !runs(target)) {
            return Err((CudaError::InvalidPtx, format!("PTX for {target}; the device is sm_{ARCHITECTURE}a")));
        }
        if let Some(version) = version(&text).filter(|&version| version > PTX_VERSION) {
            let (major, minor) = version;
            let why = format!("PTX {major}.{minor}; a driver of CUDA 13.0 reads {PTX_VERSION:?} at most");
            return Err((CudaError::UnsupportedPtxVersion, why));
        }
        Ok(Self { text, registers: Registers::new() })
    }

    /// The PTX of a fat binary for the highest architecture that the device has.
    ///
    /// # Errors
    /// There is none.
    pub fn fat(binary: &[u8]) -> Result<Self, Refusal> {
        let malformed = || (CudaError::InvalidImage, "a malformed fat binary".to_owned());
        let entries = fatbin::entries(binary).ok_or_else(malformed)?;

        // The PTX for the highest architecture that the device has.
        let mut best: Option<((u32, bool), String)> = None;
        for entry in &entries {
            let Entry::Ptx(text) = entry else { continue };
            let text = String::from_utf8_lossy(text);
            let Some(target) = target(&text).filter(|target| runs(target)) else { continue };
            let rank = (number_of(&target), target.ends_with('a'));
            if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                best = Some((rank, text.into_owned()));
            }
        }

        // Registers, from machine code for this architecture beside it.
        let registers = entries.iter().filter_map(|entry| match entry {
            Entry::MachineCode(ARCHITECTURE, elf) => Some(fatbin::registers(elf)),
            _ => None,
        });

        match best {
            Some((_, text)) => Ok(Self { registers: registers.flatten().collect(), ..Self::text(text.as_bytes())? }),
            None if entries.contains(&Entry::CompressedPtx) => Err((
                CudaError::NoBinaryForGpu,
                "a fat binary whose PTX is compressed: compile with nvcc --compress-mode=none".into(),
            )),
            None => Err((
                CudaError::NoBinaryForGpu,
                format!("a fat binary without PTX for sm_{ARCHITECTURE}a or below: add code=compute_90a"),
            )),
        }
    }
}

/// The bytes of a C string.
fn until_zero(pointer: In<u8>) -> Result<Vec<u8>, Refusal> {
    let mut text = Vec::new();
    loop {
        match pointer.at(text.len()) {
            Ok(0) => return Ok(text),
            Ok(_) if text.len() > LIMIT => return Err((CudaError::InvalidImage, "a text without an end".into())),
            Ok(byte) => text.push(byte),
            Err(error) => return Err((error, "no image".into())),
        }
    }
}

/// What follows a directive on its line.
fn directive<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.trim_start().strip_prefix(name)).filter(|rest| rest.starts_with([' ', '\t']))
}

/// The architecture that a text names.
fn target(text: &str) -> Option<String> {
    let names = directive(text, ".target")?;
    let found = names.split([',', ' ', '\t', '/']).find(|name| name.starts_with("sm_"));
    found.map(str::to_owned)
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = directive(text, ".version")?.trim().split_once('.')?;
    let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn number_of(target: &str) -> u32 {
    let digits: String = target.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(u32::MAX)
}

/// Whether the device runs code for a target: what is specific to an architecture must be its own.
fn runs(target: &str) -> bool {
    match target.chars().last() {
        Some('a' | 'f') => target == "sm_90a",
        _ => number_of(target) <= ARCHITECTURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_versions_are_read() {
        let text = "// a comment\n.version 8.5\n  .target sm_90a, debug\n.address_size 64\n";
        assert_eq!(target(text).as_deref(), Some("sm_90a"));
        assert_eq!(version(text), Some((8, 5)));
        assert_eq!(target(".targets sm_90"), None);
        assert!(runs("sm_90a") && runs("sm_90") && runs("sm_52"));
        assert!(!runs("sm_100") && !runs("sm_100a") && !runs("sm_89a"));
    }

    #[test]
    fn malformed_fat_binaries_are_refused() {
        let mut binary = fatbin::MAGIC.to_le_bytes().to_vec();
        binary.extend([1, 0, 16, 0]);
        binary.extend(200_u64.to_le_bytes());
        binary.resize(216, 0);
        // Entries without a length.
        assert_eq!(Image::fat(&binary).unwrap_err().0, CudaError::InvalidImage);
        binary[16 + 8..16 + 16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(Image::fat(&binary).unwrap_err().0, CudaError::InvalidImage);
    }
}
