//! `.npy` files, and token arrays in them.

use igpt_engine::data::{DataError, Examples, Palette, Result, Shard, TokenArray, npy};
use proptest::prelude::*;

proptest! {
    #[test]
    fn npy_round_trips(rows in 0_usize..7, columns in 0_usize..9, values in prop::collection::vec(any::<i64>(), 63)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let values = &values[..rows * columns];
        npy::write_i64(&path, &[rows, columns], values).unwrap();
        let array = npy::Npy::open(&path).unwrap();
        prop_assert_eq!(array.shape(), [rows, columns]);
        prop_assert_eq!(array.integers(0..array.len()).unwrap().collect::<Vec<_>>(), values);
        prop_assert!(array.to_f32().unwrap().iter().zip(values).all(|(float, whole)| *float == *whole as f32));
    }

    /// Random damage never panics, and never yields values that the file does not hold.
    #[test]
    fn npy_survives_damage(
        damage in prop::collection::vec((0_usize..200, any::<u8>()), 0..6),
        cut in 0_usize..=216,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        npy::write_u16(&path, &[6, 4], &(0..24).collect::<Vec<_>>()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        bytes.truncate(cut);
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(array) = npy::Npy::open(&path) {
            prop_assert!(array.len() * array.dtype().size() <= bytes.len());
            prop_assert_eq!(array.f64s(0..usize::MAX).unwrap().count(), array.len());
        }
    }

    #[test]
    fn npy_survives_hostile_headers(header in "\\PC{0,80}", version in 0_u8..5, length in any::<u32>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let mut bytes = [b"\x93NUMPY".as_slice(), &[version, 0], &length.to_le_bytes()].concat();
        bytes.extend_from_slice(header.as_bytes());
        std::fs::write(&path, bytes).unwrap();
        prop_assert!(npy::Npy::open(&path).is_err());
    }
}

fn raw_npy(dictionary: &str, values: &[u8]) -> Vec<u8> {
    let length = u16::try_from(dictionary.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00".as_slice(), &length, dictionary.as_bytes(), values].concat()
}

#[test]
fn npy_errors_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    let mut cases = vec![
        (raw_npy("{'descr': '|O', 'fortran_order': False, 'shape': (4,), }", &[0; 16]), "not supported"),
        (raw_npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,), }", &[0; 16]), "structured"),
        (raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }", &[0; 16]), "promises 20 bytes"),
        (raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", &[0; 16]), "promises 12 bytes"),
        (
            raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 3), }", &[0; 16]),
            "too large",
        ),
        (raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-4,), }", &[0; 16]), "bad shape"),
        (raw_npy("{'descr': '<f4', 'shape': (4,), }", &[0; 16]), "without one of"),
        (b"PK\x03\x04 an npz archive".to_vec(), "not a .npy"),
    ];
    cases.push(([b"\x93NUMPY\x02\x00".as_slice(), &[0xff; 4], &[b' '; 40]].concat(), "at most"));

    for (bytes, wanted) in cases {
        std::fs::write(&path, bytes).unwrap();
        let error = npy::Npy::open(&path).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("x.npy"), "{wanted}: {error}");
    }

    // What NumPy itself writes: version 1, scalars and one-tuples, any key order.
    std::fs::write(&path, raw_npy("{\"shape\": (3,), 'fortran_order': False, 'descr': '|u1'}   \n", &[1, 2, 3]))
        .unwrap();
    assert_eq!(npy::Npy::open(&path).unwrap().integers(0..3).unwrap().collect::<Vec<_>>(), [1, 2, 3]);

    std::fs::write(&path, raw_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (), }", &1.5_f64.to_le_bytes()))
        .unwrap();
    assert_eq!(npy::Npy::open(&path).unwrap().to_f32().unwrap(), [1.5]);
}

