//! Hugging Face's folders: import and export are each other's inverse, and what does not fit is refused by name.

use std::fs;
use std::path::PathBuf;

use igpt_engine::checkpoint::tensors::{TensorFile, write_tensors};
use igpt_engine::checkpoint::{CheckpointError, convert, load_model, palette_of};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{Activation, Norm};
use igpt_engine::model::{ModelConfig, Order, Permutation, parameter_specs};
use serde_json::{Value, json};

use crate::folders::{accept_edits, bits, device, distinct, golden, refusal, save_weights, tiny};

#[test]
fn import_export_import_is_identity() {
    for (name, biased) in [("l2d64h2p64", false), ("l2d64h2p64_bias", true)] {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let model = |name: &str| fs::read(at(name).join("model.safetensors")).unwrap();
        let first = convert::import(&golden(name), &at("first"), false, false).unwrap();
        assert_eq!(first.config.bias, biased);
        assert_eq!(first.dropped.len(), if biased { 0 } else { 8 });
        let exported = convert::export(&at("first"), &at("exported"), false, false).unwrap();
        assert_eq!(exported.added.len(), if biased { 0 } else { 8 });
        convert::import(&at("exported"), &at("second"), false, false).unwrap();
        assert_eq!(model("first"), model("second"));
        assert_eq!(
            fs::read(at("first").join("config.json")).unwrap(),
            fs::read(at("second").join("config.json")).unwrap()
        );

        // What was exported holds the very tensors that were imported, the zero biases included.
        let mut original = TensorFile::open(&golden(name).join("model.safetensors")).unwrap();
        let mut copy = TensorFile::open(&at("exported").join("model.safetensors")).unwrap();
        let names: Vec<String> = original.tensors().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, copy.tensors().map(|(name, _)| name.to_owned()).collect::<Vec<_>>());
        for tensor in names {
            assert_eq!(original.shape(&tensor), copy.shape(&tensor));
            assert_eq!(original.read(&tensor).unwrap(), copy.read(&tensor).unwrap(), "{tensor}");
        }
        let config: Value = serde_json::from_slice(&fs::read(at("exported").join("config.json")).unwrap()).unwrap();
        let original: Value = serde_json::from_slice(&fs::read(golden(name).join("config.json")).unwrap()).unwrap();
        for key in
            ["model_type", "architectures", "vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner"]
        {
            assert_eq!(config[key], original[key], "{key}");
        }

        let kept = convert::import(&golden(name), &at("kept"), true, false).unwrap();
        assert!(kept.config.bias && kept.dropped.is_empty());
        let bare = convert::export(&at("first"), &at("bare"), true, false);
        assert_eq!(bare.is_err(), biased, "biases that are not zero cannot be left out");
    }
}

#[test]
fn a_missing_bias_is_not_made_up() {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("source");
    let config = tiny(Norm::Rms, Activation::QuickGelu, true, true);
    save_weights(&source, &config);
    let path = source.join("model.safetensors");
    let mut file = TensorFile::open(&path).unwrap();
    let headers: Vec<_> = file.tensors().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect();
    let (lost, kept): (Vec<_>, Vec<_>) = headers.into_iter().partition(|(name, _)| name.ends_with("h.1.mlp.c_fc.bias"));
    assert_eq!(lost.len(), 1);
    let mut bytes = Vec::new();
    write_tensors(&mut bytes, &path, &kept, |i| file.read(&kept[i].0)).unwrap();
    fs::write(&path, bytes).unwrap();
    accept_edits(&source);
    let missing = |error| matches!(error, CheckpointError::MissingTensor { name, .. } if name == lost[0].0);
    let out = place.path().join("out");
    assert!(missing(convert::import(&source, &out, false, false).unwrap_err()));
    assert!(missing(convert::export(&source, &out, false, false).unwrap_err()));
    assert!(!out.exists());
}

#[test]
fn what_hugging_face_cannot_express_is_not_exported() {
    let place = tempfile::tempdir().unwrap();
    for (norm, sos) in [(Norm::Layer, true), (Norm::Rms, false)] {
        let dir = place.path().join(format!("{sos}"));
        save_weights(&dir, &tiny(norm, Activation::Gelu, false, sos));
        let error = convert::export(&dir, &place.path().join("out"), false, false).unwrap_err();
        assert!(matches!(error, CheckpointError::NotExpressible { .. }), "{error}");
        let config = fs::read_to_string(dir.join("config.json")).unwrap();
        assert!(!config.contains("imagegpt"), "transformers must not compute it as something else");
    }
}

