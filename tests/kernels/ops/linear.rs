//! Linear layers.

use igpt_engine::device::{Beta, Device, WeightGradient, WeightLayout};
use proptest::prelude::{Strategy, any};

use super::reference::{self, Sizes};
use super::support::{
    Both, FACTORS, Tested, assert_bits, assert_close, assert_error, assert_matches_finite_differences,
    assert_rounded_once, assert_within_twice_naive, dot, each, property, scaled, sum, sum_in_f32, upload,
};

/// Seed, layout, bias, rows, inputs, outputs.
type Case = (u64, bool, bool, usize, usize, usize);

fn cases() -> impl Strategy<Value = Case> {
    (any::<u64>(), any::<bool>(), any::<bool>(), 1..140usize, 1..70usize, 1..70usize)
}

fn layout(out_in: bool, inputs: usize, outputs: usize) -> (WeightLayout, [usize; 2]) {
    if out_in { (WeightLayout::OutIn, [outputs, inputs]) } else { (WeightLayout::InOut, [inputs, outputs]) }
}

pub fn forward<D: Device>(device: &Tested<D>) {
    property(24, cases(), |case| check_forward(device, case));
}

pub fn backward<D: Device>(device: &Tested<D>) {
    property(24, cases(), |case| check_backward(device, case));
}

/// GEMMs that a GPU cuts into large tiles, and sums over rows that it splits.
pub fn large<D: Device>(device: &Tested<D>) {
    for out_in in [false, true] {
        check_forward(device, (1, out_in, false, 1100, 40, 1032));
    }
    check_backward(device, (2, false, true, 1290, 520, 520));
    check_backward(device, (3, true, false, 600, 33, 65));
}

/// A token head of 1000, 1024 and 4096 colours.
pub fn large_palettes<D: Device>(device: &Tested<D>) {
    for colours in [1000, 1024, 4096] {
        check_forward(device, (colours as u64, true, false, 5, 24, colours));
        check_backward(device, (colours as u64, true, false, 5, 24, colours));
    }
}

/// Sizes beside every vector, tile and stage, of the output and of the sums; lone rows, columns and terms.
pub fn bounds<D: Device>(device: &Tested<D>) {
    let sizes = [
        (65, 17, 72),
        (1, 1, 1),
        (63, 8, 64),
        (64, 16, 65),
        (66, 15, 8),
        (127, 31, 9),
        (128, 32, 1),
        (129, 33, 128),
        (2, 96, 127),
        (3, 97, 129),
        (4, 95, 16),
        (5, 128, 24),
        (7, 129, 6),
        (9, 160, 33),
        (1, 40, 136),
    ];
    each(sizes.into_iter().enumerate(), |(index, (rows, inputs, outputs))| {
        for out_in in [false, true] {
            check_forward(device, (index as u64, out_in, index % 3 != 0, rows, inputs, outputs));
            check_backward(device, (index as u64, out_in, index % 3 == 0, rows, inputs, outputs));
        }
    });
}

/// Sums over rows that are split, and whose splits have parts of tiles, nothing (64 splits of 513 tiles), or end with a tile; rows
/// beside the blocks of the bias's gradient (64 rows, and from 4096 on 64 blocks).
pub fn splits<D: Device>(device: &Tested<D>) {
    each(
        [(16_416, 8, 8), (511, 64, 8), (512, 8, 64), (513, 9, 7), (769, 16, 16), (4097, 7, 33)],
        |(rows, inputs, outputs)| {
            check_backward(device, (rows as u64, rows % 2 == 0, true, rows, inputs, outputs));
        },
    );
}

/// As few rows as images are drawn at once, beside what a block has of them; sums beside its warps' tiles and stages, and columns.
pub fn few_rows<D: Device>(device: &Tested<D>) {
    let sizes = [
        (16, 512, 40),
        (1, 8, 8),
        (15, 256, 24),
        (17, 264, 16),
        (31, 1024, 8),
        (32, 1032, 72),
        (33, 768, 104),
        (64, 2056, 16),
        (65, 40, 24),
    ];
    each(sizes.into_iter().enumerate(), |(index, (rows, inputs, outputs))| {
        for out_in in [false, true] {
            check_forward(device, (index as u64, out_in, index % 2 == 0, rows, inputs, outputs));
        }
    });
}

