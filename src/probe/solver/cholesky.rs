//! Cholesky factors `A = L · Lᵀ` in f64, in blocks whose products are GEMMs.

use rayon::prelude::*;

use crate::probe::product::{View, add_product};

/// Rows and columns of a block.
const BLOCK: usize = 64;

/// A lower triangular factor.
#[derive(Debug)]
pub struct Cholesky {
    /// `L` `[width, width]`; what is above the diagonal has no meaning.
    lower: Vec<f64>,
    width: usize,
}

impl Cholesky {
    /// Of a symmetric matrix `[width, width]`, whose lower half is read; `None` if it isn't positive definite, as far as numbers tell.
    pub fn new(mut matrix: Vec<f64>, width: usize) -> Option<Self> {
        assert_eq!(matrix.len(), width * width);
        for first in (0..width).step_by(BLOCK) {
            let size = BLOCK.min(width - first);
            let (above, below) = matrix.split_at_mut((first + size) * width);
            let block = &mut above[first * width..];

            // The block on the diagonal, less what is to its left.
            let left = block.to_vec();
            let left = View::new(&left, [size, first], width);
            add_product(&mut block[first..], width, -1.0, left, left.transpose());
            factor(&mut block[first..], width, size)?;

            // The rows below it: X = (A − L_rows · L_blockᵀ) · L_diagonal⁻ᵀ
            let diagonal = &block[first..];
            below.par_chunks_mut(BLOCK * width).for_each(|rows| {
                let mut columns: Vec<f64> =
                    rows.chunks_exact(width).flat_map(|row| &row[first..first + size]).copied().collect();
                let own = View::new(rows, [rows.len() / width, first], width);
                add_product(&mut columns, size, -1.0, own, left.transpose());
                for (row, columns) in rows.chunks_exact_mut(width).zip(columns.chunks_exact_mut(size)) {
                    solve_lower(diagonal, width, columns);
                    row[first..first + size].copy_from_slice(columns);
                }
            });
        }
        Some(Self { lower: matrix, width })
    }

    /// Replaces each row `v` of `vectors` `[K, width]` by `A⁻¹ · v`.
    pub fn solve(&self, vectors: &mut [f64]) {
        let Self { lower, width } = self;
        let (width, rows) = (*width, vectors.len() / width);
        let firsts = (0..width).step_by(BLOCK);

        // L · y = v, block after block.
        for first in firsts.clone() {
            let size = BLOCK.min(width - first);
            let left = View::new(&lower[first * width..], [size, first], width);
            self.subtract(vectors, 0..first, first..first + size, left.transpose());
            for row in 0..rows {
                let values = &mut vectors[row * width + first..][..size];
                solve_lower(&lower[first * width + first..], width, values);
            }
        }

        // Lᵀ · x = y, from the last block on.
        for first in firsts.rev() {
            let size = BLOCK.min(width - first);
            let last = first + size;
            if last < width {
                let below = View::new(&lower[last * width + first..], [width - last, size], width);
                self.subtract(vectors, last..width, first..last, below);
            }
            for row in 0..rows {
                let values = &mut vectors[row * width + first..][..size];
                solve_upper(&lower[first * width + first..], width, values);
            }
        }
    }

    /// Subtracts the columns `known` of `vectors`, times `factor`, from the columns `next`.
    fn subtract(
        &self,
        vectors: &mut [f64],
        known: std::ops::Range<usize>,
        next: std::ops::Range<usize>,
        factor: View<'_>,
    ) {
        let rows = vectors.len() / self.width;
        let solved: Vec<f64> = vectors.chunks_exact(self.width).flat_map(|row| &row[known.clone()]).copied().collect();
        let solved = View::new(&solved, [rows, known.len()], known.len());
        if !known.is_empty() {
            add_product(&mut vectors[next.start..], self.width, -1.0, solved, factor);
        }
    }
}

/// The factor of one block, in place: rows are `stride` apart.
fn factor(block: &mut [f64], stride: usize, size: usize) -> Option<()> {
    for row in 0..size {
        let (above, rest) = block.split_at_mut(row * stride);
        let values = &mut rest[..=row];
        solve_lower(above, stride, &mut values[..row]);
        let rest = values[row] - values[..row].iter().map(|value| value * value).sum::<f64>();
        // Also of NaN.
        if !(rest > 0.0 && rest.is_finite()) {
            return None;
        }
        values[row] = rest.sqrt();
    }
    Some(())
}

/// Solves `L · x = v` in place.
fn solve_lower(lower: &[f64], stride: usize, v: &mut [f64]) {
    for row in 0..v.len() {
        let known: f64 = lower[row * stride..][..row].iter().zip(&v[..row]).map(|(l, x)| l * x).sum();
        v[row] = (v[row] - known) / lower[row * stride + row];
    }
}

/// Solves `Lᵀ · x = v` in place.
fn solve_upper(lower: &[f64], stride: usize, v: &mut [f64]) {
    for row in (0..v.len()).rev() {
        let x = v[row] / lower[row * stride + row];
        v[row] = x;
        v[..row].iter_mut().zip(&lower[row * stride..]).for_each(|(v, l)| *v -= l * x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one block, of blocks and a part, and of many.
    #[test]
    fn it_inverts_what_it_was_made_of() {
        for width in [1, 3, BLOCK, BLOCK + 1, 3 * BLOCK + 17] {
            let noise = |i: usize| ((i * 7919 + 13) % 1009) as f64 / 504.5 - 1.0;
            let mut matrix = vec![0.0; width * width];
            for row in 0..width {
                for column in 0..=row {
                    let value = if row == column { 2.0 * width as f64 } else { noise(row * width + column) };
                    matrix[row * width + column] = value;
                    matrix[column * width + row] = value;
                }
            }
            let x: Vec<f64> = (0..3 * width).map(|i| noise(i + 5)).collect();
            let product = |(x, row): (&[f64], &[f64])| row.iter().zip(x).map(|(a, x)| a * x).sum();
            let pairs = x.chunks_exact(width).flat_map(|x| matrix.chunks_exact(width).map(move |row| (x, row)));
            let mut vectors: Vec<f64> = pairs.map(product).collect();
            // The upper half is not looked at.
            (0..width).for_each(|row| matrix[row * width + row + 1..(row + 1) * width].fill(f64::NAN));
            Cholesky::new(matrix, width).unwrap().solve(&mut vectors);
            let error = vectors.iter().zip(&x).map(|(got, x)| (got - x).abs()).fold(0.0, f64::max);
            assert!(error < 1e-12, "{width}: {error}");
        }
    }

    #[test]
    fn what_has_no_factor_has_none() {
        let mut matrix = vec![0.0; 100 * 100];
        (0..100).for_each(|row| matrix[row * 101] = 1.0);
        for wrong in [-1.0, 0.0, f64::NAN, f64::INFINITY] {
            matrix[90 * 101] = wrong;
            assert!(Cholesky::new(matrix.clone(), 100).is_none(), "{wrong}");
        }
        // Positive on its diagonal, and yet no more: [1 2; 2 1].
        assert!(Cholesky::new(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
    }
}
