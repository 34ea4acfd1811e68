//! Fitting a palette: k-means on pixels.
//!
//! 8-bit colours repeat, so the pixels become a histogram of their distinct colours first, and every step works on
//! weighted colours: all 51.2 million pixels of CIFAR-10 are 4,555,141. k-means++ seeding (Arthur and
//! Vassilvitskii 2007), then Lloyd's iteration. Sums are kept in integers, whose order does not matter: the result is the
//! same bit for bit for any number of threads.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::RngExt;
use rayon::prelude::*;

use super::palette::{Cells, MAX_COLOURS, PAPER_COLOURS, Palette};
use crate::data::error::{DataError, Result};
use crate::random::{self, Purpose};

/// Colours handled by one task.
const CHUNK: usize = 1 << 14;

/// Distinct 8-bit colours and how often each occurs.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// Ascending.
    colours: Vec<[u8; 3]>,
    counts: Vec<u64>,
}

impl Histogram {
    /// Counts the pixels of `count` images, in parallel; `image` gives one by index, and `advanced` is called after each.
    ///
    /// # Errors
    /// The error of the first image that has one.
    pub fn of_images(
        count: usize,
        advanced: impl Fn() + Sync,
        image: impl Fn(usize) -> Result<image::RgbImage> + Sync,
    ) -> Result<Self> {
        // 128 MiB, the price of counting in one pass from all threads.
        let table: Vec<AtomicU64> = (0..1 << 24).map(|_| AtomicU64::new(0)).collect();

        let faults: Vec<Result<()>> = (0..count)
            .into_par_iter()
            .map(|index| {
                for pixel in image(index)?.pixels() {
                    let [r, g, b] = pixel.0;
                    table[u32::from_be_bytes([0, r, g, b]) as usize].fetch_add(1, Ordering::Relaxed);
                }
                advanced();
                Ok(())
            })
            .collect();
        faults.into_iter().collect::<Result<()>>()?;

        // Only the colours that occur, ascending.
        let counted = (0_u32..).zip(table.iter().map(|count| count.load(Ordering::Relaxed)));
        let (colours, counts) = counted
            .filter(|&(_, count)| count > 0)
            .map(|(code, count)| {
                let [_, r, g, b] = code.to_be_bytes();
                ([r, g, b], count)
            })
            .unzip();
        Ok(Histogram { colours, counts })
    }

    /// Number of distinct colours.
    pub fn distinct(&self) -> usize {
        self.colours.len()
    }

    /// Number of pixels.
    pub fn pixels(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What encoding these pixels with a palette loses, and how it uses the colours.
    pub fn quality(&self, palette: &Palette) -> Quality {
        let sums = self.assign(&Cells::new(palette.colours()), palette.len());
        let pixels = self.pixels() as f64;
        let error: f64 = sums.iter().zip(palette.colours()).map(|(sum, colour)| sum.error(colour)).sum();
        let entropy: f64 =
            sums.iter().filter(|sum| sum.count > 0).map(|sum| sum.count as f64 / pixels).map(|p| -p * p.ln()).sum();
        let used = sums.iter().filter(|sum| sum.count > 0).count();
        Quality { mse: error / pixels / (255.0 * 255.0), entropy_nats: entropy, used }
    }

    /// Sums of the pixels nearest to each of `k` colours.
    fn assign(&self, cells: &Cells, k: usize) -> Vec<Sum> {
        self.colours
            .par_chunks(CHUNK)
            .zip(self.counts.par_chunks(CHUNK))
            .fold(
                || vec![Sum::default(); k],
                |mut sums, (colours, counts)| {
                    for (&colour, &count) in colours.iter().zip(counts) {
                        sums[usize::from(cells.nearest(colour))].add(colour, count);
                    }

                    sums
                },
            )
            .reduce(
                || vec![Sum::default(); k],
                |mut a, b| {
                    a.iter_mut().zip(&b).for_each(|(a, b)| a.merge(b));

                    a
                },
            )
    }
}

/// How well a palette fits pixels.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Quality {
    /// Mean over the pixels of the squared error, summed over R, G, B, on the 0-1 scale.
    pub mse: f64,
    /// Entropy of the tokens taken one by one, in nats: the lowest loss of a model that ignores context.
    pub entropy_nats: f64,
    /// Colours that at least one pixel gets.
    pub used: usize,
}

