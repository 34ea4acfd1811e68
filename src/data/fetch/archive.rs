//! The official archive: a gzipped tar with one folder.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;

use super::download::{Expected, Patience, check_space, download_expected};
use super::{FILE_BYTES, install};
use crate::data::error::{DataError, Result};
use crate::data::progress;
use crate::fs::atomic_file;

/// Most bytes of a file whose length was not published.
const SMALL: u64 = 1 << 20;

/// Where an archive is and what it hashes to.
pub(super) struct Remote<'a> {
    pub(super) url: &'a str,
    pub(super) sha256: &'a str,
    /// Name of the downloaded file.
    pub(super) file: &'a str,
    /// Folder inside it and beside it.
    pub(super) folder: &'a str,
}

/// Where CIFAR is at home.
pub(super) const CIFAR_HOME: &str = "https://www.cs.toronto.edu/~kriz";

pub(super) const OFFICIAL: Remote<'static> = Remote {
    url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    file: "cifar-10-binary.tar.gz",
    folder: "cifar-10-batches-bin",
};

/// Downloads the archive to `out`, takes the files `wanted` (name, SHA-256) out of it, and removes it.
pub(super) fn fetch(remote: &Remote, wanted: &[(&str, &str)], out: &Path, show_progress: bool) -> Result<()> {
    let archive = out.join(remote.file);
    let expected = Expected { sha256: Some(remote.sha256), bytes: None };
    download_expected(remote.url, expected, &archive, Patience::USUAL, show_progress)?;
    extract(&archive, remote.folder, wanted, out, show_progress)?;
    fs::remove_file(&archive).map_err(DataError::write(&archive))
}

/// Takes `wanted` (name, SHA-256) out of a `.tar.gz`.
fn extract(archive: &Path, folder: &str, wanted: &[(&str, &str)], out: &Path, show_progress: bool) -> Result<()> {
    for_each_wanted(archive, folder, wanted, show_progress, |name, sha256, entry| {
        let bytes = read_limited(entry, FILE_BYTES).map_err(DataError::read(archive))?;
        install(&out.join(folder), name, sha256, &bytes)
    })
}

/// Unpacks `wanted` (name, length) out of a `.tar.gz` into `into`, each file whole or not at all.
pub(super) fn unpack(
    archive: &Path,
    folder: &str,
    wanted: &[(&str, Option<u64>)],
    into: &Path,
    show_progress: bool,
) -> Result<()> {
    check_space(&into.join(folder), wanted.iter().filter_map(|(_, bytes)| *bytes).sum())?;
    for_each_wanted(archive, folder, wanted, show_progress, |name, bytes, entry| {
        // To a temporary file, and no further than a byte above what was published.
        let target = into.join(name);
        let mut copied = 0;
        atomic_file::write_file(&target, |file| {
            copied = std::io::copy(&mut entry.take(bytes.map_or(SMALL, |bytes| bytes + 1)), file)?;
            Ok(())
        })
        .map_err(DataError::write(&target))?;

        if let Some(expected) = bytes.filter(|&bytes| bytes != copied) {
            fs::remove_file(&target).map_err(DataError::write(&target))?;
            let fix = "The archive is another one than the published one. Remove it and run the command again".into();
            return Err(DataError::Length { path: target, found: copied, expected, fix });
        }
        Ok(())
    })
}

/// Calls `take` with each of the `wanted` files of a `.tar.gz`: its name, what is known of it, and its content. Only entries whose
/// path is exactly `folder/name` count: what else is in there, with whatever paths, is not looked at.
///
/// # Errors
/// Those of `take`; [`DataError::NotThere`] where a file is not in the archive.
fn for_each_wanted<K: Copy>(
    archive: &Path,
    folder: &str,
    wanted: &[(&'_ str, K)],
    show_progress: bool,
    mut take: impl FnMut(&str, K, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let bar = progress::count("unpacking", wanted.len() as u64, show_progress);
    let mut found = Vec::new();
    for_each_entry(archive, |path, entry| {
        let name = path.strip_prefix(folder).and_then(|path| path.strip_prefix('/'));
        let Some(&(name, known)) = wanted.iter().find(|(wanted, _)| Some(*wanted) == name) else { return Ok(()) };
        take(name, known, entry)?;
        bar.inc(1);
        found.push(name);
        Ok(())
    })?;
    bar.finish_and_clear();

    match wanted.iter().find(|(name, _)| !found.contains(name)) {
        None => Ok(()),
        Some((name, _)) => Err(not_in(archive, folder, name)),
    }
}

fn not_in(archive: &Path, folder: &str, name: &str) -> DataError {
    DataError::NotThere {
        path: archive.to_owned(),
        wanted: "the expected archive".into(),
        hint: format!("{folder}/{name} is not in it. Remove it and run the command again"),
    }
}

/// Calls `visit` with the path and the content of each regular file of a `.tar.gz`.
pub(super) fn for_each_entry(archive: &Path, mut visit: impl FnMut(&str, &mut dyn Read) -> Result<()>) -> Result<()> {
    let file = File::open(archive).map_err(DataError::read(archive))?;
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    for entry in tar.entries().map_err(DataError::read(archive))? {
        let mut entry = entry.map_err(DataError::read(archive))?;
        let path = entry.path().map_err(DataError::read(archive))?.to_str().map(str::to_owned);
        if let (Some(path), true) = (path, entry.header().entry_type().is_file()) {
            visit(&path, &mut entry)?;
        }
    }
    Ok(())
}

/// Reads to the end, but no more than one byte above `limit`: a longer entry then fails its hash and does not fill the memory.
pub(super) fn read_limited(reader: &mut dyn Read, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::download::tests::{digest, serve};
    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (path, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            // The name is set by hand: `append_data` refuses the hostile paths that this is to test.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_entry_type(tar::EntryType::Regular);
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn fetch_from(bytes: Vec<u8>, wanted: &[(&str, &str)], out: &Path) -> Result<()> {
        let sha256 = digest(&bytes);
        let (url, _) = serve(bytes, None);
        let remote = Remote { url: &url, sha256: &sha256, file: "a.tar.gz", folder: "f" };
        fs::create_dir_all(out.join("f")).unwrap();
        fetch(&remote, wanted, out, false)
    }

    #[test]
    fn wanted_files_come_out_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let bytes = archive(&[("../evil", b"x"), ("f/../../evil", b"x"), ("f/a.bin", b"good"), ("f/b.bin", b"other")]);
        fetch_from(bytes, &[("a.bin", &digest(b"good"))], &out).unwrap();
        assert_eq!(fs::read(out.join("f/a.bin")).unwrap(), b"good");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
        assert_eq!(fs::read_dir(out.join("f")).unwrap().count(), 1);
    }

    #[test]
    fn a_wrong_file_is_not_written_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        let error = fetch_from(archive(&[("f/a.bin", b"bad")]), &[("a.bin", &digest(b"good"))], out).unwrap_err();
        assert!(matches!(error, DataError::Hash { .. }), "{error}");
        assert!(!out.join("f/a.bin").exists());
        let error = fetch_from(archive(&[("f/b.bin", b"x")]), &[("a.bin", "0")], out).unwrap_err().to_string();
        assert!(error.contains("a.bin"), "{error}");
    }
}
