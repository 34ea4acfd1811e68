//! Whether a step is a spike.

use igpt_engine::device::ops::spike::judge;
use igpt_engine::device::{Device, RECENT};

use super::support::{Tested, assert_error};

/// Steps one after the other, of which some are spikes, of loss or of norm, and some not finite: decisions as the host takes them, and
/// means and variances nearly.
pub fn as_on_the_host<D: Device>(device: &Tested<D>) {
    for losses in [1, 2, 33, 70] {
        let mut recent = device.zeros(&[RECENT]).unwrap();
        let mut verdict = device.zeros(&[3]).unwrap();
        let (mut expected, mut skipped) = ([0.0; RECENT], [0.0f32; 2]);
        for step in 0..150u32 {
            // From 0 to 1, as if by chance.
            let chance = |of: u32| ((step * 7 + of) as f32 * 0.618_034).fract();
            let (mut each, mut norm) = ((2.0 + 0.1 * chance(1)) / losses as f32, 1.0 + 0.2 * chance(2));
            match step {
                20 | 90 => each *= 4.0,
                100 | 101 => norm *= 9.0,
                110 => norm = f32::NAN,
                111 => norm = f32::INFINITY,
                112 => each *= 40.0,
                _ => {}
            }

            // The norm is judged first.
            let in_a_row = if norm.is_finite() { 0.0 } else { skipped[1] + 1.0 };
            let judged = [norm, skipped[0] + f32::from(u8::from(!norm.is_finite())), in_a_row];
            device.overwrite(&mut verdict, &judged).unwrap();
            let values: Vec<f32> = (0..losses).map(|index| each * (1.0 + index as f32 / 512.0)).collect();
            let sum = values.iter().map(|loss| f64::from(*loss)).sum();
            device.judge_spike(&device.upload(&[losses], &values).unwrap(), 6.0, &mut recent, &mut verdict).unwrap();

            let mut said = judged;
            judge(sum, 6.0, &mut expected, &mut said);
            let got = device.download(&verdict).unwrap();
            assert_eq!(got[1..], said[1..], "step {step} of {losses} losses");
            assert!(got[0] == said[0] || (got[0].is_nan() && said[0].is_nan()), "step {step} of {losses} losses");
            for (index, (got, expected)) in device.download(&recent).unwrap().iter().zip(&expected).enumerate() {
                let is_near = got == expected
                    || (got - expected).abs() <= 1e-5 * expected.abs()
                    || (got.is_nan() && expected.is_nan());
                assert!(is_near, "step {step} of {losses} losses: {index} is off by {}", got - expected);
            }
            skipped = [said[1], said[2]];
        }
        // 20 is too early; 90, 100 and 101, 110 to 112.
        assert_eq!(skipped[0], 6.0);
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let zeros = |shape: &[usize]| device.zeros(shape).unwrap();
    let judged = |losses: &[usize], sigmas, recent, verdict| {
        device.judge_spike(&zeros(losses), sigmas, &mut zeros(&[recent]), &mut zeros(&[verdict]))
    };
    assert_error(judged(&[2], 6.0, 6, 3), &["judge_spike: recent must be [7], not [6]"]);
    assert_error(judged(&[2], 6.0, 7, 1), &["verdict must be [3], not [1]"]);
    assert_error(judged(&[2], f32::NAN, 7, 3), &["judge_spike: sigmas must be above 0, not NaN"]);
    assert_error(judged(&[2, 2], 6.0, 7, 3), &["judge_spike: losses must be [k], not [2, 2]"]);
}
