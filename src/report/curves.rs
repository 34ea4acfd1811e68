//! The curves of a training run.

use super::card::CardHistory;
use super::charts::{Chart, Curve, FIRST, FOURTH, HALF, Mark, PALE, Point, SECOND, THIRD, WIDE, figure, span};
use super::history::{History, TrainingCurves, ValidationCurves};
use super::thinned::Thinned;

/// The fraction of the run that the smoothed curve looks back over.
const SMOOTHING: f64 = 0.02;

/// The figures of a run, whose palette has `vocabulary` colours, as HTML.
pub(crate) fn figures(history: &History, vocabulary: usize) -> String {
    let mut charts = vec![loss_chart(history, vocabulary)];
    let accuracy = history.validation.accuracy.points();
    if !accuracy.is_empty() {
        charts.extend([accuracy_chart(accuracy), class_loss_chart(history)]);
    }
    charts.extend([rate_chart(&history.training), norm_chart(&history.training)]);
    charts.extend(card_charts(&history.card));
    charts
        .iter()
        .map(|chart| figure(chart).unwrap_or_else(|problem| format!("<p>{}: {problem}</p>\n", chart.title)))
        .collect()
}

fn loss_chart(history: &History, vocabulary: usize) -> Chart {
    let History {
        training: TrainingCurves { loss, .. }, validation: ValidationCurves { loss: validation, .. }, ..
    } = history;
    let (raw, validation) = (loss.points(), validation.points());

    let ends = span(raw.iter().chain(&validation).map(|(step, _)| *step));
    let level = |value: f64| ends.map(|(low, high)| vec![(low, value), (high, value)]).unwrap_or_default();
    let line =
        |label, variable, colour, width, points| Curve { label, variable, colour, width, points, mark: Mark::Line };

    // Measured.
    let mut curves = vec![
        line("training, each step", "pale", PALE, 1, raw),
        line("training, smoothed", "first", FIRST, 2, loss.smoothed(SMOOTHING)),
        line("validation", "second", SECOND, 2, validation.clone()),
        Curve { mark: Mark::Dots, ..line("", "second", SECOND, 3, validation) },
    ];

    // To compare with: what knows nothing, or frequencies only.
    curves.push(Curve {
        mark: Mark::Dashes,
        ..line("knows nothing: ln of the number of colours", "fourth", FOURTH, 1, level((vocabulary as f64).ln()))
    });
    if let Some(entropy) = history.unigram_entropy() {
        let label = "knows each colour's frequency: unigram entropy";
        curves.push(Curve { mark: Mark::Dashes, ..line(label, "third", THIRD, 2, level(entropy)) });
    }
    Chart { title: "Loss, nats per token", size: WIDE, curves }
}

/// Accuracy on the validation images.
fn accuracy_chart(accuracy: Vec<Point>) -> Chart {
    Chart { title: "Accuracy on the validation images, %", size: HALF, curves: dotted("", accuracy) }
}

/// Cross-entropy of the class head.
fn class_loss_chart(history: &History) -> Chart {
    let smoothed = Curve {
        label: "training, smoothed",
        variable: "first",
        colour: FIRST,
        width: 2,
        points: history.training.class_loss.smoothed(SMOOTHING),
        mark: Mark::Line,
    };
    let mut curves = vec![smoothed];
    curves.extend(dotted("validation", history.validation.class_loss.points()));
    Chart { title: "Class loss, nats per image", size: HALF, curves }
}

/// A validation's line, and a dot at each of its points.
fn dotted(label: &'static str, points: Vec<Point>) -> Vec<Curve> {
    let curve = |label, width, points, mark| Curve { label, variable: "second", colour: SECOND, width, points, mark };
    vec![curve(label, 2, points.clone(), Mark::Line), curve("", 3, points, Mark::Dots)]
}

fn rate_chart(training: &TrainingCurves) -> Chart {
    Chart { title: "Learning rate", size: HALF, curves: vec![plain(2, &training.learning_rate)] }
}

fn norm_chart(training: &TrainingCurves) -> Chart {
    Chart { title: "Gradient norm, before clipping", size: HALF, curves: vec![plain(1, &training.gradient_norm)] }
}

/// The card's sensors, those that it has.
fn card_charts(card: &CardHistory) -> impl Iterator<Item = Chart> {
    let charts = [
        ("Power of the card, W", &card.watts),
        ("Temperature of the card, °C", &card.celsius),
        ("Clock of the multiprocessors, MHz", &card.sm_mhz),
    ];
    let chart = |(title, curve): (_, &Thinned)| Chart { title, size: HALF, curves: vec![plain(1, curve)] };
    charts.map(chart).into_iter().filter(|chart| chart.curves.iter().any(|curve| !curve.points.is_empty()))
}

/// The only curve of a chart.
fn plain(width: u32, curve: &Thinned) -> Curve {
    Curve { label: "", variable: "first", colour: FIRST, width, points: curve.points(), mark: Mark::Line }
}
