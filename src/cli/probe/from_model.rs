//! `probe --checkpoint RUN`: features of a model at every depth, beside those of fresh weights and the pixels themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::ProbeCommand;
use super::args::SolverKind;
use super::depths::Depths;
use super::output::{self, FitBar, most_resident};
use crate::checkpoint::images::{check_fits, palette_for, resolution_of};
use crate::checkpoint::{self, MODEL_FILE};
use crate::cli::common::interrupt::stop_flag;
use crate::cli::common::output::{print_json, say, tell};
use crate::cli::eval::progress;
use crate::data::{self, DataSpec, Examples, ImageExamples, OpenOptions, Palette, Split};
use crate::device::Device;
use crate::device::Precision;
use crate::device::select::{Chosen, DeviceJob};
use crate::fs::atomic_file;
use crate::model::{MASK_RATE, Masking, Objective, Transformer, modal_class, parameter_specs};
use crate::plan::{Memory, Work, limits};
use crate::probe::{
    FeatureFile, Header, Labelled, ProbeError, Protocol, Shown, mean_and_deviation, pooled_features, share_right,
    split, window, write_features,
};
use crate::report::html::describe_model;
use crate::report::probe::{FewLabels, ProbeReport, Row, Source};
use crate::run::checkpoints;
use crate::run::folder::RunFolder;
use crate::tape::Parameters;

/// The job.
pub struct ImagesJob {
    /// All flags.
    pub command: ProbeCommand,
}

/// A trained model, where there is one.
struct Model<D: Device> {
    folder: PathBuf,
    transformer: Transformer,
    parameters: Parameters<D>,
}

/// Both parts of the data, as tokens or as pixels.
struct Data {
    train: Arc<dyn Examples>,
    test: Arc<dyn Examples>,
    /// The same images before they are coded, for raw pixels.
    pixels: Option<[ImageExamples; 2]>,
    /// Everything about them that changes the features.
    origin: String,
}

impl DeviceJob for ImagesJob {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        let command = &self.command;
        let stop = stop_flag()?;
        let model = command.checkpoint.as_deref().map(|path| load(&device, path)).transpose()?;
        let layers = model.as_ref().map_or(0, |model| model.transformer.config().layers);
        let depths = Depths::new(command, layers)?;
        let palette = palette_for(command.palette.as_deref(), model.as_ref().map(|model| &*model.folder))?;
        let data = open(command, model.as_ref(), &palette)?;
        let classes = classes(&data)?;
        let out = match (&command.out, &command.checkpoint) {
            (Some(out), _) => out.clone(),
            (None, Some(checkpoint)) => checkpoint.join("probe"),
            (None, None) => PathBuf::from("probe"),
        };
        std::fs::create_dir_all(&out)
            .with_context(|| format!("cannot make the folder {}; give another --out", out.display()))?;
        let protocol = Protocol {
            device: &device,
            classes,
            most_resident: most_resident(),
            solver: command.solver.solver(command.seed),
        };
        if command.solver.solver == SolverKind::Lbfgs {
            let logits = 32.0 * data.train.len().min(command.images.unwrap_or(usize::MAX)) as f64 * classes as f64;
            limits::check_machine("lbfgs on so many images and classes", logits, "use --solver sgd")?;
        }
        let precision = chosen.precision;
        let mut run =
            Probing { command, precision, stop, out: &out, protocol, data, rows: Vec::new(), few: Vec::new() };
        let finished = run.everything(model.as_ref(), &depths)?;
        run.present(model.as_ref(), finished)
    }
}

/// Loads the model of a checkpoint.
fn load<D: Device>(device: &D, path: &Path) -> Result<Model<D>> {
    let folder = checkpoints::resolve(path)?;
    let (config, parameters) = checkpoint::load_model(device, &folder)?;
    Ok(Model { folder, transformer: Transformer::new(config)?, parameters })
}

