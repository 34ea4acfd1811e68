//! Safetensors files: every float type is read, what was written comes back, and no file, however damaged or hostile, does
//! more than give an error that names it.

use std::fs;
use std::path::Path;

use igpt_engine::checkpoint::CheckpointError;
use igpt_engine::checkpoint::tensors::{TensorFile, write_tensors};
use proptest::prelude::*;
use serde_json::json;

/// A safetensors file with this header and data.
fn file_of(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// Opens `bytes` as a safetensors file and reads every tensor.
fn read_all(bytes: &[u8]) -> Result<Vec<Vec<f32>>, CheckpointError> {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("x.safetensors");
    fs::write(&path, bytes).unwrap();
    let mut file = TensorFile::open(&path)?;
    let names: Vec<String> = file.tensors().map(|(name, _)| name.to_owned()).collect();
    names.iter().map(|name| file.read(name)).collect()
}

#[test]
fn all_float_types_are_read() {
    let header = r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]},
        "c":{"dtype":"F64","shape":[1],"data_offsets":[6,14]},"d":{"dtype":"F32","shape":[],"data_offsets":[14,18]},
        "e":{"dtype":"F32","shape":[0,3],"data_offsets":[18,18]},"__metadata__":{"format":"pt"}}"#;
    let mut data = vec![0x00, 0x3c, 0x00, 0xc0, 0x80, 0x3f];
    data.extend(0.1_f64.to_le_bytes());
    data.extend(2.5_f32.to_le_bytes());
    let values = read_all(&file_of(header, &data)).unwrap();
    assert_eq!(values, [vec![1.0, -2.0], vec![1.0], vec![0.1], vec![2.5], vec![]]);
}

#[test]
fn hostile_headers_are_refused() {
    let one = |rest: &str| format!(r#"{{"a":{{"dtype":"F32",{rest}}}}}"#);
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":{a}}},"b":{{"dtype":"F32","shape":[1],"data_offsets":{b}}}}}"#
        )
    };
    let deep = format!("{{\"a\":{}", "[".repeat(200_000));
    let wide = format!(r#""shape":[{}1],"data_offsets":[0,8]"#, "1,".repeat(64));
    let cases = [
        ("overlap", two("[0,4]", "[2,6]")),
        ("the same bytes twice", two("[0,4]", "[0,4]")),
        ("a gap", two("[0,4]", "[5,9]")),
        ("past the end", two("[0,4]", "[8,12]")),
        ("bytes left over", one(r#""shape":[1],"data_offsets":[0,4]"#)),
        ("backwards", one(r#""shape":[2],"data_offsets":[8,0]"#)),
        ("negative", one(r#""shape":[2],"data_offsets":[-8,0]"#)),
        ("offsets overflow", one(r#""shape":[2],"data_offsets":[18446744073709551608,18446744073709551615]"#)),
        ("offsets past u64", one(r#""shape":[2],"data_offsets":[0,99999999999999999999]"#)),
        ("shape overflows", one(r#""shape":[4294967296,4294967296],"data_offsets":[0,8]"#)),
        ("bytes overflow", one(r#""shape":[4611686018427387904],"data_offsets":[0,0]"#)),
        ("shape too large", one(r#""shape":[1000000000000],"data_offsets":[0,8]"#)),
        ("negative shape", one(r#""shape":[-2],"data_offsets":[0,8]"#)),
        ("too many dimensions", one(&wide)),
        ("shape missing", one(r#""data_offsets":[0,8]"#)),
        ("unknown type", r#"{"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}"#.to_owned()),
        ("type without floats", r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#.to_owned()),
        ("name twice", two("[0,4]", "[4,8]").replace("\"b\"", "\"a\"")),
        ("long name", two("[0,4]", "[4,8]").replace("\"b\"", &format!("\"{}\"", "b".repeat(10_000)))),
        ("nothing", String::new()),
        ("a list", "[]".to_owned()),
        ("trailing text", two("[0,4]", "[4,8]") + "x"),
        ("nested", deep),
    ];

    for (what, header) in cases {
        let error = read_all(&file_of(&header, &[0; 8])).err().unwrap_or_else(|| panic!("{what} was taken"));
        assert!(error.to_string().contains("x.safetensors"), "{what}: {error}");
    }

    read_all(&file_of(&two("[0,4]", "[4,8]"), &[0; 8])).unwrap();
    for length in [u64::MAX, u64::MAX - 7, 1 << 40, 1 << 24, 100] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([0; 64]);
        assert!(matches!(read_all(&bytes), Err(CheckpointError::Malformed { .. })), "{length}");
    }
}

fn sound_file() -> Vec<u8> {
    let headers = [("a", vec![2, 3]), ("b", vec![4]), ("c", vec![])].map(|(name, shape)| (name.to_owned(), shape));
    let mut bytes = Vec::new();
    write_tensors(&mut bytes, Path::new("x"), &headers, |i| Ok(vec![i as f32; [6, 4, 1][i]])).unwrap();
    bytes
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let bytes = sound_file();
    assert_eq!(read_all(&bytes).unwrap(), [vec![0.0; 6], vec![1.0; 4], vec![2.0]]);
    for length in 0..bytes.len() {
        assert!(matches!(read_all(&bytes[..length]), Err(CheckpointError::Malformed { .. })), "cut at {length}");
    }
}

#[test]
fn a_file_that_shrinks_while_open_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("x.safetensors");
    fs::write(&path, sound_file()).unwrap();
    let mut file = TensorFile::open(&path).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    assert!(matches!(file.read("c"), Err(CheckpointError::Io { .. })));
}

proptest! {
    #[test]
    fn mutated_files_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = sound_file();
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = read_all(&bytes);
    }

    #[test]
    fn arbitrary_headers_never_panic(
        dims in prop::collection::vec(any::<u64>(), 0..4),
        begin in any::<u64>(),
        end in any::<u64>(),
        kind in prop::sample::select(vec!["F32", "F16", "F4", "F6_E2M3", "BOOL", "I64", "C64"]),
    ) {
        let header = json!({"a": {"dtype": kind, "shape": dims, "data_offsets": [begin, end]}});
        let _ = read_all(&file_of(&header.to_string(), &[0; 32]));
    }

    #[test]
    fn any_values_come_back(values in prop::collection::vec(any::<f32>().prop_filter("finite", |v| v.is_finite()), 0..200)) {
        let mut bytes = Vec::new();
        let headers = [("x".to_owned(), vec![values.len()])];
        write_tensors(&mut bytes, Path::new("x"), &headers, |_| Ok(values.clone())).unwrap();
        let read = read_all(&bytes).unwrap();
        prop_assert_eq!(read[0].iter().map(|v| v.to_bits()).collect::<Vec<_>>(), values.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    }
}