/// A NaN in a row or a column of an operand reaches that row or column of the result and nothing else; results scale exactly with a power
/// of two.
pub fn values_of_any_size<D: Device>(device: &Tested<D>) {
    for (rows, inputs, outputs) in [(70, 40, 72), (9, 19, 11)] {
        let random = &mut device.random(11);
        let mut values = |len: usize| random.values(len).into_iter().map(|value| value as f32).collect::<Vec<_>>();
        let (x, weight, dy) = (values(rows * inputs), values(inputs * outputs), values(rows * outputs));
        for out_in in [false, true] {
            let (layout, shape) = layout(out_in, inputs, outputs);
            let run = |x: &[f32], weight: &[f32], dy: &[f32]| {
                let (x, dy) =
                    (device.upload(&[rows, inputs], x).unwrap(), device.upload(&[rows, outputs], dy).unwrap());
                let weight = device.upload(&shape, weight).unwrap();
                let (mut d_weight, mut d_bias) = (device.zeros(&shape).unwrap(), device.zeros(&[outputs]).unwrap());
                let y = device.linear(&x, &weight, layout, None).unwrap();
                let slot = Some(&mut d_bias);
                let dx = device.linear_backward(&dy, &x, &weight, layout, &mut d_weight, slot, Beta::One).unwrap();
                [y, dx, d_weight, d_bias].map(|tensor| device.download(&tensor).unwrap())
            };
            let clean = run(&x, &weight, &dy);
            for factor in FACTORS {
                let got = run(&x, &weight, &scaled(&dy, factor));
                (1..4).for_each(|index| assert_bits("gradients", &got[index], &scaled(&clean[index], factor)));
                assert_bits("y", &run(&scaled(&x, factor), &weight, &dy)[0], &scaled(&clean[0], factor));
            }

            // The last row of x, and of dy.
            let (mut nan_x, mut nan_dy) = (x.clone(), dy.clone());
            nan_x[rows * inputs - 2] = f32::NAN;
            nan_dy[rows * outputs - 2] = f32::NAN;
            let mut expected = clean.clone();
            expected[0][(rows - 1) * outputs..].fill(f32::NAN);
            expected[1][(rows - 1) * inputs..].fill(f32::NAN);
            expected[3][outputs - 2] = f32::NAN;
            assert_bits("y", &run(&nan_x, &weight, &dy)[0], &expected[0]);
            let got = run(&x, &weight, &nan_dy);
            assert_bits("dx", &got[1], &expected[1]);
            assert_bits("d_bias", &got[3], &expected[3]);
            for (at, (got, clean)) in got[2].iter().zip(&clean[2]).enumerate() {
                let of_column = if out_in { at / inputs } else { at % outputs } == outputs - 2;
                assert!(
                    if of_column { got.is_nan() } else { got.to_bits() == clean.to_bits() },
                    "d_weight[{at}]: {got}"
                );
            }
        }
    }
}

pub fn check_forward<D: Device>(device: &Tested<D>, case: Case) {
    let (seed, out_in, biased, rows, inputs, outputs) = case;
    let random = &mut device.random(seed);
    let (layout, shape) = layout(out_in, inputs, outputs);
    let x = Both::random(device, random, &[1, rows, inputs]);
    let weight = Both::random(device, random, &shape);
    let bias = Both::floats(device, random, &[outputs]);

    let y = device.linear(&x.tensor, &weight.tensor, layout, biased.then_some(&bias.tensor)).unwrap();
    assert_eq!(device.shape(&y), [1, rows, outputs]);

    let exact_bias = biased.then_some(&bias.exact[..]);
    let definition = || reference::linear(&x.exact, &weight.exact, layout, exact_bias, Sizes(rows, inputs, outputs));
    let expected = definition();
    // Operands are exact, and the bias is added to the sum in f32.
    assert_rounded_once(device, "y", &y, &expected, sum_in_f32(inputs), 1.0);
    if let Some(naive) = device.naively(definition) {
        assert_within_twice_naive(device, "y", &y, &expected, &naive);
    }
}

