//! GEMMs of a few rows: one position of each image, while images are drawn.
//!
//! There the weights are what is read: 306 MB a step of iGPT-S, each once, while a row of x is 2 KiB. A row-major weight is read 64 bytes
//! of a row at a time, which no prefetcher follows: 6 of this machine's 18 GB/s. So a weight that many steps will read is laid out once in
//! panels of 16 columns, one after the other as they are read: 18 GB/s with one image, and with 16 images, where arithmetic takes as
//! long as the memory, 11 (Zen 3, two threads). Without panels a task makes its own before it multiplies.
//!
//! On a device that draws in bf16 panels hold the weights rounded to it, half the bytes: two neighbouring inputs in a word, so that tile and
//! order of sums stay, and the bits are those of a product with such weights in f32.
//!
//! The register tile is up to 6 rows × 16 columns (AVX2, NEON; 5 in bf16), or 8 (AVX-512). Every output is one chain of multiply-adds in the order of k, whatever
//! the tile: results depend neither on the number of images nor on threads or panels. While all groups of rows but the first read a panel from the
//! cache, the next panel is asked for, into the L2 cache: 16 images of S on two threads of a Zen 4, in turn, three runs, 130 to 160 GFLOP/s, and 117 to
//! 125 into the L1 cache, whose few misses in flight are too few for the memory (`profile --device cpu --draw --model s --batch 16`, its `mlp`).
//! One row goes through four panels at once: more sums that need not wait for one another, and more streams from memory, of which it gives more.
//!
//! Lost: x packed by groups of rows (as fast where it is ready, but packing it takes a tenth of the time), arrays in loops that the
//! compiler should turn into vectors (it mixed scalars in, a third of the speed), splitting k for the L1 cache (no difference), 16 rows
//! at once with AVX-512, so that 16 images read each panel once and nothing is asked for meanwhile (78 to 86 GFLOP/s), and in bf16 with AVX2 six
//! rows (sums go through memory, a twentieth of the time) or words read twice for them (half the speed).

#[cfg(test)]
mod tests;
mod tile;
mod word;

use pulp::{Arch, Simd, WithSimd};

use self::tile::Product;
use self::word::Word;
use super::CpuDevice;
use super::parallel::{Scattered, blocked};
use super::tensor::{CpuTensor, Laid};
use crate::device::ops::linear::LinearDims;
use crate::device::{Precision, WeightLayout};

/// Columns of a panel: a cache line of words.
const COLUMNS: usize = 16;

/// Rows that are multiplied with a task's panels while these are in the cache.
const ROWS: usize = 48;

/// Words of a task's panels: what half of an L2 cache holds.
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

    /// Words of a panel.
    fn panel<W: Word>(&self) -> usize {
        self.inputs.div_ceil(W::INPUTS) * COLUMNS
    }

    /// Panels of a task.
    fn panels_per_task<W: Word>(&self) -> usize {
        (TASK / self.panel::<W>()).clamp(1, MAX_PANELS)
    }

    /// Writes panel after panel from `first` on: `[inputs / W::INPUTS, 16]` each, with zeros past the last column and input.
    fn pack<W: Word>(&self, first: usize, panels: &mut [W]) {
        for (panel, out) in panels.chunks_exact_mut(self.panel::<W>()).enumerate() {
            let column = (first + panel) * COLUMNS;
            for (line, words) in out.as_chunks_mut().0.iter_mut().enumerate() {
                *words = [W::ZERO; COLUMNS];
                for input in line * W::INPUTS..self.inputs.min((line + 1) * W::INPUTS) {
                    W::put(words, input % W::INPUTS, self.columns(input, column));
                }
            }
        }
    }

    /// Columns of a panel in the row of an input.
    fn columns(&self, input: usize, column: usize) -> [f32; COLUMNS] {
        let mut row = [0.0; COLUMNS];
        let columns = COLUMNS.min(self.outputs - column);
        match self.layout {
            WeightLayout::InOut => {
                row[..columns].copy_from_slice(&self.tensor.values()[input * self.outputs + column..][..columns]);
            }
            WeightLayout::OutIn => (0..columns).for_each(|lane| row[lane] = self.at(input, column + lane)),
        }
        row
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
    /// Floats of memory that weights of so many elements are where `x` is multiplied by them: of bf16 two are a float.
    pub(super) fn floats_of_weights(&self, x: &[usize], elements: usize) -> usize {
        match self.drawing {
            Precision::Bf16 if is_one_position(x) => elements.div_ceil(2),
            _ => elements,
        }
    }

    /// Makes the panels of a weight, if it has none.
    pub(super) fn make_panels(&self, weight: Weight<'_>) {
        match self.drawing {
            Precision::F32 => self.make_panels_of::<f32>(weight),
            Precision::Bf16 => self.make_panels_of::<u32>(weight),
        }
    }

    fn make_panels_of<W: Word>(&self, weight: Weight<'_>) {
        let (panel, per_task) = (weight.panel::<W>(), weight.panels_per_task::<W>());
        weight.tensor.values.panels().get_or_init(|| {
            let mut words = self.scratch(weight.panels() * panel);
            let tasks = weight.panels().div_ceil(per_task);
            let outputs = [blocked(&mut words, per_task * panel)];
            self.for_each_block(tasks, usize::MAX, outputs, |task, [words]| {
                weight.pack::<W>(task * per_task, bytemuck::cast_slice_mut(words));
            });
            Box::new(Laid { precision: W::PRECISION, words })
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
        match self.drawing {
            Precision::F32 => self.multiply_panels::<f32>(dims, x, weight, finish),
            Precision::Bf16 => self.multiply_panels::<u32>(dims, x, weight, finish),
        }
    }

    fn multiply_panels<W: Word>(
        &self,
        dims: LinearDims,
        x: &[f32],
        weight: Weight<'_>,
        finish: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) {
        let LinearDims { rows, inputs, outputs } = dims;
        let (arch, panel, per_task) = (Arch::new(), weight.panel::<W>(), weight.panels_per_task::<W>());
        let laid = weight.tensor.values.panels().get().filter(|laid| laid.precision == W::PRECISION);
        let made: Option<&[W]> = laid.map(|laid| bytemuck::cast_slice(&laid.words));
        let tasks = weight.panels().div_ceil(per_task);

        self.for_each_block(tasks, rows * inputs * outputs, [], |task, []| {
            // The task's panels: those that were made, or its own.
            let first = task * per_task;
            let count = per_task.min(weight.panels() - first);
            let mut own = None;
            let panels = match made {
                Some(made) => &made[first * panel..][..count * panel],
                None => {
                    let own: &mut [W] = bytemuck::cast_slice_mut(own.insert(self.scratch(count * panel)));
                    weight.pack(first, own);
                    own
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
