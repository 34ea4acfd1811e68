//! Random inputs, comparisons, and the runner of property tests.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;

use half::bf16;
use igpt_engine::device::{Device, Precision, Result, Tensors};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use test_support::{tries_all, turn};

use super::reference;

/// Distance from 1 to the next float.
pub const EPSILON: f64 = f32::EPSILON as f64;

/// A device under test, and the precision in which its ops return results: that decides which numbers are its inputs, and how
/// far results may be off.
pub struct Tested<D> {
    device: D,
    precision: Precision,
    /// Of every value that was downloaded.
    downloaded: RefCell<DefaultHasher>,
}

impl<D> Deref for Tested<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.device
    }
}

impl<D> Tested<D> {
    pub fn new(device: D, precision: Precision) -> Self {
        Self { device, precision, downloaded: RefCell::default() }
    }

    pub fn in_bf16(&self) -> bool {
        self.precision == Precision::Bf16
    }

    /// Distance from 1 to the next number that ops return.
    pub fn epsilon(&self) -> f64 {
        if self.in_bf16() { bf16::EPSILON.to_f64() } else { EPSILON }
    }

    /// The number that the device is given for `value`: one that it can hold, so that the reference and the device start from
    /// the same.
    pub fn representable(&self, value: f64) -> f64 {
        let value = value as f32;
        // Not from f64, whose last digits `half` drops before it rounds: a number just above a tie would be one.
        if self.in_bf16() { bf16::from_f32(value).to_f64() } else { f64::from(value) }
    }

    /// What a sum of `terms` products of numbers near 1 may be off by: f32 rounds each term to half an epsilon of the sum so
    /// far, errors which add up as a random walk; 4 times that for the tails, and 8 epsilons for what surrounds the sum.
    ///
    /// In bf16 the sum itself is f32: its result is rounded, to half an epsilon, and so were the terms where they came from an
    /// op.
    pub fn tolerance(&self, terms: usize) -> f64 {
        let terms = (terms as f64).sqrt();
        if self.in_bf16() { self.epsilon() * (1.0 + 0.25 * terms) } else { EPSILON * (8.0 + 2.0 * terms) }
    }

    /// The naive computation in bf16 of `definition`, if ops return results in bf16.
    pub fn naively<T>(&self, definition: impl FnOnce() -> T) -> Option<T> {
        self.in_bf16().then(|| reference::naively(definition))
    }

    /// Random numbers of one case.
    pub fn random(&self, seed: u64) -> Random {
        Random { numbers: ChaCha8Rng::seed_from_u64(seed), precision: self.precision }
    }

    /// A digest of every bit that was downloaded so far: two runs of one check have the same if their results have.
    pub fn digest(&self) -> u64 {
        self.downloaded.borrow().finish()
    }
}

impl<D: Tensors> Tested<D> {
    /// As the device's own, and noted in [`Tested::digest`].
    pub fn download(&self, tensor: &D::Tensor) -> Result<Vec<f32>> {
        let values = self.device.download(tensor)?;
        values.iter().for_each(|value| value.to_bits().hash(&mut *self.downloaded.borrow_mut()));
        Ok(values)
    }

    /// As the device's own, and noted in [`Tested::digest`].
    pub fn download_tokens(&self, tokens: &D::Tokens) -> Result<Vec<u16>> {
        let ids = self.device.download_tokens(tokens)?;
        ids.hash(&mut *self.downloaded.borrow_mut());
        Ok(ids)
    }
}

impl<D: Device> Tested<D> {
    /// These values as a result of an op, so in the device's precision: the mean of one token each, `[1, values]`.
    pub fn result(&self, values: &[f32]) -> D::Tensor {
        self.mean_pool(&self.upload(&[1, 1, values.len()], values).expect("shape fits")).expect("mean_pool")
    }
}

impl<D: Device> Tested<D> {
    /// A gradient of a parameter before anything was stored in it: whoever adds to it gets NaN.
    pub fn unwritten(&self, shape: &[usize]) -> D::Tensor {
        self.upload(shape, &vec![f32::NAN; shape.iter().product()]).expect("shape fits")
    }
}

/// Random numbers of one case.
pub struct Random {
    numbers: ChaCha8Rng,
    precision: Precision,
}

impl Random {
    /// Uniform in `[-1, 1]`, and such that the device can hold them.
    pub fn values(&mut self, len: usize) -> Vec<f64> {
        let held = Tested::new((), self.precision);
        (0..len).map(|_| held.representable(f64::from(self.numbers.random_range(-1.0f32..1.0)))).collect()
    }

