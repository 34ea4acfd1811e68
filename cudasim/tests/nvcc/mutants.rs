//! Mutants of the kernels of `mutants.cu`, each with a bug of a kind that people write: every one is reported, as what it is and
//! at the line where it shows, under every seed; the correct kernels never.

use cudasim::counters::{Direction, GlobalTraffic, SharedTraffic};
use cudasim::options::Completion;
use cudasim::report::{FaultKind, Report};

use crate::compile::ptx;
use crate::device::Device;
use crate::parameters;

/// Numbers that the kernels are given: not a multiple of a warp, of a block nor of a vector.
const COUNT: usize = 250;

/// Threads of a block.
const THREADS: usize = 128;

/// The numbers: small, not negative, the first 0.
fn input() -> Vec<i32> {
    (0..COUNT as i32).map(|i| i * 37 % 101).collect()
}

/// What the right kernel gives.
struct Right {
    kernel: &'static str,
    expected: fn(&[i32]) -> Vec<i32>,
}

/// The number of each thread of a block from its numbers (0 behind the last) and the index of the thread.
fn by_block(x: &[i32], value: impl Fn(&[i32; THREADS], usize) -> i32) -> Vec<i32> {
    let blocks = x.chunks(THREADS).flat_map(|chunk| {
        let mut block = [0; THREADS];
        block[..chunk.len()].copy_from_slice(chunk);
        (0..chunk.len()).map(|t| value(&block, t)).collect::<Vec<_>>()
    });
    blocks.collect()
}

const RIGHT: &[Right] = &[
    Right {
        kernel: "neighbours",
        expected: |x| {
            let at = |i: usize| x.get(i).copied().unwrap_or(0);
            (0..COUNT).map(|i| at(i.wrapping_sub(1)) + at(i) + at(i + 1)).collect()
        },
    },
    Right {
        kernel: "tile",
        expected: |x| {
            // Threads behind the last number give 0 in both rounds.
            let next = |i: usize| x.get(i - i % THREADS + (i + 1) % THREADS).map_or(0, |x| 2 * x + 1);
            (0..COUNT).map(next).collect()
        },
    },
    Right {
        kernel: "backwards",
        expected: |x| {
            (0..COUNT).map(|i| x.get(i - i % THREADS + THREADS - 1 - i % THREADS).copied().unwrap_or(-1)).collect()
        },
    },
    Right { kernel: "window", expected: |x| (0..COUNT).map(|i| x[(i + x[i] as usize % 4) % COUNT]).collect() },
    Right { kernel: "vectors", expected: |x| x.iter().map(|x| -x).collect() },
    Right { kernel: "bytes", expected: |x| by_block(x, |block, t| block[t ^ 1] & 255) },
    Right { kernel: "total", expected: |x| vec![x.iter().sum(), COUNT as i32] },
    Right {
        kernel: "lanes",
        expected: |x| {
            by_block(x, |block, t| {
                let other = t ^ 1;
                block[other] + if other % 32 < 16 { block[other ^ 8] } else { 0 }
            })
        },
    },
    Right {
        kernel: "stages",
        expected: |x| {
            let at = |i: usize, step: usize| x[(i / THREADS + 32 * step + (i % THREADS + 33) % THREADS) % COUNT];
            (0..COUNT).map(|i| (0..4).map(|step| at(i, step)).sum()).collect()
        },
    },
    Right { kernel: "matrix", expected: <[i32]>::to_vec },
    Right {
        kernel: "bulk_loads",
        expected: |x| (0..COUNT).map(|i| i % THREADS).map(|t| x[127 - t] + x[159 - t]).collect(),
    },
    Right { kernel: "bulk_stores", expected: |x| x[..128].iter().map(|x| x + 1).collect() },
    Right { kernel: "hand_over", expected: |x| x[..128].to_vec() },
    Right { kernel: "ends", expected: |x| x.iter().map(|x| 2 * x).collect() },
];

/// Bytes of dynamic shared memory that a kernel needs.
fn dynamic_bytes(kernel: &str) -> u32 {
    if kernel == "backwards" { 4 * THREADS as u32 } else { 0 }
}

/// Launches a kernel with memory of its own; `freed`: the input is no longer there.
fn launch(device: &mut Device, kernel: &str, dynamic: u32, freed: bool) -> Result<u64, Box<Report>> {
    let out = device.allocate::<i32>(COUNT);
    let input = device.upload(&input());
    if freed {
        device.memory.free(input).expect("a live allocation");
    }
    // Two lanes of a warp that nothing orders race as well.
    device.options.lane_races = true;
    device.options.warp_instructions = 20_000;
    device.dynamic_shared = dynamic;
    device.try_launch(kernel, [2, 1, 1], THREADS as u32, parameters!(out, input, COUNT as i32)).map(|()| out)
}

