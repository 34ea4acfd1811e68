//! Scoring a checkpoint on a data set.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::error::SessionError;
use super::evaluate::{BatchScores, EvaluationPlan, evaluate_with};
use super::masks::MaskSettings;
use super::per_class::{ClassCount, PerClass};
use super::tally::Evaluation;
use crate::checkpoint;
use crate::checkpoint::images::{ImageSelection, ModelImages, check_classes, note_on_classes, note_on_fewer_classes};
use crate::data::{DataSpec, Split};
use crate::device::Device;
use crate::fs::path_text;
use crate::model::{ModelConfig, Objective, Transformer, bits_per_dimension, bits_per_token};
use crate::run::checkpoints;
use crate::run::images::TrainedOn;
use crate::tape::Parameters;

type Result<T> = std::result::Result<T, SessionError>;

/// What is scored, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A checkpoint, a run, or a Hugging Face folder.
    pub checkpoint: PathBuf,
    /// Whether the moving average of the weights is scored, which a run with `ema` keeps, instead of the weights.
    pub ema: bool,
    /// The images.
    pub images: ImageSelection,
    /// Only this many of them, from the first.
    pub limit: Option<usize>,
    /// Images at a time; changes nothing but speed and memory.
    pub batch: usize,
    /// The loss; without it, the one that the model was trained for.
    pub objective: Option<Objective>,
    /// Masks of a BERT model.
    pub masks: MaskSettings,
    /// Whether every class is counted for itself.
    pub per_class: bool,
    /// Whether the nats of each token are asked for, which a classifier without a language-model head does not have.
    pub nats: bool,
}

impl Settings {
    /// All test images of `data`, by the loss that the model was trained for.
    pub fn new(checkpoint: &Path, data: DataSpec) -> Self {
        Self {
            checkpoint: checkpoint.to_owned(),
            ema: false,
            images: ImageSelection::test_images(data),
            limit: None,
            batch: 16,
            objective: None,
            masks: MaskSettings::default(),
            per_class: false,
            nats: false,
        }
    }
}

/// An evaluation that is ready to run: model and images are open and checked.
pub struct Session<'a, D: Device> {
    device: &'a D,
    settings: Settings,
    folder: PathBuf,
    model: Transformer,
    parameters: Parameters<D>,
    opened: ModelImages,
    objective: Objective,
    /// Whether the model has the head that predicts pixels.
    predicts: bool,
}

impl<'a, D: Device> Session<'a, D> {
    /// Loads the model and opens the images.
    ///
    /// # Errors
    /// Whatever cannot be read or does not go together.
    pub fn open(device: &'a D, mut settings: Settings) -> Result<Self> {
        let folder = checkpoints::resolve(&settings.checkpoint)?;
        let load = if settings.ema { checkpoint::load_averaged_model } else { checkpoint::load_model };
        let (config, parameters) = load(device, &folder)?;
        let objective = objective(&settings, &config)?;
        // A classifier without the other head is scored by its classes alone.
        let predicts = checkpoint::has_token_head(&folder)?;
        if settings.nats || config.classes.is_empty() {
            checkpoint::require_token_head(&folder, "score pixels (nats per token)")?;
        }
        if settings.per_class && config.classes.is_empty() {
            let problem =
                "--per-class is for fine-tuned models, and this one has no class head; see `igpt-engine finetune`";
            return Err(SessionError::Settings(problem.into()));
        }
        let model = Transformer::new(config)?;

        // What is left open is as in the run.
        let trained_on = TrainedOn::of(&settings.checkpoint)?;
        if let Some(run) = &trained_on {
            settings.images = run.complete(&settings.images);
        }
        let mut opened = settings.images.open(&folder, model.config())?;
        let examples = opened.examples.as_ref();
        let classes = note_on_classes(examples).into_iter().chain(note_on_fewer_classes(model.config(), examples));
        opened.notes.extend(classes.collect::<Vec<_>>());
        if let Some(run) = &trained_on {
            let note = run.note(&settings.images, &opened)?;
            opened.notes.extend(note);
        }
        let labelled = check_classes(model.config(), opened.examples.as_ref())?;
        if !labelled {
            checkpoint::require_token_head(&folder, "be scored on images without labels")?;
        }
        if settings.per_class && !labelled {
            return Err(SessionError::Settings(format!(
                "--per-class needs images with labels, and {} has none",
                opened.description
            )));
        }
        Ok(Self { device, settings, folder, model, parameters, opened, objective, predicts })
    }

