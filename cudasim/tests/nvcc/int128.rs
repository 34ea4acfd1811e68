//! 128-bit integers as nvcc compiles them, against `u128` and `i128`.

use crate::compile::ptx;
use crate::device::Device;
use crate::parameters;

/// Pairs of which the second is not zero: ends of every word against one another, then random lengths.
fn pairs() -> Vec<(u128, u128)> {
    let mut edges = vec![1, 2, 3, 10, u128::MAX, u128::MAX - 1, i128::MAX as u128, 0xffff_fffe_0000_0001];
    for bit in [31, 32, 33, 63, 64, 65, 95, 96, 97, 127] {
        edges.extend([1_u128 << bit, (1_u128 << bit) - 1, (1_u128 << bit) + 1]);
    }
    let mut pairs: Vec<_> = edges.iter().flat_map(|&a| edges.iter().map(move |&b| (a, b))).collect();
    pairs.extend(edges.iter().map(|&b| (0, b)));

    let mut state = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834_u128;
    let mut random = || {
        state = state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
        let bits = state ^ state >> 61;
        bits >> (bits >> 7 & 127)
    };
    pairs.extend((0..3000).map(|_| (random(), random().max(1))));
    // Quotients near a whole number, where an estimate is off by one.
    for _ in 0..1000 {
        let (quotient, divisor) = (random(), random().max(1));
        let product = quotient.wrapping_mul(divisor);
        pairs.extend([(product, divisor), (product.wrapping_sub(1), divisor), (product.wrapping_add(1), divisor)]);
    }
    pairs
}

fn words(x: u128) -> [u64; 2] {
    [x as u64, (x >> 64) as u64]
}

#[test]
fn arithmetic() {
    let Some(ptx) = ptx("int128", "compute_90a") else { return };
    let device = Device::new(&ptx);
    let pairs = pairs();
    let upload = |values: Vec<u128>| device.upload(&values.into_iter().flat_map(words).collect::<Vec<u64>>());
    let a = upload(pairs.iter().map(|pair| pair.0).collect());
    let b = upload(pairs.iter().map(|pair| pair.1).collect());
    let n = pairs.len();

    let expected_unsigned = |a: u128, b: u128, c: u32| {
        let (sum, difference, product) = (a.wrapping_add(b), a.wrapping_sub(b), a.wrapping_mul(b));
        [sum, difference, product, a / b, a % b, a.wrapping_neg(), a << c, a >> c]
    };
    let expected_signed = |a: u128, b: u128, c: u32| {
        let mut all = expected_unsigned(a, b, c);
        let (a, b) = (a as i128, b as i128);
        (all[3], all[4]) = (a.wrapping_div(b) as u128, a.wrapping_rem(b) as u128);
        all[7] = (a >> c) as u128;
        all
    };

    for (kernel, signed) in [("unsigned128", false), ("signed128", true)] {
        let out = device.allocate::<u64>(16 * n);
        device.launch(kernel, [n.div_ceil(128) as u32, 1, 1], 128, parameters!(a, b, out, n as i32));
        let found = device.download::<u64>(out, 16 * n);
        for (&(a, b), found) in pairs.iter().zip(found.chunks_exact(16)) {
            let c = b as u32 & 127;
            let expected = if signed { expected_signed(a, b, c) } else { expected_unsigned(a, b, c) };
            let names = ["+", "-", "*", "/", "%", "negated", "<<", ">>"];
            for ((name, expected), found) in names.iter().zip(expected).zip(found.chunks_exact(2)) {
                let found = u128::from(found[1]) << 64 | u128::from(found[0]);
                assert_eq!(found, expected, "{kernel}: {a:#x} {name} {b:#x}: {found:#x}, not {expected:#x}");
            }
        }
    }
}

#[test]
fn comparisons_and_halves() {
    let Some(ptx) = ptx("int128", "compute_80") else { return };
    let device = Device::new(&ptx);
    let pairs = pairs();
    let n = pairs.len();
    let a = device.upload(&pairs.iter().flat_map(|pair| words(pair.0)).collect::<Vec<u64>>());
    let b = device.upload(&pairs.iter().flat_map(|pair| words(pair.1)).collect::<Vec<u64>>());
    let out = device.allocate::<u32>(n);
    device.launch("compare128", [n.div_ceil(128) as u32, 1, 1], 128, parameters!(a, b, out, n as i32));
    for (&(a, b), found) in pairs.iter().zip(device.download::<u32>(out, n)) {
        let bits = [a < b, a <= b, a == b, (a as i128) < b as i128];
        let expected = bits.iter().enumerate().fold(0, |sum, (place, &bit)| sum | u32::from(bit) << place);
        assert_eq!(found, expected, "{a:#x}, {b:#x}");
    }

    // The same words as pairs of 64 bits.
    let halves: Vec<(u64, u64)> =
        pairs.iter().map(|&(a, b)| ((a ^ a >> 64) as u64, ((b ^ b >> 64) as u64).max(1))).collect();
    let a = device.upload(&halves.iter().map(|pair| pair.0).collect::<Vec<u64>>());
    let b = device.upload(&halves.iter().map(|pair| pair.1).collect::<Vec<u64>>());
    let out = device.allocate::<u64>(6 * n);
    device.launch("wide64", [n.div_ceil(128) as u32, 1, 1], 128, parameters!(a, b, out, n as i32));
    for (&(a, b), found) in halves.iter().zip(device.download::<u64>(out, 6 * n).chunks_exact(6)) {
        let (x, y) = (a as i64, b as i64);
        let expected = [
            ((u128::from(a) * u128::from(b)) >> 64) as u64,
            ((i128::from(x) * i128::from(y)) >> 64) as u64,
            a / b,
            a % b,
            x.wrapping_div(y) as u64,
            x.wrapping_rem(y) as u64,
        ];
        assert_eq!(found, expected, "{a:#x}, {b:#x}");
    }
}
