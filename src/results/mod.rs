//! The paper's tables with our own runs beside the published figures, and the methods that it compares Image GPT with
//! ([`COMPARED`]).
//!
//! Rows and published figures are the recipes' ([`crate::recipe`]). A run stands in a row if it is of the row's command,
//! data set, model shape, resolution, objective and protocol; whatever else differs (steps, batch, learning rate, palette,
//! validation instead of test images) is remarked on. Rows without a run are missing, and say so. Runs that fit no row, of
//! smaller models or other data, are listed after the tables.

mod collect;
mod compared;
mod key;
mod measured;
mod plot;
mod probe;
mod render;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use collect::collect;
pub use compared::{COMPARED, Compared, Transfer};
pub use key::ResultKey;
pub use measured::MeasuredResult;
pub use plot::accuracy_by_parameters;
pub use render::{markdown, text};

use crate::checkpoint::CheckpointError;
use crate::recipe::{self, Recipe, RecipeError, Table};
use crate::run::folder::RunFolderError;

/// Why results cannot be gathered.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// A folder or file cannot be read.
    #[error("cannot read {}: {source}. Give folders of runs, such as runs/", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A run's settings are damaged.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A run's metrics are damaged.
    #[error(transparent)]
    Metrics(#[from] RunFolderError),
    /// A run's checkpoint is damaged.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A line that is not a result.
    #[error("{}: line {line} is not JSON: {problem}. Remove the line, or the file", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser said.
        problem: String,
    },
}

/// A row of a table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// The recipe that makes it.
    pub recipe: String,
    /// Width and height of the images that the model sees, tokens.
    pub side: usize,
    /// Parameters of the model.
    pub parameters: usize,
    /// Features that a linear classifier reads, of probes.
    pub features: Option<usize>,
    /// The published figure.
    pub published: Option<f64>,
    /// Its standard deviation.
    pub published_deviation: Option<f64>,
    /// Our run, if there is one: of several the one on test images, with most steps.
    pub ours: Option<MeasuredResult>,
}

/// A table of the paper.
#[derive(Clone, Debug, Serialize)]
pub struct FilledTable {
    /// Which.
    pub table: Table,
    /// Its title.
    pub title: &'static str,
    /// Unit of its figures.
    pub unit: &'static str,
    /// Its rows: of Image GPT.
    pub rows: Vec<Row>,
    /// Rows of the methods that the paper compares it with.
    pub compared: Vec<Compared>,
}

/// All tables, and the runs that stand in none of them.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// The paper's tables.
    pub tables: Vec<FilledTable>,
    /// Runs that fit no row, or a row that a better run stands in.
    pub others: Vec<MeasuredResult>,
}

impl Results {
    /// Fills the tables with what the runs in `folders` found.
    ///
    /// # Errors
    /// [`ResultsError`].
    pub fn of(folders: &[PathBuf]) -> Result<Self, ResultsError> {
        let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
        Self::fill(collect(&folders)?)
    }

    /// Fills the tables with `measured`.
    ///
    /// # Errors
    /// [`ResultsError::Recipe`], short of a damaged program none.
    pub fn fill(measured: Vec<MeasuredResult>) -> Result<Self, ResultsError> {
        let mut left: Vec<Option<MeasuredResult>> = measured.into_iter().map(Some).collect();
        let mut tables: Vec<FilledTable> = Table::ALL
            .into_iter()
            .map(|table| FilledTable {
                table,
                title: table.title(),
                unit: table.unit(),
                rows: Vec::new(),
                compared: COMPARED.iter().filter(|row| row.table == table).copied().collect(),
            })
            .collect();

        for recipe in recipe::built_in()? {
            let Some(paper) = recipe.paper.clone() else { continue };

            // The best of the runs that fit.
            let model = recipe.model()?;
            let key = ResultKey::of(&recipe, &model);
            let features = (key.command == recipe::Command::Probe).then_some(model.width * key.concatenated as usize);
            let fitting = left.iter_mut().filter(|result| result.as_ref().is_some_and(|f| f.key == key));
            let best = fitting.max_by_key(|result| result.as_ref().map(|found| (found.on_test, found.steps)));
            let ours = best.and_then(Option::take).map(|found| found.compared_with(&recipe));

            let row = Row {
                name: paper.row,
                recipe: recipe.path.clone(),
                side: model.positions.isqrt(),
                parameters: model.parameter_count(),
                features,
                published: paper.expected,
                published_deviation: paper.deviation,
                ours,
            };
            tables.iter_mut().filter(|filled| filled.table == paper.table).for_each(|filled| {
                filled.rows.push(row.clone());
            });
        }

        Ok(Results { tables, others: left.into_iter().flatten().collect() })
    }
}

impl MeasuredResult {
    /// With remarks on what differs from a recipe.
    fn compared_with(mut self, recipe: &Recipe) -> Self {
        let planned = recipe.number("steps").ok().flatten();
        if let (Some(done), Some(planned)) = (self.steps, planned)
            && recipe.command == recipe::Command::Train
            && done != planned
        {
            self.remarks.push(format!("{done} of {planned} steps"));
        }

        let images = |settings: &Recipe| {
            let number = |key| settings.number(key).ok().flatten();
            number("batch").map(|batch| batch * number("accumulate").unwrap_or(1))
        };
        if let (Some(settings), Some(paper)) = (&self.settings, images(recipe)) {
            if let Some(ours) = images(settings).filter(|ours| *ours != paper) {
                self.remarks.push(format!("{ours} images a step instead of {paper}"));
            }
            let rate = |settings: &Recipe| settings.settings.get("lr").and_then(toml::Value::as_float);
            if let (Some(ours), Some(paper)) = (rate(settings), rate(recipe))
                && ours != paper
            {
                self.remarks.push(format!("learning rate {ours} instead of {paper}"));
            }
        }
        self
    }
}
