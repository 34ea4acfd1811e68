//! The exponential moving average.

use igpt_engine::device::Device;
use proptest::prelude::any;

use super::support::{Both, EPSILON, Tested, assert_close, assert_error, property};

/// Three updates against f64, at any number of elements beside the kernel's vectors.
pub fn approaches_the_parameter<D: Device>(device: &Tested<D>) {
    property(12, (any::<u64>(), 1..3000usize), |(seed, len)| {
        let random = &mut device.random(seed);
        let mut average = Both::random(device, random, &[len]);
        let verdict = device.upload(&[3], &[1.5, 2.0, 0.0]).unwrap();
        for rate in [0.25, 1.0 / 1024.0, 1.0] {
            let parameter = Both::random(device, random, &[len]);
            device.ema(&mut average.tensor, &parameter.tensor, rate as f32, &verdict).unwrap();
            for (average, parameter) in average.exact.iter_mut().zip(&parameter.exact) {
                *average += rate * (parameter - *average);
            }
            assert_close(device, "average", &average.tensor, &average.exact, 8.0 * EPSILON, 1.0);
        }
    });
}

/// A skipped step leaves the average to the last bit, as it leaves the parameter.
pub fn norms_that_are_not_finite_change_nothing<D: Device>(device: &Tested<D>) {
    for len in [1, 3, 4, 5, 8, 257, 1030] {
        let random = &mut device.random(len as u64);
        let [mut average, parameter] = [(); 2].map(|()| Both::random(device, random, &[len]).tensor);
        let bits = |tensor: &D::Tensor| -> Vec<u32> {
            device.download(tensor).unwrap().into_iter().map(f32::to_bits).collect()
        };
        let before = bits(&average);
        for norm in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let verdict = device.upload(&[3], &[norm, 1.0, 1.0]).unwrap();
            device.ema(&mut average, &parameter, 0.5, &verdict).unwrap();
            assert_eq!(bits(&average), before, "{len} elements, norm {norm}");
        }
        let verdict = device.upload(&[3], &[1.0, 1.0, 0.0]).unwrap();
        device.ema(&mut average, &parameter, 0.5, &verdict).unwrap();
        // But for those that are where the parameter is.
        let moved = |((now, before), parameter): ((&u32, &u32), &u32)| now != before || before == parameter;
        assert!(bits(&average).iter().zip(&before).zip(&bits(&parameter)).all(moved), "{len} elements");
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let zeros = |shape: &[usize]| device.zeros(shape).unwrap();
    let mut average = zeros(&[4]);
    let wrong = device.ema(&mut average, &zeros(&[2, 2]), 0.5, &zeros(&[3]));
    assert_error(wrong, &["ema: parameter must be [4], not [2, 2]"]);
    assert_error(
        device.ema(&mut average, &zeros(&[4]), 1.5, &zeros(&[3])),
        &["ema: rate must be from 0 to 1, not 1.5"],
    );
    assert_error(device.ema(&mut average, &zeros(&[4]), f32::NAN, &zeros(&[3])), &["ema: rate", "not NaN"]);
    assert_error(device.ema(&mut average, &zeros(&[4]), 0.5, &zeros(&[1])), &["ema: verdict must be [3], not [1]"]);
}
