//! Norms, alone and of residual sums.

use std::rc::Rc;

use igpt_engine::device::{Beta, Device, Norm, PartialSum};
use proptest::prelude::{Strategy, any};

use super::reference;
use super::support::{
    Both, EPSILON, FACTORS, Tested, assert_bits, assert_close, assert_error, assert_matches_finite_differences,
    assert_rounded_once, assert_within_twice_naive, dot, each, property, scaled, sum, sum_in_f32, two, upload,
};

/// Seed, mean-centred, bias, rows, width.
type Case = (u64, bool, bool, usize, usize);

fn cases() -> impl Strategy<Value = Case> {
    (any::<u64>(), any::<bool>(), any::<bool>(), 1..150usize, 1..100usize)
}

fn norm(layer: bool) -> Norm {
    if layer { Norm::Layer } else { Norm::Rms }
}

/// Rows of one or two elements can have a deviation near zero, and then their digits are lost in the mean: how much larger
/// than 1 the reciprocal deviation (rstd) is says how many.
fn amplification(stats: &[f64]) -> f64 {
    stats.chunks(2).fold(1.0, |max: f64, stats| max.max(stats[1]))
}

pub fn forward<D: Device>(device: &Tested<D>) {
    property(24, cases(), |case| check_forward(device, case));
}

pub fn backward<D: Device>(device: &Tested<D>) {
    property(24, cases(), |case| check_backward(device, case));
}

/// The presets' widths, and odd ones; rows that a GPU spreads over several warps.
pub fn wide<D: Device>(device: &Tested<D>) {
    for (seed, width) in [512, 513, 1000, 1024, 1536, 3072, 3073].into_iter().enumerate() {
        for layer in [false, true] {
            check_forward(device, (seed as u64, layer, layer, 11, width));
            check_backward(device, (seed as u64, layer, layer, 11, width));
        }
    }
}

pub fn check_forward<D: Device>(device: &Tested<D>, case: Case) {
    let (seed, layer, biased, rows, width) = case;
    let (norm, random) = (norm(layer), &mut device.random(seed));
    let [x, delta] = [(); 2].map(|()| Both::random(device, random, &[rows, width]));
    let [gain, bias] = [(); 2].map(|()| Both::floats(device, random, &[width]));
    let (exact_bias, bias) = (biased.then_some(&bias.exact[..]), biased.then_some(&bias.tensor));

    let out = device.layernorm(norm, &x.tensor, &gain.tensor, bias).unwrap();
    let (y, stats) = reference::layernorm(norm, &x.exact, &gain.exact, exact_bias);
    let lost = amplification(&stats);
    // Rows are exact, everything within is f32.
    assert_rounded_once(device, "normed", &out.normed, &y, sum_in_f32(width) * lost, 1.0);
    assert_close(device, "stats", &out.stats, &stats, sum_in_f32(width) * lost, 1.0);
    assert_eq!(device.shape(&out.stats), [rows, 2]);
    if let Some((naive, _)) = device.naively(|| reference::layernorm(norm, &x.exact, &gain.exact, exact_bias)) {
        assert_within_twice_naive(device, "normed", &out.normed, &y, &naive);
    }

    let out = device.residual_layernorm(norm, &x.tensor, &delta.tensor, &gain.tensor, bias).unwrap();
    let rounded: Vec<f64> = sum(&x.exact, &delta.exact).into_iter().map(|sum| device.representable(sum)).collect();
    let expected: Vec<f32> = rounded.iter().map(|sum| *sum as f32).collect();
    assert_bits("sum", &device.download(&out.sum).unwrap(), &expected);
    // The norm is of the sum as it was rounded.
    let (y, stats) = reference::layernorm(norm, &rounded, &gain.exact, exact_bias);
    let lost = amplification(&stats);
    assert_rounded_once(device, "normed sum", &out.normed, &y, sum_in_f32(width) * lost, 1.0);
    assert_close(device, "stats of the sum", &out.stats, &stats, sum_in_f32(width) * lost, 1.0);
}

