//! Readers of image data sets: what they read, and how they refuse what is damaged.

use std::fs;
use std::path::{Path, PathBuf};

use igpt_engine::data::{
    Cifar, CifarKind, DataError, FolderOptions, ImageFolder, ImageSource, SkipBad, Split, Stl, open_sample,
};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/cifar10-sample");
const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images");
const OPTIONS: FolderOptions = FolderOptions { skip_bad: SkipBad::NONE, min_side: Some(32), progress: false };

fn first_labels(source: &dyn ImageSource) -> Vec<u16> {
    (0..10).filter_map(|index| source.label(index)).collect()
}

#[test]
fn the_sample_is_the_start_of_cifar10() {
    let train = open_sample(Split::Train).unwrap();
    let test = open_sample(Split::Test).unwrap();
    assert_eq!((train.len(), test.len()), (1000, 200));
    assert_eq!(first_labels(&train), [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]);
    assert_eq!(first_labels(&test), [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]);
    // The planes of data_batch_1.bin's first record start 3b 2b 32 44 62 77 8b (red).
    let image = train.image(0).unwrap();
    let red: Vec<u8> = image.pixels().take(7).map(|pixel| pixel.0[0]).collect();
    assert_eq!(red, [0x3b, 0x2b, 0x32, 0x44, 0x62, 0x77, 0x8b]);
    let bytes = fs::read(Path::new(SAMPLE).join("data_batch_1.bin")).unwrap();
    assert_eq!(image.get_pixel(5, 3).0, [1, 1025, 2049].map(|plane| bytes[plane + 3 * 32 + 5]));
    assert_eq!(train.class_names()[6], "frog");
    assert!(train.image(1000).is_err());
    assert_eq!(train.label(1000), None);
}

/// A folder with the given files.
fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn record(labels: &[u8], pixel: u8) -> Vec<u8> {
    [labels, &[pixel; 3072]].concat()
}

fn open10(folder: &Path) -> Result<Cifar, DataError> {
    Cifar::open(CifarKind::Cifar10, folder, Split::Train)
}

