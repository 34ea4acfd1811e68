//! GEMMs of a few rows: one position of each image, while images are drawn.
//!
//! There the weights are what is read: 306 MB a step of iGPT-S, each once, while a row of x is 2 KiB. A row-major weight is read 64 bytes
//! of a row at a time, which no prefetcher follows: 6 of this machine's 18 GB/s. So a weight that many steps will read is laid out once in
//! panels of 16 columns, one after the other as they are read: 18 GB/s with one image, and with 16 images, where arithmetic takes as
//! long as the memory, 11 (Zen 3, two threads). Without panels a task makes its own before it multiplies.
//!
//! The register tile is up to 6 rows × 16 columns (AVX2, NEON), or 8 (AVX-512). Every output is one chain of multiply-adds in the order of k, whatever
//! the tile: results depend neither on the number of images nor on threads or panels. While all groups of rows but the first read a panel from the
//! cache, the next panel is asked for, into the L2 cache: 16 images of S on two threads of a Zen 4, in turn, three runs, 130 to 160 GFLOP/s, and 117 to
//! 125 into the L1 cache, whose few misses in flight are too few for the memory (`profile --device cpu --draw --model s --batch 16`, its `mlp`).
//!
//! Lost: x packed by groups of rows (as fast where it is ready, but packing it takes a tenth of the time), arrays in loops that the
//! compiler should turn into vectors (it mixed scalars in, a third of the speed), splitting k for the L1 cache (no difference), and 16 rows
//! at once with AVX-512, so that 16 images read each panel once and nothing is asked for meanwhile (78 to 86 GFLOP/s).

use pulp::{Arch, Simd, WithSimd};

use super::CpuDevice;
use super::parallel::{Scattered, blocked};
use super::tensor::CpuTensor;
use crate::device::WeightLayout;
use crate::device::ops::linear::LinearDims;

/// Columns of a panel: a cache line of floats.
const COLUMNS: usize = 16;

/// Rows that are multiplied with a task's panels while these are in the cache.
const ROWS: usize = 48;

/// Floats of a task's panels: what half of an L2 cache holds.
const TASK: usize = 32 * 1024;

/// Panels of a task at most.
const MAX_PANELS: usize = 4;

/// Floats of a task's product.
const PRODUCT: usize = ROWS * MAX_PANELS * COLUMNS;

/// A weight and how it is to be read.
#[derive(Clone, Copy)]
pub(super) struct Weight<'a> {
    pub tensor: &'a CpuTensor,
    pub layout: WeightLayout,
    pub inputs: usize,
    pub outputs: usize,
}

/// Whether a tensor is of one position of each image, `[B, 1, d]`.
pub(super) fn is_one_position(shape: &[usize]) -> bool {
    matches!(shape, [_, 1, _])
}

impl Weight<'_> {
    /// Element of row `input` and column `output`.
    fn at(&self, input: usize, output: usize) -> f32 {
        match self.layout {
            WeightLayout::InOut => self.tensor.values()[input * self.outputs + output],
            WeightLayout::OutIn => self.tensor.values()[output * self.inputs + input],
        }
    }

    fn panels(&self) -> usize {
        self.outputs.div_ceil(COLUMNS)
    }

    /// Panels of a task.
    fn panels_per_task(&self) -> usize {
        (TASK / (self.inputs * COLUMNS)).clamp(1, MAX_PANELS)
    }

    /// Writes panel after panel from `first` on: `[inputs, 16]` each, with zeros past the last column.
    fn pack(&self, first: usize, panels: &mut [f32]) {
        for (panel, out) in panels.chunks_exact_mut(self.inputs * COLUMNS).enumerate() {
            let column = (first + panel) * COLUMNS;
            let columns = COLUMNS.min(self.outputs - column);
            for (input, row) in out.chunks_exact_mut(COLUMNS).enumerate() {
                match self.layout {
                    WeightLayout::InOut => {
                        row[..columns]
                            .copy_from_slice(&self.tensor.values()[input * self.outputs + column..][..columns]);
                    }
                    WeightLayout::OutIn => {
                        (0..columns).for_each(|lane| row[lane] = self.at(input, column + lane));
                    }
                }
                row[columns..].fill(0.0);
            }
        }
    }
}