#[test]
fn what_stands_in_the_place_of_an_array_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 305\n";
    let put = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let tokens = put("x.npy", "");
    npy::write_u16(&tokens, &[2, 2], &[1, 2, 3, 4]).unwrap();

    // Tokens, labels, palettes, archives of arrays and shards.
    for (text, word) in [
        (pointer, "git lfs pull"),
        ("<!DOCTYPE html><title>Sign in</title>", "web page"),
        ("", "download did not finish"),
    ] {
        let (pointer, archive, shard) = (put("p.npy", text), put("p.npz", text), put("p.shard", text));
        for (error, name) in [
            (TokenArray::open(&pointer, None, 512).err().unwrap(), "p.npy"),
            (TokenArray::open(&tokens, Some(&pointer), 512).err().unwrap(), "p.npy"),
            (Palette::load(&pointer).unwrap_err(), "p.npy"),
            (npy::Npy::open(&archive).unwrap_err(), "p.npz"),
            (npy::Npy::open(folder.path().join("p.npz:x")).unwrap_err(), "p.npz:x"),
            (Shard::open(&shard).unwrap_err(), "p.shard"),
        ] {
            let error = error.to_string();
            assert!(error.contains(word) && error.contains(name), "{name}: {error}");
        }
    }

    // An archive that ends early is still an archive.
    std::fs::write(folder.path().join("p.npz"), b"PK\x03\x04 the rest is missing").unwrap();
    let error = npy::Npy::open(folder.path().join("p.npz")).unwrap_err().to_string();
    assert!(error.contains("not a whole .npz archive"), "{error}");
}

#[test]
fn an_unfinished_array_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = npy::Writer::<u16>::create(folder.path().join("a.npy"), &[2, 2]).unwrap();
    writer.append(&[1, 2, 3]).unwrap();
    assert!(writer.append(&[4, 5]).is_err());
    assert!(writer.finish().is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Token files in a folder of their own.
pub struct TokenFiles(tempfile::TempDir);

impl TokenFiles {
    pub fn new(tokens: &[u16], columns: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        npy::write_u16(folder.path().join("x.npy"), &[tokens.len() / columns, columns], tokens).unwrap();
        TokenFiles(folder)
    }

    pub fn labels<T: npy::Element>(&self, shape: &[usize], labels: &[T]) -> Result<TokenArray> {
        npy::write(self.0.path().join("y.npy"), shape, labels)?;
        TokenArray::open(&self.0.path().join("x.npy"), Some(&self.0.path().join("y.npy")), 512)
    }

    pub fn open(&self, vocabulary: usize) -> Result<TokenArray> {
        TokenArray::open(&self.0.path().join("x.npy"), None, vocabulary)
    }
}

#[test]
fn token_arrays_are_checked_on_opening() {
    let files = TokenFiles::new(&[0, 1, 2, 3, 511, 5], 3);
    let array = files.open(512).unwrap();
    assert_eq!((array.len(), array.sequence_length(), array.vocabulary(), array.classes()), (2, 3, 512, 0));
    let mut out = [0; 3];
    array.tokens(1, None, &mut out).unwrap();
    assert_eq!(out, [3, 511, 5]);
    assert!(array.tokens(2, None, &mut out).is_err());
    assert!(array.tokens(0, None, &mut out[..2]).is_err());
    let error = files.open(511).err().unwrap();
    assert!(matches!(error, DataError::Token { row: 1, column: 1, token: 511, vocabulary: 511, .. }), "{error}");

    npy::write_i64(files.0.path().join("x.npy"), &[1, 2], &[3, -1]).unwrap();
    assert!(matches!(files.open(512), Err(DataError::Token { token: -1, .. })));
    npy::write_f32(files.0.path().join("x.npy"), &[1, 2], &[3.0, 1.0]).unwrap();
    assert!(matches!(files.open(512), Err(DataError::Npy { .. })));
    npy::write_u16(files.0.path().join("x.npy"), &[4], &[0; 4]).unwrap();
    assert!(matches!(files.open(512), Err(DataError::Npy { .. })));
}

#[test]
fn labels_may_be_integers_or_one_hot() {
    let files = TokenFiles::new(&[0, 1, 2, 3], 2);
    let integers = files.labels(&[2], &[7_i64, 2]).unwrap();
    assert_eq!((integers.label(0), integers.label(1), integers.classes()), (Some(7), Some(2), 8));
    let one_hot = files.labels(&[2, 3], &[0.0_f32, 0.0, 1.0, 1.0, 0.0, 0.0]).unwrap();
    assert_eq!((one_hot.label(0), one_hot.label(1), one_hot.classes()), (Some(2), Some(0), 3));
    assert!(matches!(files.labels(&[3], &[0_i64; 3]), Err(DataError::Count { examples: 2, labels: 3, .. })));
    assert!(matches!(files.labels(&[2], &[0_i64, -1]), Err(DataError::Label { record: 1, label: -1, .. })));
    let twice = files.labels(&[2, 2], &[1_u8, 1, 0, 1]).err().unwrap().to_string();
    assert!(twice.contains("row 0") && twice.contains("one-hot"), "{twice}");
    assert!(files.labels(&[2, 2], &[0.5_f32, 0.5, 0.0, 1.0]).is_err());
}
