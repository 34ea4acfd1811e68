//! OpenAI's own release, TensorFlow checkpoints: what TensorFlow wrote is what the safetensors twin holds.

use std::fs;
use std::path::{Path, PathBuf};

use igpt_engine::checkpoint::convert::import;
use igpt_engine::checkpoint::tensors::TensorFile;
use igpt_engine::checkpoint::weights::open_weights;
use igpt_engine::checkpoint::{CheckpointError, load_config, load_model, palette_of};
use igpt_engine::data::npy::Npy;
use igpt_engine::model::{Objective, parameter_specs};
use igpt_engine::run::checkpoints::resolve;
use test_support::unpacked;

use crate::folders::{bits, device};

/// The parameters of the checkpoint at a path, by name.
fn parameters(path: &Path) -> Vec<(String, Vec<u32>)> {
    let device = device();
    let (config, parameters) = load_model(&device, path).unwrap();
    let names = parameter_specs(&config).into_iter().map(|spec| spec.name);
    names.zip(bits(&device, parameters.values())).collect()
}

fn assert_is_twin(found: Vec<(String, Vec<u32>)>, place: &Path) {
    let mut twin = TensorFile::open(&place.join("twin.safetensors")).unwrap();
    assert_eq!(found.len(), twin.tensors().count());
    for (name, values) in found {
        let expected: Vec<u32> = twin.read(&name).unwrap().into_iter().map(f32::to_bits).collect();
        assert_eq!(values, expected, "{name}");
    }
}

#[test]
fn folders_prefixes_and_files_of_a_checkpoint_are_read_and_imported() {
    let place = unpacked("tensorflow/tensorflow.tar.gz");
    let at = |path: &str| place.path().join(path);
    // The second has three files of data, slots of the optimiser, counters and a class head.
    for (folder, prefix) in [("ar", "model.ckpt-1000"), ("sharded", "model.ckpt-2000")] {
        let index = format!("{folder}/{prefix}.index");
        for path in [at(folder), at(&format!("{folder}/{prefix}")), at(&index)] {
            assert_eq!(resolve(&path).unwrap(), path);
            let config = load_config(&path).unwrap();
            assert_eq!((config.layers, config.width, config.heads), (1, 8, 2));
            assert_eq!((config.positions, config.vocabulary, config.objective()), (4, 5, Objective::Ar));
            assert_is_twin(parameters(&path), place.path());
        }
        let out = at(&format!("{folder}-imported"));
        let done = import(&at(folder), &out, false, false).unwrap();
        assert_eq!((done.colours, done.config.bias), (Some(5), false));
        assert_is_twin(parameters(&out), place.path());
        assert_eq!(palette_of(&out).unwrap(), palette_of(&at(folder)).unwrap());
    }
}

#[test]
fn a_bert_model_has_no_start_token() {
    let place = unpacked("tensorflow/tensorflow.tar.gz");
    let config = load_config(&place.path().join("bert")).unwrap();
    assert_eq!((config.sos, config.objective(), config.embedding_rows()), (false, Objective::Bert, 5));
    assert_eq!(parameters(&place.path().join("bert")).len(), 10);
}

#[test]
fn the_palette_lies_beside_the_checkpoint_or_above_it() {
    let place = unpacked("tensorflow/tensorflow.tar.gz");
    let file = place.path().join("kmeans_centers.npy");
    let expected: Vec<f32> = Npy::open(&file).unwrap().to_f32().unwrap();
    let colours = |path: &Path| palette_of(path).unwrap().map(|rows| rows.concat());
    assert_eq!(colours(&place.path().join("ar")), Some(expected.clone()));
    fs::rename(&file, place.path().join("ar/kmeans_centers.npy")).unwrap();
    assert_eq!(colours(&place.path().join("ar/model.ckpt-1000")), Some(expected));
    assert_eq!(colours(&place.path().join("bert")), None);
}

#[test]
fn of_several_checkpoints_in_a_folder_the_last_one_is_taken() {
    let place = unpacked("tensorflow/tensorflow.tar.gz");
    for entry in fs::read_dir(place.path().join("bert")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, place.path().join("ar").join(path.file_name().unwrap())).unwrap();
    }
    let folder = place.path().join("ar");
    assert!(!load_config(&folder).unwrap().sos, "3000 steps");
    assert!(load_config(&folder.join("model.ckpt-1000")).unwrap().sos);
}

