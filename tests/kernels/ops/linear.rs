//! Linear layers.

use igpt_engine::device::{Device, WeightLayout};
use proptest::prelude::{Strategy, any};

use super::reference::{self, Sizes};
use super::support::{
    Both, Tested, assert_close, assert_error, assert_matches_finite_differences, assert_within_twice_naive, dot,
    property, sum,
};

/// Seed, layout, bias, rows, inputs, outputs.
type Case = (u64, bool, bool, usize, usize, usize);

fn cases() -> impl Strategy<Value = Case> {
    (any::<u64>(), any::<bool>(), any::<bool>(), 1..140usize, 1..70usize, 1..70usize)
}

fn layout(out_in: bool, inputs: usize, outputs: usize) -> (WeightLayout, [usize; 2]) {
    if out_in { (WeightLayout::OutIn, [outputs, inputs]) } else { (WeightLayout::InOut, [inputs, outputs]) }
}

pub fn forward<D: Device>(device: &Tested<D>) {
    property(24, cases(), |case| check_forward(device, case));
}

pub fn backward<D: Device>(device: &Tested<D>) {
    property(24, cases(), |case| check_backward(device, case));
}

/// GEMMs that a GPU cuts into large tiles, and sums over rows that it splits.
pub fn large<D: Device>(device: &Tested<D>) {
    for out_in in [false, true] {
        check_forward(device, (1, out_in, false, 1100, 40, 1032));
    }
    check_backward(device, (2, false, true, 1290, 520, 520));
    check_backward(device, (3, true, false, 600, 33, 65));
}

pub fn check_forward<D: Device>(device: &Tested<D>, case: Case) {
    let (seed, out_in, biased, rows, inputs, outputs) = case;
    let random = &mut device.random(seed);
    let (layout, shape) = layout(out_in, inputs, outputs);
    let x = Both::random(device, random, &[1, rows, inputs]);
    let weight = Both::random(device, random, &shape);
    let bias = Both::random(device, random, &[outputs]);

    let y = device.linear(&x.tensor, &weight.tensor, layout, biased.then_some(&bias.tensor)).unwrap();
    assert_eq!(device.shape(&y), [1, rows, outputs]);

    let exact_bias = biased.then_some(&bias.exact[..]);
    let definition = || reference::linear(&x.exact, &weight.exact, layout, exact_bias, Sizes(rows, inputs, outputs));
    let expected = definition();
    assert_close(device, "y", &y, &expected, device.tolerance(inputs), 1.0);
    if let Some(naive) = device.naively(definition) {
        assert_within_twice_naive(device, "y", &y, &expected, &naive);
    }
}

pub fn check_backward<D: Device>(device: &Tested<D>, case: Case) {
    let (seed, out_in, biased, rows, inputs, outputs) = case;
    let random = &mut device.random(seed);
    let sizes = Sizes(rows, inputs, outputs);
    let (layout, shape) = layout(out_in, inputs, outputs);
    let x = Both::random(device, random, &[rows, inputs]);
    let dy = Both::random(device, random, &[rows, outputs]);
    let [weight, mut d_weight] = [(); 2].map(|()| Both::random(device, random, &shape));
    let mut d_bias = Both::random(device, random, &[outputs]);

    let bias_slot = biased.then_some(&mut d_bias.tensor);
    let got =
        device.linear_backward(&dy.tensor, &x.tensor, &weight.tensor, layout, &mut d_weight.tensor, bias_slot).unwrap();

    let definition = || reference::linear_backward(&dy.exact, &x.exact, &weight.exact, layout, sizes);
    let (dx, weight_gradient, bias_gradient) = definition();
    assert_close(device, "dx", &got, &dx, device.tolerance(outputs), 1.0);
    let summed = sum(&d_weight.exact, &weight_gradient);
    assert_close(device, "d_weight", &d_weight.tensor, &summed, device.tolerance(rows), 1.0);
    let expected = if biased { sum(&d_bias.exact, &bias_gradient) } else { d_bias.exact.clone() };
    assert_close(device, "d_bias", &d_bias.tensor, &expected, device.tolerance(rows), 1.0);

    if let Some((naive_dx, naive_weight, _)) = device.naively(definition) {
        assert_within_twice_naive(device, "dx", &got, &dx, &naive_dx);
        assert_within_twice_naive(device, "d_weight", &d_weight.tensor, &summed, &sum(&d_weight.exact, &naive_weight));
    }

    if rows * inputs * outputs < 2000 {
        let loss = |x: &[f64], w: &[f64]| dot(&reference::linear(x, w, layout, None, sizes), &dy.exact);
        assert_matches_finite_differences("dx", &dx, &x.exact, |x| loss(x, &weight.exact));
        assert_matches_finite_differences("d_weight", &weight_gradient, &weight.exact, |weight| loss(&x.exact, weight));
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let zeros = |shape: &[usize]| device.zeros(shape).unwrap();
    let (x, weight, dy) = (zeros(&[2, 3, 8]), zeros(&[8, 5]), zeros(&[2, 3, 5]));
    assert_error(device.linear(&x, &weight, WeightLayout::OutIn, None), &["linear: weight must be [8, 8], not [8, 5]"]);
    assert_error(
        device.linear(&x, &zeros(&[8]), WeightLayout::InOut, None),
        &["linear: weight must be a matrix, not [8]"],
    );
    let bias = zeros(&[8]);
    assert_error(device.linear(&x, &weight, WeightLayout::InOut, Some(&bias)), &["linear: bias must be [5], not [8]"]);
    let mut d_weight = zeros(&[8, 5]);
    let result = device.linear_backward(&zeros(&[6, 5]), &x, &weight, WeightLayout::InOut, &mut d_weight, None);
    assert_error(result, &["linear_backward: dy must be [2, 3] and then 5, not [6, 5]"]);
    let result = device.linear_backward(&dy, &x, &weight, WeightLayout::InOut, &mut zeros(&[5, 8]), None);
    assert_error(result, &["linear_backward: d_weight must be [8, 5], not [5, 8]"]);
}
