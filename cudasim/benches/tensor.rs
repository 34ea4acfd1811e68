//! PTX of kernels that only multiply on the tensor cores.

use std::fmt::Write as _;

/// Rounds of the loop of `mma`, each of 8 instructions.
pub const MMA_ROUNDS: u64 = 2_000;

/// Rounds of the loop of `wgmma`, each of 4 instructions.
pub const WGMMA_ROUNDS: u64 = 50;

/// 8 of one `mma` with four f32 sums a thread, onto the same sums.
pub fn mma_body(mnemonic: &str) -> String {
    let c = "{%f0, %f1, %f2, %f3}";
    format!("mma.sync.aligned.{mnemonic} {c}, {{%r0, %r1, %r2, %r3}}, {{%r4, %r5}}, {c};\n").repeat(8)
}

/// What the inner loop of a GEMM does: 3 `ldmatrix.x4`, then 8 `mma` of m16n8k16 onto 8 tiles of sums.
pub fn gemm_body() -> String {
    let mut text = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r0, %r1, %r2, %r3}, [%s];\n".repeat(3);
    for d in (0..32).step_by(4) {
        let c = format!("{{%f{d}, %f{}, %f{}, %f{}}}", d + 1, d + 2, d + 3);
        let _ = writeln!(
            text,
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {c}, {{%r0, %r1, %r2, %r3}}, {{%r4, %r5}}, {c};"
        );
    }
    text
}

/// A kernel of one warp whose loop runs `body` each round.
pub fn mma_kernel(body: &str) -> String {
    format!(
        ".version 9.0\n.target sm_90a\n.address_size 64\n
        .visible .entry k() {{
        .shared .align 128 .b8 tile[512];
        .reg .b32 %r<16>; .reg .f32 %f<32>; .reg .pred %p; .reg .b32 %i, %t, %s;
        mov.u32 %t, %laneid; mov.u32 %s, tile; mad.lo.u32 %s, %t, 16, %s;
        mov.b32 %r0, 0x3f803f80; st.shared.b32 [%s], %r0; st.shared.b32 [%s+4], %r0; st.shared.b32 [%s+8], %r0;
        st.shared.b32 [%s+12], %r0;
        {}
        mov.u32 %i, 0;
        LOOP:
        {body}
        add.u32 %i, %i, 1; setp.lt.u32 %p, %i, {MMA_ROUNDS}; @%p bra LOOP; ret; }}",
        (0..8).fold(String::new(), |mut text, i| {
            let _ = write!(text, "mov.b32 %r{i}, 0x3f803f80; ");
            for f in 0..4 {
                let _ = write!(text, "mov.f32 %f{}, 0f00000000; ", 4 * i + f);
            }
            text
        })
    )
}

/// A kernel of one warpgroup that multiplies 64 x `n` tiles of `k` elements in 128-byte rows. Each thread fills every 128th
/// word of the tiles with ones.
pub fn wgmma_kernel(n: u64, k: u64, types: &str, immediates: &str) -> String {
    let registers = n / 2;
    let d = (0..registers).map(|i| format!("%f{i}")).collect::<Vec<_>>().join(", ");
    let step = |slice: u64| {
        format!(
            "add.u64 %a, %da, {0}; add.u64 %b, %db, {0};
            wgmma.mma_async.sync.aligned.m64n{n}k{k}.{types} {{{d}}}, %a, %b, %p, 1, 1{immediates};\n",
            2 * slice
        )
    };

    let zeros: String = (0..registers).map(|i| format!("mov.f32 %f{i}, 0f00000000; ")).collect();
    format!(
        ".version 9.0\n.target sm_90a\n.address_size 64\n
        .visible .entry k() {{
        .shared .align 1024 .b8 tile[{bytes}];
        .reg .f32 %f<{registers}>; .reg .b64 %a, %b, %da, %db, %t; .reg .b32 %i, %s, %one; .reg .pred %p, %q;
        mov.u32 %i, %tid.x; mov.u32 %s, tile; mad.lo.u32 %s, %i, 4, %s; mov.b32 %one, 0x3f803f80; mov.u32 %i, 0;
        FILL: st.shared.b32 [%s], %one; add.u32 %s, %s, 512; add.u32 %i, %i, 512;
        setp.lt.u32 %q, %i, {bytes}; @%q bra FILL;
        fence.proxy.async; bar.sync 0;
        mov.u32 %s, tile; shr.u32 %s, %s, 4; cvt.u64.u32 %da, %s; mov.b64 %t, 0x4000004000010000; or.b64 %da, %da, %t;
        add.u64 %db, %da, 512; mov.u32 %i, 0; setp.eq.u32 %p, %i, 0; {zeros}
        LOOP: wgmma.fence.sync.aligned;
        {steps}
        wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
        add.u32 %i, %i, 1; setp.lt.u32 %q, %i, {WGMMA_ROUNDS}; @%q bra LOOP; ret; }}",
        bytes = 8192 + n * 128,
        steps = (0..4).map(step).collect::<String>()
    )
}
