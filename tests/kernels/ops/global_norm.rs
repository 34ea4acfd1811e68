//! The norm by which gradients are clipped.

use igpt_engine::device::Device;
use proptest::prelude::any;

use super::support::{Both, EPSILON, Tested, assert_close, assert_error, dot, property};

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

/// One element that is not finite, wherever it is, or a norm beyond the largest float: counted in all, and in a row until the next
/// that is finite.
pub fn verdicts<D: Device>(device: &Tested<D>) {
    let mut verdict = device.upload(&[3], &[0.0, 5.0, 2.0]).unwrap();
    let mut judged = |values: &[f32], also: &[f32]| {
        let tensors = [values, also].map(|values| device.upload(&[values.len()], values).unwrap());
        device.judge_gradients(&tensors, &mut verdict).unwrap();
        let norm = device.download(&device.global_norm(&tensors).unwrap()).unwrap()[0];
        let verdict = device.download(&verdict).unwrap();
        assert_eq!(verdict[0].to_bits(), norm.to_bits(), "the norm itself");
        (norm.is_finite(), verdict[1], verdict[2])
    };

    let mut total = 5.0;
    assert_eq!(judged(&[1.0], &[2.0]), (true, total, 0.0));
    for (len, at, bad) in [(1, 0, f32::NAN), (3, 2, f32::INFINITY), (5, 4, f32::NEG_INFINITY), (4099, 4098, f32::NAN)] {
        let mut values = vec![0.5; len];
        values[at] = bad;
        for in_a_row in 1..3 {
            total += 1.0;
            let also = [3.0, 4.0];
            // In the first tensor, then in the last.
            let found = if in_a_row == 1 { judged(&values, &also) } else { judged(&also, &values) };
            assert_eq!(found, (false, total, in_a_row as f32), "{bad} at {at} of {len}");
        }
        assert_eq!(judged(&[0.0; 7], &[-1.0]), (true, total, 0.0));
    }
    assert_eq!(judged(&[3e38; 4], &[3e38]), (false, total + 1.0, 1.0), "finite, but not its norm");

    let tensors = [device.zeros(&[2]).unwrap()];
    let result = device.judge_gradients(&tensors, &mut device.zeros(&[2]).unwrap());
    assert_error(result, &["judge_gradients: verdict must be [3], not [2]"]);
}
