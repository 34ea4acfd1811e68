//! The MLP.

use igpt_engine::device::{Activation, Beta, Device, MlpGradients, MlpOutput, MlpWeights};
use igpt_engine::named::Named;
use proptest::prelude::{Strategy, any};
use proptest::sample::select;

use super::reference::{self, Sizes, activation_derivative, column_sums, matmul, transpose};
use super::support::{
    Both, EPSILON, Random, Tested, assert_bits, assert_close, assert_error, assert_matches_finite_differences,
    assert_rounded_once, assert_within_twice_naive, dot, each, property, sum, sum_in_f32,
};

use igpt_engine::device::WeightLayout::InOut;

/// Seed, activation, biases, rows, width, hidden width.
type Case = (u64, Activation, bool, usize, usize, usize);

fn cases() -> impl Strategy<Value = Case> {
    let activation = select(Activation::VALUES).prop_map(|named| named.value);
    (any::<u64>(), activation, any::<bool>(), 1..90usize, 1..24usize, 1..90usize)
}

/// Up, up's bias, down, down's bias.
struct Weights<D: Device>([Both<D>; 4]);

impl<D: Device> Weights<D> {
    fn random(device: &Tested<D>, random: &mut Random, width: usize, hidden: usize) -> Self {
        let shapes: [&[usize]; 4] = [&[width, hidden], &[hidden], &[hidden, width], &[width]];
        Self(shapes.map(|shape| Both::random(device, random, shape)))
    }

    fn tensors(&self, biased: bool) -> MlpWeights<'_, D::Tensor> {
        let [up, up_bias, down, down_bias] = &self.0;
        MlpWeights {
            up: &up.tensor,
            up_bias: biased.then_some(&up_bias.tensor),
            down: &down.tensor,
            down_bias: biased.then_some(&down_bias.tensor),
        }
    }

    fn gradients(&mut self, biased: bool) -> MlpGradients<'_, D::Tensor> {
        let [up, up_bias, down, down_bias] = &mut self.0;
        MlpGradients {
            up: &mut up.tensor,
            up_bias: biased.then_some(&mut up_bias.tensor),
            down: &mut down.tensor,
            down_bias: biased.then_some(&mut down_bias.tensor),
        }
    }

    fn exact(&self) -> [&[f64]; 4] {
        self.0.each_ref().map(|both| &both.exact[..])
    }
}

/// `(output, hidden)`.
fn mlp(x: &[f64], weights: [&[f64]; 4], biased: bool, kind: Activation, rows: usize) -> (Vec<f64>, Vec<f64>) {
    let (hidden_width, width) = (weights[1].len(), weights[3].len());
    let bias = |bias| if biased { Some(bias) } else { None };
    let hidden = reference::linear(x, weights[0], InOut, bias(weights[1]), Sizes(rows, width, hidden_width));
    let activated: Vec<f64> = hidden.iter().map(|&x| reference::activation(kind, x)).collect();
    let sizes = Sizes(rows, hidden_width, width);
    (reference::linear(&activated, weights[2], InOut, bias(weights[3]), sizes), hidden)
}

pub fn forward<D: Device>(device: &Tested<D>) {
    property(16, cases(), |case| check_forward(device, case));
}

pub fn backward<D: Device>(device: &Tested<D>) {
    property(16, cases(), |case| check_backward(device, case));
}

/// GEMMs that a GPU cuts into large tiles, and such whose sums are long.
pub fn large<D: Device>(device: &Tested<D>) {
    let long = (37, 1544, 72);
    for (kind, (rows, width, hidden)) in
        [(Activation::QuickGelu, (1100, 24, 1032)), (Activation::QuickGelu, long), (Activation::Gelu, long)]
    {
        let case = (3, kind, true, rows, width, hidden);
        check_forward(device, case);
        check_backward(device, case);
    }
}