/// Opens the training images, all of them, and the test images; neither is augmented.
fn open<D: Device>(command: &ProbeCommand, model: Option<&Model<D>>, palette: &Arc<Palette>) -> Result<Data> {
    let resolution = match (model, command.resolution) {
        (Some(model), _) if command.data.is_tokens() => model.transformer.config().positions.isqrt() as u32,
        (Some(model), _) => resolution_of(model.transformer.config())? as u32,
        (None, Some(resolution)) => resolution,
        (None, None) => bail!("--raw-pixels without --checkpoint needs --resolution N"),
    };
    let test_data = command.test_data.clone().unwrap_or_else(|| command.data.clone());
    if command.data.is_tokens() && command.test_data.is_none() {
        bail!("token arrays have no test part; give one with --test-data tokens:FILE.npy,LABELS.npy");
    }
    let options = OpenOptions {
        resolution,
        filter: command.filter,
        skip_bad: command.skip_bad.unwrap_or_default(),
        augment: false,
        // What is held out is held out by the probe, from features.
        holdout: Some(0.0),
        seed: command.seed,
        progress: !command.json,
        ..OpenOptions::new(Arc::clone(palette))
    };
    let train: Arc<dyn Examples> = data::open(&command.data, Split::Train, &options)?.into();
    let test: Arc<dyn Examples> = data::open(&test_data, Split::Test, &options)?.into();
    if let Some(model) = model {
        let masks = command.mask_rate.is_some() || command.masks.is_some();
        if masks && model.transformer.config().objective() == Objective::Ar {
            bail!("--mask-rate and --masks are for BERT models, and this one is autoregressive; leave them out");
        }
        for examples in [&train, &test] {
            check_fits(model.transformer.config(), examples.as_ref())?;
        }
    }
    let pixels = if command.raw_pixels {
        let open = |spec: &DataSpec, split| -> Result<ImageExamples> {
            let (source, indices) = data::open_images(spec, split, &options)?;
            let transform = data::evaluation_transform(spec, &options)?;
            Ok(ImageExamples::new(source, indices, transform, Arc::clone(palette)))
        };
        Some([open(&command.data, Split::Train)?, open(&test_data, Split::Test)?])
    } else {
        None
    };
    let origin = format!(
        "{} tested on {test_data}, {resolution}x{resolution}, {:?}, palette {}",
        command.data,
        command.filter,
        palette.id()
    );
    Ok(Data { train, test, pixels, origin })
}

/// The number of classes, the same in both parts.
fn classes(data: &Data) -> Result<usize> {
    let (train, test) = (data.train.classes(), data.test.classes());
    if train == 0 || test == 0 {
        bail!(
            "the images have no labels; a probe needs their classes (tokens:FILE.npy,LABELS.npy, or folders of classes)"
        );
    }
    if data.train.class_names() != data.test.class_names() {
        bail!(
            "the training images have {train} classes and the test images {test} others; give data that belong together"
        );
    }
    Ok(train.max(test))
}

/// The class that most predictions of each image name.
fn modal_classes(votes: &[Vec<u16>], seed: u64) -> Vec<u16> {
    let images = votes.first().map_or(0, Vec::len);
    let of = |image: usize| votes.iter().map(|votes| votes[image]).collect::<Vec<u16>>();
    (0..images).map(|image| modal_class(&of(image), seed, image as u64).unwrap_or(0)).collect()
}

/// Features of a batch of images, by depth: from the number of its first image and the images' tokens.
type Read<'a> = &'a dyn Fn(u64, &[u16]) -> Result<Vec<Vec<f32>>, ProbeError>;

/// A probe under way.
struct Probing<'a, D: Device> {
    command: &'a ProbeCommand,
    precision: Precision,
    stop: &'static AtomicBool,
    out: &'a Path,
    protocol: Protocol<'a, D>,
    data: Data,
    rows: Vec<Row>,
    few: Vec<FewLabels>,
}

/// Features of both parts.
struct Files {
    train: FeatureFile,
    /// Of a BERT model, under several masks.
    test: Vec<FeatureFile>,
    /// Classes of the images.
    labels: [Vec<u16>; 2],
}

