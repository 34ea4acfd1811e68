//! The weights: Hugging Face's names of tensors and ours, and what may be in a file beside our parameters.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use crate::checkpoint::error::{CheckpointError, Result};
use crate::checkpoint::source::TensorSource;
use crate::checkpoint::weights::{open_average, open_weights};
use crate::device::Device;
use crate::model::{CLASS_HEAD, ModelConfig, TOKEN_HEAD, parameter_specs};
use crate::tape::Parameters;

/// What is shown the values of a model's parameters, each with its index, row-major.
pub type Visit<'a> = dyn FnMut(usize, Vec<f32>) -> Result<()> + 'a;

/// A folder's weights, their tensors found by the names that [`parameter_specs`] uses.
#[derive(Debug)]
pub struct ModelFile {
    file: Box<dyn TensorSource>,
    /// From our name to the file's.
    names: BTreeMap<String, String>,
}

impl ModelFile {
    /// Opens the folder's weights. Names may lack the prefix `transformer.`, as a bare `ImageGPTModel` saves them.
    ///
    /// # Errors
    /// As [`open_weights`]; [`CheckpointError::AmbiguousTensor`].
    pub fn open(dir: &Path) -> Result<Self> {
        Self::of(open_weights(dir)?)
    }

    /// Opens the moving average of the folder's weights.
    ///
    /// # Errors
    /// [`CheckpointError::NoAverage`] where none was kept; as [`ModelFile::open`].
    pub fn open_average(dir: &Path) -> Result<Self> {
        Self::of(open_average(dir)?)
    }

    fn of(file: Box<dyn TensorSource>) -> Result<Self> {
        let mut names = BTreeMap::new();
        for name in file.names() {
            let prefixed = ["transformer.", "lm_head.", "score."].iter().any(|prefix| name.starts_with(prefix));
            let own = if prefixed { name.clone() } else { format!("transformer.{name}") };
            if names.insert(own.clone(), name).is_some() {
                return Err(CheckpointError::AmbiguousTensor { path: file.path().to_owned(), name: own });
            }
        }
        Ok(Self { file, names })
    }

    /// Rows of the class head; 0 without one.
    pub(super) fn classes(&self) -> usize {
        let shape = self.names.get(CLASS_HEAD).and_then(|found| self.file.shape(found));
        shape.and_then(|shape| shape.first()).copied().unwrap_or(0)
    }

    /// Whether the file holds a parameter of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Reads a parameter as f32, row-major.
    ///
    /// # Errors
    /// As [`TensorSource::read`].
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>> {
        // A name that the file lacks is passed on, so that the file's own error speaks.
        let found = self.names.get(name).map_or(name, String::as_str);
        self.file.read(found)
    }

    /// The parameters of `config`, one tensor at a time.
    ///
    /// # Errors
    /// As [`ModelFile::each`]; those of the device.
    pub fn load<D: Device>(self, device: &D, config: &ModelConfig) -> Result<Parameters<D>> {
        let (specs, mut tensors) = (parameter_specs(config), Vec::new());
        self.each(config, &mut |index, values| {
            tensors.push(device.upload(&specs[index].shape, &values)?);
            Ok(())
        })?;
        Ok(Parameters::of(specs, tensors))
    }

    /// Shows the parameters of `config` in order, each by its index, and verifies the file.
    ///
    /// # Errors
    /// As [`ModelFile::check`], [`ModelFile::read`] and [`ModelFile::verified`]; those of `visit`.
    pub fn each(mut self, config: &ModelConfig, visit: &mut Visit<'_>) -> Result<()> {
        self.verified(|file| {
            file.check(config)?;
            parameter_specs(config).iter().enumerate().try_for_each(|(index, spec)| match spec.name.as_str() {
                TOKEN_HEAD if !file.has(TOKEN_HEAD) => visit(index, vec![0.0; spec.elements()]),
                name => visit(index, file.read(name)?),
            })
        })
    }

    /// The same of a model that is fine-tuned as `config`, which differs from the file's in its classes alone: the class head starts
    /// at zero, whatever head the file has.
    ///
    /// # Errors
    /// As [`ModelFile::each`].
    pub fn each_of_body(mut self, config: &ModelConfig, visit: &mut Visit<'_>) -> Result<()> {
        self.verified(|file| {
            file.check(&ModelConfig { classes: Vec::new(), ..config.clone() })?;
            parameter_specs(config).iter().enumerate().try_for_each(|(index, spec)| match spec.name.as_str() {
                CLASS_HEAD => visit(index, vec![0.0; spec.elements()]),
                TOKEN_HEAD if !file.has(TOKEN_HEAD) => visit(index, vec![0.0; spec.elements()]),
                name => visit(index, file.read(name)?),
            })
        })
    }

