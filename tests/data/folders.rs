//! Folders as people have them: every file is used, refused by name, or counted in a note.

use std::fs;
use std::path::Path;

use igpt_engine::data::{FolderOptions, ImageFolder, ImageSource, Result, SkipBad, Split};

use crate::support::{picture, png, put};

const STRICT: FolderOptions = FolderOptions { skip_bad: SkipBad::NONE, min_side: Some(1), progress: false };
const LENIENT: FolderOptions = FolderOptions { skip_bad: SkipBad::ALL, ..STRICT };

fn open(folder: &Path, split: Split) -> Result<ImageFolder> {
    ImageFolder::open(folder, split, STRICT)
}

/// A folder with a picture of its own under each of these names.
fn folder(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, name) in (0..).zip(names) {
        put(folder.path(), name, &png(&picture(number, 20, 20)));
    }
    folder
}

/// Paths below the folder, and labels.
fn files(source: &ImageFolder, folder: &Path) -> Vec<(String, Option<u16>)> {
    let name = |index| Path::new(&source.name(index)).strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    (0..source.len()).map(|index| (name(index), source.label(index))).collect()
}

#[test]
fn files_of_folders_below_a_class_are_of_the_class() {
    let folder = folder(&[
        "train/dog/z.png",
        "train/dog/more/a.png",
        "train/dog/more/deep/er/b.png",
        "train/dog/also/c.png",
        "train/cat/d.png",
    ]);
    let source = open(folder.path(), Split::Train).unwrap();
    let expected = [
        ("train/cat/d.png", 0),
        ("train/dog/z.png", 1),
        ("train/dog/also/c.png", 1),
        ("train/dog/more/a.png", 1),
        ("train/dog/more/deep/er/b.png", 1),
    ];
    assert_eq!(files(&source, folder.path()), expected.map(|(name, label)| (name.to_owned(), Some(label))));
    assert_eq!(source.class_names(), ["cat", "dog"]);
    // Nothing is dropped where bad files are.
    assert_eq!(ImageFolder::open(folder.path(), Split::Train, LENIENT).unwrap().len(), 5);
}

