//! Encoding a split to tokens once and for all: an array (`.npy`) or a checksummed shard (`.shard`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dataset::Examples;
use super::error::{DataError, Result};
use super::npy;
use super::open::{OpenOptions, open};
use super::part::Split;
use super::progress;
use super::sources::shard::{ShardHeader, ShardWriter};
use super::spec::DataSpec;
use super::stream::{Batch, Batches};
use crate::fs::Output;

/// Images encoded at a time.
const BATCH: usize = 1024;

/// What is encoded, and to which file.
#[derive(Clone, Debug)]
pub struct Encoding {
    /// The data set.
    pub data: DataSpec,
    /// Which part of it.
    pub split: Split,
    /// How it is opened. Nothing is augmented.
    pub options: OpenOptions,
    /// Threads that decode; 0 for one per core.
    pub workers: usize,
    /// The file: `NAME.npy`, uint16 `[images, n]`, or `NAME.shard`, with labels, settings and a checksum.
    pub out: PathBuf,
    /// File of the labels, int64 `[images]`; a shard holds them itself.
    pub labels_out: Option<PathBuf>,
}

/// What was encoded.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Images.
    pub images: usize,
    /// Tokens per image.
    pub length: usize,
    /// [`super::Palette::id`] of the palette.
    pub palette: String,
    /// The data set in one line, for people.
    pub about: String,
    /// What people should know of the images: what was passed over, which classes have none.
    pub notes: Vec<String>,
    /// Time that encoding and writing took.
    pub elapsed: Duration,
}

impl Encoding {
    /// Encodes the split and writes its file, which appears whole or not at all.
    ///
    /// # Errors
    /// [`DataError::Option`] for a file name or a combination of files that is not possible; those of [`open`];
    /// [`DataError::Write`].
    pub fn run(&self) -> Result<Encoded> {
        let is_shard = self.is_shard()?;
        let out = Output::open(&self.out)?;
        let labels_out = out.and(self.labels_out.as_deref())?;
        let options = OpenOptions { augment: false, ..self.options.clone() };
        let examples: Arc<dyn Examples> = Arc::from(open(&self.data, self.split, &options)?);
        self.check_labels(examples.as_ref())?;

        let start = Instant::now();
        if is_shard {
            self.write_shard(&examples, out)?
        } else {
            self.write_arrays(&examples, out, labels_out)?
        }
        Ok(Encoded {
            images: examples.len(),
            length: examples.sequence_length(),
            palette: self.options.palette.id(),
            about: examples.describe(),
            notes: examples.notes(),
            elapsed: start.elapsed(),
        })
    }

    /// Whether the file is a shard rather than an array, by its name.
    fn is_shard(&self) -> Result<bool> {
        let wrong = |option, path: &Path, hint: &str| {
            Err(DataError::Option { option, value: path.display().to_string(), hint: hint.into() })
        };
        match (self.out.extension().and_then(|extension| extension.to_str()), &self.labels_out) {
            (Some("npy"), _) => Ok(false),
            (Some("shard"), None) => Ok(true),
            (Some("shard"), Some(labels)) => {
                wrong("--labels-out", labels, "leave it out, a shard holds the labels itself")
            }
            _ => wrong("--out", &self.out, "name it .npy for an array, or .shard for a checksummed shard"),
        }
    }

    /// Refuses to write labels that there are none of.
    fn check_labels(&self, examples: &dyn Examples) -> Result<()> {
        match &self.labels_out {
            Some(path) if !examples.is_empty() && examples.label(0).is_none() => {
                let hint = format!("{} has no labels to write: leave it out", self.data);
                let value = path.display().to_string();
                Err(DataError::Option { option: "--labels-out", value, hint })
            }
            _ => Ok(()),
        }
    }

    fn write_shard(&self, examples: &Arc<dyn Examples>, out: Output) -> Result<()> {
        let header = ShardHeader {
            images: examples.len(),
            length: examples.sequence_length(),
            vocabulary: examples.vocabulary(),
            palette: self.options.palette.id(),
            data: self.data.to_string(),
            split: self.split,
            resolution: self.options.resolution,
            filter: self.options.filter,
            holdout: self.options.holdout,
            seed: self.options.seed,
            labels: examples.label(0).is_some(),
            class_names: examples.class_names().to_vec(),
        };
        let mut writer = ShardWriter::on(out, &header)?;
        self.for_each_batch(examples, |batch| writer.append(&batch.tokens, &batch.labels))?;
        writer.finish(&header)
    }

    fn write_arrays(&self, examples: &Arc<dyn Examples>, out: Output, labels_out: Option<Output>) -> Result<()> {
        let (count, length) = (examples.len(), examples.sequence_length());
        let mut writer = npy::Writer::<u16>::on(out, &[count, length])?;
        let mut labels: Vec<i64> = Vec::new();
        self.for_each_batch(examples, |batch| {
            writer.append(&batch.tokens)?;
            labels.extend(batch.labels.iter().map(|&label| i64::from(label)));
            Ok(())
        })?;

        // The labels first: without them, there is no array either.
        if let Some(file) = labels_out {
            npy::write_to(file, &[count], &labels)?;
        }
        writer.finish()
    }

    /// All examples in order, some at a time.
    fn for_each_batch(&self, examples: &Arc<dyn Examples>, mut take: impl FnMut(Batch) -> Result<()>) -> Result<()> {
        let batches = Batches::evaluation(Arc::clone(examples))?.with_workers(self.workers)?;
        let count = examples.len();
        let bar = progress::count("encoding", count as u64, self.options.progress);
        for first in (0..count).step_by(BATCH) {
            take(batches.batch(first as u64, BATCH.min(count - first))?)?;
            bar.set_position(first as u64);
        }
        bar.finish_and_clear();
        Ok(())
    }
}
