//! Which folder holds which split, and which folders are classes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::walk::{Listing, list, walk};
use crate::data::codec::decode::{bad, is_picture};
use crate::data::error::{DataError, Result};
use crate::data::files::regular;
use crate::data::part::Split;

/// Names of the folder of training images, in any case.
const TRAIN: &[&[&str]] = &[&["train", "training"]];
/// Names of the folder of test images, in any case; the first group that is there counts.
const TEST: &[&[&str]] = &[&["test", "testing"], &["val", "valid", "validation"]];
/// Names that are listed in a message.
const SHOWN: usize = 5;
/// Files that are looked at to find out whether a folder holds pictures.
const LOOKED_AT: usize = 64;

/// What was found of a split, before any file is looked into.
pub(super) struct Part {
    /// The folder.
    pub(super) root: PathBuf,
    /// The classes by name; none where the files have no labels.
    pub(super) classes: Vec<Class>,
    /// The files without a class, where there are no classes.
    pub(super) unlabelled: Vec<PathBuf>,
    /// What cannot be used, each an error unless bad files are left out.
    pub(super) faults: Vec<DataError>,
    /// What was passed over, for people.
    pub(super) notes: Vec<String>,
}

/// A folder of images of one class.
pub(super) struct Class {
    pub(super) name: OsString,
    pub(super) files: Vec<PathBuf>,
}

/// Finds the files of a split.
///
/// # Errors
/// [`DataError::NoSplit`], [`DataError::NotThere`], [`DataError::Read`].
pub(super) fn find(folder: &Path, split: Split) -> Result<Part> {
    let top = list(folder)?;
    let train = one_of(folder, &top, TRAIN)?.0;
    let mut notes = Vec::new();
    let root = match split {
        Split::Test => {
            let (test, others) = one_of(folder, &top, TEST)?;
            if !others.is_empty() {
                notes.push(format!("the test images are those of one folder; passed over is {}", names(&others)));
            }
            test.ok_or_else(|| DataError::NoSplit {
                data: folder.display().to_string(),
                split,
                hint:
                    "expected a folder test or val in it. Use --split validation for images held out of the training \
                       ones"
                        .into(),
            })?
        }
        Split::Train | Split::Validation => match &train {
            Some(train) => {
                notes.extend(beside_train(&top, train)?);
                train.clone()
            }
            None => folder.to_owned(),
        },
    };

    let is_top = root == folder;
    let listing = if is_top { top } else { list(&root)? };
    let mut part = part(root, listing, is_top)?;
    notes.append(&mut part.notes);
    Ok(Part { notes, ..part })
}

/// Names of the training classes, in the order of the labels.
///
/// # Errors
/// As [`find`].
pub(super) fn training_classes(folder: &Path) -> Result<Vec<OsString>> {
    let top = list(folder)?;
    let (root, listing) = match one_of(folder, &top, TRAIN)?.0 {
        Some(train) => (train.clone(), list(&train)?),
        None => (folder.to_owned(), top),
    };
    let classes = listing.folders.iter().filter(|path| root != folder || !is_split(path));
    Ok(classes.filter_map(|path| path.file_name()).map(OsString::from).collect())
}

/// The folder of the first group of names that is there, and those of the other groups.
fn one_of(folder: &Path, top: &Listing, groups: &[&[&str]]) -> Result<(Option<PathBuf>, Vec<PathBuf>)> {
    let mut found: Option<PathBuf> = None;
    let mut others = Vec::new();
    for names in groups {
        let matching: Vec<&PathBuf> = top.folders.iter().filter(|path| is_named(path, names)).collect();

        // Two of one group are one too many; what later groups have is passed over.
        match (matching.as_slice(), &found) {
            ([], _) => {}
            ([one], None) => found = Some((*one).clone()),
            ([one, other, ..], None) => {
                let (one, other) = (one.display(), other.display());
                return Err(DataError::NotThere {
                    path: folder.to_owned(),
                    wanted: "a folder of images".into(),
                    hint: format!("{one} and {other} could both be the same part of it. Rename or move one of them"),
                });
            }
            (more, Some(_)) => others.extend(more.iter().copied().cloned()),
        }
    }
    Ok((found, others))
}

fn is_named(path: &Path, names: &[&str]) -> bool {
    path.file_name().is_some_and(|name| names.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)))
}

/// Whether a folder beside class folders is another split.
fn is_split(path: &Path) -> bool {
    TRAIN.iter().chain(TEST).any(|names| is_named(path, names))
}

