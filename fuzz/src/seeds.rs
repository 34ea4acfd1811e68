//! Sound inputs, made by the engine's own writers or taken from the repository's fixtures.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use igpt_engine::checkpoint::{self, CheckpointContents, Progress, TrainingState};
use igpt_engine::data::{DataSpec, Filter, ShardHeader, ShardWriter, SkipBad, Split, imagenet, npy};
use igpt_engine::device::CpuDevice;
use igpt_engine::model::{ModelConfig, Preset, parameter_specs};
use igpt_engine::probe::{FeatureWriter, Header};
use igpt_engine::tape::Parameters;
use igpt_engine::train::Settings;
use sha2::{Digest, Sha256};

use crate::place::Place;

type Seeds = Vec<Vec<u8>>;

/// Bytes of a tar that identify it in its index.
const PREAMBLE: usize = 28;

/// `bytes` with their SHA-256 behind them.
pub fn ended_by_hash(bytes: &[u8]) -> Vec<u8> {
    [bytes, &Sha256::digest(bytes)].concat()
}

/// Its root: this file is a part of the fuzz program, and of a test of the engine's.
fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    if package.ends_with("fuzz") { package.join("..") } else { package.to_owned() }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("a seed's file is there")
}

/// Every file of a folder of the repository that is not larger than a few kB.
fn files(folder: &str) -> Seeds {
    let entries = std::fs::read_dir(repository().join(folder)).expect("the repository is there");
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.retain(|path| path.metadata().is_ok_and(|about| about.is_file() && about.len() < 32_768));
    paths.iter().map(|path| read(path)).collect()
}

/// A model of 112 weights for images of four pixels.
pub fn model() -> ModelConfig {
    ModelConfig { layers: 1, width: 2, heads: 1, vocabulary: 4, ..ModelConfig::preset(Preset::Tiny, 2) }
}

fn save(folder: &Path) {
    let device = CpuDevice::new(Some(1)).expect("one thread");
    let config = model();
    let parameters = Parameters::init(&device, parameter_specs(&config), 1).expect("weights");
    let moments = || parameters.zeros_like(&device).expect("moments");
    let (first, second) = (moments(), moments());
    let progress = Progress { step: 3, ..Progress::default() };
    let training = TrainingState { first_moments: &first, second_moments: &second, progress };
    let palette = [[-1.0, 0.0, 1.0]; 4];
    let contents = CheckpointContents {
        device: &device,
        config: &config,
        parameters: &parameters,
        average: None,
        training: Some(training),
        palette: Some(&palette),
    };
    checkpoint::save(folder, &contents).expect("a checkpoint");
}

/// A checkpoint in the target's folder.
pub fn checkpoint(place: &Place) {
    save(place.path());
}

/// The same, with what training needs to go on.
pub fn training_folder(place: &Place) {
    save(place.path());
}

/// A file of a checkpoint that is made for it.
fn of_checkpoint(place: &Place, file: &str) -> Seeds {
    save(place.path());
    vec![read(&place.file(file))]
}

pub fn safetensors(place: &Place) -> Seeds {
    let mut seeds = of_checkpoint(place, checkpoint::MODEL_FILE);
    seeds.push(read(&place.file(checkpoint::OPTIMIZER_FILE)));
    seeds
}

/// Files of an archive of the fixtures, by the end of their names.
fn of_fixture(archive: &str, end: &str) -> Seeds {
    let file = std::fs::File::open(repository().join("tests/fixtures").join(archive)).expect("a fixture");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let entries = archive.entries().expect("a fixture").map(|entry| entry.expect("a fixture"));
    let wanted = entries.filter(|entry| entry.path().is_ok_and(|path| path.to_string_lossy().ends_with(end)));
    let mut seeds = Seeds::new();
    for mut entry in wanted {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect("a fixture");
        seeds.push(bytes);
    }
    seeds
}

/// What PyTorch saved, in both formats, hostile ones too.
pub fn pytorch(_: &Place) -> Seeds {
    of_fixture("pytorch/pytorch.tar.gz", ".bin")
}

const TENSORFLOW: &str = "tensorflow/tensorflow.tar.gz";

/// The data of OpenAI's format that belongs to the first seed.
pub fn tensorflow_data(place: &Place) {
    let data = of_fixture(TENSORFLOW, "ar/model.ckpt-1000.data-00000-of-00001");
    place.with("model.ckpt-1000.data-00000-of-00001", &data[0]);
}

