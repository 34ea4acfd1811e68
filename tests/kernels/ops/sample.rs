//! Sampling.

use igpt_engine::device::{Device, SampleOptions, WeightLayout};

use super::support::{Tested, assert_error, each, upload};

/// A token for each of `uniforms`, all of the same logits.
fn sample<D: Device>(device: &Tested<D>, logits: &[f32], options: SampleOptions, uniforms: &[f32]) -> Vec<u16> {
    let rows: Vec<f32> = uniforms.iter().flat_map(|_| logits).copied().collect();
    let logits = device.upload(&[uniforms.len(), 1, logits.len()], &rows).unwrap();
    let tokens = device.sample(&logits, options, uniforms).unwrap();
    device.download_tokens(&tokens).unwrap()
}

/// A token for each row of logits, which are the result of an op: the mean of one token.
fn sample_result<D: Device>(
    device: &Tested<D>,
    rows: &[Vec<f32>],
    options: SampleOptions,
    uniforms: &[f32],
) -> Vec<u16> {
    let logits = device.upload(&[rows.len(), 1, rows[0].len()], &rows.concat()).unwrap();
    let tokens = device.sample(&device.mean_pool(&logits).unwrap(), options, uniforms).unwrap();
    device.download_tokens(&tokens).unwrap()
}

/// Vocabularies beside the number of threads, of which each has a run of neighbours, and a lone token.
const VOCABULARIES: [usize; 12] = [257, 1, 2, 3, 31, 127, 128, 129, 255, 256, 512, 1000];

/// The one token that can be, in every run and at its ends; rows of different logits.
pub fn every_token_can_be_drawn<D: Device>(device: &Tested<D>) {
    each(VOCABULARIES, |vocabulary| {
        let wanted: Vec<usize> = (0..vocabulary).step_by(vocabulary.div_ceil(40)).chain([vocabulary - 1]).collect();
        let rows: Vec<Vec<f32>> = wanted
            .iter()
            .map(|wanted| (0..vocabulary).map(|token| if token == *wanted { 300.0 } else { -300.0 }).collect())
            .collect();
        let uniforms: Vec<f32> = (0..rows.len()).map(|row| row as f32 / rows.len() as f32).collect();
        let wanted: Vec<u16> = wanted.into_iter().map(|token| token as u16).collect();
        for (temperature, top_k) in [(1.0, None), (0.0, None), (1.0, Some(1)), (1.0, Some(vocabulary.div_ceil(2)))] {
            let tokens = sample_result(device, &rows, SampleOptions { temperature, top_k, top_p: None }, &uniforms);
            assert_eq!(tokens, wanted, "{vocabulary}, {temperature}, {top_k:?}");
        }
    });
}

/// Of equal logits each is as likely as another, of the first k with top k, and the first is the largest.
pub fn equal_logits<D: Device>(device: &Tested<D>) {
    each(VOCABULARIES, |vocabulary| {
        let kept = [None, Some(1), Some(vocabulary.div_ceil(3)), Some(vocabulary - 1), Some(vocabulary)];
        for top_k in kept.into_iter().filter(|top_k| *top_k != Some(0)) {
            let count = top_k.unwrap_or(vocabulary);
            let expected: Vec<u16> = (0..count as u16).step_by(count.div_ceil(40)).collect();
            let uniforms: Vec<f32> = expected.iter().map(|token| (f32::from(*token) + 0.5) / count as f32).collect();
            let rows = vec![vec![0.75; vocabulary]; expected.len()];
            let tokens =
                sample_result(device, &rows, SampleOptions { temperature: 1.0, top_k, top_p: None }, &uniforms);
            assert_eq!(tokens, expected, "{vocabulary}, top {top_k:?}");
        }
        let rows = [vec![-0.75; vocabulary]];
        assert_eq!(
            sample_result(device, &rows, SampleOptions { temperature: 0.0, top_k: None, top_p: None }, &[0.5]),
            [0]
        );
    });
}