pub fn check_backward<D: Device>(device: &Tested<D>, case: Case) {
    let (seed, layer, biased, rows, width) = case;
    let (norm, random) = (norm(layer), &mut device.random(seed));
    let [x, dy, residual_grad] = [(); 3].map(|()| Both::random(device, random, &[rows, width]));
    let [gain, mut d_gain, mut d_bias] = [(); 3].map(|()| Both::floats(device, random, &[width]));

    let stats = device.layernorm(norm, &x.tensor, &gain.tensor, None).unwrap().stats;
    let definition = || reference::layernorm_backward(norm, &dy.exact, &x.exact, &gain.exact);
    let (dx, gain_gradient, bias_gradient) = definition();
    let (_, exact_stats) = reference::layernorm(norm, &x.exact, &gain.exact, None);
    // The digits lost in the deviation are lost once more where the gradient divides by it.
    let lost = amplification(&exact_stats).powi(2);

    let bias_slot = biased.then_some(&mut d_bias.tensor);
    let got = device
        .layernorm_backward(
            norm,
            &dy.tensor,
            &x.tensor,
            &gain.tensor,
            &stats,
            None,
            &mut d_gain.tensor,
            bias_slot,
            Beta::One,
        )
        .unwrap();
    // Of the sums each has a few more operations behind it, some of which cancel.
    assert_rounded_once(device, "dx", &got, &dx, 4.0 * sum_in_f32(width) * lost, 1.0);
    let summed = sum(&d_gain.exact, &gain_gradient);
    assert_close(device, "d_gain", &d_gain.tensor, &summed, (sum_in_f32(rows) + sum_in_f32(width)) * lost, 1.0);
    if let Some((naive_dx, naive_gain, _)) = device.naively(definition) {
        assert_within_twice_naive(device, "dx", &got, &dx, &naive_dx);
        assert_within_twice_naive(device, "d_gain", &d_gain.tensor, &summed, &sum(&d_gain.exact, &naive_gain));
    }
    let expected = if biased { sum(&d_bias.exact, &bias_gradient) } else { d_bias.exact.clone() };
    assert_close(device, "d_bias", &d_bias.tensor, &expected, sum_in_f32(rows), 1.0);

    // Stored: the same without what was there.
    let [mut stored, mut stored_bias] = [(); 2].map(|()| device.unwritten(&[width]));
    let (slot, tensors) = (Some(&mut stored_bias), (&dy.tensor, &x.tensor, &gain.tensor));
    device
        .layernorm_backward(norm, tensors.0, tensors.1, tensors.2, &stats, None, &mut stored, slot, Beta::Zero)
        .unwrap();
    let allowed = (sum_in_f32(rows) + sum_in_f32(width)) * lost;
    assert_close(device, "d_gain, stored", &stored, &gain_gradient, allowed, 1.0);
    assert_close(device, "d_bias, stored", &stored_bias, &bias_gradient, sum_in_f32(rows), 1.0);

    // A stream's gradient that something else needs keeps its values.
    let shared = Rc::new(upload(device, &[rows, width], &residual_grad.exact));
    let elsewhere = Some(Rc::clone(&shared));
    let out = device.layernorm_gradients(norm, tensors.0, tensors.1, tensors.2, &stats, elsewhere, false).unwrap();
    assert_close(device, "the stream's gradient", &shared, &residual_grad.exact, 0.0, 0.0);
    let both = sum(&residual_grad.exact, &dx);
    assert_rounded_once(device, "dx beside a stream", &out.dx, &both, 4.0 * sum_in_f32(width) * lost, 1.0);

    let (x, dy, gain) = (&x, &dy, &gain);
    let mut ignored = device.zeros(&[width]).unwrap();
    let got = device
        .layernorm_backward(
            norm,
            &dy.tensor,
            &x.tensor,
            &gain.tensor,
            &stats,
            Some(residual_grad.tensor),
            &mut ignored,
            None,
            Beta::One,
        )
        .unwrap();
    let both = sum(&residual_grad.exact, &dx);
    assert_rounded_once(device, "dx and residual", &got, &both, 4.0 * sum_in_f32(width) * lost, 1.0);

    // Differences need a deviation that their step does not change much.
    if rows * width <= 300 && lost < 1e3 {
        let loss = |x: &[f64], gain: &[f64]| dot(&reference::layernorm(norm, x, gain, None).0, &dy.exact);
        assert_matches_finite_differences("dx", &dx, &x.exact, |x| loss(x, &gain.exact));
        assert_matches_finite_differences("d_gain", &gain_gradient, &gain.exact, |gain| loss(&x.exact, gain));
    }
}

