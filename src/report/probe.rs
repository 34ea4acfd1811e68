//! What a probe found: rows of a table, few-label results, and `report.html` with the accuracy by depth.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::charts::{self, Chart, Curve, Mark, Point};
use super::html::{escape, opening, percent};

/// Whose features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The trained model's.
    Trained,
    /// The same model's with fresh weights.
    Untrained,
    /// The pixels themselves.
    RawPixels,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Source::Trained => "trained",
            Source::Untrained => "untrained",
            Source::RawPixels => "raw pixels",
        })
    }
}

/// One classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Whose features.
    pub source: Source,
    /// At which depths, side by side; none for pixels.
    pub depths: Vec<usize>,
    /// Number of features.
    pub features: usize,
    /// The number chosen on the held-out images, in words.
    pub choice: String,
    /// Accuracy on the held-out images, fitted on the others.
    pub validation_accuracy: f64,
    /// Accuracy on the test images, fitted on all training images; none where only held-out images were asked for.
    pub test_accuracy: Option<f64>,
    /// Iterations of the solver.
    pub iterations: usize,
    /// Whether the solver converged.
    pub converged: bool,
}

/// Depths in words: `4`, `2-6`, or a dash for none.
pub fn describe_depths(depths: &[usize]) -> String {
    match depths {
        [] => "–".to_owned(),
        [only] => only.to_string(),
        [first, .., last] => format!("{first}-{last}"),
    }
}

/// Of the rows of a source, the one with the highest accuracy on the held-out images; of equals the first. `key` says a row's
/// source and that accuracy.
pub fn best_of<T>(rows: &[T], source: Source, key: impl Fn(&T) -> (Source, f64)) -> Option<&T> {
    rows.iter().filter(|row| key(row).0 == source).reduce(|best, row| if key(row).1 > key(best).1 { row } else { best })
}

/// Accuracies with few labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FewLabels {
    /// Labels per class.
    pub labels_per_class: usize,
    /// Depths of the features.
    pub depths: Vec<usize>,
    /// Test accuracy for each choice of labels.
    pub accuracies: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (n − 1).
    pub deviation: f64,
    /// How many of the fits converged.
    pub converged: usize,
}

/// Everything that the page shows.
#[derive(Clone, Debug)]
pub struct ProbeReport {
    /// Heading.
    pub title: String,
    /// Facts above the chart: name and value.
    pub facts: Vec<(&'static str, String)>,
    /// Classes: guessing is right once in this many times.
    pub classes: usize,
    /// The classifiers.
    pub rows: Vec<Row>,
    /// With few labels.
    pub few_labels: Vec<FewLabels>,
}

impl ProbeReport {
    /// The page, with nothing to load.
    pub fn render(&self) -> String {
        let mut page = opening(&self.title, ".results th, .results td { white-space: nowrap; }\n");
        page.push_str("<table>\n");
        for (name, value) in &self.facts {
            let _ = writeln!(page, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escape(value));
        }

        let figure = self.figure();
        let _ = write!(page, "</table>\n<h2>Accuracy</h2>\n<div class=\"charts\">\n{figure}</div>\n");
        page.push_str(&self.table());

        if !self.few_labels.is_empty() {
            page.push_str(
                "<h2>Few labels</h2>\n<table class=\"results\">\n<tr><th>Labels per class</th><th>Depth</th>",
            );
            page.push_str("<th>Test accuracy, mean ± standard deviation</th><th>Choices of labels</th></tr>\n");
            for few in &self.few_labels {
                let depths: Vec<String> = few.depths.iter().map(usize::to_string).collect();
                let _ = writeln!(
                    page,
                    "<tr><td>{}</td><td>{}</td><td>{:.2} ± {:.2} %</td><td>{}</td></tr>",
                    few.labels_per_class,
                    depths.join(", "),
                    100.0 * few.mean,
                    100.0 * few.deviation,
                    few.accuracies.len()
                );
            }
            page.push_str("</table>\n");
        }

        page.push_str("</body>\n</html>\n");
        page
    }

    /// The trained model's row that did best on the held-out images; of equals the first.
    pub fn best(&self) -> Option<&Row> {
        self.best_of(Source::Trained)
    }

    /// The row of a source that did best on the held-out images; of equals the first.
    pub fn best_of(&self, source: Source) -> Option<&Row> {
        best_of(&self.rows, source, |row| (row.source, row.validation_accuracy))
    }

    /// The chart of accuracy by depth, HTML.
    pub(crate) fn figure(&self) -> String {
        let chart = self.chart();
        charts::figure(&chart).unwrap_or_else(|problem| format!("<p>{}: {problem}</p>\n", chart.title))
    }

    /// The table of all classifiers, HTML.
    pub(crate) fn table(&self) -> String {
        let best = self.best();
        let mut html =
            "<table class=\"results\">\n<tr><th>Features of</th><th>Depth</th><th>Features</th><th>Chosen</th>\
                        <th>Held out</th><th>Test</th><th>Iterations</th><th>Converged</th></tr>\n"
                .to_owned();

        for row in &self.rows {
            let class = if best == Some(row) { " class=\"best\"" } else { "" };
            let converged = if row.converged { "yes" } else { "no" };
            let _ = writeln!(
                html,
                "<tr{class}><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{converged}</td></tr>",
                row.source,
                describe_depths(&row.depths),
                row.features,
                row.choice,
                percent(Some(row.validation_accuracy)),
                percent(row.test_accuracy),
                row.iterations
            );
        }
        html.push_str("</table>\n");
        html
    }

