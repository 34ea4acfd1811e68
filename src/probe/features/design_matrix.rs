//! The data of a fit on a device: centred rows in blocks, and the products with them.
//!
//! Everything heavy is [`Device::linear`], so it runs wherever a model does. Products are f32 within a block and summed over
//! blocks in f64 on the host. The columns are centred: the intercept is not penalised, so this changes neither the
//! objective nor the weights, only the intercepts, and takes out the direction that makes pooled features ill-conditioned.

use std::ops::Range;

use rayon::prelude::*;

use super::matrix::{ROW_BLOCK, Rows, read_block};
use crate::device::{Device, WeightLayout};
use crate::probe::error::{ProbeError, Result};

/// Floats of a block: large enough to keep all threads busy in a GEMM of few classes, small enough to stream.
const BLOCK: usize = 16 << 20;

/// Rows with their columns' means taken off, on a device.
pub struct DesignMatrix<'a, D: Device> {
    device: &'a D,
    rows: &'a dyn Rows,
    mean: Vec<f64>,
    /// Rows of a block.
    block: usize,
    /// The blocks, `[b, F]` each; uploaded anew for each product if none.
    resident: Vec<D::Tensor>,
}

impl<'a, D: Device> DesignMatrix<'a, D> {
    /// Rows for products on `device`; kept there if they take no more than `max_resident` bytes, else sent again and again.
    ///
    /// # Errors
    /// [`ProbeError::Unfit`] for no rows or values that are not finite; those of the device.
    pub fn new(device: &'a D, rows: &'a dyn Rows, max_resident: usize) -> Result<Self> {
        let (count, width) = (rows.len(), rows.width());
        if count == 0 || width == 0 {
            return Err(ProbeError::Unfit(format!("there are {count} rows of {width} features to fit a probe to")));
        }

        // Sums of the columns in blocks of rows, added up in their order, whatever the threads do.
        let sums: Vec<Vec<f64>> = (0..count.div_ceil(ROW_BLOCK))
            .into_par_iter()
            .map(|block| {
                let mut sums = vec![0.0; width];
                for row in read_block(rows, block)?.chunks_exact(width) {
                    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                }
                Ok(sums)
            })
            .collect::<Result<_>>()?;
        let mut mean = vec![0.0; width];
        for sums in sums {
            mean.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += sum / count as f64);
        }
        if let Some(column) = mean.iter().position(|mean| !mean.is_finite()) {
            let problem = "holds values that are not finite; a model with NaN weights, or a damaged file, makes such";
            return Err(ProbeError::Unfit(format!("feature {column} (counted from 0) {problem}")));
        }

        // Blocks of rows, resident if they fit.
        let block = (BLOCK / width).clamp(1, count);
        let mut design = DesignMatrix { device, rows, mean, block, resident: Vec::new() };
        if (count * width).saturating_mul(4) <= max_resident {
            design.resident = (0..design.blocks()).map(|index| design.upload(index)).collect::<Result<_>>()?;
        }
        Ok(design)
    }

    /// The rows as they are.
    pub fn rows(&self) -> &'a dyn Rows {
        self.rows
    }

    /// Mean of each column, `[F]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    fn blocks(&self) -> usize {
        self.rows.len().div_ceil(self.block)
    }

    fn range(&self, index: usize) -> Range<usize> {
        index * self.block..self.rows.len().min((index + 1) * self.block)
    }

    fn upload(&self, index: usize) -> Result<D::Tensor> {
        let (range, width) = (self.range(index), self.rows.width());
        let (rows, mean) = (self.rows, &self.mean);
        let mut values = vec![0.0; range.len() * width];
        values.par_chunks_mut(ROW_BLOCK * width).enumerate().try_for_each(|(part, values)| {
            let first = range.start + part * ROW_BLOCK;
            rows.read(first..first + values.len() / width, values)?;
            for row in values.chunks_exact_mut(width) {
                row.iter_mut().zip(mean).for_each(|(value, mean)| *value = (f64::from(*value) - mean) as f32);
            }
            Ok::<_, ProbeError>(())
        })?;
        Ok(self.device.upload(&[range.len(), width], &values)?)
    }

    /// Shows every block of centred rows `[b, F]` and which rows they are.
    fn each_block(&self, mut visit: impl FnMut(Range<usize>, &D::Tensor) -> Result<()>) -> Result<()> {
        for index in 0..self.blocks() {
            match self.resident.get(index) {
                Some(block) => visit(self.range(index), block)?,
                None => visit(self.range(index), &self.upload(index)?)?,
            }
        }
        Ok(())
    }

    /// `X̃ · Wᵀ`: `weights` `[K, F]` → `out` `[N, K]`.
    pub fn product(&self, weights: &[f64], out: &mut [f32]) -> Result<()> {
        let width = self.rows.width();
        let classes = weights.len() / width;
        let weights: Vec<f32> = weights.iter().map(|weight| *weight as f32).collect();
        let weights = self.device.upload(&[classes, width], &weights)?;
        self.each_block(|range, block| {
            let product = self.device.linear(block, &weights, WeightLayout::OutIn, None)?;
            out[range.start * classes..range.end * classes].copy_from_slice(&self.device.download(&product)?);
            Ok(())
        })
    }

    /// `sum += X̃ᵀ · R`, as `[K, F]`. `residual` writes `Rᵀ` of some rows, `[K, rows]`.
    pub fn adjoint(
        &self,
        classes: usize,
        mut residual: impl FnMut(Range<usize>, &mut [f32]),
        sum: &mut [f64],
    ) -> Result<()> {
        self.each_block(|range, block| {
            let mut transposed = vec![0.0; classes * range.len()];
            let rows = range.len();
            residual(range, &mut transposed);
            let transposed = self.device.upload(&[classes, rows], &transposed)?;
            // As a layer of weight X̃: one product and no gradient that nobody needs.
            self.add_product(&transposed, block, sum)
        })
    }

    /// `X̃ᵀ · X̃`, `[F, F]`.
    pub fn gram(&self) -> Result<Vec<f64>> {
        let width = self.rows.width();
        let mut gram = vec![0.0; width * width];
        self.each_block(|range, block| {
            let values = self.device.download(block)?;
            let transposed = self.device.upload(&[width, range.len()], &transpose(&values, width))?;
            drop(values);
            self.add_product(&transposed, block, &mut gram)
        })?;
        Ok(gram)
    }

    /// The diagonal of [`DesignMatrix::gram`], `[F]`.
    pub fn squares(&self) -> Result<Vec<f64>> {
        let mut squares = vec![0.0; self.rows.width()];
        self.each_block(|_, block| {
            for row in self.device.download(block)?.chunks_exact(squares.len()) {
                squares.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value).powi(2));
            }
            Ok(())
        })?;
        Ok(squares)
    }

    fn add_product(&self, left: &D::Tensor, block: &D::Tensor, sum: &mut [f64]) -> Result<()> {
        let product = self.device.linear(left, block, WeightLayout::InOut, None)?;
        let product = self.device.download(&product)?;
        sum.iter_mut().zip(product).for_each(|(sum, value)| *sum += f64::from(value));
        Ok(())
    }
}