/// What a folder of a `train` folder holds besides, if that is pictures.
fn beside_train(top: &Listing, train: &Path) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let beside = train.file_name().unwrap_or_default().to_string_lossy();
    let loose = top.files.iter().filter(|path| looks_like_picture(path)).count();
    if loose > 0 {
        notes.push(format!("passed over {} beside {beside}", counted(loose, "image")));
    }

    let mut folders = Vec::new();
    for path in top.folders.iter().filter(|path| !is_split(path)) {
        let files = walk(path, train)?.files;
        if files.iter().take(LOOKED_AT).any(|path| looks_like_picture(path)) {
            folders.push(path.clone());
        }
    }
    if !folders.is_empty() {
        notes.push(format!("passed over {} beside {beside}", names(&folders)));
    }
    Ok(notes)
}

/// The files of a folder of class folders or of files.
fn part(root: PathBuf, listing: Listing, is_top: bool) -> Result<Part> {
    let Listing { files, folders, mut hidden, mut faults } = listing;
    let (mut notes, mut classes, mut links) = (Vec::new(), Vec::new(), 0);
    let (splits, folders): (Vec<_>, Vec<_>) = folders.into_iter().partition(|path| is_top && is_split(path));
    for path in &folders {
        let mut walked = walk(path, &root)?;
        hidden += walked.hidden;
        links += walked.links;
        faults.append(&mut walked.faults);
        let leads_up = walked.files.is_empty() && walked.links > 0;
        if !leads_up {
            classes.push(Class { name: path.file_name().unwrap_or_default().into(), files: walked.files });
        }
    }

    let labelled = classes.iter().any(|class| !class.files.is_empty());
    let mut unlabelled = Vec::new();
    if labelled {
        refuse_other_layouts(&root, &folders, is_top, &mut notes)?;
        let (pictures, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| looks_like_picture(path));
        let (count, folders) = (pictures.len(), names(&folders));
        faults.extend(pictures.iter().map(|path| {
            let all = if count == 1 { String::new() } else { format!(" (as have {count} images there)") };
            bad(path, format!("has no class{all}: it lies beside {folders}. Move it into the folder of its class"))
        }));
        if !others.is_empty() {
            notes.push(format!("passed over {} beside the class folders", counted(others.len(), "file")));
        }
        if !splits.is_empty() {
            notes.push(format!("{} counts as a split, not as a class", names(&splits)));
        }
    } else if !files.is_empty() {
        unlabelled = files;
        if !folders.is_empty() {
            notes.push(format!("passed over {} without files", names(&folders)));
        }
        classes.clear();
    }

    if links > 0 {
        notes.push(format!("passed over {} to a folder that was read already", counted(links as usize, "link")));
    }
    if hidden > 0 {
        notes.push(format!("passed over {}", counted(hidden as usize, "hidden or system file or folder")));
    }
    Ok(Part { root, classes, unlabelled, faults, notes })
}

/// Refuses folders whose folders are not classes but data sets, and says where a folder more or less is likely.
fn refuse_other_layouts(root: &Path, classes: &[PathBuf], is_top: bool, notes: &mut Vec<String>) -> Result<()> {
    for class in classes.iter().filter(|_| is_top) {
        let inner = list(class)?.folders;
        let has = |groups: &[&[&str]]| inner.iter().any(|path| groups.iter().any(|names| is_named(path, names)));

        // DIR/<data set>/{train,test}: the folder below was meant.
        if has(TRAIN) && has(TEST) {
            let hint = format!(
                "its folder {} holds the splits ({}). Give that one, or put the splits above the classes: train/<class>/*",
                class.display(),
                names(&inner)
            );
            return Err(DataError::NotThere { path: root.to_owned(), wanted: "a folder of images".into(), hint });
        }

        // DIR/<folder>/<classes>: perhaps.
        if classes.len() == 1 && inner.len() > 1 {
            notes.push(format!(
                "all images are of the one class {}; if its folders are the classes ({}), give {}",
                names(classes),
                names(&inner),
                class.display()
            ));
        }
    }
    Ok(())
}

/// Whether a file is meant to be a picture, by its name or its first bytes.
fn looks_like_picture(path: &Path) -> bool {
    use std::io::Read as _;
    const ENDINGS: [&str; 10] = ["jpg", "jpeg", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "heic"];
    let by_name = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)));
    let mut start = Vec::new();
    let mut sniff = || regular::open(path).and_then(|file| file.take(32).read_to_end(&mut start)).is_ok();
    by_name || sniff() && is_picture(&start)
}

/// The first names of some paths, without their folders.
fn names(paths: &[PathBuf]) -> String {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    first_names(&paths.iter().map(name).collect::<Vec<_>>())
}

/// The first of some names, and how many more there are.
pub(super) fn first_names(names: &[String]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let first = names[..names.len() - more].join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

/// `1 image`, `2 images`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
