//! The norm by which gradients are clipped.

use igpt_engine::device::{Device, NORM_BLOCK};
use proptest::prelude::any;

use super::support::{Both, EPSILON, Tested, assert_bits, assert_close, assert_error, dot, each, property, two};

pub fn norm_of_everything<D: Device>(device: &Tested<D>) {
    property(12, (any::<u64>(), 1..40_000usize, 1..70usize), |(seed, long, short)| {
        let random = &mut device.random(seed);
        let tensors = [Both::random(device, random, &[long]), Both::random(device, random, &[short, 3])];
        let squares: f64 = tensors.iter().map(|tensor| dot(&tensor.exact, &tensor.exact)).sum();
        let norm = device.global_norm(&tensors.map(|both| both.tensor)).unwrap();
        assert_eq!(device.shape(&norm), [1]);
        // Summed in f64 (or as carefully), so only the result is rounded.
        assert_close(device, "norm", &norm, &[squares.sqrt()], 2.0 * EPSILON, 0.0);
    });
    let far = device.upload(&[2], &[3e25, 4e25]).unwrap();
    let norm = device.download(&device.global_norm(&[far]).unwrap()).unwrap()[0];
    assert!((norm / 5e25 - 1.0).abs() < 1e-6, "{norm}");
}

/// Every element counts: with the last alone that is not zero, and with all of one size, at lengths beside every vector, block and chunk
/// (16,384 elements); of what the host made, and of results.
pub fn bounds<D: Device>(device: &Tested<D>) {
    let lengths =
        [1023, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 1025, 2047, 2049, 4097, 16_383, 16_384, 16_385, 40 * 16_384 + 13];
    each(lengths, |len| check_length(device, len));
}

pub fn check_length<D: Device>(device: &Tested<D>, len: usize) {
    let mut last = vec![0.0; len];
    last[len - 1] = -3.0;
    for (values, expected) in [(last, 3.0), (vec![0.5; len], 0.5 * (len as f64).sqrt())] {
        for tensor in [device.upload(&[len], &values).unwrap(), device.result(&values)] {
            let norm = device.global_norm(&[tensor]).unwrap();
            assert_close(device, "norm", &norm, &[expected], EPSILON, 0.0);
        }
    }
}

/// More tensors than a launch takes (240), and more partial sums than the block that adds them up has threads (1,024).
pub fn many_partial_sums<D: Device>(device: &Tested<D>) {
    each([241, 1, 2, 239, 240, 481, 1025], |count| check_tensors(device, count));
}

/// Results among what the host made: lists of both precisions, in turns.
pub fn both_precisions<D: Device>(device: &Tested<D>) {
    let tensors: Vec<_> = (0..7)
        .map(|index| if index % 3 == 1 { device.result(&[2.0; 5]) } else { device.upload(&[5], &[1.0; 5]).unwrap() })
        .collect();
    let norm = device.global_norm(&tensors).unwrap();
    assert_close(device, "norm", &norm, &[f64::sqrt(5.0 * 5.0 + 2.0 * 20.0)], EPSILON, 0.0);
}

pub fn check_tensors<D: Device>(device: &Tested<D>, count: usize) {
    let ones = || device.upload(&[1], &[1.0]).unwrap();
    let norm = device.global_norm(&(0..count).map(|_| ones()).collect::<Vec<_>>()).unwrap();
    assert_close(device, "norm", &norm, &[(count as f64).sqrt()], EPSILON, 0.0);
}

/// The norm of one number is its size, to the bit, whatever its exponent.
pub fn ends_of_the_range<D: Device>(device: &Tested<D>) {
    for value in [two(-149), two(-133), two(-126), two(-100), 1e-30, two(100), 3e38, f32::MAX, f32::INFINITY] {
        for at in 0..13 {
            let mut values = [0.0; 13];
            values[at] = -value;
            let norm = device.global_norm(&[device.upload(&[13], &values).unwrap()]).unwrap();
            assert_bits("norm", &device.download(&norm).unwrap(), &[value]);
            let norm = device.global_norm(&[device.result(&values)]).unwrap();
            let stored = device.representable(f64::from(value)) as f32;
            assert_bits("norm of a result", &device.download(&norm).unwrap(), &[stored]);
        }
    }
}

