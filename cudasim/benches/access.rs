//! PTX of kernels that only access memory.

/// Rounds of the kernels' loops, each of 8 accesses.
pub const ROUNDS: u64 = 2_000;

/// What is measured: name, PTX of an access at offset `{i}`, bytes from lane to lane, bytes from row to row.
pub const CASES: [(&str, &str, u32, u32); 8] = [
    ("global load, 4 bytes", "ld.global.u32 %r8, [%rd2+{i}];", 4, 128),
    ("global store, 4 bytes", "st.global.u32 [%rd2+{i}], %r8;", 4, 128),
    ("global load, 16 bytes", "ld.global.v4.u32 {%r8, %r9, %r10, %r11}, [%rd2+{i}];", 16, 512),
    ("global load, 4 bytes, 128 apart", "ld.global.u32 %r8, [%rd2+{i}];", 128, 4),
    ("global load, 2 bytes", "ld.global.u16 %r8, [%rd2+{i}];", 2, 64),
    ("global atomic add, 4 bytes", "red.global.add.u32 [%rd2+{i}], %r8;", 4, 128),
    ("shared store, 4 bytes", "st.shared.u32 [%r3+{i}], %r8;", 4, 128),
    (
        "shared store and load, 16 bytes",
        "st.shared.v4.u32 [%r3+{i}], {%r8, %r9, %r10, %r11}; ld.shared.v4.u32 {%r8, %r9, %r10, %r11}, [%r3+{i}];",
        16,
        512,
    ),
];

/// A kernel of one warp whose lanes are `stride` bytes apart: 8 times `access` with `{i}` as offset in a row of 32 lanes, then
/// the next row.
pub fn kernel(access: &str, stride: u32, row: u32) -> String {
    let unrolled: String = (0..8).map(|i| access.replace("{i}", &(i * row).to_string())).collect();
    format!(
        ".version 9.0 .target sm_90a .address_size 64
        .visible .entry k(.param .u64 data)
        {{
            .reg .pred %p<3>; .reg .b32 %r<20>; .reg .b64 %rd<9>; .shared .align 16 .b8 tile[32768];
            ld.param.u64 %rd1, [data]; mov.u32 %r1, %tid.x; mul.lo.u32 %r2, %r1, {stride}; cvt.u64.u32 %rd3, %r2;
            add.u64 %rd2, %rd1, %rd3; mov.u32 %r3, tile; add.u32 %r3, %r3, %r2; mov.u32 %r4, 0;
            mov.u32 %r8, 1; mov.u32 %r9, 2; mov.u32 %r10, 3; mov.u32 %r11, 4;
        L: {unrolled}
            add.u32 %r4, %r4, 1; setp.lt.u32 %p1, %r4, {ROUNDS}; @%p1 bra L;
            ret;
        }}"
    )
}
