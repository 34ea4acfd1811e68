//! What a path that is to be written leads to: links are followed, and what cannot be written is told apart from what can.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::error::refusal;

/// Links that are followed one after another, as Linux does.
const MAX_LINKS: usize = 40;
/// How long a pipe may be without a reader.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where bytes for a path go.
pub(crate) enum Place {
    /// A file that is there or will be: no link itself, and its folder is there.
    File(PathBuf),
    /// A pipe, a terminal or another device that takes bytes as they come, open.
    Stream(File),
}

impl Place {
    /// Where what is written to `path` has to go.
    ///
    /// # Errors
    /// A path that no file can have, a folder that is not there, and whatever is no file, pipe or character device.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        if path.file_name().is_none() || ends_in_separator(path) {
            let problem = "the path has no last part; name a file or folder";
            return Err(refusal(ErrorKind::InvalidInput, problem));
        }
        let real = match follow(path)? {
            Reached::Descriptor(number) => return descriptor_stream(number).map(Place::Stream),
            Reached::Path(real) => real,
        };
        match fs::metadata(&real) {
            Ok(there) => Self::existing(real, &there),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                check_parent(&real)?;
                Ok(Place::File(real))
            }
            Err(error) => Err(error),
        }
    }

    fn existing(real: PathBuf, there: &Metadata) -> io::Result<Self> {
        if there.is_file() {
            return Ok(Place::File(real));
        }
        if there.is_dir() {
            return Err(refusal(ErrorKind::IsADirectory, "it is a folder; name a file"));
        }
        match stream_kind(there) {
            Some(StreamKind::Device) => File::options().write(true).open(&real).map(Place::Stream),
            Some(StreamKind::Pipe) => open_pipe(real).map(Place::Stream),
            None => {
                let problem = "it is neither a file nor a pipe nor a character device; name another";
                Err(refusal(ErrorKind::InvalidInput, problem))
            }
        }
    }
}

/// Where a chain of links ends.
enum Reached {
    /// At something that is no link, or at nothing.
    Path(PathBuf),
    /// At an open file of this process, as `/dev/stdout` does.
    Descriptor(u32),
}

fn follow(path: &Path) -> io::Result<Reached> {
    let mut reached = path.to_owned();
    for _ in 0..MAX_LINKS {
        if let Some(number) = descriptor(&reached) {
            return Ok(Reached::Descriptor(number));
        }
        match fs::symlink_metadata(&reached) {
            Ok(there) if there.is_symlink() => reached = parent_of(&reached).join(fs::read_link(&reached)?),
            Ok(_) => return Ok(Reached::Path(reached)),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Reached::Path(reached)),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                check_parent(&reached)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(refusal(ErrorKind::InvalidInput, "its links lead in a circle; remove them, or name another"))
}

/// The folder that `path` leads to, whether or not it is there: no link itself.
///
/// # Errors
/// Links in a circle; a link to a place whose own folder is not there, such as a disk that is not mounted.
pub(crate) fn real_folder(path: &Path) -> io::Result<PathBuf> {
    // Without the separator at its end, which would hide that the path is a link.
    let path = path.components().as_path();
    let real = match follow(path)? {
        Reached::Path(real) => real,
        Reached::Descriptor(_) => return Err(refusal(ErrorKind::NotADirectory, "it is no folder; name one")),
    };
    if real != path && !real.exists() {
        check_parent(&real)?;
    }
    Ok(real)
}

/// Whether a path's text ends as that of a folder.
fn ends_in_separator(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().last().is_some_and(|last| std::path::is_separator(char::from(*last)))
}

/// Refuses a path whose folder is not there.
fn check_parent(path: &Path) -> io::Result<()> {
    let parent = parent_of(path);
    if parent.is_dir() {
        return Ok(());
    }
    let file = parent.ancestors().filter(|folder| !folder.as_os_str().is_empty()).find(|folder| folder.exists());
    match file.filter(|there| !there.is_dir()) {
        Some(file) => {
            let problem = format!("{} is no folder; name another place", file.display());
            Err(refusal(ErrorKind::NotADirectory, problem))
        }
        None => {
            let problem = format!("there is no folder {}; make it first, or name another", parent.display());
            Err(refusal(ErrorKind::NotFound, problem))
        }
    }
}

/// The folder that holds `path`.
pub(crate) fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the renaming of `path` last.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    sync_folder(parent_of(path))
}

/// Makes renames within `folder` last; only Unix can open a folder to do so.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The number of the open file of this process that `path` names, if it is such a name: `/dev/fd/3`.
fn descriptor(path: &Path) -> Option<u32> {
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let folder = fs::canonicalize(parent_of(path)).ok()?;
    let own = format!("/proc/{}/fd", std::process::id());
    (folder == Path::new(&own) || folder == Path::new("/dev/fd")).then_some(number)
}

/// An open file of this process, at the place where its next byte goes: what is written comes behind what was printed there.
#[cfg(unix)]
fn descriptor_stream(number: u32) -> io::Result<File> {
    use std::os::fd::AsFd;
    match number {
        1 => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        2 => io::stderr().as_fd().try_clone_to_owned().map(File::from),
        _ => File::options().append(true).open(format!("/dev/fd/{number}")),
    }
}

#[cfg(not(unix))]
fn descriptor_stream(number: u32) -> io::Result<File> {
    File::options().append(true).open(format!("/dev/fd/{number}"))
}

/// What takes bytes as they come.
enum StreamKind {
    Device,
    Pipe,
}

#[cfg(unix)]
fn stream_kind(there: &Metadata) -> Option<StreamKind> {
    use std::os::unix::fs::FileTypeExt;
    let kind = there.file_type();
    match (kind.is_char_device(), kind.is_fifo()) {
        (true, _) => Some(StreamKind::Device),
        (_, true) => Some(StreamKind::Pipe),
        _ => None,
    }
}

#[cfg(not(unix))]
fn stream_kind(_: &Metadata) -> Option<StreamKind> {
    None
}

/// Opens a named pipe, which waits for its reader, though not for ever.
fn open_pipe(path: PathBuf) -> io::Result<File> {
    let (sender, receiver) = mpsc::channel();
    // Nothing ends a thread that waits in `open` but the reader, or the end of the process.
    thread::Builder::new().spawn(move || {
        let _ = sender.send(File::options().write(true).open(path));
    })?;
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let problem = format!("nobody has read this pipe for {} s; start its reader first", PATIENCE.as_secs());
        Err(refusal(ErrorKind::TimedOut, problem))
    })
}
