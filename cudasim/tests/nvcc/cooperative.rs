//! Cooperative groups, and pipelines and barriers of libcu++.

use crate::compile::ptx;
use crate::device::{Device, noise, under_all_seeds};
use crate::parameters;
use cudasim::exec::{Launch, run};

fn whole(count: usize, span: f32) -> Vec<i32> {
    (0..count).map(|i| (noise(i) * span) as i32).collect()
}

#[test]
fn tiles_of_a_warp() {
    let Some(ptx) = ptx("cooperative", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let x = whole(192, 1000.0);
        for size in [4, 16, 32] {
            let [sums, maxima, prefixes] = std::array::from_fn(|_| device.allocate::<i32>(192));
            let parameters = parameters!(device.upload(&x), sums, maxima, prefixes);
            device.launch(&format!("tiles{size}"), [2, 1, 1], 96, parameters);
            let (sums, maxima) = (device.download::<i32>(sums, 192), device.download::<i32>(maxima, 192));
            let prefixes = device.download::<i32>(prefixes, 192);
            for (i, tile) in x.chunks_exact(size).enumerate() {
                for j in 0..size {
                    let at = i * size + j;
                    assert_eq!(sums[at], tile.iter().sum::<i32>());
                    assert_eq!(maxima[at], *tile.iter().max().unwrap());
                    assert_eq!(prefixes[at], tile[..j].iter().sum::<i32>());
                }
            }
        }
    });
}

#[test]
fn groups_of_those_that_are_there() {
    let Some(ptx) = ptx("cooperative", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let x = whole(250, 100.0);
        let (out, count) = (device.allocate::<i32>(250), device.upload(&[0_i32]));
        device.launch("compact", [2, 1, 1], 128, parameters!(device.upload(&x), out, count, 250_i32));
        let mut expected: Vec<i32> = x.iter().copied().filter(|&x| x > 0).collect();
        assert_eq!(device.download::<i32>(count, 1), [expected.len() as i32]);
        let mut found = device.download::<i32>(out, expected.len());
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);

        let labels: Vec<i32> = (0..128).map(|i| (noise(i) * 3.0) as i32).collect();
        let (sizes, ranks) = (device.allocate::<i32>(128), device.allocate::<i32>(128));
        device.launch("labels", [2, 1, 1], 64, parameters!(device.upload(&labels), sizes, ranks));
        let (sizes, ranks) = (device.download::<i32>(sizes, 128), device.download::<i32>(ranks, 128));
        for (i, &label) in labels.iter().enumerate() {
            let warp = &labels[i / 32 * 32..][..32];
            assert_eq!(sizes[i] as usize, warp.iter().filter(|&&other| other == label).count());
            assert_eq!(ranks[i] as usize, warp[..i % 32].iter().filter(|&&other| other == label).count());
        }
    });
}

#[test]
fn the_blocks_of_a_grid_wait_for_one_another() {
    let Some(ptx) = ptx("cooperative", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let (blocks, threads, steps) = (6, 64, 7);
        let n = blocks * threads;
        let mut x = whole(n, 50.0);
        let (a, b) = (device.upload(&x), device.upload(&vec![0_i32; n]));
        let kernel = device.kernel("rings");
        let launch = Launch {
            cooperative: true,
            ..Launch::new([blocks as u32, 1, 1], [threads as u32, 1, 1], 0, parameters!(a, b, steps))
        };
        // Twice: the workspace is as good as new afterwards.
        for _ in 0..2 {
            run(&kernel, &launch, &device.memory.map(), &device.options, 0).unwrap_or_else(|report| panic!("{report}"));
            for step in 0..steps {
                x = (0..n).map(|i| x[i].wrapping_add(x[(i + threads) % n])).collect();
                let _ = step;
            }
            // An odd number of steps ends in the other buffer.
            assert_eq!(device.download::<i32>(b, n), x);
            let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
            device.memory.write(a, &bytes).unwrap();
        }
    });
}

#[test]
fn rows_through_shared_memory() {
    let Some(ptx) = ptx("cooperative", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let (rows, count) = (3, 200);
        let x: Vec<f32> = (0..rows * count).map(noise).collect();
        let out = device.allocate::<f32>(rows * count);
        // Two devices share nothing: a copy with room for a row.
        let kernel = device.kernel("staged");
        let parameters = parameters!(device.upload(&x), out, count as i32);
        let launch = Launch::new([rows as u32, 1, 1], [96, 1, 1], 4 * count as u32, parameters);
        run(&kernel, &launch, &device.memory.map(), &device.options, 0).unwrap_or_else(|report| panic!("{report}"));
        let expected: Vec<f32> = x.chunks_exact(count).flat_map(|row| row.iter().rev().copied()).collect();
        assert_eq!(device.download::<f32>(out, rows * count), expected);
    });
}

fn pipelines(arch: &str) {
    let Some(ptx) = ptx("cooperative", arch) else { return };
    under_all_seeds(&ptx, |device| {
        let tiles = 5;
        let x = whole(tiles * 256, 100.0);
        let out = device.allocate::<i32>(128);
        device.launch("piped", [1; 3], 128, parameters!(device.upload(&x), out, tiles as i32));
        let at = |tile: usize, place: usize| (tile as i32 + 1) * x[tile * 256 + place];
        let expected: Vec<i32> =
            (0..128).map(|i| (0..tiles).map(|tile| at(tile, 255 - i) + at(tile, 127 - i)).sum()).collect();
        assert_eq!(device.download::<i32>(out, 128), expected);

        let tiles = 7;
        let x = whole(tiles * 96, 100.0);
        let out = device.allocate::<i32>(96);
        device.launch("roles", [1; 3], 128, parameters!(device.upload(&x), out, tiles as i32));
        let at = |tile: usize, i: usize| (tile as i32 + 1) * x[tile * 96 + (i + tile) % 96];
        let expected: Vec<i32> = (0..96).map(|i| (0..tiles).map(|tile| at(tile, i)).sum()).collect();
        assert_eq!(device.download::<i32>(out, 96), expected);

        let out = device.allocate::<i32>(64);
        device.launch("turns", [1; 3], 128, parameters!(out, 9_i32));
        let expected: Vec<i32> = (0..64).map(|i| (0..9).map(|round| round * 100 + (i + round) % 64).sum()).collect();
        assert_eq!(device.download::<i32>(out, 64), expected);
    });
}

#[test]
fn pipelines_with_mbarriers_of_ampere() {
    pipelines("compute_80");
}

#[test]
fn pipelines_with_mbarriers_of_hopper() {
    pipelines("compute_90a");
}

#[test]
fn bulk_copies_that_a_barrier_counts() {
    let Some(ptx) = ptx("cooperative", "compute_90a") else { return };
    under_all_seeds(&ptx, |device: &Device| {
        let (blocks, count) = (3, 256);
        let x = whole(blocks * count, 1000.0);
        let out = device.allocate::<i32>(blocks * count);
        let parameters = parameters!(device.upload(&x), out, count as i32);
        let launch = Launch::new([blocks as u32, 1, 1], [64, 1, 1], 4 * count as u32, parameters);
        run(&device.kernel("bulk"), &launch, &device.memory.map(), &device.options, 0)
            .unwrap_or_else(|report| panic!("{report}"));
        let expected: Vec<i32> = x.iter().map(|x| 2 * x + 1).collect();
        assert_eq!(device.download::<i32>(out, blocks * count), expected);
    });
}