#[test]
fn images_beside_class_folders_are_refused_and_counted() {
    let folder = folder(&["0.png", "1.png", "2.png", "thumbs/0.png"]);
    let error = open(folder.path(), Split::Train).err().unwrap().to_string();
    assert!(error.contains("0.png: has no class (as have 3 images there)"), "{error}");
    assert!(error.contains("thumbs"), "{error}");

    let source = ImageFolder::open(folder.path(), Split::Train, LENIENT).unwrap();
    assert_eq!((source.len(), source.skipped()), (1, 3));
    assert!(source.describe().contains("3 bad files left out"), "{}", source.describe());

    // Files that are no images are only noted, and an empty folder beside the images is no class.
    for name in ["0.png", "1.png", "2.png"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    put(folder.path(), "notes.txt", b"of the photographs");
    let source = open(folder.path(), Split::Train).unwrap();
    assert!(source.notes().concat().contains("passed over 1 file beside the class folders"), "{:?}", source.notes());
    let folder = self::folder(&["0.png", "1.png"]);
    fs::create_dir(folder.path().join("new folder")).unwrap();
    let source = open(folder.path(), Split::Train).unwrap();
    assert_eq!((source.len(), source.label(0)), (2, None));
    assert!(source.notes().concat().contains("new folder"), "{:?}", source.notes());
}

#[test]
fn splits_are_known_by_their_names_in_any_case() {
    for (train, test) in
        [("Train", "Test"), ("TRAIN", "VAL"), ("training", "testing"), ("Training", "Validation"), ("train", "valid")]
    {
        let folder =
            folder(&[&format!("{train}/cat/0.png"), &format!("{train}/dog/1.png"), &format!("{test}/dog/2.png")]);
        let source = open(folder.path(), Split::Train).unwrap();
        assert_eq!((source.len(), source.class_names().len()), (2, 2), "{train}");
        let source = open(folder.path(), Split::Test).unwrap();
        assert_eq!((source.len(), source.label(0)), (1, Some(1)), "{test}");
    }

    // Of two test folders one is taken, and said; two training folders are refused.
    let folder = folder(&["train/cat/0.png", "test/cat/1.png", "val/cat/2.png", "val/cat/3.png"]);
    let source = open(folder.path(), Split::Test).unwrap();
    assert_eq!(source.len(), 1);
    assert!(source.notes().concat().contains("passed over is val"), "{:?}", source.notes());
    put(folder.path(), "training/cat/4.png", &png(&picture(4, 20, 20)));
    let error = open(folder.path(), Split::Train).err().unwrap().to_string();
    assert!(error.contains("could both be the same part"), "{error}");
}

#[test]
fn a_class_may_be_called_as_a_split_is() {
    let folder = folder(&["train/cat/0.png", "train/test/1.png", "train/val/2.png", "test/test/3.png"]);
    let source = open(folder.path(), Split::Train).unwrap();
    assert_eq!((source.len(), source.class_names()), (3, &["cat", "test", "val"].map(str::to_owned)[..]));
    assert_eq!(open(folder.path(), Split::Test).unwrap().label(0), Some(1));

    // Beside class folders it is the split, and that is said.
    let folder = self::folder(&["cat/0.png", "dog/1.png", "test/cat/2.png"]);
    let source = open(folder.path(), Split::Train).unwrap();
    assert_eq!(source.len(), 2);
    assert!(source.notes().concat().contains("test counts as a split, not as a class"), "{:?}", source.notes());
}

#[test]
fn what_systems_leave_behind_is_no_class_and_no_image() {
    let folder = folder(&["train/cat/0.png", "train/dog/1.png", "train/@eaDir/2.png", "train/.cache/3.png"]);
    put(folder.path(), "train/__MACOSX/._cat", b"\0\x05\x16\x07");
    for name in [".DS_Store", "Thumbs.db", "desktop.ini", "._0.png"] {
        put(folder.path(), &format!("train/cat/{name}"), b"x");
    }
    let source = open(folder.path(), Split::Train).unwrap();
    assert_eq!((source.len(), source.class_names()), (2, &["cat", "dog"].map(str::to_owned)[..]));
    let notes = source.notes().concat();
    assert!(notes.contains("passed over 7 hidden or system file or folders"), "{notes}");

    // What lies beside the training folder is said too.
    put(folder.path(), "raw/4.png", &png(&picture(4, 20, 20)));
    put(folder.path(), "5.png", &png(&picture(5, 20, 20)));
    let notes = open(folder.path(), Split::Train).unwrap().notes().join("; ");
    assert!(
        notes.contains("passed over 1 image beside train") && notes.contains("passed over raw beside train"),
        "{notes}"
    );
}

#[test]
fn classes_without_images_keep_their_number_and_are_noted() {
    let folder = folder(&["train/ant/0.png", "train/cow/1.png"]);
    for class in ["bee", "dog"] {
        fs::create_dir(folder.path().join("train").join(class)).unwrap();
    }
    let source = open(folder.path(), Split::Train).unwrap();
    assert_eq!((source.class_names().len(), source.label(1)), (4, Some(2)));
    assert_eq!(source.notes(), ["2 classes have no images: bee, dog"]);
    fs::remove_dir(folder.path().join("train/dog")).unwrap();
    assert_eq!(open(folder.path(), Split::Train).unwrap().notes(), ["the class bee has no images"]);
}

#[cfg(unix)]
#[test]
fn names_that_are_not_unicode_are_names() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = folder(&["train/cat/0.png", "train/dog/1.png"]);
    // Two classes that look alike when shown, and a file.
    for (number, class) in [(2, &b"caf\xe9"[..]), (3, b"caf\xe8")] {
        let class = folder.path().join("train").join(OsStr::from_bytes(class));
        fs::create_dir(&class).unwrap();
        for name in [&b"plain.png"[..], b"\xff\xfe.png"] {
            fs::write(class.join(OsStr::from_bytes(name)), png(&picture(number, 20, 20))).unwrap();
        }
    }
    let source = open(folder.path(), Split::Train).unwrap();
    assert_eq!((source.len(), source.class_names().len()), (6, 4));
    assert_eq!(source.class_names()[0], "caf\u{fffd}");
    for index in 0..source.len() {
        // Sorted by bytes: the two of `caf\xe8`, of `caf\xe9`, cat, dog.
        let (label, number) = [(0, 3), (0, 3), (1, 2), (1, 2), (2, 0), (3, 1)][index];
        assert_eq!(source.label(index), Some(label));
        assert!(source.image(index).unwrap() == picture(number, 20, 20), "image {index}");
    }
}

#[cfg(unix)]
#[test]
fn pipes_and_links_that_lead_nowhere_are_named_and_never_waited_for() {
    let folder = folder(&["train/cat/0.png", "train/cat/1.png", "train/dog/2.png"]);
    let pipe = folder.path().join("train/cat/pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = open(folder.path(), Split::Train).err().unwrap().to_string();
    assert!(error.contains("pipe.png: is a named pipe, not a regular file"), "{error}");
    fs::remove_file(&pipe).unwrap();

    std::os::unix::fs::symlink("nowhere.png", folder.path().join("train/dog/link.png")).unwrap();
    let error = open(folder.path(), Split::Train).err().unwrap().to_string();
    assert!(error.contains("link.png: is a link that cannot be followed"), "{error}");
    let source = ImageFolder::open(folder.path(), Split::Train, LENIENT).unwrap();
    assert_eq!((source.len(), source.skipped()), (3, 1));
    fs::remove_file(folder.path().join("train/dog/link.png")).unwrap();

    // Links to files are files; one to a folder above is walked once.
    std::os::unix::fs::symlink("../cat/0.png", folder.path().join("train/dog/same.png")).unwrap();
    std::os::unix::fs::symlink("..", folder.path().join("train/dog/up")).unwrap();
    let source = open(folder.path(), Split::Train).unwrap();
    assert_eq!(source.len(), 4);
    assert!(
        source.notes().concat().contains("passed over 1 link to a folder that was read already"),
        "{:?}",
        source.notes()
    );
}
