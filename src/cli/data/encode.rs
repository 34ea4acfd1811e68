//! `igpt-engine data encode`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde_json::json;

use super::ImageArgs;
use crate::cli::common::output::{print_json, say};
use crate::data::{Batch, Batches, Examples, Palette, ShardHeader, ShardWriter, Split, npy, open, progress};

/// Flags of `data encode`.
#[derive(Debug, Args)]
pub struct EncodeArgs {
    #[command(flatten)]
    images: ImageArgs,
    /// Palette file; without it, the built-in one
    #[arg(long, value_name = "FILE.npy")]
    palette: Option<PathBuf>,
    /// Part of the data set
    #[arg(long, value_enum, default_value_t = Split::Train)]
    split: Split,
    /// Part of the training images held out for validation [default: 0.1 for CIFAR and STL-10, 0.04 for ImageNet and
    /// folders]
    #[arg(long, value_name = "FRACTION")]
    holdout: Option<f64>,
    /// Seed of the held-out part
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads that decode [default: one a core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    workers: usize,
    /// File to write the tokens to: NAME.npy, a plain array, or NAME.shard, with labels, settings and a checksum
    #[arg(long, value_name = "FILE.npy|FILE.shard")]
    out: PathBuf,
    /// Also write the labels, as int64 [images]; a shard holds them itself
    #[arg(long, value_name = "FILE.npy")]
    labels_out: Option<PathBuf>,
}

/// Images encoded at a time.
const BATCH: usize = 1024;

pub(super) fn run(args: &EncodeArgs) -> Result<()> {
    let shard = match args.out.extension().and_then(|extension| extension.to_str()) {
        Some("shard") => true,
        Some("npy") => false,
        _ => bail!("--out {}: name it .npy for an array, or .shard for a checksummed shard", args.out.display()),
    };
    ensure!(!(shard && args.labels_out.is_some()), "a shard holds the labels itself: leave out --labels-out");
    let palette = match &args.palette {
        Some(path) => Palette::load(path)?,
        None => Palette::built_in()?,
    };
    let id = palette.id();
    let mut options = args.images.options(Arc::new(palette));
    (options.holdout, options.seed) = (args.holdout, args.seed);
    let examples: Arc<dyn Examples> = Arc::from(open(&args.images.data, args.split, &options)?);
    let (count, length) = (examples.len(), examples.sequence_length());
    let start = Instant::now();
    if shard {
        let header = ShardHeader {
            images: count,
            length,
            vocabulary: examples.vocabulary(),
            palette: id.clone(),
            data: args.images.data.to_string(),
            split: args.split,
            resolution: args.images.resolution,
            filter: args.images.filter,
            holdout: args.holdout,
            seed: args.seed,
            labels: examples.label(0).is_some(),
            class_names: examples.class_names().to_vec(),
        };
        let mut writer = ShardWriter::create(&args.out, &header)?;
        for_each_batch(args, &examples, |batch| Ok(writer.append(&batch.tokens, &batch.labels)?))?;
        writer.finish(&header)?;
    } else {
        write_arrays(args, &examples)?;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    if args.images.json {
        return print_json(&json!({
            "tokens": args.out, "labels": args.labels_out, "shape": [count, length], "palette": id,
            "images_per_second": rate,
        }));
    }
    say(format_args!("{}: tokens [{count}, {length}] of {}", args.out.display(), examples.describe()))?;
    say(format_args!("{rate:.0} images/s"))
}

fn write_arrays(args: &EncodeArgs, examples: &Arc<dyn Examples>) -> Result<()> {
    let (count, length) = (examples.len(), examples.sequence_length());
    let mut writer = npy::Writer::<u16>::create(&args.out, &[count, length])?;
    let mut labels: Vec<i64> = Vec::new();
    for_each_batch(args, examples, |batch| {
        writer.append(&batch.tokens)?;
        labels.extend(batch.labels.iter().map(|&label| i64::from(label)));
        Ok(())
    })?;
    if let Some(path) = &args.labels_out {
        write_labels(path, &labels, count, args)?;
    }
    Ok(writer.finish()?)
}

fn write_labels(path: &Path, labels: &[i64], count: usize, args: &EncodeArgs) -> Result<()> {
    ensure!(
        labels.len() == count,
        "{} has no labels to write to {}: leave out --labels-out",
        args.images.data,
        path.display()
    );
    Ok(npy::write_i64(path, &[count], labels)?)
}

/// All examples in order, some at a time.
fn for_each_batch(
    args: &EncodeArgs,
    examples: &Arc<dyn Examples>,
    mut take: impl FnMut(Batch) -> Result<()>,
) -> Result<()> {
    let batches = Batches::evaluation(Arc::clone(examples))?.with_workers(args.workers)?;
    let count = examples.len();
    let bar = progress::count("encoding", count as u64, !args.images.json);
    for first in (0..count).step_by(BATCH) {
        take(batches.batch(first as u64, BATCH.min(count - first))?)?;
        bar.set_position(first as u64);
    }
    bar.finish_and_clear();
    Ok(())
}
