//! Shuffles and votes against a plain reading of the ISA's pseudocode.

use super::{Case, each};
use cudasim::report::FaultKind;

/// The ISA's `shfl.sync`, as it is written there.
fn shfl(mode: &str, lane: i32, b: u32, c: u32) -> (u32, bool) {
    let (bval, cval, segmask) = ((b & 0x1f) as i32, (c & 0x1f) as i32, (c >> 8 & 0x1f) as i32);
    let max_lane = (lane & segmask) | (cval & !segmask);
    let min_lane = lane & segmask;
    let (j, p) = match mode {
        "up" => (lane - bval, lane - bval >= max_lane),
        "down" => (lane + bval, lane + bval <= max_lane),
        "bfly" => (lane ^ bval, lane ^ bval <= max_lane),
        _ => (min_lane | (bval & !segmask), min_lane | (bval & !segmask) <= max_lane),
    };
    (if p { j } else { lane } as u32, p)
}

#[test]
fn shfl_takes_from_the_lane_that_the_isa_names() {
    for mode in ["up", "down", "bfly", "idx"] {
        for (b, c) in [
            (1, 0x1f),
            (1, 0),
            (4, 0x181f),
            (3, 0x1c07),
            (16, 0x1f),
            (31, 0x1f),
            (0, 0),
            (7, 0x1803),
            (2, 0x1e01),
            (33, 0x1f),
            (5, 0x100f),
        ] {
            let body = format!(
                "mul.lo.u32 %r0, %lane, 1000; add.u32 %r0, %r0, 7;
                 shfl.sync.{mode}.b32 %r1|%p0, %r0, {b}, {c}, 0xffffffff;
                 selp.u32 %r2, 1, 0, %p0; add.u32 %r1, %r1, %r2; st.global.u32 [%place], %r1;"
            );

            let expected = each(32, |lane| {
                let (source, inside) = shfl(mode, lane as i32, b, c);
                source * 1000 + 7 + u32::from(inside)
            });

            let got = Case { body: &body, ..Case::default() }.run().unwrap();
            assert_eq!(got, expected, "{mode} {b} {c:#x}");
        }
    }
}

#[test]
fn shfl_idx_takes_a_lane_per_lane_and_tiles_have_masks_of_their_own() {
    let body = "
        and.b32 %r0, %lane, 16; mov.u32 %r1, 0xffff; shl.b32 %r1, %r1, %r0;   // each half its own mask
        xor.b32 %r2, %lane, 5; add.u32 %r3, %lane, 100;
        shfl.sync.idx.b32 %r4, %r3, %r2, 0x101f, %r1;
        st.global.u32 [%place], %r4;";
    assert_eq!(Case { body, ..Case::default() }.run().unwrap(), each(32, |lane| (lane ^ 5) + 100));
}

#[test]
fn halves_that_diverged_meet_again_at_a_shuffle() {
    let body = "
        setp.lt.u32 %p0, %lane, 16; mov.u32 %r0, 5;
        @%p0 bra LOW;
        mov.u32 %r0, 9; bra JOIN;
        LOW: mov.u32 %r0, 3;
        JOIN: shfl.sync.bfly.b32 %r1, %r0, 16, 31, 0xffffffff;
        st.global.u32 [%place], %r1;";
    for seed in 0..20 {
        let options = cudasim::options::Options { seed, ..Default::default() };
        let got = Case { body, options, ..Case::default() }.run().unwrap();
        assert_eq!(got, each(32, |lane| if lane < 16 { 9 } else { 3 }));
    }
}

#[test]
fn lanes_that_left_or_do_not_exist_are_not_waited_for() {
    let body = "
        setp.ge.u32 %p0, %thread, 20; @%p0 exit;
        mov.u32 %r0, 1; setp.ne.u32 %p1, %r0, 0;
        vote.sync.ballot.b32 %r1, %p1, 0xffffffff;
        redux.sync.add.u32 %r2, %r0, 0xffffffff; shl.b32 %r2, %r2, 24; or.b32 %r1, %r1, %r2;
        st.global.u32 [%place], %r1;";
    for threads in [20, 25, 32] {
        let got = Case { body, threads, ..Case::default() }.run().unwrap();
        assert_eq!(got[..20], vec![0xf_ffff | 20 << 24; 20]);
    }
}

#[test]
fn votes() {
    for (condition, votes) in [("lt", 0x0000_07ff_u32), ("ge", 0xffff_f800)] {
        let body = format!(
            "setp.{condition}.u32 %p0, %lane, 11;
             setp.lt.u32 %p5, %lane, 8; mov.u32 %r9, 0xff; @!%p5 mov.u32 %r9, 0xffffff00;
             vote.sync.all.pred %p1, %p0, %r9; vote.sync.any.pred %p2, !%p0, %r9; vote.sync.uni.pred %p3, %p0, %r9;
             vote.sync.ballot.b32 %r0, !%p0, %r9;
             selp.u32 %r1, 1, 0, %p1; selp.u32 %r2, 2, 0, %p2; selp.u32 %r3, 4, 0, %p3;
             or.b32 %r1, %r1, %r2; or.b32 %r1, %r1, %r3; shl.b32 %r1, %r1, 8; xor.b32 %r0, %r0, %r1;
             st.global.u32 [%place], %r0;"
        );
        let expected = each(32, |lane| {
            let group = if lane < 8 { 0xff } else { 0xffff_ff00 };
            let yes = votes & group;
            let flags = u32::from(yes == group)
                | u32::from(!votes & group != 0) << 1
                | u32::from(yes == group || yes == 0) << 2;
            (!votes & group) ^ flags << 8
        });
        assert_eq!(Case { body: &body, ..Case::default() }.run().unwrap(), expected);
    }
}

