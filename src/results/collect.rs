//! Collecting what runs have reached.
//!
//! | file of a run folder | gives |
//! |---|---|
//! | `config.toml` | command, data, model |
//! | `metrics.jsonl` | the loss or accuracy on validation images |
//! | `probe.json` in any folder | accuracies of a probe, and those with few labels |
//! | `*.json`, lines of `eval --json` | loss and accuracy on test images: `igpt-engine eval --checkpoint RUN --json > RUN/test.json` |
//!
//! Folders without a `config.toml` are searched.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::ResultsError;
use super::key::{ResultKey, kind};
use super::measured::MeasuredResult;
use super::probe;
use crate::checkpoint;
use crate::model::{ModelConfig, bits_per_dimension};
use crate::recipe::{Command, Recipe, RecipeError};
use crate::run::checkpoints;
use crate::run::folder::RunFolder;
use crate::run::metrics::Record;
use crate::run::metrics_reader::MetricsReader;

/// Folders within folders that are searched.
const MAX_DEPTH: usize = 6;

/// Looks through folders, in order.
///
/// # Errors
/// [`ResultsError`].
pub fn collect(folders: &[&Path]) -> Result<Vec<MeasuredResult>, ResultsError> {
    let mut results = Vec::new();
    for folder in folders {
        search(folder, 0, &mut results)?;
    }
    Ok(results)
}

fn search(folder: &Path, depth: usize, results: &mut Vec<MeasuredResult>) -> Result<(), ResultsError> {
    let read = |source| ResultsError::Read { path: folder.to_owned(), source };
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>())
        .map_err(read)?;
    entries.sort();

    let files: Vec<&PathBuf> = entries
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "json") && path.is_file())
        .collect();
    let config = folder.join(RunFolder::CONFIG);
    if config.is_file() {
        results.extend(of_run(folder, &Recipe::read(&config)?, &files)?);
    }

    for path in &files {
        for value in lines(path)? {
            results.extend(probe::results(path, &value));
        }
    }
    // A run can hold another: the one after fine-tuning, on validation images too.
    for inner in entries.iter().filter(|path| depth < MAX_DEPTH && path.is_dir() && !is_part_of_a_run(path)) {
        search(inner, depth + 1, results)?;
    }
    Ok(())
}

/// Folders of a run that hold no runs.
fn is_part_of_a_run(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        RunFolder::PARTS.iter().any(|part| name == *part) || name.as_encoded_bytes().starts_with(b".")
    })
}

/// What a training run found; `None` if it has not measured anything yet.
fn of_run(folder: &Path, settings: &Recipe, files: &[&PathBuf]) -> Result<Option<MeasuredResult>, ResultsError> {
    let Some(model) = model_of(folder, settings)? else { return Ok(None) };
    let key = ResultKey::of(settings, &model);
    let (mut steps, mut validated) = (None, None);
    for record in MetricsReader::open(&folder.join(RunFolder::METRICS))? {
        let record = record?;
        steps = steps.max(Some(record.step()));
        validated = better(validated, &record, settings.command);
    }

    let mut remarks = Vec::new();
    if settings.command == Command::Train {
        remarks.push(match settings.text("palette") {
            None => "built-in palette".to_owned(),
            Some(palette) => format!("palette {palette}"),
        });
    }

    let result = |value, on_test, mut remarks: Vec<String>| {
        if settings.command == Command::Train {
            remarks.push(format!("{:.4} bits per dimension", bits_per_dimension(value)));
        }
        MeasuredResult {
            run: folder.to_owned(),
            key: key.clone(),
            value,
            deviation: None,
            on_test,
            steps,
            remarks,
            settings: Some(settings.clone()),
        }
    };

    // Test images count before validation images.
    if let Some(test) = on_test_images(files, &key)? {
        remarks.extend(test.remark);
        return Ok(Some(result(test.value, true, remarks)));
    }
    let Some((value, step)) = validated else { return Ok(None) };
    remarks.push(format!("validation images, step {step}"));
    Ok(Some(result(value, false, remarks)))
}

