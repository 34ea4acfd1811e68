//! Weights that are split over several files, as transformers saves large models: an index says which file holds which tensor,
//! and nothing else of the files is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use super::error::{CheckpointError, Result};
use super::json::read_text;
use super::source::TensorSource;

/// The most files that an index may name; each is kept open.
const MAX_FILES: usize = 256;

/// The files that an index lists, all open and checked.
#[derive(Debug)]
pub(super) struct SplitWeights {
    index: PathBuf,
    parts: Vec<Box<dyn TensorSource>>,
    /// From a tensor to its file's place in `parts`.
    places: BTreeMap<String, usize>,
}

/// The index as it is written.
#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
    weight_map: WeightMap,
}

/// From a tensor to its file; unlike a plain map it refuses a tensor that comes twice.
struct WeightMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = WeightMap;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object with the file of each tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<WeightMap, A::Error> {
                let mut files = BTreeMap::new();
                while let Some((name, file)) = map.next_entry::<String, String>()? {
                    if files.insert(name.clone(), file).is_some() {
                        return Err(A::Error::custom(format!("tensor {name} comes twice")));
                    }
                }
                Ok(WeightMap(files))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

impl SplitWeights {
    /// Opens the files that `index` names, whose names end with `ending`, each with `open` by its name and path.
    ///
    /// # Errors
    /// [`CheckpointError::Json`] for an index that is unsound or does not fit its files, and those of `open`.
    pub(super) fn open(
        index: &Path,
        ending: &str,
        open: impl Fn(&str, &Path) -> Result<Box<dyn TensorSource>>,
    ) -> Result<Self> {
        let fail = |problem: String| CheckpointError::json(index, problem);
        let parsed: Index =
            serde_json::from_slice(&read_text(index)?).map_err(|error| fail(format!("not an index: {error}")))?;
        let WeightMap(files) = parsed.weight_map;

        // The files: by plain names, so that nothing outside the folder is read.
        let names: BTreeSet<&String> = files.values().collect();
        if names.is_empty() || names.len() > MAX_FILES {
            return Err(fail(format!("it names {} files; 1 to {MAX_FILES} can be read", names.len())));
        }
        let mut parts = Vec::with_capacity(names.len());
        for name in &names {
            let plain = Path::new(name).file_name().is_some_and(|file| file == name.as_str());
            if !plain || name.contains(['/', '\\']) || !name.ends_with(ending) {
                return Err(fail(format!("{name:?} is not the name of a {ending} file in this folder")));
            }
            let file = index.with_file_name(name);
            if !file.is_file() {
                return Err(fail(format!("it names {name}, which is not there; download or copy that file too")));
            }
            parts.push(open(name, &file)?);
        }

        // The tensors: each in the file that is named, and in no other.
        let mut places = BTreeMap::new();
        for (tensor, file) in &files {
            let holders: Vec<usize> = (0..parts.len())
                .filter(|place| parts.get(*place).is_some_and(|part| part.shape(tensor).is_some()))
                .collect();
            let place = names.iter().position(|name| *name == file).unwrap_or(usize::MAX);
            match holders.as_slice() {
                [only] if *only == place => drop(places.insert(tensor.clone(), place)),
                [] | [_] => {
                    return Err(fail(format!("it says that tensor {tensor} is in {file}, which does not hold it")));
                }
                _ => return Err(fail(format!("tensor {tensor} is in more than one of its files; remove one"))),
            }
        }

        let found = Self { index: index.to_owned(), parts, places };
        found.check_size(parsed.metadata.get("total_size")).map_err(fail)?;
        Ok(found)
    }

    /// Compares the bytes of all tensors with what the index says, if it does and they are known.
    fn check_size(&self, claimed: Option<&Value>) -> std::result::Result<(), String> {
        let bytes = self.places.iter().map(|(name, place)| self.parts.get(*place)?.bytes(name));
        let Some(size) = bytes.sum::<Option<u64>>() else { return Ok(()) };
        match claimed {
            None | Some(Value::Null) => Ok(()),
            // Written as 1e9 or 1.0 by some.
            Some(claimed) if claimed.as_f64() == Some(size as f64) => Ok(()),
            Some(claimed) => Err(format!(
                "its total_size is {claimed} bytes and the tensors that it names take {size}; files and index do not belong \
                 together"
            )),
        }
    }

    fn part(&mut self, name: &str) -> Result<&mut Box<dyn TensorSource>> {
        let place = self.places.get(name).copied();
        place
            .and_then(|place| self.parts.get_mut(place))
            .ok_or_else(|| CheckpointError::MissingTensor { path: self.index.clone(), name: name.to_owned() })
    }
}

impl TensorSource for SplitWeights {
    fn path(&self) -> &Path {
        &self.index
    }

    fn files(&self) -> Vec<PathBuf> {
        self.parts.iter().flat_map(|part| part.files()).collect()
    }

    fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.parts.get(*self.places.get(name)?)?.shape(name)
    }

    fn bytes(&self, name: &str) -> Option<u64> {
        self.parts.get(*self.places.get(name)?)?.bytes(name)
    }

    fn read(&mut self, name: &str) -> Result<Vec<f32>> {
        self.part(name)?.read(name)
    }

    fn peek(&mut self, name: &str) -> Result<Vec<f32>> {
        self.part(name)?.peek(name)
    }

    fn verify(&mut self) -> Result<()> {
        self.parts.iter_mut().try_for_each(|part| part.verify())
    }
}
