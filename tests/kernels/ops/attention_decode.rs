//! Attention with a cache.

use igpt_engine::device::{CacheDims, Device, Mask};
use proptest::prelude::any;

use super::reference::Attention;
use super::support::{
    Both, Random, Tested, assert_bits, assert_close, assert_error, assert_rounded_once, assert_within_twice_naive,
    each, property, sum_in_f32, upload,
};

/// A cache that holds these numbers, `[batch, heads, positions, head_dim]`.
pub fn cache<D: Device>(device: &Tested<D>, dims: CacheDims, numbers: &[f32]) -> D::Tensor {
    let mut cache = device.attention_cache(dims).unwrap();
    assert_eq!(device.shape(&cache), dims.shape());
    device.overwrite(&mut cache, numbers).unwrap();
    cache
}

/// A position in the device's memory.
fn at_position<D: Device>(device: &Tested<D>, position: usize) -> D::Tokens {
    device.upload_tokens([1, 1], &[position as u16]).unwrap()
}

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
        let dims = CacheDims { batch, positions: tokens + 2, heads, head_dim };
        let [mut keys, mut values] = [(); 2].map(|()| cache(device, dims, &unread));
        let at = |values: &[f64], columns: usize, token: usize| -> Vec<f64> {
            values.chunks(columns).skip(token).step_by(tokens).flatten().copied().collect()
        };

        for token in 0..tokens {
            let row = upload(device, &[batch, 1, 3 * width], &at(&qkv.exact, 3 * width, token));
            let got =
                device.attention_decode(&row, &mut keys, &mut values, &at_position(device, token), heads).unwrap();
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

/// Positions beside every number of warps and threads, with columns beside every vector.
pub fn bounds<D: Device>(device: &Tested<D>) {
    let positions_and_columns = [
        (260, 33),
        (0, 1),
        (1, 128),
        (3, 31),
        (4, 64),
        (5, 32),
        (31, 129),
        (32, 16),
        (33, 8),
        (126, 5),
        (127, 20),
        (128, 7),
        (129, 96),
        (255, 40),
        (256, 192),
        (383, 12),
        (400, 130),
        (1023, 8),
        (1024, 16),
        (1200, 64),
    ];
    each(positions_and_columns.into_iter().enumerate(), |(index, (position, head_dim))| {
        check(device, index as u64, [1 + index % 3, 1 + index % 2, head_dim], position, 1.0);
    });
}

/// Scores of hundreds: without subtracting the maximum every exponential would overflow.
pub fn large_scores<D: Device>(device: &Tested<D>) {
    check(device, 1, [2, 2, 16], 150, 16.0);
}

/// Chunks of keys whose scores are all minus infinity, and one whose scores decide alone: each of three, and one of the last of eleven.
pub fn chunks_of_no_weight<D: Device>(device: &Tested<D>) {
    for (positions, decides) in [(300, 0), (300, 1), (300, 2), (1300, 9)] {
        let dims = CacheDims { batch: 1, positions, heads: 1, head_dim: 8 };
        let far = if device.in_bf16() { -3e38 } else { -3.4e38 };
        let keys: Vec<f32> =
            (0..positions).flat_map(|token| vec![if token / 128 == decides { 0.5 } else { far }; 8]).collect();
        let values: Vec<f32> = (0..positions).flat_map(|token| vec![(token / 128) as f32; 8]).collect();
        let row = upload(device, &[1, 1, 24], &[vec![8.0; 8], vec![f64::from(far); 8], vec![9.0; 8]].concat());
        let [mut keys, mut values] = [keys, values].map(|numbers| cache(device, dims, &numbers));
        let at = at_position(device, positions - 1);
        let got = device.attention_decode(&row, &mut keys, &mut values, &at, 1).unwrap();
        assert_bits("output", &device.download(&got).unwrap(), &[decides as f32; 8]);
    }
}

/// One step with a cache of numbers that the device can hold: the output; in the cache this position's keys and values, all others as they were.
pub fn check<D: Device>(
    device: &Tested<D>,
    seed: u64,
    [batch, heads, head_dim]: [usize; 3],
    position: usize,
    factor: f64,
) {
    let sizes = Attention { batch, tokens: position + 1, heads, head_dim, mask: Mask::Causal };
    let (width, positions, random) = (sizes.width(), position + 3, &mut device.random(seed));
    let mut times = |len: usize, values: fn(&mut Random, usize) -> Vec<f64>| -> Vec<f64> {
        values(random, len).into_iter().map(|value| f64::from((value * factor) as f32)).collect()
    };
    let row = times(batch * 3 * width, Random::values);
    let dims = CacheDims { batch, positions, heads, head_dim };
    let caches = [(); 2].map(|()| times(batch * positions * width, Random::values));

    // What lies past the position in the cache is never read; nor what lies at it, which is written.
    let uploaded = caches.each_ref().map(|cache| -> Vec<f32> {
        let number =
            |(at, value): (usize, &f64)| if at / head_dim % positions < position { *value as f32 } else { f32::NAN };
        cache.iter().enumerate().map(number).collect()
    });
    let [mut keys, mut values] = uploaded.each_ref().map(|numbers| cache(device, dims, numbers));
    let row_tensor = upload(device, &[batch, 1, 3 * width], &row);
    let at = at_position(device, position);
    let got = device.attention_decode(&row_tensor, &mut keys, &mut values, &at, heads).unwrap();

    // Causal attention of all tokens, of which the last is wanted.
    let mut qkv = vec![0.0; batch * sizes.tokens * 3 * width];
    for (at, value) in qkv.iter_mut().enumerate() {
        let (image, token, column) =
            (at / (3 * width) / sizes.tokens, at / (3 * width) % sizes.tokens, at % (3 * width));
        *value = match column / width {
            _ if token == position => row[image * 3 * width + column],
            0 => 0.0,
            part => caches[part - 1][at_of(dims, image, token, column % width)],
        };
    }
    let (output, _) = sizes.forward(&qkv);
    let last = output.chunks(width).skip(position).step_by(sizes.tokens).flatten().copied().collect::<Vec<_>>();
    // A score is a sum of head_dim terms up to factor² large, over √head_dim; its error is the weight's relative error.
    let score = sum_in_f32(head_dim) * (factor * factor * (head_dim as f64).sqrt()).max(1.0);
    assert_rounded_once(device, "output", &got, &last, score + sum_in_f32(position), factor);

    for (part, (tensor, before)) in [&keys, &values].into_iter().zip(uploaded).enumerate() {
        let mut expected = before;
        for (image, column) in (0..batch).flat_map(|image| (0..width).map(move |column| (image, column))) {
            let new = row[image * 3 * width + (part + 1) * width + column];
            expected[at_of(dims, image, position, column)] = new as f32;
        }
        assert_bits("cache", &device.download(tensor).unwrap(), &expected);
    }
}

/// Where a column of a token stands in a cache.
pub fn at_of(dims: CacheDims, image: usize, token: usize, column: usize) -> usize {
    let CacheDims { positions, heads, head_dim, .. } = dims;
    ((image * heads + column / head_dim) * positions + token) * head_dim + column % head_dim
}

/// A NaN in the cache reaches the output of its head, and nothing of other heads and images.
pub fn a_nan_stays_in_its_head<D: Device>(device: &Tested<D>) {
    let (batch, position, heads, head_dim) = (2, 9, 2, 5);
    let width = heads * head_dim;
    let random = &mut device.random(3);
    let dims = CacheDims { batch, positions: 10, heads, head_dim };
    let mut floats = |len: usize| random.values(len).into_iter().map(|value| value as f32).collect::<Vec<_>>();
    let (row, keys, values) = (floats(batch * 3 * width), floats(batch * 10 * width), floats(batch * 10 * width));
    let decode = |keys: &[f32], values: &[f32]| {
        let [mut keys, mut values] = [keys, values].map(|numbers| cache(device, dims, numbers));
        let row = device.upload(&[batch, 1, 3 * width], &row).unwrap();
        let at = at_position(device, position);
        device.download(&device.attention_decode(&row, &mut keys, &mut values, &at, heads).unwrap()).unwrap()
    };
    let clean = decode(&keys, &values);

    for token in 0..position {
        // In the first head of the second image: a key, then a value.
        let at = at_of(dims, 1, token, 2);
        let mut dirty = keys.clone();
        dirty[at] = f32::NAN;
        let mut expected = clean.clone();
        expected[width..width + head_dim].fill(f32::NAN);
        assert_bits("with a key that is NaN", &decode(&dirty, &values), &expected);

        let mut dirty = values.clone();
        dirty[at] = f32::NAN;
        let mut expected = clean.clone();
        expected[width + 2] = f32::NAN;
        assert_bits("with a value that is NaN", &decode(&keys, &dirty), &expected);
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let zeros = |shape: &[usize]| device.zeros(shape).unwrap();
    let empty =
        |batch, positions| device.attention_cache(CacheDims { batch, positions, heads: 2, head_dim: 4 }).unwrap();
    let (mut keys, mut values) = (empty(2, 7), empty(2, 7));
    let at = |position| at_position(device, position);
    let row = zeros(&[2, 1, 24]);
    let result = device.attention_decode(&row, &mut keys, &mut values, &at(7), 2);
    assert_error(result, &["attention_decode: position must be below the cache's 7, not 7"]);
    let result = device.attention_decode(&zeros(&[2, 2, 24]), &mut keys, &mut values, &at(0), 2);
    assert_error(result, &["attention_decode: qkv must be [B, 1, 3d]"]);
    let result = device.attention_decode(&row, &mut keys, &mut empty(2, 6), &at(0), 2);
    assert_error(result, &["attention_decode: values must be [2, 2, 7, 4], not [2, 2, 6, 4]"]);
    let result = device.attention_decode(&zeros(&[1, 1, 24]), &mut keys, &mut values, &at(0), 2);
    assert_error(result, &["attention_decode: keys must be [1, 2, 7, 4], not [2, 2, 7, 4]"]);
    let result = device.attention_decode(&row, &mut zeros(&[2, 7, 8]), &mut values, &at(0), 2);
    assert_error(result, &["attention_decode: keys must be [B, H, T, d/H], not [2, 7, 8]"]);
    let two = device.upload_tokens([1, 2], &[0, 1]).unwrap();
    let result = device.attention_decode(&row, &mut keys, &mut values, &two, 2);
    assert_error(result, &["attention_decode: position must be [1, 1], not [1, 2]"]);
}
