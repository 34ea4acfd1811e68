//! What is said of missing waits and fences, of warps that are not there, and of operands that change too soon.

use cudasim::report::FaultKind;

use super::*;

/// The kind and the message of the report of a kernel that runs `middle`.
fn fault_of(case: &Case, middle: &str, completion: Completion) -> (FaultKind, String) {
    let mut machine = Machine::new(&kernel(case, middle));
    machine.options.completion = completion;
    let report = Data::new(case, 0).launch(&machine, case, 128).expect_err("a fault");
    (report.fault.kind, report.to_string())
}

fn plain() -> Case {
    Case::new(8, BF16, Some(k_major(128, 0)), k_major(128, 0))
}

fn in_registers() -> Case {
    Case::new(8, BF16, None, k_major(128, 0))
}

#[test]
fn missing_waits_are_found_however_it_completes() {
    for completion in [Completion::Late, Completion::Early, Completion::Random] {
        for (what, case, middle) in [
            ("no wait", plain(), format!("{READY} {FENCE} {} {COMMIT}", plain().instruction())),
            ("no commit", plain(), format!("{READY} {FENCE} {} {WAIT}", plain().instruction())),
            (
                "too lax a wait",
                plain(),
                format!("{READY} {FENCE} {} {COMMIT} wgmma.wait_group.sync.aligned 1;", plain().instruction()),
            ),
            (
                "an accumulator is written",
                plain(),
                format!("{READY} {FENCE} {} {COMMIT} mov.b32 %d2, 0; {WAIT}", plain().instruction()),
            ),
            (
                "A is written",
                in_registers(),
                format!("{READY} {FENCE} {} {COMMIT} add.u32 %a1, %a1, 1; {WAIT}", in_registers().instruction()),
            ),
        ] {
            let (kind, report) = fault_of(&case, &middle, completion);
            assert_eq!(kind, FaultKind::MissingWait, "{what} {completion:?}: {report}");
        }
    }

    let lax = format!("{READY} {FENCE} {} {COMMIT}", plain().instruction());
    let (_, report) = fault_of(&plain(), &lax, Completion::Late);
    assert!(report.contains("%d0 is read while a wgmma in flight accumulates in it"), "{report}");
    assert!(report.contains("st.global.b32"), "{report}");
}

#[test]
fn a_read_of_a_is_no_fault() {
    let case = in_registers();
    let middle = format!("{READY} {FENCE} {} {COMMIT} add.u32 %r4, %a1, 1; {WAIT}", case.instruction());
    let data = Data::new(&case, 1);
    let got = data.launch(&Machine::new(&kernel(&case, &middle)), &case, 128);
    assert_eq!(got.unwrap_or_else(|report| panic!("{report}")), data.expected(&case));
}

#[test]
fn missing_fences_are_found() {
    let instruction = plain().instruction();
    for (what, middle) in [
        ("none at all", format!("{READY} {instruction} {COMMIT} {WAIT}")),
        ("accumulator changed after it", format!("{READY} {FENCE} add.u32 %d1, %d1, 1; {instruction} {COMMIT} {WAIT}")),
        (
            "accumulator changed between two",
            format!("{READY} {FENCE} {instruction} {COMMIT} {WAIT} add.u32 %d3, %d3, 1; {instruction} {COMMIT} {WAIT}"),
        ),
    ] {
        let (kind, report) = fault_of(&plain(), &middle, Completion::Late);
        assert_eq!(kind, FaultKind::MissingFence, "{what}: {report}");
    }

    let case = in_registers();
    let middle = format!("{READY} {FENCE} add.u32 %a3, %a3, 1; {} {COMMIT} {WAIT}", case.instruction());
    assert_eq!(fault_of(&case, &middle, Completion::Early).0, FaultKind::MissingFence);

    // Compilers put copies there, which the assembler moves before the fence.
    let middle = format!("{READY} {FENCE} mov.b32 %a3, %a3; {} {COMMIT} {WAIT}", case.instruction());
    let data = Data::new(&case, 0);
    let got = data.launch(&Machine::new(&kernel(&case, &middle)), &case, 128);
    assert_eq!(got.unwrap_or_else(|report| panic!("{report}")), data.expected(&case));
}

