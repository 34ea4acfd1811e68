//! The targets: each lays its input where a reader of the engine finds it, and reads it as a command would.

use std::hint::black_box;
use std::path::Path;

use igpt_engine::checkpoint::tensors::TensorFile;
use igpt_engine::checkpoint::weights::open_weights;
use igpt_engine::data::imagenet::{self, DEVKIT_TAR, Devkit};
use igpt_engine::data::npy::Npy;
use igpt_engine::data::{
    Alpha, Cifar, CifarKind, DataSpec, Examples, Filter, ImageSource, Palette, Shard, SkipBad, Split, Stl,
};
use igpt_engine::device::CpuDevice;
use igpt_engine::plan::Cost;
use igpt_engine::probe::FeatureFile;
use igpt_engine::recipe::Recipe;
use igpt_engine::serve::{MAX_HEAD, parse_head};
use igpt_engine::{checkpoint, data, run, train};
use sha2::{Digest, Sha256};

use crate::place::Place;
use crate::seeds;

/// A fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// What `cargo xtask fuzz` calls it.
    pub name: &'static str,
    /// Lays what stands beside the input.
    pub prepare: fn(&Place),
    /// Sound inputs to start from.
    pub seeds: fn(&Place) -> Vec<Vec<u8>>,
    /// Reads an input.
    pub run: fn(&Place, &[u8]),
}

/// Nothing stands beside the input.
fn alone(_: &Place) {}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "safetensors", prepare: alone, seeds: seeds::safetensors, run: safetensors },
    Target { name: "pytorch", prepare: alone, seeds: seeds::pytorch, run: pytorch },
    Target { name: "tensorflow", prepare: seeds::tensorflow_data, seeds: seeds::tensorflow, run: tensorflow },
    Target { name: "weights-index", prepare: seeds::shards, seeds: seeds::weights_index, run: weights_index },
    Target { name: "manifest", prepare: seeds::checkpoint, seeds: seeds::manifest, run: manifest },
    Target { name: "config", prepare: seeds::checkpoint, seeds: seeds::config, run: config },
    Target { name: "preprocessor", prepare: alone, seeds: seeds::preprocessor, run: preprocessor },
    Target { name: "training", prepare: seeds::training_folder, seeds: seeds::training, run: training },
    Target { name: "order", prepare: alone, seeds: seeds::order, run: order },
    Target { name: "recipe", prepare: alone, seeds: seeds::recipes, run: recipe },
    Target { name: "settings", prepare: alone, seeds: seeds::settings, run: settings },
    Target { name: "metrics", prepare: alone, seeds: seeds::metrics, run: metrics },
    Target { name: "npy", prepare: alone, seeds: seeds::npy, run: npy },
    Target { name: "npz", prepare: alone, seeds: seeds::npz, run: npz },
    Target { name: "labels", prepare: seeds::four_tokens, seeds: seeds::labels, run: labels },
    Target { name: "palette", prepare: alone, seeds: seeds::palette, run: palette },
    Target { name: "tokens", prepare: alone, seeds: seeds::npy, run: tokens },
    Target { name: "shard", prepare: alone, seeds: seeds::shard, run: shard },
    Target { name: "features", prepare: alone, seeds: seeds::features, run: features },
    Target { name: "cifar", prepare: alone, seeds: seeds::cifar, run: cifar },
    Target { name: "cifar-python", prepare: alone, seeds: seeds::cifar_python, run: cifar_python },
    Target { name: "stl", prepare: alone, seeds: seeds::stl, run: stl },
    Target { name: "image", prepare: alone, seeds: seeds::images, run: image },
    Target { name: "tar", prepare: alone, seeds: seeds::tars, run: tar },
    Target { name: "tar-index", prepare: seeds::tar_beside, seeds: seeds::tar_index, run: tar_index },
    Target { name: "devkit", prepare: alone, seeds: seeds::devkit, run: devkit },
    Target { name: "archive", prepare: alone, seeds: seeds::archive, run: archive },
    Target { name: "data-spec", prepare: alone, seeds: seeds::specs, run: spec },
    Target { name: "http", prepare: alone, seeds: seeds::requests, run: http },
];

/// The target of this name.
pub fn named(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}

fn safetensors(place: &Place, input: &[u8]) {
    let Ok(mut file) = TensorFile::open(&place.with("model.safetensors", input)) else { return };
    let names: Vec<String> = file.tensors().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        let _ = black_box(file.read(&name));
    }
}

fn every_tensor(place: &Place) {
    let Ok(mut weights) = open_weights(place.path()) else { return };
    for name in weights.names() {
        let _ = black_box(weights.read(&name));
    }
    let _ = black_box(weights.verify());
}

/// Both formats: the first bytes tell them apart.
fn pytorch(place: &Place, input: &[u8]) {
    place.with("pytorch_model.bin", input);
    every_tensor(place);
}

/// The index, beside sound data.
fn tensorflow(place: &Place, input: &[u8]) {
    place.with("model.ckpt-1000.index", &seeds::with_sound_checksums(input));
    every_tensor(place);
}

