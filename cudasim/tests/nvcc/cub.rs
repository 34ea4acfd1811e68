use crate::compile::ptx;
use crate::device::{noise, under_all_seeds};
use crate::parameters;

const THREADS: usize = 128;
const ROW: usize = THREADS * 4;
const ROWS: usize = 3;

#[test]
fn block_scan() {
    let Some(ptx) = ptx("cub", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let x: Vec<i32> = (0..ROWS * ROW).map(|i| (noise(i) * 1000.0) as i32).collect();
        let (out, totals) = (device.allocate::<i32>(x.len()), device.allocate::<i32>(ROWS));
        device.launch("block_scan", [ROWS as u32, 1, 1], THREADS as u32, parameters!(device.upload(&x), out, totals));
        let mut expected = Vec::new();
        let mut sums = Vec::new();

        for row in x.chunks_exact(ROW) {
            let mut sum = 0;
            for x in row {
                expected.push(sum);
                sum += x;
            }
            sums.push(sum);
        }

        assert_eq!(device.download::<i32>(out, x.len()), expected);
        assert_eq!(device.download::<i32>(totals, ROWS), sums);
    });
}

#[test]
fn block_radix_sort() {
    let Some(ptx) = ptx("cub", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let keys: Vec<u32> = (0..ROWS * ROW).map(|i| (noise(i) * 1e9) as i32 as u32 % 5000).collect();
        let values: Vec<u32> = (0..keys.len() as u32).collect();
        let (k, v) = (device.upload(&keys), device.upload(&values));
        device.launch("block_radix_sort", [ROWS as u32, 1, 1], THREADS as u32, parameters!(k, v));
        let mut expected: Vec<(u32, u32)> = keys.iter().copied().zip(values).collect();
        // Stable, as radix sort is.
        expected.chunks_exact_mut(ROW).for_each(|row| row.sort_by_key(|&(key, _)| key));
        let sorted = device.download::<u32>(k, keys.len()).into_iter().zip(device.download::<u32>(v, keys.len()));
        assert_eq!(sorted.collect::<Vec<_>>(), expected);
    });
}

#[test]
fn block_reduce() {
    let Some(ptx) = ptx("cub", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let x: Vec<f32> = (0..ROWS * ROW).map(noise).collect();
        let out = device.allocate::<f64>(ROWS);
        device.launch("block_reduce", [ROWS as u32, 1, 1], THREADS as u32, parameters!(device.upload(&x), out));
        let sums = device.download::<f64>(out, ROWS);
        for (sum, row) in sums.iter().zip(x.chunks_exact(ROW)) {
            let expected: f64 = row.iter().map(|&x| f64::from(x)).sum();
            assert!((sum - expected).abs() < 1e-9, "{sum}, not {expected}");
        }
    });
}
