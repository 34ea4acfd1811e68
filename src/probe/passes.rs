//! The passes over the images of a session, which leave features in files.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::Result;
use super::events::Events;
use super::features::extract::{Shown, pooled_features, write_features};
use super::features::feature_file::FeatureFile;
use super::features::header::Header;
use super::inputs::Model;
use super::session::{Features, Session};
use crate::data::{Examples, ImageExamples};
use crate::device::Device;
use crate::model::{MASK_RATE, Masking, Objective};
use crate::plan::{Load, Work, limits};
use crate::report::probe::Source;
use crate::tape::Parameters;

/// Features of a batch of images, by depth: from the number of its first image and the images' tokens.
type ReadFeatures<'a> = &'a dyn Fn(u64, &[u16]) -> Result<Vec<Vec<f32>>>;

impl<D: Device> Session<'_, D> {
    /// Features of a model on both parts of the data. `None` if interrupted.
    pub(super) fn model_features(
        &self,
        model: &Model<D>,
        parameters: &Parameters<D>,
        source: Source,
        origin: &str,
        events: &mut dyn Events,
    ) -> Result<Option<Features>> {
        let (transformer, device, settings) = (&model.transformer, self.protocol.device, &self.settings);
        let config = transformer.config();
        let length = self.images.train.sequence_length();
        let (work, images, precision) = (Work::Forward, settings.batch, settings.precision);
        let load = Load::new(config, work, images, length, precision);
        limits::check_device(
            device,
            &format!("showing {} images at a time to {}", settings.batch, limits::model_name(config)),
            &limits::memory_on(device, load),
            "try a smaller --batch",
        )?;

        // Tokens [images, length] in raster order -> features by depth, [images, d] each.
        let masking = Masking { rate: settings.mask_rate.unwrap_or(MASK_RATE), seed: settings.seed() };
        let read = |mask: u64, first: u64, tokens: &[u16]| {
            // In the order that the model reads pixels in, as is the mask.
            let sequences = transformer.arrange(tokens, length)?;
            let shown = match config.objective() {
                Objective::Ar => Shown::autoregressive(&sequences, length, transformer.sos()),
                Objective::Bert => {
                    let masked = masking.evaluation(mask, first, tokens.len() / length, length);
                    Shown::masked(&sequences, &transformer.arrange(&masked, length)?)
                }
            };
            pooled_features(device, transformer, parameters, &shown, length, &self.depths.read)
        };
        let (origin, masks) = match config.objective() {
            Objective::Ar => (origin.to_owned(), 1),
            Objective::Bert => (format!("{origin}, {masking:?}"), settings.masks.unwrap_or(1)),
        };

        // Both parts have their images counted from 0, so their masks are told apart by the number of the mask.
        let header = |part: &str| self.header(part, &origin, &self.depths.read, config.width);
        let read_train = |first: u64, tokens: &[u16]| read(0, first, tokens);
        let Some(train) = self.features(source, "train", header("train"), &read_train, events)? else {
            return Ok(None);
        };
        let mut test = Vec::new();
        for mask in 1..=masks {
            let part = if mask == 1 { "test".to_owned() } else { format!("test-mask-{mask}") };
            let read_test = |first: u64, tokens: &[u16]| read(mask, first, tokens);
            let Some(file) = self.features(source, &part, header(&part), &read_test, events)? else {
                return Ok(None);
            };
            test.push(file);
        }
        let labels = [train.labels(), test.first().map(FeatureFile::labels).unwrap_or_default()];
        Ok(Some(Features { train, test, labels }))
    }

    /// The pixels of both parts of the data as features, from -1 to 1. `None` if interrupted.
    pub(super) fn pixel_features(
        &self,
        [train, test]: &[ImageExamples; 2],
        events: &mut dyn Events,
    ) -> Result<Option<Features>> {
        let length = self.images.train.sequence_length();
        let width = 3 * length;
        let read = |examples: &ImageExamples, first: u64, count: usize| -> Result<Vec<Vec<f32>>> {
            let mut values = Vec::with_capacity(count * width);
            for index in (first..).take(count) {
                let image = examples.image(index as usize, None)?;
                values.extend(image.as_raw().iter().map(|value| f32::from(*value) / 127.5 - 1.0));
            }
            Ok(vec![values])
        };

        let source = Source::RawPixels;
        let header = |part| self.header(part, "pixels", &[0], width);
        let read_train = |first: u64, tokens: &[u16]| read(train, first, tokens.len() / length);
        let read_test = |first: u64, tokens: &[u16]| read(test, first, tokens.len() / length);
        let Some(train) = self.features(source, "train", header("train"), &read_train, events)? else {
            return Ok(None);
        };
        let Some(test) = self.features(source, "test", header("test"), &read_test, events)? else {
            return Ok(None);
        };

        let labels = [train.labels(), test.labels()];
        Ok(Some(Features { train, test: vec![test], labels }))
    }

    /// What the file of features of one part of the data holds: `width` features per depth.
    fn header(&self, part: &str, origin: &str, depths: &[usize], width: usize) -> Header {
        let images = self.settings.images_of(self.examples(part).len());
        let origin = format!("{origin}; {part} of {}", self.images.origin);
        Header::new(images, depths.to_vec(), width, self.protocol.classes, origin)
    }

    fn examples(&self, part: &str) -> &Arc<dyn Examples> {
        if part == "train" { &self.images.train } else { &self.images.test }
    }

    /// Writes, or finds, the features of one part of the data. `None` if interrupted.
    fn features(
        &self,
        source: Source,
        part: &str,
        header: Header,
        read: ReadFeatures<'_>,
        events: &mut dyn Events,
    ) -> Result<Option<FeatureFile>> {
        let path = self.feature_path(source, part);
        events.pass_started(header.images);
        let file = write_features(&path, header, self.examples(part), self.settings.batch, read, |done| {
            events.pass_advanced(done)
        })?;
        events.pass_ended(&path, file.is_some());
        Ok(file)
    }

    fn feature_path(&self, source: Source, part: &str) -> PathBuf {
        self.out.join(format!("{}-{part}.features", source.to_string().replace(' ', "-")))
    }

    pub(super) fn discard_features(&self) {
        let masked = (2..=self.settings.masks.unwrap_or(1)).map(|mask| format!("test-mask-{mask}"));
        let parts: Vec<String> = ["train", "test"].map(str::to_owned).into_iter().chain(masked).collect();
        for source in [Source::Trained, Source::Untrained, Source::RawPixels] {
            for part in &parts {
                // What was never written need not be removed.
                let _ = std::fs::remove_file(self.feature_path(source, part));
            }
        }
    }
}