#[test]
fn match_any_and_all_in_both_widths() {
    let body = "
        rem.u32 %r0, %lane, 5; match.any.sync.b32 %r1, %r0, 0xffffffff;
        cvt.u64.u32 %rd0, %r0; shl.b64 %rd0, %rd0, 35; match.any.sync.b64 %r2, %rd0, 0xffffffff;
        sub.u32 %r2, %r2, %r1; add.u32 %r1, %r1, %r2;    // equal, so this adds nothing
        match.all.sync.b32 %r3|%p0, %r0, 0xffffffff; selp.u32 %r4, 1, 0, %p0; add.u32 %r3, %r3, %r4; add.u32 %r1, %r1, %r3;
        mov.u64 %rd1, 77; match.all.sync.b64 %r5|%p1, %rd1, 0xffffffff; add.u32 %r5, %r5, 1; add.u32 %r1, %r1, %r5;
        selp.u32 %r6, 0, 1000, %p1; add.u32 %r1, %r1, %r6;
        st.global.u32 [%place], %r1;";
    let expected =
        each(32, |lane| (0..32).filter(|other| other % 5 == lane % 5).fold(0, |mask, other| mask | 1 << other));
    assert_eq!(Case { body, ..Case::default() }.run().unwrap(), expected);
}

#[test]
fn redux_in_every_operation() {
    let value = |lane: u32| lane.wrapping_mul(0x9e37_79b9) ^ 0x5bd1;
    let all = || (0..32).map(value);
    let signed = || all().map(|x| x as i32);

    for (name, expected) in [
        ("add.u32", all().fold(0, u32::wrapping_add)),
        ("add.s32", all().fold(0, u32::wrapping_add)),
        ("min.u32", all().min().unwrap()),
        ("max.u32", all().max().unwrap()),
        ("min.s32", signed().min().unwrap() as u32),
        ("max.s32", signed().max().unwrap() as u32),
        ("and.b32", all().fold(u32::MAX, |a, b| a & b)),
        ("or.b32", all().fold(0, |a, b| a | b)),
        ("xor.b32", all().fold(0, |a, b| a ^ b)),
    ] {
        let body = format!(
            "mul.lo.u32 %r0, %lane, 0x9e3779b9; xor.b32 %r0, %r0, 0x5bd1;
             redux.sync.{name} %r1, %r0, 0xffffffff; st.global.u32 [%place], %r1;"
        );
        assert_eq!(Case { body: &body, ..Case::default() }.run().unwrap(), vec![expected; 32], "{name}");
    }
}

#[test]
fn one_lane_is_elected_and_activemask_names_who_is_there() {
    let body = "
        setp.ge.u32 %p0, %lane, 3; @!%p0 bra DONE;
        elect.sync %r0|%p1, 0xfffffff8; selp.u32 %r1, 1, 0, %p1; shl.b32 %r1, %r1, 8; or.b32 %r0, %r0, %r1;
        activemask.b32 %r2; add.u32 %r0, %r0, %r2;
        st.global.u32 [%place], %r0;
        DONE:";
    let expected = each(32, |lane| match lane {
        0..3 => 0,
        3 => 0xffff_fff8_u32.wrapping_add(3 | 1 << 8),
        _ => 0xffff_fffb,
    });
    assert_eq!(Case { body, ..Case::default() }.run().unwrap(), expected);
}

#[test]
fn wrong_member_masks_are_reported() {
    let body = "shfl.sync.bfly.b32 %r1, %lane, 1, 31, 0xffff;";
    let report = Case { body, ..Case::default() }.fails(FaultKind::DivergentBarrier, "member mask is 0x0000ffff");
    assert_eq!(report.thread, [16, 0, 0]);
    let body = "setp.lt.u32 %p0, %lane, 16; @%p0 shfl.sync.bfly.b32 %r1, %lane, 1, 31, 0xffffffff;";
    Case { body, ..Case::default() }.fails(FaultKind::DivergentBarrier, "skip it: 0xffff0000");
    let body = "setp.lt.u32 %p0, %lane, 16; @%p0 bra A; shfl.sync.bfly.b32 %r1, %lane, 1, 31, 0xffffffff; bra B;
        A: shfl.sync.bfly.b32 %r1, %lane, 2, 31, 0xffffffff; B:";
    Case { body, ..Case::default() }.fails(FaultKind::DivergentBarrier, "wait for one another at different");
    // Lane 15 asks for a lane that a block of 16 threads does not have.
    let body = "shfl.sync.idx.b32 %r1, %lane, 20, 31, 0xffffffff;";
    Case { body, threads: 16, ..Case::default() }.fails(FaultKind::DivergentBarrier, "the value of lane 20");
}