/// The k best of logits that fall, rise, and of which those from the k-th best on are equal, at the ends of the order of floats.
pub fn top_k_of_many<D: Device>(device: &Tested<D>) {
    each([(257, 130), (129, 2), (300, 299), (128, 64)], |(vocabulary, k): (usize, usize)| {
        let rising: Vec<f32> = (0..vocabulary).map(|token| (token as f32 - 150.0) / 64.0).collect();
        let falling: Vec<f32> = rising.iter().rev().copied().collect();
        let tied: Vec<f32> = (0..vocabulary).map(|token| if token % 2 == 0 { -0.5 } else { -2.0 }).collect();
        let options = SampleOptions { temperature: 1e9, top_k: Some(k), top_p: None };
        // At so high a temperature all candidates are as likely.
        let nth = [0, k / 2, k - 1];
        let uniforms = nth.map(|nth| (nth as f32 + 0.5) / k as f32);
        let check = |logits: &[f32], candidates: Vec<u16>| {
            assert_eq!(candidates.len(), k);
            assert_eq!(sample(device, logits, options, &uniforms), nth.map(|nth| candidates[nth]), "{vocabulary}, {k}");
        };
        check(&rising, ((vocabulary - k) as u16..vocabulary as u16).collect());
        check(&falling, (0..k as u16).collect());
        let even = vocabulary.div_ceil(2);
        let mut candidates: Vec<u16> = (0..vocabulary as u16).filter(|token| token % 2 == 0).take(k).collect();
        candidates.extend((0..vocabulary as u16).filter(|token| token % 2 == 1).take(k.saturating_sub(even)));
        candidates.sort_unstable();
        check(&tied, candidates);
    });
}

/// Evenly spaced uniforms sample every token as often as its probability says.
pub fn follows_the_distribution<D: Device>(device: &Tested<D>) {
    let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY, 5f32.ln()];
    let uniforms: Vec<f32> = (0..800).map(|i| (i as f32 + 0.5) / 800.0).collect();
    let options = SampleOptions::PLAIN;
    let tokens = sample(device, &logits, options, &uniforms);
    let counts = [0, 1, 2, 3].map(|token| tokens.iter().filter(|&&sampled| sampled == token).count());
    assert_eq!(counts, [100, 200, 0, 500]);
    // Half the temperature squares the odds: 1 : 4 : 25.
    let tokens = sample(device, &logits, SampleOptions { temperature: 0.5, top_k: None, top_p: None }, &uniforms[..30]);
    assert_eq!(tokens.iter().filter(|&&token| token == 0).count(), 27);
    assert_eq!(sample(device, &logits, options, &[0.0, 1.0 - f32::EPSILON]), [0, 3]);
    // What has no probability is not drawn, be it the first.
    assert_eq!(sample(device, &[f32::NEG_INFINITY, 0.0], options, &[0.0]), [1]);
}

pub fn argmax_takes_the_first<D: Device>(device: &Tested<D>) {
    let options = SampleOptions { temperature: 0.0, top_k: None, top_p: None };
    assert_eq!(sample(device, &[1.0, 3.0, 2.0, 3.0], options, &[0.0, 0.99]), [1, 1]);
    // Zeros are equal, whatever their signs.
    assert_eq!(sample(device, &[-1.0, -0.0, 0.0, -0.0], options, &[0.5]), [1]);
    assert_eq!(sample(device, &[-1.0, 0.0, -0.0], options, &[0.5]), [1]);
}

/// NaN is smaller than any number, and of nothing but NaN or nothing but −∞ the first token is the largest.
pub fn argmax_of_no_numbers<D: Device>(device: &Tested<D>) {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let options = SampleOptions { temperature: 0.0, top_k: None, top_p: None };
    for (logits, expected) in [
        (vec![nan; 3], 0),
        (vec![nan; 300], 0),
        (vec![-inf; 300], 0),
        (vec![-nan; 200], 0),
        ([vec![nan; 299], vec![-inf]].concat(), 299),
        ([vec![nan; 150], vec![-1.0], vec![nan; 50], vec![-1.0]].concat(), 150),
        ([vec![-inf; 130], vec![nan], vec![-1e38], vec![inf], vec![nan]].concat(), 132),
    ] {
        assert_eq!(sample(device, &logits, options, &[0.5]), [expected], "{logits:?}");
        // Without a distribution to draw from, the largest is taken as well.
        let drawn = SampleOptions { temperature: 1.0, top_k: None, top_p: None };
        if logits.iter().any(|logit| logit.is_nan()) {
            assert_eq!(sample(device, &logits, drawn, &[0.5]), [expected], "{logits:?}");
        }
    }
}

