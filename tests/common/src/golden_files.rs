//! The files of golden sets, packed or plain: see `tests/fixtures/README.md`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The folder of a committed set.
pub fn golden_set(set: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/golden")).join(set)
}

/// Whether a set has `PART.safetensors`, packed or plain.
pub fn has_part(set: &Path, part: &str) -> bool {
    plain(set, part).exists() || packed(set, part).exists()
}

/// The bytes of a set's `PART.safetensors`, unpacked if need be.
pub fn read_part(set: &Path, part: &str) -> Vec<u8> {
    let path = plain(set, part);
    match path.exists() {
        true => fs::read(path).unwrap(),
        false => unpack(&packed(set, part)),
    }
}

fn plain(set: &Path, part: &str) -> PathBuf {
    set.join(format!("{part}.safetensors"))
}

fn packed(set: &Path, part: &str) -> PathBuf {
    set.join(format!("{part}.safetensors.planes.gz"))
}

/// Gzip holds the first bytes of all 4-byte words, then all second bytes, third and fourth; then what is left over.
fn unpack(path: &Path) -> Vec<u8> {
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut planes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut planes).unwrap();

    let words = planes.len() / 4;
    let mut bytes = Vec::with_capacity(planes.len());
    for word in 0..words {
        bytes.extend((0..4).map(|plane| planes[plane * words + word]));
    }
    bytes.extend(&planes[4 * words..]);
    bytes
}