/// All of a checkpoint, or why not.
fn read_all(folder: &Path) -> Result<Vec<Vec<f32>>, CheckpointError> {
    let mut weights = open_weights(folder)?;
    weights.names().iter().map(|name| weights.read(name)).collect()
}

#[test]
fn what_is_missing_is_named() {
    let place = unpacked("tensorflow/tensorflow.tar.gz");
    let folder = place.path().join("sharded");
    let shard = folder.join("model.ckpt-2000.data-00001-of-00003");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
    let error = read_all(&folder).unwrap_err().to_string();
    assert!(error.contains("data-00001-of-00003") && error.contains("truncated"), "{error}");
    fs::remove_file(&shard).unwrap();
    let error = read_all(&folder).unwrap_err().to_string();
    assert!(error.contains("data-00001-of-00003") && error.contains("download it too"), "{error}");
}

#[test]
fn every_truncation_and_every_flipped_bit_is_an_error() {
    let place = unpacked("tensorflow/tensorflow.tar.gz");
    let folder = place.path().join("ar");
    let files = ["model.ckpt-1000.index", "model.ckpt-1000.data-00000-of-00001"].map(|name| folder.join(name));
    let expected = read_all(&folder).unwrap();
    for (path, step) in files.iter().zip([1, 29]) {
        let sound = fs::read(path).unwrap();
        for length in (0..sound.len()).step_by(step) {
            fs::write(path, &sound[..length]).unwrap();
            assert!(read_all(&folder).is_err(), "{length} bytes of {}", path.display());
        }
        for at in (0..sound.len()).step_by(step) {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(path, bytes).unwrap();
            // The padding of the footer has no checksum.
            if let Ok(found) = read_all(&folder) {
                assert!(step == 1 && at >= sound.len() - 48, "byte {at} of {}", path.display());
                assert_eq!(found, expected);
            }
        }
        fs::write(path, &sound).unwrap();
    }
}

#[test]
fn blocks_compressed_by_snappy_are_read() {
    let place = unpacked("tensorflow/tensorflow.tar.gz");
    let index: PathBuf = place.path().join("ar/model.ckpt-1000.index");
    let expected = read_all(&place.path().join("ar")).unwrap();
    let table = fs::read(&index).unwrap();

    // The table anew, as LevelDB's format says: each block compressed, the list of blocks with the new places.
    let varint = |bytes: &[u8], at: &mut usize| {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[*at];
            *at += 1;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    };
    let put = |mut number: usize, out: &mut Vec<u8>| {
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    };
    let mut out = Vec::new();
    let add = |block: &[u8], out: &mut Vec<u8>| {
        let start = out.len();
        let mut packed = snap::raw::Encoder::new().compress_vec(block).unwrap();
        let length = packed.len();
        packed.push(1);
        let crc = crc32c::crc32c(&packed).rotate_right(15).wrapping_add(0xa282_ead8);
        packed.extend(crc.to_le_bytes());
        out.extend(packed);
        (start, length)
    };

    let mut at = table.len() - 48;
    let handle = |at: &mut usize| (varint(&table, at), varint(&table, at));
    let (meta, blocks) = (handle(&mut at), handle(&mut at));
    // Its one entry: no shared bytes, the length of the key, that of the value, the key, the place of the block.
    let mut at = blocks.0;
    let (_, key, _) = (varint(&table, &mut at), varint(&table, &mut at), varint(&table, &mut at));
    let last_key = &table[at..at + key];
    at += key;
    let data = handle(&mut at);

    let place_of = |(start, length): (usize, usize)| {
        let mut bytes = Vec::new();
        put(start, &mut bytes);
        put(length, &mut bytes);
        bytes
    };
    let data = place_of(add(&table[data.0..data.0 + data.1], &mut out));
    let meta = place_of(add(&table[meta.0..meta.0 + meta.1], &mut out));
    let mut list = vec![0, key as u8, data.len() as u8];
    list.extend([last_key, &data, &[0, 0, 0, 0, 1, 0, 0, 0]].concat());
    let list = place_of(add(&list, &mut out));
    let mut footer = [meta, list].concat();
    footer.resize(40, 0);
    footer.extend(0xdb47_7524_8b80_fb57_u64.to_le_bytes());
    out.extend(footer);

    assert!(out != table);
    fs::write(&index, out).unwrap();
    assert_eq!(read_all(&place.path().join("ar")).unwrap(), expected);
}