pub fn check_forward<D: Device>(device: &Tested<D>, case: Case) {
    let (seed, kind, biased, rows, width, hidden) = case;
    let random = &mut device.random(seed);
    let x = Both::random(device, random, &[1, rows, width]);
    let weights = Weights::random(device, random, width, hidden);
    let out = device.mlp(&x.tensor, weights.tensors(biased), kind).unwrap();
    assert_eq!(device.shape(&out.hidden), [1, rows, hidden]);
    let MlpWeights { up, up_bias, .. } = weights.tensors(biased);
    let again = device.mlp_hidden(&x.tensor, up, up_bias).unwrap();
    assert_bits("hidden, computed again", &device.download(&again).unwrap(), &device.download(&out.hidden).unwrap());

    let definition = || mlp(&x.exact, weights.exact(), biased, kind, rows);
    let (output, hidden_values) = definition();
    assert_close(device, "hidden", &out.hidden, &hidden_values, device.tolerance(width), 1.0);
    // Two GEMMs in a row: the first one's errors go through the second.
    assert_close(device, "output", &out.output, &output, device.tolerance(width) + device.tolerance(hidden), 1.0);
    if let Some((naive_output, naive_hidden)) = device.naively(definition) {
        assert_within_twice_naive(device, "hidden", &out.hidden, &hidden_values, &naive_hidden);
        assert_within_twice_naive(device, "output", &out.output, &output, &naive_output);
    }
}

/// Gradients of `x`, up, up's bias, down, down's bias.
fn mlp_backward(
    dy: &[f64],
    x: &[f64],
    weights: [&[f64]; 4],
    biased: bool,
    kind: Activation,
    rows: usize,
) -> [Vec<f64>; 5] {
    let (hidden_width, width) = (weights[1].len(), weights[3].len());
    let (_, hidden) = mlp(x, weights, biased, kind, rows);
    let [up, _, down, _] = weights;

    let activated: Vec<f64> = hidden.iter().map(|&x| reference::activation(kind, x)).collect();

    let mut d_hidden = matmul(dy, &transpose(down, hidden_width, width), rows, width, hidden_width);
    d_hidden.iter_mut().zip(&hidden).for_each(|(d, &x)| *d = reference::stored(*d * activation_derivative(kind, x)));

    [
        matmul(&d_hidden, &transpose(up, width, hidden_width), rows, hidden_width, width),
        matmul(&transpose(x, rows, width), &d_hidden, width, rows, hidden_width),
        column_sums(&d_hidden, hidden_width),
        matmul(&transpose(&activated, rows, hidden_width), dy, hidden_width, rows, width),
        column_sums(dy, width),
    ]
}

pub fn check_backward<D: Device>(device: &Tested<D>, case: Case) {
    let (seed, kind, biased, rows, width, hidden_width) = case;
    let random = &mut device.random(seed);
    let [x, dy] = [(); 2].map(|()| Both::random(device, random, &[rows, width]));
    let weights = Weights::random(device, random, width, hidden_width);
    let mut gradients = Weights::random(device, random, width, hidden_width);
    let hidden = device.mlp(&x.tensor, weights.tensors(biased), kind).unwrap().hidden;
    let slots = gradients.gradients(biased);
    let got =
        device.mlp_backward(&dy.tensor, &x.tensor, &hidden, weights.tensors(biased), kind, slots, Beta::One).unwrap();

    let definition = || mlp_backward(&dy.exact, &x.exact, weights.exact(), biased, kind, rows);
    let [dx, expected @ ..] = definition();
    // Three sums behind each other: over the width twice, then over the hidden layer or the rows.
    let allowed = 2.0 * device.tolerance(width) + device.tolerance(hidden_width.max(rows));
    assert_close(device, "dx", &got, &dx, allowed, 1.0);
    for (index, name) in ["d_up", "d_up_bias", "d_down", "d_down_bias"].into_iter().enumerate() {
        let slot = &gradients.0[index];
        let is_bias = index % 2 == 1;
        let expected = if is_bias && !biased { slot.exact.clone() } else { sum(&slot.exact, &expected[index]) };
        assert_close(device, name, &slot.tensor, &expected, allowed, 1.0);
    }

    // Stored: the same without what was there.
    let shapes: [&[usize]; 4] = [&[width, hidden_width], &[hidden_width], &[hidden_width, width], &[width]];
    let mut stored = shapes.map(|shape| device.unwritten(shape));
    let [up, up_bias, down, down_bias] = &mut stored;
    let slots = MlpGradients { up, up_bias: biased.then_some(up_bias), down, down_bias: biased.then_some(down_bias) };
    device.mlp_backward(&dy.tensor, &x.tensor, &hidden, weights.tensors(biased), kind, slots, Beta::Zero).unwrap();
    for (index, stored) in stored.iter().enumerate().filter(|(index, _)| biased || index % 2 == 0) {
        assert_close(device, "stored", stored, &expected[index], allowed, 1.0);
    }

    if let Some([naive_dx, naive @ ..]) = device.naively(definition) {
        assert_within_twice_naive(device, "dx", &got, &dx, &naive_dx);
        for (index, name) in [(0, "d_up"), (2, "d_down")] {
            let slot = &gradients.0[index];
            let [exact, naive] = [&expected, &naive].map(|all| sum(&slot.exact, &all[index]));
            assert_within_twice_naive(device, name, &slot.tensor, &exact, &naive);
        }
    }

    if rows * width * hidden_width < 2000 {
        let dy = &dy.exact;
        let loss = |x: &[f64], weights: [&[f64]; 4]| dot(&mlp(x, weights, biased, kind, rows).0, dy);
        let exact = weights.exact();
        assert_matches_finite_differences("dx", &dx, &x.exact, |x| loss(x, exact));
        for index in (0..4).filter(|index| biased || index % 2 == 0) {
            assert_matches_finite_differences("weights", &expected[index], exact[index], |point| {
                let mut weights = exact;
                weights[index] = point;
                loss(&x.exact, weights)
            });
        }
    }
}

