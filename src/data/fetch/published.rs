//! What is fetched from where: data sets other than CIFAR-10, and OpenAI's palette and models.
//!
//! Lengths and SHA-256 are the published ones. OpenAI published none: its files are checked against the length that the
//! server gives, its models by the checksums that TensorFlow wrote into them when they are loaded.

use std::fs;
use std::path::Path;

use super::Fetched;
use super::archive::{CIFAR_HOME, unpack};
use super::download::{Expected, Patience, download_expected};
use crate::data::error::{DataError, Result};

const STL_HOME: &str = "http://ai.stanford.edu/~acoates/stl10";
const OPENAI: &str = "https://openaipublic.blob.core.windows.net/image-gpt";
/// Steps after which OpenAI's models were published.
const STEPS: [u32; 4] = [131_000, 262_000, 524_000, 1_000_000];
const PALETTE: &str = "kmeans_centers.npy";

/// A file to download.
#[derive(Clone, Debug)]
struct Remote {
    /// Its path on the server.
    path: String,
    /// What it is called here.
    name: String,
    bytes: Option<u64>,
    sha256: Option<&'static str>,
}

/// What is taken out of an archive: names, and lengths where they are known.
type Wanted = &'static [(&'static str, Option<u64>)];

/// Something that can be fetched.
#[derive(Clone, Debug)]
pub struct Published {
    /// What it is, for people.
    pub title: String,
    /// The folder that it becomes.
    folder: String,
    home: &'static str,
    files: Vec<Remote>,
    unpacked: Wanted,
}

impl Published {
    /// CIFAR-100, binary version: 169 MB, unpacked 185 MB.
    pub fn cifar100() -> Self {
        let archive = Remote {
            path: "cifar-100-binary.tar.gz".into(),
            name: "cifar-100-binary.tar.gz".into(),
            bytes: Some(168_513_733),
            sha256: Some("58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"),
        };
        let unpacked: Wanted = &[
            ("train.bin", Some(50_000 * 3074)),
            ("test.bin", Some(10_000 * 3074)),
            ("fine_label_names.txt", None),
            ("coarse_label_names.txt", None),
        ];
        let folder = "cifar-100-binary".into();
        Self { title: "CIFAR-100".into(), folder, home: CIFAR_HOME, files: vec![archive], unpacked }
    }

    /// STL-10, the labelled images: 2.6 GB, unpacked 359 MB.
    pub fn stl10() -> Self {
        let archive = Remote {
            path: "stl10_binary.tar.gz".into(),
            name: "stl10_binary.tar.gz".into(),
            bytes: Some(2_640_397_119),
            sha256: Some("f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866"),
        };
        let unpacked: Wanted = &[
            ("train_X.bin", Some(138_240_000)),
            ("train_y.bin", Some(5_000)),
            ("test_X.bin", Some(221_184_000)),
            ("test_y.bin", Some(8_000)),
            ("class_names.txt", Some(55)),
            ("fold_indices.txt", Some(47_794)),
        ];
        let folder = "stl10_binary".into();
        Self { title: "STL-10 (its labelled images)".into(), folder, home: STL_HOME, files: vec![archive], unpacked }
    }

    /// OpenAI's 512 colours: 6 kB.
    pub fn palette() -> Self {
        let title = "OpenAI's palette".into();
        Self { title, folder: ".".into(), home: OPENAI, files: vec![palette_file()], unpacked: &[] }
    }

    /// One of OpenAI's models, `s`, `m` or `l`, after so many steps, and the palette beside it.
    ///
    /// # Errors
    /// [`DataError::Option`] for a number of steps that was not published.
    pub fn model(size: char, bert: bool, steps: u32) -> Result<Self> {
        if !STEPS.contains(&steps) {
            let hint = format!("published are the models after {STEPS:?} steps").replace(['[', ']'], "");
            return Err(DataError::Option { option: "--steps", value: steps.to_string(), hint });
        }
        let name = format!("igpt-{size}{}", if bert { "-bert" } else { "" });
        let shards = if size == 'l' { 64 } else { 32 };
        let data = (0..shards).map(|shard| format!("data-{shard:05}-of-{shards:05}"));
        // The index last: with it, the checkpoint is complete.
        let endings = data.chain(["index".to_owned()]);
        let file = |ending: String| {
            let file = format!("model.ckpt-{steps}.{ending}");
            Remote { path: format!("checkpoints/{name}/{steps}/{file}"), name: file, bytes: None, sha256: None }
        };
        let files = std::iter::once(palette_file()).chain(endings.map(file)).collect();
        let title = format!("OpenAI's {name} after {steps} steps");
        Ok(Self { title, folder: name, home: OPENAI, files, unpacked: &[] })
    }

    /// Whether every file has a published hash.
    pub fn is_hashed(&self) -> bool {
        self.files.iter().all(|file| file.sha256.is_some())
    }
}

fn palette_file() -> Remote {
    let path = format!("color-clusters/{PALETTE}");
    Remote { path, name: PALETTE.into(), bytes: Some(6272), sha256: None }
}

/// Puts what was published into `out`, in a folder of its own. What is there and right is kept, a file that is there in part
/// is resumed. `mirror` is the address of another server that has the same files under the same paths.
///
/// # Errors
/// [`DataError::Fetch`] for the network, [`DataError::Hash`] and [`DataError::Length`] for what is not the published file,
/// [`DataError::Space`] for a disk that is too full, [`DataError::Write`].
pub fn fetch_published(
    published: &Published,
    out: &Path,
    mirror: Option<&str>,
    show_progress: bool,
) -> Result<Fetched> {
    let folder = out.join(&published.folder);
    fs::create_dir_all(&folder).map_err(DataError::write(&folder))?;
    let mut fetched = Fetched { folder: folder.clone(), kept: Vec::new(), written: Vec::new() };

    // Unpacked before: nothing is needed.
    let is_there = |(name, bytes): &(&str, Option<u64>)| {
        fs::metadata(folder.join(name)).is_ok_and(|found| bytes.is_none_or(|bytes| bytes == found.len()))
    };
    if !published.unpacked.is_empty() && published.unpacked.iter().all(is_there) {
        fetched.kept = published.unpacked.iter().map(|(name, _)| (*name).to_owned()).collect();
        return Ok(fetched);
    }

    let home = mirror.unwrap_or(published.home).trim_end_matches('/');
    for Remote { path, name, bytes, sha256 } in &published.files {
        // An archive lies beside the folder that it becomes.
        let target = if published.unpacked.is_empty() { folder.join(name) } else { out.join(name) };
        let expected = Expected { sha256: *sha256, bytes: *bytes };
        let came = download_expected(&format!("{home}/{path}"), expected, &target, Patience::USUAL, show_progress)?;
        if published.unpacked.is_empty() {
            if came {
                fetched.written.push(name.clone())
            } else {
                fetched.kept.push(name.clone())
            }
            continue;
        }
        unpack(&target, &published.folder, published.unpacked, &folder, show_progress)?;
        fs::remove_file(&target).map_err(DataError::write(&target))?;
        fetched.written = published.unpacked.iter().map(|(name, _)| (*name).to_owned()).collect();
    }
    Ok(fetched)
}
