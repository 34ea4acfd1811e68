//! How fast a core runs `mma.sync`, `ldmatrix` and `wgmma`, alone and as a GEMM's inner loop has them:
//! `cargo run --release -p cudasim --example tensor_speed`. Rates are of the processor time that the thread got, so that a busy
//! machine gives nearly the figures of an idle one.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use cudasim::exec::{Launch, Program, run};
use cudasim::memory::GlobalMemory;
use cudasim::options::Options;

/// Rounds of the loop of `mma`.
const MMA_ROUNDS: u32 = 20_000;

/// Rounds of the loop of `wgmma`.
const WGMMA_ROUNDS: u32 = 500;

/// Processor time of this thread where the system tells, else the time since the start.
fn processor_time(start: Instant) -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|first| first.parse().ok());
    nanoseconds.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// Seconds that one block of `threads` threads takes on one core.
fn seconds(text: &str, threads: u32) -> f64 {
    let memory = GlobalMemory::new(1 << 20);
    let program = Program::load(text, &memory).unwrap_or_else(|error| panic!("{error}"));
    let kernel = program.kernel("k").expect("the kernel");
    let launch = Launch::new([1; 3], [threads, 1, 1], 0, Vec::new());
    // The warps of wgmma fill their tile together without barrier or fence, with the same words.
    let options = Options { threads: 1, shared_races: false, uninitialised: false, ..Options::default() };
    let start = Instant::now();
    let before = processor_time(start);
    if let Err(report) = run(&kernel, &launch, &memory.map(), &options, 0) {
        panic!("{report}");
    }
    (processor_time(start) - before).as_secs_f64()
}

/// A kernel of one warp whose loop runs `body` each round.
fn mma_kernel(body: &str) -> String {
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

/// A kernel of one warpgroup that multiplies 64 x `n` tiles of `k` elements in 128-byte rows.
fn wgmma_kernel(n: usize, k: usize, types: &str, immediates: &str) -> String {
    let registers = n / 2;
    let d = (0..registers).map(|i| format!("%f{i}")).collect::<Vec<_>>().join(", ");
    let step = |slice: usize| {
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
        mov.u32 %i, %laneid; mov.u32 %s, tile; mad.lo.u32 %s, %i, 4, %s; mov.b32 %one, 0x3f803f80; mov.u32 %i, 0;
        FILL: st.shared.b32 [%s], %one; add.u32 %s, %s, 128; add.u32 %i, %i, 128;
        setp.lt.u32 %q, %i, {bytes}; @%q bra FILL;
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

fn main() {
    let mma = |spelling: &str, d: usize, a: &str, b: &str| {
        let c = format!("{{%f{d}, %f{}, %f{}, %f{}}}", d + 1, d + 2, d + 3);
        format!("mma.sync.aligned.{spelling} {c}, {a}, {b}, {c};\n")
    };
    let bf16 = "m16n8k16.row.col.f32.bf16.bf16.f32";
    let load = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r0, %r1, %r2, %r3}, [%s];\n";
    let tile: String = (0..8).map(|j| mma(bf16, 4 * j, "{%r0, %r1, %r2, %r3}", "{%r4, %r5}")).collect();
    let cases = [
        ("mma.m16n8k16 bf16", mma(bf16, 0, "{%r0, %r1, %r2, %r3}", "{%r4, %r5}").repeat(8), 8 * 2048),
        ("mma.m16n8k16 bf16, 8 accumulators, 3 ldmatrix.x4", load.repeat(3) + &tile, 8 * 2048),
        (
            "mma.m16n8k8 tf32",
            mma("m16n8k8.row.col.f32.tf32.tf32.f32", 0, "{%r0, %r1, %r2, %r3}", "{%r4, %r5}").repeat(8),
            8 * 1024,
        ),
        (
            "mma.m16n8k32 e4m3",
            mma("m16n8k32.row.col.f32.e4m3.e4m3.f32", 0, "{%r0, %r1, %r2, %r3}", "{%r4, %r5}").repeat(8),
            8 * 4096,
        ),
        ("ldmatrix.x4", load.repeat(8), 0),
    ];
    for (name, body, work) in cases {
        let seconds = seconds(&mma_kernel(&body), 32) / f64::from(MMA_ROUNDS);
        println!("{name}: {:.2} GMAC/s, {:.0} ns for each of 8", f64::from(work) / seconds / 1e9, seconds / 8.0 * 1e9);
    }
    for (n, k, types, immediates) in [
        (64, 16, "f32.bf16.bf16", ", 0, 0"),
        (128, 16, "f32.bf16.bf16", ", 0, 0"),
        (256, 16, "f32.bf16.bf16", ", 0, 0"),
        (256, 16, "f32.bf16.bf16", ", 0, 1"),
        (256, 32, "f32.e4m3.e4m3", ""),
    ] {
        let seconds = seconds(&wgmma_kernel(n, k, types, immediates), 128) / f64::from(WGMMA_ROUNDS);
        println!("wgmma.m64n{n}k{k}.{types}{immediates}: {:.2} GMAC/s", 4.0 * (64 * n * k) as f64 / seconds / 1e9);
    }
}
