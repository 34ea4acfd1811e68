//! How fast images become tokens: a rate of all workers, and the time of each stage.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::augment_key::AugmentKey;
use super::dataset::Examples;
use super::error::{DataError, Result};
use super::open::{OpenOptions, open, open_images, training_transform};
use super::part::Split;
use super::spec::DataSpec;
use super::stream::Batches;

/// Images whose stages are timed one by one.
const STAGED: usize = 64;
/// Largest batch that is measured.
const MAX_BATCH: usize = 1 << 16;
/// Longest measurement, in seconds.
const MAX_SECONDS: f64 = 3600.0;

/// What is measured: training images, augmented, in random order.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The data set.
    pub data: DataSpec,
    /// How it is opened; the seed is that of order and augmentation.
    pub options: OpenOptions,
    /// Threads that decode; 0 for one per core.
    pub workers: usize,
    /// Images per batch.
    pub batch: usize,
    /// Seconds to measure for, after one batch that is not counted.
    pub seconds: f64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Throughput {
    /// The data set in one line, for people.
    pub about: String,
    /// Threads that decoded.
    pub workers: usize,
    /// Hardware threads of the machine.
    pub cores: usize,
    /// Images measured.
    pub images: usize,
    /// Images per second of all workers.
    pub images_per_second: f64,
    /// Tokens per image.
    pub length: usize,
    /// Seconds per image, on one thread, of each stage.
    pub stages: Stages,
}

/// Mean seconds per image, one image at a time on one thread.
#[derive(Clone, Copy, Debug)]
pub struct Stages {
    /// Reading the file and decoding it.
    pub decode: f64,
    /// Cropping and resizing.
    pub transform: f64,
    /// Finding the nearest colour of each pixel.
    pub quantise: f64,
}

impl Throughput {
    /// Images per second and core in use.
    pub fn images_per_second_per_core(&self) -> f64 {
        self.images_per_second / self.workers.min(self.cores) as f64
    }

    /// Tokens per second of all workers.
    pub fn tokens_per_second(&self) -> f64 {
        self.images_per_second * self.length as f64
    }
}

impl Measurement {
    /// Measures.
    ///
    /// # Errors
    /// [`DataError::Option`] for a batch or time out of range; those of [`open`] and of decoding.
    pub fn run(&self) -> Result<Throughput> {
        self.check()?;
        let options = OpenOptions { augment: true, ..self.options.clone() };
        let examples: Arc<dyn Examples> = Arc::from(open(&self.data, Split::Train, &options)?);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if self.workers == 0 { cores } else { self.workers };
        let batches = Batches::training(Arc::clone(&examples), options.seed, true)?.with_workers(workers)?;

        let mut next = 0;
        let mut batch = || {
            let made = batches.batch(next, self.batch);
            next += self.batch as u64;
            made.map(black_box)
        };
        // Warm-up: files come into the page cache, threads start.
        batch()?;
        let (start, mut images) = (Instant::now(), 0);
        while start.elapsed().as_secs_f64() < self.seconds {
            batch()?;
            images += self.batch;
        }
        let images_per_second = images as f64 / start.elapsed().as_secs_f64();

        let (about, length, stages) = (examples.describe(), examples.sequence_length(), self.stages(&options)?);
        Ok(Throughput { about, workers, cores, images, images_per_second, length, stages })
    }

    fn check(&self) -> Result<()> {
        let wrong = |option, value: String, hint: String| Err(DataError::Option { option, value, hint });
        if !(1..=MAX_BATCH).contains(&self.batch) {
            return wrong("--batch", self.batch.to_string(), format!("it must be from 1 to {MAX_BATCH}"));
        }
        if !(self.seconds > 0.0 && self.seconds <= MAX_SECONDS) {
            let hint = format!("it must be above 0 and at most {MAX_SECONDS}");
            return wrong("--seconds", self.seconds.to_string(), hint);
        }
        Ok(())
    }

    /// Times the three stages one image at a time.
    fn stages(&self, options: &OpenOptions) -> Result<Stages> {
        let options = OpenOptions { progress: false, ..options.clone() };
        let (source, indices) = open_images(&self.data, Split::Train, &options)?;
        let transform = training_transform(&self.data, &options)?;
        let mut out = vec![0; (options.resolution as usize).pow(2)];
        let (mut spent, mut timed) = ([Duration::ZERO; 3], 0);

        // Spread over the data: the images of a class are alike.
        for index in indices.iter().step_by(indices.len().div_ceil(STAGED)) {
            let (index, start) = (*index as usize, Instant::now());
            let image = source.image(index)?;
            let decoded = Instant::now();
            let mut random = AugmentKey { seed: options.seed, epoch: 0, index: index as u64 }.random();
            let image = transform.apply(image, Some(&mut random), || source.name(index), source.is_folder())?;
            let transformed = Instant::now();
            options.palette.encode(&image, &mut out)?;
            black_box(&out);
            let done = Instant::now();
            for (spent, time) in spent.iter_mut().zip([decoded - start, transformed - decoded, done - transformed]) {
                *spent += time;
            }
            timed += 1;
        }

        let [decode, transform, quantise] = spent.map(|time| time.as_secs_f64() / f64::from(timed.max(1)));
        Ok(Stages { decode, transform, quantise })
    }
}