#[test]
fn the_right_kernels_are_right_and_raise_no_alarm() {
    let Some(ptx) = ptx("mutants", "compute_90a") else { return };
    for Right { kernel, expected } in RIGHT {
        let expected = expected(&input());
        let mut device = Device::new(&ptx);
        for completion in [Completion::Late, Completion::Early, Completion::Random] {
            for seed in 0..20 {
                device.options.completion = completion;
                device.options.seed = seed;
                device.options.threads = 1 + seed as usize % 2;
                let out = launch(&mut device, &format!("{kernel}_0"), dynamic_bytes(kernel), false)
                    .unwrap_or_else(|report| panic!("{kernel}, {:?}: {report}", device.options));
                assert_eq!(device.download::<i32>(out, expected.len()), expected, "{kernel}");
            }
        }
    }
}

/// A bug, and how it must be reported.
struct Bug {
    number: u32,
    kernel: &'static str,
    /// What it may show as: for a missing order, what comes first. Under some seed each shows as the first of these.
    kinds: &'static [FaultKind],
    /// The thread that is reported, where only one can be.
    thread: Option<u32>,
    /// A word of what is said of the address.
    nearest: &'static str,
}

const fn bug(number: u32, kernel: &'static str, kinds: &'static [FaultKind]) -> Bug {
    Bug { number, kernel, kinds, thread: None, nearest: "" }
}

impl Bug {
    /// Only this thread of its block does it.
    const fn thread(self, thread: u32) -> Self {
        Self { thread: Some(thread), ..self }
    }

    /// The report says this of the address.
    const fn nearest(self, nearest: &'static str) -> Self {
        Self { nearest, ..self }
    }
}

use FaultKind::*;

#[rustfmt::skip]
const BUGS: &[Bug] = &[
    bug(1, "neighbours", &[OutOfBounds]).thread(121).nearest("1000 bytes"),
    bug(2, "neighbours", &[OutOfBounds]).thread(121).nearest("1000 bytes"),
    bug(3, "neighbours", &[OutOfBounds]).thread(0).nearest("1000 bytes"),
    bug(4, "neighbours", &[GlobalRace]).nearest("1000 bytes"),
    // A null pointer.
    bug(5, "neighbours", &[OutOfBounds]),
    // Freed before the launch.
    bug(6, "neighbours", &[OutOfBounds]).nearest("freed"),
    bug(7, "neighbours", &[UninitialisedMemory]).nearest("1000 bytes"),
    bug(8, "tile", &[OutOfBounds]).thread(127),
    // Where the reader comes first it finds nothing at all.
    bug(9, "tile", &[SharedRace, UninitialisedMemory]).nearest("of 512 bytes"),
    bug(10, "tile", &[SharedRace]).nearest("of 512 bytes"),
    bug(11, "bytes", &[DivergentBarrier]),
    bug(12, "tile", &[UninitialisedMemory]).thread(4).nearest("byte 20 of shared"),
    bug(13, "backwards", &[OutOfBounds]).thread(0).nearest("dynamic shared memory"),
    // Launched with 508 bytes.
    bug(14, "backwards", &[OutOfBounds]).thread(127).nearest("of 508 of dynamic shared memory"),
    bug(15, "window", &[OutOfBounds]).nearest("of local memory"),
    bug(16, "window", &[UninitialisedMemory]).nearest("of local memory"),
    bug(17, "window", &[UninitialisedRegister]),
    bug(18, "vectors", &[Misaligned]),
    bug(19, "vectors", &[OutOfBounds]).thread(62).nearest("1000 bytes"),
    bug(20, "bytes", &[SharedRace]).nearest("of 128 bytes"),
    bug(21, "total", &[SharedRace]),
    bug(22, "total", &[GlobalRace]).thread(0),
    // In three of four seeds another warp than the one that writes comes first.
    bug(23, "total", &[UninitialisedMemory, SharedRace]),
    bug(24, "total", &[GlobalRace]).nearest("hits"),
    bug(25, "total", &[SharedRace]),
    bug(26, "lanes", &[DivergentBarrier]),
    bug(27, "lanes", &[DivergentBarrier]),
    bug(28, "lanes", &[SharedRace]),
    bug(29, "stages", &[MissingWait]),
    bug(30, "stages", &[MissingWait]),
    // Another warp has not begun to copy (what was read then races with its copy before it is used), its copies are in flight,
    // or they have completed without a barrier.
    bug(31, "stages", &[SharedRace, MissingWait, UninitialisedMemory]),
    bug(32, "stages", &[SharedRace, MissingWait]),
    bug(33, "matrix", &[Misaligned]),
    // A warp asks the mbarrier in a loop: too often, where the host keeps the other thread from looking for long.
    bug(34, "bulk_loads", &[Deadlock, Timeout]),
    bug(35, "bulk_loads", &[MissingWait, SharedRace, UninitialisedMemory]),
    bug(36, "bulk_loads", &[MissingWait, SharedRace]),
    bug(37, "bulk_loads", &[Deadlock, Timeout]),
    bug(38, "bulk_stores", &[MissingFence]).thread(0),
    bug(39, "bulk_stores", &[MissingWait, SharedRace]),
    bug(40, "hand_over", &[Deadlock]),
    bug(41, "hand_over", &[InvalidUse, SharedRace, UninitialisedMemory]),
    // Nothing is left that could change what it waits for.
    bug(42, "ends", &[Deadlock, Timeout]),
    bug(43, "ends", &[Trap]),
    bug(44, "ends", &[Assert]),
    bug(45, "ends", &[InvalidCall]),
    bug(48, "hand_over", &[InvalidUse]),
    bug(49, "ends", &[Timeout]),
    bug(50, "bulk_loads", &[MissingFence]).thread(0).nearest("of 512 bytes"),
];

