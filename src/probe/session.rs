//! A probe of images: features of a model at every depth, beside those of fresh weights and the pixels themselves.

use std::path::PathBuf;
use std::time::Instant;

use super::classifier::accuracy_of;
use super::depths::Depths;
use super::error::{ProbeError, Result};
use super::events::Events;
use super::features::extract::window;
use super::features::feature_file::FeatureFile;
use super::few_labels::mean_and_deviation;
use super::inputs::{Images, Model};
use super::outcome::{FittedClassifier, Outcome, best_trained};
use super::protocol::{Labelled, Protocol, check_classes, split};
use super::settings::Settings;
use super::solver_choice::Solver;
use crate::checkpoint::images::{ChosenPalette, note_on_classes, palette_for};
use crate::checkpoint::weights::{average_id, weights_id};
use crate::data::ImageExamples;
use crate::device::Device;
use crate::fs::{FsError, atomic_dir};
use crate::model::{modal_class, parameter_specs};
use crate::plan::limits;
use crate::plan::machine::available_memory;
use crate::report::html::describe_model;
use crate::report::probe::{FewLabels, ProbeReport, Source};
use crate::tape::Parameters;

/// A probe that is ready to run: model and images are open and checked.
pub struct Session<'a, D: Device> {
    pub(super) settings: Settings,
    pub(super) out: PathBuf,
    pub(super) depths: Depths,
    model: Option<Model<D>>,
    pub(super) images: Images,
    pub(super) protocol: Protocol<'a, D>,
    note: Option<String>,
}

/// What has been found so far.
#[derive(Default)]
struct Found {
    fitted: Vec<FittedClassifier>,
    few_labels: Vec<FewLabels>,
}

/// Features of both parts of the data.
pub(super) struct Features {
    pub train: FeatureFile,
    /// Of a BERT model, under several masks.
    pub test: Vec<FeatureFile>,
    /// Classes of the images, training and test.
    pub labels: [Vec<u16>; 2],
}

impl<'a, D: Device> Session<'a, D> {
    /// Loads the model, opens the images and makes the folder of the results.
    ///
    /// # Errors
    /// Whatever does not fit together or cannot be read, before anything is fitted.
    pub fn open(device: &'a D, settings: Settings) -> Result<Self> {
        let settings = settings.completed()?;
        let out = settings.folder();
        let refused = |FsError { source, .. }: FsError| ProbeError::Folder { path: out.clone(), source };
        atomic_dir::check_folder(&out).map_err(refused)?;

        let model = settings.checkpoint.as_deref().map(|path| Model::load(device, path, settings.ema)).transpose()?;
        let config = model.as_ref().map(|model| model.transformer.config());
        let depths = Depths::new(&settings.depths, settings.concat, config.map_or(0, |config| config.layers))?;

        let ChosenPalette { palette, note } =
            palette_for(settings.palette.as_deref(), model.as_ref().map(|model| &*model.folder))?;
        let images = Images::open(&settings, config, &palette)?;
        let classes = images.classes()?;
        let labels = (0..settings.images_of(images.train.len())).filter_map(|index| images.train.label(index));
        check_classes(labels, "training images")?;

        atomic_dir::make_folder(&out).and_then(|()| atomic_dir::clean_leftovers(&out)).map_err(refused)?;

        if matches!(settings.solver, Solver::Lbfgs { .. }) {
            let logits = 32.0 * settings.images_of(images.train.len()) as f64 * classes as f64;
            limits::check_machine("lbfgs on this number of images and classes", logits, "use --solver sgd")?;
        }
        let protocol = Protocol { device, classes, max_resident: max_resident(), solver: settings.solver.clone() };
        Ok(Self { settings, out, depths, model, images, protocol, note })
    }

