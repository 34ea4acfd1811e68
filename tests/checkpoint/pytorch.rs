//! PyTorch's files of weights: what `torch.save` wrote is what safetensors holds, and nothing that a pickle asks for is run.

use std::fs;
use std::path::Path;

use igpt_engine::checkpoint::convert::import;
use igpt_engine::checkpoint::huggingface::ModelFile;
use igpt_engine::checkpoint::weights::open_weights;
use igpt_engine::checkpoint::{CheckpointError, load_config, load_model};
use igpt_engine::run::checkpoints::resolve;
use test_support::unpacked;

use crate::folders::{bits, device};

/// The parameters of a folder.
fn parameters(folder: &Path) -> Vec<Vec<u32>> {
    let device = device();
    let (_, parameters) = load_model(&device, folder).unwrap();
    bits(&device, parameters.values())
}

#[test]
fn every_variant_holds_the_values_of_its_safetensors_twin() {
    let place = unpacked("pytorch/pytorch.tar.gz");
    let twin = parameters(&place.path().join("twin"));
    for name in ["zip", "legacy", "views", "views-legacy", "mixed", "sharded"] {
        let folder = place.path().join(name);
        assert_eq!(resolve(&folder).unwrap(), folder);
        let file = if name == "sharded" { "pytorch_model.bin.index.json" } else { "pytorch_model.bin" };
        assert_eq!(resolve(&folder.join(file)).unwrap(), folder, "the file stands for its folder");
        assert_eq!(parameters(&folder), twin, "{name}");
        let out = place.path().join(format!("{name}-imported"));
        let done = import(&folder, &out, false, false).unwrap();
        assert_eq!(done.dropped.len(), 6, "four biases of zero, two masks: {:?}", done.dropped);
        assert_eq!(parameters(&out), twin, "{name}");
    }
    // Masks are integers: known, and never read as weights.
    let error = open_weights(&place.path().join("zip")).unwrap().read("transformer.h.0.attn.bias").unwrap_err();
    assert!(matches!(error, CheckpointError::WrongType { .. }), "{error}");
}

#[test]
fn hostile_pickles_are_refused_by_what_they_ask_for() {
    let place = unpacked("pytorch/pytorch.tar.gz");
    for name in ["hostile", "hostile-legacy"] {
        let error = load_config(&place.path().join(name)).unwrap_err().to_string();
        assert!(error.contains("posix.system") && error.contains("pytorch_model.bin"), "{error}");
        assert!(!Path::new("/tmp/igpt-hostile-pickle-ran").exists());
    }
}

#[test]
fn an_index_that_lists_what_is_not_there_is_refused() {
    let place = unpacked("pytorch/pytorch.tar.gz");
    let folder = place.path().join("sharded");
    let index = folder.join("pytorch_model.bin.index.json");
    let text = fs::read_to_string(&index).unwrap();
    let refusal = |from: &str, to: &str| {
        fs::write(&index, text.replacen(from, to, 1)).unwrap();
        load_config(&folder).unwrap_err().to_string()
    };
    assert!(refusal("pytorch_model-00001-of-00002.bin", "../zip/pytorch_model.bin").contains("is not the name"));
    assert!(refusal("pytorch_model-00001-of-00002.bin", "pytorch_model-00003-of-00002.bin").contains("is not there"));
    assert!(
        refusal("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin").contains("does not hold it")
    );
    assert!(refusal("weight_map", "weights").contains("not an index"));
    fs::write(&index, &text).unwrap();
    fs::remove_file(folder.join("pytorch_model-00002-of-00002.bin")).unwrap();
    assert!(load_config(&folder).unwrap_err().to_string().contains("pytorch_model-00002-of-00002.bin"));
}

#[test]
fn damage_is_an_error_or_a_sound_model_and_never_a_panic() {
    let place = unpacked("pytorch/pytorch.tar.gz");
    for name in ["zip", "legacy"] {
        let folder = place.path().join(name);
        let path = folder.join("pytorch_model.bin");
        let sound = fs::read(&path).unwrap();
        let read_all = || -> Result<Vec<Vec<f32>>, CheckpointError> {
            let mut file = ModelFile::open(&folder)?;
            let names = ["transformer.wte.weight", "transformer.h.0.attn.c_attn.weight", "lm_head.weight"];
            names.iter().map(|name| file.read(name)).collect()
        };
        let expected = read_all().unwrap();

        for length in (0..sound.len()).step_by(7).chain(sound.len() - 24..sound.len()) {
            fs::write(&path, &sound[..length]).unwrap();
            let error = read_all().unwrap_err().to_string();
            assert!(error.contains("pytorch_model.bin"), "{error}");
        }
        for at in (0..sound.len()).step_by(3) {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            let found = read_all();
            // The zip format has checksums: values are right, or an error.
            if let (Ok(found), "zip") = (found, name) {
                assert_eq!(found, expected, "byte {at}");
            }
        }
        for (bytes, why) in
            [(&b""[..], "empty"), (b"<html>", "neither"), (b"version https://git-lfs", ""), (b"PK\x03\x04", "zip")]
        {
            fs::write(&path, bytes).unwrap();
            assert!(read_all().unwrap_err().to_string().contains(why));
        }
    }
}
