//! An approximate inverse of the Hessian of multinomial logistic regression.
//!
//! The Hessian is `I + C · Σᵢ (diag pᵢ − pᵢpᵢᵀ) ⊗ x̃ᵢx̃ᵢᵀ`. With the middle factor replaced by its mean `a · I` (Böhning,
//! "Multinomial logistic regression algorithm", Ann. Inst. Statist. Math. 44, 1992, bounds it in the same way), all classes
//! share one `F × F` matrix `I + C·a·X̃ᵀX̃`, and its Cholesky factor is affordable.
//!
//! Iterations to the golden optima (`tests/fixtures/golden/probe_*`, `cargo test --test probe -- --nocapture`) with it, and of
//! scikit-learn's L-BFGS, which has none, at its tightest setting:
//!
//! | set | C | with | scikit-learn |
//! |---|---|---|---|
//! | digits | 1 | 46 | 294 |
//! | digits | 100 | 161 | 685 |
//! | synth | 1 | 31 | 378 |
//! | synth | 100 | 48 | 2341 |

use super::cholesky::Cholesky;
use crate::probe::error::{ProbeError, Result};

/// Widest features that get a factor: its size is their square, its cost their cube. Wider ones are scaled column by column.
pub const MAX_FACTOR_WIDTH: usize = 4096;

/// `(I + C·a·X̃ᵀX̃)⁻¹`, or of its diagonal alone.
pub enum Preconditioner {
    /// Of `[F, F]`.
    Factor(Cholesky),
    /// Reciprocals, `[F]`.
    Diagonal(Vec<f64>),
}

impl Preconditioner {
    /// From the Gram matrix `[F, F]` of centred rows, times `scale` = `C·a`.
    ///
    /// # Errors
    /// [`ProbeError::Unfit`] where the features are so large that the matrix is not finite.
    pub fn factor(gram: &[f64], width: usize, scale: f64) -> Result<Self> {
        let mut matrix: Vec<f64> = gram.iter().map(|product| scale * product).collect();
        matrix.iter_mut().step_by(width + 1).for_each(|diagonal| *diagonal += 1.0);
        let factor = Cholesky::new(matrix, width).ok_or_else(|| {
            ProbeError::Unfit("the features are too large for a probe: their squares overflow. Scale them down".into())
        })?;
        Ok(Preconditioner::Factor(factor))
    }

    /// From the diagonal of the Gram matrix, `[F]`.
    pub fn diagonal(squares: &[f64], scale: f64) -> Self {
        Preconditioner::Diagonal(squares.iter().map(|square| 1.0 / (1.0 + scale * square)).collect())
    }

    /// Applies it to each row of `vectors` `[K, F]`.
    pub fn apply(&self, vectors: &mut [f64]) {
        match self {
            Preconditioner::Factor(factor) => factor.solve(vectors),
            Preconditioner::Diagonal(reciprocals) => {
                for row in vectors.chunks_exact_mut(reciprocals.len()) {
                    row.iter_mut().zip(reciprocals).for_each(|(value, reciprocal)| *value *= reciprocal);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_inverts_the_matrix() {
        let gram = [4.0, 1.0, 0.5, 1.0, 3.0, -0.25, 0.5, -0.25, 2.0];
        let preconditioner = Preconditioner::factor(&gram, 3, 2.0).unwrap();
        let x = [1.0, -2.0, 3.0, 0.5, 0.0, -1.0];
        let mut vectors: Vec<f64> = x
            .chunks_exact(3)
            .flat_map(|x| (0..3).map(|i| x[i] + (0..3).map(|j| 2.0 * gram[i * 3 + j] * x[j]).sum::<f64>()))
            .collect();
        preconditioner.apply(&mut vectors);
        assert!(vectors.iter().zip(x).all(|(got, x)| (got - x).abs() < 1e-12), "{vectors:?}");
        let mut vectors = [18.0, 14.0, 10.0];
        Preconditioner::diagonal(&[4.0, 3.0, 2.0], 2.0).apply(&mut vectors);
        assert_eq!(vectors, [2.0, 2.0, 2.0]);
        assert!(Preconditioner::factor(&[f64::INFINITY], 1, 1.0).is_err());
    }
}