    /// Uniform in `[-1, 1]`, with all the digits of an f32: for what is f32 on every device.
    pub fn floats(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| f64::from(self.numbers.random_range(-1.0f32..1.0))).collect()
    }

    pub fn tokens(&mut self, len: usize, below: usize) -> Vec<u16> {
        (0..len).map(|_| self.numbers.random_range(0..below as u16)).collect()
    }
}

/// A random tensor twice: for the reference and on the device.
pub struct Both<D: Device> {
    pub exact: Vec<f64>,
    pub tensor: D::Tensor,
}

impl<D: Device> Both<D> {
    pub fn new(device: &Tested<D>, shape: &[usize], exact: Vec<f64>) -> Self {
        let exact: Vec<f64> = exact.into_iter().map(|value| device.representable(value)).collect();
        let tensor = upload(device, shape, &exact);
        Self { exact, tensor }
    }

    pub fn random(device: &Tested<D>, random: &mut Random, shape: &[usize]) -> Self {
        Self::new(device, shape, random.values(shape.iter().product()))
    }

    /// The same with all the digits of an f32, for parameters that are added in f32, gradients, moments and caches.
    pub fn floats(device: &Tested<D>, random: &mut Random, shape: &[usize]) -> Self {
        let exact = random.floats(shape.iter().product());
        let tensor = upload(device, shape, &exact);
        Self { exact, tensor }
    }
}

/// What a sum of `terms` products of numbers near 1 may be off by that a device keeps in f32, whatever it stores results in.
///
/// As [`Tested::tolerance`] of f32; and tensor cores that cut off instead of rounding lose up to an epsilon for every 8 products, always
/// towards zero.
pub fn sum_in_f32(terms: usize) -> f64 {
    let terms = terms as f64;
    EPSILON * (8.0 + 2.0 * terms.sqrt() + terms / 8.0)
}

/// Asserts that every element is the exact one rounded to the device's precision once, at the end: half a unit in the last place off, and
/// `in_f32` of the largest element (or of `floor`) for what was computed in f32 before.
#[track_caller]
pub fn assert_rounded_once<D: Device>(
    device: &Tested<D>,
    what: &str,
    got: &D::Tensor,
    exact: &[f64],
    in_f32: f64,
    floor: f64,
) {
    let got = device.download(got).expect("download");
    assert_eq!(got.len(), exact.len(), "{what}: length");
    let scale = exact.iter().fold(floor, |scale, value| scale.max(value.abs()));
    for (index, (&got, &exact)) in got.iter().zip(exact).enumerate() {
        let error = (f64::from(got) - exact).abs();
        let half_unit =
            device.epsilon() / 2.0 * 2f64.powi(exact.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32);
        assert!(
            error <= half_unit + in_f32 * scale,
            "{what}[{index}]: got {got}, expected {exact}; off by {error:.3e}, half a unit is {half_unit:.3e} and f32 {:.3e}",
            in_f32 * scale
        );
    }
}

/// Asserts that the values are these, to the bit; any NaN is as good as another.
#[track_caller]
pub fn assert_bits(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
        assert!(same, "{what}[{index}]: got {got:e}, expected {expected:e}; off by bits");
    }
}

/// A power of two, subnormal ones too.
pub fn two(exponent: i32) -> f32 {
    2f64.powi(exponent) as f32
}

/// Factors that only change the exponents of results which are linear in something: by them everything scales exactly.
pub const FACTORS: [f32; 2] = [(1u64 << 60) as f32, 1.0 / (1u64 << 60) as f32];

/// The values times a power of two.
pub fn scaled(values: &[f32], factor: f32) -> Vec<f32> {
    values.iter().map(|value| value * factor).collect()
}

pub fn upload<D: Device>(device: &Tested<D>, shape: &[usize], values: &[f64]) -> D::Tensor {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    device.upload(shape, &values).expect("shape fits")
}

/// Asserts that every element is within `tolerance` of the largest expected element, or of `floor` if all are smaller (sums whose terms
/// are of size `floor` can cancel).
#[track_caller]
pub fn assert_close<D: Device>(
    device: &Tested<D>,
    what: &str,
    got: &D::Tensor,
    expected: &[f64],
    tolerance: f64,
    floor: f64,
) {
    let got = device.download(got).expect("download");
    assert_values_close(what, &got, expected, tolerance, floor);
}

