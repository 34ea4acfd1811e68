//! Temporary files and folders beside what they will become, and the removal of those whose process was killed.
//!
//! Each is locked (`flock`) by the process that makes it, so that a leftover is told from work in progress whatever became of
//! the process's number, and across the hosts of a shared file system. Where there are no locks, age decides.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{FsError, Result};
use super::unfinished;

/// Between a name and a number, while it is being written.
const TEMPORARY: &str = ".tmp-";
/// Between a name and a number, while the folder is being replaced.
const OLD: &str = ".old-";
/// Digits of our numbers. A file that ends in so many is no one else's.
const DIGITS: usize = 20;
/// Bytes of a name that a temporary one begins with: file systems have 255 for all of it.
const NAME_BYTES: usize = 200;
/// Where a file system has no locks: what nobody has touched for this long was left behind.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A temporary file or folder, locked; removed when dropped, unless it was renamed.
pub(crate) struct Temporary {
    path: PathBuf,
    /// Open, and locked where that can be.
    pub(crate) file: File,
}

impl Temporary {
    /// An empty file beside `path`, with the permissions of `like`.
    pub(crate) fn file(path: &Path, like: Option<&Metadata>) -> io::Result<Self> {
        Self::create(path, |temporary| {
            let file = File::options().write(true).create_new(true).open(temporary)?;
            if let Some(like) = like {
                take_owner(&file, like);
                file.set_permissions(like.permissions())?;
            }
            Ok(file)
        })
    }

    /// An empty folder beside `path`.
    pub(crate) fn folder(path: &Path) -> io::Result<Self> {
        Self::create(path, |temporary| {
            fs::create_dir(temporary)?;
            // One that is gone already was taken for a leftover: as good as a name that is taken.
            let opened = open_folder(temporary);
            opened.map_err(|error| if temporary.exists() { error } else { ErrorKind::AlreadyExists.into() })
        })
    }

    fn create(path: &Path, make: impl Fn(&Path) -> io::Result<File>) -> io::Result<Self> {
        loop {
            let temporary = beside(path, TEMPORARY);
            let file = match unfinished::begin(&temporary, || make(&temporary)) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                made => made?,
            };
            // Between its making and the lock, somebody else may have taken it for a leftover.
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => unfinished::end(&temporary),
                Ok(()) if !temporary.exists() => unfinished::end(&temporary),
                _ => return Ok(Self { path: temporary, file }),
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = remove(&self.path);
        unfinished::end(&self.path);
    }
}

/// A name for the folder `path` while another takes its place; [`clean`] puts it back if that does not happen.
pub(crate) fn old_name(path: &Path) -> PathBuf {
    beside(path, OLD)
}

/// `path` with a marker and a number behind its name, as much of it as there is room for.
fn beside(path: &Path, marker: &str) -> PathBuf {
    let number = RandomState::new().build_hasher().finish();
    let mut name = shortened(path);
    name.push(format!("{marker}{number:0DIGITS$}"));
    path.with_file_name(name)
}

/// What temporary names of `path` begin with.
fn shortened(path: &Path) -> OsString {
    let name = path.file_name().unwrap_or_default();
    if name.len() <= NAME_BYTES {
        return name.to_owned();
    }
    let text = name.to_string_lossy();
    let end = (0..=NAME_BYTES).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].into()
}

/// Which leftovers [`clean`] looks for.
#[derive(Clone, Copy)]
pub(crate) enum Leftovers<'a> {
    /// All: the folder is the engine's own.
    All,
    /// Those that surely are ours, and those of this path.
    Of(&'a Path),
}

/// Clears `folder` of what killed processes left half-written, and puts back what they had moved aside. What a live process
/// is writing stays. A folder that does not exist is clean.
///
/// # Errors
/// [`FsError`].
pub(crate) fn clean(folder: &Path, which: Leftovers<'_>) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let own = match which {
        Leftovers::All => None,
        Leftovers::Of(path) => Some(shortened(path)),
    };
    for entry in entries(folder)? {
        let Some(leftover) = Leftover::parse(&entry) else { continue };
        if leftover.is_ours || own.as_ref().is_none_or(|own| *own == leftover.name) {
            clean_entry(&entry, &leftover)?;
        }
    }
    Ok(())
}

/// `NAME.tmp-123` or `NAME.old-123`, taken apart.
struct Leftover {
    name: OsString,
    /// Whether it was moved aside.
    is_old: bool,
    /// Whether its number is one that nobody else would give.
    is_ours: bool,
}

