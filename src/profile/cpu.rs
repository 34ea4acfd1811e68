//! A step of training or drawing on this machine's CPU, measured op by op beside what the machine can do.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use serde::Serialize;

use crate::device::cpu::OpTimes;
use crate::device::{CpuDevice, LinearOps, Precision, Result, SampleOps, SampleOptions, Tensors, WeightLayout};
use crate::model::{Criterion, ModelConfig, Transformer, parameter_specs};
use crate::optim::{Adam, AdamConfig};
use crate::sample::Decoder;
use crate::tape::Parameters;

/// Steps of training that are timed, after one that takes the memory.
const STEPS: usize = 3;

/// The same of drawing.
const PIXELS: usize = 25;

/// Side of the matrices of the GEMM that is the machine's limit.
const SIDE: usize = 1536;

/// Floats that are read to measure the memory: many times a cache.
const READ: usize = 64 << 20;

/// One op, in one step.
#[derive(Clone, Debug, Serialize)]
pub struct CpuRow {
    /// The op: its file in `device/ops`, or a method of its trait.
    pub op: &'static str,
    /// Calls in a step.
    pub calls: f64,
    /// Milliseconds of them all.
    pub ms: f64,
    /// Fraction of the step.
    pub share: f64,
    /// Multiplications and additions of matrix products, 10⁹ a second.
    pub gflops: f64,
    /// Bytes that are read or written at least once, 10⁹ a second.
    pub gbytes: f64,
    /// Fraction of the machine's limit that it reaches: of the GEMM rate or of the memory's, of which it is nearer to.
    pub of_limit: f64,
}

/// A step on the CPU.
#[derive(Clone, Debug, Serialize)]
pub struct CpuProfile {
    /// The device.
    pub device: String,
    /// Milliseconds of a step, the median.
    pub step_ms: f64,
    /// Milliseconds of a step that no op accounts for.
    pub rest_ms: f64,
    /// Tokens per second.
    pub tokens_per_second: f64,
    /// Useful FLOPs of the step, 10⁹ a second, and as a fraction of the GEMM rate.
    pub gflops: f64,
    /// See `gflops`.
    pub of_gemm: f64,
    /// Of drawing: the weights, keys and values that the step must read, 10⁹ bytes a second, and as a fraction of the memory's rate.
    pub read_gbytes: Option<f64>,
    /// See `read_gbytes`.
    pub of_memory: Option<f64>,
    /// Fraction of the threads' time in the steps in which they did nothing; nothing where the system does not tell.
    pub idle: Option<f64>,
    /// What a large GEMM reaches here, 10⁹ FLOPs a second.
    pub gemm_gflops: f64,
    /// What reading much memory reaches here, 10⁹ bytes a second.
    pub memory_gbytes: f64,
    /// The ops, the longest first.
    pub rows: Vec<CpuRow>,
}

/// What a step does at least.
struct Useful {
    flops: f64,
    /// Of drawing: bytes that it must read.
    read: Option<f64>,
    tokens: usize,
}

/// Takes some training steps of `images` images of `config.positions` tokens, and the machine's limits.
///
/// # Errors
/// Threads or memory that the system refuses.
pub fn cpu_profile(
    config: &ModelConfig,
    model: &Transformer,
    images: usize,
    threads: Option<usize>,
) -> Result<CpuProfile> {
    let device = CpuDevice::timing(threads)?;
    let mut parameters = Parameters::init(&device, parameter_specs(config), 0)?;
    let mut gradients = parameters.zeros_like(&device)?;
    let mut adam = Adam::new(&device, &parameters, AdamConfig::default())?;
    // Any tokens do: no time depends on which they are.
    let (length, tokens) = (config.positions, images * config.positions);
    let ids: Vec<u16> = (0..tokens).map(|i| (i * 7919 % config.vocabulary) as u16).collect();
    let batches = [(model.autoregressive_batch(&device, &ids, length, 1.0)?, None)];
    let criterion = Criterion::from(config.objective());

    let useful = Useful { flops: config.training_flops_per_token(length) * tokens as f64, read: None, tokens };
    measure(&device, STEPS, useful, || {
        let update = adam.begin(&device, 1e-4)?;
        black_box(model.accumulate_gradients(&device, &parameters, &criterion, &batches, &mut gradients)?);
        adam.apply(&device, &mut parameters, &gradients, update)
    })
}