/// Rows, and hidden columns, beside every vector and tile.
pub fn bounds<D: Device>(device: &Tested<D>) {
    let sizes = [(65, 9, 65), (1, 1, 1), (63, 8, 64), (64, 16, 63), (33, 7, 72), (2, 24, 127), (3, 33, 8), (5, 4, 4)];
    each(sizes.into_iter().enumerate(), |(index, (rows, width, hidden))| {
        let kind = Activation::VALUES[index % Activation::VALUES.len()].value;
        check_forward(device, (index as u64, kind, index % 2 == 0, rows, width, hidden));
        check_backward(device, (index as u64, kind, index % 2 == 0, rows, width, hidden));
    });
}

/// What is stored is rounded once, and everything that uses it again uses what was stored: the activation and its slope those of the stored
/// hidden values, forward and backward alike; the slope is multiplied before the gradient is rounded.
///
/// One of the weights is the identity, so that what is between the two GEMMs comes out as it is.
pub fn rounded_where_stored<D: Device>(device: &Tested<D>) {
    each([(37, 16), (21, 13)], |(rows, width)| {
        for kind in Activation::VALUES.iter().map(|named| named.value) {
            check_roundings(device, kind, rows, width);
        }
    });
}

/// The identity.
fn identity<D: Device>(device: &Tested<D>, width: usize) -> Both<D> {
    let mut identity = vec![0.0; width * width];
    identity.iter_mut().step_by(width + 1).for_each(|one| *one = 1.0);
    Both::new(device, &[width, width], identity)
}

/// Of an activation of a sum of `width` terms: a few more operations in f32.
fn in_f32(width: usize) -> f64 {
    sum_in_f32(width) + 16.0 * EPSILON
}

/// `hidden = x · up + bias`, which is stored, and the activation of what is stored.
pub fn check_forward_roundings<D: Device>(
    device: &Tested<D>,
    kind: Activation,
    rows: usize,
    width: usize,
) -> MlpOutput<D::Tensor> {
    let random = &mut device.random(rows as u64);
    let identity = identity(device, width);
    let x = Both::random(device, random, &[rows, width]);
    let up = Both::random(device, random, &[width, width]);
    let bias = Both::floats(device, random, &[width]);

    let weights = MlpWeights { up: &up.tensor, up_bias: Some(&bias.tensor), down: &identity.tensor, down_bias: None };
    let out = device.mlp(&x.tensor, weights, kind).unwrap();
    let exact = reference::linear(&x.exact, &up.exact, InOut, Some(&bias.exact), Sizes(rows, width, width));
    assert_rounded_once(device, "hidden", &out.hidden, &exact, in_f32(width), 1.0);
    let hidden = device.download(&out.hidden).unwrap();
    let activated: Vec<f64> = hidden.iter().map(|&x| reference::activation(kind, f64::from(x))).collect();
    assert_rounded_once(device, "activated", &out.output, &activated, in_f32(width), 1.0);
    out
}

