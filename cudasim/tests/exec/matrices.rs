//! `ldmatrix`, `stmatrix`, `movmatrix`: each element codes its matrix, row and column.

use cudasim::report::FaultKind;

use crate::support::Machine;

/// Matrix, row and column of an element of shared memory.
fn code(matrix: u32, row: u32, column: u32) -> u32 {
    matrix << 8 | row << 4 | column
}

/// The two elements that a lane holds of a matrix.
fn held(matrix: u32, lane: u32, transposed: bool) -> u32 {
    let (major, minor) = (lane / 4, lane % 4 * 2);
    let element = |minor| if transposed { code(matrix, minor, major) } else { code(matrix, major, minor) };
    element(minor + 1) << 16 | element(minor)
}

/// Rows lie scattered.
fn row_address(row: u32) -> u32 {
    16 * ((row * 5 + 3) % 32)
}

fn load(count: u32, transposed: bool, generic: bool) -> String {
    let trans = if transposed { ".trans" } else { "" };
    let list = (0..count).map(|i| format!("%r{i}")).collect::<Vec<_>>().join(", ");
    let (space, address) = if generic { ("", "%rd3") } else { (".shared", "%t2") };
    let stores: String = (0..count).map(|i| format!("st.global.b32 [%rd2+{}], %r{i};\n", 4 * i)).collect();
    format!(
        ".visible .entry k(.param .u64 rows, .param .u64 in, .param .u64 out) {{
        .shared .align 128 .b8 tile[512];
        .reg .b32 %r<4>; .reg .b32 %t, %t1, %t2; .reg .b64 %rd<6>;
        mov.u32 %t, %laneid; mov.u32 %t1, tile;
        ld.param.u64 %rd0, [in]; mad.wide.u32 %rd0, %t, 16, %rd0;
        mad.lo.u32 %t2, %t, 16, %t1;
        ld.global.b32 %r0, [%rd0]; st.shared.b32 [%t2], %r0; ld.global.b32 %r0, [%rd0+4]; st.shared.b32 [%t2+4], %r0;
        ld.global.b32 %r0, [%rd0+8]; st.shared.b32 [%t2+8], %r0; ld.global.b32 %r0, [%rd0+12]; st.shared.b32 [%t2+12], %r0;
        ld.param.u64 %rd0, [rows]; mad.wide.u32 %rd0, %t, 4, %rd0; ld.global.b32 %t2, [%rd0]; add.u32 %t2, %t2, %t1;
        cvt.u64.u32 %rd3, %t2; cvta.shared.u64 %rd3, %rd3;
        ldmatrix.sync.aligned.m8n8.x{count}{trans}{space}.b16 {{{list}}}, [{address}];
        ld.param.u64 %rd2, [out]; mad.wide.u32 %rd2, %t, {}, %rd2;
        {stores} ret; }}",
        4 * count
    )
}

#[test]
fn matrices_are_loaded() {
    let mut tile = vec![0; 128];
    for row in 0..32 {
        for word in 0..4 {
            let element = |column| code(row / 8, row % 8, column);
            tile[(row_address(row) / 4 + word) as usize] = element(2 * word + 1) << 16 | element(2 * word);
        }
    }

    for count in [1, 2, 4] {
        for (transposed, generic) in [(false, false), (true, false), (false, true), (true, true)] {
            let machine = Machine::new(&load(count, transposed, generic));

            // Addresses of lanes whose rows are not wanted may be anything.
            let addresses: Vec<u32> =
                (0..32).map(|row| if row < 8 * count { row_address(row) } else { 0x00f0_0001 }).collect();
            let (rows, data, out) =
                (machine.upload(&addresses), machine.upload(&tile), machine.upload(&vec![0; 32 * count as usize]));
            machine.launch("k", 1, 32, &[rows, data, out]).unwrap_or_else(|report| panic!("{report}"));
            let expected: Vec<u32> =
                (0..32).flat_map(|lane| (0..count).map(move |i| held(i, lane, transposed))).collect();
            assert_eq!(machine.download(out, expected.len()), expected, "x{count} {transposed} {generic}");
        }
    }
}

#[test]
fn faults_of_rows() {
    let run = |lane: usize, address: u32, generic: bool| {
        let machine = Machine::new(&load(4, false, generic));
        let mut addresses: Vec<u32> = (0..32).map(row_address).collect();
        addresses[lane] = address;
        let (rows, data, out) = (machine.upload(&addresses), machine.upload(&[7; 128]), machine.upload(&[0; 128]));
        let report = machine.launch("k", 1, 32, &[rows, data, out]).unwrap_err();
        (report.fault.kind, report.thread[0], report.fault.address.unwrap() & 0xffff_ffff)
    };
    for generic in [false, true] {
        assert_eq!(run(13, 24, generic), (FaultKind::Misaligned, 13, 1024 + 24));
        assert_eq!(run(31, 512, generic), (FaultKind::OutOfBounds, 31, 1024 + 512));
    }
}

