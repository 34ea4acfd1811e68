//! Which images a run was trained on: `images.json` in its folder, and what decides them in its `config.toml`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::checkpoints;
use super::folder::{RunFolder, RunFolderError};
use crate::checkpoint::images::{ImageSelection, ModelImages};
use crate::data::{Alpha, DataSpec, Filter, Fingerprint, Split};
use crate::fs::atomic_file;

/// `images.json`: what the run's data held when it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagesRecord {
    /// The data set, as it was given.
    pub data: String,
    /// What it held.
    pub fingerprint: Fingerprint,
    /// SHA-256 of the palette.
    pub palette: String,
}

/// How a run's data compares with what they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The same names, sizes, labels, and times or contents.
    None,
    /// Files were written anew, or copied.
    Times,
    /// Other images or labels.
    Contents,
}

impl ImagesRecord {
    /// Reads the record of the run in `root`; `None` where it has none, as runs of earlier versions.
    ///
    /// # Errors
    /// A file that cannot be read, or is no such record.
    pub fn read(root: &Path) -> Result<Option<Self>, RunFolderError> {
        let path = root.join(RunFolder::IMAGES);
        let failed = |source| RunFolderError::Io { action: "read", path: path.clone(), source };
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
            Ok(text) => {
                let damaged = |error| io::Error::new(ErrorKind::InvalidData, format!("the file is damaged: {error}"));
                serde_json::from_slice(&text).map(Some).map_err(|error| failed(damaged(error)))
            }
        }
    }

    /// Writes it into the run's folder.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, root: &Path) -> Result<(), RunFolderError> {
        let path = root.join(RunFolder::IMAGES);
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from);
        let written = text.and_then(|text| atomic_file::write_file(&path, |file| writeln!(file, "{text}")));
        written.map_err(|source| RunFolderError::Io { action: "write", path, source })
    }

    /// What has changed since it was written.
    pub fn change(&self, now: &Fingerprint) -> Change {
        match &self.fingerprint {
            then if then.contents != now.contents || then.count != now.count => Change::Contents,
            then if then.times != now.times => Change::Times,
            _ => Change::None,
        }
    }
}

/// What decided the images that a checkpoint's model was trained on.
#[derive(Clone, Debug)]
pub struct TrainedOn {
    /// The run's folder.
    pub root: PathBuf,
    /// Its data set.
    pub data: DataSpec,
    /// Seed of the held-out part.
    pub seed: u64,
    /// The held-out part, where it was given.
    pub holdout: Option<f64>,
    /// Filter of the downsampling.
    pub filter: Filter,
    /// What became of the alpha of image files.
    pub alpha: Alpha,
    record: Option<ImagesRecord>,
}

/// The keys of `config.toml` that decide the images.
#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    data: DataSpec,
    #[serde(default)]
    seed: u64,
    holdout: Option<f64>,
    #[serde(default)]
    filter: Filter,
    #[serde(default)]
    alpha: Alpha,
}

impl TrainedOn {
    /// Of what `--checkpoint` names: a run, or a checkpoint within one. `None` for a folder that no run left.
    ///
    /// # Errors
    /// A `config.toml` or record that cannot be read.
    pub fn of(checkpoint: &Path) -> Result<Option<Self>, RunFolderError> {
        // RUN, RUN/best, RUN/checkpoints/STEP; through links as well.
        let whole = fs::canonicalize(checkpoint).unwrap_or_else(|_| checkpoint.to_owned());
        let is_run = |root: &&Path| {
            root.join(RunFolder::CONFIG).is_file()
                && [checkpoints::CHECKPOINTS, checkpoints::BEST].iter().any(|part| root.join(part).is_dir())
        };
        let Some(root) = whole.ancestors().take(3).find(is_run) else { return Ok(None) };

        let path = root.join(RunFolder::CONFIG);
        let failed = |source| RunFolderError::Io { action: "read", path: path.clone(), source };
        let text = fs::read_to_string(&path).map_err(failed)?;
        let keys: Keys = toml::from_str(&text)
            .map_err(|error| failed(io::Error::new(ErrorKind::InvalidData, error.message().to_owned())))?;
        let Keys { data, seed, holdout, filter, alpha } = keys;
        let record = ImagesRecord::read(root)?;
        Ok(Some(Self { root: root.to_owned(), data, seed, holdout, filter, alpha, record }))
    }

