//! `igpt-engine data bench`: how fast images become tokens.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use super::ImageArgs;
use crate::cli::common::output::{print_json, say};
use crate::data::{Batches, Draw, Examples, Palette, Split, open, open_images, training_transform};

/// Flags of `data bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    images: ImageArgs,
    /// Palette file; without it, the built-in one
    #[arg(long, value_name = "FILE.npy")]
    palette: Option<PathBuf>,
    /// Threads that decode [default: one a core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    workers: usize,
    /// Images a batch
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch: usize,
    /// Seconds to measure for, after one batch that is not counted
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    seconds: f64,
    /// Seed of order and augmentation
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Images whose stages are timed one by one.
const STAGED: u64 = 64;

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    ensure!((1..=1 << 16).contains(&args.batch), "--batch must be from 1 to 65536");
    ensure!(args.seconds > 0.0 && args.seconds <= 3600.0, "--seconds must be above 0 and at most 3600");
    let palette = Arc::new(match &args.palette {
        Some(path) => Palette::load(path)?,
        None => Palette::built_in()?,
    });
    let mut options = args.images.options(Arc::clone(&palette));
    (options.augment, options.seed) = (true, args.seed);
    let examples: Arc<dyn Examples> = Arc::from(open(&args.images.data, Split::Train, &options)?);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if args.workers == 0 { cores } else { args.workers };
    let batches = Batches::training(Arc::clone(&examples), args.seed, true)?.with_workers(workers)?;
    let mut next = 0;
    let mut batch = || {
        let made = batches.batch(next, args.batch);
        next += args.batch as u64;
        made.map(black_box)
    };
    batch()?;
    let start = Instant::now();
    let mut images = 0;
    while start.elapsed().as_secs_f64() < args.seconds {
        batch()?;
        images += args.batch;
    }
    let rate = images as f64 / start.elapsed().as_secs_f64();
    let busy = workers.min(cores);
    let [decode, transform, code] = stages(args, &palette)?;
    if args.images.json {
        return print_json(&json!({
            "data": examples.describe(), "workers": workers, "cores": cores, "images": images,
            "images_per_second": rate, "images_per_second_per_core": rate / busy as f64,
            "tokens_per_second": rate * examples.sequence_length() as f64,
            "seconds_per_image": {"read_and_decode": decode, "crop_and_resize": transform, "palette": code},
        }));
    }
    say(format_args!("{}", examples.describe()))?;
    say(format_args!(
        "{rate:.0} images/s on {workers} workers, {:.0} a core ({cores} cores here), augmented as in training",
        rate / busy as f64
    ))?;
    say(format_args!(
        "one image on one core: read and decode {:.2} ms, crop and resize {:.2} ms, palette {:.2} ms",
        1e3 * decode,
        1e3 * transform,
        1e3 * code
    ))?;
    say(format_args!(
        "keeps ahead of a device that trains on up to {:.0} tokens/s",
        rate * examples.sequence_length() as f64
    ))
}

/// Mean seconds an image of the three stages, one image at a time on this thread.
fn stages(args: &BenchArgs, palette: &Arc<Palette>) -> Result<[f64; 3]> {
    let mut options = args.images.options(Arc::clone(palette));
    (options.augment, options.progress) = (true, false);
    let (source, indices) = open_images(&args.images.data, Split::Train, &options)?;
    let transform = training_transform(&args.images.data, &options)?;
    let mut spent = [Duration::ZERO; 3];
    let mut out = vec![0; (args.images.resolution as usize).pow(2)];
    let mut timed = 0;
    // Spread over the data: the images of a class are alike.
    for index in indices.iter().step_by(indices.len().div_ceil(STAGED as usize)) {
        let (index, start) = (*index as usize, Instant::now());
        let image = source.image(index)?;
        let decoded = Instant::now();
        let mut random = Draw { seed: args.seed, epoch: 0, index: index as u64 }.random();
        let image = transform.apply(image, Some(&mut random), || source.name(index), source.is_folder())?;
        let cut = Instant::now();
        palette.encode(&image, &mut out)?;
        black_box(&out);
        let done = Instant::now();
        for (spent, time) in spent.iter_mut().zip([decoded - start, cut - decoded, done - cut]) {
            *spent += time;
        }
        timed += 1;
    }
    Ok(spent.map(|time| time.as_secs_f64() / f64::from(timed.max(1))))
}
