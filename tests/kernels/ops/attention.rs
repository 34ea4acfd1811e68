//! Attention.

use igpt_engine::device::{Device, Mask};
use proptest::prelude::{Strategy, any};

use super::reference::Attention;
use super::support::{
    Both, Tested, assert_close, assert_error, assert_matches_finite_differences, assert_values_close,
    assert_values_within_twice_naive, assert_within_twice_naive, dot, property,
};

/// Seeds of [`two_tokens`] besides the one that failed.
const TWO_TOKENS_SEEDS: u64 = 8;

fn cases() -> impl Strategy<Value = (u64, Attention)> {
    let head_dims = proptest::sample::select(vec![1usize, 2, 3, 7, 8, 15, 16, 17, 24, 32, 33, 64]);
    (any::<u64>(), any::<bool>(), 1..3usize, 1..100usize, 1..4usize, head_dims).prop_map(
        |(seed, causal, batch, tokens, heads, head_dim)| {
            let mask = if causal { Mask::Causal } else { Mask::Full };
            (seed, Attention { batch, tokens, heads, head_dim, mask })
        },
    )
}

/// Forward and backward of `sizes` on random numbers times `factor`.
pub fn check<D: Device>(device: &Tested<D>, seed: u64, sizes: Attention, factor: f64, differences: bool) {
    let Attention { batch, tokens, heads, head_dim, mask } = sizes;
    let random = &mut device.random(seed);
    let shape = [batch, tokens, 3 * sizes.width()];
    let values = random.values(shape.iter().product()).iter().map(|x| f64::from((x * factor) as f32)).collect();
    let qkv = Both::new(device, &shape, values);
    let dy = Both::random(device, random, &[batch, tokens, sizes.width()]);

    let out = device.attention(&qkv.tensor, heads, mask).unwrap();
    assert_eq!(device.shape(&out.logsumexp), [batch, heads, tokens]);
    let (output, logsumexp) = sizes.forward(&qkv.exact);
    if let Some((naive, _)) = device.naively(|| sizes.forward(&qkv.exact)) {
        assert_within_twice_naive(device, "output", &out.output, &output, &naive);
    }
    let d_qkv_of =
        || device.attention_backward(&dy.tensor, &qkv.tensor, &out.output, &out.logsumexp, heads, mask).unwrap();
    let d_qkv = sizes.backward(&dy.exact, &qkv.exact);

    if device.in_bf16() && factor == 1.0 {
        // In bf16 inputs are exact and scores f32: only the weights are rounded, each by itself, and results once more.
        assert_close(device, "output", &out.output, &output, device.tolerance(tokens), 0.5);
        assert_close(device, "logsumexp", &out.logsumexp, &logsumexp, 1e-3, 1.0);
        let naive = device.naively(|| sizes.backward(&dy.exact, &qkv.exact)).expect("in bf16");
        check_gradients_in_bf16(sizes, &device.download(&d_qkv_of()).unwrap(), &d_qkv, &naive, |terms| {
            device.tolerance(terms)
        });
    } else {
        // A score is a sum of head_dim terms up to factor² large, over √head_dim; its error is the weight's relative error.
        let score = device.tolerance(head_dim) * (factor * factor * (head_dim as f64).sqrt()).max(1.0);
        let allowed = score + device.tolerance(tokens);
        assert_close(device, "output", &out.output, &output, allowed, factor);
        assert_close(device, "logsumexp", &out.logsumexp, &logsumexp, allowed, 1.0);
        // The softmax's gradient is a difference of sums over head_dim, times a value and once more a sum over tokens.
        let gradient = 4.0 * allowed * factor * factor * (head_dim as f64).sqrt().max(1.0);
        assert_close(device, "d_qkv", &d_qkv_of(), &d_qkv, gradient, 1.0);
    }

    if differences {
        assert_matches_finite_differences("d_qkv", &d_qkv, &qkv.exact, |qkv| dot(&sizes.forward(qkv).0, &dy.exact));
    }
}

/// The gradients of queries, keys and values apart: the largest would hide errors of the others.
///
/// The numbers that are rounded independently are the weights P and their gradients dS, one for each pair of a query and a key
/// that it sees. dS = P ∘ (dP − delta) is a small difference, so its error is large beside the rounding of dq = dS K, and the
/// head_dim elements of a row of dq share it: with 2 tokens, 4 errors for each head of an image.
fn check_gradients_in_bf16(
    sizes: Attention,
    got: &[f32],
    exact: &[f64],
    naive: &[f64],
    tolerance: impl Fn(usize) -> f64,
) {
    for (part, name) in ["dq", "dk", "dv"].into_iter().enumerate() {
        let of_part: Vec<usize> = (0..got.len()).filter(|at| at / sizes.width() % 3 == part).collect();
        let got: Vec<f32> = of_part.iter().map(|&at| got[at]).collect();
        let [exact, naive] = [exact, naive].map(|all| of_part.iter().map(|&at| all[at]).collect::<Vec<_>>());
        assert_values_close(name, &got, &exact, 2.0 * tolerance(sizes.head_dim.max(4)), 0.3);
        assert_values_within_twice_naive(name, &got, &exact, &naive, sizes.pairs());
    }
}