/// The norm in two halves: sums of every 16,384 elements, which say what the whole norm says, in whichever tensors the blocks lie.
pub fn sums_of_blocks<D: Device>(device: &Tested<D>) {
    // Three blocks and a bit of the fourth, the rest of which is zero.
    let number = |index: usize| ((index * 7919) % 1009) as f32 / 900.0 - 0.5;
    let mut values: Vec<f32> = (0..3 * NORM_BLOCK + 777).map(number).collect();
    values.resize(4 * NORM_BLOCK, 0.0);
    let upload = |values: &[f32]| device.upload(&[values.len()], values).unwrap();
    let verdict_of = |tensors: &[D::Tensor], blocks: usize, count: usize| {
        let mut sums = device.zeros(&[blocks, 2]).unwrap();
        device.square_sums(tensors, &mut sums).unwrap();
        let mut verdict = device.upload(&[3], &[0.0, 4.0, 1.0]).unwrap();
        device.judge_sums(&sums, count, &mut verdict).unwrap();
        (device.download(&sums).unwrap(), device.download(&verdict).unwrap())
    };

    let (sums, verdict) = verdict_of(&[upload(&values)], 4, 4);
    for (block, sum) in values.chunks(NORM_BLOCK).zip(sums.as_chunks::<2>().0) {
        let halves = sum.map(f32::to_bits).map(u64::from);
        let sum = f64::from_bits(halves[0] | halves[1] << 32);
        let exact: f64 = block.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
        assert!((sum / exact - 1.0).abs() < 1e-12, "{sum} and not {exact}");
    }
    let mut judged = device.upload(&[3], &[0.0, 4.0, 1.0]).unwrap();
    device.judge_gradients(&[upload(&values)], &mut judged).unwrap();
    assert_bits("verdict", &verdict, &device.download(&judged).unwrap());
    assert_eq!(verdict[1..], [4.0, 0.0]);

    // The same blocks of two tensors; blocks of zeros behind them, counted or not.
    let (front, back) = values.split_at(2 * NORM_BLOCK);
    let padded = [back, &[0.0; NORM_BLOCK]].concat();
    for count in [4, 5] {
        let (same, again) = verdict_of(&[upload(front), upload(&padded)], 5, count);
        assert_bits("sums", &same[..8], &sums);
        assert_bits("verdict", &again, &verdict);
    }
    let (_, ruined) = verdict_of(&[upload(&[1.0, f32::NAN])], 1, 1);
    assert!(ruined[0].is_nan() && ruined[1..] == [5.0, 2.0], "{ruined:?}");

    let mut sums = device.zeros(&[4, 2]).unwrap();
    assert_error(device.square_sums(&[upload(&values[..9])], &mut sums), &["square_sums: sums must be [1, 2]"]);
    assert!(device.judge_sums(&sums, 5, &mut device.zeros(&[3]).unwrap()).is_err());
}

/// One element that is not finite, wherever it is, or a norm beyond the largest float: counted in all, and in a row until the next
/// that is finite.
pub fn verdicts<D: Device>(device: &Tested<D>) {
    let mut verdict = device.upload(&[3], &[0.0, 5.0, 2.0]).unwrap();
    let mut judged = |values: &[f32], also: &[f32]| {
        let tensors = [values, also].map(|values| device.upload(&[values.len()], values).unwrap());
        device.judge_gradients(&tensors, &mut verdict).unwrap();
        let norm = device.download(&device.global_norm(&tensors).unwrap()).unwrap()[0];
        let verdict = device.download(&verdict).unwrap();
        assert_eq!(verdict[0].to_bits(), norm.to_bits(), "the norm itself");
        (norm.is_finite(), verdict[1], verdict[2])
    };

    let mut total = 5.0;
    assert_eq!(judged(&[1.0], &[2.0]), (true, total, 0.0));
    for (len, at, bad) in [(1, 0, f32::NAN), (3, 2, f32::INFINITY), (5, 4, f32::NEG_INFINITY), (4099, 4098, f32::NAN)] {
        let mut values = vec![0.5; len];
        values[at] = bad;
        for in_a_row in 1..3 {
            total += 1.0;
            let also = [3.0, 4.0];
            // In the first tensor, then in the last.
            let found = if in_a_row == 1 { judged(&values, &also) } else { judged(&also, &values) };
            assert_eq!(found, (false, total, in_a_row as f32), "{bad} at {at} of {len}");
        }
        assert_eq!(judged(&[0.0; 7], &[-1.0]), (true, total, 0.0));
    }
    assert_eq!(judged(&[3e38; 4], &[3e38]), (false, total + 1.0, 1.0), "finite, but not its norm");

    let tensors = [device.zeros(&[2]).unwrap()];
    let result = device.judge_gradients(&tensors, &mut device.zeros(&[2]).unwrap());
    assert_error(result, &["judge_gradients: verdict must be [3], not [2]"]);
}