/// Exact sums over pixels, in units of 8-bit levels. u64 holds 10^14 pixels.
#[derive(Clone, Copy, Default)]
struct Sum {
    count: u64,
    levels: [u64; 3],
    squares: u64,
}

impl Sum {
    fn add(&mut self, colour: [u8; 3], count: u64) {
        self.count += count;
        for (sum, level) in self.levels.iter_mut().zip(colour.map(u64::from)) {
            *sum += count * level;
            self.squares += count * level * level;
        }
    }

    fn merge(&mut self, other: &Sum) {
        self.count += other.count;
        self.squares += other.squares;
        self.levels.iter_mut().zip(other.levels).for_each(|(sum, other)| *sum += other);
    }

    /// The mean on the [-1, 1] scale.
    fn mean(&self) -> Option<[f32; 3]> {
        let count = self.count as f64;
        (self.count > 0).then(|| self.levels.map(|sum| (sum as f64 / count / 127.5 - 1.0) as f32))
    }

    /// Squared distance of all its pixels to a colour, in 8-bit levels.
    fn error(&self, colour: &[f32; 3]) -> f64 {
        let mut error = self.squares as f64;
        for (&sum, &c) in self.levels.iter().zip(colour) {
            let level = 127.5 * (f64::from(c) + 1.0);
            error += level * (self.count as f64 * level - 2.0 * sum as f64);
        }
        error
    }
}

/// How to fit.
#[derive(Clone, Copy, Debug)]
pub struct FitOptions {
    /// Colours of the palette, 1 to [`MAX_COLOURS`].
    pub colours: usize,
    /// Seed of the seeding.
    pub seed: u64,
    /// Maximum number of iterations.
    pub iterations: usize,
    /// Stop when an iteration lowers the error by less than this part of it.
    pub tolerance: f64,
}

impl Default for FitOptions {
    fn default() -> Self {
        FitOptions { colours: PAPER_COLOURS, seed: 0, iterations: 300, tolerance: 1e-5 }
    }
}

/// Fits a palette to a histogram; `report` hears the number of the iteration and the error so far (as [`Quality::mse`]).
///
/// # Errors
/// [`DataError::Fit`] for no or too many colours, or more than there are distinct ones.
pub fn fit(histogram: &Histogram, options: &FitOptions, report: impl FnMut(usize, f64)) -> Result<Palette> {
    let k = options.colours;
    if k == 0 || k > MAX_COLOURS {
        return Err(DataError::Fit(format!("--colours is {k}, it must be from 1 to {MAX_COLOURS}")));
    }
    if k > histogram.distinct() {
        let distinct = histogram.distinct();
        return Err(DataError::Fit(format!(
            "the images have {distinct} distinct colours; pass --colours {distinct} or less"
        )));
    }
    let centres = lloyd(histogram, seed_centres(histogram, k, options.seed), options, report);
    Palette::new(Path::new("the fitted palette"), centres)
}

/// Lloyd's iteration: each pixel to its nearest centre, each centre to the mean of its pixels.
fn lloyd(
    histogram: &Histogram,
    mut centres: Vec<[f32; 3]>,
    options: &FitOptions,
    mut report: impl FnMut(usize, f64),
) -> Vec<[f32; 3]> {
    let k = centres.len();
    let mut before = f64::INFINITY;
    for iteration in 1..=options.iterations {
        let sums = histogram.assign(&Cells::new(&centres), k);
        let error: f64 = sums.iter().zip(&centres).map(|(sum, centre)| sum.error(centre)).sum();
        report(iteration, error / histogram.pixels() as f64 / (255.0 * 255.0));

        // A centre without pixels moves to where the error is largest.
        let empty: Vec<usize> = (0..k).filter(|&i| sums[i].count == 0).collect();
        let lost = if empty.is_empty() { Vec::new() } else { worst(histogram, &centres, empty.len()) };

        for (centre, sum) in centres.iter_mut().zip(&sums) {
            *centre = sum.mean().unwrap_or(*centre);
        }
        for (&index, colour) in empty.iter().zip(lost) {
            centres[index] = to_unit(colour);
        }

        if empty.is_empty() && before - error <= options.tolerance * error {
            break;
        }
        before = error;
    }
    centres
}

