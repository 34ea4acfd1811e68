//! The gradients of weights: sums over all rows of a batch, with few tiles.
//!
//! The four of a block together have tiles enough to fill a card, and go into one launch, in which tiles of the last wave may have two
//! sums. Where they do not, each is a launch of its own whose sum is split (split-K), and a second that adds up the splits.

use super::CudaDevice;
use super::gemm::{self, Outputs, SHARED_128, SHARED_128_SHORT, Sizes, WEIGHT, takes_short};
use super::gemm_group::{Gemms, WeightGemm};
use super::kernel::{Grid, Kernel, kernel};
use super::linear_sm90;
use super::pointer::{NULL, Pointer};
use super::reduce_partials::sum_splits;
use super::splits::{cut, go_together, splits};
use super::tensor::int;
use crate::device::{Precision, Result};

type Group = Kernel<(Gemms<Pointer>, i32, i32, i32, i32)>;
const GROUPED: Group = kernel!(LINEAR_WEIGHTS_BF16_128);
const GROUPED_SHORT: Group = kernel!(LINEAR_WEIGHTS_BF16_128_SHORT);

/// Computes all of `gemms`.
///
/// # Safety
/// The operands must be of these sizes in the device's precision, and the totals in f32 and different ones.
pub(super) unsafe fn launch(device: &CudaDevice, gemms: &[WeightGemm]) -> Result<()> {
    let sizes: Vec<Sizes> = gemms.iter().map(|gemm| gemm.sizes).collect();
    let one_beta = gemms.windows(2).all(|pair| pair[0].beta == pair[1].beta);
    // SAFETY: as the caller says.
    unsafe {
        if device.precision == Precision::Bf16 && one_beta && go_together(&sizes) {
            return launch_group(device, gemms);
        }
        gemms.iter().try_for_each(|gemm| launch_one(device, gemm))
    }
}

/// # Safety
/// As for [`launch`]; the GEMMs must go together.
unsafe fn launch_group(device: &CudaDevice, gemms: &[WeightGemm]) -> Result<()> {
    let (k, beta) = (gemms[0].sizes.k, gemms[0].beta);
    let sizes: Vec<Sizes> = gemms.iter().map(|gemm| gemm.sizes).collect();
    let cut = cut(&sizes);
    let driver = &device.driver;
    if driver.is_hopper() {
        // SAFETY: as the caller says.
        return unsafe { linear_sm90::launch_weights(device, gemms, cut, beta) };
    }

    // A block per tile.
    let group = Gemms::of(gemms, NULL, |gemm| Ok(gemm.operands))?;
    let (kernel, shared) = match takes_short(driver.shared_limit) {
        true => (&GROUPED_SHORT, SHARED_128_SHORT),
        false => (&GROUPED, SHARED_128),
    };
    let tiles = gemms.iter().map(|gemm| gemm.sizes.m.div_ceil(128) * gemm.sizes.n.div_ceil(128)).sum();
    let arguments = (group, int(k)?, i32::from(beta.adds()), int(cut.whole)?, int(cut.parts)?);
    // SAFETY: as the caller says; rows are multiples of 8 elements, and buffers start aligned.
    unsafe { driver.launch(kernel, Grid::line(tiles, 128).with_shared(shared), arguments) }
}

/// # Safety
/// As for [`launch`].
unsafe fn launch_one(device: &CudaDevice, gemm: &WeightGemm) -> Result<()> {
    let WeightGemm { operands, sizes, total, beta } = *gemm;
    let Sizes { m, n, .. } = sizes;
    let splits = splits(device.precision, sizes);

    // A single split writes the total itself.
    if splits == 1 {
        let outputs = Outputs { total, add: beta.adds(), ..Outputs::to(NULL) };
        // SAFETY: as the caller says.
        return unsafe { gemm::launch(device, &WEIGHT, operands, sizes, outputs, 1) };
    }

    // Several write partial sums, [splits, m, n], which a second kernel adds in order.
    let partials = device.scratch(splits * m * n)?;
    let outputs = Outputs { total: partials.pointer(), add: false, ..Outputs::to(NULL) };
    // SAFETY: as the caller says; the partial sums have room for every split.
    unsafe {
        gemm::launch(device, &WEIGHT, operands, sizes, outputs, splits)?;
        sum_splits(device, partials.pointer(), splits, m * n, total, beta)
    }
}