/// Ties at the edge go to the lower tokens.
pub fn top_k_keeps_the_best<D: Device>(device: &Tested<D>) {
    let uniforms: Vec<f32> = (0..100).map(|i| i as f32 / 100.0).collect();
    for (k, expected) in [(1, vec![2]), (2, vec![0, 2]), (3, vec![0, 2, 3]), (9, vec![0, 1, 2, 3, 4])] {
        let options = SampleOptions { temperature: 1.0, top_k: Some(k), top_p: None };
        let mut tokens = sample(device, &[1.0, 0.5, 2.0, 1.0, 0.5], options, &uniforms);
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens, expected, "top {k}");
    }
}

/// Of equals, the lower tokens; exact sums, so that the edge is where it seems.
pub fn top_p_keeps_as_many_equals_as_it_needs<D: Device>(device: &Tested<D>) {
    let uniforms: Vec<f32> = (0..100).map(|i| i as f32 / 100.0).collect();
    let kept = |logits: &[f32], top_k, top_p| {
        let options = SampleOptions { temperature: 1.0, top_k, top_p: Some(top_p) };
        let mut tokens = sample(device, logits, options, &uniforms);
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    };
    for (top_p, expected) in [(1e-9, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.75, 3), (0.751, 4), (1.0, 4)] {
        assert_eq!(kept(&[2.0; 4], None, top_p), (0..expected).collect::<Vec<u16>>(), "{top_p} of four equals");
    }
    // Of the two that are left by top-k, the lower; what is likelier than they comes before both.
    assert_eq!(kept(&[1.0, 1.0, 1.0, 1.0], Some(2), 0.5), [0]);
    assert_eq!(kept(&[1.0, 1.0, 9.0, 1.0], None, 0.9), [2]);
    assert_eq!(kept(&[f32::NEG_INFINITY, 3.0, f32::NEG_INFINITY], None, 0.999), [1]);
}

/// Draws from the nucleus by its definition, in f64: `None` where a sum is too near its edge to say.
fn drawn_from_the_nucleus(logits: &[f64], options: SampleOptions, uniform: f64) -> Option<u16> {
    let mut tokens: Vec<usize> = (0..logits.len()).collect();
    tokens.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    tokens.truncate(options.top_k.unwrap_or(usize::MAX));
    let weight = |token: usize| ((logits[token] - logits[tokens[0]]) / f64::from(options.temperature)).exp();
    let total: f64 = tokens.iter().map(|&token| weight(token)).sum();

    let enough = f64::from(options.top_p?) * total;
    let sums = tokens.iter().scan(0.0, |sum, &token| {
        *sum += weight(token);
        Some(*sum)
    });
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9 * total;
    let sums: Vec<f64> = sums.collect();
    let last = sums.iter().position(|sum| *sum >= enough)?;
    if sums.iter().any(|sum| near(*sum, enough)) {
        return None;
    }

    let mut kept = tokens[..=last].to_vec();
    kept.sort_unstable();
    let wanted = uniform * sums[last];
    let mut sum = 0.0;
    for token in kept {
        sum += weight(token);
        if near(sum, wanted) {
            return None;
        }
        if sum > wanted {
            return Some(token as u16);
        }
    }
    None
}

pub fn top_p_draws_from_the_nucleus<D: Device>(device: &Tested<D>) {
    let compared = compare_with_the_nucleus(device, &[3, 129, 512, 1000], 60);
    assert!(compared > 2000, "only {compared} draws were compared");
}

/// The same for the largest palettes, in few rows, and the one token that can be, first, last and between.
pub fn large_palettes<D: Device>(device: &Tested<D>) {
    for vocabulary in [1024, 4096] {
        let wanted = [0, vocabulary / 2 - 1, vocabulary - 1];
        let row = |wanted: usize| (0..vocabulary).map(|token| if token == wanted { 300.0 } else { -300.0 }).collect();
        let rows: Vec<Vec<f32>> = wanted.into_iter().map(row).collect();
        for top_k in [None, Some(1), Some(vocabulary - 1)] {
            let options = SampleOptions { top_k, ..SampleOptions::PLAIN };
            let tokens = sample_result(device, &rows, options, &[0.0, 0.5, 0.999]);
            assert_eq!(tokens, wanted.map(|token| token as u16), "{vocabulary}, {top_k:?}");
        }
    }
    let compared = compare_with_the_nucleus(device, &[1024, 4096], 3);
    assert!(compared > 40, "only {compared} draws were compared");
}