/// The `count` colours with the largest weighted squared error: where a centre that lost all its pixels helps most.
fn worst(histogram: &Histogram, centres: &[[f32; 3]], count: usize) -> Vec<[u8; 3]> {
    let cells = Cells::new(centres);
    let mut errors: Vec<(u64, [u8; 3])> = histogram
        .colours
        .par_iter()
        .zip(&histogram.counts)
        .map(|(&colour, &count)| {
            let mut sum = Sum::default();
            sum.add(colour, count);
            (sum.error(&centres[usize::from(cells.nearest(colour))]).max(0.0) as u64, colour)
        })
        .collect();
    errors.par_sort_unstable_by(|a, b| b.cmp(a));
    errors.into_iter().take(count).map(|(_, colour)| colour).collect()
}

/// k-means++: each next centre is a pixel sampled with probability proportional to its squared distance to the nearest
/// centre so far. Distances between 8-bit colours are integers, so sampling is exact.
fn seed_centres(histogram: &Histogram, k: usize, seed: u64) -> Vec<[f32; 3]> {
    let mut random = random::stream(seed, Purpose::Palette, 0, 0);
    // Squared distance of each colour to its nearest centre; at first 1, which samples by count alone.
    let mut nearest = vec![1_u32; histogram.distinct()];
    let mut centres: Vec<[f32; 3]> = Vec::with_capacity(k);

    while centres.len() < k {
        let weights = nearest.par_chunks(CHUNK).zip(histogram.counts.par_chunks(CHUNK));
        let totals: Vec<u64> =
            weights.map(|(near, counts)| near.iter().zip(counts).map(|(&d, &n)| u64::from(d) * n).sum()).collect();

        // Sample by weight: first the chunk, then the colour in it.
        // Positive: there are at least k distinct colours, so one is still away from every centre.
        let mut left = random.random_range(0..totals.iter().sum::<u64>().max(1));
        let mut chunk = 0;
        while chunk + 1 < totals.len() && left >= totals[chunk] {
            left -= totals[chunk];
            chunk += 1;
        }
        let mut index = chunk * CHUNK;
        loop {
            let weight = u64::from(nearest[index]) * histogram.counts[index];
            if left < weight || index + 1 == nearest.len() {
                break;
            }
            left -= weight;
            index += 1;
        }

        // Colours that are nearer to the new centre than to any before.
        let chosen = histogram.colours[index];
        let first = centres.is_empty();
        nearest.par_iter_mut().with_min_len(CHUNK).zip(&histogram.colours).for_each(|(nearest, colour)| {
            let distance = (0..3).map(|c| u32::from(colour[c].abs_diff(chosen[c])).pow(2)).sum();
            *nearest = if first { distance } else { distance.min(*nearest) };
        });
        centres.push(to_unit(chosen));
    }
    centres
}

fn to_unit(colour: [u8; 3]) -> [f32; 3] {
    colour.map(|level| (f64::from(level) / 127.5 - 1.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centres_without_pixels_move_to_where_the_error_is() {
        let colours = vec![[0; 3], [10; 3], [200; 3], [250; 3]];
        let histogram = Histogram { colours, counts: vec![1000, 1000, 3, 5] };
        // Four times the same centre: the first takes every pixel, three are empty.
        let centres = lloyd(&histogram, vec![[-1.0; 3]; 4], &FitOptions::default(), |_, _| {});
        let mut levels: Vec<u8> = centres.iter().map(|c| (127.5 * (c[0] + 1.0)).round() as u8).collect();
        levels.sort_unstable();
        assert_eq!(levels, [0, 10, 200, 250]);
    }

    #[test]
    fn quality_counts_colours_and_entropy() {
        let histogram = Histogram { colours: vec![[0; 3], [255; 3]], counts: vec![3, 1] };
        let palette = Palette::new("p", vec![[-1.0; 3], [1.0; 3], [0.0; 3]]).unwrap();
        let quality = histogram.quality(&palette);
        let entropy = -(0.75_f64 * 0.75_f64.ln() + 0.25 * 0.25_f64.ln());
        assert_eq!((quality.mse, quality.used), (0.0, 2));
        assert!((quality.entropy_nats - entropy).abs() < 1e-12);
        let grey = Palette::new("p", vec![[0.0; 3]]).unwrap();
        assert!((histogram.quality(&grey).mse - 0.75).abs() < 1e-9);
    }
}
