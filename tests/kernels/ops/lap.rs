//! The stopwatch.

use std::time::{Duration, Instant};

use igpt_engine::device::{Device, stopwatch};

use super::support::{Tested, assert_error};

/// Totals are sums of their own laps, in milliseconds, and start anew.
pub fn totals_add_up<D: Device>(device: &Tested<D>) {
    let mut watch = device.upload(&[stopwatch(4)], &[f32::NAN; stopwatch(4)]).unwrap();
    for _ in 0..2 {
        let start = Instant::now();
        device.lap(&mut watch, None).unwrap();
        let mut waited = |total| {
            // The device has come as far as the host.
            device.download(&watch).unwrap();
            std::thread::sleep(Duration::from_millis(3));
            device.lap(&mut watch, Some(total)).unwrap();
        };
        [0, 2, 0].into_iter().for_each(&mut waited);
        let values = device.download(&watch).unwrap();
        let most = start.elapsed().as_secs_f32() * 1e3;
        let [first, unused, last, other] = [values[2], values[3], values[4], values[5]];
        assert!(first >= 5.9 && last >= 2.9 && first + last <= most + 0.1, "{values:?} within {most} ms");
        assert_eq!([unused, other], [0.0; 2], "{values:?} within {most} ms");
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let mut watch = device.zeros(&[stopwatch(1)]).unwrap();
    assert_error(device.lap(&mut watch, Some(1)), &["lap: watch must be [4] or longer, not [3]"]);
    assert_error(device.lap(&mut device.zeros(&[2, 8]).unwrap(), None), &["lap: watch", "not [2, 8]"]);
}
