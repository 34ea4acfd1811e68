//! The forms that CIFAR and STL-10 are had in beside unpacked binary files: the Python version, and archives as downloaded.

use std::fs;
use std::path::Path;

use igpt_engine::data::{
    Cifar, CifarKind, CifarPlace, DataError, DataSpec, ImageSource, InspectOptions, Split, Stl, data_named, inspect,
};
use test_support::unpacked;

const PICKLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pickle");

/// Asserts that a source holds two images per seed, as `make.py` of the fixture says.
fn assert_made(source: &dyn ImageSource, seeds: &[u8]) {
    assert_eq!(source.len(), 2 * seeds.len());
    for (file, &seed) in seeds.iter().enumerate() {
        for i in 0..2_u8 {
            let index = 2 * file + usize::from(i);
            assert_eq!(source.label(index), Some(u16::from(seed + i)), "image {index}");
            let image = source.image(index).unwrap();
            for (x, y, pixel) in image.enumerate_pixels() {
                let expected = [0, 1, 2].map(|c| (50 * i + 60 * c + 2 * y as u8).wrapping_add(seed));
                assert_eq!(pixel.0, expected, "image {index} at ({x}, {y})");
            }
        }
    }
    assert!(source.image(2 * seeds.len()).is_err());
}

#[test]
fn the_python_version_is_read_whatever_wrote_it() {
    // Each file is of another protocol and NumPy; those of CIFAR-100 are in Fortran order, their labels NumPy's scalars.
    let ten = unpacked("pickle/cifar-10-python.tar.gz");
    for path in [ten.path().to_owned(), ten.path().join("cifar-10-batches-py")] {
        let train = Cifar::open(CifarKind::Cifar10, &path, Split::Train).unwrap();
        assert_made(&train, &[1, 2, 3, 4, 5]);
        assert_eq!(train.class_names()[9], "class 9");
        assert_made(&Cifar::open(CifarKind::Cifar10, &path, Split::Test).unwrap(), &[6]);
        assert_eq!(data_named(path.to_str().unwrap()).unwrap(), DataSpec::Cifar10(path));
    }

    let hundred = unpacked("pickle/cifar-100-python.tar.gz");
    for path in [hundred.path().to_owned(), hundred.path().join("cifar-100-python")] {
        let train = Cifar::open(CifarKind::Cifar100, &path, Split::Train).unwrap();
        assert_made(&train, &[7]);
        assert_eq!(train.class_names()[41], "fine 41");
        assert_made(&Cifar::open(CifarKind::Cifar100, &path, Split::Test).unwrap(), &[8]);
        assert_eq!(data_named(path.to_str().unwrap()).unwrap(), DataSpec::Cifar100(path));
    }
}

