//! Weights in several files: written as transformers writes them, read by the index, and hostile indices refused.

use std::fs;
use std::path::{Path, PathBuf};

use igpt_engine::checkpoint::{convert, load_model};
use igpt_engine::device::{Activation, Norm};
use igpt_engine::model::ModelConfig;
use serde_json::{Value, json};

use crate::folders::{accept_edits, bits, device, distinct, golden, refusal, save_weights, tiny};

const INDEX: &str = "model.safetensors.index.json";

/// An export of a small model in files of at most `limit` bytes.
fn sharded(place: &Path, limit: u64) -> (PathBuf, ModelConfig, convert::Conversion) {
    let [dir, out] = ["saved", "sharded"].map(|name| place.join(name));
    let config = tiny(Norm::Rms, Activation::QuickGelu, false, true);
    save_weights(&dir, &config);
    let done = convert::export_sharded(&dir, &out, true, false, limit).unwrap();
    (out, config, done)
}

#[test]
fn weights_in_several_files_come_back_bit_for_bit() {
    for limit in [1, 600, 2000] {
        let place = tempfile::tempdir().unwrap();
        let (dir, config, done) = sharded(place.path(), limit);
        let count = done.files.len();
        assert!(count > 1 && !dir.join("model.safetensors").exists());
        for (number, (name, _)) in done.files.iter().enumerate() {
            assert_eq!(*name, format!("model-{:05}-of-{count:05}.safetensors", number + 1));
            // Beside the header; a larger tensor is alone in its file.
            let bytes = fs::read(dir.join(name)).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let size: usize = file.tensors().iter().map(|(_, tensor)| tensor.data().len()).sum();
            assert!(size as u64 <= limit || file.len() == 1, "{limit}: {size}");
        }
        let index: Value = serde_json::from_slice(&fs::read(dir.join(INDEX)).unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_size"], 4 * config.parameter_count());

        let (loaded, parameters) = load_model(&device(), &dir).unwrap();
        assert_eq!(loaded, config);
        assert_eq!(bits(&device(), parameters.values()), bits(&device(), distinct(&config, 0.5).values()));
        let again = place.path().join("again");
        convert::import(&dir, &again, false, false).unwrap();
        assert_eq!(
            fs::read(again.join("model.safetensors")).unwrap(),
            fs::read(place.path().join("saved/model.safetensors")).unwrap()
        );
    }
}

/// Another program may save its weights into a folder of ours: the list is then of a model that is gone.
#[test]
fn weights_that_were_saved_anew_in_several_files_are_taken() {
    let place = tempfile::tempdir().unwrap();
    let (dir, config, done) = sharded(place.path(), 2000);
    let export = place.path().join("export");
    convert::export(&place.path().join("saved"), &export, true, false).unwrap();
    fs::remove_file(export.join("model.safetensors")).unwrap();
    assert!(refusal(&export).to_string().contains("model.safetensors"), "nothing took their place yet");

    for name in done.files.iter().map(|(name, _)| name.as_str()).chain([INDEX]) {
        fs::copy(dir.join(name), export.join(name)).unwrap();
    }
    assert_eq!(load_model(&device(), &export).unwrap().0, config);
}

#[test]
fn small_models_stay_in_one_file() {
    let place = tempfile::tempdir().unwrap();
    let done = convert::export(&golden("l2d64h2p64"), &place.path().join("out"), false, false).unwrap();
    assert_eq!(done.files, [("model.safetensors".to_owned(), done.sha256.clone())]);
}

#[test]
fn a_flipped_bit_in_any_file_is_noticed() {
    let place = tempfile::tempdir().unwrap();
    let (dir, _, _) = sharded(place.path(), 2000);
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let whole = fs::read(&path).unwrap();
        for place in [0, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            fs::write(&path, bytes).unwrap();
            let message = refusal(&dir).to_string();
            assert!(message.contains(path.file_name().unwrap().to_str().unwrap()), "{message}");
        }
        fs::write(&path, whole).unwrap();
    }
    load_model(&device(), &dir).unwrap();
}

#[test]
fn indices_that_do_not_fit_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let (dir, _, done) = sharded(place.path(), 2000);
    accept_edits(&dir);
    let [first, second] = [&done.files[0].0, &done.files[1].0];
    let sound: Value = serde_json::from_slice(&fs::read(dir.join(INDEX)).unwrap()).unwrap();
    let refused = |index: &str, word: &str| {
        fs::write(dir.join(INDEX), index).unwrap();
        let message = refusal(&dir).to_string();
        assert!(message.contains(INDEX) && message.contains(word), "{word}: {message}");
    };
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut index = sound.clone();
        edit(&mut index);
        index.to_string()
    };
    let wte = "transformer.wte.weight";

    // Files outside the folder, of another kind, and none.
    fs::copy(dir.join(first), place.path().join("outside.safetensors")).unwrap();
    let absolute = place.path().join("outside.safetensors").display().to_string();
    for name in
        ["../outside.safetensors", "..", "", ".", "a/b.safetensors", "config.json", "C:\\x.safetensors", &absolute]
    {
        refused(&with(&|index| index["weight_map"][wte] = json!(name)), "is not the name");
    }
    refused(&with(&|index| index["weight_map"][wte] = json!("model-00009-of-00009.safetensors")), "is not there");

    // Tensors in another file than named, unknown ones, and sizes of other weights.
    refused(&with(&|index| index["weight_map"][wte] = json!(second)), "does not hold it");
    refused(&with(&|index| index["weight_map"]["transformer.more"] = json!(first)), "does not hold it");
    refused(&with(&|index| index["metadata"]["total_size"] = json!(12)), "total_size");
    refused(&with(&|index| index["weight_map"] = json!({})), "0 files");
    refused(&with(&|index| index["weight_map"] = json!([1])), "not an index");
    refused("{}", "not an index");
    refused(&format!("{{\"weight_map\": {{\"{wte}\": \"{first}\", \"{wte}\": \"{first}\"}}}}"), "twice");

    // One tensor in two files.
    let copy = "model-copy.safetensors";
    fs::copy(dir.join(first), dir.join(copy)).unwrap();
    refused(&with(&|index| index["weight_map"][wte] = json!(copy)), "more than one");

    // Without a size there is none to compare.
    fs::remove_file(dir.join(copy)).unwrap();
    fs::write(dir.join(INDEX), with(&|index| index["metadata"] = json!({}))).unwrap();
    load_model(&device(), &dir).unwrap();
}