/// `[rows, width] → [width, rows]`.
fn transpose(values: &[f32], width: usize) -> Vec<f32> {
    let rows = values.len() / width;
    let mut transposed = vec![0.0; values.len()];
    // A strip of columns at a time, so that both sides stay in the cache.
    const STRIP: usize = 16;
    transposed.par_chunks_mut(STRIP * rows).enumerate().for_each(|(strip, transposed)| {
        for (row, values) in values.chunks_exact(width).enumerate() {
            let values = &values[strip * STRIP..];
            for (column, transposed) in transposed.chunks_exact_mut(rows).enumerate() {
                transposed[row] = values[column];
            }
        }
    });
    transposed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::CpuDevice;
    use crate::probe::features::matrix::Matrix;

    #[test]
    fn products_are_those_of_centred_rows_resident_or_not() {
        let (rows, width, classes) = (700, 37, 3);
        let values: Vec<f32> = (0..rows * width).map(|i| ((i * 7919 % 1009) as f32) / 100.0).collect();
        let matrix = Matrix::new(width, values.clone()).unwrap();
        let device = CpuDevice::poisoned(Some(2)).unwrap();
        let centred = |row: usize, column: usize| {
            let mean = (0..rows).map(|row| f64::from(values[row * width + column])).sum::<f64>() / rows as f64;
            f64::from(values[row * width + column]) - mean
        };

        let weights: Vec<f64> = (0..classes * width).map(|i| (i % 5) as f64 - 2.0).collect();
        let residual: Vec<f32> = (0..rows * classes).map(|i| (i % 3) as f32 - 1.0).collect();

        for resident in [0, usize::MAX] {
            let mut design = DesignMatrix::new(&device, &matrix, 0).unwrap();
            design.block = 300;
            if resident > 0 {
                design.resident = (0..design.blocks()).map(|index| design.upload(index).unwrap()).collect();
            }

            let mut out = vec![0.0; rows * classes];
            design.product(&weights, &mut out).unwrap();
            let expected: f64 = (0..width).map(|f| centred(650, f) * weights[2 * width + f]).sum();
            assert!((f64::from(out[650 * classes + 2]) - expected).abs() < 1e-3);

            let mut sum = vec![1.0; classes * width];
            let fill = |range: Range<usize>, out: &mut [f32]| {
                for (place, row) in range.clone().enumerate() {
                    (0..classes).for_each(|k| out[k * range.len() + place] = residual[row * classes + k]);
                }
            };
            design.adjoint(classes, fill, &mut sum).unwrap();
            let expected: f64 =
                1.0 + (0..rows).map(|row| centred(row, 5) * f64::from(residual[row * classes + 1])).sum::<f64>();
            assert!((sum[width + 5] - expected).abs() < 1e-2, "{} {expected}", sum[width + 5]);

            let gram = design.gram().unwrap();
            let expected: f64 = (0..rows).map(|row| centred(row, 4) * centred(row, 36)).sum();
            assert!((gram[4 * width + 36] - expected).abs() < 1e-4 * gram[4 * width + 4], "{expected}");
        }
    }

    #[test]
    fn features_that_are_no_numbers_are_named() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let matrix = Matrix::new(3, vec![1.0, 2.0, f32::NAN, 4.0, 5.0, 6.0]).unwrap();
        let problem = DesignMatrix::new(&device, &matrix, 0).err().unwrap().to_string();
        assert!(problem.contains("feature 2"), "{problem}");
    }
}