/// `d_hidden = (dy · downᵀ) ∘ act'(hidden)`, rounded once; down's gradient is of the activation as it was stored, up's of d_hidden as it is
/// stored.
pub fn check_roundings<D: Device>(device: &Tested<D>, kind: Activation, rows: usize, width: usize) {
    let to_f64 = |tensor: &D::Tensor| device.download(tensor).unwrap().into_iter().map(f64::from).collect::<Vec<_>>();
    let out = check_forward_roundings(device, kind, rows, width);
    let (hidden, activated) = (to_f64(&out.hidden), to_f64(&out.output));

    let random = &mut device.random(rows as u64 + 1);
    let [x, dy] = [(); 2].map(|()| Both::random(device, random, &[rows, width]));
    let (identity, down) = (identity(device, width), Both::random(device, random, &[width, width]));
    let [mut d_up, mut d_down] = [(); 2].map(|()| device.zeros(&[width, width]).unwrap());
    let [mut d_up_bias, mut d_down_bias] = [(); 2].map(|()| device.zeros(&[width]).unwrap());
    let weights = MlpWeights { up: &identity.tensor, up_bias: None, down: &down.tensor, down_bias: None };
    let slots = MlpGradients {
        up: &mut d_up,
        up_bias: Some(&mut d_up_bias),
        down: &mut d_down,
        down_bias: Some(&mut d_down_bias),
    };
    let dx = device.mlp_backward(&dy.tensor, &x.tensor, &out.hidden, weights, kind, slots, Beta::One).unwrap();

    let mut exact = matmul(&dy.exact, &transpose(&down.exact, width, width), rows, width, width);
    exact.iter_mut().zip(&hidden).for_each(|(d, &x)| *d *= activation_derivative(kind, x));
    assert_rounded_once(device, "d_hidden", &dx, &exact, 2.0 * in_f32(width), 1.0);
    let (d_hidden, of_rows) = (to_f64(&dx), sum_in_f32(rows));
    let expected = matmul(&transpose(&activated, rows, width), &dy.exact, width, rows, width);
    assert_close(device, "d_down", &d_down, &expected, of_rows, 1.0);
    let expected = matmul(&transpose(&x.exact, rows, width), &d_hidden, width, rows, width);
    assert_close(device, "d_up", &d_up, &expected, of_rows, 1.0);
    assert_close(device, "d_up_bias", &d_up_bias, &column_sums(&d_hidden, width), of_rows, 1.0);
    assert_close(device, "d_down_bias", &d_down_bias, &column_sums(&dy.exact, width), of_rows, 1.0);
}

/// A NaN among the hidden values reaches its row of the results, and nothing of the others.
pub fn a_nan_stays_in_its_row<D: Device>(device: &Tested<D>) {
    for (rows, width) in [(9, 16), (9, 5)] {
        for kind in Activation::VALUES.iter().map(|named| named.value) {
            let random = &mut device.random(13);
            let x = Both::random(device, random, &[rows, width]);
            let weights = Weights::random(device, random, width, width);
            let out = device.mlp(&x.tensor, weights.tensors(true), kind).unwrap();
            let hidden = device.download(&out.hidden).unwrap();
            let backward = |hidden: &[f32]| {
                let hidden = device.upload(&[rows, width], hidden).unwrap();
                let mut gradients = Weights::random(device, &mut device.random(14), width, width);
                let slots = gradients.gradients(true);
                let dx =
                    device.mlp_backward(&x.tensor, &x.tensor, &hidden, weights.tensors(true), kind, slots, Beta::One);
                device.download(&dx.unwrap()).unwrap()
            };
            let clean = backward(&hidden);
            for row in 0..rows {
                let (mut dirty, mut expected) = (hidden.clone(), clean.clone());
                dirty[row * width + width - 1] = f32::NAN;
                expected[row * width..(row + 1) * width].fill(f32::NAN);
                assert_bits("dx", &backward(&dirty), &expected);
            }
        }
    }
}

