//! What a command writes for its user: checked when the command starts, filled at its end, whole or not at all.
//!
//! A file is written under a temporary name beside it, synced and renamed. Links are followed first; a pipe or a device is
//! written as it is, and never replaced. A file keeps its permissions and, where a user named it, its other names.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::error::{FsError, Result, refusal};
use super::place::{Place, parent_of, sync_parent};
use super::temporary::{Leftovers, Temporary, clean, probe};
use super::unfinished::undisturbed;

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 18;

/// A file, pipe or device that will be written. Dropped without [`Output::commit`], it leaves a file as it was.
pub(crate) struct Output {
    /// As the user named it.
    path: PathBuf,
    sink: Sink,
}

enum Sink {
    /// The file without links, and what is written of it so far.
    File {
        real: PathBuf,
        keep_names: bool,
        begun: Option<(Temporary, BufWriter<File>)>,
    },
    Stream(BufWriter<File>),
}

impl Output {
    /// Finds out whether `path` can be written, and clears its folder of what killed commands left. Nothing changes at `path`
    /// before [`Output::commit`].
    ///
    /// # Errors
    /// [`FsError`]: no such folder, a folder or socket in its place, no permission, a file that is write-protected.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let output = Self::named(path, true)?;
        output.check().map_err(FsError::io("write", path))?;
        Ok(output)
    }

    /// Opens a second output of the same command, if there is to be one.
    ///
    /// # Errors
    /// As [`Output::open`], and for the file that this one is.
    pub(crate) fn and(&self, path: Option<&Path>) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let second = Self::open(path)?;
        match (&self.sink, &second.sink) {
            (Sink::File { real: a, .. }, Sink::File { real: b, .. }) if is_same(a, b) => {
                let problem = "two outputs would go into this file; name another for one of them";
                Err(FsError::io("write", path)(refusal(ErrorKind::InvalidInput, problem)))
            }
            _ => Ok(Some(second)),
        }
    }

    /// As [`Output::open`], of a file that no user has named and that no one else wrote: its other names keep the old
    /// content, as copies of a run by hard links need it.
    pub(super) fn internal(path: &Path) -> Result<Self> {
        Self::named(path, false)
    }

    fn named(path: &Path, keep_names: bool) -> Result<Self> {
        let sink = match Place::of(path).map_err(FsError::io("write", path))? {
            Place::File(real) => Sink::File { real, keep_names, begun: None },
            Place::Stream(file) => Sink::Stream(BufWriter::with_capacity(BUFFER, file)),
        };
        Ok(Output { path: path.to_owned(), sink })
    }

    /// Finds what would fail at the end.
    fn check(&self) -> io::Result<()> {
        let Sink::File { real, .. } = &self.sink else { return Ok(()) };
        if fs::metadata(real).is_ok_and(|there| there.permissions().readonly()) {
            let problem = "it is write-protected; name another file, or allow writing to it";
            return Err(refusal(ErrorKind::PermissionDenied, problem));
        }
        // Leftovers of others that cannot be removed are no reason not to write.
        let _ = clean(parent_of(real), Leftovers::Of(real));
        probe(real)
    }

    /// As the user named it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file is or will be, without links; `None` for a pipe or a device.
    pub(crate) fn place(&self) -> Option<&Path> {
        match &self.sink {
            Sink::File { real, .. } => Some(real),
            Sink::Stream(_) => None,
        }
    }

    /// Where to write a format that goes back to fill in what was not known before.
    ///
    /// # Errors
    /// A pipe or a device, which only go on; those of the file system.
    pub(crate) fn seekable(&mut self) -> io::Result<&mut BufWriter<File>> {
        if self.place().is_none() {
            return Err(refusal(ErrorKind::InvalidInput, "it is a pipe or a device, and must be a file; name one"));
        }
        self.sink.writer()
    }

    /// Writes all of the content.
    ///
    /// # Errors
    /// As [`Output::commit`].
    pub(crate) fn write_whole(mut self, content: &[u8]) -> Result<()> {
        self.write_all(content).map_err(FsError::io("write", &self.path))?;
        self.commit()
    }

    /// Makes the content last and gives it its name.
    ///
    /// # Errors
    /// [`FsError`]; the file that was there is intact then.
    pub(crate) fn commit(mut self) -> Result<()> {
        let path = std::mem::take(&mut self.path);
        self.sink.commit().map_err(FsError::io("write", &path))
    }
}

