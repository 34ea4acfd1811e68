//! Of the GEMMs of compute capability 9.0.

use super::{Device, Found, Mutant, PAST, STALE, TWICE, UNEQUAL, WRONG, mutants, on_card};
use crate::ops::{linear, mlp};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{Activation, Beta, MlpWeights, WeightLayout};

/// Small whole numbers: all sums are exact, in bf16 too.
fn whole(rows: usize, columns: usize, times: usize) -> Vec<f32> {
    (0..rows * columns).map(|at| ((at / columns * times + at % columns * 5) % 7) as f32 - 3.0).collect()
}

/// `a` `[m, k] · b` `[k, n]`.
fn product(a: &[f32], b: &[f32], [m, n, k]: [usize; 3]) -> Vec<f32> {
    let mut c = vec![0.0; m * n];
    for (a, c) in a.chunks_exact(k).zip(c.chunks_exact_mut(n)) {
        for (a, b) in a.iter().zip(b.chunks_exact(n)) {
            c.iter_mut().zip(b).for_each(|(c, b)| *c += a * b);
        }
    }
    c
}

fn transposed(from: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|at| from[at % rows * columns + at / rows]).collect()
}

/// `y = x · W`, and whether it is as it must be, rounded to bf16.
fn forward(device: &Device, sizes: [usize; 3], layout: WeightLayout, bias: bool) {
    let [m, n, k] = sizes;
    let (x, weight) = (whole(m, k, 3), whole(k, n, 2));
    let biases = whole(1, n, 1);
    let (tensor, bias_tensor) = (device.upload(&[m, k], &x).unwrap(), device.upload(&[n], &biases).unwrap());
    let weight_tensor = match layout {
        WeightLayout::InOut => device.upload(&[k, n], &weight),
        WeightLayout::OutIn => device.upload(&[n, k], &transposed(&weight, k, n)),
    };
    let y = device.linear(&tensor, &weight_tensor.unwrap(), layout, bias.then_some(&bias_tensor)).unwrap();
    let mut expected = product(&x, &weight, sizes);
    if bias {
        expected.chunks_exact_mut(n).for_each(|row| row.iter_mut().zip(&biases).for_each(|(y, bias)| *y += bias));
    }
    same(&device.download(&y).unwrap(), &expected);
}

fn same(found: &[f32], expected: &[f32]) {
    for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, half::bf16::from_f32(expected).to_f32(), "element {at}");
    }
}

/// Ping-pong: more tiles than two for each multiprocessor, and a ring that comes round in each.
fn turns(device: &Device) {
    forward(device, [392, 11_528, 392], WeightLayout::InOut, false);
}
/// The same with W by columns, one tile for each multiprocessor, and a bias.
fn edges(device: &Device) {
    forward(device, [136, 3472, 72], WeightLayout::OutIn, true);
}
/// Cooperative: some multiprocessors have two tiles.
fn cooperative(device: &Device) {
    forward(device, [136, 17_416, 1032], WeightLayout::InOut, false);
}
/// The weight's gradient in four splits.
fn weight(device: &Device) {
    let [m, n, k] = [456, 520, 1288];
    let (x, dy) = (whole(k, m, 3), whole(k, n, 2));
    let tensor = |shape: [usize; 2], values: &[f32]| device.upload(&shape, values).unwrap();
    let mut d_weight = device.zeros(&[m, n]).unwrap();
    let (x_tensor, dy_tensor, weight) = (tensor([k, m], &x), tensor([k, n], &dy), tensor([m, n], &whole(m, n, 1)));
    device
        .linear_backward(&dy_tensor, &x_tensor, &weight, WeightLayout::InOut, &mut d_weight, None, Beta::One)
        .unwrap();
    let expected = product(&transposed(&x, k, m), &dy, [m, n, k]);
    for (at, (found, expected)) in device.download(&d_weight).unwrap().iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "element {at}");
    }
}
/// The gradients of four weights at once.
fn weights(device: &Device) {
    linear::check_weights(device, 72, &[(520, 776), (776, 136), (392, 1032), (136, 136)], false);
}
/// The same with sums in two parts.
fn weights_in_parts(device: &Device) {
    linear::weights_in_parts(device);
}
/// The same on a card with fewer multiprocessors.
fn weights_on_fewer_clusters(_: &Device) {
    on_card("h100-pcie", linear::weights_in_parts);
}
/// The MLP, forward: the activation's epilogue, and hidden as it must be.
fn activate(device: &Device) {
    let [m, n, k] = [136, 6920, 72];
    let (x, up) = (whole(m, k, 3), whole(k, n, 2));
    let tensor = |shape: [usize; 2], values: &[f32]| device.upload(&shape, values).unwrap();
    let (x_tensor, up_tensor, down) = (tensor([m, k], &x), tensor([k, n], &up), tensor([n, k], &vec![0.0; n * k]));
    let weights = MlpWeights { up: &up_tensor, up_bias: None, down: &down, down_bias: None };
    let out = device.mlp(&x_tensor, weights, Activation::QuickGelu).unwrap();
    same(&device.download(&out.hidden).unwrap(), &product(&x, &up, [m, n, k]));
}
/// The MLP, backward.
fn activate_backward(device: &Device) {
    mlp::check_backward(device, (3, Activation::QuickGelu, false, 1100, 24, 1032));
}

