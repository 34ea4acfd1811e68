//! Adam, and the clipping of its gradients.

use std::slice::{from_mut, from_ref};

use igpt_engine::device::{AdamStep, Clip, Device, WeightLayout};
use proptest::prelude::any;

use super::reference::Adam;
use super::support::{Both, EPSILON, Tested, assert_bits, assert_close, assert_error, each, property, scaled, two};

const EXACT: Adam = Adam { learning_rate: 0.015625, beta1: 0.875, beta2: 0.9375, epsilon: 1.0 / 1024.0 };

/// [`EXACT`], whose numbers floats can hold.
fn step(step: u64) -> AdamStep {
    AdamStep {
        learning_rate: EXACT.learning_rate as f32,
        beta1: EXACT.beta1 as f32,
        beta2: EXACT.beta2 as f32,
        epsilon: EXACT.epsilon as f32,
        step,
    }
}

pub fn three_steps<D: Device>(device: &Tested<D>) {
    property(12, (any::<u64>(), 1..3000usize), |(seed, len)| check(device, seed, len, 3));
}

/// Every element beside the kernel's vectors, and more of them than a grid takes in one stride: 8 blocks of 256 threads, 4 elements each,
/// for every multiprocessor of an H100.
pub fn tails<D: Device>(device: &Tested<D>) {
    const LARGE: usize = 132 * 8 * 256 * 4 + 5;
    each([7, LARGE, 1, 2, 3, 4, 5, 6, 8, 9, 255, 256, 257, 1023, 1025, 1030], |len| {
        check(device, len as u64, len, if len == LARGE { 1 } else { 2 });
    });
}

/// Tensors of one call: more than a launch takes, whole chunks of 16,384 elements, and one more or less.
pub fn many_tensors<D: Device>(device: &Tested<D>) {
    check_tensors(device, &[16_384, 16_385, 1, 16_383, 32_768, 32_769, 7]);
    check_tensors(device, &(0..170).map(|index| 1 + index % 9).collect::<Vec<_>>());
}

/// One step of tensors of these lengths.
pub fn check_tensors<D: Device>(device: &Tested<D>, lengths: &[usize]) {
    let random = &mut device.random(5);
    let mut both = || lengths.iter().map(|len| Both::floats(device, random, &[*len])).collect::<Vec<Both<D>>>();
    let (parameters, gradients) = (both(), both());
    let (mut exact, mut p): (Vec<_>, Vec<_>) = parameters.into_iter().map(|both| (both.exact, both.tensor)).unzip();
    let (slopes, g): (Vec<_>, Vec<_>) = gradients.into_iter().map(|both| (both.exact, both.tensor)).unzip();
    let moments = || lengths.iter().map(|len| device.zeros(&[*len]).unwrap()).collect::<Vec<_>>();
    let (mut m, mut v) = (moments(), moments());
    device.adam(&mut p, &g, &mut m, &mut v, step(1), None).unwrap();

    for (index, (parameter, gradient)) in exact.iter_mut().zip(&slopes).enumerate() {
        let [mut first, mut second] = [(); 2].map(|()| vec![0.0; gradient.len()]);
        let moments = first.iter_mut().zip(&mut second);
        for ((p, g), (m, v)) in parameter.iter_mut().zip(gradient).zip(moments) {
            EXACT.step(p, *g, m, v, 1);
        }
        assert_close(device, &format!("parameter {index}"), &p[index], parameter, 16.0 * EPSILON, 1.0);
        assert_close(device, &format!("first moment {index}"), &m[index], &first, 16.0 * EPSILON, 1.0);
        assert_close(device, &format!("second moment {index}"), &v[index], &second, 16.0 * EPSILON, 1e-3);
    }
}

/// What GEMMs read of a parameter: in bf16 a copy that is made once, and that Adam keeps up to date.
fn copy<D: Device>(device: &Tested<D>, parameter: &D::Tensor) -> Vec<f32> {
    device.download(&device.mean_pool(parameter).unwrap()).unwrap()
}

