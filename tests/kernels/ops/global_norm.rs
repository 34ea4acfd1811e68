//! The norm by which gradients are clipped.

use igpt_engine::device::Device;
use proptest::prelude::any;

use super::support::{Both, EPSILON, Tested, assert_close, dot, property};

pub fn norm_of_everything<D: Device>(device: &Tested<D>) {
    property(12, (any::<u64>(), 1..40_000usize, 1..70usize), |(seed, long, short)| {
        let random = &mut device.random(seed);
        let tensors = [Both::random(device, random, &[long]), Both::random(device, random, &[short, 3])];
        let squares: f64 = tensors.iter().map(|tensor| dot(&tensor.exact, &tensor.exact)).sum();
        let norm = device.global_norm(&tensors.map(|both| both.tensor)).unwrap();
        assert_eq!(device.shape(&norm), [1]);
        // Summed in f64 (or as carefully), so only the result is rounded.
        assert_close(device, "norm", &norm, &[squares.sqrt()], 2.0 * EPSILON, 0.0);
    });
    let far = device.upload(&[2], &[3e25, 4e25]).unwrap();
    let norm = device.download(&device.global_norm(&[far]).unwrap()).unwrap()[0];
    assert!((norm / 5e25 - 1.0).abs() < 1e-6, "{norm}");
}