/// Two tokens, whose gradients of queries inherit 8 rounding errors: no number of elements makes more of them.
///
/// The first seed once failed on sound kernels, with root mean squares compared; about 1 of 200 did.
pub fn two_tokens<D: Device>(device: &Tested<D>) {
    let sizes = |batch| Attention { batch, tokens: 2, heads: 1, head_dim: 33, mask: Mask::Full };
    for seed in [2_388_936_510_501_998_455].into_iter().chain(0..TWO_TOKENS_SEEDS) {
        check(device, seed, sizes(1), 1.0, false);
        check(device, seed, sizes(2), 1.0, false);
    }
}

pub fn forward<D: Device>(device: &Tested<D>) {
    property(32, cases(), |(seed, sizes)| check(device, seed, sizes, 1.0, false));
}

/// Small enough for finite differences.
pub fn backward<D: Device>(device: &Tested<D>) {
    let small = (any::<u64>(), any::<bool>(), 1..3usize, 1..9usize, 1..3usize, 1..6usize);
    property(24, small, |(seed, causal, batch, tokens, heads, head_dim)| {
        let mask = if causal { Mask::Causal } else { Mask::Full };
        check(device, seed, Attention { batch, tokens, heads, head_dim, mask }, 1.0, true);
    });
}

/// Several panels of queries, the last one short; head dimensions of the presets.
pub fn long_sequences<D: Device>(device: &Tested<D>) {
    for (tokens, head_dim, mask) in [
        (130, 32, Mask::Causal),
        (257, 64, Mask::Causal),
        (257, 64, Mask::Full),
        (193, 96, Mask::Causal),
        (192, 128, Mask::Causal),
        (200, 40, Mask::Full),
        (131, 192, Mask::Causal),
        (70, 192, Mask::Full),
        (140, 48, Mask::Causal),
    ] {
        check(device, tokens as u64, Attention { batch: 1, tokens, heads: 2, head_dim, mask }, 1.0, false);
    }
}

/// Scores of hundreds: without subtracting the maximum every exponential would overflow.
pub fn large_scores<D: Device>(device: &Tested<D>) {
    for mask in [Mask::Causal, Mask::Full] {
        check(device, 5, Attention { batch: 1, tokens: 70, heads: 2, head_dim: 16, mask }, 16.0, false);
    }
}

/// Scores that rise from key to key: what was summed before has to shrink, panel after panel.
pub fn rising_scores<D: Device>(device: &Tested<D>) {
    let sizes = Attention { batch: 1, tokens: 150, heads: 1, head_dim: 32, mask: Mask::Full };
    let values = device.random(3).values(sizes.tokens * sizes.head_dim);

    let mut qkv = Vec::new();
    for (token, value) in values.chunks(sizes.head_dim).enumerate() {
        qkv.extend([1.0; 32]);
        qkv.extend([token as f64 / 32.0 - 2.0; 32]);
        qkv.extend(value);
    }

    let qkv = Both::new(device, &[1, sizes.tokens, 3 * sizes.width()], qkv);

    let out = device.attention(&qkv.tensor, sizes.heads, sizes.mask).unwrap();
    assert_close(
        device,
        "output",
        &out.output,
        &sizes.forward(&qkv.exact).0,
        4.0 * device.tolerance(sizes.tokens),
        1.0,
    );
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let zeros = |shape: &[usize]| device.zeros(shape).unwrap();
    let qkv = zeros(&[1, 5, 24]);
    assert_error(device.attention(&qkv, 3, Mask::Full), &["attention: qkv", "multiple of 3 heads", "[1, 5, 24]"]);
    assert_error(device.attention(&qkv, 0, Mask::Full), &["attention: qkv"]);
    assert_error(device.attention(&zeros(&[1, 5, 25]), 1, Mask::Full), &["attention: qkv"]);
    assert_error(device.attention(&zeros(&[5, 24]), 1, Mask::Full), &["attention: qkv must be of three dimensions"]);
    let (dy, logs) = (zeros(&[1, 5, 8]), zeros(&[1, 2, 5]));
    let result = device.attention_backward(&dy, &qkv, &dy, &zeros(&[1, 5, 2]), 2, Mask::Full);
    assert_error(result, &["attention_backward: logsumexp must be [1, 2, 5], not [1, 5, 2]"]);
    let result = device.attention_backward(&qkv, &qkv, &dy, &logs, 2, Mask::Full);
    assert_error(result, &["attention_backward: dy must be [1, 5, 8], not [1, 5, 24]"]);
}
