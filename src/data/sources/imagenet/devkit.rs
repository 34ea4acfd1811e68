//! The development kit: which class each validation image is of.
//!
//! `ILSVRC2012_validation_ground_truth.txt` has one ILSVRC2012_ID (1 to 1000) per line, in the order of the images' names;
//! `meta.mat` says which wnid has which ID. IDs are not in the order of wnids.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::mat::{self, Value};
use crate::data::error::{DataError, Result};
use crate::data::files::regular;

/// The official archive.
pub const DEVKIT_TAR: &str = "ILSVRC2012_devkit_t12.tar.gz";
const FOLDER: &str = "ILSVRC2012_devkit_t12";
const TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
const META: &str = "meta.mat";
/// Maximum bytes of a file of the kit (the official ones have below 1 MB).
const MAX_FILE: u64 = 64 << 20;

/// What the kit says about the validation images.
#[derive(Debug, PartialEq, Eq)]
pub struct Devkit {
    /// The archive, or the folder.
    pub path: PathBuf,
    /// The classes, sorted: a label is an index into this list.
    pub wnids: Vec<String>,
    /// Labels of the validation images, in the order of their names.
    pub labels: Vec<u16>,
}

impl Devkit {
    /// Reads the kit in `folder`: the archive, the unpacked folder, or its folder `data`; `None` if there is none.
    ///
    /// # Errors
    /// [`DataError::Read`]; [`DataError::Devkit`] for a kit that is damaged.
    pub fn find(folder: &Path) -> Result<Option<Self>> {
        let unpacked = [folder.join(FOLDER).join("data"), folder.join("data"), folder.to_owned()];
        if let Some(data) = unpacked.into_iter().find(|data| data.join(TRUTH).is_file() && data.join(META).is_file()) {
            let read = |name: &str| {
                let path = data.join(name);
                let mut bytes = Vec::new();
                let file = regular::open(&path).map_err(DataError::read(&path))?;
                file.take(MAX_FILE).read_to_end(&mut bytes).map_err(DataError::read(&path))?;
                Ok::<_, DataError>(bytes)
            };
            return Self::parse(&data, &read(TRUTH)?, &read(META)?).map(Some);
        }
        let archive = folder.join(DEVKIT_TAR);
        if !archive.exists() {
            return Ok(None);
        }
        let [truth, meta] = unpack(&archive)?;
        Self::parse(&archive, &truth, &meta).map(Some)
    }

    fn parse(path: &Path, truth: &[u8], meta: &[u8]) -> Result<Self> {
        let wrong = |problem: String| DataError::Devkit { path: path.to_owned(), problem };
        let classes = leaves(meta).map_err(|problem| wrong(format!("{META}: {problem}")))?;
        let mut wnids: Vec<String> = classes.values().cloned().collect();
        wnids.sort();
        if wnids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(wrong(format!("{META}: a WNID is in it twice")));
        }
        let truth = std::str::from_utf8(truth).map_err(|_| wrong(format!("{TRUTH} is not text")))?;
        let mut labels = Vec::new();
        for (line, number) in truth.lines().filter(|line| !line.trim().is_empty()).zip(1..) {
            let class = line.trim().parse().ok().and_then(|id: u32| classes.get(&id));
            let label = class.and_then(|wnid| wnids.binary_search(wnid).ok()).and_then(|at| u16::try_from(at).ok());
            labels.push(
                label.ok_or_else(|| wrong(format!("{TRUTH}: line {number} ({line:?}) is not the ID of a class")))?,
            );
        }
        Ok(Devkit { path: path.to_owned(), wnids, labels })
    }
}

/// The two files out of the archive.
fn unpack(path: &Path) -> Result<[Vec<u8>; 2]> {
    let wrong = |problem: String| DataError::Devkit { path: path.to_owned(), problem };
    let file = regular::open(path).map_err(DataError::read(path))?;
    let mut found = [TRUTH, META].map(|name| (name, None));
    // A devkit has 2.5 MB: anything that unpacks to gigabytes is not one.
    let mut archive = tar::Archive::new(GzDecoder::new(file).take(8 * MAX_FILE));
    for entry in archive.entries().map_err(|error| wrong(error.to_string()))? {
        let entry = entry.map_err(|error| wrong(error.to_string()))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.rsplit('/').next().unwrap_or_default();
        if let Some((_, bytes)) = found.iter_mut().find(|(wanted, bytes)| *wanted == name && bytes.is_none()) {
            let contents = bytes.insert(Vec::new());
            entry.take(MAX_FILE).read_to_end(contents).map_err(|error| wrong(error.to_string()))?;
        }
    }
    let [truth, meta] = found.map(|(name, bytes)| bytes.ok_or_else(|| wrong(format!("{name} is not in it"))));
    Ok([truth?, meta?])
}

/// WNID by ILSVRC2012_ID, of the synsets that have no children: those are the classes.
fn leaves(meta: &[u8]) -> Result<HashMap<u32, String>, String> {
    let synsets = mat::variable(meta, "synsets")?;
    let Value::Struct(synsets) = synsets else { return Err("synsets is not a struct array".into()) };
    let mut classes = HashMap::new();

    for (synset, number) in synsets.into_iter().zip(1..) {
        let number_of = |field: &str| match synset.get(field) {
            Some(Value::Numbers(values)) if values.len() == 1 => Ok(values[0]),
            _ => Err(format!("synset {number} has no number {field}")),
        };
        if number_of("num_children")? != 0.0 {
            continue;
        }

        let Some(Value::Text(wnid)) = synset.get("WNID") else {
            return Err(format!("synset {number} has no text WNID"));
        };
        let id = number_of("ILSVRC2012_ID")?;
        if id.fract() != 0.0 || !(0.0..65_536.0).contains(&id) {
            return Err(format!("synset {number} has the ILSVRC2012_ID {id}"));
        }
        if classes.insert(id as u32, wnid.clone()).is_some() {
            return Err(format!("the ILSVRC2012_ID {id} is in it twice"));
        }
    }
    if classes.is_empty() { Err("there is no class in it".into()) } else { Ok(classes) }
}
