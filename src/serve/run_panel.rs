//! What the page shows of the run that its checkpoint is of: curves, samples, and what a probe found.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::probe;
use crate::report::curves;
use crate::report::grids;
use crate::report::history::History;
use crate::report::html::{escape, grouped};
use crate::run::folder::RunFolder;

/// Bytes of a sample grid, and of a probe's results, at most.
const MAX_FILE: u64 = 16 << 20;

/// A run's folder, or a folder of weights that no run left.
pub struct RunPanel {
    /// The run.
    root: Option<PathBuf>,
    /// Where a probe's results would be.
    probes: Vec<PathBuf>,
    /// Colours of the model.
    vocabulary: usize,
    /// The curves as last drawn, and of which state of the metrics.
    drawn: Mutex<Option<(Stamp, String)>>,
}

/// Tells a file that has grown from what it was.
type Stamp = Option<(u64, SystemTime)>;

impl RunPanel {
    /// Of what `--checkpoint` named, which is of the run `root` if it is of one.
    pub fn new(checkpoint: &Path, root: Option<PathBuf>, vocabulary: usize) -> Self {
        let of = |folder: &Path| folder.join(probe::FOLDER).join(RunFolder::PROBE);
        let probes = [Some(checkpoint), root.as_deref()].into_iter().flatten().map(of).collect();
        Self { root, probes, vocabulary, drawn: Mutex::new(None) }
    }

    /// The curves, HTML.
    pub fn curves(&self) -> String {
        let Some(root) = &self.root else {
            return "<p>This folder holds a model and no run, so there are no curves.</p>\n".to_owned();
        };
        let path = root.join(RunFolder::METRICS);
        let stamp: Stamp = fs::metadata(&path).ok().and_then(|file| Some((file.len(), file.modified().ok()?)));

        // A long run takes a while to read, and is read again only when it has gone on.
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, html)) = drawn.as_ref()
            && *of == stamp
        {
            return html.clone();
        }
        let html = match History::read(&path) {
            Ok(history) => curves::figures(&history, self.vocabulary),
            Err(error) => format!("<p>The curves cannot be shown: {}</p>\n", escape(&error.to_string())),
        };
        *drawn = Some((stamp, html.clone()));
        html
    }

    /// The sample grids, the latest first, HTML.
    pub fn samples(&self) -> String {
        let grids = grids::shown(&self.grids());
        if grids.is_empty() {
            return "<p>None were drawn.</p>\n".to_owned();
        }
        let mut figures = grids.iter().rev().map(|(step, _)| {
            format!(
                "<figure><img loading=\"lazy\" alt=\"Samples at step {0}\" src=\"samples/{step}.png\"><figcaption>Step {0}\
                 </figcaption></figure>\n",
                grouped(*step)
            )
        });
        let (latest, earlier) = (figures.next().unwrap_or_default(), figures.collect::<String>());
        if earlier.is_empty() {
            return latest;
        }
        format!("{latest}<details><summary>Earlier ones</summary>\n{earlier}</details>\n")
    }

    /// The grid of a step as a PNG file; `None` where there is none.
    pub fn sample(&self, step: u64) -> Option<Vec<u8>> {
        let (_, path) = self.grids().into_iter().find(|(found, _)| *found == step)?;
        read(&path)
    }

    /// Accuracy by depth and the table of classifiers, HTML; `None` without a probe.
    pub fn probe(&self) -> Option<String> {
        let path = self.probes.iter().find(|path| path.is_file())?;
        let saved = read(path).and_then(|text| serde_json::from_slice::<probe::Saved>(&text).ok());
        Some(match saved {
            Some(saved) => {
                let report = saved.report();
                format!(
                    "<div class=\"charts\">{}</div>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
                     aria-label=\"Classifiers\">{}</div>\n",
                    report.figure(),
                    report.table()
                )
            }
            None => format!("<p>{} cannot be read.</p>\n", escape(&path.display().to_string())),
        })
    }

    /// The sample grids there are; of a folder that cannot be listed, none.
    fn grids(&self) -> Vec<(u64, PathBuf)> {
        self.root.as_ref().and_then(|root| RunFolder::sample_grids_of(root).ok()).unwrap_or_default()
    }
}

/// A file, unless it is larger than any of its kind.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MAX_FILE).then_some(bytes)
}
