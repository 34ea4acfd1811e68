//! Arrays in `.npz` archives: zip files of `NAME.npy`, stored or deflated.

use std::ffi::OsStr;
use std::io::{BufReader, Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zip::read::ZipFile;
use zip::{CompressionMethod, ZipArchive};

use crate::data::error::{DataError, Result};
use crate::data::files::bytes::{Bytes, Reader};
use crate::fs::first_bytes::{ENOUGH, recognise};

/// An archive may make this much memory out of nothing, and beyond it so many times its own size: what is compressed better
/// holds next to nothing, or is there to fill the memory.
const FREE: u64 = 64 << 20;
const RATIO: u64 = 100;

/// The archive and the name in `FILE.npz` or `FILE.npz:NAME`; `None` for other paths.
pub(super) fn split_name(path: &Path) -> Option<(PathBuf, Option<String>)> {
    if path.extension() == Some(OsStr::new("npz")) {
        return Some((path.to_owned(), None));
    }
    let text = path.to_str()?;
    let at = text.rfind(".npz:")? + 4;
    // A file that is really called so is meant.
    (!path.exists()).then(|| (text[..at].into(), Some(text[at + 1..].to_owned())))
}

/// The file that an array lies in.
pub(crate) fn file_of(path: &Path) -> PathBuf {
    split_name(path).map_or_else(|| path.to_owned(), |(file, _)| file)
}

/// Cuts `ARRAY,ARRAY`: behind `.npy`, `.npz` or `.npz:NAME` and not at any comma, which paths may hold. `None` without such a
/// comma.
pub(crate) fn split_pair(text: &str) -> Option<(&str, &str)> {
    let is_array = |first: &str| {
        let name = first.rfind(".npz:").map(|at| &first[at + 5..]);
        first.ends_with(".npy") || first.ends_with(".npz") || name.is_some_and(|name| !name.contains('/'))
    };
    let commas = text.match_indices(',').map(|(at, _)| (&text[..at], &text[at + 1..]));
    commas.into_iter().find(|(first, _)| is_array(first))
}

/// The bytes of an array's `.npy` in the archive `file`: where they lie in it, or decompressed. `path` is what errors name.
pub(super) fn open(path: &Path, file: &Path, name: Option<&str>) -> Result<(Bytes, Range<usize>)> {
    let wrong = |problem: String| DataError::Npy { path: path.to_owned(), problem };
    let bytes = Bytes::open(file)?;
    let damaged =
        |error: &dyn std::fmt::Display| wrong(format!("is not a whole .npz archive: {error}. Write it again"));
    let reader = BufReader::new(bytes.reader(0..bytes.len()));
    let mut archive = match ZipArchive::new(reader) {
        Ok(archive) => archive,
        // What was never downloaded, say, is no matter of damage.
        Err(error) => {
            let foreign = recognise(&bytes.range(0..bytes.len().min(ENOUGH))?).filter(|found| !found.is_zip());
            return Err(foreign.map_or_else(|| damaged(&error), |found| wrong(found.sentence())));
        }
    };

    let index = choose(&archive, name).map_err(wrong)?;
    let mut member = archive.by_index(index).map_err(|error| damaged(&error))?;
    if member.size() > FREE.max(member.compressed_size().min(bytes.len() as u64).saturating_mul(RATIO)) {
        return Err(wrong(format!(
            "expands to {} bytes, more than {RATIO} times its size. Unpack it with unzip and give the .npy, if you trust it",
            member.size()
        )));
    }

    match member.compression() {
        // Stored as it is: read where it lies. Reading it through checks its CRC.
        CompressionMethod::Stored => {
            let read = std::io::copy(&mut member, &mut std::io::sink()).map_err(|error| damaged(&error))?;
            let start = member.data_start().and_then(|start| usize::try_from(start).ok());
            let range = start.and_then(|start| Some(start..start.checked_add(usize::try_from(read).ok()?)?));
            let range = range.filter(|range| range.end <= bytes.len() && read == member.size());
            Ok((bytes, range.ok_or_else(|| damaged(&"a member lies outside of it"))?))
        }
        _ => {
            let held = inflate(member).map_err(|error| damaged(&error))?;
            let range = 0..held.len();
            Ok((Bytes::Owned(Arc::new(held)), range))
        }
    }
}

/// The member with an array's name, or the only array.
fn choose<R: Read + Seek>(archive: &ZipArchive<R>, name: Option<&str>) -> Result<usize, String> {
    let mut arrays: Vec<(String, usize)> = Vec::new();
    for file in archive.file_names() {
        let file = file.map_err(|error| format!("is not a whole .npz archive: {error}. Write it again"))?;
        if let (Some(array), Some(index)) = (file.strip_suffix(".npy"), archive.index_for_name(&file)) {
            arrays.push((array.to_owned(), index));
        }
    }

    // The one that was named, or the only one.
    let wanted = name.map(|name| name.strip_suffix(".npy").unwrap_or(name));
    let names = || arrays.iter().take(10).map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    match (wanted, &arrays[..]) {
        (_, []) => Err("holds no array (no .npy is in it). Write it with numpy.savez".into()),
        (None, [(_, index)]) => Ok(*index),
        (None, _) => Err(format!("holds several arrays: {}. Name one: FILE.npz:NAME", names())),
        (Some(wanted), _) => match arrays.iter().find(|(name, _)| name == wanted) {
            Some((_, index)) => Ok(*index),
            None => Err(format!("there is no array {wanted:?} in it; there are: {}", names())),
        },
    }
}

/// All of a member whose length was found acceptable.
fn inflate(mut member: ZipFile<'_, BufReader<Reader>>) -> std::io::Result<Vec<u8>> {
    let size = member.size();
    let mut held = Vec::new();
    held.try_reserve_exact(usize::try_from(size).unwrap_or(usize::MAX))
        .map_err(|_| std::io::Error::other(format!("there are not {size} bytes of memory for it")))?;
    // One byte more than promised would show a lie; the checksum is compared at the end.
    (&mut member).take(size.saturating_add(1)).read_to_end(&mut held)?;
    if held.len() as u64 != size {
        return Err(std::io::Error::other(format!("{} bytes instead of {size}", held.len())));
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_arrays_may_hold_commas_and_archives_name_their_arrays() {
        assert_eq!(split_pair("a,b/x.npy,y.npy"), Some(("a,b/x.npy", "y.npy")));
        assert_eq!(split_pair("x.npz:a,x.npz:b"), Some(("x.npz:a", "x.npz:b")));
        assert_eq!(split_pair("x.npz,y.npy"), Some(("x.npz", "y.npy")));
        assert_eq!(split_pair("a,b.npy"), None);
        assert_eq!(split_name(Path::new("d/x.npz:a/b")), Some(("d/x.npz".into(), Some("a/b".into()))));
        assert_eq!(split_name(Path::new("d/x.npz")), Some(("d/x.npz".into(), None)));
        assert_eq!(split_name(Path::new("x.npy")), None);
        assert_eq!(file_of(Path::new("x.npz:a")), Path::new("x.npz"));
    }
}
