//! The protocol with few labels: some rows of each class, chosen at random, several times over.

use rand::seq::SliceRandom;

use super::error::{ProbeError, Result};
use super::features::matrix::{Picked, pick_labels};
use super::protocol::{Labelled, Protocol, Watch};
use super::solver::fit::FitSummary;
use crate::device::Device;
use crate::random::{self, Purpose};

impl<D: Device> Protocol<'_, D> {
    /// `per_class` labels per class, chosen by `seed`: the number is chosen on one in five of them, all of them are fitted, and
    /// the accuracy on the `test` rows comes back. `None` if the watcher stopped it.
    ///
    /// # Errors
    /// [`ProbeError::Unfit`] where a class has fewer rows, or too few labels are left to choose by.
    pub fn few_labels(
        &self,
        all: Labelled<'_>,
        test: Labelled<'_>,
        per_class: usize,
        seed: u64,
        watch: Watch<'_>,
    ) -> Result<Option<(f64, FitSummary)>> {
        let chosen = choose_per_class(all.labels, self.classes, per_class, seed)?;
        let subset: Vec<u32> = chosen.concat();
        let (rows, labels) = (Picked::new(all.rows, &subset), pick_labels(all.labels, &subset));

        // Choose on one in five of each class.
        let choices = self.choices();
        let (choice, start) = match choices[..] {
            [only] => (only, None),
            _ => {
                let held = per_class.div_ceil(5);
                if held == per_class {
                    let problem = "1 label per class leaves none to choose C by; pass a single --c";
                    return Err(ProbeError::Unfit(problem.into()));
                }
                // Indices into the subset: classes lie one after the other.
                let (mut fitted, mut out) = (Vec::new(), Vec::new());
                for index in 0..subset.len() {
                    if index % per_class < held { &mut out } else { &mut fitted }.push(index as u32);
                }
                let parts = (&fitted[..], &out[..]);
                let Some(sweep) = self.sweep(Labelled { rows: &rows, labels: &labels }, parts, watch)? else {
                    return Ok(None);
                };
                (sweep.best.choice, Some(sweep.classifier))
            }
        };

        // Fit on all of them, and test.
        let all = Labelled { rows: &rows, labels: &labels };
        let Some(fit) = self.fit(all, choice, start.as_ref(), watch)? else { return Ok(None) };
        Ok(Some((fit.classifier.accuracy(test.rows, test.labels)?, fit.summary)))
    }
}

/// `per_class` rows of each class, chosen by `seed` without regard to their order.
///
/// # Errors
/// [`ProbeError::Unfit`] where a class has fewer.
pub fn choose_per_class(labels: &[u16], classes: usize, per_class: usize, seed: u64) -> Result<Vec<Vec<u32>>> {
    let mut by_class = vec![Vec::new(); classes];
    for (row, label) in labels.iter().enumerate() {
        if let Some(rows) = by_class.get_mut(usize::from(*label)) {
            rows.push(row as u32);
        }
    }
    for (class, rows) in by_class.iter_mut().enumerate() {
        if rows.len() < per_class || per_class == 0 {
            let problem = format!("class {class} has {} training images, not {per_class}", rows.len());
            return Err(ProbeError::Unfit(format!("{problem}; give fewer --labels-per-class, at least 1")));
        }
        let mut random = random::stream(seed, Purpose::FewLabels, 0, class as u64);
        rows.shuffle(&mut random);
        rows.truncate(per_class);
    }
    Ok(by_class)
}

/// Mean and sample standard deviation (n − 1; 0 for one value).
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (mean, if values.len() > 1 { (square / (count - 1.0)).sqrt() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::CpuDevice;
    use crate::probe::protocol::tests::{LIMITS, corners, protocol};
    use crate::probe::solver_choice::Solver;

    #[test]
    fn few_labels_are_as_many_of_each_class_and_depend_on_the_seed() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let (rows, labels) = corners(600);
        let chosen = choose_per_class(&labels, 3, 25, 7).unwrap();
        for (class, chosen) in chosen.iter().enumerate() {
            assert_eq!(chosen.len(), 25);
            assert!(chosen.iter().all(|row| usize::from(labels[*row as usize]) == class));
        }
        assert_eq!(choose_per_class(&labels, 3, 25, 7).unwrap(), chosen);
        assert_ne!(choose_per_class(&labels, 3, 25, 8).unwrap(), chosen);
        assert!(choose_per_class(&labels, 3, 201, 7).is_err() && choose_per_class(&labels, 4, 1, 7).is_err());
        let all = Labelled { rows: &rows, labels: &labels };
        let protocol = protocol(&device, Solver::Lbfgs { c: vec![0.1, 1.0], limits: LIMITS });
        let accuracy = |per_class| protocol.few_labels(all, all, per_class, 0, &mut |_| true).unwrap().unwrap().0;
        assert!(accuracy(4) > 0.4 && accuracy(100) > accuracy(2).min(0.6));
        assert!(protocol.few_labels(all, all, 1, 0, &mut |_| true).unwrap_err().to_string().contains("single --c"));
    }

    #[test]
    fn means_and_deviations() {
        assert_eq!(mean_and_deviation(&[2.0, 4.0, 6.0]), (4.0, 2.0));
        assert_eq!(mean_and_deviation(&[3.0]), (3.0, 0.0));
    }
}
