//! Whole training steps on the CPU device: `cargo bench --bench step [-- tiny|small|s]`.
//!
//! One step is what `train` does: zero the gradients, forward, cross-entropy over all 1,024 positions, backward, Adam, in
//! f32. After Criterion's own figures comes a table, each model beside the machine's GEMM rate of the same minute: absolute
//! figures of a shared machine move by 15 % and more from hour to hour, ratios do not. "Useful" FLOPs count each weight of
//! a matrix product six times a token, and attention over its causal half once.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{Beta, CpuDevice, WeightLayout};
use igpt_engine::model::{ModelConfig, Objective, Preset, Transformer, parameter_specs};
use igpt_engine::optim::{Adam, AdamConfig, Schedule, ScheduleKind};
use igpt_engine::tape::Parameters;
use igpt_engine::train::Trainer;

/// Pixels along one side: 1,024 tokens per image.
const RESOLUTION: usize = 32;
const TOKENS: usize = RESOLUTION * RESOLUTION;

/// A benchmarked model and how many images its step has.
struct Case {
    name: &'static str,
    config: ModelConfig,
    batch: usize,
    /// Steps that are timed for the table.
    samples: usize,
}

fn cases() -> Vec<Case> {
    let tiny = ModelConfig::preset(Preset::Tiny, RESOLUTION);
    let small = ModelConfig { layers: 8, width: 256, heads: 8, ..tiny.clone() };
    let s = ModelConfig::preset(Preset::S, RESOLUTION);
    vec![
        Case { name: "tiny", config: tiny, batch: 4, samples: 15 },
        Case { name: "small", config: small, batch: 4, samples: 7 },
        Case { name: "s", config: s, batch: 1, samples: 5 },
    ]
}

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let device = CpuDevice::new(None).expect("a CPU has a CPU device");
    println!("one training step, {}, {TOKENS} tokens per image", device.describe());
    let mut rows = Vec::new();
    for case in cases() {
        if filter.as_ref().is_none_or(|filter| *filter == case.name) {
            rows.push(run(&device, &case));
        }
    }
    println!();
    println!("model   batch     step   tokens/s  useful GFLOP/s  GEMM GFLOP/s  of GEMM  time in GEMMs  peak memory");
    for row in rows {
        println!("{row}");
    }
}

/// Times one case and returns its line of the table.
fn run(device: &CpuDevice, case: &Case) -> String {
    reset_peak_memory();
    let Case { name, config, batch, samples } = case;
    let parameters = Parameters::init(device, parameter_specs(config), 0).expect("memory for the parameters");
    let adam = Adam::new(device, &parameters, AdamConfig::default()).expect("memory for the moments");
    let schedule = Schedule { kind: ScheduleKind::Constant, peak: 1e-3, warmup: 0, steps: u64::MAX, cooldown: 0 };
    let model = Transformer::new(config.clone()).expect("a preset is valid");
    let mut trainer =
        Trainer::new(device, model, parameters, adam, schedule, Objective::Ar).expect("memory for the gradients");
    // Any tokens do: nothing in a step depends on which they are.
    let tokens: Vec<u16> = (0..batch * TOKENS).map(|i| (i * 7919 % config.vocabulary) as u16).collect();
    let micro_batches = [tokens.into()];
    let mut step = || {
        black_box(trainer.step(&micro_batches, TOKENS).expect("a step"));
    };
    step();

    let mut criterion = Criterion::default().warm_up_time(Duration::from_millis(500)).configure_from_args();
    let mut group = criterion.benchmark_group("step");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements((batch * TOKENS) as u64));
    group.bench_function(*name, |bencher| bencher.iter(&mut step));
    group.finish();

    // In turn with the GEMM, so that both see the same machine.
    let (mut steps, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..*samples {
        steps.push(time(&mut step));
        peaks.push(gemm_rate(device));
    }
    let (seconds, peak) = (median(steps), median(peaks));
    let memory = peak_memory().map_or("unknown".to_owned(), |bytes| format!("{:.2} GiB", bytes / (1_u64 << 30) as f64));
    let flops = config.training_flops_per_token(TOKENS) * (batch * TOKENS) as f64;
    let useful = flops / seconds / 1e9;
    format!(
        "{name:<6}  {batch:>5}  step {:.1} ms  {:>8.0}  {useful:>14.1}  {peak:>12.1}  {:>6.0}%  {:>12.0}%  {memory:>11}",
        seconds * 1e3,
        (batch * TOKENS) as f64 / seconds,
        100.0 * useful / peak,
        100.0 * gemm_seconds(device, config, *batch) / seconds,
    )
}

/// The machine's rate of a large matrix product, GFLOP/s.
fn gemm_rate(device: &CpuDevice) -> f64 {
    const SIDE: usize = 1536;
    let matrix = device.upload(&[SIDE, SIDE], &vec![0.5; SIDE * SIDE]).expect("memory for a matrix");
    let product = || {
        black_box(device.linear(&matrix, &matrix, WeightLayout::InOut, None).expect("a product"));
    };
    product();
    2.0 * (SIDE as f64).powi(3) / time(product) / 1e9
}

/// Seconds that a step's linear layers take by themselves, forward and backward, at its shapes.
fn gemm_seconds(device: &CpuDevice, config: &ModelConfig, batch: usize) -> f64 {
    let (rows, width) = (batch * TOKENS, config.width);
    let layer = |inputs: usize, outputs: usize| {
        let tensor = |shape: [usize; 2]| device.upload(&shape, &vec![0.01; shape[0] * shape[1]]).expect("memory");
        let (x, weight, dy) = (tensor([rows, inputs]), tensor([inputs, outputs]), tensor([rows, outputs]));
        let mut gradient = tensor([inputs, outputs]);
        let mut both = || {
            black_box(device.linear(&x, &weight, WeightLayout::InOut, None).expect("forward"));
            let layout = WeightLayout::InOut;
            black_box(
                device.linear_backward(&dy, &x, &weight, layout, &mut gradient, None, Beta::One).expect("backward"),
            );
        };
        both();
        median((0..5).map(|_| time(&mut both)).collect())
    };
    let block = layer(width, 3 * width) + layer(width, width) + layer(width, 4 * width) + layer(4 * width, width);
    config.layers as f64 * block + layer(width, config.vocabulary)
}

fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Makes the kernel forget the largest size that this process has had (Linux).
fn reset_peak_memory() {
    // Where this fails the figure is that of the largest model so far, which is the current one: cases grow.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The largest resident size since [`reset_peak_memory`], bytes (Linux).
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
}
