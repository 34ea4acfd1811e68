//! Arrays of every kind that NumPy writes, archives of them, and damage in those written here.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use igpt_engine::data::{DataError, Examples, Palette, TokenArray, npy};
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// What NumPy writes: version 1, values after a header that ends at a multiple of 64.
fn array(descr: &str, fortran: bool, shape: &str, values: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    let total = (11 + header.len()).next_multiple_of(64);
    header.push_str(&" ".repeat(total - 11 - header.len()));
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), values].concat()
}

/// `0, 1, 2, ...` in one type after the other, with NumPy's name for it; the other order of bytes behind it.
fn every_type(count: u8) -> Vec<(String, Vec<u8>)> {
    let mut types = Vec::new();
    let mut add = |kind: &str, little: Vec<Vec<u8>>| {
        let size = little[0].len();
        let big = little.iter().map(|value| value.iter().rev().copied().collect()).collect::<Vec<Vec<u8>>>();
        types.push((format!("{}{kind}{size}", if size == 1 { "|" } else { "<" }), little.concat()));
        types.push((format!(">{kind}{size}"), big.concat()));
    };
    add("u", (0..count).map(|n| vec![n]).collect());
    add("i", (0..count).map(|n| vec![n]).collect());
    add("u", (0..count).map(|n| u16::from(n).to_le_bytes().to_vec()).collect());
    add("i", (0..count).map(|n| i16::from(n).to_le_bytes().to_vec()).collect());
    add("u", (0..count).map(|n| u32::from(n).to_le_bytes().to_vec()).collect());
    add("i", (0..count).map(|n| i32::from(n).to_le_bytes().to_vec()).collect());
    add("u", (0..count).map(|n| u64::from(n).to_le_bytes().to_vec()).collect());
    add("i", (0..count).map(|n| i64::from(n).to_le_bytes().to_vec()).collect());
    add("f", (0..count).map(|n| half::f16::from_f32(n.into()).to_le_bytes().to_vec()).collect());
    add("f", (0..count).map(|n| f32::from(n).to_le_bytes().to_vec()).collect());
    add("f", (0..count).map(|n| f64::from(n).to_le_bytes().to_vec()).collect());
    types
}

/// `values`, of `size` bytes each, from C order `[2, 3, 2]` into Fortran order.
fn turned(values: &[u8], size: usize) -> Vec<u8> {
    let mut turned = Vec::new();
    for (c, b, a) in (0..2).flat_map(|c| (0..3).flat_map(move |b| (0..2).map(move |a| (c, b, a)))) {
        let at = (a * 3 + b) * 2 + c;
        turned.extend_from_slice(&values[at * size..][..size]);
    }
    turned
}

#[test]
fn every_type_and_order_is_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    let expected: Vec<f32> = (0..12).map(|n| n as f32).collect();
    for (descr, values) in every_type(12) {
        for fortran in [false, true] {
            let placed = if fortran { turned(&values, values.len() / 12) } else { values.clone() };
            fs::write(&path, array(&descr, fortran, "(2, 3, 2)", &placed)).unwrap();
            let read = npy::Npy::open(&path).unwrap();
            assert_eq!((read.shape(), read.to_f32().unwrap()), (&[2, 3, 2][..], expected.clone()), "{descr} {fortran}");
            if read.dtype().is_integer() {
                assert_eq!(read.integers(3..5).unwrap().collect::<Vec<_>>(), [3, 4], "{descr} {fortran}");
            }
        }
    }
    let negative: Vec<u8> = [-1_i16, -300].iter().flat_map(|value| value.to_be_bytes()).collect();
    fs::write(&path, array(">i2", false, "(2,)", &negative)).unwrap();
    assert_eq!(npy::Npy::open(&path).unwrap().integers(0..2).unwrap().collect::<Vec<_>>(), [-1, -300]);
}

#[test]
fn tokens_may_be_of_any_integers_and_lie_in_squares() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    for (descr, values) in every_type(12) {
        for shape in ["(3, 4)", "(3, 2, 2)"] {
            fs::write(&path, array(&descr, false, shape, &values)).unwrap();
            let opened = TokenArray::open(&path, None, 512);
            if descr.contains('f') {
                let error = opened.err().unwrap().to_string();
                assert!(error.contains("x.npy") && error.contains("holds float"), "{descr}: {error}");
                continue;
            }
            let tokens = opened.unwrap();
            let mut row = [0; 4];
            tokens.tokens(1, None, &mut row).unwrap();
            assert_eq!((tokens.len(), tokens.sequence_length(), row), (3, 4, [4, 5, 6, 7]), "{descr} {shape}");
        }
        fs::write(&path, array(&descr, false, "(1, 3, 4)", &values)).unwrap();
        assert!(TokenArray::open(&path, None, 512).is_err(), "an image of 3 by 4 is no square");
    }
}