    /// What people should know of the images: what was passed over, which classes have none.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.images.train.notes();
        notes.extend(self.images.test.notes().into_iter().filter(|note| !notes.contains(note)).collect::<Vec<_>>());
        notes.extend(note_on_classes(self.images.train.as_ref()));
        notes
    }

    /// Probes all that the settings ask for and writes `probe.json` and `report.html`. Features stay in files, so that a
    /// session that was interrupted continues when it is run again.
    ///
    /// # Errors
    /// Those of the device, of the data, of the files, and of the fits.
    pub fn run(&self, events: &mut dyn Events) -> Result<Outcome> {
        if let Some(note) = &self.note {
            events.note(note);
        }
        let mut found = Found::default();
        let finished = self.probe_all(&mut found, events)?;

        let report = self.report(&found);
        let outcome = Outcome {
            fitted: found.fitted,
            few_labels: found.few_labels,
            classes: self.protocol.classes,
            data: self.settings.data.to_string(),
            train_images: self.settings.images_of(self.images.train.len()),
            test_images: self.settings.images_of(self.images.test.len()),
            checkpoint: self.model.as_ref().map(|model| model.folder.clone()),
            ema: self.settings.ema,
            solver: self.settings.solver.describe(),
            seed: self.settings.seed(),
            finished,
            folder: self.out.clone(),
        };
        outcome.write(&report)?;
        if finished && self.settings.discard_features {
            self.discard_features();
        }
        Ok(outcome)
    }

    /// Probes the trained model, fresh weights and pixels, as far as they were asked for; whether it came to the end.
    fn probe_all(&self, found: &mut Found, events: &mut dyn Events) -> Result<bool> {
        if let Some(model) = &self.model {
            let origin = match self.settings.ema {
                false => format!("trained weights {}", weights_id(&model.folder)?),
                true => format!("averaged weights {}", average_id(&model.folder)?),
            };
            if !self.probe_model(model, &model.parameters, Source::Trained, &origin, found, events)? {
                return Ok(false);
            }

            if self.settings.untrained {
                let (config, seed) = (model.transformer.config(), self.settings.seed());
                let fresh = Parameters::init(self.protocol.device, parameter_specs(config), seed)?;
                let origin = format!("fresh weights of seed {seed}: {config:?}");
                if !self.probe_model(model, &fresh, Source::Untrained, &origin, found, events)? {
                    return Ok(false);
                }
            }
        }
        match &self.images.pixels {
            Some(pixels) => self.probe_pixels(pixels, found, events),
            None => Ok(true),
        }
    }

    /// Probes a model's features, depth by depth and in windows; the trained model's with few labels too.
    fn probe_model(
        &self,
        model: &Model<D>,
        parameters: &Parameters<D>,
        source: Source,
        origin: &str,
        found: &mut Found,
        events: &mut dyn Events,
    ) -> Result<bool> {
        let Some(features) = self.model_features(model, parameters, source, origin, events)? else {
            return Ok(false);
        };
        let Depths { single, test_single, centres, count, .. } = &self.depths;

        // Every depth by itself.
        let mut best: Option<usize> = None;
        for depth in single {
            let Some(fitted) = self.fit(&features, source, vec![*depth], *test_single, events)? else {
                return Ok(false);
            };
            let better = |best: &usize| fitted.validation_accuracy > found.fitted[*best].validation_accuracy;
            if best.as_ref().is_none_or(better) {
                best = Some(found.fitted.len());
            }
            found.fitted.push(fitted);
        }

        // Several depths side by side, around those that were named or around the best one.
        for centre in centres {
            let centre = centre.or(best.map(|best| found.fitted[best].depths[0])).unwrap_or(0);
            let window = window(centre, *count, model.transformer.config().layers)?;
            let Some(fitted) = self.fit(&features, source, window, true, events)? else { return Ok(false) };
            match best {
                // The best depth itself, tested now.
                Some(best) if *count == 1 => found.fitted[best] = fitted,
                _ => found.fitted.push(fitted),
            }
        }

        if source == Source::Trained && !self.settings.labels_per_class.is_empty() {
            return self.probe_few_labels(&features, found, events);
        }
        Ok(true)
    }

    /// Probes the pixels, from -1 to 1.
    fn probe_pixels(&self, pixels: &[ImageExamples; 2], found: &mut Found, events: &mut dyn Events) -> Result<bool> {
        let Some(features) = self.pixel_features(pixels, events)? else { return Ok(false) };
        let Some(fitted) = self.fit(&features, Source::RawPixels, vec![0], true, events)? else { return Ok(false) };
        found.fitted.push(FittedClassifier { depths: Vec::new(), ..fitted });
        Ok(true)
    }

    /// The whole protocol on some depths side by side. `None` if interrupted.
    fn fit(
        &self,
        features: &Features,
        source: Source,
        depths: Vec<usize>,
        test: bool,
        events: &mut dyn Events,
    ) -> Result<Option<FittedClassifier>> {
        let begun = Instant::now();
        let name = if source == Source::RawPixels { source.to_string() } else { format!("{source} depth {depths:?}") };
        events.fit_started(&name);
        let fitted = self.fit_timed(features, source, depths, test, events)?;
        let fitted = fitted.map(|fitted| FittedClassifier { seconds: begun.elapsed().as_secs_f64(), ..fitted });
        events.fit_ended(fitted.as_ref());
        Ok(fitted)
    }

    fn fit_timed(
        &self,
        features: &Features,
        source: Source,
        depths: Vec<usize>,
        test: bool,
        events: &mut dyn Events,
    ) -> Result<Option<FittedClassifier>> {
        let [train_labels, test_labels] = &features.labels;
        let rows = features.train.at(&depths)?;
        let all = Labelled { rows: &rows, labels: train_labels };

        // Choose the penalty or the learning rate on held-out images.
        let holdout = self.settings.holdout.unwrap_or(match self.settings.data.default_holdout() {
            0.0 => 0.1,
            fraction => fraction,
        });
        let (fitted, held) = split(train_labels.len(), holdout, self.settings.seed())?;
        let sweep = self.protocol.sweep(all, (&fitted, &held), &mut |step| events.fit_advanced(step))?;
        let Some(sweep) = sweep else { return Ok(None) };
        let mut result = FittedClassifier {
            source,
            features: depths.len() * features.train.header().width,
            depths,
            choice: sweep.best.choice,
            validation_accuracy: sweep.best.validation_accuracy,
            test_accuracy: None,
            ensemble_accuracy: None,
            fit: sweep.best.summary,
            tried: sweep.tried,
            seconds: 0.0,
        };
        if !test {
            return Ok(Some(result));
        }

        // Fit on all training images, and test; a BERT model's images under each mask.
        let start = Some(&sweep.classifier);
        let fit = self.protocol.fit(all, result.choice, start, &mut |step| events.fit_advanced(step))?;
        let Some(fit) = fit else { return Ok(None) };
        let mut votes = Vec::new();
        for masked in &features.test {
            votes.push(fit.classifier.predict(&masked.at(&result.depths)?)?);
        }
        result.test_accuracy = votes.first().map(|predicted| accuracy_of(predicted, test_labels));
        if votes.len() > 1 {
            result.ensemble_accuracy = Some(accuracy_of(&modal_classes(&votes, self.settings.seed()), test_labels));
        }
        result.fit = fit.summary;
        Ok(Some(result))
    }

    /// Few labels at the trained model's best depths.
    fn probe_few_labels(&self, features: &Features, found: &mut Found, events: &mut dyn Events) -> Result<bool> {
        let Some(depths) = best_trained(&found.fitted).map(|fitted| fitted.depths.clone()) else { return Ok(true) };
        let Some(test) = features.test.first() else { return Ok(true) };
        let (train, test) = (features.train.at(&depths)?, test.at(&depths)?);
        let all = Labelled { rows: &train, labels: &features.labels[0] };
        let test = Labelled { rows: &test, labels: &features.labels[1] };

        for per_class in &self.settings.labels_per_class {
            events.fit_started(&format!("{per_class} labels per class"));
            let (mut accuracies, mut converged) = (Vec::new(), 0);
            for trial in 0..self.settings.few_label_trials {
                let seed = self.settings.seed().wrapping_add(trial);
                let mut watch = |step: &_| events.fit_advanced(step);
                let Some((accuracy, summary)) = self.protocol.few_labels(all, test, *per_class, seed, &mut watch)?
                else {
                    events.fit_ended(None);
                    return Ok(false);
                };
                accuracies.push(accuracy);
                converged += usize::from(summary.converged);
            }
            events.fit_ended(None);

            let (mean, deviation) = mean_and_deviation(&accuracies);
            let (labels_per_class, depths) = (*per_class, depths.clone());
            found.few_labels.push(FewLabels { labels_per_class, depths, accuracies, mean, deviation, converged });
        }
        Ok(true)
    }

    /// The page.
    fn report(&self, found: &Found) -> ProbeReport {
        let mut facts = vec![
            ("Training images", self.images.train.describe()),
            ("Test images", self.images.test.describe()),
            ("Solver", self.settings.solver.describe()),
            ("Seed", self.settings.seed().to_string()),
            ("Device", self.protocol.device.describe()),
        ];
        if let Some(model) = &self.model {
            facts.insert(0, ("Model", describe_model(model.transformer.config())));
            let average = if self.settings.ema { ", the moving average of its weights" } else { "" };
            facts.insert(1, ("Checkpoint", format!("{}{average}", model.folder.display())));
        }
        if let Some(images) = self.settings.images {
            facts.push(("Images", format!("only the first {images} of each part")));
        }

        ProbeReport {
            title: format!("igpt-engine: {}", self.out.display()),
            facts,
            classes: self.protocol.classes,
            rows: found.fitted.iter().map(Into::into).collect(),
            few_labels: found.few_labels.clone(),
        }
    }
}

/// Bytes of features that are kept on the device between products: half of what is free.
pub(super) fn max_resident() -> usize {
    (available_memory().unwrap_or(4.0 * (1_u64 << 30) as f64) * 0.5) as usize
}

/// The class that most predictions of each image name.
fn modal_classes(votes: &[Vec<u16>], seed: u64) -> Vec<u16> {
    let images = votes.first().map_or(0, Vec::len);
    let of = |image: usize| votes.iter().map(|votes| votes[image]).collect::<Vec<u16>>();
    (0..images).map(|image| modal_class(&of(image), seed, image as u64).unwrap_or(0)).collect()
}
