//! Plain accesses that flags, locks and counters order: through atomics, volatile and acquiring loads with fences. Whoever spins
//! starves nobody.

use cudasim::report::{FaultKind, Level};

use crate::support::Machine;

/// Runs a body by blocks of 64 threads: `%rd1` points to data (all 5), `%rd2` to flags (all 0), `%r1` is the thread, `%r2` the block.
fn run(body: &str, blocks: u32, seed: u64) -> Result<Vec<u32>, Box<cudasim::report::Report>> {
    let mut machine = Machine::new(&format!(
        ".visible .entry k(.param .u64 data, .param .u64 flags)
        {{
            .reg .pred %p<9>; .reg .b32 %r<30>; .reg .b64 %rd<20>;
            ld.param.u64 %rd1, [data]; ld.param.u64 %rd2, [flags]; mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x;
            {body}
            ret;
        }}"
    ));
    machine.options.seed = seed;
    machine.options.threads = 1 + seed as usize % 3;
    machine.options.warp_instructions = 1 << 24;
    let (data, flags) = (machine.upload(&[5; 256]), machine.upload(&[0; 16]));
    machine.launch("k", blocks, 64, &[data, flags])?;
    Ok(machine.download(data, 256))
}

/// Clean and right under every seed; a race without its fences.
#[track_caller]
fn needs_its_fences(body: &str, blocks: u32, expected: impl Fn(&[u32]) -> bool) {
    for seed in 0..12 {
        let fenced =
            run(&body.replace("FENCE", "membar.gl;"), blocks, seed).unwrap_or_else(|report| panic!("{report}"));
        assert!(expected(&fenced), "seed {seed}: {fenced:?}");
        let report = run(&body.replace("FENCE", ""), blocks, seed).expect_err("a race");
        assert_eq!((report.fault.kind, report.fault.level), (FaultKind::GlobalRace, Level::Error), "{report}");
    }
}

#[test]
fn a_spin_lock_that_every_lane_takes() {
    let body = "SPIN: atom.global.cas.b32 %r6, [%rd2], 0, 1; setp.ne.u32 %p1, %r6, 0; @%p1 bra SPIN; FENCE
        ld.global.u32 %r7, [%rd1]; add.u32 %r7, %r7, 1; st.global.u32 [%rd1], %r7; FENCE
        atom.global.exch.b32 %r8, [%rd2], 0;";
    needs_its_fences(body, 4, |data| data[0] == 5 + 256);
}

#[test]
fn a_volatile_flag_that_other_blocks_wait_for() {
    let body = "setp.ne.u32 %p1, %r2, 0; @%p1 bra WAIT;
        mul.wide.u32 %rd4, %r1, 4; add.u64 %rd4, %rd1, %rd4; st.global.u32 [%rd4], %r1; bar.sync 0;
        setp.ne.u32 %p2, %r1, 0; @%p2 ret; FENCE mov.u32 %r6, 1; st.volatile.global.u32 [%rd2], %r6; ret;
        WAIT: ld.volatile.global.u32 %r7, [%rd2]; setp.eq.u32 %p3, %r7, 0; @%p3 bra WAIT; bar.sync 0;
        xor.b32 %r8, %r1, 63; mul.wide.u32 %rd5, %r8, 4; add.u64 %rd5, %rd1, %rd5; ld.global.u32 %r9, [%rd5];
        setp.ne.u32 %p4, %r2, 1; @%p4 ret; mul.wide.u32 %rd6, %r1, 4; add.u64 %rd6, %rd1, %rd6; st.global.u32 [%rd6+512], %r9;";
    needs_its_fences(body, 6, |data| (0..64).all(|i| data[128 + i] == 63 - i as u32));
}

#[test]
fn a_ticket_lock_of_acquires_and_releases() {
    let body = "setp.ne.u32 %p1, %r1, 0; @%p1 ret; atom.relaxed.gpu.global.add.u32 %r6, [%rd2], 1;
        W: ld.ACQUIRE.gpu.global.u32 %r7, [%rd2+4]; setp.ne.u32 %p2, %r7, %r6; @%p2 bra W;
        ld.global.u32 %r8, [%rd1]; add.u32 %r8, %r8, 3; st.global.u32 [%rd1], %r8;
        red.RELEASE.gpu.global.add.u32 [%rd2+4], 1;";
    for seed in 0..12 {
        let right = body.replace("ACQUIRE", "acquire").replace("RELEASE", "release");
        assert_eq!(run(&right, 8, seed).unwrap_or_else(|report| panic!("{report}"))[0], 5 + 24);
        let wrong = body.replace("ACQUIRE", "relaxed").replace("RELEASE", "relaxed");
        assert_eq!(run(&wrong, 8, seed).expect_err("a race").fault.kind, FaultKind::GlobalRace);
    }
}

#[test]
fn a_counter_of_blocks_whose_last_one_reads_what_all_have_written() {
    let body = "mad.lo.u32 %r5, %r2, 64, %r1; mul.wide.u32 %rd4, %r5, 4; add.u64 %rd4, %rd1, %rd4; st.global.u32 [%rd4], %r5; FENCE bar.sync 0;
        setp.ne.u32 %p1, %r1, 0; @%p1 ret; atom.global.add.u32 %r6, [%rd2], 1; setp.ne.u32 %p2, %r6, 2; @%p2 ret;
        FENCE mov.u32 %r7, 0; mov.u32 %r8, 0;
        SUM: mul.wide.u32 %rd5, %r7, 4; add.u64 %rd5, %rd1, %rd5; ld.global.u32 %r9, [%rd5]; add.u32 %r8, %r8, %r9;
        add.u32 %r7, %r7, 1; setp.lt.u32 %p3, %r7, 192; @%p3 bra SUM; st.global.u32 [%rd1+1020], %r8;";
    needs_its_fences(body, 3, |data| data[255] == 191 * 192 / 2);
}