fn archive(path: &Path, method: CompressionMethod, members: &[(&str, &[u8])]) {
    let mut archive = ZipWriter::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        archive.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

fn floats(values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    array("<f4", false, &format!("({},)", values.len()), &bytes)
}

#[test]
fn archives_give_the_array_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npz");
    let named = |name: &str| PathBuf::from(format!("{}:{name}", path.display()));
    let (one, two) = (floats(&[1.0, 2.0]), floats(&[3.0]));
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        archive(&path, method, &[("a.npy", &one), ("b.npy", &two), ("notes.txt", b"no array")]);
        assert_eq!(npy::Npy::open(named("a")).unwrap().to_f32().unwrap(), [1.0, 2.0]);
        assert_eq!(npy::Npy::open(named("b")).unwrap().to_f32().unwrap(), [3.0]);
        let several = npy::Npy::open(&path).unwrap_err().to_string();
        assert!(several.contains("several arrays: a, b. Name one: FILE.npz:NAME"), "{several}");
        let missing = npy::Npy::open(named("c")).unwrap_err().to_string();
        assert!(missing.contains("no array \"c\"") && missing.contains("a, b"), "{missing}");

        archive(&path, method, &[("arr_0.npy", &two)]);
        assert_eq!(npy::Npy::open(&path).unwrap().to_f32().unwrap(), [3.0]);
        archive(&path, method, &[("notes.txt", b"no array")]);
        assert!(npy::Npy::open(&path).unwrap_err().to_string().contains("holds no array"));
    }
    fs::write(&path, b"PK\x03\x04 cut").unwrap();
    assert!(npy::Npy::open(&path).unwrap_err().to_string().contains("not a whole .npz"));
}

/// Where a byte of an archive matters at all, a flipped one is an error and never another value.
#[test]
fn a_flipped_bit_in_an_archive_changes_no_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npz");
    let values: Vec<f32> = (0..40).map(|n| n as f32 / 7.0).collect();
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        archive(&path, method, &[("a.npy", &floats(&values))]);
        let sound = fs::read(&path).unwrap();
        let mut noticed = 0;
        for at in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&path, &damaged).unwrap();
            match npy::Npy::open(&path).and_then(|array| array.to_f32()) {
                Ok(read) => assert!(read == values, "{method} byte {at}"),
                Err(error) => {
                    noticed += 1;
                    assert!(error.to_string().contains("x.npz"), "{error}");
                }
            }
        }
        assert!(noticed > sound.len() / 3, "{method}: {noticed} of {}", sound.len());
    }
}

#[test]
fn archives_that_expand_without_end_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npz");
    let bomb = array("|u1", false, "(99999872,)", &vec![0; 99_999_872]);
    archive(&path, CompressionMethod::Deflated, &[("a.npy", &bomb)]);
    assert!(fs::metadata(&path).unwrap().len() < 500_000);
    let error = npy::Npy::open(&path).unwrap_err().to_string();
    assert!(error.contains("expands to") && error.contains("unzip"), "{error}");
}

#[test]
fn one_flipped_bit_in_what_was_written_here_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.npy");
    npy::write_u16(&path, &[3, 4], &[7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 511]).unwrap();
    let sound = fs::read(&path).unwrap();
    for bit in 0..8 * sound.len() {
        let mut damaged = sound.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &damaged).unwrap();
        let error = npy::Npy::open(&path).map(|array| array.len()).unwrap_err().to_string();
        assert!(error.contains("tokens.npy"), "bit {bit}: {error}");
    }
    for length in 0..sound.len() {
        fs::write(&path, &sound[..length]).unwrap();
        // All of the trailer cut off is an array of somebody else's.
        assert_eq!(npy::Npy::open(&path).is_ok(), length == sound.len() - 40, "{length} bytes");
    }
}

#[test]
fn columns_of_labels_are_labels_and_columns_of_ones_are_asked_about() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, labels) = (folder.path().join("x.npy"), folder.path().join("y.npy"));
    npy::write_u16(&tokens, &[3, 4], &[1; 12]).unwrap();
    npy::write_i64(&labels, &[3, 1], &[4, 0, 1]).unwrap();
    let array = TokenArray::open(&tokens, Some(&labels), 512).unwrap();
    assert_eq!((0..3).map(|row| array.label(row).unwrap()).collect::<Vec<_>>(), [4, 0, 1]);
    npy::write_i64(&labels, &[3, 1], &[1, 1, 1]).unwrap();
    let error = TokenArray::open(&tokens, Some(&labels), 512).err().unwrap().to_string();
    assert!(error.contains("y.npy") && error.contains("squeeze"), "{error}");

    // Floats will do where they are whole numbers.
    npy::write_f32(&labels, &[3], &[2.0, 0.0, 1.0]).unwrap();
    assert_eq!(TokenArray::open(&tokens, Some(&labels), 512).unwrap().classes(), 3);
    npy::write_f32(&labels, &[3], &[2.0, 0.5, 1.0]).unwrap();
    let error = TokenArray::open(&tokens, Some(&labels), 512).err().unwrap().to_string();
    assert!(error.contains("row 1 is 0.5"), "{error}");
}

#[test]
fn palettes_of_another_scale_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.npy");
    let palette = Palette::built_in().unwrap();
    let scaled = |scale: fn(f32) -> f32| -> Vec<u8> {
        palette.colours().iter().flatten().flat_map(|value| scale(*value).to_le_bytes()).collect()
    };
    for (scale, word) in [
        ((|value| f32::midpoint(value, 1.0)) as fn(f32) -> f32, "scale 0 to 1"),
        (|value| ((value + 1.0) * 127.5).round(), "scale 0 to 255"),
        (|value| value * 3.0, "[-1, 1]"),
    ] {
        fs::write(&path, array("<f4", false, "(512, 3)", &scaled(scale))).unwrap();
        let error = Palette::load(&path).err().unwrap();
        assert!(matches!(error, DataError::Palette { .. }) && error.to_string().contains(word), "{word}: {error}");
    }
}