/// Operations in flight that share their accumulators need neither wait nor fence between them.
#[test]
fn operations_are_chained_in_order() {
    let case = plain();
    let data = Data::new(&case, 0);
    let i = case.instruction();
    let middle =
        format!("{READY} {FENCE} {i} {i} {COMMIT} {i} {COMMIT} wgmma.wait_group.sync.aligned 1; {i} {COMMIT} {WAIT}");
    let mut machine = Machine::new(&kernel(&case, &middle));

    // Small integers: four times the product is exact.
    let mut expected = Data::new(&case, 0);
    for _ in 0..4 {
        let words = expected.expected(&case);
        for thread in 0..128 {
            for i in 0..4 {
                let (row, column) = place_d(thread, i);
                expected.d[row * 8 + column] = words[thread * 4 + i].into();
            }
        }
    }

    let expected: Vec<u32> = (0..512)
        .map(|i| {
            let (row, column) = place_d(i / 4, i % 4);
            expected.d[row * 8 + column] as u32
        })
        .collect();
    for (completion, seed) in
        [(Completion::Late, 0), (Completion::Early, 0), (Completion::Random, 1), (Completion::Random, 2)]
    {
        (machine.options.completion, machine.options.seed) = (completion, seed);
        assert_eq!(data.launch(&machine, &case, 128).unwrap_or_else(|report| panic!("{report}")), expected);
    }
}

#[test]
fn a_whole_warpgroup_must_run_the_same() {
    let case = plain();
    let i = case.instruction();
    let kind = |middle: String| fault_of(&case, &middle, Completion::Late);
    let (fault, report) = kind(format!("{READY} {FENCE} setp.lt.u32 %q, %r0, 3; @%q {i} {COMMIT} {WAIT}"));

    assert_eq!(fault, FaultKind::DivergentBarrier, "{report}");
    let (fault, report) = kind(format!("{READY} {FENCE} setp.lt.u32 %q, %r0, 96; @%q {i} {COMMIT} {WAIT}"));
    assert!(matches!(fault, FaultKind::Deadlock | FaultKind::DivergentBarrier), "{report}");
    assert!(report.contains("warp 3"), "{report}");
    let (fault, report) = kind(format!(
        "{READY} {FENCE} shr.u32 %r4, %r0, 5; cvt.u64.u32 %rd5, %r4; add.u64 %db, %db, %rd5; {i} {COMMIT} {WAIT}"
    ));

    assert_eq!(fault, FaultKind::InvalidUse, "{report}");
    let (fault, report) =
        kind(format!("{READY} {FENCE} cvt.u64.u32 %rd5, %r0; add.u64 %db, %db, %rd5; {i} {COMMIT} {WAIT}"));
    assert!(fault == FaultKind::InvalidUse && report.contains("differs between lanes"), "{report}");

    let (fault, report) = kind(format!("{READY} {FENCE} setp.lt.u32 %p, %r0, 7; {i} {COMMIT} {WAIT}"));
    assert!(fault == FaultKind::InvalidUse && report.contains("scale-d"), "{report}");
    let machine = Machine::new(&kernel(&case, &good(&case)));
    let report = Data::new(&case, 0).launch(&machine, &case, 96).expect_err("three warps");
    assert_eq!(report.fault.kind, FaultKind::DivergentBarrier, "{report}");
}

#[test]
fn what_descriptors_point_at_is_checked() {
    let case = plain();
    let machine = Machine::new(&kernel(&case, &good(&case)));
    let run = |change: &dyn Fn(&mut Data)| {
        let mut data = Data::new(&case, 0);
        change(&mut data);
        data.launch(&machine, &case, 128).expect_err("a fault").fault
    };
    assert_eq!(run(&|data| data.descriptors[0] |= 1 << 50 | 1 << 61).kind, FaultKind::InvalidUse);
    let outside = run(&|data| data.descriptors[1] = k_major(128, 0).descriptor(BASE + 49152));
    assert_eq!((outside.kind, outside.address.map(|a| a & 0xffff_ffff)), (FaultKind::OutOfBounds, Some(BASE + 49152)));
    let unwritten = run(&|data| data.descriptors[1] = k_major(128, 0).descriptor(BASE + 32768));
    assert_eq!(unwritten.kind, FaultKind::UninitialisedMemory);
    let null = run(&|data| data.descriptors[1] = k_major(128, 0).descriptor(0));
    assert_eq!(null.kind, FaultKind::OutOfBounds, "the first kilobyte is the system's");
}

