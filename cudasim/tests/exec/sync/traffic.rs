//! What asynchronous copies move, in the counts.

use super::tensor::{START as MAP, WAIT as MAPPED, declarations};
use super::{Case, bytes, each};
use cudasim::counters::asynchronous::{BulkTraffic, SharedLines};
use cudasim::counters::{Counts, Direction, GlobalTraffic, SharedTraffic};
use cudasim::options::{Completion, Options};
use cudasim::tensor_map::{Arguments, TensorMap};

const SHARED: &str = ".shared .align 8 .b64 bar; .shared .align 128 .b32 buffer[256];";

/// Thread 0 makes an mbarrier for one arrival.
const START: &str = "mov.u32 %r0, buffer; setp.eq.u32 %p9, %thread, 0; @%p9 mbarrier.init.shared::cta.b64 [bar], 1;
    @%p9 fence.mbarrier_init.release.cluster; bar.sync 0;\n";
const WAIT: &str = "W: mbarrier.try_wait.parity.shared::cta.b64 %p0, [bar], 0; @!%p0 bra W;\n";
/// The address bits of the other block of a cluster of two; both are there.
const PEER: &str = "mov.u32 %r7, %cluster_ctarank; xor.b32 %r8, %r7, 1; add.u32 %r8, %r8, 1; shl.b32 %r8, %r8, 24;
    barrier.cluster.arrive; barrier.cluster.wait;\n";
const BYE: &str = "barrier.cluster.arrive; barrier.cluster.wait;\n";

/// Traffic by direction: load, store, atomic; each requests, sectors or lines, bytes.
fn bulk(global: [[u64; 3]; 3], shared: [[u64; 3]; 3]) -> BulkTraffic {
    BulkTraffic {
        global: global.map(|[requests, sectors, bytes]| GlobalTraffic { requests, sectors, bytes }),
        shared: shared.map(|[requests, lines, bytes]| SharedLines { requests, lines, bytes }),
    }
}

const NONE: [[u64; 3]; 3] = [[0; 3]; 3];

/// The counts of a kernel, the same whenever its copies complete.
fn counts(body: &str, declarations: &str, cluster: u32, input: &[u8], map: &dyn Fn(u64, u64) -> Vec<u8>) -> Counts {
    let of = |completion, seed| {
        let options = Options { counters: true, completion, seed, threads: 1, ..Options::default() };
        let (input, output) = (input.to_vec(), vec![0; 16384]);
        Case { body, declarations, blocks: cluster, cluster, input, output, options, ..Case::default() }.counts(map)
    };
    let first = of(Completion::Late, 0);
    for (completion, seed) in [(Completion::Early, 1), (Completion::Random, 2), (Completion::Random, 3)] {
        let other = of(completion, seed);
        assert_eq!((other.bulk, other.global, other.shared), (first.bulk, first.global, first.shared));
    }
    first
}

fn plain(body: &str, cluster: u32) -> Counts {
    counts(body, SHARED, cluster, &bytes(&each(256, |index| index)), &|_, _| Vec::new())
}

#[test]
fn bulk_copies_in_both_directions_and_reductions() {
    let got = plain(
        &format!(
            "{START} @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 512;
             @%p9 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [buffer], [%in], 512, [bar];
             {WAIT}
             @%p9 cp.async.bulk.global.shared::cta.bulk_group [%out], [buffer], 256;
             @%p9 cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%out+272], [buffer+16], 48;
             @%p9 cp.async.bulk.commit_group; @%p9 cp.async.bulk.wait_group 0;"
        ),
        1,
    );
    // 48 bytes 16 behind the start of a sector, and of a line.
    let expected = bulk([[1, 16, 512], [1, 8, 256], [1, 2, 48]], [[2, 3, 304], [1, 4, 512], [0; 3]]);
    assert_eq!(got.bulk, expected);
    assert_eq!(got.global, [GlobalTraffic::default(); 3], "no warp asked for it");
    assert_eq!(got.shared, [SharedTraffic::default(); 3]);
}