/// Draws the pixel in the middle of each of `images` images some times, with keys, values and weights in `precision`.
///
/// # Errors
/// As [`cpu_profile`].
pub fn cpu_drawing_profile(
    config: &ModelConfig,
    model: &Transformer,
    images: usize,
    precision: Precision,
    threads: Option<usize>,
) -> Result<CpuProfile> {
    let device = CpuDevice::timing(threads)?.drawing_in(precision);
    let parameters = Parameters::init(&device, parameter_specs(config), 0)?;
    model.prepare_decoding(&device, &parameters)?;

    // All pixels before it; which they are no time depends on.
    let middle = config.positions / 2;
    let prompt: Vec<u16> = (0..middle).map(|pixel| (pixel * 7919 % config.vocabulary) as u16).collect();
    let mut decoder = Decoder::prompted(&device, model, &parameters, images, &prompt.repeat(images), config.positions)?;
    let (tokens, uniforms) = (vec![model.sos(); images], vec![0.5; images]);

    // Each weight of blocks and head is multiplied once, each cached number in a score or a sum.
    let weights = 12 * config.layers * config.width * config.width + config.vocabulary * config.width;
    let cached = 2 * config.layers * config.width * (middle + 1) * images;
    let useful = Useful {
        flops: 2.0 * (images * weights + cached) as f64,
        read: Some((precision.bytes() * (weights + cached)) as f64),
        tokens: images,
    };
    measure(&device, PIXELS, useful, || {
        decoder.rewind(middle);
        let logits = decoder.step(&tokens)?;
        let drawn = device.sample(&logits, SampleOptions::PLAIN, &uniforms)?;
        black_box(device.download_tokens(&drawn)?);
        Ok(())
    })
}

/// Takes `steps` steps, after a first one that takes the memory from the system, and measures the machine's limits.
fn measure(
    device: &CpuDevice,
    steps: usize,
    useful: Useful,
    mut step: impl FnMut() -> Result<()>,
) -> Result<CpuProfile> {
    step()?;
    device.take_times();
    let (mut seconds, mut busy) = (Vec::new(), 0.0);
    for _ in 0..steps {
        let (start, worked) = (Instant::now(), worked());
        step()?;
        seconds.push(start.elapsed().as_secs_f64());
        busy += self::worked().zip(worked).map_or(f64::NAN, |(after, before)| after - before);
    }

    let times = device.take_times();
    let idle = 1.0 - busy / (seconds.iter().sum::<f64>() * device.threads() as f64);
    let limits = [gemm_rate(device)?, memory_rate(device.threads())];
    Ok(made(device.describe(), &mut seconds, times, limits, &useful, idle))
}

/// The profile of what was measured.
fn made(
    device: String,
    seconds: &mut [f64],
    times: OpTimes,
    [gemm, memory]: [f64; 2],
    useful: &Useful,
    idle: f64,
) -> CpuProfile {
    let whole: f64 = seconds.iter().sum();
    let steps = seconds.len() as f64;
    seconds.sort_by(f64::total_cmp);
    let step = seconds[seconds.len() / 2];

    let mut rows: Vec<CpuRow> = times
        .into_iter()
        .map(|(op, time)| CpuRow {
            op,
            calls: time.calls as f64 / steps,
            ms: 1e3 * time.seconds / steps,
            share: time.seconds / whole,
            gflops: 1e-9 * time.flops / time.seconds,
            gbytes: 1e-9 * time.bytes / time.seconds,
            of_limit: (time.flops / gemm).max(time.bytes / memory) / time.seconds,
        })
        .collect();
    rows.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    CpuProfile {
        device,
        step_ms: 1e3 * step,
        rest_ms: 1e3 * whole / steps - rows.iter().map(|row| row.ms).sum::<f64>(),
        tokens_per_second: useful.tokens as f64 / step,
        gflops: 1e-9 * useful.flops / step,
        of_gemm: useful.flops / step / gemm,
        read_gbytes: useful.read.map(|bytes| 1e-9 * bytes / step),
        of_memory: useful.read.map(|bytes| bytes / step / memory),
        idle: idle.is_finite().then_some(idle.max(0.0)),
        gemm_gflops: 1e-9 * gemm,
        memory_gbytes: 1e-9 * memory,
        rows,
    }
}

/// FLOPs per second of a large matrix product, the best of a few.
fn gemm_rate(device: &CpuDevice) -> Result<f64> {
    let matrix = device.upload(&[SIDE, SIDE], &vec![0.5; SIDE * SIDE])?;
    let mut best = f64::INFINITY;
    for _ in 0..6 {
        let start = Instant::now();
        black_box(device.linear(&matrix, &matrix, WeightLayout::InOut, None)?);
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (SIDE as f64).powi(3) / best)
}

/// Bytes per second that `threads` threads read from memory, the best of a few.
fn memory_rate(threads: usize) -> f64 {
    let values = vec![1.0_f32; READ];
    let read = |part: &[f32]| {
        let mut sums = [0.0_f32; 64];
        for chunk in part.as_chunks::<64>().0 {
            sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
        }
        black_box(sums);
    };
    let times = (0..4).map(|_| {
        let start = Instant::now();
        thread::scope(|scope| {
            for part in values.chunks(READ.div_ceil(threads)) {
                scope.spawn(move || read(part));
            }
        });
        start.elapsed().as_secs_f64()
    });
    (READ * size_of::<f32>()) as f64 / times.fold(f64::INFINITY, f64::min)
}

/// Seconds of the processors' time that this process has used, on all threads (Linux).
fn worked() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name in brackets: utime and stime are the 12th and 13th field, in hundredths of a second.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.0)
}
