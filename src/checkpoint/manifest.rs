//! `igpt-engine.sha256`: the SHA-256 of every file of a folder that the engine wrote, so that damage is noticed whenever
//! one is read. `sha256sum --check igpt-engine.sha256` checks it by hand.
//!
//! ```text
//! # Written by igpt-engine; to check by hand: sha256sum --check igpt-engine.sha256
//! # sha256 of the lines below: 9f86d081…
//! # step 100
//! 2c26b46b…  config.json
//! fcde2b2e…  model.safetensors
//! ```
//!
//! The list holds the hash of itself and the step, which must be that of the folder's name. Small files are compared when the
//! list is read, files of tensors while they are ([`super::hashed_file`]).

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::{CheckpointError, Result};
use super::files::index_of;
use super::hashed_file::Expected;
use super::{
    CONFIG_FILE, EMA_FILE, INDEX_FILE, MANIFEST_FILE, MODEL_FILE, OPTIMIZER_FILE, ORDER_FILE, PREPROCESSOR_FILE,
    TRAINING_FILE,
};
use crate::data::{hex, sha256};
use crate::fs::first_bytes::foreign;

const TITLE: &str = "# Written by igpt-engine; to check by hand: sha256sum --check igpt-engine.sha256";
/// In `config.json`: the folder has a list.
pub(super) const MANIFEST_KEY: &str = "igpt_manifest";
const OWN_HASH: &str = "# sha256 of the lines below: ";
/// Longest list that is read: one of some thousand files.
const MAX_BYTES: u64 = 1 << 20;

/// A folder's list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Updates of the model, in a checkpoint that training goes on from.
    step: Option<u64>,
    /// From name to SHA-256.
    hashes: BTreeMap<String, String>,
    /// What to do about a file that is another.
    remedy: &'static str,
}

impl Manifest {
    /// The list of a folder, checked: itself, its step, that the files are those listed, and the contents of all but files
    /// of tensors. `None` for folders that have none: those of others, and of older versions.
    ///
    /// # Errors
    /// [`CheckpointError::Manifest`] for a list that is damaged, missing or of another folder, [`CheckpointError::Torn`]
    /// for a file that is another than listed; [`CheckpointError::Io`].
    pub fn open(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(MANIFEST_FILE);
        let fail = |problem: String| Err(CheckpointError::Manifest { path: path.clone(), problem });
        let mut text = String::new();
        let read = fs::File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == ErrorKind::NotFound && promise(dir).is_none() => return Ok(None),
            // One file of a checkpoint of TensorFlow's stands for it.
            Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let file = promise(dir).unwrap_or(CONFIG_FILE);
                return fail(format!("it is missing, and {file} says that it was saved with this checkpoint"));
            }
            Err(error) if error.kind() != ErrorKind::InvalidData => {
                return Err(CheckpointError::io("read", &path)(error));
            }
            Err(_) | Ok(_) => {}
        }
        let Some(mut manifest) = Self::parse(&text) else {
            return fail("it is not as igpt-engine wrote it: damaged or edited".to_owned());
        };

        if manifest.is_superseded(dir) {
            return Ok(None);
        }

        if let (Some(folder), Some(step)) = (step_of_folder(dir), manifest.step)
            && folder != step
        {
            return fail(format!("it is of step {step}, and the folder is named for step {folder}"));
        }
        manifest.remedy = if dir.join(TRAINING_FILE).is_file() {
            "it was damaged or replaced; take an earlier checkpoint, or another copy of this one"
        } else {
            "it was damaged, replaced or edited; take another copy, or, to accept it as it is, delete igpt-engine.sha256 \
             and igpt_manifest in config.json"
        };
        manifest.check_files(dir)?;
        Ok(Some(manifest))
    }

    /// What a file should be, if it is listed.
    pub fn expected(&self, name: &str) -> Option<Expected> {
        let sha256 = self.hashes.get(name)?.clone();
        Some(Expected { sha256, list: MANIFEST_FILE, remedy: self.remedy })
    }

    /// Whether another program has saved its own weights, in several files, in place of the listed ones: no accident does
    /// that, and the list is of a model that is gone. Never so of a checkpoint that training goes on from.
    fn is_superseded(&self, dir: &Path) -> bool {
        let replaced = self.hashes.contains_key(MODEL_FILE) && !dir.join(MODEL_FILE).exists();
        let resaved = !self.hashes.contains_key(INDEX_FILE) && dir.join(INDEX_FILE).is_file();
        self.step.is_none() && replaced && resaved
    }

    /// Checks that the listed files are there and no other file of ours is, and the contents of the small ones.
    fn check_files(&self, dir: &Path) -> Result<()> {
        let fail = |problem: String| Err(CheckpointError::Manifest { path: dir.join(MANIFEST_FILE), problem });
        for (name, hash) in &self.hashes {
            let path = dir.join(name);
            if !path.is_file() {
                return fail(format!("it lists {name}, which is not there"));
            }
            if !is_tensors(name) && sha256(&path)? != *hash {
                // What was never downloaded, say, is no matter of damage.
                return Err(match foreign(&path) {
                    Some(found) => CheckpointError::NotWeights { path, what: found.sentence() },
                    None => CheckpointError::Torn { path, list: MANIFEST_FILE, remedy: self.remedy },
                });
            }
        }

        for entry in fs::read_dir(dir).map_err(CheckpointError::io("list", dir))? {
            let name = entry.map_err(CheckpointError::io("list", dir))?.file_name();
            let Some(name) = name.to_str() else { continue };
            if is_ours(name) && !self.hashes.contains_key(name) {
                return fail(format!("it does not list {name}, which was not saved with this folder"));
            }
        }
        Ok(())
    }

    /// The file's text.
    fn render(&self) -> String {
        let step = self.step.map_or("none".to_owned(), |step| step.to_string());
        let mut listed = format!("# step {step}\n");
        for (name, hash) in &self.hashes {
            listed.push_str(&format!("{hash}  {name}\n"));
        }
        format!("{TITLE}\n{OWN_HASH}{}\n{listed}", hex(&Sha256::digest(&listed)))
    }

    /// Only what [`Self::render`] gives is a list.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip(2);
        let step = match lines.next()?.strip_prefix("# step ")? {
            "none" => None,
            step => Some(step.parse().ok()?),
        };
        let entry = |line: &str| line.split_once("  ").map(|(hash, name)| (name.to_owned(), hash.to_owned()));
        let hashes: Option<BTreeMap<_, _>> = lines.map(entry).collect();
        let manifest = Self { step, hashes: hashes?, remedy: "" };

        let plain = |name: &String| Path::new(name).file_name().is_some_and(|file| file == name.as_str());
        (manifest.render() == text && manifest.hashes.keys().all(plain)).then_some(manifest)
    }
}

