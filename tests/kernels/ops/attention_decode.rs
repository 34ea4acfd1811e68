//! Attention with a cache.

use igpt_engine::device::{Device, Mask};
use proptest::prelude::any;

use super::reference::Attention;
use super::support::{Both, Tested, assert_close, assert_error, assert_within_twice_naive, property, upload};

/// Position by position, the same as causal attention over the whole sequence.
pub fn equals_attention<D: Device>(device: &Tested<D>) {
    let cases = (any::<u64>(), 1..4usize, 1..40usize, 1..4usize, 1..40usize);
    property(16, cases, |(seed, batch, tokens, heads, head_dim)| {
        let sizes = Attention { batch, tokens, heads, head_dim, mask: Mask::Causal };
        let width = sizes.width();
        let qkv = Both::random(device, &mut device.random(seed), &[batch, tokens, 3 * width]);

        let (output, _) = sizes.forward(&qkv.exact);
        let naive = device.naively(|| sizes.forward(&qkv.exact).0);

        // What lies past the position in the cache is never read.
        let unread = vec![f32::NAN; batch * (tokens + 2) * width];
        let [mut keys, mut values] = [(); 2].map(|()| device.upload(&[batch, tokens + 2, width], &unread).unwrap());
        let at = |values: &[f64], columns: usize, token: usize| -> Vec<f64> {
            values.chunks(columns).skip(token).step_by(tokens).flatten().copied().collect()
        };

        for token in 0..tokens {
            let row = upload(device, &[batch, 1, 3 * width], &at(&qkv.exact, 3 * width, token));
            let got = device.attention_decode(&row, &mut keys, &mut values, token, heads).unwrap();
            assert_eq!(device.shape(&got), [batch, 1, width]);

            let allowed = device.tolerance(head_dim) * (head_dim as f64).sqrt() + device.tolerance(tokens);
            let expected = at(&output, width, token);
            assert_close(device, "output", &got, &expected, allowed, 1.0);
            if let Some(naive) = &naive {
                assert_within_twice_naive(device, "output", &got, &expected, &at(naive, width, token));
            }
        }
    });
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let zeros = |shape: &[usize]| device.zeros(shape).unwrap();
    let (mut keys, mut values) = (zeros(&[2, 7, 8]), zeros(&[2, 7, 8]));
    let row = zeros(&[2, 1, 24]);
    let result = device.attention_decode(&row, &mut keys, &mut values, 7, 2);
    assert_error(result, &["attention_decode: position must be below the cache's 7, not 7"]);
    let result = device.attention_decode(&zeros(&[2, 2, 24]), &mut keys, &mut values, 0, 2);
    assert_error(result, &["attention_decode: qkv must be [B, 1, 3d]"]);
    let result = device.attention_decode(&row, &mut keys, &mut zeros(&[2, 6, 8]), 0, 2);
    assert_error(result, &["attention_decode: values must be [2, 7, 8], not [2, 6, 8]"]);
    let result = device.attention_decode(&zeros(&[1, 1, 24]), &mut keys, &mut values, 0, 2);
    assert_error(result, &["attention_decode: keys must be [1, 7, 8], not [2, 7, 8]"]);
}
