//! Writing folders so that a reader, now or after a power cut, finds the old or the new whole and never a mixture.
//!
//! A folder is written under a temporary name in the same parent, synced to disk, and renamed. A folder that
//! replaces another needs two renames; a kill between them leaves the old one under `NAME.old-NUMBER`, and
//! [`clean_leftovers`] puts it back. A link to a folder stays, and what it leads to is replaced.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::error::{FsError, Result, refusal};
use super::place::{parent_of, real_folder, sync_folder, sync_parent};
use super::temporary::{Leftovers, Temporary, clean, entries, old_name, open_folder, probe, remove};
use super::unfinished;

/// Writes the folder `path` through `fill`, which is given an empty folder to write flat files into; whatever was at
/// `path` stays intact until they are safe on disk, and for good if anything fails.
///
/// # Errors
/// [`FsError`], and those of `fill`.
pub fn write_folder<E: From<FsError>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let real = real_folder(path).map_err(FsError::io("write", path))?;
    let parent = parent_of(&real);
    fs::create_dir_all(parent).map_err(FsError::io("create the folder", parent))?;
    clean(parent, Leftovers::Of(&real))?;

    let scratch = Temporary::folder(&real).map_err(FsError::io("write", path))?;
    fill(scratch.path())?;
    sync_contents(scratch.path())?;
    swap_in(scratch.path(), &real)?;
    Ok(sync_parent(&real).map_err(FsError::io("sync", path))?)
}

/// Finds out, before the work, whether [`write_folder`] can write `path`.
///
/// # Errors
/// [`FsError`]: a file in its place or on the way to it, no permission, a folder that something is mounted on.
pub fn check_replaceable(path: &Path) -> Result<()> {
    let check = || {
        let real = real_folder(path)?;
        if real.exists() && !real.is_dir() {
            return Err(refusal(ErrorKind::NotADirectory, "it is no folder; name another"));
        }
        if is_mounted(&real) {
            let problem = "a disk is mounted there, which cannot be replaced; name a folder in it";
            return Err(refusal(ErrorKind::ResourceBusy, problem));
        }
        check_within(parent_of(&real))
    };
    check().map_err(FsError::io("write", path))
}

/// Finds out, before the work, whether the folder `path` can be made, or if it is there, whether files can be put into it.
///
/// # Errors
/// [`FsError`]: a file in its place or on the way to it, no permission.
pub fn check_folder(path: &Path) -> Result<()> {
    let check = || check_within(&real_folder(path)?);
    check().map_err(FsError::io("write to the folder", path))
}

/// Whether something can be made in `folder`, or in the one of its ancestors that is there.
fn check_within(folder: &Path) -> io::Result<()> {
    let there =
        folder.ancestors().find(|folder| !folder.as_os_str().is_empty() && fs::symlink_metadata(folder).is_ok());
    let there = there.unwrap_or(Path::new("."));
    if !there.is_dir() {
        let problem = format!("{} is no folder; name another place", there.display());
        return Err(refusal(ErrorKind::NotADirectory, problem));
    }
    probe(&there.join("igpt-engine"))
}

/// Makes the folder `path`, and those that lead to it. Of a link, it makes what the link leads to.
///
/// # Errors
/// [`FsError`].
pub fn make_folder(path: &Path) -> Result<()> {
    let real = real_folder(path).map_err(FsError::io("create the folder", path))?;
    fs::create_dir_all(real).map_err(FsError::io("create the folder", path))
}

/// Makes the files in `folder`, and that they are in it, last.
fn sync_contents(folder: &Path) -> Result<()> {
    for entry in entries(folder)? {
        File::options()
            .write(true)
            .open(&entry)
            .and_then(|file| file.sync_all())
            .map_err(FsError::io("sync", &entry))?;
    }
    sync_folder(folder).map_err(FsError::io("sync", folder))
}

/// Removes a folder so that a kill on the way leaves nothing that looks like it: it is renamed first.
///
/// # Errors
/// [`FsError`].
pub fn remove_folder(path: &Path) -> Result<()> {
    // Replaces the empty folder whose name it takes. A link cannot, and is removed at once.
    if fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink()) {
        return fs::remove_file(path).map_err(FsError::io("remove", path));
    }
    let scratch = Temporary::folder(path).map_err(FsError::io("write", path))?;
    unfinished::undisturbed(|| fs::rename(path, scratch.path())).map_err(FsError::io("remove", path))?;
    remove(scratch.path()).map_err(FsError::io("remove", path))
}

/// Clears `folder` of what killed processes left half-written, and puts back what they had moved aside; what another process
/// is writing stays. A folder that does not exist is clean.
///
/// # Errors
/// [`FsError`].
pub fn clean_leftovers(folder: &Path) -> Result<()> {
    clean(folder, Leftovers::All)
}