/// Ordinary stores and wgmma are of different proxies.
#[test]
fn a_missing_proxy_fence_is_found() {
    let i = plain().instruction();
    for completion in [Completion::Late, Completion::Early, Completion::Random] {
        for ready in ["bar.sync 0;", "bar.sync 0; fence.acq_rel.cta;"] {
            let (kind, report) = fault_of(&plain(), &format!("{ready} {FENCE} {i} {COMMIT} {WAIT}"), completion);
            assert_eq!(kind, FaultKind::MissingFence, "{report}");
            assert!(report.contains("fence.proxy.async"), "{report}");
        }
    }
    // A fence by the reader after it has synchronised with the writes is enough; a fence before that is not.
    let late = format!("bar.sync 0; fence.proxy.async; {FENCE} {i} {COMMIT} {WAIT}");
    let data = Data::new(&plain(), 0);
    let got = data.launch(&Machine::new(&kernel(&plain(), &late)), &plain(), 128);
    assert_eq!(got.unwrap_or_else(|report| panic!("{report}")), data.expected(&plain()));
}

/// Each thread overwrites a word of B.
const OVERWRITE: &str = "mov.b32 %r4, 0x40004000; mad.lo.u32 %r5, %r0, 4, %r1; st.shared.b32 [%r5+8192], %r4;";

#[test]
fn shared_memory_that_is_overwritten_too_soon_is_a_race() {
    let i = plain().instruction();
    for completion in [Completion::Late, Completion::Early, Completion::Random] {
        let (kind, report) =
            fault_of(&plain(), &format!("{READY} {FENCE} {i} {COMMIT} bar.sync 0; {OVERWRITE} {WAIT}"), completion);
        assert_eq!(kind, FaultKind::SharedRace, "{completion:?}: {report}");
        assert!(report.contains("asynchronous operation"), "{report}");
    }
}

/// What one warp of the group has waited for is complete for all: it may tell others to overwrite the multiplicands.
#[test]
fn one_warp_may_release_what_all_have_read() {
    let case = Case::new(16, BF16, Some(k_major(128, 0)), k_major(128, 0));
    let mut machine = Machine::new(&kernel(
        &case,
        &format!(
            "{READY} {FENCE} {} {COMMIT} setp.lt.u32 %q, %r0, 32; @!%q bra OTHERS; {WAIT} {} OTHERS: {WAIT}",
            case.instruction(),
            "mov.b32 %r4, 0x40004000; mad.lo.u32 %r5, %r0, 4, %r1; st.shared.b32 [%r5], %r4; st.shared.b32 [%r5+8192], %r4;"
        ),
    ));
    for seed in 0..8 {
        machine.options.seed = seed;
        for completion in [Completion::Late, Completion::Early, Completion::Random] {
            machine.options.completion = completion;
            // A warp whose operation is complete knows nothing of the other warps; operations in flight must not be disturbed.
            let data = Data::new(&case, 0);
            let got =
                data.launch(&machine, &case, 128).unwrap_or_else(|report| panic!("{seed} {completion:?} {report}"));
            assert_eq!(got, data.expected(&case), "{seed} {completion:?}");
        }
    }
}

/// B is overwritten while a wgmma in flight still reads it: what is computed late shows it.
#[test]
fn shared_memory_that_is_overwritten_too_soon_shows() {
    let case = plain();
    let data = Data::new(&case, 0);
    let middle = format!("{READY} {FENCE} {} {COMMIT} bar.sync 0; {OVERWRITE} {WAIT}", case.instruction());
    let mut machine = Machine::new(&kernel(&case, &middle));
    machine.options.shared_races = false;
    machine.options.completion = Completion::Late;
    let late = data.launch(&machine, &case, 128).unwrap_or_else(|report| panic!("{report}"));
    assert_ne!(late, data.expected(&case));
    machine.options.completion = Completion::Early;
    let early = data.launch(&machine, &case, 128).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(early, data.expected(&case));
}