pub fn check_backward<D: Device>(device: &Tested<D>, case: Case) {
    let (seed, out_in, biased, rows, inputs, outputs) = case;
    let random = &mut device.random(seed);
    let sizes = Sizes(rows, inputs, outputs);
    let (layout, shape) = layout(out_in, inputs, outputs);
    let x = Both::random(device, random, &[rows, inputs]);
    let dy = Both::random(device, random, &[rows, outputs]);
    let weight = Both::random(device, random, &shape);
    let [mut d_weight, mut d_bias] = [&shape[..], &[outputs]].map(|shape| Both::floats(device, random, shape));

    let bias_slot = biased.then_some(&mut d_bias.tensor);
    let got = device
        .linear_backward(&dy.tensor, &x.tensor, &weight.tensor, layout, &mut d_weight.tensor, bias_slot, Beta::One)
        .unwrap();

    let definition = || reference::linear_backward(&dy.exact, &x.exact, &weight.exact, layout, sizes);
    let (dx, weight_gradient, bias_gradient) = definition();
    assert_rounded_once(device, "dx", &got, &dx, sum_in_f32(outputs), 1.0);
    // Gradients of parameters are f32 on every device; stored, they are the same without what was there.
    let [mut stored, mut stored_bias] = [&shape[..], &[outputs]].map(|shape| device.unwritten(shape));
    let slot = Some(&mut stored_bias);
    device.linear_backward(&dy.tensor, &x.tensor, &weight.tensor, layout, &mut stored, slot, Beta::Zero).unwrap();
    assert_close(device, "d_weight, stored", &stored, &weight_gradient, sum_in_f32(rows), 1.0);
    assert_close(device, "d_bias, stored", &stored_bias, &bias_gradient, sum_in_f32(rows), 1.0);
    let summed = sum(&d_weight.exact, &weight_gradient);
    assert_close(device, "d_weight", &d_weight.tensor, &summed, sum_in_f32(rows), 1.0);
    let expected = if biased { sum(&d_bias.exact, &bias_gradient) } else { d_bias.exact.clone() };
    assert_close(device, "d_bias", &d_bias.tensor, &expected, sum_in_f32(rows), 1.0);

    if let Some((naive_dx, naive_weight, _)) = device.naively(definition) {
        assert_within_twice_naive(device, "dx", &got, &dx, &naive_dx);
        assert_within_twice_naive(device, "d_weight", &d_weight.tensor, &summed, &sum(&d_weight.exact, &naive_weight));
    }

    if rows * inputs * outputs < 2000 {
        let loss = |x: &[f64], w: &[f64]| dot(&reference::linear(x, w, layout, None, sizes), &dy.exact);
        assert_matches_finite_differences("dx", &dx, &x.exact, |x| loss(x, &weight.exact));
        assert_matches_finite_differences("d_weight", &weight_gradient, &weight.exact, |weight| loss(&x.exact, weight));
    }
}

/// The gradients of several weights at once: of one size of rows, aligned and with tiles enough for one launch, stored and added to;
/// and of others, which are launches of their own.
pub fn several_weights<D: Device>(device: &Tested<D>) {
    // In bf16 54 tiles of 128 x 128 and more are one launch; the last rows, columns and k's fill none.
    let large = [(520, 776), (776, 136), (392, 1032), (136, 136)];
    let cases = [(72, &large[..], false), (72, &large[..3], true), (40, &[(8, 16), (17, 5), (9, 30)], false)];
    each(cases, |(rows, sizes, stored)| check_weights(device, rows, sizes, stored));
}

/// Weights of a block whose 40 tiles of 256 x 256 an H100 cuts along k: of 66 clusters 26 have the last third of all. Rows, and sizes.
pub const IN_PARTS: (usize, [(usize, usize); 4]) = (1352, [(504, 1016), (1016, 504), (504, 1528), (504, 1528)]);

/// Sums in two parts: in bf16, where several weights are one launch.
pub fn weights_in_parts<D: Device>(device: &Tested<D>) {
    if device.in_bf16() {
        let (rows, sizes) = IN_PARTS;
        each([false, true], |stored| check_weights(device, rows, &sizes, stored));
    }
}