#[test]
fn unwritten_rows_are_reported_where_they_count() {
    // Of eight rows the last three are never written.
    let run = |load: &str, lanes: u32| {
        let text = format!(
            ".visible .entry k(.param .u64 p) {{ .shared .align 16 .b8 tile[128]; .reg .b32 %r<5>; .reg .b64 %rd<2>; .reg .pred %p<2>;
            ld.param.u64 %rd0, [p]; mov.u32 %r0, %laneid; mad.wide.u32 %rd1, %r0, 4, %rd0; mov.u32 %r1, tile; mad.lo.u32 %r3, %r0, 4, %r1;
            setp.lt.u32 %p0, %r0, 20; @%p0 st.shared.u32 [%r3], %r0; bar.warp.sync 0xffffffff;
            mad.lo.u32 %r4, %r0, 16, %r1; {load} setp.lt.u32 %p1, %r0, {lanes}; @%p1 st.global.u32 [%rd1], %r2; ret; }}"
        );
        let machine = Machine::new(&text);
        let out = machine.upload(&[0; 32]);
        machine.launch("k", 1, 32, &[out])
    };
    let rows = "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r4];";
    run(rows, 0).unwrap_or_else(|report| panic!("{report}"));
    run(rows, 20).unwrap_or_else(|report| panic!("{report}"));
    let report = run(rows, 21).unwrap_err();
    assert_eq!(report.fault.kind, FaultKind::UninitialisedMemory, "{report}");
    assert!(report.nearest.as_deref().unwrap().starts_with("byte 80 of shared tile"), "{report}");
    // Transposed, each lane has a part of an unwritten row but for lanes 0 and 1 of each group.
    let columns = rows.replace(".shared", ".trans.shared");
    run(&columns, 2).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(run(&columns, 3).unwrap_err().fault.kind, FaultKind::UninitialisedMemory);

    let global = ".visible .entry k(.param .u64 p) { .reg .b64 %rd0; .reg .b32 %r2; ld.param.u64 %rd0, [p];
        ldmatrix.sync.aligned.m8n8.x1.b16 {%r2}, [%rd0]; ret; }";
    let machine = Machine::new(global);
    let data = machine.upload(&[0; 64]);
    let report = machine.launch("k", 1, 32, &[data]).unwrap_err();
    assert_eq!(report.fault.kind, FaultKind::InvalidAddressSpace, "{report}");
}

#[test]
fn matrices_are_stored() {
    for count in [1_u32, 2, 4] {
        for transposed in [false, true] {
            let trans = if transposed { ".trans" } else { "" };
            let list = (0..count).map(|i| format!("%r{i}")).collect::<Vec<_>>().join(", ");
            let loads: String = (0..count).map(|i| format!("ld.global.b32 %r{i}, [%rd2+{}];\n", 4 * i)).collect();
            let text = format!(
                ".visible .entry k(.param .u64 rows, .param .u64 in, .param .u64 out) {{
                .shared .align 128 .b8 tile[512];
                .reg .b32 %r<4>; .reg .b32 %t, %t1, %t2; .reg .b64 %rd<6>; .reg .pred %p;
                mov.u32 %t, %laneid; mov.u32 %t1, tile;
                ld.param.u64 %rd2, [in]; mad.wide.u32 %rd2, %t, {}, %rd2; {loads}
                ld.param.u64 %rd0, [rows]; mad.wide.u32 %rd0, %t, 4, %rd0; ld.global.b32 %t2, [%rd0]; add.u32 %t2, %t2, %t1;
                stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%t2], {{{list}}};
                ld.param.u64 %rd0, [out]; mad.wide.u32 %rd0, %t, 16, %rd0;
                mad.lo.u32 %t2, %t, 16, %t1;
                setp.lt.u32 %p, %t, {}; @!%p exit;
                ld.shared.b32 %r0, [%t2]; st.global.b32 [%rd0], %r0; ld.shared.b32 %r0, [%t2+4]; st.global.b32 [%rd0+4], %r0;
                ld.shared.b32 %r0, [%t2+8]; st.global.b32 [%rd0+8], %r0; ld.shared.b32 %r0, [%t2+12]; st.global.b32 [%rd0+12], %r0;
                ret; }}",
                4 * count,
                8 * count
            );

            let machine = Machine::new(&text);
            // Rows in reverse, so that every row of the tile is written.
            let last = 8 * count - 1;
            let addresses: Vec<u32> = (0..32).map(|row| if row <= last { 16 * (last - row) } else { 3 }).collect();
            let held: Vec<u32> = (0..32).flat_map(|lane| (0..count).map(move |i| held(i, lane, transposed))).collect();
            let (rows, data, out) =
                (machine.upload(&addresses), machine.upload(&held), machine.upload(&vec![0; 32 * count as usize]));
            machine.launch("k", 1, 32, &[rows, data, out]).unwrap_or_else(|report| panic!("{report}"));

            let mut expected = vec![0; 32 * count as usize];
            for row in 0..=last {
                for word in 0..4 {
                    let element = |column| code(row / 8, row % 8, column);
                    expected[((last - row) * 4 + word) as usize] = element(2 * word + 1) << 16 | element(2 * word);
                }
            }
            assert_eq!(machine.download(out, expected.len()), expected, "x{count} {transposed}");
        }
    }
}

#[test]
fn a_matrix_is_transposed_between_lanes() {
    let text = ".visible .entry k(.param .u64 in, .param .u64 out) { .reg .b32 %r<3>; .reg .b64 %rd<3>;
        mov.u32 %r0, %laneid; ld.param.u64 %rd0, [in]; mad.wide.u32 %rd0, %r0, 4, %rd0; ld.global.b32 %r1, [%rd0];
        movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r1;
        ld.param.u64 %rd1, [out]; mad.wide.u32 %rd1, %r0, 4, %rd1; st.global.b32 [%rd1], %r2; ret; }";
    let machine = Machine::new(text);
    let lanes: Vec<u32> = (0..32).map(|lane| held(3, lane, false)).collect();
    let (data, out) = (machine.upload(&lanes), machine.upload(&[0; 32]));
    machine.launch("k", 1, 32, &[data, out]).unwrap_or_else(|report| panic!("{report}"));
    let expected: Vec<u32> = (0..32).map(|lane| held(3, lane, true)).collect();
    assert_eq!(machine.download(out, 32), expected);
}
