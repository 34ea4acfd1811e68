//! What a probe's `probe.json` (or a line of `probe --json`) says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::key::{ResultKey, kind};
use super::measured::MeasuredResult;
use crate::checkpoint;
use crate::model::ModelConfig;
use crate::recipe::Command;
use crate::run::checkpoints;

/// The best rows and those with few labels of a probe of images; nothing for any other JSON, and for a probe whose
/// checkpoint is gone, for then nobody knows what model it was of.
pub(super) fn results(path: &Path, report: &Value) -> Vec<MeasuredResult> {
    of_report(path, report).unwrap_or_default()
}

/// What to know of weights that are not those that were trained.
pub(super) fn averaged(report: &Value) -> Option<String> {
    (report.get("ema") == Some(&Value::Bool(true))).then(|| "moving average of the weights".to_owned())
}

fn of_report(path: &Path, report: &Value) -> Option<Vec<MeasuredResult>> {
    let few = report.get("few_labels")?.as_array()?;
    let data = report.get("data")?.as_str()?;
    let model = model_of(path, report)?;
    let key = |concatenated: usize, labels_per_class| ResultKey {
        command: Command::Probe,
        data: kind(data),
        layers: model.layers,
        width: model.width,
        tokens: model.positions,
        bert: !model.sos,
        concatenated: concatenated.max(1) as u64,
        labels_per_class,
    };

    let result = |key, value, remarks| MeasuredResult {
        run: path.to_owned(),
        key,
        value,
        deviation: None,
        on_test: true,
        steps: None,
        remarks,
        settings: None,
    };
    let unfinished = (report.get("finished")? != true).then(|| "not finished".to_owned());

    // The best row for each number of layers.
    let mut results: Vec<MeasuredResult> = best_rows(report)
        .into_iter()
        .filter_map(|(depths, row)| {
            let accuracy = |key: &str| row.get(key).and_then(Value::as_f64).map(|fraction| 100.0 * fraction);
            let tested = accuracy("ensemble_accuracy").or(accuracy("test_accuracy"));
            let mut remarks = vec![depth(&depths)];
            if tested.is_none() {
                remarks.push("held-out images".to_owned());
            }
            if row.get("converged") == Some(&Value::Bool(false)) {
                remarks.push("the fit did not converge".to_owned());
            }
            remarks.extend(unfinished.clone());
            remarks.extend(averaged(report));
            let value = tested.or(accuracy("validation_accuracy"))?;
            Some(MeasuredResult { on_test: tested.is_some(), ..result(key(depths.len(), None), value, remarks) })
        })
        .collect();

    // With few labels.
    // With few labels.
    for row in few {
        let depths = numbers(row.get("depths")?)?;
        let trials = row.get("accuracies")?.as_array()?.len();
        let mut remarks = vec![depth(&depths), format!("{trials} choices of labels")];
        remarks.extend(unfinished.clone());
        let key = key(depths.len(), Some(row.get("labels_per_class")?.as_u64()?));
        let deviation = row.get("deviation").and_then(Value::as_f64).map(|fraction| 100.0 * fraction);
        results.push(MeasuredResult { deviation, ..result(key, 100.0 * row.get("mean")?.as_f64()?, remarks) });
    }
    Some(results)
}

/// For each number of layers that were read together, the trained model's row that did best on the held-out images; one that
/// was tested comes before those that were not.
fn best_rows(report: &Value) -> Vec<(Vec<u64>, &Value)> {
    let trained = |row: &&Value| row.get("source").is_some_and(|source| source == "trained");
    let rows = report.get("rows").and_then(Value::as_array).into_iter().flatten().filter(trained);
    let mut best: BTreeMap<usize, (Vec<u64>, &Value)> = BTreeMap::new();
    for row in rows {
        let Some(depths) = row.get("depths").and_then(numbers) else { continue };
        let rank = |row: &Value| {
            let held_out = row.get("validation_accuracy").and_then(Value::as_f64).unwrap_or(0.0);
            (row.get("test_accuracy").is_some_and(Value::is_number), held_out)
        };
        if best.get(&depths.len()).is_none_or(|(_, other)| rank(row) > rank(other)) {
            best.insert(depths.len(), (depths, row));
        }
    }
    best.into_values().collect()
}

fn numbers(list: &Value) -> Option<Vec<u64>> {
    list.as_array()?.iter().map(Value::as_u64).collect()
}

fn depth(depths: &[u64]) -> String {
    match depths {
        [only] => format!("depth {only}"),
        [first, .., last] => format!("depths {first} to {last}"),
        [] => "pixels".to_owned(),
    }
}

/// The model that was probed: the checkpoint that the report names, or the run that its folder lies in.
fn model_of(path: &Path, report: &Value) -> Option<ModelConfig> {
    let named = report.get("checkpoint").and_then(Value::as_str).map(PathBuf::from);
    let around = path.parent().and_then(Path::parent).map(Path::to_owned);
    let config = |folder: PathBuf| checkpoint::load_config(&checkpoints::resolve(&folder).ok()?).ok();
    // Raw pixels alone have no checkpoint.
    named.as_ref()?;
    named.into_iter().chain(around).find_map(config)
}