/// The index, beside sound files of tensors.
fn weights_index(place: &Place, input: &[u8]) {
    place.with(checkpoint::INDEX_FILE, input);
    every_tensor(place);
}

/// The list of a checkpoint, with the hash of itself that belongs to it.
fn manifest(place: &Place, input: &[u8]) {
    place.with(checkpoint::MANIFEST_FILE, &seeds::with_own_hash(input));
    let _ = black_box(checkpoint::load_config(place.path()));
    every_tensor(place);
}

/// `config.json` beside sound weights, and those weights read with it.
fn config(place: &Place, input: &[u8]) {
    place.with(checkpoint::CONFIG_FILE, input);
    seeds::list_again(place, checkpoint::CONFIG_FILE);
    let _ = black_box(checkpoint::load_config(place.path()));
}

fn preprocessor(place: &Place, input: &[u8]) {
    place.with(checkpoint::PREPROCESSOR_FILE, input);
    let _ = black_box(checkpoint::palette_of(place.path()));
}

fn training(place: &Place, input: &[u8]) {
    place.with(checkpoint::TRAINING_FILE, input);
    seeds::list_again(place, checkpoint::TRAINING_FILE);
    thread_local! {
        static DEVICE: CpuDevice = CpuDevice::new(Some(1)).expect("one thread");
    }
    let config = seeds::model();
    DEVICE.with(|device| {
        let _ = black_box(checkpoint::load_training(device, place.path(), &config));
    });
}

fn order(place: &Place, input: &[u8]) {
    let _ = black_box(checkpoint::read_permutation(&place.with("order.npy", input)));
}

fn recipe(_: &Place, input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(recipe) = Recipe::parse("input.toml", text) else { return };
    let _ = black_box(recipe.model());
    let _ = black_box(Cost::of(&recipe));
    let _ = black_box(recipe.clone().scaled_down(7));
    let command = recipe.command;
    let _ = black_box(recipe.clone().flags_for(command));
    let _ = black_box(recipe.settings_for(command));
}

fn settings(place: &Place, input: &[u8]) {
    place.with("config.toml", input);
    if let Ok(settings) = train::Settings::read(place.path()) {
        let _ = black_box(settings.to_toml());
    }
}

fn metrics(place: &Place, input: &[u8]) {
    if let Ok(reader) = run::metrics_reader::MetricsReader::open(&place.with("metrics.jsonl", input)) {
        let _ = black_box(reader.collect::<Result<Vec<_>, _>>());
    }
}

fn npy(place: &Place, input: &[u8]) {
    read_array(&place.with("array.npy", input));
}

/// The only array of an archive, and one by its name.
fn npz(place: &Place, input: &[u8]) {
    let path = place.with("arrays.npz", input);
    read_array(&path);
    read_array(Path::new(&format!("{}:b", path.display())));
}

/// Labels of four images.
fn labels(place: &Place, input: &[u8]) {
    let labels = place.with("labels.npy", input);
    if let Ok(array) = data::TokenArray::open(&place.file("tokens.npy"), Some(&labels), 512) {
        read_all(&array);
    }
}

fn read_array(path: &Path) {
    let Ok(array) = Npy::open(path) else { return };
    let _ = black_box(array.to_f32());
    black_box(array.f64s(0..array.len()).map(Iterator::sum::<f64>)).ok();
    if let Ok(values) = array.integers(0..array.len()) {
        black_box(values.fold(0_i64, i64::wrapping_add));
    }
}

fn palette(place: &Place, input: &[u8]) {
    if let Ok(palette) = Palette::load(place.with("palette.npy", input)) {
        let _ = black_box(palette.decode(&[0, 1, 2, 3], 2, 2));
        // The cells of the search take 2 ms to make: of one input in 256.
        if input.last() == Some(&0) {
            black_box(palette.nearest([1, 2, 3]));
        }
    }
}

/// Tokens and, from the same bytes, labels.
fn tokens(place: &Place, input: &[u8]) {
    let (tokens, labels) = (place.with("tokens.npy", input), place.with("labels.npy", input));
    for labels in [None, Some(labels.as_path())] {
        if let Ok(array) = data::TokenArray::open(&tokens, labels, 512) {
            read_all(&array);
        }
    }
}

/// Both as it is and with the hash that would belong to it, which gets past the first check.
fn shard(place: &Place, input: &[u8]) {
    if let Ok(shard) = Shard::open(&place.with("x.shard", &seeds::ended_by_hash(input))) {
        read_all(&shard);
    }
}

fn read_all(examples: &dyn Examples) {
    let mut row = vec![0; examples.sequence_length()];
    for index in 0..examples.len().min(8) {
        let _ = black_box(examples.tokens(index, None, &mut row));
        black_box(examples.label(index));
    }
}