    /// `selection`, with what it leaves open as the run had it. The held-out part is the run's where the images are.
    pub fn complete(&self, selection: &ImageSelection) -> ImageSelection {
        let data = selection.data.as_ref().unwrap_or(&self.data);
        let same = data.is_same_place(&self.data);
        ImageSelection {
            data: Some(data.clone()),
            filter: selection.filter.or(Some(self.filter)),
            alpha: selection.alpha.or(Some(self.alpha)),
            seed: selection.seed.or(same.then_some(self.seed)),
            holdout: selection.holdout.or(self.holdout.filter(|_| same)),
            ..selection.clone()
        }
    }

    /// That some of the images were trained on, where they were; `selection` is what [`TrainedOn::complete`] returned.
    ///
    /// # Errors
    /// An image that cannot be read.
    pub fn note(&self, selection: &ImageSelection, opened: &ModelImages) -> crate::data::Result<Option<String>> {
        // The test part of images is another one than what was trained on; of tokens there is one part alone.
        let data = selection.data.as_ref().unwrap_or(&self.data);
        let tokens = data.is_tokens();
        if selection.split == Split::Test && !tokens {
            return Ok(None);
        }
        let same = match &self.record {
            Some(record) => record.fingerprint.contents == opened.examples.fingerprint()?.contents,
            None => data.is_same_place(&self.data),
        };
        if !same {
            return Ok(None);
        }

        let what = &opened.description;
        if tokens || selection.split == Split::Train {
            return Ok(Some(format!(
                "the model was trained on these images, {what}: their score says little of new ones"
            )));
        }
        let of_run = (Some(self.seed), self.holdout.unwrap_or(self.data.default_holdout()));
        let here = (selection.seed, selection.holdout.unwrap_or(data.default_holdout()));
        Ok((of_run != here).then(|| {
            format!(
                "other images are held out here (seed {}, {} of them) than in the run (seed {}, {}): the model was trained on \
                 most of these; leave out --seed for the run's own",
                here.0.unwrap_or(0),
                here.1,
                self.seed,
                of_run.1
            )
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(contents: &str, times: &str) -> ImagesRecord {
        let fingerprint = Fingerprint { count: 3, contents: contents.into(), times: times.into() };
        ImagesRecord { data: "images:d".into(), fingerprint, palette: "p".into() }
    }

    #[test]
    fn a_record_is_read_back_and_tells_other_contents_from_other_times() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(ImagesRecord::read(folder.path()).unwrap(), None);
        let first = record("a", "1");
        first.write(folder.path()).unwrap();
        let read = ImagesRecord::read(folder.path()).unwrap().unwrap();
        assert_eq!(read, first);

        assert_eq!(read.change(&first.fingerprint), Change::None);
        assert_eq!(read.change(&record("a", "2").fingerprint), Change::Times);
        assert_eq!(read.change(&record("b", "1").fingerprint), Change::Contents);
        assert_eq!(read.change(&Fingerprint { count: 4, ..first.fingerprint }), Change::Contents);

        fs::write(folder.path().join(RunFolder::IMAGES), "{").unwrap();
        let text = ImagesRecord::read(folder.path()).unwrap_err().to_string();
        assert!(text.contains(RunFolder::IMAGES) && text.contains("damaged"), "{text}");
    }

    #[test]
    fn a_run_is_found_from_its_checkpoints_and_fills_what_is_left_open() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("r");
        let step = run.join("checkpoints/step-00000001");
        fs::create_dir_all(&step).unwrap();
        assert!(TrainedOn::of(&run).unwrap().is_none());
        fs::write(
            run.join(RunFolder::CONFIG),
            "data = 'sample'\nseed = 7\nholdout = 0.2\nfilter = 'lanczos'\nalpha = 'white'\nlr = 1.0",
        )
        .unwrap();

        for path in [&run, &step] {
            let trained = TrainedOn::of(path).unwrap().unwrap();
            let open = ImageSelection::test_images(DataSpec::Sample);
            let filled = trained.complete(&open);
            assert_eq!((filled.seed, filled.holdout, filled.filter), (Some(7), Some(0.2), Some(trained.filter)));
            assert_ne!(trained.filter, Filter::default());
            assert_eq!(filled.alpha, Some(Alpha::White));

            let (filter, alpha) = (Some(Filter::default()), Some(Alpha::Drop));
            let given = trained.complete(&ImageSelection { seed: Some(1), filter, alpha, ..open });
            assert_eq!((given.seed, given.filter, given.alpha), (Some(1), filter, alpha));
            let other = trained.complete(&ImageSelection::test_images(DataSpec::Images("elsewhere".into())));
            assert_eq!((other.seed, other.holdout, other.filter), (None, None, Some(trained.filter)));
        }
    }
}