/// The activations and their derivatives where they are nearly 0 or nearly the identity.
pub fn large_values<D: Device>(device: &Tested<D>) {
    let inputs = [
        -1e38, -1e4, -200.0, -60.0, -20.0, -8.0, -3.0, -1e-3, -1e-30, 0.0, 1e-40, 1e-3, 3.0, 8.0, 20.0, 60.0, 200.0,
        1e4, 1e38,
    ];
    let rows = inputs.len();
    let one = |value| device.upload(&[1, 1], &[value]).unwrap();
    let (up, down) = (one(1.0), one(1.0));
    let weights = || MlpWeights { up: &up, up_bias: None, down: &down, down_bias: None };

    let x = Both::new(device, &[rows, 1], inputs.to_vec());
    let dy = Both::new(device, &[rows, 1], vec![1.0; rows]);

    for kind in Activation::VALUES.iter().map(|named| named.value) {
        let out = device.mlp(&x.tensor, weights(), kind).unwrap();

        let (mut d_up, mut d_down) = (one(0.0), one(0.0));
        let slots = MlpGradients { up: &mut d_up, up_bias: None, down: &mut d_down, down_bias: None };
        let dx = device.mlp_backward(&dy.tensor, &x.tensor, &out.hidden, weights(), kind, slots, Beta::One).unwrap();
        let (output, dx) = (device.download(&out.output).unwrap(), device.download(&dx).unwrap());

        for (row, &x) in x.exact.iter().enumerate() {
            let expected = [reference::activation(kind, x), reference::activation_derivative(kind, x)];
            // Where σ is 1, a GPU's division may be 2 units off: 1 − σ is not 0 then, and the slope has it times 1.702 x.
            let of_sigmoid = [0.0, 2.0 * EPSILON * 1.702 * x.abs()];
            for ((got, expected), of_sigmoid) in [output[row], dx[row]].into_iter().zip(expected).zip(of_sigmoid) {
                let allowed = 8.0 * device.epsilon() * (1.0 + expected.abs()) + of_sigmoid;
                assert!((f64::from(got) - expected).abs() <= allowed, "{kind:?} {x}: got {got}, expected {expected}");
            }

            // The left tail keeps its digits, until it is subnormal: of an exponent's error x² is the factor, at most.
            let relative = 0.5 * device.epsilon() + EPSILON * (16.0 + 2.0 * x * x);
            let allowed = relative * expected[0].abs() + 100.0 * f64::from(f32::MIN_POSITIVE);
            let error = (f64::from(output[row]) - expected[0]).abs();
            assert!(error <= allowed, "{kind:?} {x}: got {}, expected {}; off by {error:e}", output[row], expected[0]);
        }
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let zeros = |shape: &[usize]| device.zeros(shape).unwrap();
    let (x, up, down) = (zeros(&[3, 4]), zeros(&[4, 16]), zeros(&[16, 4]));
    let weights = MlpWeights { up: &up, up_bias: None, down: &up, down_bias: None };
    assert_error(device.mlp(&x, weights, Activation::Gelu), &["mlp: down must be [16, 4], not [4, 16]"]);
    let bias = zeros(&[4]);
    let weights = MlpWeights { up: &up, up_bias: Some(&bias), down: &down, down_bias: None };
    assert_error(device.mlp(&x, weights, Activation::Gelu), &["mlp: up_bias must be [16], not [4]"]);
    let weights = MlpWeights { up: &up, up_bias: None, down: &down, down_bias: None };
    let (mut d_up, mut d_down) = (zeros(&[4, 16]), zeros(&[4, 16]));
    let slots = MlpGradients { up: &mut d_up, up_bias: None, down: &mut d_down, down_bias: None };
    let result = device.mlp_backward(&x, &x, &zeros(&[3, 16]), weights, Activation::Gelu, slots, Beta::One);
    assert_error(result, &["mlp_backward: the gradient of down must be [16, 4], not [4, 16]"]);
}