    /// What `load` makes of the file, once all of the file is verified. A damaged file is reported as that, whatever else it
    /// led to.
    ///
    /// # Errors
    /// As [`TensorSource::verify`]; those of `load`.
    pub fn verified<T>(&mut self, load: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let loaded = load(self);
        self.file.verify()?;
        loaded
    }

    /// Whether any bias of a layer is there and not zero.
    ///
    /// # Errors
    /// As [`TensorSource::read`].
    pub fn has_bias(&mut self) -> Result<bool> {
        let biases: Vec<_> =
            self.names.keys().filter(|name| name.ends_with(".bias") && !is_mask(name)).cloned().collect();
        for name in biases {
            if !self.is_zero(&name)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_zero(&mut self, name: &str) -> Result<bool> {
        let found = self.names.get(name).map_or(name, String::as_str);
        Ok(self.file.peek(found)?.iter().all(|value| *value == 0.0))
    }

    /// Checks that every parameter of `config` is there in its shape, and nothing else that would matter. Returns the
    /// file's names of the tensors that are ignored.
    ///
    /// # Errors
    /// [`CheckpointError::MissingTensor`], [`CheckpointError::WrongShape`] and [`CheckpointError::UnexpectedTensor`].
    pub fn check(&mut self, config: &ModelConfig) -> Result<Vec<String>> {
        self.check_except(config, &[])
    }

    /// [`Self::check`] where the parameters named in `absent` need not be there.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_except(&mut self, config: &ModelConfig, absent: &[String]) -> Result<Vec<String>> {
        let path = self.file.path().to_owned();
        let specs = parameter_specs(config);
        let absent: HashSet<_> = absent.iter().collect();
        // A classifier or a bare model has no head for pixels.
        let headless = |name: &str| name == TOKEN_HEAD && !self.has(TOKEN_HEAD);
        for spec in specs.iter().filter(|spec| !absent.contains(&spec.name) && !headless(&spec.name)) {
            self.check_shape(&spec.name, &spec.shape)?;
        }

        // What is left must be without effect: buffers, a class head, biases of zero.
        let own: HashMap<_, _> = specs.into_iter().map(|spec| (spec.name, spec.shape)).collect();

        let biased = parameter_specs(&ModelConfig { bias: true, ..config.clone() });
        let biased: HashMap<_, _> = biased.into_iter().map(|spec| (spec.name, spec.shape)).collect();
        let mut ignored = Vec::new();
        for (name, found) in self.names.clone() {
            if own.contains_key(&name) {
                continue;
            }
            let why = match biased.get(&name) {
                Some(shape) => {
                    self.check_shape(&name, shape)?;
                    if self.is_zero(&name)? { None } else { Some(", which is not zero although igpt_bias is false") }
                }
                None if is_mask(&name) || name == CLASS_HEAD => None,
                None => Some(""),
            };
            match why {
                None => ignored.push(found),
                Some(why) => {
                    return Err(CheckpointError::UnexpectedTensor { path, name: found, why: why.to_owned() });
                }
            }
        }
        Ok(ignored)
    }

    fn check_shape(&self, name: &str, expected: &[usize]) -> Result<()> {
        let path = || self.file.path().to_owned();
        match self.names.get(name).and_then(|found| self.file.shape(found)) {
            None => Err(CheckpointError::MissingTensor { path: path(), name: name.to_owned() }),
            Some(found) if found != expected => Err(CheckpointError::WrongShape {
                path: path(),
                name: name.to_owned(),
                found: found.to_vec(),
                expected: expected.to_vec(),
            }),
            Some(_) => Ok(()),
        }
    }
}

/// Loads the folder's weights as the parameters of `config`, one tensor at a time.
///
/// # Errors
/// As [`ModelFile::open`], [`ModelFile::check`] and [`ModelFile::read`]; those of the device.
pub fn load_parameters<D: Device>(device: &D, dir: &Path, config: &ModelConfig) -> Result<Parameters<D>> {
    ModelFile::open(dir)?.load(device, config)
}

/// The causal mask and its filler, which old versions saved with each block.
fn is_mask(name: &str) -> bool {
    name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
}