/// The model of a run: its newest checkpoint's, else what its settings say; `None` where nothing does yet.
fn model_of(folder: &Path, settings: &Recipe) -> Result<Option<ModelConfig>, ResultsError> {
    let saved = match checkpoints::resolve(folder).map(|path| checkpoint::load_config(&path)) {
        // A figure must not be put down to a model that a damaged file describes.
        Ok(Err(error)) if error.is_damage() => return Err(error.into()),
        Ok(Ok(config)) => Some(config),
        Ok(Err(_)) | Err(_) => None,
    };
    match (saved, settings.model()) {
        (Some(config), _) => Ok(Some(config)),
        (None, Ok(config)) => Ok(Some(config)),
        (None, Err(RecipeError::NoModel { .. })) => Ok(None),
        (None, Err(error)) => Err(error.into()),
    }
}

/// Of what was `found` so far and the next record, the last loss of pre-training or the best accuracy of fine-tuning, the last
/// of equals; and its step.
fn better(found: Option<(f64, u64)>, next: &Record, command: Command) -> Option<(f64, u64)> {
    let Record::Validation(next) = next else { return found };
    let value = match command {
        Command::Train => return Some((next.val_loss, next.step)),
        Command::Finetune | Command::Probe => match next.accuracy {
            Some(accuracy) => 100.0 * accuracy,
            None => return found,
        },
    };
    match found {
        Some((best, _)) if best.total_cmp(&value).is_gt() => found,
        _ => Some((value, next.step)),
    }
}

/// A figure of a file of results.
struct Test {
    value: f64,
    images: u64,
    remark: Option<String>,
}

/// The evaluation of most test images among the files; the later one of several.
fn on_test_images(files: &[&PathBuf], key: &ResultKey) -> Result<Option<Test>, ResultsError> {
    let mut best: Option<Test> = None;
    for path in files {
        for value in lines(path)? {
            let found = test_result(&value, key);
            if let Some(found) = found.filter(|found| best.as_ref().is_none_or(|best| found.images >= best.images)) {
                best = Some(found);
            }
        }
    }
    Ok(best)
}

/// What a line of `eval --json` says, if it is one about test images of the run's data.
fn test_result(line: &Value, key: &ResultKey) -> Option<Test> {
    let data = line.get("data")?.as_str()?;
    let images = line.get("images")?.as_u64()?;
    if line.get("split")? != "test" {
        return None;
    }
    let encoded = matches!(kind(data).as_str(), "shard" | "tokens");
    if kind(data) != key.data && !encoded {
        return None;
    }

    let value = match key.command {
        Command::Train => line.get("nats_per_token")?.as_f64()?,
        _ => 100.0 * line.get("accuracy")?.as_f64()?,
    };

    let mut remark = format!("{images} test images");
    if encoded {
        remark.push_str(&format!(" ({data})"));
    }
    if let Some(masks) = line.get("masks").and_then(Value::as_str) {
        remark.push_str(&format!(", masks: {masks}"));
    }
    if let Some(averaged) = probe::averaged(line) {
        remark.push_str(&format!(", {averaged}"));
    }
    Some(Test { value, images, remark: Some(remark) })
}

/// The lines of a file of JSON.
fn lines(path: &Path) -> Result<Vec<Value>, ResultsError> {
    let text = fs::read_to_string(path).map_err(|source| ResultsError::Read { path: path.to_owned(), source })?;
    // One object over several lines is as good as one a line.
    if let Ok(value) = serde_json::from_str(&text) {
        return Ok(vec![value]);
    }
    let parse = |(line, number): (&str, usize)| {
        serde_json::from_str(line).map_err(|error| ResultsError::Json {
            path: path.to_owned(),
            line: number,
            problem: error.to_string(),
        })
    };
    text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()).map(parse).collect()
}
