//! Archives of data sets as they are downloaded: a tar, gzipped or not, read without unpacking it to disk.

use std::io::{BufReader, Read, Seek};
use std::path::Path;

use flate2::read::GzDecoder;

use crate::data::error::{DataError, Result};
use crate::data::files::regular;

/// Bytes that are looked at to tell what a file is.
const HEAD: usize = 512;

/// A file to be taken out of an archive.
pub(crate) struct Wanted<'a> {
    /// Its path in the archive, or the last part of it.
    pub(crate) path: &'a str,
    /// Most bytes it may have.
    pub(crate) limit: u64,
}

/// The content of each file that is wanted, `None` for those that are not there. The archive is read to its end, where its
/// checksum stands.
///
/// # Errors
/// [`DataError::Read`]; [`DataError::Archive`] for what is no archive, a damaged one, or a file above its limit.
pub(crate) fn read(archive: &Path, wanted: &[Wanted<'_>]) -> Result<Vec<Option<Vec<u8>>>> {
    let mut found: Vec<Option<Vec<u8>>> = wanted.iter().map(|_| None).collect();
    let damaged = |error: std::io::Error| damaged(archive, &error.to_string());
    let mut tar = open(archive)?;
    // Raw: names longer than a header's, which no such file has, would be read whole whatever their length.
    for entry in tar.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        let place = wanted.iter().position(|wanted| path.ends_with(wanted.path));
        let Some(place) = place.filter(|_| entry.header().entry_type().is_file()) else { continue };

        // Grows with what comes, not with what the header promises.
        let (size, limit) = (entry.header().size().map_err(damaged)?, wanted[place].limit);
        if size > limit {
            let problem =
                format!("{} in it has {size} bytes, more than the {limit} of any official file", path.display());
            return Err(DataError::Archive { path: archive.to_owned(), problem });
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u64 != size {
            return Err(self::damaged(archive, &format!("{} ends early", path.display())));
        }
        found[place] = Some(bytes);
    }

    std::io::copy(&mut tar.into_inner(), &mut std::io::sink()).map_err(damaged)?;
    Ok(found)
}

/// The paths of the first files and folders, as far as they can be read.
pub(crate) fn first_paths(archive: &Path, count: usize) -> Vec<String> {
    let Ok(mut tar) = open(archive) else { return Vec::new() };
    let Ok(entries) = tar.entries() else { return Vec::new() };
    let paths = entries.raw(true).take(count).map_while(std::result::Result::ok);
    paths.filter_map(|entry| Some(entry.path().ok()?.to_str()?.to_owned())).collect()
}

/// Opens a tar by what it starts with.
fn open(archive: &Path) -> Result<tar::Archive<Box<dyn Read>>> {
    let mut file = regular::open(archive).map_err(DataError::read(archive))?;
    let mut head = Vec::new();
    (&mut file).take(HEAD as u64).read_to_end(&mut head).map_err(DataError::read(archive))?;
    file.rewind().map_err(DataError::read(archive))?;
    let file = BufReader::with_capacity(1 << 18, file);

    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(tar::Archive::new(Box::new(GzDecoder::new(file))));
    }
    if head.get(257..262) == Some(b"ustar") {
        return Ok(tar::Archive::new(Box::new(file)));
    }
    let start: String = head.iter().take(16).map(|&byte| char::from(byte)).collect();
    let what = if head.is_empty() { "is empty".into() } else { format!("starts with {start:?}") };
    let problem = format!("it {what}, which is neither a gzip nor a tar file. Download it again");
    Err(DataError::Archive { path: archive.to_owned(), problem })
}

fn damaged(archive: &Path, problem: &str) -> DataError {
    let problem = format!(
        "it is truncated or damaged ({problem}). Download it again; one that is whole is read as it is, or unpacked with \
         `tar xf`"
    );
    DataError::Archive { path: archive.to_owned(), problem }
}
