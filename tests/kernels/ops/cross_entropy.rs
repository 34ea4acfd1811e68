//! Cross-entropy.

use igpt_engine::device::Device;
use proptest::prelude::any;

use super::reference;
use super::support::{
    Both, EPSILON, FACTORS, Tested, assert_bits, assert_close, assert_error, assert_matches_finite_differences,
    assert_rounded_once, assert_within_twice_naive, dot, each, property, scaled, sum_in_f32, upload,
};

pub fn loss_and_gradient<D: Device>(device: &Tested<D>) {
    let cases = (any::<u64>(), 1..150usize, 1..100usize, 0..3u32);
    property(24, cases, |(seed, rows, vocabulary, spread)| check(device, seed, rows, vocabulary, spread));
}

/// The paper's palette, one more, as many classes as ImageNet's, and larger palettes up to the largest.
pub fn all_colours<D: Device>(device: &Tested<D>) {
    for vocabulary in [512, 513, 1000, 1024, 4096] {
        check(device, vocabulary as u64, 21, vocabulary, 1);
    }
}

pub fn check<D: Device>(device: &Tested<D>, seed: u64, rows: usize, vocabulary: usize, spread: u32) {
    let random = &mut device.random(seed);
    let factor = 10f64.powi(spread as i32);
    let values = random.values(rows * vocabulary).iter().map(|x| f64::from((x * factor) as f32)).collect();
    let logits = Both::new(device, &[1, rows, vocabulary], values);
    let weights = Both::floats(device, random, &[rows]);
    let targets = random.tokens(rows, vocabulary);
    let device_targets = device.upload_tokens([1, rows], &targets).unwrap();

    let out = device.cross_entropy(logits.tensor, &device_targets, &weights.tensor).unwrap();
    let definition = || reference::cross_entropy(&logits.exact, &targets, &weights.exact, vocabulary);
    let (nll, d_logits) = definition();
    // Logits are exact; nll, sum and loss are f32, and the gradient is rounded when it is stored. exp of a difference of logits has their
    // absolute error as its relative one.
    let allowed = sum_in_f32(vocabulary) + 2.0 * factor * EPSILON;
    assert_close(device, "nll", &out.nll, &nll, allowed, 1.0);
    assert_rounded_once(device, "d_logits", &out.d_logits, &d_logits, allowed, 1.0);

    if let Some((naive_nll, naive_gradient)) = device.naively(definition) {
        assert_within_twice_naive(device, "nll", &out.nll, &nll, &naive_nll);
        assert_within_twice_naive(device, "d_logits", &out.d_logits, &d_logits, &naive_gradient);
    }

    let magnitude = nll.iter().zip(&weights.exact).map(|(nll, weight)| (nll * weight).abs()).sum();
    assert_close(device, "loss", &out.loss, &[dot(&nll, &weights.exact)], allowed, magnitude);

    if rows * vocabulary < 300 && spread == 0 {
        assert_matches_finite_differences("d_logits", &d_logits, &logits.exact, |logits| {
            dot(&reference::cross_entropy(logits, &targets, &weights.exact, vocabulary).0, &weights.exact)
        });
    }
}

/// Rows beside every block, classes beside every vector, warp and register, with a lone one; rows beside the threads of the sum.
pub fn bounds<D: Device>(device: &Tested<D>) {
    let classes = [513, 1, 2, 7, 8, 9, 16, 31, 32, 33, 63, 64, 65, 255, 256, 264, 504, 505, 511, 512, 520, 1001];
    each(classes, |vocabulary| check(device, vocabulary as u64, 3, vocabulary, 0));
    each([1025, 1, 7, 8, 9, 15, 16, 17, 1023, 1024, 2049], |rows| {
        check(device, rows as u64, rows, 8, 0);
        check(device, rows as u64, rows, 3, 0);
    });
}

/// A class whose logit is −∞ has no probability and no gradient; the others are as without it. In every place.
pub fn classes_that_cannot_be<D: Device>(device: &Tested<D>) {
    for vocabulary in [9, 16] {
        for absent in 0..vocabulary {
            let target = (absent + 1) % vocabulary;
            let logits: Vec<f64> = device.random(absent as u64).values(vocabulary);
            let mut values = logits.clone();
            values[absent] = f64::NEG_INFINITY;
            let values = upload(device, &[1, vocabulary], &values);
            let targets = device.upload_tokens([1, 1], &[target as u16]).unwrap();
            let out = device.cross_entropy(values, &targets, &device.upload(&[1], &[0.5]).unwrap()).unwrap();

            let others: Vec<f64> =
                (0..vocabulary).filter(|class| *class != absent).map(|class| logits[class]).collect();
            let of_others = (target - usize::from(target > absent)) as u16;
            let (nll, mut gradient) = reference::cross_entropy(&others, &[of_others], &[0.5], vocabulary - 1);
            gradient.insert(absent, 0.0);
            let allowed = sum_in_f32(vocabulary);
            assert_close(device, "nll", &out.nll, &nll, allowed, 1.0);
            assert_rounded_once(device, "d_logits", &out.d_logits, &gradient, allowed, 1.0);
            assert_eq!(device.download(&out.d_logits).unwrap()[absent], 0.0);
        }
    }
}

