//! Of the GEMM of compute capability 9.0 with the norm behind it.

use super::{Device, Found, Mutant, STALE, TWICE, WRONG, mutants};
use crate::ops::residual;

/// Two tiles wide: a warp has four rows. The last panel is short, and has none of its cluster's other block.
fn narrow(device: &Device) {
    residual::check_linear(device, (1, true, true, 1701, 512, 512));
}
/// Three tiles wide: a warp has two rows of two pieces, and a panel's rows are not shared evenly.
fn three_tiles(device: &Device) {
    residual::check_linear(device, (2, false, false, 1400, 520, 608));
}
/// Six tiles wide: a row of four pieces.
fn wide(device: &Device) {
    residual::check_linear(device, (3, true, false, 600, 512, 1536));
}

/// More tiles than an H100 has clusters: some have two, one after the other.
fn two_tiles(device: &Device) {
    residual::check_linear(device, (4, false, false, 9000, 512, 512));
}

const STUCK: Found = Found::Report(&["every thread waits for something that cannot come"]);
/// Of a normaliser that reads what is not there yet, or of two that do not come after one another.
const EARLY: Found = Found::Report(&["race in global memory"]);

pub const MUTANTS: &[Mutant] = mutants! {
    "linear_layernorm_sm90: a panel is there before its stores are done":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, narrow, EARLY;
    "tile_store_finish(); __threadfence();" => "__threadfence();"

    "linear_layernorm_sm90: a panel is there without a fence":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, narrow, EARLY;
    "tile_store_finish(); __threadfence();" => "tile_store_finish();"

    "linear_layernorm_sm90: normalisers do not wait":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, narrow, EARLY;
    "while (load_acquire(arrivals) < with.needed) __nanosleep(100);" => ""

    "linear_layernorm_sm90: normalisers wait for all but one":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, narrow, EARLY;
    "load_acquire(arrivals) < with.needed" => "load_acquire(arrivals) + 1 < with.needed"

    "linear_layernorm_sm90: a warp goes on before its first lane":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, narrow, EARLY;
    "atomicInc(arrivals, arrivals_of(columns) - 1); } __syncwarp();" => "atomicInc(arrivals, arrivals_of(columns) - 1); }"

    "linear_layernorm_sm90: the last tile is not said to be there":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, narrow, STUCK;
    "arrive(); cluster_sync();" => "cluster_sync();"

    "linear_layernorm_sm90: the tile before is not said to be there":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, two_tiles, STUCK;
    "if (tile == look_at) arrive();" => ""

    "linear_layernorm_sm90: normalisers leave nothing behind":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, narrow, EARLY;
    "__nanosleep(100); atomicInc(arrivals, arrivals_of(columns) - 1);" => "__nanosleep(100);"

    "linear_layernorm_sm90: arrivals go on from one launch to the next":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, narrow, EARLY;
    "return (CONSUMERS + NORM_WARPS) * columns;" => "return (CONSUMERS + NORM_WARPS) * columns + 1;"

    "linear_layernorm_sm90: what is left of a panel's rows belongs to nobody":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, three_tiles, WRONG;
    "share = blocks_of(S::TILE_M, columns)" => "share = S::TILE_M / columns"

    "linear_layernorm_sm90: a share goes on into the next":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, three_tiles, TWICE;
    "row + piece / ROW_PIECES < end ? width : 0, values(piece)};" => "width, values(piece)};"

    "linear_layernorm_sm90: statistics of a share's rows and the next ones":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, three_tiles, TWICE;
    "piece % ROW_PIECES == 0 && row + piece / ROW_PIECES < end" => "piece % ROW_PIECES == 0"

    "linear_layernorm_sm90: a row has the sums of its first piece":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, three_tiles, WRONG;
    "return (piece / ROW_PIECES + 1) * ROW_PIECES - 1;" => "return piece / ROW_PIECES * ROW_PIECES;"

    "linear_layernorm_sm90: rows share their sums":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, narrow, WRONG;
    "if (piece % ROW_PIECES > 0) sums[piece] += sums[piece - 1];" => "if (piece > 0) sums[piece] += sums[piece - 1];"

    "linear_layernorm_sm90: the mean is a sum":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, narrow, WRONG;
    "mean /= width;" => "mean /= 1;"

    "linear_layernorm_sm90: every row's gain is that of a row's beginning":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, wide, WRONG;
    "gain[piece % ROW_PIECES], bias" => "gain[0], bias"

    "linear_layernorm_sm90: pieces of wide rows are half full":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, wide, WRONG;
    "piece % ROW_PIECES < 2 ?" => "piece % ROW_PIECES < 1 ?"

    "linear_layernorm_sm90: a warp normalises what another does too":
    "linear_layernorm_sm90" "gemm/norm_sm90.cuh" [], Bf16, narrow, TWICE;
    "row = first + warp * ROWS;" => "row = first;"

    "linear_layernorm_sm90: a stage is given back while it is multiplied":
    "linear_layernorm_sm90" "gemm/sm90.cuh" [], Bf16, narrow, STALE;
    "wgmma_wait<1>();" => "wgmma_wait<2>();"
};