impl Sink {
    /// Where bytes go; a file is begun by the first.
    fn writer(&mut self) -> io::Result<&mut BufWriter<File>> {
        match self {
            Sink::Stream(writer) => Ok(writer),
            Sink::File { real, begun, .. } => {
                if begun.is_none() {
                    let temporary = Temporary::file(real, fs::metadata(&*real).ok().as_ref())?;
                    let file = temporary.file.try_clone()?;
                    *begun = Some((temporary, BufWriter::with_capacity(BUFFER, file)));
                }
                match begun {
                    Some((_, writer)) => Ok(writer),
                    None => Err(ErrorKind::NotFound.into()),
                }
            }
        }
    }

    fn commit(mut self) -> io::Result<()> {
        self.writer()?.flush().map_err(gone)?;
        // A stream is done; what it leads to is no business of ours.
        let Sink::File { real, keep_names, begun: Some((temporary, writer)) } = self else { return Ok(()) };
        writer.get_ref().sync_all()?;

        let there = fs::metadata(&real).ok();
        if let Some(there) = there.as_ref().filter(|there| keep_names && has_other_names(there)) {
            return undisturbed(|| overwrite(&real, there, temporary.path()));
        }
        match undisturbed(|| fs::rename(temporary.path(), &real)) {
            // A file that something is mounted on cannot be replaced; containers are given files so.
            Err(error) if error.kind() == ErrorKind::ResourceBusy => match &there {
                Some(there) => undisturbed(|| overwrite(&real, there, temporary.path())),
                None => Err(error),
            },
            Err(error) => Err(error),
            Ok(()) => sync_parent(&real),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.writer()?.write(bytes).map_err(gone)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.writer()?.flush().map_err(gone)
    }
}

/// A reader that goes away before it has everything is an error here, though it is none on standard output.
fn gone(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::BrokenPipe => refusal(ErrorKind::Other, "its reader has gone before it had everything"),
        _ => error,
    }
}

/// Puts the content of the finished file `new` into the file `real`, which stays the same file. What needs more space comes
/// first: if there is none, the old content is as it was.
fn overwrite(real: &Path, there: &Metadata, new: &Path) -> io::Result<()> {
    let mut source = File::open(new)?;
    let mut target = File::options().write(true).open(real)?;
    let (length, old) = (source.metadata()?.len(), there.len());

    if length > old {
        source.seek(io::SeekFrom::Start(old))?;
        target.seek(io::SeekFrom::Start(old))?;
        if let Err(error) = io::copy(&mut source, &mut target).and_then(|_| target.sync_all()) {
            target.set_len(old)?;
            return Err(error);
        }
    }
    source.rewind()?;
    target.rewind()?;
    io::copy(&mut source.take(old.min(length)), &mut target)?;
    target.set_len(length)?;
    target.sync_all()
}

/// Whether two paths without links are one.
fn is_same(a: &Path, b: &Path) -> bool {
    let folder = |path: &Path| fs::canonicalize(parent_of(path)).ok();
    a.file_name() == b.file_name() && folder(a) == folder(b)
}

/// Whether the file has more names than one.
#[cfg(unix)]
pub(super) fn has_other_names(there: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    there.nlink() > 1
}

