//! Random inputs, comparisons, and the runner of property tests.

use std::cell::Cell;

use half::bf16;
use igpt_engine::device::Device;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::reference;

/// Distance from 1 to the next float.
pub const EPSILON: f64 = f32::EPSILON as f64;

thread_local! {
    /// Whether the device of this thread's test stores what ops return in bf16.
    static IN_BF16: Cell<bool> = const { Cell::new(false) };
}

/// Says that this thread's test is of a device that stores what ops return in bf16: inputs are then rounded to that, so that
/// the reference and the device still start from the same numbers, and tolerances are bf16's.
pub fn in_bf16() {
    IN_BF16.set(true);
}

/// Distance from 1 to the next number that the device's ops return.
pub fn epsilon() -> f64 {
    if IN_BF16.get() { bf16::EPSILON.to_f64() } else { EPSILON }
}

/// The number that the device is given for `value`.
pub fn representable(value: f64) -> f64 {
    if IN_BF16.get() { bf16::from_f64(value).to_f64() } else { f64::from(value as f32) }
}

/// Random numbers of one case.
pub struct Random(ChaCha8Rng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in `[-1, 1]`; floats, so that the reference and the device start from the same numbers.
    pub fn values(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| representable(f64::from(self.0.random_range(-1.0f32..1.0)))).collect()
    }

    pub fn tokens(&mut self, len: usize, below: usize) -> Vec<u16> {
        (0..len).map(|_| self.0.random_range(0..below as u16)).collect()
    }
}

/// A random tensor twice: for the reference and on the device.
pub struct Both<D: Device> {
    pub exact: Vec<f64>,
    pub tensor: D::Tensor,
}

impl<D: Device> Both<D> {
    pub fn new(device: &D, shape: &[usize], exact: Vec<f64>) -> Self {
        let exact: Vec<f64> = exact.into_iter().map(representable).collect();
        let tensor = upload(device, shape, &exact);
        Self { exact, tensor }
    }

    pub fn random(device: &D, random: &mut Random, shape: &[usize]) -> Self {
        Self::new(device, shape, random.values(shape.iter().product()))
    }
}

pub fn upload<D: Device>(device: &D, shape: &[usize], values: &[f64]) -> D::Tensor {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    device.upload(shape, &values).expect("shape fits")
}

/// What a sum of `terms` products of numbers near 1 may be off by: f32 rounds each term to half an epsilon of the sum so
/// far, errors which add up as a random walk; 4 times that for the tails, and 8 epsilons for what surrounds the sum.
///
/// In bf16 the sum itself is f32: its result is rounded, to half an epsilon, and so were the terms where they came from an op.
pub fn tolerance(terms: usize) -> f64 {
    let terms = (terms as f64).sqrt();
    if IN_BF16.get() { epsilon() * (1.0 + 0.25 * terms) } else { EPSILON * (8.0 + 2.0 * terms) }
}

/// Every element within `tolerance` of the largest expected element, or of `floor` if all are smaller (sums whose terms
/// are of size `floor` can cancel).
#[track_caller]
pub fn close<D: Device>(device: &D, what: &str, got: &D::Tensor, expected: &[f64], tolerance: f64, floor: f64) {
    let got = device.download(got).expect("download");
    close_values(what, &got, expected, tolerance, floor);
}

#[track_caller]
pub fn close_values(what: &str, got: &[f32], expected: &[f64], tolerance: f64, floor: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let scale = expected.iter().fold(floor, |scale, value| scale.max(value.abs()));
    for (index, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs();
        assert!(
            error <= tolerance * scale,
            "{what}[{index}]: got {got}, expected {expected}; off by {:.2e} of {scale:.2e}, allowed {tolerance:.2e}",
            error / scale
        );
    }
}

/// The naive computation in bf16 of `definition`, if this thread's device stores what ops return in bf16.
pub fn naively<T>(definition: impl FnOnce() -> T) -> Option<T> {
    IN_BF16.get().then(|| reference::naively(definition))
}

/// The rule for bf16: the error, as the root of its mean square, is at most twice that of the naive computation, or what it
/// takes to round the results once. [`close`] looks at single elements; the largest error of a naive computation is too much
/// a matter of luck to be compared with, as is any of a small tensor.
#[track_caller]
pub fn at_most_twice<D: Device>(device: &D, what: &str, got: &D::Tensor, exact: &[f64], naive: &[f64]) {
    at_most_twice_values(what, &device.download(got).expect("download"), exact, naive);
}

/// Elements from which on [`at_most_twice`] compares.
const LEAST_TO_COMPARE: usize = 100;

#[track_caller]
pub fn at_most_twice_values(what: &str, got: &[f32], exact: &[f64], naive: &[f64]) {
    assert_eq!((got.len(), naive.len()), (exact.len(), exact.len()), "{what}: length");
    if exact.len() < LEAST_TO_COMPARE {
        return;
    }
    let size = |values: &mut dyn Iterator<Item = f64>| {
        let (squares, count) = values.fold((0.0, 0), |(squares, count), value| (squares + value * value, count + 1));
        (squares / f64::from(count)).sqrt()
    };
    let error = size(&mut got.iter().zip(exact).map(|(got, exact)| f64::from(*got) - exact));
    let of_naive = size(&mut naive.iter().zip(exact).map(|(naive, exact)| naive - exact));
    // Results that cancel to nothing still have f32's errors, of terms near 1.
    let rounding = bf16::EPSILON.to_f64() / 2.0 * size(&mut exact.iter().copied()) + 64.0 * EPSILON;
    assert!(
        error <= (2.0 * of_naive).max(rounding),
        "{what}: off by {error:.2e} (root mean square), and the naive computation by {of_naive:.2e}"
    );
}

/// The reference's own gradient against central differences of the reference's function, in f64.
///
/// With steps of 1e-5 the differences are good to about 1e-10 (rounding, third derivatives).
#[track_caller]
pub fn agrees_with_differences(what: &str, gradient: &[f64], at: &[f64], function: impl Fn(&[f64]) -> f64) {
    const STEP: f64 = 1e-5;
    assert_eq!(gradient.len(), at.len(), "{what}: length");
    let mut point = at.to_vec();
    for index in 0..at.len() {
        point[index] = at[index] + STEP;
        let above = function(&point);
        point[index] = at[index] - STEP;
        let below = function(&point);
        point[index] = at[index];
        let difference = (above - below) / (2.0 * STEP);
        let error = (gradient[index] - difference).abs();
        assert!(
            error <= 1e-7 * (1.0 + difference.abs()),
            "reference {what}[{index}]: gradient {}, differences {difference}",
            gradient[index]
        );
    }
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Runs `test` on `cases` random values of `strategy`; failures are shrunk.
#[track_caller]
pub fn property<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// The text of an error that must be one, with all of `parts` in it.
#[track_caller]
pub fn says<T>(result: igpt_engine::device::Result<T>, parts: &[&str]) {
    let Err(error) = result else { panic!("accepted; expected an error about {parts:?}") };
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{text:?} does not say {parts:?}");
}