/// Draws of so many rows of logits beside [`drawn_from_the_nucleus`]; how many could be compared.
fn compare_with_the_nucleus<D: Device>(device: &Tested<D>, vocabularies: &[usize], rows: usize) -> usize {
    let uniforms: Vec<f32> = (0..rows).map(|i| (i as f32 + 0.37) / rows as f32).collect();
    let mut compared = 0;
    for (case, &vocabulary) in vocabularies.iter().enumerate() {
        // Of few different values too, so that there are equals at the edge.
        for steps in [f64::INFINITY, 2.0] {
            let values = device.random(case as u64).values(vocabulary).into_iter();
            let logits: Vec<f64> = match steps.is_finite() {
                true => values.map(|value| (value * steps).round() / steps).collect(),
                false => values.map(|value| device.representable(4.0 * value)).collect(),
            };
            // Out of an op, so that they are in the precision of its results.
            let mut weight = logits.clone();
            weight.resize(8 * vocabulary, 0.0);
            let (x, weight) =
                (upload(device, &[rows, 8], &vec![1.0; 8 * rows]), upload(device, &[8, vocabulary], &weight));
            let on_device = device.linear(&x, &weight, WeightLayout::InOut, None).unwrap();

            for (top_k, top_p, temperature) in
                [(None, 0.05, 1.0), (None, 0.47, 1.0), (None, 0.93, 0.7), (Some(40), 0.61, 1.3), (Some(2), 0.999, 1.0)]
            {
                let options = SampleOptions { temperature, top_k, top_p: Some(top_p) };
                let tokens = device.download_tokens(&device.sample(&on_device, options, &uniforms).unwrap()).unwrap();
                for (token, uniform) in tokens.iter().zip(&uniforms) {
                    let expected = drawn_from_the_nucleus(&logits, options, f64::from(*uniform));
                    compared += usize::from(expected.is_some());
                    assert_eq!(*token, expected.unwrap_or(*token), "{vocabulary} tokens, {steps} steps, {options:?}");
                }
            }
        }
    }
    compared
}

/// Whatever the logits are, a token that exists comes out.
pub fn odd_logits<D: Device>(device: &Tested<D>) {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, f32::MAX];
    for first in odd {
        for second in odd {
            for temperature in [0.0, 1e-30, 1.0, 1e30] {
                let cuts = [(None, None), (Some(1), None), (Some(2), None), (None, Some(0.5)), (Some(2), Some(0.5))];
                for (top_k, top_p) in cuts {
                    let options = SampleOptions { temperature, top_k, top_p };
                    let tokens = sample(device, &[first, second, second], options, &[0.5]);
                    assert!(tokens[0] < 3, "{first} {second} {options:?}");
                }
            }
        }
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let logits = device.zeros(&[2, 3]).unwrap();
    let options = SampleOptions::PLAIN;
    assert_error(device.sample(&logits, options, &[0.5]), &["sample: uniforms must be 2, one per row, not 1"]);
    assert_error(device.sample(&logits, options, &[0.5, 1.0]), &["sample: uniforms must be in [0, 1), not 1.0"]);
    assert_error(device.sample(&logits, options, &[0.5, f32::NAN]), &["sample: uniforms must be in [0, 1), not NaN"]);
    let cold = SampleOptions { temperature: -1.0, ..options };
    assert_error(device.sample(&logits, cold, &[0.5, 0.5]), &["sample: temperature", "not -1.0"]);
    let none = SampleOptions { top_k: Some(0), ..options };
    assert_error(device.sample(&logits, none, &[0.5, 0.5]), &["sample: top_k must be at least 1, not 0"]);
    for top_p in [0.0, -0.5, 1.5, f32::NAN] {
        let cut = SampleOptions { top_p: Some(top_p), ..options };
        let said = format!("sample: top_p must be above 0 and at most 1, not {top_p:?}");
        assert_error(device.sample(&logits, cut, &[0.5, 0.5]), &[&said]);
    }
    let cube = device.zeros(&[2, 2, 3]).unwrap();
    assert_error(
        device.sample(&cube, options, &[0.5, 0.5]),
        &["sample: logits must be [B, V] or [B, 1, V], not [2, 2, 3]"],
    );
}
