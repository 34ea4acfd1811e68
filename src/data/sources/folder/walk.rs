//! What lies in folders: files, folders below them, and what is neither; in an order that the file system has no say in.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::data::codec::decode::bad;
use crate::data::error::{DataError, Result};
use crate::data::files::regular;

/// What systems and programs leave in folders, lower case; hidden files and folders are passed over anyway.
const RUBBISH: [&str; 9] = [
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
];

/// What lies in one folder, by name.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) files: Vec<PathBuf>,
    pub(super) folders: Vec<PathBuf>,
    /// Hidden files and folders, and those of systems, that were passed over.
    pub(super) hidden: u64,
    /// What is no regular file: pipes, sockets, devices, links that lead nowhere.
    pub(super) faults: Vec<DataError>,
}

/// Lists a folder; links are what they lead to.
///
/// # Errors
/// [`DataError::Read`].
pub(super) fn list(folder: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    let mut odd = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::read(folder))? {
        let entry = entry.map_err(DataError::read(folder))?;
        if is_hidden(&entry.file_name()) {
            listing.hidden += 1;
            continue;
        }

        // The listing itself knows the type of all but links: no further look at a million files.
        let path = entry.path();
        let kind = match entry.file_type() {
            Ok(kind) if !kind.is_symlink() => Ok(kind),
            _ => fs::metadata(&path).map(|metadata| metadata.file_type()),
        };
        match kind {
            Ok(kind) if kind.is_file() => listing.files.push(path),
            Ok(kind) if kind.is_dir() => listing.folders.push(path),
            Ok(kind) => odd.push((path, format!("is {}, not a regular file", regular::what(kind)))),
            Err(error) => odd.push((path, format!("is a link that cannot be followed ({error})"))),
        }
    }

    listing.files.sort();
    listing.folders.sort();
    odd.sort();
    listing.faults = odd.iter().map(|(path, problem)| bad(path, problem)).collect();
    Ok(listing)
}

/// Whether nobody put it there to be looked at.
fn is_hidden(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || RUBBISH.iter().any(|rubbish| name.eq_ignore_ascii_case(rubbish.as_bytes()))
}

/// All files below a folder.
#[derive(Default)]
pub(super) struct Walked {
    /// By folder, then by name; a folder's own files come before those of the folders in it.
    pub(super) files: Vec<PathBuf>,
    /// As of [`Listing`].
    pub(super) hidden: u64,
    /// Links to folders that were walked already, which would be walked for ever.
    pub(super) links: u64,
    /// As of [`Listing`].
    pub(super) faults: Vec<DataError>,
}

/// Walks a folder and all below it, each once: a link to a folder that is `above` or was walked already is passed over.
///
/// # Errors
/// [`DataError::Read`].
pub(super) fn walk(folder: &Path, above: &Path) -> Result<Walked> {
    let real = |path: &Path| path.canonicalize().map_err(DataError::read(path));
    let mut walked = Walked::default();
    let mut known: HashSet<PathBuf> = HashSet::from([real(above)?]);
    let mut waiting = vec![folder.to_owned()];

    while let Some(folder) = waiting.pop() {
        if !known.insert(real(&folder)?) {
            walked.links += 1;
            continue;
        }

        let mut listing = list(&folder)?;
        walked.files.append(&mut listing.files);
        walked.faults.append(&mut listing.faults);
        walked.hidden += listing.hidden;
        // The first of them is taken from the end next.
        waiting.extend(listing.folders.into_iter().rev());
    }

    walked.files.sort_by(|a, b| by_folder(a).cmp(&by_folder(b)));
    Ok(walked)
}

/// What files are sorted by: torchvision's order.
fn by_folder(path: &Path) -> (&[u8], &[u8]) {
    let folder = path.parent().unwrap_or(Path::new(""));
    (folder.as_os_str().as_encoded_bytes(), path.file_name().unwrap_or_default().as_encoded_bytes())
}
