//! The MLP.

use igpt_engine::device::{Activation, Device, MlpGradients, MlpWeights};
use igpt_engine::named::Named;
use proptest::prelude::{Strategy, any};
use proptest::sample::select;

use super::reference::{self, Sizes, activation_derivative, column_sums, matmul, transpose};
use super::support::{
    Both, Random, Tested, assert_close, assert_error, assert_matches_finite_differences, assert_within_twice_naive,
    dot, property, sum,
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

/// GEMMs that a GPU cuts into large tiles.
pub fn large<D: Device>(device: &Tested<D>) {
    let case = (3, Activation::QuickGelu, true, 1100, 24, 1032);
    check_forward(device, case);
    check_backward(device, case);
}

pub fn check_forward<D: Device>(device: &Tested<D>, case: Case) {
    let (seed, kind, biased, rows, width, hidden) = case;
    let random = &mut device.random(seed);
    let x = Both::random(device, random, &[1, rows, width]);
    let weights = Weights::random(device, random, width, hidden);
    let out = device.mlp(&x.tensor, weights.tensors(biased), kind).unwrap();
    assert_eq!(device.shape(&out.hidden), [1, rows, hidden]);

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
    let got = device.mlp_backward(&dy.tensor, &x.tensor, &hidden, weights.tensors(biased), kind, slots).unwrap();

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

/// The activations and their derivatives where they are nearly 0 or nearly the identity.
pub fn large_values<D: Device>(device: &Tested<D>) {
    let inputs = [-200.0, -60.0, -20.0, -8.0, -3.0, -1e-3, 0.0, 1e-3, 3.0, 8.0, 20.0, 60.0, 200.0];
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
        let dx = device.mlp_backward(&dy.tensor, &x.tensor, &out.hidden, weights(), kind, slots).unwrap();
        let (output, dx) = (device.download(&out.output).unwrap(), device.download(&dx).unwrap());

        for (row, &x) in x.exact.iter().enumerate() {
            let expected = [reference::activation(kind, x), reference::activation_derivative(kind, x)];
            for (got, expected) in [output[row], dx[row]].into_iter().zip(expected) {
                let allowed = 8.0 * device.epsilon() * (1.0 + expected.abs());
                assert!((f64::from(got) - expected).abs() <= allowed, "{kind:?} {x}: got {got}, expected {expected}");
            }
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
    let result = device.mlp_backward(&x, &x, &zeros(&[3, 16]), weights, Activation::Gelu, slots);
    assert_error(result, &["mlp_backward: the gradient of down must be [16, 4], not [4, 16]"]);
}