#[test]
fn force_replaces_a_checkpoint_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out");
    let import = |force| convert::import(&golden("l2d64h2p64"), &out, false, force);
    fs::create_dir(&out).unwrap();
    import(false).unwrap();
    assert!(matches!(import(false).unwrap_err(), CheckpointError::Occupied { .. }));
    import(true).unwrap();
    fs::remove_file(out.join("model.safetensors")).unwrap();
    fs::write(out.join("thesis.tex"), "").unwrap();
    assert!(import(true).unwrap_err().to_string().contains("other files"));
    assert!(out.join("thesis.tex").exists());
}

/// A checkpoint whose tensors went through `edit` on the way.
fn edited(edit: impl Fn(&mut Vec<(String, Vec<usize>, Vec<f32>)>)) -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("edited");
    let config = tiny(Norm::Rms, Activation::QuickGelu, false, true);
    save_weights(&dir, &config);
    let path = dir.join("model.safetensors");
    let mut file = TensorFile::open(&path).unwrap();
    let specs = parameter_specs(&config);
    let mut tensors: Vec<_> =
        specs.into_iter().map(|spec| (spec.name.clone(), spec.shape.clone(), file.read(&spec.name).unwrap())).collect();
    edit(&mut tensors);
    let headers: Vec<_> = tensors.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect();
    let mut bytes = Vec::new();
    write_tensors(&mut bytes, &path, &headers, |i| Ok(tensors[i].2.clone())).unwrap();
    fs::write(path, bytes).unwrap();
    accept_edits(&dir);
    (place, dir)
}

#[test]
fn tensors_that_do_not_fit_the_model_are_named() {
    let (_place, dir) = edited(|tensors| drop(tensors.remove(3)));
    assert!(matches!(refusal(&dir), CheckpointError::MissingTensor { name, .. } if name.contains("c_attn")));

    let (_place, dir) = edited(|tensors| tensors[3].1.reverse());
    assert!(matches!(refusal(&dir), CheckpointError::WrongShape { found, .. } if found == [18, 6]));

    let (_place, dir) = edited(|tensors| tensors.push(("transformer.h.2.ln_1.weight".to_owned(), vec![1], vec![1.0])));
    assert!(matches!(refusal(&dir), CheckpointError::UnexpectedTensor { name, .. } if name.contains("h.2")));

    let (_place, dir) = edited(|tensors| tensors[1].2[5] = f32::NAN);
    assert!(matches!(refusal(&dir), CheckpointError::NotFinite { name, .. } if name.contains("wpe")));

    let (_place, dir) = edited(|tensors| {
        let bias = ("transformer.h.1.mlp.c_fc.bias".to_owned(), vec![24], vec![0.5; 24]);
        tensors.push(bias);
    });
    assert!(matches!(refusal(&dir), CheckpointError::UnexpectedTensor { why, .. } if why.contains("igpt_bias")));

    let (_place, dir) = edited(|tensors| {
        let twin = tensors[0].clone();
        tensors.push(("wte.weight".to_owned(), twin.1, twin.2));
    });
    assert!(matches!(refusal(&dir), CheckpointError::AmbiguousTensor { .. }));
}

#[test]
fn tensors_without_effect_are_ignored() {
    let (_place, dir) = edited(|tensors| {
        for (name, _, _) in tensors.iter_mut() {
            *name = name.trim_start_matches("transformer.").to_owned();
        }
        tensors.push(("h.0.attn.bias".to_owned(), vec![1, 1, 9, 9], vec![1.0; 81]));
        tensors.push(("h.0.attn.masked_bias".to_owned(), vec![], vec![-1e4]));
        tensors.push(("h.0.attn.c_attn.bias".to_owned(), vec![18], vec![0.0; 18]));
    });
    let config = tiny(Norm::Rms, Activation::QuickGelu, false, true);
    let (_, parameters) = load_model(&device(), &dir).unwrap();
    assert_eq!(bits(&device(), parameters.values()), bits(&device(), distinct(&config, 0.5).values()));
}

/// A class head that somebody else saved is a class head here, with the names that the file gives.
#[test]
fn a_class_head_comes_along_with_its_names() {
    let (place, dir) = edited(|tensors| tensors.push(("score.weight".to_owned(), vec![3, 6], vec![0.25; 18])));
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(load_model(&device(), &dir).unwrap().0.classes, ["0", "1", "2"]);

    config["id2label"] = json!({"0": "cat", "1": "dog", "2": "frog"});
    fs::write(&path, config.to_string()).unwrap();
    let (loaded, parameters) = load_model(&device(), &dir).unwrap();
    assert_eq!(loaded.classes, ["cat", "dog", "frog"]);

    let head = device().download(parameters.values().last().unwrap()).unwrap();
    assert_eq!(head, [0.25; 18]);

    let out = place.path().join("out");
    let done = convert::export(&dir, &out, false, false).unwrap();
    assert!(done.dropped.is_empty(), "{done:?}");

    let exported: Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(exported["architectures"], json!(["ImageGPTForImageClassification"]));
    assert_eq!(exported["label2id"], json!({"cat": 0, "dog": 1, "frog": 2}));
    assert_eq!(load_model(&device(), &out).unwrap().0.classes, loaded.classes);

    // A head of another width is none.
    let (_place, dir) = edited(|tensors| tensors.push(("score.weight".to_owned(), vec![3, 5], vec![0.0; 15])));
    assert!(matches!(refusal(&dir), CheckpointError::WrongShape { name, .. } if name == "score.weight"));
}

