//! What the GEMM of [`linear`](super::linear) reaches on this card: the peak to compare a run with where no data sheet is known.

use std::time::Instant;

use super::CudaDevice;
use crate::device::{Error, GemmRate, LinearOps, Precision, Result, Tensors, WeightLayout};

/// Sides that are tried, each twice the one before: larger GEMMs fill a card better, up to a point.
const SIDES: std::ops::RangeInclusive<u32> = 6..=13;
/// Seconds of one GEMM from which on a larger one would only take longer.
const LONG_ENOUGH: f64 = 1e-3;
/// Runs of a GEMM between two looks at the clock.
const RUNS: u32 = 8;
/// Of the card's memory, the part that the three matrices may take.
const SHARE: f64 = 0.05;

/// Tries squares that grow until one takes a millisecond, and takes the best; `None` on a device that only counts.
pub(super) fn measure(device: &CudaDevice) -> Result<Option<GemmRate>> {
    let Some(stream) = &device.driver.stream else { return Ok(None) };
    let bytes = if device.precision == Precision::Bf16 { 2.0 } else { 4.0 };
    let room = SHARE * device.driver.total_memory as f64;

    let mut best: Option<GemmRate> = None;
    for side in SIDES.map(|power| 1_usize << power) {
        if 3.0 * bytes * (side as f64).powi(2) > room {
            break;
        }
        let seconds = match seconds_of(device, side) {
            Ok(seconds) => seconds,
            // What others take of the memory is not known before.
            Err(Error::OutOfMemory { .. }) => break,
            Err(error) => return Err(error),
        };
        let flops = 2.0 * (side as f64).powi(3) / seconds;
        if best.is_none_or(|best| flops > best.flops) {
            best = Some(GemmRate { side, flops });
        }
        if seconds >= LONG_ENOUGH {
            break;
        }
    }
    device.memory.give_back(stream)?;
    Ok(best)
}

/// Seconds of a GEMM of values as weights have them: of zeros a card would draw less power, and clock higher.
fn seconds_of(device: &CudaDevice, side: usize) -> Result<f64> {
    let values: Vec<f32> = (0..side * side).map(|i| ((i * 7919 + i / side) % 1021) as f32 / 1021.0 - 0.5).collect();
    let matrix = device.upload(&[side, side], &values)?;
    let run = || device.linear(&matrix, &matrix, WeightLayout::InOut, None);
    // The first loads the kernel, and tells whether one is enough.
    run()?;
    device.synchronize()?;
    let start = Instant::now();
    run()?;
    device.synchronize()?;
    let once = start.elapsed().as_secs_f64();
    if once >= LONG_ENOUGH {
        return Ok(once);
    }

    let start = Instant::now();
    for _ in 0..RUNS {
        run()?;
    }
    device.synchronize()?;
    Ok(start.elapsed().as_secs_f64() / f64::from(RUNS))
}