    /// The model's configuration.
    pub fn model(&self) -> &ModelConfig {
        self.model.config()
    }

    /// What a person should know of the images: an assumed palette, images that were trained on.
    pub fn notes(&self) -> &[String] {
        &self.opened.notes
    }

    /// Images that will be scored.
    pub fn images(&self) -> usize {
        self.settings.limit.unwrap_or(usize::MAX).min(self.opened.examples.len())
    }

    /// Tokens per image.
    pub fn sequence_length(&self) -> usize {
        self.opened.examples.sequence_length()
    }

    /// Whether the loss is another than the one that the model was trained for.
    pub fn is_other_objective(&self) -> bool {
        self.objective != self.model().objective()
    }

    /// Scores the images; `each` is given what every batch gave, in order.
    ///
    /// # Errors
    /// Those of the data and the device; [`SessionError::Settings`] for masks that do not go with the images.
    pub fn run(&self, mut each: impl FnMut(&BatchScores<'_>)) -> Result<Outcome> {
        let (images, settings, examples) = (self.images(), &self.settings, self.opened.examples.as_ref());
        let given = settings.masks.given(images, self.sequence_length())?;
        let masks = settings.masks.masks(given.as_deref());
        let plan = EvaluationPlan { images, batch: settings.batch, objective: self.objective, masks };

        let mut per_class = PerClass::new(self.model().classes.len());
        let evaluation = evaluate_with(self.device, &self.model, &self.parameters, examples, &plan, |scores| {
            per_class.add(scores.first, scores.classes, examples);
            each(&scores);
            Ok::<_, SessionError>(())
        })?;
        Ok(Outcome {
            evaluation,
            predicts: self.predicts,
            objective: self.objective,
            per_class: settings.per_class.then(|| per_class.rows(&self.model().classes)),
            split: settings.images.split,
            data: self.opened.description.clone(),
            checkpoint: self.folder.clone(),
            ema: settings.ema,
            masks: (self.objective == Objective::Bert).then(|| settings.masks.describe()),
        })
    }
}

/// The loss to score by.
fn objective(settings: &Settings, model: &ModelConfig) -> Result<Objective> {
    let objective = settings.objective.unwrap_or(model.objective());
    if objective == Objective::Ar && !model.sos {
        let problem = "this is a BERT model (no start-of-sequence token), so it cannot be scored with --objective ar";
        return Err(SessionError::Settings(problem.into()));
    }
    settings.masks.check(objective, model)?;
    Ok(objective)
}

/// What an evaluation found, and of what.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The scores.
    pub evaluation: Evaluation,
    /// Whether the model has a language-model head; without one, nats mean nothing and are left out.
    pub predicts: bool,
    /// The loss.
    pub objective: Objective,
    /// A row per class, where that was asked for.
    pub per_class: Option<Vec<ClassCount>>,
    /// Which part of the data.
    pub split: Split,
    /// The images in words.
    pub data: String,
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Whether the moving average of its weights was scored.
    pub ema: bool,
    /// The masks of a BERT model in words.
    pub masks: Option<String>,
}

impl Outcome {
    /// The JSON object.
    pub fn json(&self) -> Value {
        let Evaluation { nats_per_token: nats, images, tokens, unigram_entropy, classification } = self.evaluation;
        let mut value = json!({
            "nats_per_token": nats,
            "bits_per_token": bits_per_token(nats),
            "bits_per_dimension": bits_per_dimension(nats),
            "perplexity": nats.exp(),
            "unigram_entropy": unigram_entropy,
            "images": images,
            "tokens": tokens,
            "objective": self.objective,
            "split": self.split,
            "data": self.data,
            "checkpoint": path_text(&self.checkpoint),
        });

        // What only some models have.
        if let Some(fields) = value.as_object_mut().filter(|_| !self.predicts) {
            let of_pixels = ["nats_per_token", "bits_per_token", "bits_per_dimension", "perplexity"];
            fields.retain(|key, _| !of_pixels.contains(&key.as_str()));
        }
        if self.ema {
            value["ema"] = true.into();
        }
        if let Some(masks) = &self.masks {
            value["masks"] = masks.as_str().into();
        }
        if let Some(found) = classification {
            value["accuracy"] = found.accuracy.into();
            value["class_loss"] = found.loss.into();
            value["labelled"] = found.images.into();
        }
        if let Some(rows) = &self.per_class {
            value["per_class"] = json!(rows);
        }
        value
    }
}