#[cfg(not(unix))]
pub(super) fn has_other_names(_: &Metadata) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    fn write(path: &Path, content: &str) -> Result<()> {
        Output::open(path)?.write_whole(content.as_bytes())
    }

    fn refusal_of(path: &Path) -> String {
        Output::open(path).err().unwrap().to_string()
    }

    #[test]
    fn an_abandoned_file_leaves_the_old_one_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write(&path, "old").unwrap();
        let mut file = Output::open(&path).unwrap();
        file.write_all(b"half of the new").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "the half stands beside it");
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write(&path, "new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn links_are_written_through_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("disk")).unwrap();
        symlink("disk/real", at("inner")).unwrap();
        symlink("inner", at("outer")).unwrap();
        // First where the file is not there yet, then over it.
        for content in ["first", "second"] {
            write(&at("outer"), content).unwrap();
            assert_eq!(fs::read_to_string(at("disk/real")).unwrap(), content);
        }
        assert!(at("outer").is_symlink() && at("inner").is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);

        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        assert!(refusal_of(&at("a")).contains("circle"));
        symlink("nowhere/file", at("dangling")).unwrap();
        assert!(refusal_of(&at("dangling")).contains("nowhere; make it first"));
    }

    #[test]
    fn what_cannot_be_written_is_refused_when_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write(&at("file"), "x").unwrap();
        fs::create_dir(at("folder")).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();

        assert!(refusal_of(&at("no/such/file")).contains("no/such; make it first"));
        assert!(refusal_of(&at("file/below")).contains("file is no folder"));
        assert!(refusal_of(&at("folder")).contains("it is a folder"));
        assert!(refusal_of(&at("socket")).contains("neither a file nor a pipe"));
        for nameless in ["", "..", "/", "new/"] {
            assert!(refusal_of(Path::new(nameless)).contains("no last part"), "{nameless}");
        }
        fs::set_permissions(at("file"), fs::Permissions::from_mode(0o444)).unwrap();
        assert!(refusal_of(&at("file")).contains("write-protected"));
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "x");
    }

    #[test]
    fn a_pipe_stays_one_and_its_reader_has_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let reader = std::thread::spawn({
            let path = path.clone();
            move || fs::read(path).unwrap()
        });
        write(&path, "all of it").unwrap();
        assert_eq!(reader.join().unwrap(), b"all of it");
        assert!(stream(&path), "still a pipe");

        // A reader that leaves early.
        let reader = std::thread::spawn({
            let path = path.clone();
            move || drop(File::open(path).unwrap())
        });
        let file = Output::open(&path).unwrap();
        reader.join().unwrap();
        let error = file.write_whole(&[0; 1 << 20]).unwrap_err();
        assert!(error.to_string().contains("reader has gone"), "{error}");
    }

    fn stream(path: &Path) -> bool {
        use std::os::unix::fs::FileTypeExt;
        let kind = fs::symlink_metadata(path).unwrap().file_type();
        kind.is_fifo() || kind.is_char_device()
    }

    #[test]
    fn devices_are_written_and_stay_devices() {
        write(Path::new("/dev/null"), "gone").unwrap();
        assert!(stream(Path::new("/dev/null")));
        #[cfg(target_os = "linux")]
        {
            let error = write(Path::new("/dev/full"), "too much").unwrap_err().to_string();
            assert!(error.contains("Free some space"), "{error}");
        }
    }

    #[test]
    fn permissions_and_other_names_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write(&at("secret"), "old content").unwrap();
        fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        write(&at("secret"), "new").unwrap();
        assert_eq!(fs::metadata(at("secret")).unwrap().mode() & 0o777, 0o600);

        // Longer, then shorter than what is there.
        fs::hard_link(at("secret"), at("other")).unwrap();
        for content in ["something much longer", "short"] {
            write(&at("secret"), content).unwrap();
            assert_eq!(fs::read_to_string(at("other")).unwrap(), content);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn two_outputs_cannot_be_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink("a", at("link")).unwrap();
        let first = Output::open(&at("a")).unwrap();
        assert!(first.and(Some(&at("link"))).err().unwrap().to_string().contains("two outputs"));
        assert!(first.and(Some(&at("b"))).unwrap().is_some());
        assert!(first.and(None).unwrap().is_none());
    }

    #[test]
    fn the_longest_names_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ü".repeat(127));
        write(&path, "x").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "x");
    }
}
