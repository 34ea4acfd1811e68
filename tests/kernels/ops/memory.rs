//! Moving values to a device and back, `zero` and `add_assign`.

use igpt_engine::device::Device;

use super::support::{Tested, assert_error};

pub fn values_come_back<D: Device>(device: &Tested<D>) {
    let values: Vec<f32> = (0..1000 * 37).map(|value| value as f32).collect();
    let mut tensor = device.upload(&[1000, 37], &values).unwrap();
    assert_eq!(device.shape(&tensor), [1000, 37]);
    assert_eq!(device.download(&tensor).unwrap(), values);
    let other = device.upload(&[1000, 37], &values).unwrap();
    device.add_assign(&mut tensor, &other).unwrap();
    assert!(device.download(&tensor).unwrap().iter().zip(&values).all(|(got, value)| *got == 2.0 * value));
    device.zero(&mut tensor).unwrap();
    assert!(device.download(&tensor).unwrap().iter().all(|value| *value == 0.0));
    device.overwrite(&mut tensor, &values).unwrap();
    assert_eq!(device.download(&tensor).unwrap(), values);
    assert_eq!(device.download(&device.zeros(&[2, 3]).unwrap()).unwrap(), [0.0; 6]);
    let tokens = device.upload_tokens([2, 3], &[1, 2, 3, 4, 5, u16::MAX]).unwrap();
    assert_eq!(device.download_tokens(&tokens).unwrap(), [1, 2, 3, 4, 5, u16::MAX]);
}

/// Slices in another order, several times and not at all; of what an op returns, too, which is of another precision on some devices.
pub fn rows_are_gathered<D: Device>(device: &Tested<D>) {
    let values: Vec<f32> = (0..5 * 6).map(|value| value as f32).collect();
    let rows = [3, 4, 0, 0, 1, 2, 4];
    let expected: Vec<f32> = rows.iter().flat_map(|row| &values[row * 6..][..6]).copied().collect();
    let tensor = device.upload(&[5, 2, 3], &values).unwrap();
    let gathered = device.gather(&tensor, &rows).unwrap();
    assert_eq!(device.shape(&gathered), [7, 2, 3]);
    assert_eq!(device.download(&gathered).unwrap(), expected);
    assert_eq!(device.download(&tensor).unwrap(), values);

    let result = device.mean_pool(&device.upload(&[5, 1, 6], &values).unwrap()).unwrap();
    assert_eq!(device.download(&device.gather(&result, &rows).unwrap()).unwrap(), expected);

    assert_error(device.gather(&tensor, &[1, 5]), &["gather: rows must be below 5, not 5"]);
    assert_error(device.gather(&tensor, &[]), &["gather: shape", "[0, 2, 3]"]);
}

/// Values on the host that outlive the step: whole tensors and parts, one behind the other, what an op returns too; another thread reads them.
pub fn values_are_fetched<D: Device>(device: &Tested<D>) {
    let values: Vec<f32> = (0..300).map(|value| value as f32).collect();
    let tensor = device.upload(&[30, 10], &values).unwrap();
    let mut staging = device.staging(400).unwrap();
    assert_eq!(staging.as_ref(), [0.0; 400]);
    device.fetch(&tensor, 0, 300, &mut staging, 50).unwrap();
    device.fetch(&tensor, 7, 20, &mut staging, 0).unwrap();
    let result = device.mean_pool(&device.upload(&[5, 1, 6], &values[..30]).unwrap()).unwrap();
    device.fetch(&result, 3, 12, &mut staging, 380).unwrap();
    assert_error(device.fetch(&tensor, 290, 11, &mut staging, 0), &["copy"]);
    assert_error(device.fetch(&tensor, 0, 300, &mut staging, 101), &["copy"]);

    let expected =
        [&values[7..27], &[0.0; 30], &values, &[0.0; 30], &values[3..15], &[0.0; 8]].into_iter().flatten().copied();
    let expected: Vec<f32> = expected.collect();
    let read = std::thread::spawn(move || staging.as_ref().to_vec()).join().unwrap();
    assert_eq!(read, expected);
}

pub fn no_tensor_is_empty<D: Device>(device: &Tested<D>) {
    assert_error(device.zeros(&[]), &["zeros: shape", "[]"]);
    assert_error(device.zeros(&[3, 0]), &["zeros: shape", "[3, 0]"]);
    assert_error(device.zeros(&[usize::MAX, 3]), &["zeros: shape"]);
    assert_error(device.upload(&[2, 2], &[1.0]), &["upload: values must be 4", "not 1"]);
    assert_error(device.upload_tokens([2, 2], &[1]), &["upload_tokens: ids must be 4", "not 1"]);
    assert_error(device.upload_tokens([0, 2], &[]), &["upload_tokens: shape"]);
    let mut tensor = device.zeros(&[4]).unwrap();
    assert_error(device.overwrite(&mut tensor, &[1.0]), &["overwrite: values must be 4", "not 1"]);
    let other = device.zeros(&[2, 2]).unwrap();
    assert_error(device.add_assign(&mut tensor, &other), &["add_assign: other must be [4], not [2, 2]"]);
}
