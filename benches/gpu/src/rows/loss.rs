//! The cross-entropy of all positions, with its gradient in place of the logits.

use igpt_engine::device::cuda::{CudaTensor, CudaTokens};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{CudaDevice, Result, WeightLayout};

use super::{Bench, Case, Prepared};
use crate::check::Checked;
use crate::graph::Work;
use crate::normals::Normals;

struct Set {
    /// Taken and given back by each launch.
    logits: Option<CudaTensor>,
    targets: CudaTokens,
    weights: CudaTensor,
}

fn run(device: &CudaDevice, set: &mut Set) -> Result<CudaTensor> {
    let Some(logits) = set.logits.take() else { return device.zeros(&[1]) };
    let out = device.cross_entropy(logits, &set.targets, &set.weights)?;
    set.logits = Some(out.d_logits);
    Ok(out.nll)
}

fn prepare<'a>(
    device: &'a CudaDevice,
    [rows, colours, sets]: [usize; 3],
    normals: &mut Normals,
) -> Result<Prepared<'a>> {
    // Logits come from a GEMM, so they are in bf16: the identity makes them so.
    let mut identity = vec![0.0_f32; colours * colours];
    (0..colours).for_each(|i| identity[i * colours + i] = 1.0);
    let identity = device.upload(&[colours, colours], &identity)?;
    let targets: Vec<u16> = (0..rows).map(|row| (row * 7919 % colours) as u16).collect();
    let weight = 2.0_f32.powi(-10);

    let mut on_device = Vec::new();
    let mut exact: (Vec<f64>, f64) = (Vec::new(), 0.0);
    for set in 0..sets {
        let values = normals.take(rows * colours, 1.0);
        if set == 0 {
            exact = of_last_row(&values[(rows - 1) * colours..], usize::from(targets[rows - 1]), f64::from(weight));
        }
        let logits = device.upload(&[rows, colours], &values)?;
        on_device.push(Set {
            logits: Some(device.linear(&logits, &identity, WeightLayout::InOut, None)?),
            targets: device.upload_tokens([1, rows], &targets)?,
            weights: device.upload(&[rows], &vec![weight; rows])?,
        });
    }

    // The last row's loss and gradient.
    let nll = device.download(&run(device, &mut on_device[0])?)?;
    let gradient = on_device[0].logits.as_ref().map(|logits| device.download(logits)).transpose()?.unwrap_or_default();
    let (d_logits, loss) = exact;
    let pairs = gradient[gradient.len() - colours..].iter().copied().zip(d_logits);
    let checked = Checked::of(pairs, 1.0).and(Checked::of([(nll[rows - 1], loss)], 0.01));
    let work: Work<'a> = Box::new(move |set| run(device, &mut on_device[set]).map(Some));
    Ok(Prepared { checked, works: vec![(1.0, work)], sets, product: None })
}

/// Gradient and loss of a row.
fn of_last_row(logits: &[f32], target: usize, weight: f64) -> (Vec<f64>, f64) {
    let powers: Vec<f64> = logits.iter().map(|logit| f64::from(*logit).exp()).collect();
    let sum: f64 = powers.iter().sum();
    let one = |column: usize| if column == target { 1.0 } else { 0.0 };
    let gradient = powers.iter().enumerate().map(|(column, power)| weight * (power / sum - one(column))).collect();
    (gradient, sum.ln() - f64::from(logits[target]))
}

impl Bench<'_> {
    /// At each model's batch.
    pub fn losses(&mut self) {
        let (device, effort) = (self.device, self.effort);
        for model in &effort.models {
            let (rows, colours) = (model.rows(), model.config.vocabulary);
            // Logits in, gradient out, in bf16; a token, a weight and a loss for each row.
            let bytes = (rows * (2 * 2 * colours + 2 + 4 + 4)) as f64;
            let sets = effort.sets(bytes);
            let case = Case {
                op: "cross-entropy".to_owned(),
                model: model.name.to_owned(),
                shape: format!("{rows} x {colours}"),
                flops: 0.0,
                bytes,
            };
            self.row(case, |normals| prepare(device, [rows, colours, sets], normals));
        }
    }
}
