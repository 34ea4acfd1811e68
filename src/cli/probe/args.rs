//! Flags of `probe` that are more than a number.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::probe::{FitLimits, SgdOptions, Solver, TOLERANCE};

/// Two arrays that belong together, `X.npy,Y.npy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayPair {
    /// Features.
    pub features: PathBuf,
    /// Labels.
    pub labels: PathBuf,
}

impl FromStr for ArrayPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // At ".npy," and not at any comma, which paths may hold.
        match text.split_once(".npy,") {
            Some((stem, labels)) if !stem.is_empty() && !labels.is_empty() => {
                Ok(ArrayPair { features: format!("{stem}.npy").into(), labels: labels.into() })
            }
            _ => Err("give the features and their labels as X.npy,Y.npy".into()),
        }
    }
}

/// Which depths are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DepthSpec {
    /// Every one.
    All,
    /// Every one on held-out images, the best on test images.
    Best,
    /// These, ascending.
    Some(Vec<usize>),
}

impl FromStr for DepthSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(DepthSpec::All),
            "best" => return Ok(DepthSpec::Best),
            _ => {}
        }
        let problem = || "give all, best, or depths as in 12, 10-14 or 0,6,12".to_owned();
        // No model has more layers.
        let number = |text: &str| text.parse::<usize>().ok().filter(|depth| *depth <= 1024).ok_or_else(problem);
        let mut depths = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(problem());
            }
            depths.extend(first..=last);
        }
        depths.sort_unstable();
        depths.dedup();
        Ok(DepthSpec::Some(depths))
    }
}

/// `--solver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SolverKind {
    /// L-BFGS: to the optimum. For everything that fits in memory
    Lbfgs,
    /// SGD with momentum 0.9 and a cosine: the paper's for ImageNet
    Sgd,
}

/// Flags of the solver.
#[derive(Args, Clone, Debug)]
pub struct SolverArgs {
    /// How classifiers are fitted
    #[arg(long, value_enum, default_value_t = SolverKind::Lbfgs)]
    pub solver: SolverKind,
    /// Inverse strengths of the penalty, tried on the held-out images: the objective is ½‖W‖² + C · Σ cross-entropy
    /// [default: 0.0001,0.001,0.01,0.1,1 for lbfgs, no penalty for sgd]
    #[arg(long, value_name = "LIST", value_delimiter = ',', allow_negative_numbers = true)]
    pub c: Vec<f64>,
    /// Learning rates of sgd, tried from the highest down until the held-out accuracy falls
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        allow_negative_numbers = true,
        default_value = "30,10,3,1,0.3,0.1,0.03"
    )]
    pub lr: Vec<f64>,
    /// Most iterations of lbfgs, or steps of sgd [default: 1000, or 10000; the paper's for ImageNet are 1000000]
    #[arg(long, value_name = "N")]
    pub iterations: Option<u64>,
    /// Rows of a step of sgd
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub sgd_batch: usize,
    /// lbfgs has converged when the gradient's squared length is at most this share of the objective, which is then within
    /// half this share of its minimum
    #[arg(long, value_name = "SHARE", default_value_t = TOLERANCE, allow_negative_numbers = true)]
    pub tolerance: f64,
}

/// Longest lists: each entry is a fit.
const MOST_TRIED: usize = 100;
/// Most iterations that make sense of any solver.
const MOST_ITERATIONS: u64 = 1 << 40;

impl SolverArgs {
    /// Refuses numbers that no solver takes.
    pub fn check(&self) -> Result<()> {
        let positive = |values: &[f64]| values.iter().all(|value| *value > 0.0 && value.is_finite());
        if !positive(&self.c) || self.c.len() > MOST_TRIED {
            bail!("--c {:?}: give up to {MOST_TRIED} positive numbers", self.c);
        }
        if !positive(&self.lr) || self.lr.is_empty() || self.lr.len() > MOST_TRIED {
            bail!("--lr {:?}: give 1 to {MOST_TRIED} positive numbers", self.lr);
        }
        if self.solver == SolverKind::Sgd && self.c.len() > 1 {
            bail!("--solver sgd tries learning rates (--lr); give it one --c, or none for no penalty");
        }
        if !self.iterations.is_none_or(|count| (1..=MOST_ITERATIONS).contains(&count)) {
            bail!("--iterations must be from 1 to {MOST_ITERATIONS}");
        }
        if self.sgd_batch == 0 || self.sgd_batch > 1 << 20 {
            bail!("--sgd-batch must be from 1 to {}", 1 << 20);
        }
        if !(self.tolerance > 0.0 && self.tolerance < 1.0) {
            bail!("--tolerance {} must be between 0 and 1", self.tolerance);
        }
        Ok(())
    }

    /// The solver with everything it may choose from.
    pub fn solver(&self, seed: u64) -> Solver {
        match self.solver {
            SolverKind::Lbfgs => {
                let c = if self.c.is_empty() { vec![1e-4, 1e-3, 1e-2, 1e-1, 1.0] } else { self.c.clone() };
                let iterations = self.iterations.map_or(1000, |count| usize::try_from(count).unwrap_or(usize::MAX));
                Solver::Lbfgs { c, limits: FitLimits { tolerance: self.tolerance, iterations } }
            }
            SolverKind::Sgd => {
                let options = SgdOptions {
                    learning_rate: 0.0,
                    momentum: 0.9,
                    steps: self.iterations.unwrap_or(10_000),
                    batch: self.sgd_batch,
                    c: self.c.first().copied(),
                    seed,
                };
                Solver::Sgd { rates: self.lr.clone(), options }
            }
        }
    }

    /// The solver in words.
    pub fn describe(&self) -> String {
        match self.solver(0) {
            Solver::Lbfgs { c, limits } => {
                format!(
                    "L-BFGS, C of {c:?}, at most {} iterations, tolerance {:e}",
                    limits.iterations, limits.tolerance
                )
            }
            Solver::Sgd { rates, options } => format!(
                "SGD, momentum {}, cosine, learning rates {rates:?}, {} steps of {} rows, {}",
                options.momentum,
                options.steps,
                options.batch,
                options.c.map_or("no penalty".to_owned(), |c| format!("C {c}"))
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_as_they_are_written() {
        let some = |depths: &[usize]| Ok(DepthSpec::Some(depths.to_vec()));
        assert_eq!("all".parse(), Ok(DepthSpec::All));
        assert_eq!("best".parse(), Ok(DepthSpec::Best));
        assert_eq!("12".parse(), some(&[12]));
        assert_eq!("10-12".parse(), some(&[10, 11, 12]));
        assert_eq!("6,0,5-7".parse(), some(&[0, 5, 6, 7]));
        for bad in ["", "x", "3-1", "1-", "-1", "1,,2", "1e3", "99999999999", "0-18446744073709551615"] {
            assert!(bad.parse::<DepthSpec>().is_err(), "{bad}");
        }
    }

    #[test]
    fn pairs_of_arrays_may_have_commas_in_their_names() {
        let pair: ArrayPair = "a,b/x.npy,y.npy".parse().unwrap();
        assert_eq!((pair.features, pair.labels), ("a,b/x.npy".into(), "y.npy".into()));
        for bad in ["x.npy", "x.npy,", ".npy,y.npy", ""] {
            assert!(bad.parse::<ArrayPair>().is_err(), "{bad}");
        }
    }
}