/// Widths beside every vector and at the end of every group of warps, rows beside every group; a lone column and a lone row; more rows
/// than the partial sums of gains have blocks (256 of 8, of 2 and of 1).
pub fn bounds<D: Device>(device: &Tested<D>) {
    let widths = [520, 1, 2, 7, 8, 9, 31, 32, 33, 504, 505, 511, 514, 1032, 2048, 2056, 4088, 4095, 4096];
    each(widths.into_iter().enumerate(), |(index, width)| {
        let (layer, rows) = (index % 2 == 0, [3, 1, 8, 9][index % 4]);
        check_forward(device, (width as u64, layer, layer, rows, width));
        check_backward(device, (width as u64, layer, layer, rows, width));
    });
    each([(2057, 8), (2048, 8), (2049, 7), (515, 1032), (258, 2056)], |(rows, width)| {
        check_backward(device, (rows as u64, true, true, rows, width));
    });
}

/// Rows far smaller than epsilon, whose deviation is epsilon's; a row of zeros, whose norm is the bias.
pub fn small_rows<D: Device>(device: &Tested<D>) {
    for (norm, width) in [(Norm::Layer, 24), (Norm::Rms, 24), (Norm::Layer, 13), (Norm::Rms, 13)] {
        let random = &mut device.random(9);
        for factor in [two(-8), two(-40), 0.0] {
            let values: Vec<f64> = random.values(2 * width).iter().map(|value| value * f64::from(factor)).collect();
            let x = Both::new(device, &[2, width], values);
            let [gain, bias] = [(); 2].map(|()| Both::floats(device, random, &[width]));
            let out = device.layernorm(norm, &x.tensor, &gain.tensor, Some(&bias.tensor)).unwrap();
            let (y, stats) = reference::layernorm(norm, &x.exact, &gain.exact, Some(&bias.exact));
            assert_rounded_once(device, "normed", &out.normed, &y, sum_in_f32(width), 1.0);
            assert_close(device, "stats", &out.stats, &stats, sum_in_f32(width), 1.0);
        }
    }
}

/// A NaN reaches all of its row, and nothing of the others; the gradient scales exactly with a power of two.
pub fn values_of_any_size<D: Device>(device: &Tested<D>) {
    for (norm, width) in [(Norm::Layer, 24), (Norm::Rms, 13)] {
        let (rows, random) = (10, &mut device.random(10));
        let mut values = |len: usize| random.values(len).into_iter().map(|value| value as f32).collect::<Vec<_>>();
        let (x, dy, gain) = (values(rows * width), values(rows * width), values(width));
        let gain = device.upload(&[width], &gain).unwrap();
        let forward =
            |x: &[f32]| device.layernorm(norm, &device.upload(&[rows, width], x).unwrap(), &gain, None).unwrap();
        let out = forward(&x);
        let clean = device.download(&out.normed).unwrap();
        for row in 0..rows {
            let mut dirty = x.clone();
            dirty[row * width + row] = f32::NAN;
            let mut expected = clean.clone();
            expected[row * width..(row + 1) * width].fill(f32::NAN);
            assert_bits("normed", &device.download(&forward(&dirty).normed).unwrap(), &expected);
        }

        let x = device.upload(&[rows, width], &x).unwrap();
        let backward = |dy: &[f32]| {
            let dy = device.upload(&[rows, width], dy).unwrap();
            let [mut d_gain, mut d_bias] = [(); 2].map(|()| device.zeros(&[width]).unwrap());
            let slot = Some(&mut d_bias);
            let dx = device
                .layernorm_backward(norm, &dy, &x, &gain, &out.stats, None, &mut d_gain, slot, Beta::One)
                .unwrap();
            [dx, d_gain, d_bias].map(|tensor| device.download(&tensor).unwrap())
        };
        let clean = backward(&dy);
        for factor in FACTORS {
            for (got, clean) in backward(&scaled(&dy, factor)).iter().zip(&clean) {
                assert_bits("gradients", got, &scaled(clean, factor));
            }
        }
    }
}

