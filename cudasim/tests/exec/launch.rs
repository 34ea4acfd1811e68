//! Whole kernels: grids, divergence, calls.

use crate::support::Machine;

const ADD: &str = "
.visible .entry add(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 n)
{
    .reg .pred %p<2>; .reg .b32 %r<10>; .reg .b64 %rd<10>;
    ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; ld.param.u64 %rd3, [c]; ld.param.u32 %r9, [n];
    mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    setp.ge.s32 %p1, %r4, %r9;
    @%p1 bra DONE;
    mul.wide.s32 %rd4, %r4, 4;
    add.s64 %rd5, %rd1, %rd4; add.s64 %rd6, %rd2, %rd4; add.s64 %rd7, %rd3, %rd4;
    ld.global.u32 %r5, [%rd5]; ld.global.u32 %r6, [%rd6];
    add.u32 %r7, %r5, %r6;
    st.global.u32 [%rd7], %r7;
DONE:
    ret;
}";

#[test]
fn a_vector_is_added() {
    let machine = Machine::new(ADD);
    let n = 1000;
    let a: Vec<u32> = (0..n).collect();
    let b: Vec<u32> = (0..n).map(|i| i * i).collect();
    let (da, db, dc) = (machine.upload(&a), machine.upload(&b), machine.upload(&vec![u32::MAX; n as usize]));
    machine.launch("add", 8, 128, &[da, db, dc, n.into()]).unwrap_or_else(|report| panic!("{report}"));
    let expected: Vec<u32> = (0..n).map(|i| i + i * i).collect();
    assert_eq!(machine.download(dc, n as usize), expected);
}
