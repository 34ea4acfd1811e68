//! Attention over prompts, which fills the cache.

use igpt_engine::device::{CacheDims, Device, Mask};

use super::attention_decode::{at_of, cache};
use super::support::{Tested, assert_bits, assert_error, each, upload};

/// Prompts shorter than the cache and as long, of some of its images: attention's bits, and the rows of the cache, all others as they were.
pub fn fills_the_cache<D: Device>(device: &Tested<D>) {
    let cases = [
        ([1, 1, 8], 5, 5, [0, 1]),
        ([2, 3, 40], 33, 40, [1, 4]),
        ([3, 2, 64], 7, 9, [0, 3]),
        ([1, 2, 192], 4, 70, [2, 3]),
        ([2, 1, 33], 70, 71, [1, 3]),
        ([1, 4, 96], 3, 3, [0, 2]),
    ];
    each(cases, |([batch, heads, head_dim], tokens, positions, [first, images])| {
        check(device, [batch, heads, head_dim], tokens, positions, [first, images]);
    });
}

/// One prompt of `batch` images, in a cache of `images` from the `first` on.
pub fn check<D: Device>(
    device: &Tested<D>,
    [batch, heads, head_dim]: [usize; 3],
    tokens: usize,
    positions: usize,
    [first, images]: [usize; 2],
) {
    let (width, random) = (heads * head_dim, &mut device.random(tokens as u64));
    let numbers = random.values(batch * tokens * 3 * width);
    let qkv = upload(device, &[batch, tokens, 3 * width], &numbers);
    let dims = CacheDims { batch: images, positions, heads, head_dim };
    let before: [Vec<f32>; 2] =
        [(); 2].map(|()| random.values(images * positions * width).into_iter().map(|value| value as f32).collect());
    let [mut keys, mut values] = before.each_ref().map(|numbers| cache(device, dims, numbers));

    let got = device.attention_prefill(&qkv, &mut keys, &mut values, first, heads).unwrap();
    let expected = device.attention(&qkv, heads, Mask::Causal).unwrap().output;
    assert_bits("output", &device.download(&got).unwrap(), &device.download(&expected).unwrap());

    for (part, (tensor, mut expected)) in (1..).zip([&keys, &values].into_iter().zip(before)) {
        for (row, numbers) in numbers.chunks(3 * width).enumerate() {
            for (column, number) in numbers[part * width..][..width].iter().enumerate() {
                expected[at_of(dims, first + row / tokens, row % tokens, column)] = *number as f32;
            }
        }
        assert_bits("cache", &device.download(tensor).unwrap(), &expected);
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let empty =
        |batch, positions| device.attention_cache(CacheDims { batch, positions, heads: 2, head_dim: 4 }).unwrap();
    let (mut keys, mut values) = (empty(3, 7), empty(3, 7));
    let rows = |batch, tokens| device.zeros(&[batch, tokens, 24]).unwrap();
    let result = device.attention_prefill(&rows(2, 8), &mut keys, &mut values, 0, 2);
    assert_error(result, &["attention_prefill: qkv must be of at most the cache's 7 positions, not [2, 8, 24]"]);
    let result = device.attention_prefill(&rows(2, 5), &mut keys, &mut values, 2, 2);
    assert_error(result, &["attention_prefill: first must be at most 3 images less 2, not 2"]);
    let result = device.attention_prefill(&rows(2, 5), &mut keys, &mut empty(3, 6), 0, 2);
    assert_error(result, &["attention_prefill: values must be [3, 2, 7, 4], not [3, 2, 6, 4]"]);
    let result = device.attention_prefill(&rows(2, 5), &mut keys, &mut values, 0, 3);
    assert_error(result, &["attention_prefill: qkv must be", "multiple of 3 heads"]);
}