/// Reads every listed file of a folder and compares it with its hash, files of tensors too. A folder without a list is taken as it is.
///
/// # Errors
/// [`CheckpointError::Manifest`] for a list that is damaged, missing or of another folder, [`CheckpointError::Torn`] for a file that is
/// another than listed; [`CheckpointError::Io`].
pub fn verify(dir: &Path) -> Result<()> {
    let Some(manifest) = Manifest::open(dir)? else { return Ok(()) };
    for (name, hash) in manifest.hashes.iter().filter(|(name, _)| is_tensors(name)) {
        let path = dir.join(name);
        if sha256(&path)? != *hash {
            return Err(CheckpointError::Torn { path, list: MANIFEST_FILE, remedy: manifest.remedy });
        }
    }
    Ok(())
}

/// Writes the list of all files in `folder`; `known` are hashes that need not be computed again.
///
/// # Errors
/// [`CheckpointError::Io`].
pub(super) fn write_manifest(folder: &Path, step: Option<u64>, known: &[(String, String)]) -> Result<()> {
    let mut hashes: BTreeMap<String, String> = known.iter().cloned().collect();
    for entry in fs::read_dir(folder).map_err(CheckpointError::io("list", folder))? {
        let path = entry.map_err(CheckpointError::io("list", folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !hashes.contains_key(name) {
            hashes.insert(name.to_owned(), sha256(&path)?);
        }
    }

    let path: PathBuf = folder.join(MANIFEST_FILE);
    let text = Manifest { step, hashes, remedy: "" }.render();
    fs::write(&path, text).map_err(CheckpointError::io("write", &path))
}

/// `step-00000100` is 100; a temporary name is `None`.
pub(crate) fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step-")?;
    (digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The step that a folder is named for, wherever links and `.` lead.
pub(super) fn step_of_folder(dir: &Path) -> Option<u64> {
    step_of(dir.canonicalize().ok()?.file_name()?.to_str()?)
}

/// The file, if there is one, that says that the folder was saved with a list. One that cannot be read is judged when it is.
/// What transformers has saved since is another folder, whose configuration only kept our keys.
fn promise(dir: &Path) -> Option<&'static str> {
    let says = |file: &&str, key: &str| {
        let text = fs::read(dir.join(file)).ok()?;
        let map = serde_json::from_slice::<Value>(&text).ok()?;
        (map.get(key).is_some() && map.get("transformers_version").is_none()).then_some(())
    };
    [(TRAINING_FILE, "manifest"), (CONFIG_FILE, MANIFEST_KEY)]
        .into_iter()
        .find_map(|(file, key)| says(&file, key).map(|()| file))
}

/// Whether a file is too large to be read for its hash alone.
fn is_tensors(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// Whether a file of this name means something to the engine.
fn is_ours(name: &str) -> bool {
    let names =
        [CONFIG_FILE, EMA_FILE, INDEX_FILE, MODEL_FILE, OPTIMIZER_FILE, ORDER_FILE, PREPROCESSOR_FILE, TRAINING_FILE];
    let is_part = ["model-", "ema-", "optimizer-"].iter().any(|start| name.starts_with(start)) && is_tensors(name);
    let is_index = [EMA_FILE, OPTIMIZER_FILE].into_iter().any(|base| name == index_of(base));
    names.contains(&name) || is_part || is_index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_of_a_list_is_noticed() {
        let hashes =
            [("config.json", "a"), ("model.safetensors", "b")].map(|(name, hash)| (name.into(), hash.repeat(64)));
        let manifest = Manifest { step: Some(100), hashes: hashes.into(), remedy: "" };
        let text = manifest.render();
        assert_eq!(Manifest::parse(&text), Some(manifest));
        for index in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(Manifest::parse(&changed), None, "byte {index}");
        }
        assert_eq!(Manifest::parse(""), None);
        let up = Manifest { step: None, hashes: [("../x".into(), "c".repeat(64))].into(), remedy: "" };
        assert_eq!(Manifest::parse(&up.render()), None, "only files of the folder are listed");
    }
}
