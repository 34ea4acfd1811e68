//! Reading and writing `.safetensors`, one tensor in memory at a time.
//!
//! The format's own reader checks that the header is whole, that offsets neither overlap nor leave holes, that shapes do
//! not overflow and that they add up to the file's length; on top of that come a limit on the number of tensors, duplicate
//! names (which JSON readers silently drop), and every tensor's type and shape against what the caller expects.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, View};

use super::error::{CheckpointError, Result};

/// Far above any model's (XL has under a thousand), far below what would exhaust memory.
const MOST_TENSORS: usize = 100_000;

/// A memory-mapped `.safetensors` file whose header has been checked.
pub struct TensorFile {
    path: PathBuf,
    map: memmap2::Mmap,
    /// Where the tensors' bytes start.
    data: usize,
    metadata: Metadata,
}

impl TensorFile {
    /// Maps the file and checks its header.
    ///
    /// # Errors
    /// [`CheckpointError::Read`], [`CheckpointError::Tensors`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(CheckpointError::read(path))?;
        let damaged = |problem: String| CheckpointError::Tensors { path: path.to_owned(), problem };
        if !file.metadata().map_err(CheckpointError::read(path))?.is_file() {
            return Err(damaged("it is not a regular file".to_owned()));
        }
        // SAFETY: the map is read-only and private to this value; checkpoints are replaced by renaming, never changed in
        // place, so the mapped file keeps its bytes.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(CheckpointError::read(path))?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|error| damaged(error.to_string()))?;
        if metadata.tensors().len() > MOST_TENSORS {
            return Err(damaged(format!("it lists {} tensors", metadata.tensors().len())));
        }
        Ok(Self { path: path.to_owned(), data: size_of::<u64>() + header, map, metadata })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, in the order of their bytes.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Dimensions of a tensor, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|info| info.shape.as_slice())
    }

    /// The values of a tensor of this shape as f32, row-major.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] where it is missing, of another shape, or no float.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let problem =
            |problem: String| CheckpointError::Tensor { path: self.path.clone(), name: name.to_owned(), problem };
        let info = self.metadata.info(name).ok_or_else(|| problem("is missing".to_owned()))?;
        if info.shape != shape {
            return Err(problem(format!("has shape {:?}; the model's is {shape:?}", info.shape)));
        }
        let (start, end) = info.data_offsets;
        let bytes = &self.map[self.data + start..self.data + end];
        Ok(match info.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            other => return Err(problem(format!("is of type {other}; F32, F16, BF16 and F64 can be read"))),
        })
    }
}

/// A tensor to be written: its name and shape, and which one it is for [`write_tensors`]'s `values`.
#[derive(Clone, Debug)]
pub struct TensorPlan {
    /// Name in the file.
    pub name: String,
    /// Dimensions, row-major.
    pub shape: Vec<usize>,
}

/// A tensor that is brought to the host when its turn to be written comes.
struct Lazy<'a, F> {
    plan: &'a TensorPlan,
    index: usize,
    values: &'a F,
    failure: &'a RefCell<Option<CheckpointError>>,
}

impl<F: Fn(usize) -> Result<Vec<f32>>> View for Lazy<'_, F> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.plan.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match (self.values)(self.index) {
            Ok(values) => Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            Err(error) => {
                // The trait has no room for errors: zeros keep the writer in step, and the failure is found afterwards.
                self.failure.borrow_mut().get_or_insert(error);
                Cow::Owned(vec![0; self.data_len()])
            }
        }
    }

    fn data_len(&self) -> usize {
        self.plan.shape.iter().product::<usize>() * size_of::<f32>()
    }
}

/// Writes tensors as F32; `values(i)` gives the elements of tensor `i`, once, when its turn has come.
///
/// # Errors
/// [`CheckpointError::Write`], and those of `values`.
pub fn write_tensors(path: &Path, plans: &[TensorPlan], values: impl Fn(usize) -> Result<Vec<f32>>) -> Result<()> {
    let failure = RefCell::new(None);
    let views = plans
        .iter()
        .enumerate()
        .map(|(index, plan)| (plan.name.as_str(), Lazy { plan, index, values: &values, failure: &failure }));
    // Hugging Face's loaders refuse files that do not say which framework laid the tensors out.
    let format = [("format".to_owned(), "pt".to_owned())].into();
    let written = safetensors::serialize_to_file(views, Some(format), path);
    if let Some(error) = failure.into_inner() {
        return Err(error);
    }
    written.map_err(|error| CheckpointError::Write { path: path.to_owned(), source: std::io::Error::other(error) })
}