/// The first `steps` steps of `len` elements: parameter, moments, and the copy of the parameter.
pub fn check<D: Device>(device: &Tested<D>, seed: u64, len: usize, steps: u64) {
    let random = &mut device.random(seed);
    let mut parameter = Both::random(device, random, &[1, 1, len]);
    let [mut first, mut second] = [(); 2].map(|()| Both::new(device, &[1, 1, len], vec![0.0; len]));
    copy(device, &parameter.tensor);

    for t in 1..=steps {
        let gradient = Both::random(device, random, &[1, 1, len]);
        let (p, m, v) = (&mut parameter.tensor, &mut first.tensor, &mut second.tensor);
        device.adam(from_mut(p), from_ref(&gradient.tensor), from_mut(m), from_mut(v), step(t), None).unwrap();

        let moments = first.exact.iter_mut().zip(&mut second.exact);
        for ((p, g), (m, v)) in parameter.exact.iter_mut().zip(&gradient.exact).zip(moments) {
            EXACT.step(p, *g, m, v, t as i32);
        }
    }

    // A handful of operations on each element, `steps` times over. Where gradients cancel in the first moment the update has an error of
    // some epsilons of the learning rate.
    assert_close(device, "parameter", &parameter.tensor, &parameter.exact, 16.0 * EPSILON, 1.0);
    assert_close(device, "first moment", &first.tensor, &first.exact, 16.0 * EPSILON, 1.0);
    assert_close(device, "second moment", &second.tensor, &second.exact, 16.0 * EPSILON, 1e-3);

    let values = device.download(&parameter.tensor).unwrap();
    let rounded: Vec<f32> = values.iter().map(|value| device.representable(f64::from(*value)) as f32).collect();
    assert_bits("copy", &copy(device, &parameter.tensor), &rounded);
}

/// Parameter and moments after the first step from zero, for these gradients.
fn first_step<D: Device>(device: &Tested<D>, gradient: &[f32], clip: Option<(f32, f32)>) -> [Vec<f32>; 3] {
    let shape = [1, 1, gradient.len()];
    let [mut p, mut m, mut v] = [(); 3].map(|()| device.zeros(&shape).unwrap());
    let gradient = device.upload(&shape, gradient).unwrap();
    let norm = device.upload(&[1], &[clip.map_or(0.0, |(norm, _)| norm)]).unwrap();
    let clip = clip.map(|(_, max_norm)| Clip { norm: &norm, max_norm });
    device.adam(from_mut(&mut p), from_ref(&gradient), from_mut(&mut m), from_mut(&mut v), step(1), clip).unwrap();
    [p, m, v].map(|tensor| device.download(&tensor).unwrap())
}

/// Longer gradients are shortened to `max_norm`, shorter ones are not lengthened; in vectors and beside them.
pub fn clipping<D: Device>(device: &Tested<D>) {
    let gradient = [1.0, -2.0, 0.5, 4.0, 3.0, -0.25, 8.0];
    let (max, tiny) = (f32::MAX, f32::from_bits(1));
    for (norm, max_norm, factor) in [
        (8.0, 2.0, 0.25),
        (2.0, 2.0, 1.0),
        (0.5, 2.0, 1.0),
        (0.0, 2.0, 1.0),
        (tiny, 2.0, 1.0),
        (two(127), 2.0, two(-126)),
        (two(127), 0.25, two(-129)),
        (max, max, 1.0),
        (max, f32::INFINITY, 1.0),
    ] {
        let clipped = first_step(device, &gradient, Some((norm, max_norm)));
        let shortened = first_step(device, &scaled(&gradient, factor), None);
        for ((name, clipped), shortened) in ["parameter", "first", "second"].into_iter().zip(clipped).zip(shortened) {
            assert_bits(&format!("{name}, {norm:e} of {max_norm:e}"), &clipped, &shortened);
        }
    }
}

/// One gradient whose square is no f32, or that is itself none, in every place of a vector and beside it; the others keep theirs.
pub fn ends_of_the_range<D: Device>(device: &Tested<D>) {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let cases = [
        // (1 − β₂) g² is finite where g² is not: an update like any other, of the learning rate.
        (two(65), [-two(-6), two(62), two(126)]),
        // No update where the second moment is infinite, one by epsilon where it vanishes.
        (two(100), [0.0, two(97), inf]),
        (two(-100), [-two(-96), two(-103), 0.0]),
        // Subnormal, and so are the first moment and the update.
        (two(-140), [-two(-136), two(-143), 0.0]),
        (inf, [nan, inf, inf]),
        (nan, [nan; 3]),
    ];
    let plain = first_step(device, &[0.5; 7], None);
    for (gradient, expected) in cases {
        for at in 0..7 {
            let mut gradients = [0.5; 7];
            gradients[at] = gradient;
            for (index, got) in first_step(device, &gradients, None).into_iter().enumerate() {
                let mut all = plain[index].clone();
                all[at] = expected[index];
                assert_bits(&format!("{index} of {gradient:e} at {at}"), &got, &all);
            }
        }
    }
}

