//! The curves of a training run.

use super::charts::{Chart, Curve, FIRST, FOURTH, HALF, Mark, PALE, Point, SECOND, THIRD, WIDE, figure, span, thin};
use crate::run::metrics::{TrainRecord, ValidationRecord};

/// The fraction of the run that the smoothed curve looks back over.
const SMOOTHING: f64 = 0.02;

/// What a run recorded.
pub(super) struct Records<'a> {
    pub training: &'a [TrainRecord],
    pub validation: &'a [ValidationRecord],
    /// Colours of the palette.
    pub vocabulary: usize,
    /// Entropy of the validation tokens' histogram, nats.
    pub unigram_entropy: Option<f64>,
}

/// The figures of a run as HTML.
pub(super) fn figures(records: &Records<'_>) -> String {
    let mut charts = vec![loss_chart(records)];
    if records.validation.iter().any(|record| record.accuracy.is_some()) {
        charts.extend([accuracy_chart(records), class_loss_chart(records)]);
    }
    charts.extend([rate_chart(records.training), norm_chart(records.training)]);
    charts
        .iter()
        .map(|chart| figure(chart).unwrap_or_else(|problem| format!("<p>{}: {problem}</p>\n", chart.title)))
        .collect()
}

fn loss_chart(records: &Records<'_>) -> Chart {
    let raw = finite(records.training, TrainRecord::generative);
    let smoothed = smooth(&raw);
    let validation = records.validation.iter().map(|record| (record.step as f64, record.val_loss));
    let validation: Vec<Point> = validation.filter(|(_, loss)| loss.is_finite()).collect();

    let ends = span(raw.iter().chain(&validation).map(|(step, _)| *step));
    let level = |value: f64| ends.map(|(low, high)| vec![(low, value), (high, value)]).unwrap_or_default();
    let line =
        |label, variable, colour, width, points| Curve { label, variable, colour, width, points, mark: Mark::Line };

    // Measured.
    let mut curves = vec![
        line("training, each step", "pale", PALE, 1, thin(&raw)),
        line("training, smoothed", "first", FIRST, 2, thin(&smoothed)),
        line("validation", "second", SECOND, 2, validation.clone()),
        Curve { mark: Mark::Dots, ..line("", "second", SECOND, 3, validation) },
    ];

    // To compare with: what knows nothing, or frequencies only.
    let vocabulary = records.vocabulary as f64;
    curves.push(Curve {
        mark: Mark::Dashes,
        ..line("knows nothing: ln of the number of colours", "fourth", FOURTH, 1, level(vocabulary.ln()))
    });
    if let Some(entropy) = records.unigram_entropy {
        let label = "knows each colour's frequency: unigram entropy";
        curves.push(Curve { mark: Mark::Dashes, ..line(label, "third", THIRD, 2, level(entropy)) });
    }
    Chart { title: "Loss, nats per token", size: WIDE, curves }
}

/// Accuracy on the validation images.
fn accuracy_chart(records: &Records<'_>) -> Chart {
    let accuracy = records.validation.iter().filter_map(|record| Some((record.step as f64, 100.0 * record.accuracy?)));
    Chart { title: "Accuracy on the validation images, %", size: HALF, curves: dotted("", accuracy.collect()) }
}

/// Cross-entropy of the class head.
fn class_loss_chart(records: &Records<'_>) -> Chart {
    let training = finite(records.training, |record| record.class_loss.unwrap_or(f64::NAN));
    let smoothed = Curve {
        label: "training, smoothed",
        variable: "first",
        colour: FIRST,
        width: 2,
        points: thin(&smooth(&training)),
        mark: Mark::Line,
    };
    let validation = records.validation.iter().filter_map(|record| Some((record.step as f64, record.class_loss?)));
    let mut curves = vec![smoothed];
    curves.extend(dotted("validation", validation.filter(|(_, loss)| loss.is_finite()).collect()));
    Chart { title: "Class loss, nats per image", size: HALF, curves }
}

/// A validation's line, and a dot at each of its points.
fn dotted(label: &'static str, points: Vec<Point>) -> Vec<Curve> {
    let curve = |label, width, points, mark| Curve { label, variable: "second", colour: SECOND, width, points, mark };
    vec![curve(label, 2, points.clone(), Mark::Line), curve("", 3, points, Mark::Dots)]
}

fn rate_chart(training: &[TrainRecord]) -> Chart {
    let points = thin(&finite(training, |record| record.lr));
    let curve = Curve { label: "", variable: "first", colour: FIRST, width: 2, points, mark: Mark::Line };
    Chart { title: "Learning rate", size: HALF, curves: vec![curve] }
}

fn norm_chart(training: &[TrainRecord]) -> Chart {
    let points = thin(&finite(training, |record| record.grad_norm));
    let curve = Curve { label: "", variable: "first", colour: FIRST, width: 1, points, mark: Mark::Line };
    Chart { title: "Gradient norm, before clipping", size: HALF, curves: vec![curve] }
}

/// A curve over steps, without what is not a number.
fn finite(training: &[TrainRecord], value: impl Fn(&TrainRecord) -> f64) -> Vec<Point> {
    training.iter().map(|record| (record.step as f64, value(record))).filter(|(_, value)| value.is_finite()).collect()
}

/// Exponential moving average with its start-up bias removed.
fn smooth(points: &[Point]) -> Vec<Point> {
    let keep = 1.0 - 1.0 / (SMOOTHING * points.len() as f64).max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    points
        .iter()
        .map(|(step, value)| {
            sum = keep * sum + value;
            weight = keep * weight + 1.0;
            (*step, sum / weight)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_a_constant_and_starts_at_the_first_value() {
        let flat: Vec<Point> = (0..300).map(|i| (f64::from(i), 2.0)).collect();
        assert!(smooth(&flat).iter().all(|(_, value)| (value - 2.0).abs() < 1e-12));
        assert_eq!(smooth(&[(0.0, 5.0), (1.0, 3.0)])[0].1, 5.0);
    }
}