#[test]
fn orders_come_back_and_hugging_face_is_kept_from_them() {
    let place = tempfile::tempdir().unwrap();
    let fixed = Order::Fixed(Permutation::new([8, 0, 1, 7, 2, 6, 3, 5, 4]).unwrap());
    for (number, order) in [Order::Columns, Order::Spiral, Order::Hilbert, fixed].into_iter().enumerate() {
        let [dir, again] = ["saved", "imported"].map(|step| place.path().join(format!("{step}{number}")));
        let config = ModelConfig { order, ..tiny(Norm::Rms, Activation::QuickGelu, false, true) };
        save_weights(&dir, &config);
        assert_eq!(load_model(&device(), &dir).unwrap().0, config);
        convert::import(&dir, &again, false, false).unwrap();
        assert_eq!(load_model(&device(), &again).unwrap().0, config);
        let error = convert::export(&dir, &place.path().join("out"), false, false).unwrap_err();
        assert!(error.to_string().contains("--order"), "{error}");
        let text = fs::read_to_string(dir.join("config.json")).unwrap();
        assert!(!text.contains("imagegpt"), "transformers would take the pixels for others");
    }

    let order = place.path().join("saved3/order.npy");
    for pixels in [&[0_u16, 1, 2][..], &[0, 0, 1, 2, 3, 4, 5, 6, 7]] {
        igpt_engine::data::npy::write_u16(&order, &[pixels.len()], pixels).unwrap();
        let error = refusal(&place.path().join("saved3")).to_string();
        assert!(error.contains("saved3"), "{error}");
    }

    fs::remove_file(&order).unwrap();
    assert!(refusal(&place.path().join("saved3")).to_string().contains("order.npy"));
}

#[test]
fn configurations_that_we_would_compute_wrongly_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("model");
    convert::import(&golden("l2d64h2p64"), &dir, false, false).unwrap();
    accept_edits(&dir);
    let path = dir.join("config.json");
    let sound: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();

    for (key, value) in [
        ("activation_function", json!("gelu_new")),
        ("layer_norm_epsilon", json!(1e-6)),
        ("scale_attn_weights", json!(false)),
        ("scale_attn_by_inverse_layer_idx", json!(true)),
        ("reorder_and_upcast_attn", json!(true)),
        ("tie_word_embeddings", json!(true)),
        ("n_inner", json!(100)),
        ("n_layer", json!(-2)),
        ("n_layer", json!(1e18)),
        ("n_embd", json!(0)),
        ("n_head", json!(7)),
        ("n_positions", json!("64")),
        ("vocab_size", json!(0)),
        ("vocab_size", json!(50_257)),
        ("model_type", json!("gpt2")),
        ("igpt_norm", json!("batch")),
        ("igpt_future", json!(1)),
        ("igpt_bias", json!("no")),
        ("igpt_objective", json!("gan")),
        ("igpt_objective", json!("bert")),
        ("igpt_order", json!("snake")),
    ] {
        let mut config = sound.clone();
        config[key] = value.clone();
        fs::write(&path, config.to_string()).unwrap();
        let error = refusal(&dir).to_string();
        assert!(error.contains("config.json"), "{key} = {value}: {error}");
    }

    for text in ["", "[]", "{", "{\"n_layer\": 2}", &"[".repeat(100_000)] {
        fs::write(&path, text).unwrap();
        assert!(refusal(&dir).to_string().contains("config.json"));
    }

    let mut inner = sound.clone();
    inner["n_inner"] = json!(256);
    fs::write(&path, inner.to_string()).unwrap();
    load_model(&device(), &dir).unwrap();
}

#[test]
fn invalid_palettes_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("preprocessor_config.json");
    for clusters in ["[]", "3", "[[0, 0]]", "[[0, 0, 2]]", "[[0, 0, null]]", "[[0, 0, 1e999]]"] {
        fs::write(&path, format!("{{\"clusters\": {clusters}}}")).unwrap();
        assert!(palette_of(place.path()).is_err(), "{clusters}");
    }
    fs::write(&path, "{\"size\": 32}").unwrap();
    assert_eq!(palette_of(place.path()).unwrap(), None);
}