/// A batch as Python 2 and NumPy 1 pickled the official ones: plain strings in protocol 2.
fn python_2_batch(labels: &[u8], pixels: &[u8]) -> Vec<u8> {
    let mut bytes =
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05(".to_vec();
    labels.iter().for_each(|&label| bytes.extend([b'K', label]));
    bytes.extend(b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01M");
    bytes.extend((labels.len() as u16).to_le_bytes());
    bytes.extend(b"M\x00\x0c\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
    bytes.extend((pixels.len() as u32).to_le_bytes());
    bytes.extend(pixels);
    bytes.extend(b"tbU\x09filenamesq\x0c]q\x0dU\x05a.pngq\x0eau.");
    bytes
}

#[test]
fn pickles_of_python_2_hold_the_images_of_the_binary_version() {
    let records = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/cifar10-sample/data_batch_1.bin")).unwrap();
    let records: Vec<&[u8]> = records.chunks_exact(3073).take(20).collect();
    let (labels, pixels): (Vec<u8>, Vec<&[u8]>) = records.iter().map(|record| (record[0], &record[1..])).unzip();

    let place = tempfile::tempdir().unwrap();
    let (binary, python) = (place.path().join("cifar-10-batches-bin"), place.path().join("cifar-10-batches-py"));
    fs::create_dir(&binary).unwrap();
    fs::create_dir(&python).unwrap();
    fs::write(binary.join("data_batch_1.bin"), records.concat()).unwrap();
    fs::write(python.join("data_batch_1"), python_2_batch(&labels, &pixels.concat())).unwrap();
    fs::write(
        python.join("batches.meta"),
        b"\x80\x02}U\x0blabel_names](U\x01aU\x01bU\x01cU\x01dU\x01eU\x01fU\x01gU\x01hU\x01iU\x01jes.",
    )
    .unwrap();

    let [one, two] = [&binary, &python].map(|path| Cifar::open(CifarKind::Cifar10, path, Split::Train).unwrap());
    assert_eq!((one.len(), two.len()), (20, 20));
    for index in 0..20 {
        assert_eq!(one.label(index), two.label(index));
        assert_eq!(one.image(index).unwrap(), two.image(index).unwrap());
    }
    assert_eq!(two.class_names().concat(), "abcdefghij");
    // Where both lie beside each other, the binary version is taken.
    assert_eq!(CifarPlace::find(CifarKind::Cifar10, place.path()), Some(CifarPlace::Binary(binary)));
}

#[test]
fn damaged_and_hostile_pickles_are_refused_with_their_name() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data_batch_1");
    let refusal = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = Cifar::open(CifarKind::Cifar10, place.path(), Split::Train).err().unwrap();
        assert!(error.to_string().contains("data_batch_1"), "{error}");
        error.to_string()
    };

    assert!(refusal(b"cos\nsystem\n(S'true'\ntR.").contains("os.system"));
    assert!(refusal(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.").contains("builtins.eval"));
    assert!(refusal(b"").contains("truncated"));
    assert!(refusal(b"\xff\xd8\xff\xe0 a picture").contains("no pickle"));
    assert!(refusal(b"]q\x00h\x00a.").contains("data and labels"));
    assert!(refusal(&python_2_batch(&[1, 10], &[0; 6144])).contains("label 10"));
    assert!(refusal(&python_2_batch(&[1, 2], &[0; 6143])).contains("do not go together"));

    // Cut anywhere, or one byte of the frame changed: an error or a data set, never a panic.
    let sound = python_2_batch(&[1, 2], &[0; 6144]);
    for length in (0..sound.len()).step_by(61).chain(0..300).chain(sound.len() - 40..sound.len()) {
        refusal(&sound[..length]);
    }
    for at in (0..260).chain(sound.len() - 40..sound.len()) {
        for value in [0, b'(', b'R', b'h', 0x7f, 0x80, 0xff] {
            let mut bytes = sound.clone();
            bytes[at] = value;
            fs::write(&path, bytes).unwrap();
            let _ = Cifar::open(CifarKind::Cifar10, place.path(), Split::Train).map(|source| source.len());
        }
    }
}

/// A gzipped tar of the given files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn archives_are_read_as_downloaded_in_place_of_a_folder_or_in_it() {
    // The Python version, as the fixture is packed.
    let place = tempfile::tempdir().unwrap();
    for (kind, name, seeds) in [
        (CifarKind::Cifar10, "cifar-10-python.tar.gz", &[1, 2, 3, 4, 5][..]),
        (CifarKind::Cifar100, "cifar-100-python.tar.gz", &[7]),
    ] {
        let folder = place.path().join(name.trim_end_matches(".tar.gz"));
        fs::create_dir(&folder).unwrap();
        fs::copy(Path::new(PICKLES).join(name), folder.join(name)).unwrap();
        for path in [folder.clone(), folder.join(name)] {
            assert_made(&Cifar::open(kind, &path, Split::Train).unwrap(), seeds);
        }
        // Under another name it is known by what is in it.
        fs::rename(folder.join(name), folder.join("download.tgz")).unwrap();
        let found = data_named(folder.join("download.tgz").to_str().unwrap()).unwrap();
        assert_eq!(matches!(found, DataSpec::Cifar10(_)), kind == CifarKind::Cifar10);
        assert_eq!(matches!(found, DataSpec::Cifar100(_)), kind == CifarKind::Cifar100);
    }

    // The binary version, with names; `./` before the paths as some tars have it.
    let record = |label: u8, pixel: u8| [&[label][..], &[pixel; 3072]].concat();
    let (train, test) = ([record(1, 10), record(2, 20)].concat(), record(3, 30));
    let names = b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n";
    let files = [
        ("./cifar-10-batches-bin/batches.meta.txt", &names[..]),
        ("./cifar-10-batches-bin/data_batch_2.bin", &train),
        ("./cifar-10-batches-bin/test_batch.bin", &test),
        ("./elsewhere/data_batch_1.bin", b"of something else"),
    ];
    let path = place.path().join("cifar-10-binary.tar.gz");
    fs::write(&path, archive(&files)).unwrap();
    let train = Cifar::open(CifarKind::Cifar10, place.path(), Split::Train).unwrap();
    assert_eq!((train.len(), train.label(1), train.class_names()[2].as_str()), (2, Some(2), "c"));
    assert_eq!(train.image(1).unwrap().get_pixel(31, 31).0, [20; 3]);
    assert_eq!(Cifar::open(CifarKind::Cifar10, &path, Split::Test).unwrap().label(0), Some(3));

    // STL-10.
    let images = [vec![7_u8; 27_648], vec![9; 27_648]].concat();
    let files = [("stl10_binary/test_X.bin", &images[..]), ("stl10_binary/test_y.bin", &[1, 10])];
    let path = place.path().join("stl10_binary.tar.gz");
    fs::write(&path, archive(&files)).unwrap();
    for given in [place.path(), &path] {
        let test = Stl::open(given, Split::Test).unwrap();
        assert_eq!((test.len(), test.label(1)), (2, Some(9)));
        assert_eq!(test.image(1).unwrap().get_pixel(0, 0).0, [9; 3]);
        assert!(matches!(Stl::open(given, Split::Train), Err(DataError::NotThere { .. })));
    }
    assert_eq!(data_named(path.to_str().unwrap()).unwrap(), DataSpec::Stl10(path));
}

#[test]
fn data_info_says_which_form_it_is_and_takes_no_pickle_for_a_picture() {
    let folder = unpacked("pickle/cifar-10-python.tar.gz");
    let archive = Path::new(PICKLES).join("cifar-100-python.tar.gz");
    for (path, kind, note) in [
        (folder.path(), "CIFAR-10, Python version", "no code in them is run"),
        (&archive, "CIFAR-100, the archive as downloaded", "tar xf"),
    ] {
        let spec = data_named(path.to_str().unwrap()).unwrap();
        let contents = inspect(&spec, InspectOptions::default()).unwrap();
        assert_eq!(contents.kind, kind);
        assert!(contents.notes[0].contains(note), "{:?}", contents.notes);
        assert!(contents.splits.iter().all(|split| split.examples > 0 && split.missing.is_none()));
    }
}

#[test]
fn archives_that_are_damaged_or_none_are_named() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("cifar-10-binary.tar.gz");
    let refusal = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = Cifar::open(CifarKind::Cifar10, place.path(), Split::Train).err().unwrap();
        assert!(matches!(error, DataError::Archive { .. }) && error.to_string().contains("tar"), "{error}");
        error.to_string()
    };
    assert!(refusal(b"").contains("empty"));
    assert!(refusal(b"<html>404</html>").contains("<html>404</html>"));
    refusal(b"\x1f\x8bxxxx");
    let sound = fs::read(Path::new(PICKLES).join("cifar-10-python.tar.gz")).unwrap();
    for length in (3..sound.len()).step_by(13).chain([sound.len() - 1]) {
        assert!(refusal(&sound[..length]).contains("truncated"), "{length}");
    }
    // One flipped bit is found at the latest by the checksum at the end.
    for at in (20..sound.len()).step_by(7) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        assert!(Cifar::open(CifarKind::Cifar10, place.path(), Split::Train).is_err(), "byte {at}");
    }
    // A file that is larger than any official one is not taken into memory.
    let huge = archive(&[("cifar-10-batches-bin/data_batch_1.bin", &vec![0; 60 << 20])]);
    assert!(refusal(&huge).contains("more than"));
}