#[test]
fn the_counts_as_json() {
    let machine = crate::support::Machine::new(
        ".visible .entry k(.param .u64 data) { .reg .b64 %rd<3>; .shared .align 128 .b8 tile[256];
            st.shared.u32 [tile], 1; st.shared.v2.u32 [tile+8], {2, 3}; st.shared.u32 [tile+4], 4; fence.proxy.async;
            ld.param.u64 %rd1, [data]; cp.async.bulk.global.shared::cta.bulk_group [%rd1], [tile], 16;
            cp.async.bulk.commit_group; cp.async.bulk.wait_group 0; ret; }",
    );
    let options = Options { counters: true, ..Options::default() };
    let data = machine.upload(&[0; 4]);
    let kernel = machine.program.kernel("k").unwrap();
    let launch = cudasim::exec::Launch::new([1; 3], [1; 3], 0, data.to_le_bytes().to_vec());
    let counts = cudasim::exec::run(&kernel, &launch, &machine.memory.map(), &options, 0).unwrap().expect("counts");
    let json = counts.json(&kernel);

    let traffic = |what: &str, load: [u64; 3], store: [u64; 3]| {
        let part = |[requests, units, bytes]: [u64; 3]| {
            format!("{{\"requests\":{requests},\"{what}\":{units},\"bytes\":{bytes}}}")
        };
        format!("{{\"load\":{},\"store\":{},\"atomic\":{}}}", part(load), part(store), part([0; 3]))
    };

    let (global, shared) = (traffic("sectors", [0; 3], [1, 1, 16]), traffic("lines", [1, 1, 16], [0; 3]));
    let nothing = "{\"matrices\":0,\"wavefronts\":0,\"bytes\":0}";
    let expected = format!(
        "}},\"bulk\":{{\"global\":{global},\"shared\":{shared}}},\"wgmma\":{{\"a\":{nothing},\"b\":{nothing}}},\"barriers\":0"
    );
    assert!(json.contains(&expected), "{expected} in {json}");
}

#[test]
fn a_multicast_reads_once_and_writes_in_each_block() {
    let got = plain(
        &format!(
            "{START} {PEER} @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 128; {BYE}
             setp.eq.and.u32 %p1, %r7, 1, %p9; mov.u16 %h0, 3;
             @%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [buffer], [%in+16], 128, [bar], %h0;
             {WAIT} {BYE}"
        ),
        2,
    );
    assert_eq!(got.bulk, bulk([[1, 5, 128], [0; 3], [0; 3]], [[0; 3], [2, 2, 256], [0; 3]]));
}

#[test]
fn blocks_copy_reduce_and_store_in_one_another() {
    let start = |store: &str| {
        format!(
            "{START} mad.lo.u32 %r9, %thread, 4, %r0; st.shared.u32 [%r9], %thread; {store} fence.proxy.async; {PEER}
             add.u32 %r3, %r0, %r8; mov.u32 %r4, bar; add.u32 %r5, %r4, %r8; add.u32 %r6, %r9, %r8;"
        )
    };
    let got = plain(
        &format!(
            "{} @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 240;
             @%p9 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r3+256], [%r0], 112, [%r5];
             @%p9 cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 [%r3+512], [%r0], 128, [%r5];
             {WAIT} {BYE}",
            start("st.shared.u32 [%r9+512], 5;")
        ),
        2,
    );
    assert_eq!(got.bulk, bulk(NONE, [[4, 4, 480], [2, 2, 224], [2, 2, 256]]));

    // Words are a warp's: one request of each of the two blocks.
    let got = plain(
        &format!(
            "{} @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 384;
             red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r6], %thread, [%r5];
             mad.lo.u32 %r6, %thread, 4, %r6;
             st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%r6+256], {{%thread, %r7}}, [%r5];
             {WAIT} {BYE}",
            start("")
        ),
        2,
    );
    assert_eq!(got.bulk, BulkTraffic::default());

    let shared = |requests, wavefronts, bytes| SharedTraffic { requests, wavefronts, conflicts: 0, bytes };
    // `st.shared`, then 8 bytes of each lane, served half a warp at a time.
    assert_eq!(got.shared[Direction::Store as usize], shared(4, 6, 768));
    assert_eq!(got.shared[Direction::Atomic as usize], shared(2, 2, 256));
}