/// The gradient scales exactly with a power of two that the weights are multiplied by, and the loss with it.
pub fn weights_of_any_size<D: Device>(device: &Tested<D>) {
    for vocabulary in [11, 24] {
        let random = &mut device.random(7);
        let logits: Vec<f32> = random.values(5 * vocabulary).into_iter().map(|value| value as f32).collect();
        let weights: Vec<f32> = random.floats(5).into_iter().map(|value| value as f32).collect();
        let targets = random.tokens(5, vocabulary);
        let run = |weights: &[f32]| {
            let logits = device.upload(&[5, vocabulary], &logits).unwrap();
            let targets = device.upload_tokens([1, 5], &targets).unwrap();
            let out = device.cross_entropy(logits, &targets, &device.upload(&[5], weights).unwrap()).unwrap();
            [out.loss, out.d_logits].map(|tensor| device.download(&tensor).unwrap())
        };
        let [loss, gradient] = run(&weights);
        for factor in FACTORS {
            let [scaled_loss, scaled_gradient] = run(&scaled(&weights, factor));
            assert_bits("loss", &scaled_loss, &scaled(&loss, factor));
            assert_bits("d_logits", &scaled_gradient, &scaled(&gradient, factor));
        }
    }
}

/// Certainty, and its opposite: no overflow, and small losses keep their digits.
pub fn extreme_logits<D: Device>(device: &Tested<D>) {
    let logits = device.upload(&[3, 2], &[1e30, -1e30, 300.0, 200.0, 1000.0, 992.0]).unwrap();
    let targets = device.upload_tokens([3, 1], &[0, 1, 0]).unwrap();
    let weights = device.upload(&[3], &[1.0; 3]).unwrap();
    let out = device.cross_entropy(logits, &targets, &weights).unwrap();
    let nll = device.download(&out.nll).unwrap();
    assert_eq!(nll[0], 0.0);
    assert_eq!(nll[1], 100.0);
    // ln(1 + e⁻⁸), of which f32's sum keeps half the digits.
    let error = (f64::from(nll[2]) - 3.354_063_7e-4).abs();
    assert!(error < 1e-7, "{} is off by {error:e}", nll[2]);
    assert!(device.download(&out.d_logits).unwrap().iter().all(|x| x.is_finite()));
}

/// Rows of weight zero have no gradient, and need no target.
pub fn rows_without_weight<D: Device>(device: &Tested<D>) {
    for vocabulary in [2, 8, 512, 513] {
        let logits = device.upload(&[2, vocabulary], &vec![3.0; 2 * vocabulary]).unwrap();
        let targets = device.upload_tokens([1, 2], &[u16::MAX, 1]).unwrap();
        let weights = device.upload(&[2], &[0.0, 0.0]).unwrap();
        let out = device.cross_entropy(logits, &targets, &weights).unwrap();
        assert_eq!(device.download(&out.d_logits).unwrap(), vec![0.0; 2 * vocabulary]);
        let nll = device.download(&out.nll).unwrap();
        assert_eq!(nll[0], 0.0);
        assert!((f64::from(nll[1]) - (vocabulary as f64).ln()).abs() < 1e-5);
        assert_eq!(device.download(&out.loss).unwrap(), [0.0]);
    }
}

/// A row whose loss is not finite has no gradient that is, so that no update is made from it; by the definition its gradient
/// could be finite. A row of weight zero counts neither way, whatever its logits.
pub fn losses_that_are_not_finite<D: Device>(device: &Tested<D>) {
    for vocabulary in [2, 8, 512, 513] {
        let mut values = vec![0.0; 4 * vocabulary];
        (values[0], values[vocabulary - 1]) = (3e38, -3e38);
        values[2 * vocabulary] = f32::NAN;
        (values[3 * vocabulary], values[4 * vocabulary - 1]) = (3e38, -3e38);
        let targets: Vec<u16> = vec![vocabulary as u16 - 1, 1, 0, vocabulary as u16 - 1];
        let run = |weights: [f32; 4]| {
            let logits = device.upload(&[4, vocabulary], &values).unwrap();
            let targets = device.upload_tokens([1, 4], &targets).unwrap();
            let out = device.cross_entropy(logits, &targets, &device.upload(&[4], &weights).unwrap()).unwrap();
            [out.loss, out.d_logits].map(|tensor| device.download(&tensor).unwrap())
        };

        let [loss, gradient] = run([1.0, 1.0, 0.0, 0.0]);
        assert!(!loss[0].is_finite(), "{loss:?}");
        let bad = gradient[..vocabulary].iter().filter(|value| value.is_nan()).count();
        assert_eq!(bad, vocabulary, "{gradient:?}");
        assert!(gradient[vocabulary..].iter().all(|value| value.is_finite()), "{vocabulary}: {gradient:?}");
        assert!(gradient[2 * vocabulary..].iter().all(|value| *value == 0.0));

        let [loss, gradient] = run([0.0, 1.0, 0.0, 0.0]);
        assert!((loss[0] / (vocabulary as f32).ln() - 1.0).abs() < 1e-5, "{vocabulary}: {loss:?}");
        assert!(gradient.iter().all(|value| value.is_finite()), "{vocabulary}: {gradient:?}");
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let logits = || device.zeros(&[1, 3, 5]).unwrap();
    let (targets, weights) =
        (device.upload_tokens([1, 3], &[0, 5, 2]).unwrap(), device.upload(&[3], &[1.0; 3]).unwrap());
    assert_error(device.cross_entropy(logits(), &targets, &weights), &["token 5 at position 1", "5 rows"]);
    let few = device.upload_tokens([1, 2], &[0, 1]).unwrap();
    assert_error(
        device.cross_entropy(logits(), &few, &weights),
        &["cross_entropy: targets must be 3 tokens", "[1, 2]"],
    );
    let targets = device.upload_tokens([1, 3], &[0, 4, 2]).unwrap();
    let few = device.zeros(&[2]).unwrap();
    assert_error(device.cross_entropy(logits(), &targets, &few), &["cross_entropy: weights must be [3], not [2]"]);
}
