//! Threads that write the same value to one place: within an instruction that is defined, between warps a warning, and with
//! one other value a race.

use cudasim::options::Options;
use cudasim::report::{FaultKind, Level, Report};

use crate::support::{Machine, lenient, strict};

fn machine(body: &str, options: Options) -> Machine {
    let mut machine = Machine::new(&format!(
        ".visible .entry k(.param .u64 data)
        {{
            .reg .pred %p<9>; .reg .b32 %r<30>; .reg .b64 %rd<20>; .shared .align 16 .b32 word[4];
            ld.param.u64 %rd1, [data]; mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, 7; shr.u32 %r4, %r1, 5;
            {body}
            ret;
        }}"
    ));
    machine.options = options;
    machine
}

/// What `data` holds after a body was run by `blocks` of 128 threads.
fn run(body: &str, blocks: u32, options: Options) -> Result<Vec<u32>, Box<Report>> {
    let machine = machine(body, options);
    let data = machine.upload(&[5; 64]);
    machine.launch("k", blocks, 128, &[data])?;
    Ok(machine.download(data, 64))
}

/// Warned of once and right, under every seed; an error where the last warp writes another value.
#[track_caller]
fn is_a_warning(body: &str, blocks: u32, kind: FaultKind) {
    for seed in 0..12 {
        let threads = 1 + seed as usize % 3;
        let (options, kept) = lenient();
        let got = run(body, blocks, Options { seed, threads, ..options }).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(got[0], 7);
        let reports = kept.lock().unwrap();
        assert_eq!(reports.len(), 1, "{reports:?}");
        let fault = &reports[0].fault;
        assert_eq!((fault.kind, fault.level), (kind, Level::Warning));
        assert!(fault.message.ends_with("with nothing that orders the two; both write the same value"), "{fault:?}");

        let stopped = run(body, blocks, Options { seed, threads, ..strict() }).unwrap_err();
        assert_eq!((stopped.fault.kind, stopped.fault.level), (kind, Level::Warning));

        let other = format!("setp.ge.u32 %p1, %r1, 96; @%p1 mov.u32 %r3, 8; {body}");
        let report = run(&other, blocks, Options { seed, threads, ..Options::default() }).unwrap_err();
        assert_eq!((report.fault.kind, report.fault.level), (kind, Level::Error), "{report}");
    }
}

#[test]
fn lanes_of_one_instruction_may_all_write() {
    let body = "setp.ge.u32 %p2, %r1, 32; @%p2 bra OUT; st.shared.u32 [word], %r3; ld.shared.u32 %r5, [word];
        st.global.u32 [%rd1], %r5; OUT:";
    assert_eq!(run(body, 1, strict()).unwrap()[0], 7);
    // By the strictest rule as well.
    let lanes = Options { lane_races: true, ..strict() };
    let apart = body.replace("ld.shared", "bar.warp.sync 0xffffffff; ld.shared");
    assert_eq!(run(&apart, 1, lanes.clone()).unwrap()[0], 7);
    let different = apart.replace("st.shared.u32 [word], %r3", "st.shared.u32 [word], %r1");
    assert_eq!(run(&different, 1, lanes).unwrap_err().fault.kind, FaultKind::SharedRace);
}

#[test]
fn warps_of_a_block() {
    is_a_warning(
        "st.shared.u32 [word], %r3; bar.sync 0; ld.shared.u32 %r5, [word]; setp.eq.u32 %p2, %r1, 0; @%p2 st.global.u32 [%rd1], %r5;",
        1,
        FaultKind::SharedRace,
    );
    is_a_warning("st.global.u32 [%rd1], %r3;", 1, FaultKind::GlobalRace);
}

#[test]
fn blocks_of_a_grid() {
    let one = "setp.ne.u32 %p2, %r1, 96; @%p2 ret; setp.ne.u32 %p3, %r2, 0; @!%p3 bra W;";
    is_a_warning("st.global.u32 [%rd1], %r3;", 6, FaultKind::GlobalRace);
    // Rows of 128 bytes, which the checks take as one.
    let row = "and.b32 %r6, %r1, 31; mul.wide.u32 %rd2, %r6, 4; add.u64 %rd2, %rd1, %rd2; st.global.u32 [%rd2], %r3;";
    is_a_warning(row, 3, FaultKind::GlobalRace);
    // In one block another value. By one host thread: of two that check a place at the same moment, neither may see what the other notes.
    let different = format!("{one} mov.u32 %r3, 8; W: st.global.u32 [%rd1], %r3;");
    for seed in 0..12 {
        let report = run(&different, 4, Options { seed, threads: 1, ..Options::default() }).unwrap_err();
        assert_eq!((report.fault.kind, report.fault.level), (FaultKind::GlobalRace, Level::Error), "{report}");
    }
}

#[test]
fn who_reads_it_must_still_be_ordered() {
    for seed in 0..12 {
        let body = "st.shared.u32 [word], %r3; ld.shared.u32 %r5, [word]; setp.eq.u32 %p2, %r4, 3;
            @%p2 st.shared.u32 [word], %r3;";
        let report = run(body, 1, Options { seed, ..Options::default() }).unwrap_err();
        assert_eq!((report.fault.kind, report.fault.level), (FaultKind::SharedRace, Level::Error), "{report}");
    }
}
