//! A run folder that disappears while its run trains: noticed, and made again whole.

use std::fs;

use super::folder::{RunFolder, RunFolderError};
use super::run_log::RunLog;
use crate::fs::atomic_file;

/// Looks whether the folder is still what the run made, before anything is written into it. What has been removed is
/// made again: the settings `config`, the contents of `log` so far. Returns what a person should know then.
///
/// # Errors
/// [`RunFolderError::Replaced`] and [`RunFolderError::Busy`] where another run has taken the place; what the operating
/// system refuses.
pub fn restore(folder: &mut RunFolder, config: &str, log: &mut RunLog) -> Result<Option<String>, RunFolderError> {
    let is_ours = folder.is_locked();
    let settings = match fs::read_to_string(folder.config()) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(RunFolderError::Io { action: "read", path: folder.config(), source }),
    };
    if !is_ours && settings.as_ref().is_some_and(|found| found != config) {
        return Err(RunFolderError::Replaced { path: folder.root().to_owned() });
    }

    // Folders first, then what lies in them.
    let was_gone = !folder.root().exists();
    folder.make(is_ours)?;
    let mut lacked = Vec::new();
    if settings.is_none() {
        lacked.push(RunFolder::CONFIG);
        let path = folder.config();
        atomic_file::write_file(&path, |file| file.write_all(config.as_bytes()))
            .map_err(|source| RunFolderError::Io { action: "write", path, source })?;
    }
    lacked.extend(log.put_back()?);

    let root = folder.root().display();
    Ok(match lacked.as_slice() {
        [] => None,
        _ if was_gone => Some(format!(
            "note: {root} was removed or moved while the run was training; it is made again, with {}. Earlier checkpoints \
             and samples are not in it",
            lacked.join(" and ")
        )),
        _ => Some(format!(
            "note: {} of {root} was removed while the run was training; it is written again",
            lacked.join(" and ")
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::metrics::{Record, TrainRecord};
    use crate::run::metrics_reader::MetricsReader;

    const CONFIG: &str = "steps = 3\n";

    /// A run in a folder of its own, with settings and two lines of metrics.
    fn run(root: &std::path::Path) -> (RunFolder, RunLog) {
        let folder = RunFolder::create(root).unwrap();
        fs::write(folder.config(), CONFIG).unwrap();
        let mut log = RunLog::resume(&folder, 0, true).unwrap();
        [1, 2]
            .into_iter()
            .for_each(|step| log.append(&Record::Train(TrainRecord { step, ..TrainRecord::default() })).unwrap());
        (folder, log)
    }

    #[test]
    fn what_is_there_stays_and_what_was_removed_is_made_again() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("run");
        let (mut folder, mut log) = run(&root);
        assert_eq!(restore(&mut folder, CONFIG, &mut log).unwrap(), None);

        // One file, then everything.
        fs::remove_file(folder.metrics()).unwrap();
        let told = restore(&mut folder, CONFIG, &mut log).unwrap().unwrap();
        assert!(told.contains("metrics.jsonl of") && !told.contains("config.toml"), "{told}");
        fs::remove_dir_all(&root).unwrap();
        let told = restore(&mut folder, CONFIG, &mut log).unwrap().unwrap();
        assert!(told.contains("made again, with config.toml and metrics.jsonl and TensorBoard's events"), "{told}");
        assert_eq!(restore(&mut folder, CONFIG, &mut log).unwrap(), None);

        // The log goes on in its new file, and the folder is locked as before.
        log.append(&Record::Train(TrainRecord { step: 3, ..TrainRecord::default() })).unwrap();
        let steps: Vec<_> = MetricsReader::open(&folder.metrics()).unwrap().map(|line| line.unwrap().step()).collect();
        assert_eq!(steps, [1, 2, 3]);
        assert_eq!(fs::read_to_string(folder.config()).unwrap(), CONFIG);
        assert!(matches!(RunFolder::open(&root), Err(RunFolderError::Busy { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn another_run_in_its_place_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("run");
        let (mut folder, mut log) = run(&root);
        fs::rename(&root, place.path().join("moved")).unwrap();

        // One that is training, and one that has ended.
        let (other, _) = run(&root);
        assert!(matches!(restore(&mut folder, CONFIG, &mut log), Err(RunFolderError::Busy { .. })));
        fs::write(other.config(), "steps = 4\n").unwrap();
        drop(other);
        assert!(matches!(restore(&mut folder, CONFIG, &mut log), Err(RunFolderError::Replaced { .. })));
        assert_eq!(fs::read_to_string(folder.config()).unwrap(), "steps = 4\n");
    }
}