pub fn tensorflow(_: &Place) -> Seeds {
    of_fixture(TENSORFLOW, ".index")
}

/// A table whose footer names two blocks behind one block of entries, with the checksums of the three set right. Without that
/// no change would get past the first of them.
pub fn with_sound_checksums(input: &[u8]) -> Vec<u8> {
    const FOOTER: usize = 48;
    const TRAILER: usize = 5;
    let mut bytes = input.to_vec();
    let Some(end) = bytes.len().checked_sub(FOOTER) else { return bytes };
    let mut footer = input[end..].iter();
    let mut number = || {
        footer.by_ref().take(10).try_fold((0_u64, 0_u32), |(sum, shift), byte| {
            let sum = sum | u64::from(byte & 127).checked_shl(shift).unwrap_or(0);
            if byte & 128 == 0 { Err(sum) } else { Ok((sum, shift + 7)) }
        })
    };
    let [first, first_length, second, second_length] =
        std::array::from_fn(|_| usize::try_from(number().err().unwrap_or(0)).unwrap_or(0));
    for (start, length) in [(0, first.saturating_sub(TRAILER)), (first, first_length), (second, second_length)] {
        let place = start.checked_add(length).filter(|end| end.saturating_add(TRAILER) <= bytes.len());
        let Some(end) = place else { continue };
        let crc = crc32c(&bytes[start..=end]).rotate_right(15).wrapping_add(0xa282_ead8);
        bytes[end + 1..end + TRAILER].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

/// A model in several files.
pub fn shards(place: &Place) {
    save(place.path());
    let out = place.file("sharded");
    checkpoint::convert::export_sharded(place.path(), &out, false, false, 256).expect("a model in several files");
    for entry in std::fs::read_dir(&out).expect("a folder").flatten() {
        place.with(&entry.file_name().to_string_lossy(), &read(&entry.path()));
    }
    for file in [checkpoint::MANIFEST_FILE, checkpoint::MODEL_FILE, checkpoint::TRAINING_FILE] {
        let _ = std::fs::remove_file(place.file(file));
    }
}

pub fn weights_index(place: &Place) -> Seeds {
    vec![read(&place.file(checkpoint::INDEX_FILE))]
}

pub fn manifest(place: &Place) -> Seeds {
    vec![read(&place.file(checkpoint::MANIFEST_FILE))]
}

/// A list of hashes with its own hash, which its second line gives, set right.
pub fn with_own_hash(input: &[u8]) -> Vec<u8> {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let (Some(title), Some(own), Some(rest)) = (lines.next(), lines.next(), lines.next()) else {
        return input.to_vec();
    };
    let Some(colon) = own.iter().position(|byte| *byte == b':') else { return input.to_vec() };
    let hash: String = Sha256::digest(rest).iter().map(|byte| format!("{byte:02x}")).collect();
    [title, b"\n", &own[..=colon], b" ", hash.as_bytes(), b"\n", rest].concat()
}

/// Lists a file of a checkpoint as it is now, so that its content is what is judged.
pub fn list_again(place: &Place, file: &str) {
    let hash: String = Sha256::digest(read(&place.file(file))).iter().map(|byte| format!("{byte:02x}")).collect();
    let list = String::from_utf8(read(&place.file(checkpoint::MANIFEST_FILE))).expect("a list is text");
    let changed =
        |line: &str| if line.ends_with(&format!("  {file}")) { format!("{hash}  {file}") } else { line.into() };
    let lines: Vec<String> = list.lines().map(changed).collect();
    place.with(checkpoint::MANIFEST_FILE, &with_own_hash(format!("{}\n", lines.join("\n")).as_bytes()));
}

pub fn config(place: &Place) -> Seeds {
    let mut seeds = of_checkpoint(place, checkpoint::CONFIG_FILE);
    for golden in ["l2d64h2p64", "l2d64h2p64_bias", "l3d96h3p256"] {
        seeds.push(read(&repository().join("tests/fixtures/golden").join(golden).join(checkpoint::CONFIG_FILE)));
    }
    seeds
}

pub fn preprocessor(place: &Place) -> Seeds {
    of_checkpoint(place, checkpoint::PREPROCESSOR_FILE)
}

pub fn training(place: &Place) -> Seeds {
    of_checkpoint(place, checkpoint::TRAINING_FILE)
}

/// What a writer of arrays leaves, as bytes, without the trailer of 40 bytes: with it every change is noticed and nothing read.
fn array(place: &Place, write: impl Fn(&Path)) -> Vec<u8> {
    let path = place.file("seed.npy");
    write(&path);
    let mut bytes = read(&path);
    bytes.truncate(bytes.len() - 40);
    bytes
}

pub fn order(place: &Place) -> Seeds {
    vec![array(place, |path| npy::write_u16(path, &[4], &[2, 0, 3, 1]).expect("an array"))]
}

pub fn npy(place: &Place) -> Seeds {
    vec![
        array(place, |path| npy::write_u16(path, &[2, 4], &[1, 2, 3, 4, 5, 6, 7, 8]).expect("an array")),
        array(place, |path| npy::write_f32(path, &[3], &[0.5, -1.0, 2.0]).expect("an array")),
        array(place, |path| npy::write_i64(path, &[2], &[0, 1]).expect("an array")),
    ]
}

/// Archives as `numpy.savez` and `numpy.savez_compressed` write them.
pub fn npz(place: &Place) -> Seeds {
    let arrays = npy(place);
    [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated]
        .map(|method| {
            let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            for (name, bytes) in ["a.npy", "b.npy"].iter().zip(&arrays) {
                archive.start_file(*name, options).expect("an archive in memory");
                archive.write_all(bytes).expect("an archive in memory");
            }
            archive.finish().expect("an archive in memory").into_inner()
        })
        .into()
}

/// Tokens of four images.
pub fn four_tokens(place: &Place) {
    npy::write_u16(place.file("tokens.npy"), &[4, 1], &[0, 1, 2, 3]).expect("an array");
}

pub fn labels(place: &Place) -> Seeds {
    vec![
        array(place, |path| npy::write_i64(path, &[4], &[3, 0, 1, 1]).expect("an array")),
        array(place, |path| npy::write_i64(path, &[4, 1], &[3, 0, 1, 1]).expect("an array")),
        array(place, |path| {
            npy::write_f32(path, &[4, 2], &[0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]).expect("an array")
        }),
    ]
}

pub fn palette(place: &Place) -> Seeds {
    let colours: Vec<f32> = (0..12).map(|value| value as f32 / 6.0 - 1.0).collect();
    vec![array(place, |path| npy::write_f32(path, &[4, 3], &colours).expect("an array"))]
}

pub fn recipes(_: &Place) -> Seeds {
    files("recipes").into_iter().take(12).collect()
}

pub fn settings(place: &Place) -> Seeds {
    let run = place.file("run");
    let fresh = Settings::pretraining(DataSpec::Sample, &run).expect("settings");
    let tuned = Settings::fine_tuning(Path::new("base"), DataSpec::Sample, &run).expect("settings");
    [fresh, tuned].iter().map(|settings| settings.to_toml().expect("settings").into_bytes()).collect()
}

pub fn metrics(_: &Place) -> Seeds {
    let lines = concat!(
        r#"{"step":1,"loss":6.2,"lr":0.001,"grad_norm":1.5,"tokens_per_second":1000.0,"elapsed":0.1}"#,
        "\n",
        r#"{"step":1,"val_loss":6.1,"unigram_entropy":5.8,"images":8,"elapsed":0.2}"#,
        "\n"
    );
    vec![lines.into()]
}

/// A shard without the hash that it ends with.
pub fn shard(place: &Place) -> Seeds {
    let path = place.file("seed.shard");
    let of = |labels: bool| {
        let header = ShardHeader {
            images: 2,
            length: 4,
            vocabulary: 512,
            palette: "0123".into(),
            data: "sample".into(),
            split: Split::Train,
            resolution: 2,
            filter: Filter::default(),
            holdout: None,
            seed: 0,
            labels,
            class_names: if labels { vec!["cat".into(), "dog".into()] } else { Vec::new() },
        };
        let mut writer = ShardWriter::create(&path, &header).expect("a shard");
        let given: &[u16] = if labels { &[0, 1] } else { &[] };
        writer.append(&[1, 2, 3, 4, 5, 6, 7, 511], given).expect("a shard");
        writer.finish(&header).expect("a shard");
        let mut bytes = read(&path);
        bytes.truncate(bytes.len() - 32);
        bytes
    };
    vec![of(true), of(false)]
}

pub fn features(place: &Place) -> Seeds {
    let path = place.file("seed.features");
    let header = Header::new(3, vec![0, 1], 2, 2, "seed".into());
    let mut writer = FeatureWriter::open(&path, header).expect("features");
    writer.append(&[0, 1, 0], &[vec![0.5; 6], vec![1.5; 6]]).expect("features");
    writer.finish().expect("features");
    vec![read(&path)]
}

pub fn cifar(_: &Place) -> Seeds {
    let sample = read(&repository().join("assets/cifar10-sample/data_batch_1.bin"));
    // CIFAR-100 has two labels before the pixels.
    vec![[&[0], &sample[..3073]].concat(), [&[1, 7], &sample[..3073]].concat()]
}

pub fn cifar_python(_: &Place) -> Seeds {
    let archive = "pickle/cifar-10-python.tar.gz";
    [of_fixture(archive, "data_batch_1"), of_fixture(archive, "data_batch_2"), of_fixture(archive, "batches.meta")]
        .concat()
}

pub fn stl(_: &Place) -> Seeds {
    vec![[&[1, 10][..], &[7; 2 * 96 * 96 * 3]].concat(), [&[255, 0][..], &[9; 96 * 96 * 3]].concat()]
}

pub fn images(_: &Place) -> Seeds {
    let mut seeds = files("tests/fixtures/images");
    seeds.extend(files("tests/fixtures/jpeg"));
    let picture = image::DynamicImage::ImageRgb8(image::RgbImage::from_fn(9, 7, |x, y| {
        image::Rgb([x * 20, y * 30, x * y].map(|value| value as u8))
    }));
    for format in [image::ImageFormat::Bmp, image::ImageFormat::Gif, image::ImageFormat::Tiff, image::ImageFormat::WebP]
    {
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("a picture in memory");
        seeds.push(bytes.into_inner());
    }
    seeds
}

/// A tar of files with these contents.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).expect("a tar in memory");
    }
    builder.into_inner().expect("a tar in memory")
}