/// A stage's barriers are out of step, or its tiles are.
const RING: Found = Found::Report(&[
    "arrivals at an mbarrier",
    "race in shared memory",
    "shared memory is read that nothing was written to",
    "was not waited for",
]);
const FENCE: Found = Found::Report(&["missing fence"]);

pub const MUTANTS: &[Mutant] = mutants! {
    "linear_sm90: a stage is multiplied before it is full":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges, STALE;
    "barrier_wait(full + ring.stage * 8, ring.parity);" => ""

    "linear_sm90: a stage is filled before it is empty":
    "linear_sm90" "gemm/sm90.cuh" ["linear_forward", "NAME##_sm90_cooperative"], Bf16, cooperative, RING;
    "barrier_wait(empty + ring.stage * 8, ring.parity ^ 1);" => ""

    "linear_sm90: the ring's parity never changes":
    "linear_sm90" "ring.cuh" ["linear_forward", "NAME##_sm90_cooperative"], Bf16, cooperative, RING;
    "parity ^= stage / STAGES & 1;" => ""

    "linear_sm90: a stage is given back while it is multiplied":
    "linear_sm90" "gemm/sm90.cuh" ["linear_forward", "NAME##_sm90_cooperative"], Bf16, cooperative, STALE;
    "wgmma_wait<1>();" => "wgmma_wait<2>();"

    "linear_sm90: a stage is full one slab early":
    "linear_sm90" "gemm/sm90.cuh" ["linear_forward", "NAME##_sm90_ping_pong"], Bf16, turns, STALE;
    "barrier_arrive_expect(barrier, S::STAGE_BYTES);" => "barrier_arrive_expect(barrier, S::STAGE_BYTES - SLAB_BYTES);"

    "linear_sm90: consumers take no turns":
    "linear_sm90" "gemm/sm90.cuh" ["linear_forward", "NAME##_sm90_ping_pong"], Bf16, turns, STALE;
    "if (PING_PONG && turn > 0)" => "if (PING_PONG && turn > 1000)"

    "linear_sm90: the other consumer's stages are not passed over":
    "linear_sm90" "gemm/sm90.cuh" ["linear_forward", "NAME##_sm90_ping_pong"], Bf16, turns, STALE;
    "ring.advance(work.k.end - work.k.begin);" => ""

    "linear_sm90: each step of the first tile begins a sum":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges, UNEQUAL;
    "tile > work.k.begin || step > 0" => "tile > work.k.begin"

    "linear_sm90: accumulators are used before they are there":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges, Found::Report(&["in flight accumulates in it"]);
    "wgmma_wait<0>();" => ""

    "linear_sm90: no fence before products":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges, FENCE;
    "wgmma_fence();" => ""

    "linear_sm90: a step of k is too long":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges, UNEQUAL;
    "A_STEP = A_SPAN ? 16 * 128 : 32" => "A_STEP = A_SPAN ? 16 * 128 : 64"

    "linear_sm90: slabs of the span lie too near":
    "linear_sm90" "ptx_sm90.cuh" ["linear_weight"], Bf16, weight, UNEQUAL;
    "static_cast<uint64_t>(stride >> 4) << 16" => "static_cast<uint64_t>(stride >> 5) << 16"

    "linear_sm90: both consumers have the first half":
    "linear_sm90" "gemm/sm90.cuh" ["linear_forward", "NAME##_sm90_cooperative"], Bf16, cooperative, TWICE;
    "PING_PONG ? 0 : consumer * 64" => "0"

    "linear_sm90: every split adds up the first":
    "linear_sm90" "gemm/sm90.cuh" ["linear_weight"], Bf16, weight, UNEQUAL;
    "k_range(blocks_of(k, TILE_K), split, splits)" => "k_range(blocks_of(k, TILE_K), 0, splits)"

    "linear_sm90: rows past the last are written":
    "linear_sm90" "gemm/sm90.cuh" ["linear_weight"], Bf16, weight, PAST;
    "if (at_row >= m) continue;" => ""

    "linear_sm90: columns past the last are written":
    "linear_sm90" "gemm/sm90.cuh" ["linear_weight"], Bf16, weight, PAST;
    "if (at >= n) continue; float2* target" => "float2* target"

    "linear_sm90: a bias past the last column":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges,
    Found::Report(&["out of bounds"]);
    "if (at >= n) continue; const float2 two" => "const float2 two"

    "linear_sm90: slabs are not swizzled":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges, UNEQUAL;
    "((pair * 2 + lane / 16) ^ matrix_row % 8) * 16" => "(pair * 2 + lane / 16) * 16"

    "linear_sm90: slabs are stored without a fence":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges, FENCE;
    "proxy_fence();" => ""

    "linear_sm90: a slab is stored before all have written it":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges,
    Found::Report(&["missing fence", "that nothing was written to"]);
    "proxy_fence(); named_barrier(id, GROUP_THREADS);" => "proxy_fence();"

    "linear_sm90: a slab is written while it is stored":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges, Found::Report(&["may still read it"]);
    "if (thread == 0) { tile_store_wait<E == Epilogue::STORE ? 1 : 0>();" => "if (thread == 0) {"

    "linear_sm90: one output has the same slab each time":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges, Found::Report(&["may still read it"]);
    "staging + slabs % 2 * SLAB_BYTES" => "staging"

    "linear_sm90: two stores of one output may be read":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges, Found::Report(&["may still read it"]);
    "tile_store_wait<E == Epilogue::STORE ? 1 : 0>();" => "tile_store_wait<E == Epilogue::STORE ? 2 : 0>();"

    "linear_sm90: two outputs wait as one does":
    "linear_sm90" "gemm/sm90.cuh" ["linear_activate,", "NAME##_sm90_ping_pong"], Bf16, activate, Found::Report(&["may still read it"]);
    "tile_store_wait<E == Epilogue::STORE ? 1 : 0>();" => "tile_store_wait<1>();"

    "linear_sm90: hidden goes to the slab of what is activated":
    "linear_sm90" "gemm/sm90.cuh" ["linear_activate,", "NAME##_sm90_ping_pong"], Bf16, activate,
    Found::Report(&["that nothing was written to"]);
    "(E == Epilogue::ACTIVATE ? second_slab : first_slab)" => "first_slab"

    "linear_sm90: hidden is not stored":
    "linear_sm90" "gemm/sm90.cuh" ["linear_activate,", "NAME##_sm90_ping_pong"], Bf16, activate, UNEQUAL;
    "if constexpr (E == Epilogue::ACTIVATE) tile_store(hidden_map, first_column, first_row, second_slab);" => ""

    "linear_sm90: the parity of hidden's barrier never changes":
    "linear_sm90" "gemm/sm90.cuh" ["linear_", "NAME##_sm90_"], Bf16, activate_backward,
    Found::Report(&["race in shared memory", "that nothing was written to", "was not waited for", "missing fence"]);
    "barrier_wait(barrier, slabs % 2);" => "barrier_wait(barrier, 0);"

    "linear_sm90: the other block's consumers are not waited for":
    "linear_sm90" "gemm/sm90.cuh" ["linear_forward", "NAME##_sm90_cooperative"], Bf16, cooperative, RING;
    "barrier_arrive_in(barrier, thread)" => "barrier_arrive_in(barrier, cluster_rank())"

    "linear_sm90: the other block's half goes to the first place":
    "linear_sm90" "gemm/sm90.cuh" ["linear_forward", "NAME##_sm90_ping_pong"], Bf16, turns,
    Found::Report(&["another asynchronous copy is on its way", "race in shared memory"]);
    "const uint32_t share = b_tile + rank * SHARE * 128;" => "const uint32_t share = b_tile;"

    "linear_sm90: both halves are the first":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges, UNEQUAL;
    "const int first = work.first_n + rank * SHARE;" => "const int first = work.first_n;"

    "linear_sm90: barriers are arrived at before they are there":
    "linear_sm90" "gemm/sm90.cuh" ["linear_transposed", "NAME##_sm90_ping_pong"], Bf16, edges, Found::Report(&["mbarrier"]);
    "barrier_init_fence(); } cluster_sync();" => "barrier_init_fence(); } __syncthreads();"

    "linear_sm90: both blocks of a cluster have one tile":
    "linear_sm90" "gemm/sm90.cuh" ["linear_weight"], Bf16, weight, PAST;
    "(tile.m * CLUSTER + rank) * S::TILE_M" => "(tile.m * CLUSTER) * S::TILE_M"

    "linear_weights: the tiles of each GEMM count from the first's":
    "linear_sm90" "gemm/group.cuh" ["linear_weights"], Bf16, weights, PAST;
    "index -= tiles;" => ""

    "linear_weights: the last GEMM is forgotten":
    "linear_sm90" "gemm/group.cuh" ["linear_weights"], Bf16, weights, PAST;
    "gemm < GROUP - 1" => "gemm < GROUP - 2"

    "linear_weights: every GEMM reads the first's rows":
    "linear_sm90" "gemm/group_sm90.cuh" ["linear_weights"], Bf16, weights, WRONG;
    "gemms.a[at.gemm]" => "gemms.a[0]"

    "linear_weights: every GEMM reads the first's columns":
    "linear_sm90" "gemm/group_sm90.cuh" ["linear_weights"], Bf16, weights, WRONG;
    "gemms.b[at.gemm]" => "gemms.b[0]"

    "linear_weights: every GEMM writes the first's total":
    "linear_sm90" "gemm/group_sm90.cuh" ["linear_weights"], Bf16, weights, PAST;
    "gemms.totals[at.gemm]" => "gemms.totals[0]"

    "linear_weights: a part is announced before it is there":
    "linear_sm90" "gemm/group_sm90.cuh" ["linear_weights"], Bf16, weights_in_parts, TWICE;
    "__threadfence(); other = atomicXor" => "other = atomicXor"

    "linear_weights: both parts lie in one place":
    "linear_sm90" "gemm/group_sm90.cuh" ["linear_weights"], Bf16, weights_in_parts, TWICE;
    "parts + piece.is_last * PART_SUMS" => "parts"

    "linear_weights: the first adds up both parts":
    "linear_sm90" "gemm/group_sm90.cuh" ["linear_weights"], Bf16, weights_in_parts, TWICE;
    "other ? waiting : nullptr" => "other ? nullptr : waiting"

    "linear_weights: arrivals stay":
    "linear_sm90" "gemm/group_sm90.cuh" ["linear_weights"], Bf16, weights_in_parts, TWICE;
    "atomicXor" => "atomicOr"

    "linear_weights: both blocks of a cluster meet in one place":
    "linear_sm90" "gemm/group_sm90.cuh" ["linear_weights"], Bf16, weights_in_parts, TWICE;
    "(piece.cut * CLUSTER + rank) * WARPS" => "piece.cut * CLUSTER * WARPS"

    "linear_weights: a tile of k is in neither part":
    "linear_sm90" "gemm/group.cuh" ["linear_weights"], Bf16, weights_in_parts, WRONG;
    "part == Part::LAST ? first : 0" => "part == Part::LAST ? first + 1 : 0"

    "linear_weights: last parts that all share are forgotten":
    "linear_sm90" "gemm/group_sm90.cuh" ["linear_weights"], Bf16, weights_on_fewer_clusters, WRONG;
    "last = idle * room + cluster + turn * clusters;" => "last = tiles;"
};
