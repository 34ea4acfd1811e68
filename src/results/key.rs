//! What a result is about: two results with the same key belong in the same row.

use serde::Serialize;

use crate::model::ModelConfig;
use crate::recipe::{Command, Recipe};

/// Command, data, model and protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResultKey {
    /// What was done.
    pub command: Command,
    /// Kind of the data set, `imagenet` for either layout.
    pub data: String,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Tokens per image.
    pub tokens: usize,
    /// Whether the model was trained on masked pixels.
    pub bert: bool,
    /// Layers whose features a probe reads together.
    pub concatenated: u64,
    /// Labels per class that a probe was given; `None` for all.
    pub labels_per_class: Option<u64>,
}

impl ResultKey {
    /// The key of a recipe or of a run's settings, about `model`.
    pub fn of(recipe: &Recipe, model: &ModelConfig) -> Self {
        let number = |key| recipe.number(key).ok().flatten();
        ResultKey {
            command: recipe.command,
            data: kind(recipe.text("data").unwrap_or("sample")),
            layers: model.layers,
            width: model.width,
            tokens: model.positions,
            bert: !model.sos,
            concatenated: number("concat").unwrap_or(1),
            labels_per_class: labels_per_class(recipe),
        }
    }
}

/// How many labels per class a recipe of a probe gives, where it says; a list has one entry there.
fn labels_per_class(recipe: &Recipe) -> Option<u64> {
    let labels = recipe.settings.get("labels-per-class")?;
    let first = labels.as_array().map_or(Some(labels), |list| list.first())?;
    first.as_integer().and_then(|labels| u64::try_from(labels).ok()).filter(|labels| *labels > 0)
}

/// The kind of a data set that `--data` named.
pub(super) fn kind(data: &str) -> String {
    match data.split(':').next().unwrap_or_default() {
        "imagenet-tar" => "imagenet".to_owned(),
        kind => kind.to_owned(),
    }
}

impl std::fmt::Display for ResultKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ResultKey { command, data, layers, width, tokens, .. } = self;
        let side = tokens.isqrt();
        write!(f, "{command} on {data}: {layers} layers × {width}, {side}×{side}")?;
        if self.bert {
            f.write_str(", BERT")?;
        }
        if self.concatenated > 1 {
            write!(f, ", {} layers", self.concatenated)?;
        }
        self.labels_per_class.map_or(Ok(()), |labels| write!(f, ", {labels} labels per class"))
    }
}