#[test]
fn cifar10_takes_the_batches_that_exist_from_the_folder_or_its_parent() {
    let two = [record(&[1], 10), record(&[2], 20)].concat();
    let files = [("data_batch_2.bin", two), ("data_batch_5.bin", record(&[3], 30))];
    let direct = folder(&files);
    let nested = folder(
        &files
            .map(|(name, bytes)| (["cifar-10-batches-bin/", name].concat(), bytes))
            .each_ref()
            .map(|(name, bytes)| (name.as_str(), bytes.clone())),
    );
    for folder in [&direct, &nested] {
        let source = open10(folder.path()).unwrap();
        assert_eq!((0..3).map(|index| source.label(index).unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(source.image(2).unwrap().get_pixel(31, 31).0, [30; 3]);
        assert_eq!(source.label(3), None);
    }
    let error = Cifar::open(CifarKind::Cifar10, direct.path(), Split::Test).err().unwrap().to_string();
    assert!(error.contains("test_batch.bin") && error.contains("data fetch cifar10"), "{error}");
}

#[test]
fn damaged_cifar_files_are_named_with_what_is_wrong() {
    let partial = folder(&[("data_batch_1.bin", [record(&[1], 0), vec![0; 100]].concat())]);
    let error = open10(partial.path()).err().unwrap();
    assert!(matches!(error, DataError::PartialRecord { length: 3173, record: 3073, .. }), "{error}");
    assert!(error.to_string().contains("1 records of 3073 bytes and 100 bytes more"), "{error}");

    let empty = folder(&[("data_batch_1.bin", vec![])]);
    assert!(matches!(open10(empty.path()), Err(DataError::PartialRecord { .. })));

    let label = folder(&[("data_batch_1.bin", [record(&[9], 0), record(&[10], 0)].concat())]);
    let error = open10(label.path()).err().unwrap();
    assert!(matches!(error, DataError::Label { record: 1, label: 10, first: 0, last: 9, .. }), "{error}");
    assert!(error.to_string().contains("data_batch_1.bin"), "{error}");

    let oversized = folder(&[("data_batch_1.bin", vec![0; 10_001 * 3073])]);
    let error = open10(oversized.path()).err().unwrap();
    assert!(matches!(error, DataError::Oversized { records: 10_001, official: 10_000, .. }), "{error}");
}

#[test]
fn cifar100_reads_the_fine_label_and_checks_both() {
    let good = folder(&[("train.bin", [record(&[11, 19], 1), record(&[0, 99], 2)].concat())]);
    let source = Cifar::open(CifarKind::Cifar100, good.path(), Split::Validation).unwrap();
    assert_eq!((source.label(0), source.label(1)), (Some(19), Some(99)));
    assert_eq!(source.image(1).unwrap().get_pixel(0, 0).0, [2; 3]);
    assert_eq!(source.class_names().len(), 100);
    for (labels, found) in [([20, 0], 20), ([0, 100], 100)] {
        let bad = folder(&[("train.bin", record(&labels, 0))]);
        let error = Cifar::open(CifarKind::Cifar100, bad.path(), Split::Train).err().unwrap();
        assert!(matches!(error, DataError::Label { label, .. } if label == found), "{error}");
    }
}

#[test]
fn stl_is_column_major_with_labels_from_one() {
    let mut image = vec![0; 27_648];
    // Channel 1, column 70, row 5.
    image[9216 + 70 * 96 + 5] = 200;
    let open = |labels: Option<Vec<u8>>| {
        let mut files = vec![("stl10_binary/test_X.bin", image.clone())];
        files.extend(labels.map(|labels| ("stl10_binary/test_y.bin", labels)));
        let folder = folder(&files);
        Stl::open(folder.path(), Split::Test)
    };
    let source = open(Some(vec![10])).unwrap();
    let decoded = source.image(0).unwrap();
    assert_eq!(decoded.get_pixel(70, 5).0, [0, 200, 0]);
    assert_eq!(decoded.pixels().filter(|pixel| pixel.0 != [0; 3]).count(), 1);
    assert_eq!((source.len(), source.label(0)), (1, Some(9)));
    assert_eq!(open(None).unwrap().label(0), None);
    assert!(matches!(open(Some(vec![0])), Err(DataError::Label { label: 0, first: 1, last: 10, .. })));
    assert!(matches!(open(Some(vec![11])), Err(DataError::Label { label: 11, .. })));
    assert!(matches!(open(Some(vec![1, 1])), Err(DataError::Count { examples: 1, labels: 2, .. })));

    let cut = folder(&[("train_X.bin", vec![0; 27_647])]);
    assert!(matches!(Stl::open(cut.path(), Split::Train), Err(DataError::PartialRecord { .. })));
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(IMAGES).join(name)).unwrap()
}

#[test]
fn every_kind_of_file_comes_out_as_rgb8() {
    let source = ImageFolder::open(Path::new(IMAGES), Split::Train, OPTIONS).unwrap();
    assert_eq!((source.len(), source.label(0), source.class_names().len()), (10, None, 0));
    for index in 0..source.len() {
        let name = PathBuf::from(source.name(index)).file_name().unwrap().to_str().unwrap().to_owned();
        let expected: [u8; 3] = match name.split('.').next().unwrap() {
            "grey" | "grey16" | "grey_alpha" => [90; 3],
            "bilevel" => [255; 3],
            _ => [200, 100, 50],
        };
        let image = source.image(index).unwrap();
        assert_eq!(image.dimensions(), (40, 36), "{name}");
        let near = |pixel: &image::Rgb<u8>| pixel.0.iter().zip(expected).all(|(p, e)| p.abs_diff(e) <= 2);
        assert!(image.pixels().all(near), "{name}: {:?} is not {expected:?}", image.get_pixel(5, 5));
    }
}

#[test]
fn imagenet_layout_gives_classes_in_order_and_test_labels_by_training_class() {
    let jpeg = fixture("rgb.jpg");
    let folder = folder(&[
        ("train/n02/b.JPEG", jpeg.clone()),
        ("train/n02/a.jpg", jpeg.clone()),
        ("train/n01/z.png", fixture("rgb.png")),
        // A PNG by content, whatever its name says.
        ("train/n03/n02105855_2933.JPEG", fixture("rgb.png")),
        ("train/.DS_Store", b"x".to_vec()),
        ("val/n03/v.JPEG", jpeg.clone()),
    ]);
    let train = ImageFolder::open(folder.path(), Split::Train, OPTIONS).unwrap();
    assert_eq!(train.class_names(), ["n01", "n02", "n03"]);
    assert_eq!((0..4).map(|index| train.label(index).unwrap()).collect::<Vec<_>>(), [0, 1, 1, 2]);
    assert!(train.name(1).ends_with("a.jpg"));
    assert_eq!(train.image(3).unwrap().dimensions(), (40, 36));

    let test = ImageFolder::open(folder.path(), Split::Test, OPTIONS).unwrap();
    assert_eq!((test.len(), test.label(0), test.class_names().len()), (1, Some(2), 3));

    fs::create_dir(folder.path().join("val/n09")).unwrap();
    let error = ImageFolder::open(folder.path(), Split::Test, OPTIONS).err().unwrap().to_string();
    assert!(error.contains("n09"), "{error}");

    fs::remove_dir_all(folder.path().join("val")).unwrap();
    assert!(matches!(ImageFolder::open(folder.path(), Split::Test, OPTIONS), Err(DataError::NoSplit { .. })));
}

#[test]
fn class_folders_without_a_train_folder() {
    let folder = folder(&[
        ("cat/a.png", fixture("rgb.png")),
        ("dog/a.png", fixture("rgb.png")),
        ("test/cat/b.png", fixture("rgb.png")),
    ]);
    let train = ImageFolder::open(folder.path(), Split::Train, OPTIONS).unwrap();
    assert_eq!((train.len(), train.class_names()), (2, &["cat".to_owned(), "dog".to_owned()][..]));
    assert_eq!(ImageFolder::open(folder.path(), Split::Test, OPTIONS).unwrap().label(0), Some(0));
}

#[test]
fn bad_files_are_named_or_skipped() {
    let good = fixture("rgb.jpg");
    let truncated = good[..good.len() - 20].to_vec();
    let bads: [(&str, Vec<u8>); 6] = [
        ("not_an_image.jpg", b"hello, this is text".to_vec()),
        ("empty.png", Vec::new()),
        ("header_only.png", fixture("rgb.png")[..20].to_vec()),
        ("truncated.jpg", truncated),
        ("no_pixels.png", fixture("rgb.png")[..60].to_vec()),
        ("small.png", {
            let mut bytes = std::io::Cursor::new(Vec::new());
            image::RgbImage::new(31, 64).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
            bytes.into_inner()
        }),
    ];

    for (name, bytes) in bads {
        let path = format!("b/{name}");
        let folder = folder(&[("a/good.jpg", good.clone()), (&path, bytes), ("b/good.png", fixture("rgb.png"))]);
        // Strict: an error that names the file, on opening or on decoding.
        let decode_all = |source: ImageFolder| (0..source.len()).try_for_each(|index| source.image(index).map(drop));
        let error =
            ImageFolder::open(folder.path(), Split::Train, OPTIONS).and_then(decode_all).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("--skip-bad"), "{name}: {error}");
        // Skipping: every image decodes and keeps a true label, and the bad one is counted.
        let source =
            ImageFolder::open(folder.path(), Split::Train, FolderOptions { skip_bad: SkipBad::ALL, ..OPTIONS })
                .unwrap();
        for index in 0..source.len() {
            source.image(index).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert_eq!(source.skipped(), 1, "{name}");
        assert_eq!(source.class_names().len(), 2);
        assert!(source.describe().contains("1 bad file left out"), "{}", source.describe());
    }
}

#[test]
fn a_class_with_no_readable_file_is_an_error_even_when_skipping() {
    let folder = folder(&[("a/good.jpg", fixture("rgb.jpg")), ("b/bad.png", fixture("rgb.png")[..60].to_vec())]);
    let source =
        ImageFolder::open(folder.path(), Split::Train, FolderOptions { skip_bad: SkipBad::ALL, ..OPTIONS }).unwrap();
    assert_eq!(source.len(), 2);
    assert!(source.image(1).unwrap_err().to_string().contains("bad.png"));
}

#[test]
fn a_decompression_bomb_is_refused() {
    // A PNG header that promises 32,000 x 32,000 pixels of 16-bit RGBA: 8 GB.
    let mut png = fixture("rgb.png");
    png[16..24].copy_from_slice(&[0, 0, 0x7d, 0, 0, 0, 0x7d, 0]);
    png[24..26].copy_from_slice(&[16, 6]);
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let folder = folder(&[("bomb.png", png)]);
    let outcome = ImageFolder::open(folder.path(), Split::Train, OPTIONS).and_then(|source| source.image(0));
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("bomb.png") && error.to_lowercase().contains("limit"), "{error}");
}

pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn folders_that_are_not_there_or_empty() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nowhere");
    let error = ImageFolder::open(&missing, Split::Train, OPTIONS).err().unwrap().to_string();
    assert!(error.contains("nowhere"), "{error}");
    let error = ImageFolder::open(folder.path(), Split::Train, OPTIONS).err().unwrap();
    assert!(matches!(error, DataError::NotThere { .. }), "{error}");
    assert!(matches!(open10(&missing), Err(DataError::NotThere { .. })));
}

/// Pictures written to STL-10's layout by one program and as PNGs by another come back the same; with
/// `IGPT_STL10_SAMPLE=DIR`, those of DIR (`train_X.bin`, `train_y.bin`, and `png/` in the same order) too.
#[test]
fn stl10_reads_back_exactly_as_its_pngs() {
    let made = tempfile::tempdir().unwrap();
    let pictures: Vec<image::RgbImage> = (0..3_u32)
        .map(|number| {
            image::RgbImage::from_fn(96, 96, |x, y| image::Rgb([x * 2, y * 2, x ^ y ^ number].map(|v| v as u8)))
        })
        .collect();
    fs::create_dir(made.path().join("png")).unwrap();
    let mut records = Vec::new();

    for (number, picture) in pictures.iter().enumerate() {
        picture.save(made.path().join(format!("png/{number}.png"))).unwrap();
        // Column after column of a plane, as the format has it: turned on its side, a picture is stored row by row.
        let turned = image::imageops::flip_horizontal(&image::imageops::rotate90(picture));
        (0..3).for_each(|channel| records.extend(turned.pixels().map(|pixel| pixel.0[channel])));
    }

    fs::write(made.path().join("train_X.bin"), records).unwrap();
    fs::write(made.path().join("train_y.bin"), [1, 10, 4]).unwrap();
    let sample = std::env::var_os("IGPT_STL10_SAMPLE").map(PathBuf::from);

    for folder in std::iter::once(made.path().to_owned()).chain(sample) {
        let stl = Stl::open(&folder, Split::Train).unwrap();
        let pngs = ImageFolder::open(&folder.join("png"), Split::Train, OPTIONS).unwrap();
        assert_eq!(stl.len(), pngs.len(), "{}", folder.display());
        for index in 0..stl.len() {
            assert!(stl.image(index).unwrap() == pngs.image(index).unwrap(), "image {index} of {}", folder.display());
        }
    }

    assert_eq!(Stl::open(made.path(), Split::Train).unwrap().label(1), Some(9));
}