/// A tar of images, and one of the classes' tars.
pub fn tars(_: &Place) -> Seeds {
    let picture = read(&repository().join("tests/fixtures/images/rgb.jpg"));
    let flat = tar_of(&[("a_1.JPEG", &picture), ("a_2.JPEG", &picture)]);
    let class = tar_of(&[("n01_1.JPEG", &picture)]);
    let nested = tar_of(&[("n01.tar", &class), ("n02.tar", &class)]);
    vec![flat, nested]
}

/// A tar with its index, and the bytes that identify it.
pub fn tar_beside(place: &Place) {
    let nested = tars(place).pop().unwrap_or_default();
    let tar = place.with("images.tar", &nested);
    imagenet::open_tar(&tar, Split::Train, SkipBad::NONE, false).expect("a tar of images");
    let index = read(&place.file("images.tar.index"));
    place.with("preamble", &index[..PREAMBLE]);
    place.with("sound.index", &index[PREAMBLE..index.len() - 32]);
}

pub fn tar_index(place: &Place) -> Seeds {
    vec![read(&place.file("sound.index"))]
}

pub fn devkit(_: &Place) -> Seeds {
    files("tests/fixtures/devkit")
}

pub fn archive(place: &Place) -> Seeds {
    let meta = devkit(place).pop().unwrap_or_default();
    let tar = tar_of(&[("kit/data/meta.mat", &meta), ("kit/data/ILSVRC2012_validation_ground_truth.txt", b"1\n2\n")]);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&tar).expect("gzip in memory");
    vec![gzip.finish().expect("gzip in memory")]
}

pub fn specs(_: &Place) -> Seeds {
    ["sample", "cifar10:a", "images:b c", "tokens:a.npy,b.npy", "imagenet-tar:/x.tar", "shard:x"]
        .map(|text| text.as_bytes().to_vec())
        .into()
}

pub fn requests(_: &Place) -> Seeds {
    let chrome = "GET /model.json HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: keep-alive\r\nAccept: */*\r\n\
                  Sec-Fetch-Site: same-origin\r\nReferer: http://127.0.0.1:8000/\r\n\r\n";
    let curl = "POST /draw?x=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"count\":1}";
    [chrome, curl, "HEAD / HTTP/1.0\r\n\r\n"].map(|text| text.as_bytes().to_vec()).into()
}