/// Gives the finished folder its name.
fn swap_in(finished: &Path, path: &Path) -> Result<()> {
    let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(FsError::io("rename to", to));
    if !path.exists() {
        return unfinished::undisturbed(|| rename(finished, path));
    }

    // Locked, so that nobody takes it for a leftover and puts it back.
    let old = old_name(path);
    let lock = open_folder(path).map_err(FsError::io("open", path))?;
    let _ = lock.try_lock();
    unfinished::undisturbed(|| {
        rename(path, &old)?;
        rename(finished, path).or_else(|error| rename(&old, path).and(Err(error)))
    })?;
    remove(&old).map_err(FsError::io("remove", &old))
}

/// Whether another disk begins at the folder `path`.
#[cfg(unix)]
fn is_mounted(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).ok().map(|there| there.dev());
    device(path).is_some_and(|inside| device(parent_of(path)).is_some_and(|outside| outside != inside))
}

#[cfg(not(unix))]
fn is_mounted(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn failing() -> FsError {
        FsError::io("write", Path::new("x"))(io::Error::other("injected"))
    }

    /// Fills a folder with one file.
    fn put(name: &'static str, content: &'static str) -> impl FnOnce(&Path) -> Result<()> {
        move |folder| {
            fs::write(folder.join(name), content).unwrap();
            Ok(())
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = entries(folder)
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_folder_leaves_the_old_one_and_no_trace() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("step");
        write_folder(&path, put("a", "old")).unwrap();
        let outcome = write_folder(&path, |folder| {
            fs::write(folder.join("a"), "new").unwrap();
            Err(failing())
        });
        assert!(outcome.is_err());
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "old");
        assert_eq!(names(place.path()), ["step"]);
    }

    #[test]
    fn a_folder_goes_while_others_still_write_into_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("ranks");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in (0..8).cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                    // Refused while the folder is not there.
                    let _ = fs::write(path.join(format!("rank-{number}")), "step 7");
                }
            });

            // Nothing here may panic before the other thread is told to stop.
            let left = (0..500).filter(|_| {
                if fs::create_dir(&path).is_err() {
                    return true;
                }
                while entries(&path).is_ok_and(|there| there.is_empty()) {}
                // What was on its way into the folder when it got its other name may make the removal itself fail.
                let _ = remove_folder(&path);
                path.exists()
            });

            let left = left.count();
            stop.store(true, Ordering::Relaxed);
            assert_eq!(left, 0, "of 500 folders");
        });
    }

    #[test]
    fn a_folder_is_replaced_whole() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("step");
        write_folder(&path, put("a", "old")).unwrap();
        write_folder(&path, put("b", "new")).unwrap();
        assert_eq!(names(&path), ["b"]);
        assert_eq!(names(place.path()), ["step"]);
    }

    #[test]
    fn leftovers_of_killed_processes_are_cleaned() {
        let place = tempfile::tempdir().unwrap();
        for name in ["a.tmp-12", "a.old-12", "b", "b.old-3", "c.tmp-x", "d.tmp-"] {
            fs::create_dir(place.path().join(name)).unwrap();
            fs::write(place.path().join(name).join("content"), name).unwrap();
        }
        clean_leftovers(place.path()).unwrap();
        assert_eq!(names(place.path()), ["a", "b", "c.tmp-x", "d.tmp-"]);
        assert_eq!(fs::read_to_string(place.path().join("a/content")).unwrap(), "a.old-12");
        assert_eq!(fs::read_to_string(place.path().join("b/content")).unwrap(), "b");
        clean_leftovers(&place.path().join("nowhere")).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_stays_and_what_it_leads_to_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("disk")).unwrap();
        std::os::unix::fs::symlink("disk/best", at("best")).unwrap();
        for content in ["old", "new"] {
            check_replaceable(&at("best")).unwrap();
            write_folder(&at("best"), put("a", content)).unwrap();
            assert_eq!(fs::read_to_string(at("disk/best/a")).unwrap(), content);
        }
        assert!(at("best").is_symlink());
        assert_eq!(names(&at("disk")), ["best"]);
        // Removing it spares what it leads to.
        remove_folder(&at("best")).unwrap();
        assert_eq!(names(place.path()), ["disk"]);
        assert_eq!(names(&at("disk/best")), ["a"]);
    }

    #[cfg(unix)]
    #[test]
    fn folders_that_cannot_be_written_are_refused_before_the_work() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("unmounted/runs", at("link")).unwrap();
        for check in [check_folder, check_replaceable] {
            check(&at("new/newer")).unwrap();
            assert!(check(&at("file")).unwrap_err().to_string().contains("no folder"));
            assert!(check(&at("file/run")).unwrap_err().to_string().contains("file is no folder"));
            assert!(check(&at("link")).unwrap_err().to_string().contains("unmounted; make it first"));
        }
        assert!(check_replaceable(Path::new("/proc")).unwrap_err().to_string().contains("mounted"));
        assert_eq!(names(place.path()), ["file", "link"], "nothing was left by looking");
    }
}
