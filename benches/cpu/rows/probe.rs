//! A linear probe: multinomial logistic regression on made-up features, to the tolerance of `probe`.

use std::hint::black_box;

use anyhow::{Context, Result};
use igpt_engine::probe::{Choice, Fit, Labelled, Matrix, Protocol, Solver};

use super::model::device;
use super::{Bound, Row, Work};

const ROWS: usize = 10_000;
const WIDTH: usize = 512;
const CLASSES: usize = 10;

/// Inverse strength of the penalty.
const C: f64 = 0.01;

pub fn row() -> Row {
    Row {
        name: "probe",
        what: "linear probe, 10,000 × 512, 10 classes, C 0.01",
        peer: Some("scikit-learn's LogisticRegression"),
        uses_mkl: false,
        bound: Bound::None,
        prepare,
    }
}

/// Numbers in [-1, 1), the same as `peers.py` makes.
fn noise(seed: u32) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Features around a centre for each class, half of whose distance is noise.
fn data() -> Result<(Matrix, Vec<u16>)> {
    let mut centre = noise(7);
    let centres: Vec<f32> = (0..CLASSES * WIDTH).map(|_| centre()).collect();
    let mut next = noise(1);
    let labels: Vec<u16> = (0..ROWS).map(|row| (row * 7919 % CLASSES) as u16).collect();
    let values = labels.iter().flat_map(|label| {
        let centre = centres[usize::from(*label) * WIDTH..][..WIDTH].to_vec();
        (0..WIDTH).map(|i| 0.1 * centre[i] + next()).collect::<Vec<_>>()
    });
    Ok((Matrix::new(WIDTH, values.collect())?, labels))
}

fn fit(rows: &Matrix, labels: &[u16]) -> Result<Fit> {
    let solver = Solver::lbfgs(vec![C]);
    let protocol = Protocol { device: device(), classes: CLASSES, max_resident: usize::MAX, solver };
    let fit = protocol.fit(Labelled { rows, labels }, Choice::C(C), None, &mut |_| true)?;
    fit.context("nothing stopped it")
}

fn prepare() -> Result<Work> {
    let (rows, labels) = data()?;
    anyhow::ensure!(fit(&rows, &labels)?.summary.converged, "the probe of the benchmark does not converge");
    Ok(Box::new(move || {
        black_box(fit(&rows, &labels).expect("a fit"));
    }))
}