/// With the hash of the header that the input claims, so that what it says is believed.
fn features(place: &Place, input: &[u8]) {
    let mut bytes = input.to_vec();
    if let Some(length) = bytes.get(8..12).map(|field| u32::from_le_bytes([field[0], field[1], field[2], field[3]])) {
        let end = (length as usize).checked_add(48).filter(|end| *end <= bytes.len());
        if let Some(end) = end {
            let hash = Sha256::digest(&bytes[48..end]);
            bytes[16..48].copy_from_slice(&hash);
        }
    }
    if let Ok(file) = FeatureFile::open(&place.with("x.features", &bytes)) {
        black_box(file.labels());
        let depths = file.header().depths.clone();
        let _ = black_box(file.at(&depths).is_ok());
    }
}

fn first_image(source: &dyn ImageSource) {
    if !source.is_empty() {
        let _ = black_box(source.image(0));
        black_box((source.label(0), source.name(0)));
    }
}

/// The first byte chooses the kind.
fn cifar(place: &Place, input: &[u8]) {
    let Some((kind, input)) = input.split_first() else { return };
    let (kind, file) =
        if kind % 2 == 0 { (CifarKind::Cifar10, "data_batch_1.bin") } else { (CifarKind::Cifar100, "train.bin") };
    let other = place.file(if file == "train.bin" { "data_batch_1.bin" } else { "train.bin" });
    let _ = std::fs::remove_file(other);
    place.with(file, input);
    if let Ok(source) = Cifar::open(kind, place.path(), Split::Train) {
        first_image(&source);
    }
}

/// A batch of the Python version, and the names of its classes.
fn cifar_python(place: &Place, input: &[u8]) {
    for file in ["data_batch_1", "batches.meta"] {
        place.with(file, input);
    }
    if let Ok(source) = Cifar::open(CifarKind::Cifar10, place.path(), Split::Train) {
        first_image(&source);
    }
}

/// The first two bytes are labels, or none where the first is 255.
fn stl(place: &Place, input: &[u8]) {
    let Some((labels, images)) = input.split_at_checked(2) else { return };
    place.with("train_X.bin", images);
    if labels[0] == 255 {
        let _ = std::fs::remove_file(place.file("train_y.bin"));
    } else {
        place.with("train_y.bin", labels);
    }
    if let Ok(source) = Stl::open(place.path(), Split::Train) {
        first_image(&source);
    }
}

/// Pictures that claim over a million pixels are left out here: what they take is in proportion to what they claim, up to the
/// limit of the decoder, and not to the size of the file.
fn image(place: &Place, input: &[u8]) {
    let path = place.with("image", input);
    let claimed = data::image_size(&path).ok();
    if claimed.is_some_and(|(width, height)| u64::from(width) * u64::from(height) > 1 << 20) {
        return;
    }
    let side = claimed.map_or(32, |(width, _)| width.clamp(1, 64));
    let _ = black_box(data::open_image(&path, side, Filter::default(), Alpha::default()));
}

fn tar(place: &Place, input: &[u8]) {
    let tar = place.with("images.tar", input);
    let _ = std::fs::remove_file(place.file("images.tar.index"));
    if let Ok(source) = imagenet::open_tar(&tar, Split::Train, SkipBad::NONE, false) {
        read_small(&source);
    }
}

/// The first image of a tar, unless it is a picture that claims to be large.
fn read_small(source: &dyn ImageSource) {
    if !source.is_empty() {
        black_box((source.label(source.len() - 1), source.name(0)));
    }
}

/// What follows the part that identifies the tar, with that part before it and the hash behind it.
fn tar_index(place: &Place, input: &[u8]) {
    let tar = place.file("images.tar");
    let preamble = std::fs::read(place.file("preamble")).unwrap_or_default();
    place.with("images.tar.index", &seeds::ended_by_hash(&[&preamble, input].concat()));
    if let Ok(source) = imagenet::open_tar(&tar, Split::Train, SkipBad::NONE, false) {
        read_small(&source);
    }
}

/// `meta.mat`, beside a sound list of labels.
fn devkit(place: &Place, input: &[u8]) {
    place.with("ILSVRC2012_validation_ground_truth.txt", b"1\n2\n");
    place.with("meta.mat", input);
    let _ = black_box(Devkit::find(place.path()).is_ok());
}

/// The devkit's archive, a tar in gzip.
fn archive(place: &Place, input: &[u8]) {
    place.with(DEVKIT_TAR, input);
    let _ = black_box(Devkit::find(Path::new(place.path())).is_ok());
}

fn spec(_: &Place, input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(spec) = text.parse::<DataSpec>() {
        assert_eq!(spec.to_string().parse::<DataSpec>().ok(), Some(spec), "a specification is read as it is written");
    }
}

/// The head of a request: the same however much has come of what follows it.
fn http(_: &Place, input: &[u8]) {
    if let Ok(Some((head, length))) = parse_head(input) {
        assert!(length <= input.len().min(MAX_HEAD), "a head of {length} bytes");
        assert_eq!(parse_head(&input[..length]), Ok(Some((head, length))));
    }
}
