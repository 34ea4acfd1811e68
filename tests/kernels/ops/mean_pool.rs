//! Mean pooling.

use igpt_engine::device::Device;
use proptest::prelude::any;

use super::reference::stored;
use super::support::{
    Both, FACTORS, Tested, assert_bits, assert_error, assert_rounded_once, assert_within_twice_naive, each, property,
    scaled, sum_in_f32,
};

pub fn both_ways<D: Device>(device: &Tested<D>) {
    let cases = (any::<u64>(), 1..4usize, 1..200usize, 1..50usize);
    property(24, cases, |(seed, batch, tokens, width)| check(device, seed, batch, tokens, width));
}

/// Tokens beside the threads of a column, columns beside the blocks of both kernels; a lone token, and a lone column.
pub fn bounds<D: Device>(device: &Tested<D>) {
    let tokens_and_columns =
        [(33, 33), (1, 1), (2, 31), (7, 32), (8, 255), (9, 256), (15, 257), (31, 5), (32, 64), (65, 65), (1, 513)];
    each(tokens_and_columns, |(tokens, width)| check(device, tokens as u64, 3, tokens, width));
}

pub fn check<D: Device>(device: &Tested<D>, seed: u64, batch: usize, tokens: usize, width: usize) {
    let random = &mut device.random(seed);
    let x = Both::random(device, random, &[batch, tokens, width]);
    let dy = Both::random(device, random, &[batch, width]);

    let y = device.mean_pool(&x.tensor).unwrap();
    assert_eq!(device.shape(&y), [batch, width]);
    let dx = device.mean_pool_backward(&dy.tensor, tokens).unwrap();
    assert_eq!(device.shape(&dx), [batch, tokens, width]);

    let (mut mean, mut gradient) = (vec![0.0; batch * width], Vec::new());
    for (index, value) in x.exact.iter().enumerate() {
        let at = index / (tokens * width) * width + index % width;
        mean[at] += value / tokens as f64;
        gradient.push(device.representable(f64::from(dy.exact[at] as f32 / tokens as f32)) as f32);
    }

    // The sum is √tokens large and rounded at that size, then divided by the tokens.
    assert_rounded_once(device, "y", &y, &mean, sum_in_f32(tokens), 1.0 / (tokens as f64).sqrt());
    // One division in f32, which is rounded: a matter of bits.
    assert_bits("dx", &device.download(&dx).unwrap(), &gradient);

    if let Some(naive) = device.naively(|| mean.iter().copied().map(stored).collect::<Vec<_>>()) {
        assert_within_twice_naive(device, "y", &y, &mean, &naive);
    }
}

/// A NaN reaches the mean of its image and column, and nothing else; means and gradients scale exactly with powers of two.
pub fn values_of_any_size<D: Device>(device: &Tested<D>) {
    let (batch, tokens, width) = (2, 11, 35);
    let x: Vec<f32> = device.random(12).values(batch * tokens * width).into_iter().map(|value| value as f32).collect();
    let forward = |x: &[f32]| {
        let x = device.upload(&[batch, tokens, width], x).unwrap();
        device.download(&device.mean_pool(&x).unwrap()).unwrap()
    };
    let backward = |dy: &[f32]| {
        let dy = device.upload(&[batch, width], dy).unwrap();
        device.download(&device.mean_pool_backward(&dy, tokens).unwrap()).unwrap()
    };
    let (mean, gradient) = (forward(&x), backward(&x[..batch * width]));
    for factor in FACTORS {
        assert_bits("y", &forward(&scaled(&x, factor)), &scaled(&mean, factor));
        assert_bits("dx", &backward(&scaled(&x[..batch * width], factor)), &scaled(&gradient, factor));
    }
    for token in 0..batch * tokens {
        let (mut x, mut mean) = (x.clone(), mean.clone());
        x[token * width + 33] = f32::NAN;
        mean[token / tokens * width + 33] = f32::NAN;
        assert_bits("y", &forward(&x), &mean);
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let zeros = |shape: &[usize]| device.zeros(shape).unwrap();
    assert_error(device.mean_pool(&zeros(&[2, 3])), &["mean_pool: x must be of three dimensions, not [2, 3]"]);
    assert_error(
        device.mean_pool_backward(&zeros(&[2, 3]), 0),
        &["mean_pool_backward: tokens must be at least 1, not 0"],
    );
    assert_error(device.mean_pool_backward(&zeros(&[6]), 2), &["mean_pool_backward: dy must be a matrix, not [6]"]);
    assert_error(device.mean_pool_backward(&zeros(&[6, 2]), usize::MAX), &["mean_pool_backward: shape"]);
}
