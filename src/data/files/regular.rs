//! Opening files that must be regular ones: opening a named pipe would wait for a writer that may never come.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Opens a regular file, or a link to one, for reading.
///
/// # Errors
/// Those of the system; `InvalidInput` for folders, pipes, sockets and devices, which are not opened at all.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let metadata = fs::metadata(path)?;
    if metadata.is_file() { File::open(path) } else { Err(not_regular(metadata.file_type())) }
}

/// The error of something that is no regular file.
fn not_regular(kind: fs::FileType) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {}, not a regular file", what(kind)))
}

/// What something is that is no regular file.
pub(crate) fn what(kind: fs::FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a folder" } else { "something else" }
}

/// The text of a regular file, if there is one.
pub(crate) fn text(path: &Path) -> Option<String> {
    io::read_to_string(open(path).ok()?).ok()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn pipes_and_folders_are_refused_and_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (path, word) in
            [(pipe.as_path(), "a named pipe"), (folder.path(), "a folder"), (Path::new("/dev/null"), "a device")]
        {
            let error = open(path).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("not a regular file"), "{error}");
            assert_eq!(text(path), None);
        }
    }
}