/// A norm that is not finite leaves parameter, moments and the copy that GEMMs read to the last bit, whatever the number of
/// elements beside the kernel's vectors, clipped or not; the next one that is finite updates them as if nothing had been.
pub fn norms_that_are_not_finite_change_nothing<D: Device>(device: &Tested<D>) {
    for outputs in [1, 2, 3, 4, 5, 6, 7, 8, 9, 257, 1030] {
        let random = &mut device.random(outputs as u64);
        let x = Both::random(device, random, &[1, 1, 1]).tensor;
        let [mut p, mut m, mut gradient] = [(); 3].map(|()| Both::random(device, random, &[1, outputs]).tensor);
        let mut v = device.upload(&[1, outputs], &vec![0.5; outputs]).unwrap();
        let state = |p: &D::Tensor, m: &D::Tensor, v: &D::Tensor| {
            let product = device.linear(&x, p, WeightLayout::InOut, None).unwrap();
            [p, m, v, &product].map(|tensor| device.download(tensor).unwrap().into_iter().map(f32::to_bits).collect())
        };
        let before: [Vec<u32>; 4] = state(&p, &m, &v);

        for norm in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for max_norm in [2.0, f32::INFINITY] {
                let mut values = vec![1.0; outputs];
                values[outputs - 1] = f32::NAN;
                device.overwrite(&mut gradient, &values).unwrap();
                // Alone, and first of a verdict.
                for shape in [1, 3] {
                    let norm = device.upload(&[shape], &[norm, 1.0, 1.0][..shape]).unwrap();
                    let clip = Clip { norm: &norm, max_norm };
                    device
                        .adam(
                            from_mut(&mut p),
                            from_ref(&gradient),
                            from_mut(&mut m),
                            from_mut(&mut v),
                            step(3),
                            Some(clip),
                        )
                        .unwrap();
                    assert_eq!(state(&p, &m, &v), before, "{outputs} elements, clipped to {max_norm}");
                }
            }
        }

        // The same update by a norm that clips nothing and by none.
        device.overwrite(&mut gradient, &vec![0.25; outputs]).unwrap();
        let copies =
            [&p, &m, &v].map(|tensor| device.upload(&[1, outputs], &device.download(tensor).unwrap()).unwrap());
        let [mut p2, mut m2, mut v2] = copies;
        device
            .adam(from_mut(&mut p2), from_ref(&gradient), from_mut(&mut m2), from_mut(&mut v2), step(3), None)
            .unwrap();
        let norm = device.upload(&[1], &[7.0]).unwrap();
        let clip = Clip { norm: &norm, max_norm: f32::INFINITY };
        device
            .adam(from_mut(&mut p), from_ref(&gradient), from_mut(&mut m), from_mut(&mut v), step(3), Some(clip))
            .unwrap();
        assert_eq!(state(&p, &m, &v), state(&p2, &m2, &v2));
        assert_ne!(state(&p, &m, &v)[..3], before[..3]);
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let zeros = |shape: &[usize]| device.zeros(shape).unwrap();
    let [mut p, mut m, mut v] = [(); 3].map(|()| zeros(&[4]));
    let result =
        device.adam(from_mut(&mut p), from_ref(&zeros(&[2, 2])), from_mut(&mut m), from_mut(&mut v), step(1), None);
    assert_error(result, &["adam: gradient must be [4], not [2, 2]"]);
    let result = device.adam(
        from_mut(&mut p),
        from_ref(&zeros(&[4])),
        from_mut(&mut m),
        from_mut(&mut zeros(&[5])),
        step(1),
        None,
    );
    assert_error(result, &["adam: second_moment must be [4], not [5]"]);
    assert_error(
        device.adam(from_mut(&mut p), from_ref(&zeros(&[4])), from_mut(&mut m), from_mut(&mut v), step(0), None),
        &["adam: step must be at least 1, not 0"],
    );
    let result = device.adam(from_mut(&mut p), &[], from_mut(&mut m), from_mut(&mut v), step(1), None);
    assert_error(result, &["adam: gradients must be 1, one per parameter, not 0"]);
    let clip = Clip { norm: &zeros(&[2]), max_norm: 1.0 };
    let result =
        device.adam(from_mut(&mut p), from_ref(&zeros(&[4])), from_mut(&mut m), from_mut(&mut v), step(1), Some(clip));
    assert_error(result, &["adam: the norm to clip by must be [1], not [2]"]);
}
