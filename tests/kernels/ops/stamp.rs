//! Stamps of time.

use std::time::{Duration, Instant};

use igpt_engine::device::{Device, stamps};

use super::support::{Tested, assert_error};

/// Milliseconds since the start, whichever stamps are taken, and no place but their own.
pub fn times_pass<D: Device>(device: &Tested<D>) {
    let mut times = device.upload(&[stamps(3) + 1], &[-1.0; stamps(3) + 1]).unwrap();
    for _ in 0..2 {
        let before = Instant::now();
        device.stamp(&mut times, 0).unwrap();
        device.stamp(&mut times, 1).unwrap();
        // The device has come as far.
        device.download(&times).unwrap();
        std::thread::sleep(Duration::from_millis(3));
        device.stamp(&mut times, 3).unwrap();
        let values = device.download(&times).unwrap();
        let most = before.elapsed().as_secs_f32() * 1e3;
        let [first, unused, last, behind] = [values[2], values[3], values[4], values[5]];
        assert!(0.0 <= first && first + 2.9 <= last && last <= most + 0.1, "{values:?} within {most} ms");
        assert_eq!([unused, behind], [-1.0; 2]);
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let mut times = device.zeros(&[stamps(1)]).unwrap();
    assert_error(device.stamp(&mut times, 2), &["stamp: times must be [4] or longer, not [3]"]);
    assert_error(device.stamp(&mut device.zeros(&[2, 8]).unwrap(), 0), &["stamp: times", "not [2, 8]"]);
}
