//! Mean pooling.

use igpt_engine::device::Device;
use proptest::prelude::any;

use super::reference::stored;
use super::support::{Both, Tested, assert_close, assert_error, assert_within_twice_naive, property};

pub fn both_ways<D: Device>(device: &Tested<D>) {
    let cases = (any::<u64>(), 1..4usize, 1..200usize, 1..50usize);
    property(24, cases, |(seed, batch, tokens, width)| {
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
            gradient.push(dy.exact[at] / tokens as f64);
        }

        // The sum is √tokens large and rounded at that size, then divided by the tokens.
        assert_close(device, "y", &y, &mean, device.tolerance(tokens), 1.0 / (tokens as f64).sqrt());
        assert_close(device, "dx", &dx, &gradient, device.tolerance(1), 1e-9);

        let rounded = |values: &[f64]| device.naively(|| values.iter().copied().map(stored).collect::<Vec<_>>());
        if let (Some(naive_mean), Some(naive_gradient)) = (rounded(&mean), rounded(&gradient)) {
            assert_within_twice_naive(device, "y", &y, &mean, &naive_mean);
            assert_within_twice_naive(device, "dx", &dx, &gradient, &naive_gradient);
        }
    });
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
