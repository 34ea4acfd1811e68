//! Algorithms of CUB over blocks and warps, against the same by Rust's iterators and sorts.

use crate::compile::ptx;
use crate::device::{Device, noise, under_all_seeds};
use crate::parameters;

const THREADS: usize = 128;
const ROW: usize = THREADS * 4;
const ROWS: usize = 3;

fn values(span: f32) -> Vec<i32> {
    (0..ROWS * ROW).map(|i| (noise(i + 31) * span) as i32).collect()
}

/// As [`under_all_seeds`], but merge sorts read one word behind their tile, which nobody has written, and throw it away.
fn reading_padding(ptx: &str, test: impl Fn(&Device)) {
    for seed in 0..20 {
        let mut device = Device::new(ptx);
        device.options.seed = seed;
        device.options.uninitialised = false;
        test(&device);
    }
}

fn launch(device: &Device, kernel: &str, parameters: Vec<u8>) {
    device.launch(kernel, [ROWS as u32, 1, 1], THREADS as u32, parameters);
}

#[test]
fn merge_sort_is_stable() {
    let Some(ptx) = ptx("cub_blocks", "compute_80") else { return };
    reading_padding(&ptx, |device| {
        let keys = values(40.0);
        let places: Vec<i32> = (0..keys.len() as i32).collect();
        let (k, v) = (device.upload(&keys), device.upload(&places));
        launch(device, "merge_sort", parameters!(k, v));
        let mut expected: Vec<(i32, i32)> = keys.into_iter().zip(places).collect();
        expected.chunks_exact_mut(ROW).for_each(|row| row.sort_by_key(|&(key, _)| key));
        let found = device.download::<i32>(k, ROWS * ROW).into_iter().zip(device.download::<i32>(v, ROWS * ROW));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    });
}

#[test]
fn histograms() {
    let Some(ptx) = ptx("cub_blocks", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let x = values(300.0);
        let mut expected = vec![0_u32; ROWS * 64];
        for (i, x) in x.iter().enumerate() {
            expected[i / ROW * 64 + (x & 63) as usize] += 1;
        }
        for kernel in ["histogram_sort", "histogram_atomic"] {
            let out = device.allocate::<u32>(ROWS * 64);
            launch(device, kernel, parameters!(device.upload(&x), out));
            assert_eq!(device.download::<u32>(out, ROWS * 64), expected, "{kernel}");
        }
    });
}

#[test]
fn partition_keeps_the_order_of_what_it_selects() {
    let Some(ptx) = ptx("cub_blocks", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let x = values(1000.0);
        let (out, selected) = (device.allocate::<i32>(x.len()), device.allocate::<i32>(ROWS));
        launch(device, "partition", parameters!(device.upload(&x), out, selected, 6_i32));
        let mut expected = Vec::new();
        let mut counts = Vec::new();
        for row in x.chunks_exact(ROW) {
            let (yes, no): (Vec<i32>, Vec<i32>) = row.iter().partition(|&&x| x & 6 != 0);
            counts.push(yes.len() as i32);
            expected.extend(yes.into_iter().chain(no.into_iter().rev()));
        }
        assert_eq!(device.download::<i32>(out, x.len()), expected);
        assert_eq!(device.download::<i32>(selected, ROWS), counts);
    });
}

#[test]
fn neighbours() {
    let Some(ptx) = ptx("cub_blocks", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let x = values(2.5);
        let (heads, steps) = (device.allocate::<i32>(x.len()), device.allocate::<i32>(x.len()));
        launch(device, "differences", parameters!(device.upload(&x), heads, steps));
        let (heads, steps) = (device.download::<i32>(heads, x.len()), device.download::<i32>(steps, x.len()));
        for i in 0..x.len() {
            let first = i % ROW == 0;
            assert_eq!(heads[i], i32::from(first || x[i] != x[i - 1]), "head {i}");
            assert_eq!(steps[i], if first { x[i] } else { x[i] - x[i - 1] }, "step {i}");
        }
    });
}

