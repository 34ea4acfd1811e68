//! The options under which numbers are those of silicon: sums of tensor cores, and approximations.

use cudasim::numerics::approx_error::Approx;
use cudasim::numerics::tensor_core::Sums;

use crate::support::Machine;

/// `mma.m16n8k16` of f16: of each row of A and column of B the elements 0, 1 and 8, 9, and the accumulator.
fn mma(sums: Sums, a: [u32; 2], b: [u32; 2], c: f32) -> f32 {
    let mut machine = Machine::new(&format!(
        ".visible .entry k(.param .u64 out)
        {{
            .reg .pred %p; .reg .b32 %r<20>; .reg .f32 %f<9>; .reg .b64 %rd<4>;
            ld.param.u64 %rd1, [out]; mov.u32 %r1, %laneid; and.b32 %r2, %r1, 3; setp.eq.u32 %p, %r2, 0;
            selp.b32 %r3, {:#x}, 0, %p; selp.b32 %r4, {:#x}, 0, %p; selp.b32 %r5, {:#x}, 0, %p; selp.b32 %r6, {:#x}, 0, %p;
            mov.b32 %f1, {:#x};
            mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {{%f2, %f3, %f4, %f5}}, {{%r3, %r3, %r4, %r4}}, {{%r5, %r6}}, {{%f1, %f1, %f1, %f1}};
            mad.wide.u32 %rd2, %r1, 16, %rd1; st.global.v4.f32 [%rd2], {{%f2, %f3, %f4, %f5}};
            ret;
        }}",
        a[0], a[1], b[0], b[1], c.to_bits()
    ));
    machine.options.mma = sums;
    let out = machine.upload(&[0; 128]);
    machine.launch("k", 1, 32, &[out]).unwrap_or_else(|report| panic!("{report}"));
    let words = machine.download(out, 128);
    assert!(words.iter().all(|&word| word == words[0]), "all rows and columns are alike");
    f32::from_bits(words[0])
}

#[test]
fn tensor_cores_sum_as_the_option_says() {
    // 2^24 - 2^24 + 1/2: the second block of Ampere loses the half.
    let (big, minus_big, half, one) = (0x6c00, 0xec00, 0x3800 << 16, 0x3c00 << 16);
    let sum = |sums| mma(sums, [big, minus_big | half], [big, big | one], 0.0);
    assert_eq!([Sums::Exact, Sums::Ampere, Sums::Hopper].map(sum), [0.5, 0.0, 0.5]);
    // 1 + 3 * 2^-24: rounded to even once, or cut off.
    let ulp = f32::EPSILON;
    let sum = |sums| mma(sums, [0x0c00 | 0x1000 << 16, 0], [0x0c00 | 0x0c00 << 16, 0], 1.0);
    assert_eq!([Sums::Exact, Sums::Ampere, Sums::Hopper].map(sum), [1.0 + 2.0 * ulp, 1.0 + ulp, 1.0 + ulp]);
}

/// What instructions of f32 make of 0.3 and 7.
fn approximate(approx: Approx) -> Vec<u32> {
    let body: String = ["ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos"]
        .iter()
        .enumerate()
        .map(|(i, name)| format!("{name}.approx.ftz.f32 %f2, %f1; st.global.f32 [%rd1+{}], %f2;\n", 4 * i))
        .collect();
    let mut machine = Machine::new(&format!(
        ".visible .entry k(.param .u64 out)
        {{
            .reg .f32 %f<9>; .reg .b64 %rd<4>; ld.param.u64 %rd1, [out]; mov.f32 %f1, 0f3E99999A; mov.f32 %f3, 0f40E00000;
            {body}
            tanh.approx.f32 %f2, %f1; st.global.f32 [%rd1+28], %f2;
            div.approx.f32 %f2, %f1, %f3; st.global.f32 [%rd1+32], %f2; div.full.f32 %f2, %f1, %f3; st.global.f32 [%rd1+36], %f2;
            ret;
        }}"
    ));
    machine.options.approx = approx;
    let out = machine.upload(&[0; 10]);
    machine.launch("k", 1, 1, &[out]).unwrap_or_else(|report| panic!("{report}"));
    machine.download(out, 10)
}

#[test]
fn approximations_err_as_the_option_says() {
    let values = |approx| approximate(approx).into_iter().map(f32::from_bits).collect::<Vec<f32>>();
    let [exact, low, high] = [Approx::Exact, Approx::Low, Approx::High].map(values);
    for (i, exact) in exact.iter().enumerate() {
        assert!(
            low[i] <= *exact && *exact <= high[i] && low[i] < high[i],
            "instruction {i}: {} {exact} {}",
            low[i],
            high[i]
        );
        assert!((high[i] - low[i]) / exact.abs() < if i == 7 { 1e-3 } else { 5e-6 }, "instruction {i}");
    }
    let spread = values(Approx::Spread);
    assert_eq!(spread, values(Approx::Spread));
    assert!(spread != exact && spread.iter().enumerate().all(|(i, value)| low[i] <= *value && *value <= high[i]));
}
