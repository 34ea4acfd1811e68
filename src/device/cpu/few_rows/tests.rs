//! Products of few rows beside f64, and in bf16 beside those in f32 of weights that were rounded.

use half::bf16;
use pulp::{Scalar, Scalar128b, Scalar256b, Scalar512b};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use test_support::turn;

use super::*;
use crate::device::prelude::*;
use crate::device::{Activation, MlpWeights};

/// Numbers that are new in every run; a failure prints the seed.
fn random() -> ChaCha8Rng {
    let seed = turn() as u64;
    println!("IGPT_TEST_TURN={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

fn values(random: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| random.random_range(-1.0..1.0)).collect()
}

fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| bf16::from_f32(*value).to_f32()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Inputs and outputs: odd ones, beside vectors, panels and tasks.
const SIZES: [[usize; 2]; 9] =
    [[1, 1], [2, 15], [3, 16], [5, 33], [31, 64], [64, 65], [513, 70], [512, 130], [2101, 47]];

/// Rows beside the tiles, of every instruction set, and the blocks.
const ROWS_TRIED: [usize; 13] = [1, 2, 3, 5, 6, 7, 8, 9, 11, 16, 17, 48, 50];

/// The rows that are tried for a weight of so many inputs: all, or some of them where it is large.
fn rows_tried(inputs: usize) -> impl Iterator<Item = usize> {
    ROWS_TRIED.into_iter().filter(move |rows| inputs < 100 || [1, 2, 7, 16, 50].contains(rows))
}

/// In both precisions, what a chain of roundings may be off by, of the sum of weights that are rounded to the precision.
#[test]
fn products_are_right_at_every_edge() {
    let random = &mut random();
    for (precision, layout) in [Precision::F32, Precision::Bf16]
        .into_iter()
        .flat_map(|precision| [WeightLayout::InOut, WeightLayout::OutIn].map(|layout| (precision, layout)))
    {
        let device = CpuDevice::poisoned(Some(2)).unwrap().drawing_in(precision);
        for [inputs, outputs] in SIZES {
            let shape = if layout == WeightLayout::InOut { [inputs, outputs] } else { [outputs, inputs] };
            let weights = values(random, inputs * outputs);
            let weight = device.upload(&shape, &weights).unwrap();
            device.prepare_decoding(&weight, layout).unwrap();
            let stored = if precision == Precision::Bf16 { rounded(&weights) } else { weights };
            let at = |input: usize, output: usize| match layout {
                WeightLayout::InOut => f64::from(stored[input * outputs + output]),
                WeightLayout::OutIn => f64::from(stored[output * inputs + input]),
            };

            for rows in rows_tried(inputs) {
                let x = values(random, rows * inputs);
                let y = device.linear(&device.upload(&[rows, 1, inputs], &x).unwrap(), &weight, layout, None).unwrap();
                for (index, y) in y.values().iter().enumerate() {
                    let (row, column) = (index / outputs, index % outputs);
                    let terms = (0..inputs).map(|input| f64::from(x[row * inputs + input]) * at(input, column));
                    let (exact, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                    let allowed = 2.0 * (inputs + 1) as f64 * f64::from(f32::EPSILON) * size;
                    let error = (f64::from(*y) - exact).abs();
                    assert!(
                        error <= allowed,
                        "{precision} {rows} {inputs} {outputs} at {row} {column}: {y}, not {exact}"
                    );
                }
            }
        }
    }
}

/// In bf16: the bits of f32 on rounded weights, with as many threads as there are, prepared or not, with biases, through an MLP too; and
/// nothing of a weight that was overwritten.
#[test]
fn bf16_gives_the_bits_of_rounded_weights() {
    let random = &mut random();
    let exact = CpuDevice::poisoned(Some(1)).unwrap();
    for [inputs, outputs] in SIZES {
        let (weights, down) = (values(random, inputs * outputs), values(random, inputs * outputs));
        let bias = values(random, outputs);
        for rows in rows_tried(inputs) {
            let x = values(random, rows * inputs);
            let results = |device: &CpuDevice, weights: &[f32], down: &[f32], prepared: bool| {
                let x = device.upload(&[rows, 1, inputs], &x).unwrap();
                let bias = device.upload(&[outputs], &bias).unwrap();
                let mut up = device.upload(&[inputs, outputs], weights).unwrap();
                let down = device.upload(&[outputs, inputs], down).unwrap();
                if prepared {
                    device.prepare_decoding(&up, WeightLayout::InOut).unwrap();
                    device.prepare_decoding(&down, WeightLayout::InOut).unwrap();
                }

                let linear = device.linear(&x, &up, WeightLayout::InOut, Some(&bias)).unwrap();
                let mlp = {
                    let weights = MlpWeights { up: &up, up_bias: Some(&bias), down: &down, down_bias: None };
                    device.mlp(&x, weights, Activation::QuickGelu).unwrap()
                };

                device.overwrite(&mut up, &vec![0.0; inputs * outputs]).unwrap();
                let nothing = device.linear(&x, &up, WeightLayout::InOut, None).unwrap();
                assert!(nothing.values().iter().all(|y| *y == 0.0));
                [linear, mlp.hidden, mlp.output].map(|tensor| bits(tensor.values()))
            };

            let expected = results(&exact, &rounded(&weights), &rounded(&down), true);
            for (threads, prepared) in [(1, false), (1, true), (2, true), (3, true), (3, false)] {
                let device = CpuDevice::poisoned(Some(threads)).unwrap().drawing_in(Precision::Bf16);
                let got = results(&device, &weights, &down, prepared);
                assert!(got == expected, "{threads} threads, prepared: {prepared}, {rows} {inputs} {outputs}");
            }
        }
    }
}

/// Every width of vectors gives the same bits, this processor's too, where it fuses multiplications and additions; none alone is right too.
#[test]
fn vectors_of_every_width_give_the_same_bits() {
    fn product<W: Word>(simd: impl Simd, x: &[f32], panels: &[W], inputs: usize) -> Vec<f32> {
        let mut product = [f32::NAN; PRODUCT];
        Product { x, panels, inputs, product: &mut product }.with_simd(simd);
        product.chunks_exact(MAX_PANELS * COLUMNS).take(x.len() / inputs).flatten().copied().collect()
    }

    fn tried<W: Word>(random: &mut ChaCha8Rng) {
        let device = CpuDevice::new(Some(1)).unwrap();
        for (inputs, rows) in [1, 2, 3, 33, 130].into_iter().flat_map(|inputs| ROWS_TRIED.map(|rows| (inputs, rows))) {
            if rows > ROWS {
                continue;
            }
            for count in 1..=MAX_PANELS {
                let outputs = count * COLUMNS;
                let tensor = device.upload(&[inputs, outputs], &values(random, inputs * outputs)).unwrap();
                let weight = Weight { tensor: &tensor, layout: WeightLayout::InOut, inputs, outputs };
                let mut panels = vec![W::ZERO; count * weight.panel::<W>()];
                weight.pack(0, &mut panels);
                let x = values(random, rows * inputs);

                let fused = product(Scalar256b, &x, &panels, inputs);
                for other in [product(Scalar128b, &x, &panels, inputs), product(Scalar512b, &x, &panels, inputs)] {
                    assert!(bits(&other) == bits(&fused), "{rows} {inputs} {count}");
                }
                let apart = product(Scalar, &x, &panels, inputs);
                let mut here = [f32::NAN; PRODUCT];
                Arch::new().dispatch(Product { x: &x, panels: &panels, inputs, product: &mut here });
                let expected = if vector_floats() == 1 { &apart } else { &fused };
                let here = &here[..rows * MAX_PANELS * COLUMNS];
                assert!(bits(here) == bits(expected), "{rows} {inputs} {count} here");

                for (apart, fused) in apart.iter().zip(&fused).filter(|(_, fused)| !fused.is_nan()) {
                    assert!((apart - fused).abs() <= 2.0 * inputs as f32 * f32::EPSILON * inputs as f32);
                }
            }
        }
    }

    let random = &mut random();
    tried::<f32>(random);
    tried::<u32>(random);
}

/// Panels of bf16 are half of the memory, and a device reads none that another has made in another precision.
#[test]
fn panels_are_of_the_devices_precision() {
    let random = &mut random();
    let [exact, drawing] =
        [Precision::F32, Precision::Bf16].map(|precision| CpuDevice::new(Some(1)).unwrap().drawing_in(precision));
    let (weights, x) = (values(random, 301 * 40), values(random, 301));
    let taken = [&exact, &drawing].map(|device| {
        let weight = device.upload(&[301, 40], &weights).unwrap();
        let before = device.memory_use().in_use;
        device.prepare_decoding(&weight, WeightLayout::InOut).unwrap();
        let taken = device.memory_use().in_use - before;

        let y = |device: &CpuDevice, weight: &CpuTensor| {
            let x = device.upload(&[1, 1, 301], &x).unwrap();
            bits(device.linear(&x, weight, WeightLayout::InOut, None).unwrap().values())
        };
        for other in [&exact, &drawing] {
            assert!(y(other, &weight) == y(other, &other.upload(&[301, 40], &weights).unwrap()));
        }
        taken
    });
    assert_eq!(taken, [301 * 48 * 4, 151 * 48 * 4]);
}
