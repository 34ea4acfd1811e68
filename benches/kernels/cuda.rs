//! The CUDA device's kernels, each beside the least it could do: counted on the simulator, timed with CUDA events on a GPU.

use std::collections::BTreeMap;

use igpt_engine::device::cuda::kernel::KERNELS;
use igpt_engine::device::{CudaDevice, Precision};
use test_support::counts;
use test_support::reference_shapes::cases;

/// How many times the reference shapes' rows a GPU gets, so that it has something to do.
const TIMES: usize = 16;

/// Launches of which a time is the median.
const ROUNDS: usize = 21;

/// Prints a line for each kernel with the arguments' filter in its name, on the device that `IGPT_TEST_DEVICE` names.
pub fn report() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test` runs benches too, without this.
    if !arguments.iter().any(|argument| argument == "--bench") || arguments.iter().any(|argument| argument == "--list")
    {
        return;
    }

    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    let wanted = |kernel: &str| kernel.contains(&filter);
    if KERNELS.is_empty() {
        println!("SKIPPED: CUDA kernels: this build has none; `cargo xtask toolkit` gets the compiler (no GPU needed)");
        return;
    }
    match std::env::var("IGPT_TEST_DEVICE").as_deref() {
        Ok("cpu") => {}
        Ok("cuda") => times(wanted),
        _ => print_counts(wanted),
    }
}

fn print_counts(wanted: impl Fn(&str) -> bool) {
    println!(
        "{:<36} {:>9} {:>6} {:>9} {:>6} {:>10} {:>9} {:>9} {:>6}  shape",
        "kernel", "read KiB", "/least", "write KiB", "/least", "wavefronts", "conflicts", "MFLOP", "/least"
    );

    let ratio = |number: u64, least: u64| if least > 0 { number as f64 / least as f64 } else { 0.0 };
    for (kernel, counts) in counts::measure(&wanted).into_iter().filter(|(kernel, _)| wanted(kernel)) {
        println!(
            "{kernel:<36} {:>9.1} {:>6.2} {:>9.1} {:>6.2} {:>10} {:>9} {:>9.1} {:>6.2}  {}",
            counts.read as f64 / 32.0,
            ratio(counts.read, counts.least_read),
            counts.written as f64 / 32.0,
            ratio(counts.written, counts.least_written),
            counts.wavefronts,
            counts.conflicts,
            counts.flops as f64 / 1e6,
            ratio(counts.flops, counts.least_flops),
            counts.shape
        );
    }
}

fn times(wanted: impl Fn(&str) -> bool) {
    println!("{:<36} {:>10} {:>9} {:>9}  rows of the reference shape x {TIMES}", "kernel", "us", "GB/s", "TFLOP/s");
    for precision in [Precision::F32, Precision::Bf16] {
        let device = CudaDevice::new(0, precision).expect("IGPT_TEST_DEVICE=cuda asks for a CUDA device");
        for case in cases(precision, TIMES) {
            // Variants for other cards are not what this card runs.
            if case.card.is_some() || !case.kernels.iter().any(|(kernel, _)| wanted(kernel)) {
                continue;
            }

            let mut all: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
            for round in 0..=ROUNDS {
                let launches = device.timed(|| {
                    (case.run)(&device);
                    Ok(())
                });
                // The first loads the kernels.
                for (kernel, time) in launches.expect("events").into_iter().filter(|_| round > 0) {
                    all.entry(kernel).or_default().push(time);
                }
            }

            for (kernel, least) in case.kernels.iter().filter(|(kernel, _)| wanted(kernel)) {
                let Some(times) = all.get_mut(kernel.as_str()).filter(|times| times.len() == ROUNDS) else { continue };
                times.sort_by(f32::total_cmp);
                let seconds = f64::from(times[ROUNDS / 2]) / 1e3;
                // As if k were not split: what partial sums cost is not useful work.
                let least = least([1, 1, 1]);
                println!(
                    "{kernel:<36} {:>10.2} {:>9.1} {:>9.2}  {}",
                    seconds * 1e6,
                    (least.read + least.written) as f64 / seconds / 1e9,
                    least.flops as f64 / seconds / 1e12,
                    case.shape
                );
            }
        }
    }
}