impl<D: Device> Probing<'_, D> {
    /// Probes all that was asked for; whether it came to the end.
    fn everything(&mut self, model: Option<&Model<D>>, depths: &Depths) -> Result<bool> {
        if let Some(model) = model {
            let hash = data::sha256(&model.folder.join(MODEL_FILE))?;
            let parameters = &model.parameters;
            let origin = format!("trained weights {hash}");
            if !self.model(model, parameters, Source::Trained, &origin, depths)? {
                return Ok(false);
            }
            if self.command.untrained {
                let config = model.transformer.config();
                let fresh = Parameters::init(self.protocol.device, parameter_specs(config), self.command.seed)?;
                let origin = format!("fresh weights of seed {}: {config:?}", self.command.seed);
                if !self.model(model, &fresh, Source::Untrained, &origin, depths)? {
                    return Ok(false);
                }
            }
        }
        match self.data.pixels.take() {
            Some(pixels) => self.pixels(&pixels),
            None => Ok(true),
        }
    }

    /// Probes a model's features.
    fn model(
        &mut self,
        model: &Model<D>,
        parameters: &Parameters<D>,
        source: Source,
        origin: &str,
        depths: &Depths,
    ) -> Result<bool> {
        let (transformer, device) = (&model.transformer, self.protocol.device);
        let config = transformer.config();
        let length = self.data.train.sequence_length();
        limits::check_device(
            device,
            &format!("showing {} images at a time to the model", self.command.batch),
            &Memory::of(config, Work::Forward, self.command.batch as f64 * length as f64, self.precision),
            "try a smaller --batch",
        )?;
        let masking = Masking { rate: self.command.mask_rate.unwrap_or(MASK_RATE), seed: self.command.seed };
        let read = |draw: u64, first: u64, tokens: &[u16]| {
            // In the order that the model reads pixels in, as is the mask.
            let sequences = transformer.arrange(tokens, length)?;
            let shown = match config.objective() {
                Objective::Ar => Shown::autoregressive(&sequences, length, transformer.sos()),
                Objective::Bert => {
                    let masked = masking.evaluation(draw, first, tokens.len() / length, length);
                    Shown::masked(&sequences, &transformer.arrange(&masked, length)?)
                }
            };
            pooled_features(device, transformer, parameters, &shown, length, &depths.read)
        };
        let (origin, draws) = match config.objective() {
            Objective::Ar => (origin.to_owned(), 1),
            Objective::Bert => (format!("{origin}, {masking:?}"), self.command.masks.unwrap_or(1)),
        };
        // Both parts have their images counted from 0, so their masks are told apart by the number of the draw.
        let train = |first: u64, tokens: &[u16]| read(0, first, tokens);
        let Some(train) = self.file(source, "train", &origin, &depths.read, config.width, &train)? else {
            return Ok(false);
        };
        let mut tests = Vec::new();
        for draw in 1..=draws {
            let name = if draw == 1 { "test".to_owned() } else { format!("test-mask-{draw}") };
            let test = |first: u64, tokens: &[u16]| read(draw, first, tokens);
            let Some(test) = self.file(source, &name, &origin, &depths.read, config.width, &test)? else {
                return Ok(false);
            };
            tests.push(test);
        }
        let labels = [train.labels(), tests.first().map(FeatureFile::labels).unwrap_or_default()];
        let files = Files { train, test: tests, labels };
        let mut best: Option<usize> = None;
        for depth in &depths.single {
            let Some(row) = self.row(&files, source, vec![*depth], depths.test_single)? else { return Ok(false) };
            let better = |best: &usize| row.validation_accuracy > self.rows[*best].validation_accuracy;
            if best.as_ref().is_none_or(better) {
                best = Some(self.rows.len());
            }
            self.rows.push(row);
        }
        for centre in &depths.centres {
            let centre = centre.or(best.map(|best| self.rows[best].depths[0])).unwrap_or(0);
            let window = window(centre, depths.count, config.layers)?;
            let Some(row) = self.row(&files, source, window, true)? else { return Ok(false) };
            match best {
                // The best depth itself, tested now.
                Some(best) if depths.count == 1 => self.rows[best] = row,
                _ => self.rows.push(row),
            }
        }
        if source == Source::Trained && !self.command.labels_per_class.is_empty() {
            return self.few_labels(&files);
        }
        Ok(true)
    }

    /// Probes the pixels, from -1 to 1.
    fn pixels(&mut self, [train, test]: &[ImageExamples; 2]) -> Result<bool> {
        let width = 3 * self.data.train.sequence_length();
        let rows = |examples: &ImageExamples, first: u64, count: usize| -> Result<Vec<Vec<f32>>, ProbeError> {
            let mut values = Vec::with_capacity(count * width);
            for index in (first..).take(count) {
                let image = examples.image(index as usize, None)?;
                values.extend(image.as_raw().iter().map(|value| f32::from(*value) / 127.5 - 1.0));
            }
            Ok(vec![values])
        };
        let length = self.data.train.sequence_length();
        let read_train = |first: u64, tokens: &[u16]| rows(train, first, tokens.len() / length);
        let read_test = |first: u64, tokens: &[u16]| rows(test, first, tokens.len() / length);
        let source = Source::RawPixels;
        let Some(train) = self.file(source, "train", "pixels", &[0], width, &read_train)? else { return Ok(false) };
        let Some(test) = self.file(source, "test", "pixels", &[0], width, &read_test)? else { return Ok(false) };
        let labels = [train.labels(), test.labels()];
        let files = Files { train, test: vec![test], labels };
        let Some(row) = self.row(&files, Source::RawPixels, vec![0], true)? else { return Ok(false) };
        self.rows.push(Row { depths: Vec::new(), ..row });
        Ok(true)
    }

    /// Writes, or finds, the features of one part of the data.
    fn file(
        &self,
        source: Source,
        name: &str,
        origin: &str,
        depths: &[usize],
        width: usize,
        read: Read<'_>,
    ) -> Result<Option<FeatureFile>> {
        let examples = if name == "train" { &self.data.train } else { &self.data.test };
        let images = examples.len().min(self.command.images.unwrap_or(usize::MAX));
        let origin = format!("{origin}; {name} of {}", self.data.origin);
        let header = Header::new(images, depths.to_vec(), width, self.protocol.classes, origin);
        let path = self.feature_path(source, name);
        let bar = progress(images as u64, self.command.json);
        let file = write_features(&path, header, examples, self.command.batch, read, |done| {
            bar.set_position(done as u64);
            !self.stop.load(Ordering::Relaxed)
        });
        bar.finish_and_clear();
        let file = file?;
        if file.is_none() && !self.command.json {
            tell(format_args!("{}: what is there is gone on with by the same command", path.display()));
        }
        Ok(file)
    }

    fn feature_path(&self, source: Source, part: &str) -> PathBuf {
        self.out.join(format!("{}-{part}.features", source.to_string().replace(' ', "-")))
    }

    /// The whole protocol on some depths side by side. `None` if interrupted.
    fn row(&self, files: &Files, source: Source, depths: Vec<usize>, test: bool) -> Result<Option<Row>> {
        let begun = Instant::now();
        let train = files.train.at(&depths)?;
        let all = Labelled { rows: &train, labels: &files.labels[0] };
        let holdout = self.command.holdout.unwrap_or(match self.command.data.default_holdout() {
            0.0 => 0.1,
            share => share,
        });
        let (fitted, held) = split(files.labels[0].len(), holdout, self.command.seed)?;
        let name = if source == Source::RawPixels { source.to_string() } else { format!("{source} depth {depths:?}") };
        let mut bar = FitBar::new(name, self.command.json, self.stop);
        let sweep = self.protocol.sweep(all, (&fitted, &held), &mut |step| bar.step(step))?;
        let Some(sweep) = sweep else { return Ok(None) };
        let mut row = Row {
            source,
            features: depths.len() * files.train.header().width,
            depths,
            choice: sweep.best.choice,
            validation_accuracy: sweep.best.validation_accuracy,
            test_accuracy: None,
            ensemble_accuracy: None,
            fit: sweep.best.summary,
            tried: sweep.tried,
            seconds: 0.0,
        };
        if test {
            let start = Some(&sweep.classifier);
            let fit = self.protocol.fit(all, row.choice, start, &mut |step| bar.step(step))?;
            let Some(fit) = fit else { return Ok(None) };
            let mut votes = Vec::new();
            for masked in &files.test {
                votes.push(fit.classifier.predict(&masked.at(&row.depths)?));
            }
            let labels = &files.labels[1];
            row.test_accuracy = votes.first().map(|predicted| share_right(predicted, labels));
            if votes.len() > 1 {
                row.ensemble_accuracy = Some(share_right(&modal_classes(&votes, self.command.seed), labels));
            }
            row.fit = fit.summary;
        }
        drop(bar);
        row.seconds = begun.elapsed().as_secs_f64();
        if !self.command.json {
            tell(format_args!("{}", output::line(&row)));
        }
        Ok(Some(row))
    }

    /// Few labels at the trained model's best depths.
    fn few_labels(&mut self, files: &Files) -> Result<bool> {
        let Some(best) = self.report(None).best().map(|row| row.depths.clone()) else { return Ok(true) };
        let Some(test) = files.test.first() else { return Ok(true) };
        let (train, test) = (files.train.at(&best)?, test.at(&best)?);
        let all = Labelled { rows: &train, labels: &files.labels[0] };
        let test = Labelled { rows: &test, labels: &files.labels[1] };
        for per_class in &self.command.labels_per_class {
            let mut bar = FitBar::new(format!("{per_class} labels a class"), self.command.json, self.stop);
            let (mut accuracies, mut converged) = (Vec::new(), 0);
            for draw in 0..self.command.seeds {
                let seed = self.command.seed.wrapping_add(draw);
                let result = self.protocol.few_labels(all, test, *per_class, seed, &mut |step| bar.step(step))?;
                let Some((accuracy, summary)) = result else { return Ok(false) };
                accuracies.push(accuracy);
                converged += usize::from(summary.converged);
            }
            let (mean, deviation) = mean_and_deviation(&accuracies);
            let depths = best.clone();
            self.few.push(FewLabels { labels_per_class: *per_class, depths, accuracies, mean, deviation, converged });
        }
        Ok(true)
    }

    fn report(&self, model: Option<&Model<D>>) -> ProbeReport {
        let mut facts = vec![
            ("Training images", self.data.train.describe()),
            ("Test images", self.data.test.describe()),
            ("Solver", self.command.solver.describe()),
            ("Seed", self.command.seed.to_string()),
            ("Device", self.protocol.device.describe()),
        ];
        if let Some(model) = model {
            facts.insert(0, ("Model", describe_model(model.transformer.config())));
            facts.insert(1, ("Checkpoint", model.folder.display().to_string()));
        }
        if let Some(images) = self.command.images {
            facts.push(("Images", format!("only the first {images} of each part")));
        }
        ProbeReport {
            title: format!("igpt-engine: {}", self.out.display()),
            facts,
            classes: self.protocol.classes,
            rows: self.rows.clone(),
            few_labels: self.few.clone(),
        }
    }

    /// Writes probe.json and report.html, and says what there is.
    fn present(&self, model: Option<&Model<D>>, finished: bool) -> Result<()> {
        let report = self.report(model);
        let (html, json) = (self.out.join(RunFolder::REPORT), self.out.join(RunFolder::PROBE));
        let value = json!({
            "rows": report.rows,
            "best": report.best(),
            "few_labels": report.few_labels,
            "classes": report.classes,
            "data": self.command.data.to_string(),
            "train_images": self.data.train.len().min(self.command.images.unwrap_or(usize::MAX)),
            "test_images": self.data.test.len().min(self.command.images.unwrap_or(usize::MAX)),
            "checkpoint": model.map(|model| &model.folder),
            "solver": self.command.solver.describe(),
            "seed": self.command.seed,
            "finished": finished,
            "report": html,
        });
        for (path, text) in [(&html, report.render()), (&json, format!("{value:#}\n"))] {
            atomic_file::write_file(path, |file| file.write_all(text.as_bytes()))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if finished && self.command.discard_features {
            let masked = (2..=self.command.masks.unwrap_or(1)).map(|draw| format!("test-mask-{draw}"));
            let parts: Vec<String> = ["train", "test"].map(str::to_owned).into_iter().chain(masked).collect();
            for source in [Source::Trained, Source::Untrained, Source::RawPixels] {
                for part in &parts {
                    // What was never written need not be removed.
                    let _ = std::fs::remove_file(self.feature_path(source, part));
                }
            }
        }
        if self.command.json {
            return print_json(&value);
        }
        output::table(&report.rows, report.best())?;
        output::few_labels(&report.few_labels)?;
        if !finished {
            say(format_args!("stopped early: the same command goes on with the features that are there"))?;
        }
        say(format_args!("report   {}", html.display()))?;
        say(format_args!("numbers  {}", json.display()))
    }
}