#[test]
fn runs_are_written_out() {
    let Some(ptx) = ptx("cub_blocks", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        // Lengths of 1 to 7 whose sum is a row: each pair of runs has eight.
        let runs: Vec<i32> = (0..ROWS * THREADS).map(|i| (noise(i) * 1e6) as i32).collect();
        let first = |i: usize| 1 + ((noise(i / 2 + 77) + 1.0) * 3.0) as u32;
        let lengths: Vec<u32> = (0..ROWS * THREADS).map(|i| if i % 2 == 0 { first(i) } else { 8 - first(i) }).collect();
        let out = device.allocate::<i32>(ROWS * ROW);
        launch(device, "run_lengths", parameters!(device.upload(&runs), device.upload(&lengths), out));
        let expected: Vec<i32> =
            runs.iter().zip(&lengths).flat_map(|(&run, &length)| vec![run; length as usize]).collect();
        assert_eq!(device.download::<i32>(out, ROWS * ROW), expected);
    });
}

#[test]
fn exchanges_between_threads() {
    let Some(ptx) = ptx("cub_blocks", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let x = values(1e6);
        let (striped, back) = (device.allocate::<i32>(x.len()), device.allocate::<i32>(x.len()));
        launch(device, "exchanges", parameters!(device.upload(&x), striped, back));
        let expected: Vec<i32> = (0..x.len()).map(|i| x[i / ROW * ROW + i % 4 * THREADS + i % ROW / 4]).collect();
        assert_eq!(device.download::<i32>(striped, x.len()), expected);
        assert_eq!(device.download::<i32>(back, x.len()), x);
    });
}

#[test]
fn doubles_are_scanned_and_sorted() {
    let Some(ptx) = ptx("cub_blocks", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let x: Vec<f64> = (0..ROWS * ROW).map(|i| f64::from(noise(i)) * 10.0_f64.powi(i as i32 % 40 - 20)).collect();
        let (to, running) = (device.upload(&x), device.allocate::<f64>(x.len()));
        launch(device, "sort_doubles", parameters!(to, running));
        let mut largest = Vec::new();
        let mut sorted = x.clone();
        for row in sorted.chunks_exact_mut(ROW) {
            largest.extend(row.iter().scan(f64::NEG_INFINITY, |most, &x| {
                *most = most.max(x);
                Some(*most)
            }));
            row.sort_by(|a, b| b.total_cmp(a));
        }
        assert_eq!(device.download::<f64>(running, x.len()), largest);
        assert_eq!(device.download::<f64>(to, x.len()), sorted);
    });
}

#[test]
fn warps_on_their_own() {
    let Some(ptx) = ptx("cub_blocks", "compute_80") else { return };
    reading_padding(&ptx, |device| {
        let n = ROWS * THREADS;
        let x = &values(1000.0)[..n];
        let (sums, prefixes) = (device.allocate::<i32>(n / 16), device.allocate::<i32>(n));
        let sorted = device.allocate::<i32>(2 * n);
        launch(device, "warps", parameters!(device.upload(x), sums, prefixes, sorted));
        let expected: Vec<i32> = x.chunks_exact(16).map(|sixteen| sixteen.iter().sum()).collect();
        assert_eq!(device.download::<i32>(sums, n / 16), expected);
        let mut running = Vec::new();
        let mut pairs = Vec::new();
        for warp in x.chunks_exact(32) {
            running.extend(warp.iter().scan(0, |sum, &x| {
                *sum += x;
                Some(*sum)
            }));
            let mut both: Vec<i32> = warp.iter().flat_map(|&x| [x, -x]).collect();
            both.sort_unstable();
            pairs.extend(both);
        }
        assert_eq!(device.download::<i32>(prefixes, n), running);
        assert_eq!(device.download::<i32>(sorted, 2 * n), pairs);
    });
}

#[test]
fn the_last_block_sums_what_all_have_counted() {
    let Some(ptx) = ptx("cub_blocks", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let x = values(1000.0);
        let (out, count) = (device.allocate::<i32>(1 + ROWS), device.upload(&[0_u32]));
        launch(device, "selected", parameters!(device.upload(&x), out, count, 100_i32));
        let below: Vec<i32> = x.chunks_exact(ROW).map(|row| row.iter().filter(|&&x| x < 100).count() as i32).collect();
        let found = device.download::<i32>(out, 1 + ROWS);
        assert_eq!(found[0], below.iter().sum::<i32>());
        assert_eq!(found[1..], below);
        assert_eq!(device.download::<u32>(count, 1), [0]);
    });
}
