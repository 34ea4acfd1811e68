//! What a module is loaded from: PTX text, a fat binary with PTX, or what is refused.

use super::error::CudaError;
use super::ffi::In;
use crate::card::{Card, number_of};
use crate::fatbin::{self, Entry, Registers};

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

/// Who reads an image.
pub struct Reader {
    /// The card that it is for.
    pub card: &'static Card,
    /// The driver's release.
    pub driver: (u32, u32),
}

impl Reader {
    /// The newest PTX version that the driver's compiler takes, by the release notes of the PTX ISA.
    fn ptx_version(&self) -> (u32, u32) {
        match self.driver {
            (12, minor @ 0..=5) => (8, minor),
            (12, 6) => (8, 5),
            (12, minor) => (8, minor - 1),
            (major, minor) => (major - 4, minor),
        }
    }

    /// Whether the driver takes machine code that came with PTX of this version: of its own major release, however new, or an
    /// older one.
    fn takes_machine_code(&self, ptx: (u32, u32)) -> bool {
        ptx.0 <= self.ptx_version().0
    }
}

impl Image {
    /// The image at a pointer.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn at(pointer: In<u8>, reader: &Reader) -> Result<Self, Refusal> {
        let read = |count: usize| pointer.list(count).map_err(|error| (error, "no image".to_owned()));
        let first = read(1)?;
        // A text may end anywhere; the others begin with letters that no text has.
        if !matches!(first[0], 0x7f | 0x50 | 0xb1) {
            return Self::text(&until_zero(pointer)?, reader);
        }

        let start = read(4)?;
        if start == ELF {
            return Err((CudaError::NoBinaryForGpu, "machine code (a cubin) without PTX".into()));
        }

        match u32::from_le_bytes([start[0], start[1], start[2], start[3]]) {
            fatbin::MAGIC => {
                let length = fatbin::length(&read(fatbin::HEADER)?).filter(|&length| length <= LIMIT);
                let malformed = (CudaError::InvalidImage, "a malformed fat binary".to_owned());
                Self::fat(&read(length.ok_or(malformed)?)?, reader)
            }
            WRAPPER => {
                let header = read(16)?;
                let address = u64::from_le_bytes(header[8..].try_into().unwrap_or_default());
                Self::at(In::of_address(address), reader)
            }
            _ => Self::text(&until_zero(pointer)?, reader),
        }
    }

    /// PTX text.
    ///
    /// # Errors
    /// It is for a newer device, or of a newer version.
    fn text(text: &[u8], reader: &Reader) -> Result<Self, Refusal> {
        let text = String::from_utf8_lossy(text).into_owned();
        if let Some(target) = target(&text).filter(|target| !reader.card.runs_ptx(target)) {
            let device = reader.card.architecture();
            return Err((CudaError::InvalidPtx, format!("PTX for {target}; the device is sm_{device}a")));
        }
        let newest = reader.ptx_version();
        if let Some(version) = version(&text).filter(|&version| version > newest) {
            let ((major, minor), (release, point)) = (version, reader.driver);
            let why = format!("PTX {major}.{minor}; a driver of CUDA {release}.{point} reads {newest:?} at most");
            return Err((CudaError::UnsupportedPtxVersion, why));
        }
        Ok(Self { text, registers: Registers::new() })
    }

    /// The PTX of a fat binary for the highest architecture that the device has.
    ///
    /// # Errors
    /// There is none.
    pub fn fat(binary: &[u8], reader: &Reader) -> Result<Self, Refusal> {
        let malformed = || (CudaError::InvalidImage, "a malformed fat binary".to_owned());
        let entries = fatbin::entries(binary).ok_or_else(malformed)?;

        // The PTX for the highest architecture that the device has.
        let mut best: Option<((u32, bool), String)> = None;
        for entry in &entries {
            let Entry::Ptx(_, text) = entry else { continue };
            let text = String::from_utf8_lossy(text);
            let Some(target) = target(&text).filter(|target| reader.card.runs_ptx(target)) else { continue };
            let rank = (number_of(&target).unwrap_or(0), target.ends_with('a'));
            if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                best = Some((rank, text.into_owned()));
            }
        }

        // Machine code for the device beside it, which a GPU would run: its registers count, and its release decides whether the
        // driver takes it.
        let machine_code = entries.iter().filter_map(|entry| match entry {
            Entry::MachineCode(number, elf) if reader.card.runs_machine_code(*number) => Some((*number, *elf)),
            _ => None,
        });
        let machine_code = machine_code.max_by_key(|(number, _)| *number);

        match (best, machine_code) {
            (Some((_, text)), Some((_, elf))) => {
                if version(&text).is_some_and(|version| !reader.takes_machine_code(version)) {
                    let (major, minor) = reader.driver;
                    let why = format!("machine code of a newer toolkit than a driver of CUDA {major}.{minor} takes");
                    return Err((CudaError::InvalidImage, why));
                }
                Ok(Self { text, registers: fatbin::registers(elf) })
            }
            (Some((_, text)), None) => Self::text(text.as_bytes(), reader),
            (None, _) if entries.contains(&Entry::CompressedPtx) => Err((
                CudaError::NoBinaryForGpu,
                "a fat binary whose PTX is compressed: compile with nvcc --compress-mode=none (12.4: --no-compress)"
                    .into(),
            )),
            (None, _) => Err((
                CudaError::NoBinaryForGpu,
                format!(
                    "a fat binary without PTX for sm_{}a or below: add its code=compute_",
                    reader.card.architecture()
                ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_versions_are_read() {
        let text = "// a comment\n.version 8.5\n  .target sm_90a, debug\n.address_size 64\n";
        assert_eq!(target(text).as_deref(), Some("sm_90a"));
        assert_eq!(version(text), Some((8, 5)));
        assert_eq!(target(".targets sm_90"), None);
    }

    #[test]
    fn a_driver_reads_the_ptx_of_its_release() {
        let newest = |driver| Reader { card: Card::default_card(), driver }.ptx_version();
        assert_eq!([(12, 0), (12, 4), (12, 6), (12, 9), (13, 0)].map(newest), [(8, 0), (8, 4), (8, 5), (8, 8), (9, 0)]);
    }

    #[test]
    fn a_driver_refuses_newer_ptx_and_takes_machine_code_of_its_major_release() {
        let text = b".version 8.4\n.target sm_80\n.address_size 64\n";
        let reader = |driver, card| Reader { driver, card: Card::named(card).unwrap() };
        let error = |driver| Image::text(text, &reader(driver, "a100")).err().map(|(error, _)| error);
        assert_eq!(error((12, 4)), None);
        assert_eq!(error((12, 3)), Some(CudaError::UnsupportedPtxVersion));
        assert!(reader((12, 0), "a100").takes_machine_code((8, 8)));
        assert!(!reader((12, 9), "a100").takes_machine_code((9, 0)));
    }

    #[test]
    fn malformed_fat_binaries_are_refused() {
        let reader = Reader { card: Card::default_card(), driver: (13, 0) };
        let mut binary = fatbin::MAGIC.to_le_bytes().to_vec();
        binary.extend([1, 0, 16, 0]);
        binary.extend(200_u64.to_le_bytes());
        binary.resize(216, 0);
        // Entries without a length.
        assert_eq!(Image::fat(&binary, &reader).unwrap_err().0, CudaError::InvalidImage);
        binary[16 + 8..16 + 16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(Image::fat(&binary, &reader).unwrap_err().0, CudaError::InvalidImage);
    }
}