#[track_caller]
pub fn assert_values_close(what: &str, got: &[f32], expected: &[f64], tolerance: f64, floor: f64) {
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

/// Asserts the rule for bf16: the error, as the root of its mean square, is at most twice that of the naive computation, or what
/// it takes to round the results once. Results that many numbers were rounded for one by one; see
/// [`assert_values_within_twice_naive`] for those of few.
///
/// [`assert_close`] looks at single elements; the largest error of a naive computation is too much a matter of luck to be
/// compared with.
#[track_caller]
pub fn assert_within_twice_naive<D: Device>(
    device: &Tested<D>,
    what: &str,
    got: &D::Tensor,
    exact: &[f64],
    naive: &[f64],
) {
    let got = device.download(got).expect("download");
    assert_values_within_twice_naive(what, &got, exact, naive, exact.len());
}

/// Independent rounding errors from which on root mean squares are compared.
///
/// A root mean square is an estimate, and a good one only of many errors. Say that a sound kernel and the naive computation
/// each make n independent rounding errors of the same spread. Such an error is a number of normal size times a uniform relative
/// error, so the variance of its square is 4.4 of the mean's square (3 · 1.8 − 1, the kurtosis of both less 1). The logarithm of
/// the ratio of the two mean squares then has a standard deviation of √(2 · 4.4 / n). The rule fails by chance where the ratio of
/// the roots is above 2, that is where this logarithm is above ln 4 = 1.39. For n = 8 that is 1.3 standard deviations, 1
/// comparison in 10; for n = 100 it is 4.7 of them, 1 in 700,000. A kernel rounds less often than the naive computation: with
/// half its mean square 1 in 30 is left of the former, and 1 in 10¹² of the latter.
const LEAST_TO_COMPARE: usize = 100;

/// [`assert_within_twice_naive`] of values, for which `errors` numbers were rounded independently of each other. That is not
/// their count where few rounded numbers spread over many results, and where these cancel: then the results' own rounding, which
/// is independent, is small beside what they inherit.
#[track_caller]
pub fn assert_values_within_twice_naive(what: &str, got: &[f32], exact: &[f64], naive: &[f64], errors: usize) {
    assert_eq!((got.len(), naive.len()), (exact.len(), exact.len()), "{what}: length");
    if errors.min(exact.len()) < LEAST_TO_COMPARE {
        return;
    }

    let root_mean_square = |values: &mut dyn Iterator<Item = f64>| {
        let (squares, count) = values.fold((0.0, 0), |(squares, count), value| (squares + value * value, count + 1));
        (squares / f64::from(count)).sqrt()
    };
    let error = root_mean_square(&mut got.iter().zip(exact).map(|(got, exact)| f64::from(*got) - exact));
    let of_naive = root_mean_square(&mut naive.iter().zip(exact).map(|(naive, exact)| naive - exact));

    // Results that cancel to nothing still have f32's errors, of terms near 1.
    let rounding = bf16::EPSILON.to_f64() / 2.0 * root_mean_square(&mut exact.iter().copied()) + 64.0 * EPSILON;
    assert!(
        error <= (2.0 * of_naive).max(rounding),
        "{what}: off by {error:.2e} (root mean square), and the naive computation by {of_naive:.2e}"
    );
}

/// Asserts the reference's own gradient against central differences of the reference's function, in f64.
///
/// With steps of 1e-5 the differences are good to about 1e-10 (rounding, third derivatives).
#[track_caller]
pub fn assert_matches_finite_differences(what: &str, gradient: &[f64], at: &[f64], function: impl Fn(&[f64]) -> f64) {
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

/// The variable that has a property tried on one of so many cases only, and one of [`TESTS`] tests of the table a run.
pub const SHARE: &str = "IGPT_TEST_SHARE";

/// See [`SHARE`].
const TESTS: usize = 3;

/// What a test of the table prints that is left to another run.
pub const LEFT: &str = "another run's turn";

/// Whether the test `name` of the table is tried at all.
pub fn is_tried(name: &str) -> bool {
    let number: usize = name.bytes().map(usize::from).sum();
    share() == 1 || tries_all() || number % TESTS == turn() % TESTS
}

fn share() -> u32 {
    std::env::var(SHARE).ok().and_then(|share| share.parse().ok()).filter(|share| *share > 0).unwrap_or(1)
}

/// Runs `test` on all of `cases`, or on the first of every so many.
pub fn each<T>(cases: impl IntoIterator<Item = T>, test: impl FnMut(T)) {
    cases.into_iter().step_by(share() as usize).for_each(test);
}

/// Runs `test` on `cases` random values of `strategy`; failures are shrunk.
#[track_caller]
pub fn property<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value)) {
    let cases = cases.div_ceil(share());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Asserts that the result is an error whose text has all of `parts` in it.
#[track_caller]
pub fn assert_error<T>(result: Result<T>, parts: &[&str]) {
    let Err(error) = result else { panic!("accepted; expected an error about {parts:?}") };
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{text:?} does not say {parts:?}");
}
