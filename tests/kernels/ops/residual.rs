//! What is added to the residual stream and normalised in one op: the bits of the two ops that it is made of, each of which has a table of
//! its own.

use igpt_engine::device::{Activation, Device, MlpWeights, Norm, ResidualLayerNormed, ResidualNorm, WeightLayout};
use proptest::prelude::{Strategy, any};

use super::support::{Both, Random, Tested, assert_bits, assert_error, each, property, two};

/// Seed, mean-centred, biases, rows, inputs (of the MLP: its hidden width), width.
type Case = (u64, bool, bool, usize, usize, usize);

fn cases() -> impl Strategy<Value = Case> {
    (any::<u64>(), any::<bool>(), any::<bool>(), 1..140usize, 1..70usize, 1..70usize)
}

pub fn is_both_ops<D: Device>(device: &Tested<D>) {
    property(12, cases(), |case| check(device, case));
}

/// Rows that a GPU makes of tiles of several blocks: narrow ones, of which a warp has several, and wide ones, of which one has parts. The last
/// panel of rows is full, or not, or alone in its cluster; a panel's rows are shared evenly, or not.
pub fn large<D: Device>(device: &Tested<D>) {
    // In f32 the two ops are two launches, on any tiles.
    let sizes = match device.in_bf16() {
        true => [(1701, 512, 512), (897, 520, 808), (600, 512, 1536)],
        false => [(170, 51, 51), (89, 52, 80), (45, 51, 204)],
    };
    each(sizes.into_iter().enumerate(), |(index, (rows, inputs, width))| {
        check_linear(device, (index as u64, index % 2 == 0, index < 2, rows, inputs, width));
    });
    let (rows, hidden, width) = if device.in_bf16() { (1701, 512, 512) } else { (170, 51, 51) };
    check_mlp(device, (8, true, true, rows, hidden, width));
}

pub fn check<D: Device>(device: &Tested<D>, case: Case) {
    check_linear(device, case);
    check_mlp(device, case);
}

/// The stream and what belongs to its norm.
struct Stream<D: Device> {
    norm: Norm,
    x: Both<D>,
    gain: Both<D>,
    bias: Both<D>,
    biased: bool,
}

impl<D: Device> Stream<D> {
    fn random(device: &Tested<D>, random: &mut Random, layer: bool, biased: bool, [rows, width]: [usize; 2]) -> Self {
        Self {
            norm: if layer { Norm::Layer } else { Norm::Rms },
            x: Both::random(device, random, &[rows, width]),
            gain: Both::floats(device, random, &[width]),
            bias: Both::floats(device, random, &[width]),
            biased,
        }
    }

    fn norm(&self) -> ResidualNorm<'_, D::Tensor> {
        let Self { norm, x, gain, bias, biased } = self;
        ResidualNorm { norm: *norm, x: &x.tensor, gain: &gain.tensor, bias: biased.then_some(&bias.tensor) }
    }

    /// Compares what one op made with what the norm makes of `delta`.
    fn compare(&self, device: &Tested<D>, got: &ResidualLayerNormed<D::Tensor>, delta: &D::Tensor) {
        let ResidualNorm { norm, x, gain, bias } = self.norm();
        let expected = device.residual_layernorm(norm, x, delta, gain, bias).unwrap();
        for (what, got, expected) in [
            ("sum", &got.sum, &expected.sum),
            ("normed", &got.normed, &expected.normed),
            ("stats", &got.stats, &expected.stats),
        ] {
            assert_eq!(device.shape(got), device.shape(expected), "{what}");
            assert_bits(what, &device.download(got).unwrap(), &device.download(expected).unwrap());
        }
    }
}

pub fn check_linear<D: Device>(device: &Tested<D>, case: Case) {
    let (seed, layer, biased, rows, inputs, width) = case;
    let random = &mut device.random(seed);
    let stream = Stream::random(device, random, layer, biased, [rows, width]);
    let (input, weight) =
        (Both::random(device, random, &[rows, inputs]), Both::random(device, random, &[inputs, width]));
    let bias = Both::floats(device, random, &[width]);
    let (input, weight, bias) = (&input.tensor, &weight.tensor, biased.then_some(&bias.tensor));

    // Twice: what the first launch leaves behind, the second finds.
    let delta = device.linear(input, weight, WeightLayout::InOut, bias).unwrap();
    for _ in 0..2 {
        let got = device.linear_residual_layernorm(input, weight, bias, stream.norm()).unwrap();
        stream.compare(device, &got, &delta);
    }
}