/// Whether a line of the source is marked as one where a bug shows.
fn marked(source: &str, line: u32, bug: u32) -> bool {
    let text = source.lines().nth(line as usize - 1).unwrap_or("");
    let marks = text.split_once("// BUG ").map_or("", |(_, marks)| marks);
    marks.split(", ").any(|mark| mark.parse() == Ok(bug))
}

/// What is wrong with the report of a bug.
fn complaints(source: &str, bug: &Bug, report: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    if !bug.kinds.contains(&report.fault.kind) {
        wrong.push(format!("not one of {:?}", bug.kinds));
    }
    // Atomics and shuffles are functions of headers.
    match report.source.iter().find(|place| place.file.ends_with("mutants.cu")) {
        Some(place) if marked(source, place.line, bug.number) => {}
        place => wrong.push(format!("{place:?} is not marked")),
    }
    if bug.thread.is_some_and(|thread| report.thread != [thread, 0, 0]) {
        wrong.push(format!("not thread {:?}", bug.thread));
    }
    if !report.nearest.as_deref().unwrap_or("").contains(bug.nearest) {
        wrong.push(format!("the address is not `{}`", bug.nearest));
    }
    wrong
}

#[test]
fn every_mutant_is_reported_where_it_is() {
    let Some(ptx) = ptx("mutants", "compute_90a") else { return };
    let source = include_str!("../cuda/mutants.cu");
    let mut wrong = Vec::new();

    for bug in BUGS {
        let kernel = format!("{}_{}", bug.kernel, bug.number);
        let mut seen = Vec::new();
        let mut device = Device::new(&ptx);
        for seed in 0..20 {
            // Copies complete late, which shows missing waits.
            device.options.seed = seed;
            device.options.threads = 1 + seed as usize % 2;
            let dynamic = if bug.number == 14 { 508 } else { dynamic_bytes(bug.kernel) };
            let complaints = match launch(&mut device, &kernel, dynamic, bug.number == 6) {
                Ok(_) => "nothing was reported".into(),
                Err(report) => match complaints(source, bug, &report) {
                    list if list.is_empty() => {
                        seen.push(report.fault.kind);
                        continue;
                    }
                    list => format!("{}; {report}", list.join("; ")),
                },
            };
            wrong.push(format!("{kernel}, seed {seed}: {complaints}"));
            break;
        }
        if seen.len() == 20 && !seen.contains(&bug.kinds[0]) {
            wrong.push(format!("{kernel}: never {:?}, but {seen:?}", bug.kinds[0]));
        }
    }

    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), BUGS.len(), wrong.join("\n"));
}

#[test]
fn slow_access_is_right_and_is_counted() {
    let Some(ptx) = ptx("mutants", "compute_90a") else { return };
    let input: Vec<i32> = (0..1024).collect();
    let transposed: Vec<i32> = (0..1024).map(|i| i % 32 * 32 + i / 32).collect();

    // 32 times a warp reads, and writes, a row: 4 sectors, and one wavefront unless the banks are in conflict.
    let rows = GlobalTraffic { requests: 32, sectors: 32 * 4, bytes: 4096 };
    let columns = GlobalTraffic { sectors: 32 * 32, ..rows };
    let free = SharedTraffic { requests: 32, wavefronts: 32, conflicts: 0, bytes: 4096 };
    let conflicts = SharedTraffic { wavefronts: 32 * 32, conflicts: 32 * 31, ..free };
    let (load, store) = (Direction::Load as usize, Direction::Store as usize);

    for (kernel, read, gathered) in
        [("transpose_0", rows, free), ("transpose_46", rows, conflicts), ("transpose_47", columns, free)]
    {
        let mut device = Device::new(&ptx);
        device.options.counters = true;
        let out = device.allocate::<i32>(1024);
        let parameters = parameters!(out, device.upload(&input), 1024_i32);
        let counts = device.run(kernel, [1; 3], 128, parameters).expect("no fault").expect("counts");
        assert_eq!(device.download::<i32>(out, 1024), transposed, "{kernel}");
        assert_eq!((counts.global[load], counts.global[store]), (read, rows), "{kernel}");
        assert_eq!((counts.shared[load], counts.shared[store]), (gathered, free), "{kernel}");
    }
}