impl Leftover {
    fn parse(entry: &Path) -> Option<Self> {
        let file_name = entry.file_name()?;
        let digits = file_name.as_encoded_bytes().iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        // All that is cut off is ASCII, so what remains is a name by itself.
        let rest = without_end(file_name, digits)?;
        [(TEMPORARY, false), (OLD, true)].into_iter().find_map(|(marker, is_old)| {
            let named = rest.as_encoded_bytes().ends_with(marker.as_bytes());
            let name = without_end(&rest, marker.len()).filter(|name| named && digits > 0 && !name.is_empty())?;
            Some(Self { name, is_old, is_ours: digits == DIGITS })
        })
    }
}

/// A name without its last `bytes` bytes, which are ASCII; `None` if it has no more.
fn without_end(name: &OsStr, bytes: usize) -> Option<OsString> {
    let kept = name.as_encoded_bytes().get(..name.len().checked_sub(bytes)?)?.to_vec();
    // SAFETY: cut from an OsStr's encoded bytes before ASCII, which is a boundary of UTF-8.
    Some(unsafe { OsString::from_encoded_bytes_unchecked(kept) })
}

fn clean_entry(entry: &Path, leftover: &Leftover) -> Result<()> {
    // Held until the entry is gone, so that whoever has only just made it notices.
    let Some(_lock) = lock_abandoned(entry) else { return Ok(()) };
    let home = entry.with_file_name(&leftover.name);
    let (action, done) = if leftover.is_old && !home.exists() {
        ("restore", fs::rename(entry, &home))
    } else {
        ("remove the leftover", remove(entry))
    };
    match done {
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.map_err(FsError::io(action, entry)),
    }
}

/// Locks what no process is at work on; `None` for what one is.
fn lock_abandoned(entry: &Path) -> Option<File> {
    let there = fs::symlink_metadata(entry).ok()?;
    if !there.is_file() && !there.is_dir() {
        return None;
    }
    let file = if there.is_dir() { open_folder(entry) } else { File::open(entry) }.ok()?;
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(_)) => {
            let age = there.modified().ok()?.elapsed().ok()?;
            (age > ABANDONED).then_some(file)
        }
    }
}

/// Opens a folder, to lock it.
pub(crate) fn open_folder(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Everything in a folder.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed: io::Result<Vec<_>> =
        fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    listed.map_err(FsError::io("list", folder))
}

/// Removes a file, link or folder.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Gives a new file the owner of the one that it will replace, as far as this process may.
#[cfg(unix)]
fn take_owner(file: &File, like: &Metadata) {
    use std::os::unix::fs::{MetadataExt, fchown};
    if file.metadata().is_ok_and(|made| (made.uid(), made.gid()) != (like.uid(), like.gid())) {
        let _ = fchown(file, Some(like.uid()), Some(like.gid()));
    }
}

#[cfg(not(unix))]
fn take_owner(_: &File, _: &Metadata) {}

/// Makes sure that something can be made beside `path`.
pub(crate) fn probe(path: &Path) -> io::Result<()> {
    Temporary::file(path, None).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_go_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let live = [Temporary::file(&path, None).unwrap(), Temporary::folder(&path).unwrap()];

        // As a killed process leaves them: there, and locked by nobody.
        let left = [beside(&path, TEMPORARY), beside(&folder.path().join("b.npy"), TEMPORARY), beside(&path, OLD)];
        for left in &left {
            fs::write(left, "half").unwrap();
        }
        fs::write(&path, "whole").unwrap();
        // Somebody else's.
        let others = folder.path().join("b.npy.tmp-7");
        fs::write(&others, "theirs").unwrap();

        clean(folder.path(), Leftovers::Of(&path)).unwrap();
        assert!(left.iter().all(|left| !left.exists()));
        assert!(live.iter().all(|live| live.path().exists()) && path.exists() && others.exists());
        drop(live);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_folder_that_was_moved_aside_is_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step");
        fs::create_dir(old_name(&path)).unwrap();
        clean(folder.path(), Leftovers::Of(&path)).unwrap();
        assert!(path.is_dir());
    }

    #[test]
    fn many_at_once_lose_nothing_to_each_others_cleaning() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = folder.path().join(format!("{number}.npy"));
                scope.spawn(move || {
                    for _ in 0..100 {
                        clean(path.parent().unwrap(), Leftovers::Of(&path)).unwrap();
                        let made = Temporary::file(&path, None).unwrap();
                        assert!(made.path().exists());
                        fs::rename(made.path(), &path).unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 8);
    }
}