pub fn check_mlp<D: Device>(device: &Tested<D>, case: Case) {
    let (seed, layer, biased, rows, hidden, width) = case;
    let random = &mut device.random(seed);
    let stream = Stream::random(device, random, layer, biased, [rows, width]);
    let input = Both::random(device, random, &[rows, width]);
    let (up, down) = (Both::random(device, random, &[width, hidden]), Both::random(device, random, &[hidden, width]));
    let (up_bias, down_bias) = (Both::floats(device, random, &[hidden]), Both::floats(device, random, &[width]));
    let weights = || MlpWeights {
        up: &up.tensor,
        up_bias: biased.then_some(&up_bias.tensor),
        down: &down.tensor,
        down_bias: biased.then_some(&down_bias.tensor),
    };
    let activation = if layer { Activation::Gelu } else { Activation::QuickGelu };

    let apart = device.mlp(&input.tensor, weights(), activation).unwrap();
    let got = device.mlp_residual_layernorm(&input.tensor, weights(), activation, stream.norm()).unwrap();
    assert_bits("hidden", &device.download(&got.hidden).unwrap(), &device.download(&apart.hidden).unwrap());
    stream.compare(device, &got.stream, &apart.output);
}

/// A NaN stays in its row, on tiles of several blocks; what is large and what is small is normalised alike.
pub fn values_of_any_size<D: Device>(device: &Tested<D>) {
    let (rows, inputs, width) = if device.in_bf16() { (1700, 512, 512) } else { (1700, 33, 35) };
    let random = &mut device.random(5);
    let mut values = |len: usize| random.values(len).into_iter().map(|value| value as f32).collect::<Vec<_>>();
    let (mut input, weight, mut x) = (values(rows * inputs), values(inputs * width), values(rows * width));
    input[700 * inputs + 3] = f32::NAN;
    x[901 * width + 5] = f32::INFINITY;
    for value in &mut x[1203 * width..1204 * width] {
        *value *= two(100);
    }
    let upload = |shape: &[usize], values: &[f32]| device.upload(shape, values).unwrap();
    let (input, weight) = (upload(&[rows, inputs], &input), upload(&[inputs, width], &weight));
    let (x, gain) = (upload(&[rows, width], &x), upload(&[width], &vec![1.0; width]));
    let to = ResidualNorm { norm: Norm::Rms, x: &x, gain: &gain, bias: None };
    let got = device.linear_residual_layernorm(&input, &weight, None, to).unwrap();
    let normed = device.download(&got.normed).unwrap();
    for (row, values) in normed.chunks(width).enumerate() {
        assert_eq!(values.iter().any(|value| value.is_nan()), [700, 901].contains(&row), "row {row}");
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let zeros = |shape: &[usize]| device.zeros(shape).unwrap();
    let (input, x, gain) = (zeros(&[2, 3, 4]), zeros(&[2, 3, 8]), zeros(&[8]));
    let (flat, narrow) = (zeros(&[6, 8]), zeros(&[4]));
    fn to<'a, T>(x: &'a T, gain: &'a T) -> ResidualNorm<'a, T> {
        ResidualNorm { norm: Norm::Rms, x, gain, bias: None }
    }
    let result = device.linear_residual_layernorm(&input, &zeros(&[4, 8]), None, to(&flat, &gain));
    assert_error(result, &["residual_layernorm: delta must be [6, 8], not [2, 3, 8]"]);
    let result = device.linear_residual_layernorm(&input, &zeros(&[5, 8]), None, to(&x, &gain));
    assert_error(result, &["linear: weight must be [4, 8], not [5, 8]"]);
    let result = device.linear_residual_layernorm(&input, &zeros(&[4, 8]), None, to(&x, &narrow));
    assert_error(result, &["residual_layernorm: gain must be [8], not [4]"]);
}
