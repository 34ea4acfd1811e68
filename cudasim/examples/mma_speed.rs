//! How fast a core runs `mma.sync` and `ldmatrix`, alone and as a GEMM's inner loop mixes them:
//! `cargo run --release -p cudasim --example mma_speed`.

use std::fmt::Write as _;
use std::time::Instant;

use cudasim::exec::{Launch, Program, run};
use cudasim::memory::GlobalMemory;
use cudasim::options::Options;

/// Rounds of the loop.
const ROUNDS: u32 = 20_000;

/// A kernel of one warp whose loop runs `body` each round.
fn kernel(body: &str) -> String {
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
        add.u32 %i, %i, 1; setp.lt.u32 %p, %i, {ROUNDS}; @%p bra LOOP; ret; }}",
        (0..8).fold(String::new(), |mut text, i| {
            let _ = write!(text, "mov.b32 %r{i}, 0x3f803f80; ");
            for f in 0..4 {
                let _ = write!(text, "mov.f32 %f{}, 0f00000000; ", 4 * i + f);
            }
            text
        })
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
    let memory = GlobalMemory::new(1 << 20);
    let options = Options { threads: 1, ..Options::default() };
    for (name, body, work) in cases {
        let program = Program::load(&kernel(&body), &memory).unwrap_or_else(|error| panic!("{error}"));
        let kernel = program.kernel("k").expect("the kernel");
        let launch = Launch::new([1; 3], [32, 1, 1], 0, Vec::new());
        let start = Instant::now();
        if let Err(report) = run(&kernel, &launch, &memory.map(), &options, 0) {
            panic!("{report}");
        }
        let seconds = start.elapsed().as_secs_f64();
        let rate = f64::from(ROUNDS) * f64::from(work) / seconds / 1e9;
        println!("{name}: {rate:.2} GMAC/s, {:.0} ns for each of 8", seconds / f64::from(ROUNDS) / 8.0 * 1e9);
    }
}
