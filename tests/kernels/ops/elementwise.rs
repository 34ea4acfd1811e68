//! `add_assign`, and the conversions between f32 and the device's precision, which every op with a parameter makes.

use igpt_engine::device::{Device, Precision};

use super::support::{Tested, assert_bits, each};

/// Lengths beside every vector, and more than a grid takes in one stride: 8 blocks of 256 threads, 8 elements each, for every
/// multiprocessor of an H100.
const LENGTHS: [usize; 16] = [13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 1023, 2049, 4099];

/// Numbers whose sums are rounded, the more the device rounds; none of them twice in a row.
fn numbers(len: usize, first: usize) -> Vec<f32> {
    (first..first + len).map(|index| (index as f32 * 0.618_034).fract() - 0.5).collect()
}

fn rounded<D>(device: &Tested<D>, values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| device.representable(f64::from(*value)) as f32).collect()
}

fn sums(one: &[f32], other: &[f32]) -> Vec<f32> {
    one.iter().zip(other).map(|(one, other)| one + other).collect()
}

pub fn tails<D: Device>(device: &Tested<D>) {
    each(LENGTHS, |len| check(device, len));
    // Past what all blocks of a card have at once.
    let len = 132 * 8 * 256 * 8 + 13;
    let (one, other) = (numbers(len, 0), numbers(len, 1000));
    let mut of_both = device.upload(&[1, len], &one).unwrap();
    device.add_assign(&mut of_both, &device.upload(&[1, len], &other).unwrap()).unwrap();
    assert_bits("of many", &device.download(&of_both).unwrap(), &sums(&one, &other));
}

/// Sums of what the host made, of results, and of a result into what the host made: each element is the nearest number to the sum.
pub fn check<D: Device>(device: &Tested<D>, len: usize) {
    let (one, other) = (numbers(len, 0), numbers(len, 1000));
    let (stored_one, stored_other) = (rounded(device, &one), rounded(device, &other));

    let mut of_host = device.upload(&[1, len], &one).unwrap();
    device.add_assign(&mut of_host, &device.upload(&[1, len], &other).unwrap()).unwrap();
    assert_bits("of the host", &device.download(&of_host).unwrap(), &sums(&one, &other));

    let mut of_results = device.result(&one);
    device.add_assign(&mut of_results, &device.result(&other)).unwrap();
    let expected = rounded(device, &sums(&stored_one, &stored_other));
    assert_bits("of results", &device.download(&of_results).unwrap(), &expected);

    let mut of_both = device.upload(&[1, len], &one).unwrap();
    device.add_assign(&mut of_both, &device.result(&other)).unwrap();
    assert_bits("of both", &device.download(&of_both).unwrap(), &sums(&one, &stored_other));
}

/// What ranks add up with: a row of a matrix added to a vector, and parts of tensors copied, each to the bit and nothing beside it.
pub fn rows_and_parts<D: Device>(device: &Tested<D>) {
    for columns in [64, 128, 4160] {
        let (one, rows) = (numbers(columns, 0), numbers(3 * columns, 500));
        let matrix = device.upload(&[3, columns], &rows).unwrap();
        for row in [0, 2, 1] {
            let mut into = device.upload(&[columns], &one).unwrap();
            device.add_row(&mut into, &matrix, row).unwrap();
            let expected = sums(&one, &rows[row * columns..][..columns]);
            assert_bits("row", &device.download(&into).unwrap(), &expected);
        }
        let mut into = device.upload(&[columns], &one).unwrap();
        assert!(device.add_row(&mut into, &matrix, 3).is_err());
        assert!(device.add_row(&mut device.zeros(&[64, 2]).unwrap(), &matrix, 0).is_err());
    }
    let odd = device.zeros(&[2, 65]).unwrap();
    assert!(device.add_row(&mut device.zeros(&[65]).unwrap(), &odd, 0).is_err());

    // Parts at any place, of tensors of any shape.
    let values = numbers(35, 0);
    let from = device.upload(&[5, 7], &values).unwrap();
    for (first, start, count) in [(0, 0, 1), (34, 9, 1), (3, 2, 8), (1, 0, 10), (25, 0, 10)] {
        let mut to = device.upload(&[2, 5], &[9.0; 10]).unwrap();
        device.copy(&from, first, &mut to, start, count).unwrap();
        let mut expected = [9.0; 10];
        expected[start..start + count].copy_from_slice(&values[first..first + count]);
        assert_bits("part", &device.download(&to).unwrap(), &expected);
    }
    let mut to = device.zeros(&[10]).unwrap();
    for (first, start, count) in [(35, 0, 1), (0, 10, 1), (30, 0, 6), (0, 5, 6), (0, 0, 0), (usize::MAX, 0, 2)] {
        assert!(device.copy(&from, first, &mut to, start, count).is_err(), "{first} {start} {count}");
    }
}

/// Weights that only GEMMs read: rounded to the device's precision, and parts of them copied.
pub fn narrow_weights<D: Device>(device: &Tested<D>) {
    let values = numbers(4 * 33 + 1, 70);
    let from = device.upload(&[values.len()], &values).unwrap();
    let stored = rounded(device, &values);
    let mut narrow = device.zeros_narrow(&[values.len()]).unwrap();
    assert!(device.download(&narrow).unwrap().iter().all(|value| *value == 0.0));
    device.round(&from, &mut narrow).unwrap();
    assert_bits("rounded", &device.download(&narrow).unwrap(), &stored);
    let mut same = device.zeros(&[values.len()]).unwrap();
    device.round(&from, &mut same).unwrap();
    assert_bits("not rounded", &device.download(&same).unwrap(), &values);

    let mut part = device.zeros_narrow(&[2, 5]).unwrap();
    device.copy(&narrow, 21, &mut part, 3, 7).unwrap();
    assert_bits("part", &device.download(&part).unwrap(), &[&[0.0; 3], &stored[21..28]].concat());
    assert!(device.round(&from, &mut part).is_err(), "other sizes");
    if device.precision() != Precision::F32 {
        assert!(device.copy(&from, 0, &mut part, 0, 3).is_err(), "other precisions");
    }
}

/// A number converted is the nearest one that there is, ties to even: whatever its exponent, at every place of a vector and beside it.
/// (Only −0 does not come through a mean.)
pub fn conversions<D: Device>(device: &Tested<D>) {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let ties = [0x3f80_8000, 0x3f81_8000, 0x3f80_7fff, 0x3f80_8001, 0xbf80_8000, 0xbf81_8000].map(f32::from_bits);
    let small = [1, 0x8000, 0x8001, 0x1_8000, 0x7f_ffff, 0x80_0000].map(f32::from_bits);
    let large = [f32::MAX, f32::MIN, 3.38e38, 3.4e38, inf, -inf, nan, 0.0];
    let special = [&ties[..], &small, &large].concat();
    for at in 0..13 {
        for value in &special {
            let mut values = numbers(13, at);
            values[at] = *value;
            let result = device.result(&values);
            assert_bits("converted", &device.download(&result).unwrap(), &rounded(device, &values));

            // And back, into a sum with what changes no bit.
            let mut sum = device.upload(&[1, 13], &[-0.0; 13]).unwrap();
            device.add_assign(&mut sum, &result).unwrap();
            assert_bits("converted back", &device.download(&sum).unwrap(), &rounded(device, &values));
        }
    }
}