#[test]
fn cp_async_counts_as_the_warp_s_own() {
    let got = plain(
        "mov.u32 %r0, buffer; mad.lo.u32 %r1, %thread, 16, %r0; mad.wide.u32 %rd0, %thread, 16, %in;
         cp.async.cg.shared.global [%r1], [%rd0], 16; cp.async.wait_all; bar.sync 0;
         setp.lt.u32 %p0, %thread, 8; selp.u32 %r2, 16, 4, %p0; setp.lt.u32 %p1, %thread, 16; selp.u32 %r2, %r2, 0, %p1;
         cp.async.ca.shared.global [%r1], [%rd0], 16, %r2; cp.async.wait_all;",
        1,
    );
    let global = GlobalTraffic { requests: 2, sectors: 16 + 8, bytes: 512 + 8 * 16 + 8 * 4 };
    let shared = SharedTraffic { requests: 2, wavefronts: 8, conflicts: 0, bytes: 1024 };
    assert_eq!(got.global[Direction::Load as usize], global, "what is not read is not asked for");
    assert_eq!(got.shared[Direction::Store as usize], shared);
    assert_eq!(got.bulk, BulkTraffic::default());
}

/// A tensor of 100 x 40 halves in rows of 224 bytes, boxes of 64 x 16.
#[test]
fn tensor_copies_count_what_lies_inside() {
    let map = |address: u64| {
        let arguments = Arguments {
            element: 6,
            rank: 2,
            address,
            dims: &[100, 40],
            strides: &[224],
            element_strides: &[1, 1],
            interleave: 0,
            swizzle: 3,
            l2_promotion: 0,
            fill: 0,
        };
        TensorMap::tiled(&arguments, &[64, 16]).unwrap().encode().to_vec()
    };

    let load = |x: i32, y: i32| {
        let body = format!(
            "{MAP} @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 2048;
             @%p9 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [tile], [%map, {{{x}, {y}}}], [bar];
             {MAPPED}"
        );
        counts(&body, &declarations(), 1, &[1; 224 * 40], &|input, _| map(input)).bulk
    };

    // Rows of 128 bytes from the middle of a sector on: 5 sectors each.
    assert_eq!(load(24, 3), bulk([[1, 16 * 5, 2048], [0; 3], [0; 3]], [[0; 3], [1, 16, 2048], [0; 3]]));
    // Four rows of 56 elements are inside: 112 bytes, 4 sectors each. The rest is filled.
    assert_eq!(load(-8, 36), bulk([[1, 16, 448], [0; 3], [0; 3]], [[0; 3], [1, 16, 2048], [0; 3]]));
    assert_eq!(load(100, 0), bulk([[1, 0, 0], [0; 3], [0; 3]], [[0; 3], [1, 16, 2048], [0; 3]]));

    let stored_by = |guard: &str, how: &str, x: i32, y: i32| {
        let body = format!(
            "{MAP} @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 2048;
             @%p9 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [tile], [%map, {{0, 0}}], [bar];
             {MAPPED}
             {guard} cp.{how} [%map, {{{x}, {y}}}], [tile]; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
        );
        counts(&body, &declarations(), 1, &[1; 224 * 40], &|_, output| map(output)).bulk
    };
    let store = |how: &str, x, y| stored_by("@%p9", how, x, y);

    let (loaded, written) = ([1, 16 * 4, 2048], [1, 16, 2048]);
    assert_eq!(
        store("async.bulk.tensor.2d.global.shared::cta.tile.bulk_group", 24, 3),
        bulk([loaded, [1, 16 * 5, 2048], [0; 3]], [written, written, [0; 3]])
    );
    // All lanes of the warp: one instruction of the machine, which moves it once. Reductions are of each of them.
    assert_eq!(
        stored_by("", "async.bulk.tensor.2d.global.shared::cta.tile.bulk_group", 24, 3),
        store("async.bulk.tensor.2d.global.shared::cta.tile.bulk_group", 24, 3)
    );
    let reduced = |guard| stored_by(guard, "reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group", 0, 0);
    assert_eq!(reduced("").global[2].requests, 32 * reduced("@%p9").global[2].requests);
    // What is outside is not read either.
    assert_eq!(
        store("reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group", -8, 36),
        bulk([loaded, [0; 3], [1, 16, 448]], [[1, 4, 448], written, [0; 3]])
    );
}