    /// Accuracy over depth: of test images where every single depth was tested, else of the held-out ones.
    fn chart(&self) -> Chart {
        let single = |source: Source| self.rows.iter().filter(move |row| row.source == source && row.depths.len() == 1);
        let tested =
            [Source::Trained, Source::Untrained].into_iter().flat_map(single).all(|row| row.test_accuracy.is_some());
        let accuracy =
            |row: &Row| 100.0 * if tested { row.test_accuracy } else { None }.unwrap_or(row.validation_accuracy);

        let points = |source| -> Vec<Point> {
            let mut points: Vec<Point> = single(source).map(|row| (row.depths[0] as f64, accuracy(row))).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            points
        };
        let (trained, untrained) = (points(Source::Trained), points(Source::Untrained));

        // Levels, over the depths of the curves.
        let depths = || trained.iter().chain(&untrained).map(|point| point.0);
        let (low, high) = (depths().fold(f64::INFINITY, f64::min), depths().fold(0.0, f64::max));
        let (low, high) = if low.is_finite() { (low, high) } else { (0.0, 1.0) };
        let level = |value: f64| vec![(low, value), (high.max(low + f64::EPSILON), value)];
        let curve =
            |label, variable, colour, width, points, mark| Curve { label, variable, colour, width, points, mark };
        let pixels = self.rows.iter().find(|row| row.source == Source::RawPixels).map(accuracy);
        let chance = 100.0 / self.classes.max(1) as f64;

        Chart {
            title: if tested {
                "Accuracy by depth, % of the test images"
            } else {
                "Accuracy by depth, % of the held-out images"
            },
            size: charts::WIDE,
            curves: vec![
                curve("this model", "first", charts::FIRST, 2, trained.clone(), Mark::Line),
                curve("", "first", charts::FIRST, 3, trained.clone(), Mark::Dots),
                curve("the same model, untrained", "second", charts::SECOND, 2, untrained.clone(), Mark::Line),
                curve("", "second", charts::SECOND, 3, untrained.clone(), Mark::Dots),
                curve("raw pixels", "third", charts::THIRD, 2, pixels.map(level).unwrap_or_default(), Mark::Dashes),
                curve("guessing", "fourth", charts::FOURTH, 1, level(chance), Mark::Dashes),
            ],
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    fn row(source: Source, depths: &[usize], validation_accuracy: f64, test: Option<f64>) -> Row {
        Row {
            source,
            depths: depths.to_vec(),
            features: 128,
            choice: "C = 0.1".to_owned(),
            validation_accuracy,
            test_accuracy: test,
            iterations: 31,
            converged: true,
        }
    }

    fn report() -> ProbeReport {
        let mut rows: Vec<Row> = (0..5)
            .map(|l| row(Source::Trained, &[l], [0.3, 0.5, 0.61, 0.55, 0.4][l], Some(0.3 + 0.01 * l as f64)))
            .collect();
        rows.extend((0..5).map(|l| row(Source::Untrained, &[l], 0.3, Some(0.29))));
        rows.push(row(Source::Trained, &[1, 2, 3], 0.62, Some(0.6234)));
        rows.push(row(Source::RawPixels, &[], 0.39, Some(0.3875)));
        let few = FewLabels {
            labels_per_class: 25,
            depths: vec![2],
            accuracies: vec![0.4, 0.5],
            mean: 0.45,
            deviation: 0.07,
            converged: 2,
        };
        let facts = vec![("Data", "cifar10:<x>".to_owned())];
        ProbeReport { title: "probe of <run>".into(), facts, classes: 10, rows, few_labels: vec![few] }
    }

    #[test]
    fn the_page_is_self_contained_escaped_and_complete() {
        let page = report().render();
        // To look at it: IGPT_PROBE_PREVIEW=probe.html cargo test the_page_is
        if let Some(path) = std::env::var_os("IGPT_PROBE_PREVIEW") {
            std::fs::write(path, &page).unwrap();
        }
        assert!(page.contains("--first: #1f6feb"), "the style sheet of the training report has moved");
        assert!(!page.contains("<script") && !page.replace("http://www.w3.org/2000/svg", "").contains("http"));
        assert_eq!(page.matches("<svg").count(), 1);
        for text in
            ["probe of &lt;run&gt;", "cifar10:&lt;x&gt;", "62.34 %", "38.75 %", "1-3", "45.00 ± 7.00 %", "C = 0.1"]
        {
            assert!(page.contains(text), "{text}");
        }
        assert_eq!(page.matches("class=\"best\"").count(), 1);
        assert_eq!(report().best().unwrap().depths, [1, 2, 3]);
        assert!(page.contains("% of the test images"));
    }

    #[test]
    fn what_was_not_tested_is_not_shown_as_tested() {
        let mut partly = report();
        partly.rows[1].test_accuracy = None;
        assert!(partly.render().contains("% of the held-out images"));
        let pixels =
            ProbeReport { rows: vec![row(Source::RawPixels, &[], 0.4, None)], few_labels: Vec::new(), ..report() };
        assert_eq!(pixels.render().matches("<svg").count(), 1);
        assert!(pixels.best().is_none());
    }
}
