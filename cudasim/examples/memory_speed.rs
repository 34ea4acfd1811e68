//! What a warp's access of memory costs, with every check and with none: `cargo run --release -p cudasim --example
//! memory_speed`.

use std::time::Instant;

use cudasim::exec::{Launch, Program, run};
use cudasim::memory::GlobalMemory;
use cudasim::options::Options;

/// Rounds of the kernels' loops, each of 8 accesses.
const ROUNDS: u32 = 20_000;

/// A kernel whose lanes are `stride` bytes apart: 8 times `access` with `{i}` as offset in a row of 32 lanes, then the next row.
fn kernel(access: &str, stride: u32, row: u32) -> String {
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

fn main() {
    for (what, access, stride, row) in [
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
    ] {
        let memory = GlobalMemory::new(1 << 30);
        let data = memory.allocate(1 << 16, None).expect("memory");
        memory.write(data, &vec![1; 1 << 16]).expect("memory");
        let program = Program::load(&kernel(access, stride, row), &memory).expect("a kernel");
        let kernel = program.kernel("k").expect("a kernel");
        let launch = Launch::new([1, 1, 1], [32, 1, 1], 0, data.to_le_bytes().to_vec());
        let time = |options: &Options| {
            let start = Instant::now();
            run(&kernel, &launch, &memory.map(), options, 0).expect("no fault");
            start.elapsed().as_secs_f64() / f64::from(ROUNDS) / 8.0 * 1e9
        };
        let checked = Options { threads: 1, ..Options::default() };
        let bare = Options {
            uninitialised: false,
            registers: false,
            shared_races: false,
            global_races: false,
            ..checked.clone()
        };
        let best = |options: &Options| (0..5).map(|_| time(options)).fold(f64::INFINITY, f64::min);
        println!("{what:32} {:6.1} ns with every check, {:6.1} ns without", best(&checked), best(&bare));
    }
    let memory = GlobalMemory::new(1 << 30);
    let (a, b) = (memory.allocate(1 << 26, None).expect("memory"), memory.allocate(1 << 26, None).expect("memory"));
    let mut host = vec![7; 1 << 26];
    type Work<'a> = &'a dyn Fn(&mut Vec<u8>) -> Result<(), cudasim::memory::MemoryError>;
    let works: [(&str, Work<'_>); 4] = [
        ("host to device", &|host| memory.write(a, host)),
        ("device to host", &|host| memory.read(a, host)),
        ("device to device", &|_| memory.copy(b, a, 1 << 26)),
        ("fill", &|_| memory.fill(a, 1 << 26, &[1, 2])),
    ];
    for (what, work) in works {
        let best = (0..3).map(|_| {
            let start = Instant::now();
            work(&mut host).expect("memory");
            start.elapsed().as_secs_f64()
        });
        println!("{what:32} {:6.2} GB/s", (1_u64 << 26) as f64 / best.fold(f64::INFINITY, f64::min) / 1e9);
    }
}