/// Floats of this processor's vectors, by which sums are cut.
pub(super) fn vector_floats() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;

        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    Arch::new().dispatch(Lanes)
}

impl CpuDevice {
    /// Makes the panels of a weight, if it has none.
    pub(super) fn make_panels(&self, weight: Weight<'_>) {
        let (panel, per_task) = (weight.inputs * COLUMNS, weight.panels_per_task());
        weight.tensor.values.panels().get_or_init(|| {
            let mut panels = self.scratch(weight.panels() * panel);
            let tasks = weight.panels().div_ceil(per_task);
            let outputs = [blocked(&mut panels, per_task * panel)];
            self.for_each_block(tasks, usize::MAX, outputs, |task, [panels]| weight.pack(task * per_task, panels));
            Box::new(panels)
        });
    }

    /// Computes `x · weight` of `x` `[rows, inputs]` in tasks of some rows and columns; `finish` is given each row of each product:
    /// its number, its first column, and the values from there on.
    pub(super) fn multiply_few_rows(
        &self,
        dims: LinearDims,
        x: &[f32],
        weight: Weight<'_>,
        finish: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) {
        let LinearDims { rows, inputs, outputs } = dims;
        let (arch, panel, per_task) = (Arch::new(), inputs * COLUMNS, weight.panels_per_task());
        let made = weight.tensor.values.panels().get().map(|panels| &panels[..]);
        let tasks = weight.panels().div_ceil(per_task);

        self.for_each_block(tasks, rows * inputs * outputs, [], |task, []| {
            // The task's panels: those that were made, or its own.
            let first = task * per_task;
            let count = per_task.min(weight.panels() - first);
            let mut own = None;
            let panels = match made {
                Some(made) => &made[first * panel..][..count * panel],
                None => {
                    let own = own.insert(self.scratch(count * panel));
                    weight.pack(first, own);
                    &own[..]
                }
            };

            let columns = (count * COLUMNS).min(outputs - first * COLUMNS);
            let mut product = [0.0; PRODUCT];
            for (block, x) in x.chunks(ROWS * inputs).enumerate() {
                arch.dispatch(Product { x, panels, inputs, product: &mut product });
                for (row, product) in product.chunks_exact_mut(MAX_PANELS * COLUMNS).enumerate().take(x.len() / inputs)
                {
                    finish(block * ROWS + row, first * COLUMNS, &mut product[..columns]);
                }
            }
        });
    }

    /// `y = x · weight (+ bias)` for a few rows.
    pub(super) fn linear_of_few_rows(
        &self,
        dims: LinearDims,
        x: &[f32],
        weight: Weight<'_>,
        bias: Option<&[f32]>,
        y: &mut [f32],
    ) {
        let y = Scattered::new(y);
        self.multiply_few_rows(dims, x, weight, |row, column, product| {
            if let Some(bias) = bias {
                product.iter_mut().zip(&bias[column..]).for_each(|(y, bias)| *y += bias);
            }
            // SAFETY: these columns of this row are this task's alone.
            unsafe { y.part(row * dims.outputs + column, product.len()) }.copy_from_slice(product);
        });
    }
}

