//! How several ranks start one run: rank 0 makes the folder, and all compare what they have.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use super::settings::Settings;
use super::settings_error::SettingsError;
use super::together::Together;
use super::{TrainError, setup};
use crate::checkpoint::Progress;
use crate::device::Device;
use crate::device::select::DeviceKind;
use crate::fs::atomic_dir;
use crate::run::folder::RunFolder;
use crate::run::images::ImagesRecord;

impl Settings {
    /// The level of ZeRO of a run on `ranks` ranks. One has nobody to share with; of several each has its parts of the optimiser unless
    /// the settings say otherwise, for that takes less memory and no more traffic.
    pub(super) fn zero_of(&self, ranks: usize) -> u8 {
        if ranks == 1 { 0 } else { self.zero.unwrap_or(1) }
    }

    /// Refuses ranks that cannot share a step evenly.
    pub(super) fn check_ranks(&self, ranks: usize) -> Result<(), SettingsError> {
        if self.accumulate.is_multiple_of(ranks) {
            return Ok(());
        }
        let (batch, accumulate) = (self.batch, self.accumulate);
        let allowed: Vec<String> =
            (1..=accumulate).filter(|ranks| accumulate.is_multiple_of(*ranks)).map(|ranks| ranks.to_string()).collect();
        Err(SettingsError::new(format!(
            "{ranks} ranks cannot share a step of {} images evenly: it has {accumulate} micro-batches of --batch {batch}. Ranks that \
             can: {}. Or give --global-batch as a multiple of {} or a smaller --batch",
            batch * accumulate,
            allowed.join(", "),
            batch * ranks
        )))
    }
}

/// The run's folder, which rank 0 makes or opens and which the others learn of; they get none.
pub(super) fn folder<D: Device>(
    device: &D,
    together: &Together<D>,
    settings: &mut Settings,
    resume: bool,
) -> Result<Option<RunFolder>, TrainError> {
    if together.size() == 1 {
        let folder = setup::run_folder(settings, resume)?;
        folder.root().clone_into(&mut settings.out);
        return Ok(Some(folder));
    }

    // Made by rank 0; where that fails, all end.
    let mut folder = None;
    together.led(device, "the making of the run's folder", || {
        let made = setup::run_folder(settings, resume)?;
        let told = made.root().join(RunFolder::RANKS);
        let _ = atomic_dir::remove_folder(&told);
        std::fs::create_dir(&told).map_err(|source| TrainError::Write { path: told, source })?;
        folder = Some(made);
        Ok([])
    })?;

    // Its place, wherever it is relative to the process.
    let root = folder.as_ref().map(|folder| std::path::absolute(folder.root()));
    let root = root.transpose().map_err(|source| TrainError::Read { path: settings.out.clone(), source })?;
    let told = together.tell_text(device, root.as_deref().and_then(Path::to_str).unwrap_or_default())?;
    together.settle(&Path::new(&told).join(RunFolder::RANKS));
    match &folder {
        Some(folder) => folder.root().clone_into(&mut settings.out),
        None => settings.out = told.into(),
    }
    Ok(folder)
}

/// What must be the same on every rank before the first step.
pub(super) fn facts(
    settings: &Settings,
    images: &ImagesRecord,
    weights: u64,
    progress: Progress,
) -> Result<[(&'static str, u64); 5], TrainError> {
    let of = |thing: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        thing(&mut hasher);
        hasher.finish()
    };

    // Settings, but for those that each rank has for itself.
    let common =
        Settings { out: "".into(), device: DeviceKind::Auto, threads: None, workers: None, ..settings.clone() };
    let text = common.to_toml()?;

    Ok([
        ("build of the program", of(&|hasher| env!("CARGO_PKG_VERSION").hash(hasher))),
        ("configuration", of(&|hasher| text.hash(hasher))),
        (
            "list of images",
            of(&|hasher| (&images.fingerprint.contents, images.fingerprint.count, &images.palette).hash(hasher)),
        ),
        ("number of steps made", progress.step),
        ("state of the weights", weights),
    ])
}
