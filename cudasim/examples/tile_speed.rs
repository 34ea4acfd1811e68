//! How fast a core multiplies tiles of tensor-core size: `cargo run --release -p cudasim --example tile_speed`.

use std::hint::black_box;
use std::time::Instant;

use cudasim::numerics::dot::accumulate_tile;

/// Multiply-adds of one measurement.
const WORK: usize = 400_000_000;

fn main() {
    for (m, n, k) in [(16, 8, 16), (16, 8, 8), (64, 64, 16), (64, 256, 16)] {
        // Small integers: neither overflow nor denormals.
        let operand = |len: usize| -> Vec<f32> { (0..len).map(|i| (i * 7 % 13) as f32 - 6.0).collect() };
        let (a, b, mut c) = (operand(m * k), operand(k * n), vec![0.0_f32; m * n]);
        let rounds = WORK / (m * n * k);
        let start = Instant::now();
        for _ in 0..rounds {
            accumulate_tile(black_box(&mut c), black_box(&a), black_box(&b), m, n, k);
        }
        let rate = (rounds * m * n * k) as f64 / start.elapsed().as_secs_f64() / 1e9;
        println!("m{m}n{n}k{k}: {rate:.1} GMAC/s");
    }
}