/// A mean of 1000 deviations does not drown the variance.
pub fn far_from_zero<D: Device>(device: &Tested<D>) {
    let width = 96;
    let exact: Vec<f64> = device.random(2).values(3 * width).iter().map(|x| f64::from((1000.0 + x) as f32)).collect();
    let x = Both::new(device, &[3, width], exact);
    let gain = Both::new(device, &[width], vec![1.0; width]);
    let out = device.layernorm(Norm::Layer, &x.tensor, &gain.tensor, None).unwrap();
    let (y, _) = reference::layernorm(Norm::Layer, &x.exact, &gain.exact, None);
    // The mean is rounded at 1000 times the deviation's size.
    assert_close(device, "normed", &out.normed, &y, (4000.0 * EPSILON).max(device.epsilon()), 1.0);
}

/// More sums than one launch takes, of two shapes, stored and added to.
pub fn many_sums<D: Device>(device: &Tested<D>) {
    each([131, 1, 128, 129], |count| check_sums(device, count));
}

/// Whole numbers, so that the sums are exact.
pub fn check_sums<D: Device>(device: &Tested<D>, count: usize) {
    let shape = |index: usize| if index < count / 2 { [3, 33] } else { [17, 5] };
    let partials = |index: usize| -> Vec<f32> {
        (0..shape(index).iter().product()).map(|at: usize| ((at * 7 + index) % 11) as f32 - 4.0).collect()
    };
    let beta = |index: usize| if index < count / 3 { Beta::Zero } else { Beta::One };
    let mut tensors: Vec<_> = (0..count)
        .map(|index| {
            let [blocks, width] = shape(index);
            let total = if beta(index) == Beta::Zero {
                device.unwritten(&[width])
            } else {
                device.upload(&[width], &vec![index as f32; width]).unwrap()
            };
            (device.upload(&[blocks, width], &partials(index)).unwrap(), total)
        })
        .collect();
    let sums = tensors.iter_mut().enumerate();
    let sums = sums.map(|(index, (partials, total))| PartialSum { partials, total, beta: beta(index) });
    device.sum_partials(sums.collect()).unwrap();

    for (index, (_, total)) in tensors.iter().enumerate() {
        let width = shape(index)[1];
        let mut expected = vec![if beta(index) == Beta::Zero { 0.0 } else { index as f32 }; width];
        partials(index).iter().enumerate().for_each(|(at, value)| expected[at % width] += value);
        assert_bits(&format!("sum {index}"), &device.download(total).unwrap(), &expected);
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let zeros = |shape: &[usize]| device.zeros(shape).unwrap();
    let (x, gain, stats) = (zeros(&[2, 3, 8]), zeros(&[8]), zeros(&[6, 2]));
    let mut d_gain = zeros(&[8]);
    assert_error(device.layernorm(Norm::Rms, &x, &zeros(&[4]), None), &["layernorm: gain must be [8], not [4]"]);
    assert_error(device.layernorm(Norm::Rms, &x, &gain, Some(&zeros(&[1]))), &["layernorm: bias must be [8], not [1]"]);
    let result = device.residual_layernorm(Norm::Rms, &x, &zeros(&[6, 8]), &gain, None);
    assert_error(result, &["residual_layernorm: delta must be [2, 3, 8], not [6, 8]"]);
    let result =
        device.layernorm_backward(Norm::Rms, &x, &x, &gain, &zeros(&[5, 2]), None, &mut d_gain, None, Beta::One);
    assert_error(result, &["layernorm_backward: stats must be [6, 2], not [5, 2]"]);
    let result =
        device.layernorm_backward(Norm::Rms, &x, &x, &gain, &stats, Some(zeros(&[48])), &mut d_gain, None, Beta::One);
    assert_error(result, &["layernorm_backward: d_stream must be [2, 3, 8], not [48]"]);
    let result = device.layernorm_backward(Norm::Rms, &x, &x, &gain, &stats, None, &mut zeros(&[7]), None, Beta::One);
    assert_error(result, &["layernorm_backward: d_gain must be [8], not [7]"]);
}