/// The product of at most [`ROWS`] rows of `x` and at most [`MAX_PANELS`] panels, `[ROWS, MAX_PANELS · 16]`.
struct Product<'a> {
    x: &'a [f32],
    panels: &'a [f32],
    inputs: usize,
    product: &'a mut [f32; PRODUCT],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, panels, inputs, product } = self;
        let rows = x.len() / inputs;
        let groups = rows.div_ceil(max_rows::<S>());
        for (index, panel) in panels.chunks_exact(inputs * COLUMNS).enumerate() {
            // The first group reads the panel from memory. While the others read it from the cache, memory is free to bring the next.
            let lines = if groups == 1 { 0 } else { AHEAD.div_ceil(groups) };
            for group in 0..groups {
                let (first, end) = (rows * group / groups, rows * (group + 1) / groups);
                let x = &x[first * inputs..end * inputs];
                let ahead = panel.as_ptr().wrapping_add((inputs + group * inputs.div_ceil(AHEAD) * lines) * COLUMNS);
                let product = &mut product[first * MAX_PANELS * COLUMNS + index * COLUMNS..];
                // A function for every number of rows: its sums stay in registers.
                macro_rules! tiles {
                    ($($rows:literal)*) => {
                        match end - first {
                            $($rows => tile::<S, $rows>(simd, x, panel, Ahead { next: ahead, lines }, product),)*
                            _ => {}
                        }
                    };
                }
                tiles!(1 2 3 4 5 6 7 8);
            }
        }
    }
}

/// Rows of the largest register tile: of 16 registers (AVX2) 12 hold sums, of 32 (AVX-512) 8, (NEON) 24.
const fn max_rows<S: Simd>() -> usize {
    match S::F32_LANES {
        16 => 8,
        4 | 8 => 6,
        _ => 1,
    }
}

/// Rows of a panel between two looks ahead.
const AHEAD: usize = 4;

/// What is asked of memory meanwhile: some cache lines every [`AHEAD`] rows of the panel.
#[derive(Clone, Copy)]
struct Ahead {
    next: *const f32,
    lines: usize,
}

impl Ahead {
    /// Asks for the next lines.
    #[inline(always)]
    fn advance(&mut self) {
        for _ in 0..self.lines {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a hint, which reads nothing: any address will do, and the instruction is in every x86-64.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T1>(self.next.cast());
            }
            self.next = self.next.wrapping_add(COLUMNS);
        }
    }
}

/// Sets 16 columns of `R` rows of `product` to those of `x · panel`.
#[inline(always)]
fn tile<S: Simd, const R: usize>(simd: S, x: &[f32], panel: &[f32], ahead: Ahead, product: &mut [f32]) {
    if R > max_rows::<S>() {
        return;
    }
    match S::F32_LANES {
        16 => tile_of::<S, R, 1>(simd, x, panel, ahead, product),
        8 => tile_of::<S, R, 2>(simd, x, panel, ahead, product),
        4 => tile_of::<S, R, 4>(simd, x, panel, ahead, product),
        _ => tile_of::<S, R, COLUMNS>(simd, x, panel, ahead, product),
    }
}

/// [`tile`] for rows of `V` vectors.
#[inline(always)]
fn tile_of<S: Simd, const R: usize, const V: usize>(
    simd: S,
    x: &[f32],
    panel: &[f32],
    mut ahead: Ahead,
    product: &mut [f32],
) {
    if V * S::F32_LANES != COLUMNS {
        return;
    }
    let panel = S::as_simd_f32s(panel).0.as_chunks::<V>().0;
    let inputs = panel.len();
    let x: [&[f32]; R] = std::array::from_fn(|row| &x[row * inputs..][..inputs]);
    let mut sums = [[simd.splat_f32s(0.0); V]; R];

    // A chain of multiply-adds for each output, in the order of the inputs.
    let mut input = 0;
    for rows in panel.chunks(AHEAD) {
        ahead.advance();
        for columns in rows {
            for (sums, x) in sums.iter_mut().zip(&x) {
                // SAFETY: there are as many inputs as rows of the panel, and each of `x` has so many. Checked, it takes a tenth of the time.
                let x = simd.splat_f32s(unsafe { *x.get_unchecked(input) });
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = simd.mul_add_e_f32s(x, *column, *sum);
                }
            }
            input += 1;
        }
    }

    for (row, sums) in sums.iter().enumerate() {
        S::as_mut_simd_f32s(&mut product[row * MAX_PANELS * COLUMNS..][..COLUMNS]).0.copy_from_slice(sums);
    }
}