/// Small whole numbers, so that all sums are exact; a weight that lies the other way is one of them.
pub fn check_weights<D: Device>(device: &Tested<D>, rows: usize, sizes: &[(usize, usize)], stored: bool) {
    let whole = |rows: usize, columns: usize, times: usize| -> Vec<f32> {
        (0..rows * columns).map(|at| ((at / columns * times + at % columns * 5) % 7) as f32 - 3.0).collect()
    };
    let mut operands = Vec::new();
    for (index, (inputs, outputs)) in sizes.iter().copied().enumerate() {
        let (layout, shape) = layout(index == 1, inputs, outputs);
        let (x, dy, old) = (whole(rows, inputs, index + 2), whole(rows, outputs, 3), whole(inputs, outputs, 4));
        let tensors =
            [(&x, inputs), (&dy, outputs)].map(|(values, width)| device.upload(&[rows, width], values).unwrap());
        let d_weight = if stored { device.unwritten(&shape) } else { device.upload(&shape, &old).unwrap() };
        operands.push((x, dy, old, tensors, d_weight, layout));
    }

    let beta = if stored { Beta::Zero } else { Beta::One };
    let gradients = operands.iter_mut().map(|(_, _, _, [x, dy], d_weight, layout)| WeightGradient {
        x,
        dy,
        layout: *layout,
        d_weight,
        beta,
    });
    device.weight_gradients(gradients.collect()).unwrap();

    for (index, ((x, dy, old, _, d_weight, _), (inputs, outputs))) in operands.iter().zip(sizes).enumerate() {
        // Columns repeat themselves after seven.
        let mut sums = [[0.0; 7]; 7];
        for (x, dy) in x.chunks_exact(*inputs).zip(dy.chunks_exact(*outputs)) {
            for (x, sums) in x.iter().zip(&mut sums) {
                dy.iter().zip(sums).for_each(|(dy, sum)| *sum += x * dy);
            }
        }
        // [in, out], or as it lies.
        let mut expected = if stored { vec![0.0; old.len()] } else { old.clone() };
        for (i, o) in (0..*inputs).flat_map(|i| (0..*outputs).map(move |o| (i, o))) {
            expected[if index == 1 { o * inputs + i } else { i * outputs + o }] += sums[i % 7][o % 7];
        }
        assert_bits(&format!("weight {index}"), &device.download(d_weight).unwrap(), &expected);
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let zeros = |shape: &[usize]| device.zeros(shape).unwrap();
    let (x, weight, dy) = (zeros(&[2, 3, 8]), zeros(&[8, 5]), zeros(&[2, 3, 5]));
    assert_error(device.linear(&x, &weight, WeightLayout::OutIn, None), &["linear: weight must be [8, 8], not [8, 5]"]);
    assert_error(
        device.linear(&x, &zeros(&[8]), WeightLayout::InOut, None),
        &["linear: weight must be a matrix, not [8]"],
    );
    let bias = zeros(&[8]);
    assert_error(device.linear(&x, &weight, WeightLayout::InOut, Some(&bias)), &["linear: bias must be [5], not [8]"]);
    let mut d_weight = zeros(&[8, 5]);
    let result =
        device.linear_backward(&zeros(&[6, 5]), &x, &weight, WeightLayout::InOut, &mut d_weight, None, Beta::One);
    assert_error(result, &["linear_backward: dy must be [2, 3] and then 5, not [6, 5]"]);
    let result = device.linear_backward(&dy, &x, &weight, WeightLayout::InOut, &mut zeros(&[5, 8]), None, Beta::One);
    assert_error(result, &["linear_backward: d_weight must be [8, 5], not [5, 8]"]);
}

/// One position of each image: the bits of a row depend neither on the rows beside it nor on whether the weight was laid out for
/// drawing, which is forgotten when the weight changes.
pub fn one_position<D: Device>(device: &Tested<D>) {
    let (in_out, out_in) = (WeightLayout::InOut, WeightLayout::OutIn);
    let cases = [
        ([1, 1], in_out),
        ([5, 16], out_in),
        ([64, 130], in_out),
        ([264, 40], in_out),
        ([512, 16], out_in),
        ([700, 33], out_in),
        ([2100, 20], in_out),
    ];
    each(cases, |([inputs, outputs], layout)| {
        let random = &mut device.random(inputs as u64);
        let (most, shape) = (50, if layout == WeightLayout::InOut { [inputs, outputs] } else { [outputs, inputs] });
        let (x, flat, bias) = (random.values(most * inputs), random.values(inputs * outputs), random.values(outputs));
        let mut weight = upload(device, &shape, &flat);
        let bias_tensor = upload(device, &[outputs], &bias);
        let product = |weight: &D::Tensor, rows: usize| {
            let x = upload(device, &[rows, 1, inputs], &x[..rows * inputs]);
            let y = device.linear(&x, weight, layout, Some(&bias_tensor)).unwrap();
            assert_eq!(device.shape(&y), [rows, 1, outputs]);
            device.download(&y).unwrap()
        };

        let whole = product(&weight, most);
        for (at, got) in whole.iter().enumerate() {
            let (row, column) = (at / outputs, at % outputs);
            let of = |input| {
                flat[if layout == WeightLayout::InOut { input * outputs + column } else { column * inputs + input }]
            };
            let exact: f64 = (0..inputs).map(|input| x[row * inputs + input] * of(input)).sum::<f64>() + bias[column];
            let allowed = device.tolerance(inputs) * (inputs as f64).sqrt().max(1.0);
            assert!((f64::from(*got) - exact).abs() <= allowed, "row {row}, column {column}: {got} instead of {exact}");
        }
        for rows in [1, 2, 5, 6, 7, 13, 16, 17, 48, 49] {
            assert_bits("fewer rows", &product(&weight, rows), &whole[..rows * outputs]);
        }

        device.prepare_decoding(&weight, layout).unwrap();
        for rows in [1, 16, 50] {
            assert_bits("laid out", &product(&weight, rows), &whole[..rows * outputs]);
        }
        device.overwrite(&mut weight, &vec![0.0; inputs * outputs]).unwrap();
        let nothing = product(&weight, 2);
        assert!(nothing.chunks(outputs).all(|row| row.iter().zip(&bias).all(|(y, bias)| *y == *bias as f32)));
    });
}
