//! ImageNet from class folders and from tars: the same tokens, whatever the layout and the number of workers; damaged tars,
//! images, development kits and shards are refused by name.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use igpt_engine::data::imagenet::{DEVKIT_TAR, Devkit, ImageNetTar, TRAIN_TAR, VAL_TAR};
use igpt_engine::data::{
    Batches, DataError, DataSpec, Examples, ImageSource, OpenOptions, Palette, Prefetcher, Result, SkipBad, Split,
    open, open_images,
};
use image::{ImageFormat, RgbImage};

use crate::support::encoded;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

fn options(skip_bad: SkipBad) -> OpenOptions {
    OpenOptions { skip_bad, progress: false, ..OpenOptions::new(Arc::new(Palette::built_in().unwrap())) }
}

/// A photo-like picture: smooth, with noise, of its own for each number.
pub fn photo(number: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let noise = (x.wrapping_mul(73).wrapping_add(y.wrapping_mul(151)) ^ (number * 977)) % 23;
        image::Rgb([x * 200 / width + noise, y * 200 / height + noise, (number * 37 + x + y) % 256].map(|v| v as u8))
    })
}

/// 24 images in 6 classes: wide, high and small ones, a grey JPEG, JPEGs of four components, a PNG named JPEG.
fn images() -> Vec<(String, String, Vec<u8>)> {
    (0..24)
        .map(|number| {
            let (width, height) =
                [(500, 375), (375, 500), (240, 240), (300, 520), (30, 24), (97, 61)][number as usize % 6];
            let picture = photo(number, width, height);
            let bytes = match number {
                3 => encoded(image::DynamicImage::ImageRgb8(picture).into_luma8(), ImageFormat::Jpeg),
                7 => encoded(picture, ImageFormat::Png),
                11 => fs::read(Path::new(FIXTURES).join("jpeg/cmyk.jpg")).unwrap(),
                13 => fs::read(Path::new(FIXTURES).join("jpeg/ycck.jpg")).unwrap(),
                _ => encoded(picture, ImageFormat::Jpeg),
            };
            let wnid = format!("n0000000{}", 1 + number % 6);
            (wnid.clone(), format!("{wnid}_{}.JPEG", 1000 - number * 7), bytes)
        })
        .collect()
}

/// What is in the development kit of the fixtures: WNIDs by ILSVRC2012_ID, from 1.
const BY_ID: [&str; 6] = ["n00000006", "n00000001", "n00000005", "n00000002", "n00000004", "n00000003"];
/// ILSVRC2012_IDs of eight validation images.
const TRUTH: [usize; 8] = [3, 1, 6, 2, 5, 4, 1, 3];

fn validation_images() -> Vec<(String, Vec<u8>)> {
    let jpeg = |number: u32| encoded(photo(100 + number, 260, 250), ImageFormat::Jpeg);
    (1..=8).map(|number| (format!("ILSVRC2012_val_{number:08}.JPEG"), jpeg(number))).collect()
}

fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Classes' tars in an order that is not the sorted one, as are the files in them.
pub fn training_tar(images: &[(String, String, Vec<u8>)]) -> Vec<u8> {
    let mut wnids: Vec<&String> = images.iter().map(|(wnid, _, _)| wnid).collect();
    wnids.sort();
    wnids.dedup();
    let class = |wnid: &&String| {
        let of_class = images.iter().filter(|image| image.0 == **wnid);
        let files: Vec<_> = of_class.map(|(_, name, bytes)| (name.clone(), bytes.clone())).collect();
        (format!("{wnid}.tar"), tar_of(&files))
    };
    tar_of(&wnids.iter().rev().map(class).collect::<Vec<_>>())
}

struct Layouts(tempfile::TempDir);

impl Layouts {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };

        for (wnid, name, bytes) in images() {
            write(&format!("folders/train/{wnid}/{name}"), &bytes);
        }

        for (name, bytes) in validation_images() {
            write(&format!("folders/val/{name}"), &bytes);
        }

        write(&format!("tars/{TRAIN_TAR}"), &training_tar(&images()));
        write(&format!("tars/{VAL_TAR}"), &tar_of(&validation_images()));
        let truth = TRUTH.map(|id| format!("{id}\n")).concat();
        let meta = fs::read(Path::new(FIXTURES).join("devkit/meta.mat")).unwrap();
        write("folders/ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", truth.as_bytes());
        write("folders/ILSVRC2012_devkit_t12/data/meta.mat", &meta);
        let kit = ["ILSVRC2012_validation_ground_truth.txt", "meta.mat"]
            .map(|name| format!("ILSVRC2012_devkit_t12/data/{name}"));
        let [first, second] = kit;
        let kit = tar_of(&[(first, truth.into_bytes()), (second, meta)]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &kit).unwrap();
        write(&format!("tars/{DEVKIT_TAR}"), &gzip.finish().unwrap());
        Layouts(root)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn folders(&self) -> DataSpec {
        DataSpec::ImageNet(self.path("folders"))
    }

    fn tars(&self) -> DataSpec {
        DataSpec::ImageNetTar(self.path("tars"))
    }
}

fn stream(spec: &DataSpec, workers: usize) -> Vec<(Vec<u16>, Vec<u16>)> {
    let examples: Arc<dyn Examples> = Arc::from(open(spec, Split::Train, &options(SkipBad::NONE)).unwrap());
    let batches = Batches::training(examples, 5, true).unwrap().with_workers(workers).unwrap();
    let stream = Prefetcher::start(batches, 3, 7, 2).unwrap();
    stream.take(8).map(|batch| batch.map(|batch| (batch.tokens, batch.labels)).unwrap()).collect()
}

#[test]
fn folders_and_tars_give_the_same_tokens_on_any_number_of_workers() {
    let layouts = Layouts::new();
    let expected = stream(&layouts.folders(), 1);
    // Over two epochs of 23: with other crops the second time.
    assert_eq!(expected.iter().map(|(_, labels)| labels.len()).sum::<usize>(), 56);
    assert!(expected.iter().all(|(tokens, _)| tokens.len() == 7 * 1024));
    for (spec, workers) in [
        (layouts.folders(), 4),
        (layouts.folders(), 0),
        (layouts.tars(), 1),
        (layouts.tars(), 4),
        (DataSpec::ImageNetTar(layouts.path("tars").join(TRAIN_TAR)), 2),
    ] {
        assert!(stream(&spec, workers) == expected, "{spec} on {workers} workers");
    }
    // The index was written on the first opening, and what it says is the same.
    assert!(layouts.path(&format!("tars/{TRAIN_TAR}.index")).exists());
    assert!(stream(&layouts.tars(), 1) == expected);
}

#[test]
fn classes_are_in_order_and_images_named() {
    let layouts = Layouts::new();
    let sources = [layouts.folders(), layouts.tars()].map(|spec| {
        let options = OpenOptions { holdout: Some(0.0), ..options(SkipBad::NONE) };
        open_images(&spec, Split::Train, &options).unwrap().0
    });
    let wnids: Vec<String> = (1..=6).map(|number| format!("n0000000{number}")).collect();
    let mut sorted = images();
    sorted.sort();

    for source in &sources {
        assert_eq!((source.len(), source.class_names()), (24, wnids.as_slice()));
        for (index, (wnid, name, _)) in sorted.iter().enumerate() {
            assert_eq!(&wnids[usize::from(source.label(index).unwrap())], wnid);
            assert!(source.name(index).ends_with(&format!("{wnid}/{name}")), "{}", source.name(index));
            assert!(source.image(index).is_ok(), "{name}");
        }
        assert!(source.image(24).is_err());
        assert_eq!(source.label(24), None);
    }

    assert!(sources[1].name(0).contains(TRAIN_TAR));
}

#[test]
fn validation_images_have_the_devkits_labels() {
    let layouts = Layouts::new();
    let mut wnids = BY_ID.to_vec();
    wnids.sort();
    let expected = TRUTH.map(|id| wnids.iter().position(|wnid| *wnid == BY_ID[id - 1]).unwrap() as u16);
    let mut tokens = Vec::new();
    let tar = DataSpec::ImageNetTar(layouts.path("tars").join(TRAIN_TAR));

    for spec in [layouts.folders(), layouts.tars(), tar] {
        let examples: Arc<dyn Examples> = Arc::from(open(&spec, Split::Test, &options(SkipBad::NONE)).unwrap());
        let batch = Batches::evaluation(examples).unwrap().batch(0, 8).unwrap();
        assert_eq!(batch.labels, expected, "{spec}");
        tokens.push(batch.tokens);
    }

    assert!(tokens.windows(2).all(|pair| pair[0] == pair[1]));
    // Without the kit there are images and no labels.
    fs::remove_file(layouts.path("tars").join(DEVKIT_TAR)).unwrap();
    let examples = open(&layouts.tars(), Split::Test, &options(SkipBad::NONE)).unwrap();
    assert_eq!((examples.len(), examples.label(0), examples.classes()), (8, None, 0));
    assert!(examples.describe().contains(DEVKIT_TAR));

    // A kit that is damaged, or of other images, is refused.
    let truth = layouts.path("folders/ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt");
    for (text, wanted) in [("1\n2\n", "2 labels"), ("1\n2\n3\n4\n5\n6\n1\n0\n", "line 8"), ("x", "line 1")] {
        fs::write(&truth, text).unwrap();
        let error = open(&layouts.folders(), Split::Test, &options(SkipBad::NONE)).err().unwrap().to_string();
        assert!(error.contains(wanted), "{error}");
    }

    let meta = truth.with_file_name("meta.mat");
    fs::write(&meta, b"MATLAB 5.0 MAT-file").unwrap();
    let error = Devkit::find(&layouts.path("folders")).unwrap_err().to_string();
    assert!(error.contains("meta.mat") && error.contains("ILSVRC2012_devkit_t12.tar.gz"), "{error}");

    let archive = layouts.path("tars").join(DEVKIT_TAR);
    for bytes in [b"no gzip".to_vec(), Vec::new()] {
        fs::write(&archive, bytes).unwrap();
        assert!(matches!(Devkit::find(&layouts.path("tars")), Err(DataError::Devkit { .. })));
    }
}

#[test]
fn small_images_are_enlarged_as_the_paper_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train/n00000001/small.JPEG");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, encoded(photo(1, 20, 17), ImageFormat::Jpeg)).unwrap();
    let options = OpenOptions { holdout: Some(0.0), ..options(SkipBad::NONE) };
    let mut out = vec![0; 1024];
    open(&DataSpec::ImageNet(folder.path().into()), Split::Train, &options).unwrap().tokens(0, None, &mut out).unwrap();
    assert!(open(&DataSpec::Images(folder.path().into()), Split::Train, &options).is_err());
}

#[test]
fn bad_images_are_named_and_up_to_n_are_left_out() {
    let layouts = Layouts::new();
    let mut broken = images();
    for (at, bytes) in [(8, b"no image".to_vec()), (14, Vec::new()), (20, broken[20].2[..400].to_vec())] {
        broken[at].2 = bytes;
        fs::write(layouts.path(&format!("folders/train/{}/{}", broken[at].0, broken[at].1)), &broken[at].2).unwrap();
    }

    fs::write(layouts.path("tars").join(TRAIN_TAR), training_tar(&broken)).unwrap();
    let batch = |spec: &DataSpec, skip_bad| {
        let options = OpenOptions { holdout: Some(0.0), ..options(skip_bad) };
        let examples: Arc<dyn Examples> = Arc::from(open(spec, Split::Train, &options)?);
        let batch = Batches::evaluation(Arc::clone(&examples))?.with_workers(1)?.batch(0, 24)?;
        Ok::<_, DataError>((batch, examples.describe()))
    };
    let mut results = Vec::new();

    for spec in [layouts.folders(), layouts.tars()] {
        let error = batch(&spec, SkipBad::NONE).unwrap_err().to_string();
        assert!(error.contains("n00000003_") && error.contains("--skip-bad=N"), "{error}");
        let error = batch(&spec, SkipBad::up_to(2)).unwrap_err().to_string();
        assert!(error.contains("more than 2 bad files") && error.contains("n00000003_"), "{error}");
        for allowed in [SkipBad::up_to(3), SkipBad::ALL] {
            let (batch, about) = batch(&spec, allowed).unwrap();
            assert!(about.contains("3 bad files left out"), "{about}");
            results.push(batch);
        }
    }

    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    // Of class 3 (images 2, 8, 14 and 20) one is good, and stands in for the others with a true label.
    let rows: Vec<&[u16]> = results[0].tokens.chunks_exact(1024).collect();
    let of_class: Vec<usize> = (0..24).filter(|&index| results[0].labels[index] == 2).collect();
    assert_eq!(of_class.len(), 4);
    assert!(of_class.iter().all(|&index| rows[index] == rows[of_class[0]]));
}

fn open_bytes(bytes: &[u8]) -> Result<ImageNetTar> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.tar");
    fs::write(&path, bytes).unwrap();
    ImageNetTar::open(&path, SkipBad::NONE, false)
}

#[track_caller]
fn assert_refused(bytes: &[u8], wanted: &str) {
    let error = open_bytes(bytes).err().unwrap_or_else(|| panic!("accepted, and it should say {wanted:?}"));
    assert!(matches!(error, DataError::Tar { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(wanted) && text.contains("hostile.tar"), "{wanted}: {text}");
}

#[test]
fn hostile_tars_are_refused() {
    let small = |count: usize| -> Vec<(String, Vec<u8>)> {
        (0..count).map(|number| (format!("{number}.JPEG"), vec![number as u8; 700])).collect()
    };
    let class = tar_of(&small(2));
    let nested = tar_of(&[("n01.tar".into(), class.clone()), ("n02.tar".into(), class.clone())]);
    assert_eq!(open_bytes(&nested).unwrap().len(), 4);

    assert_refused(b"", "truncated");
    assert_refused(&[0; 4096], "no file in it");
    assert_refused(&[7; 4096], "after 0 files");
    assert_refused(&tar_of(&[("n01.tar".into(), class.clone()), ("1.JPEG".into(), vec![0; 9])]), "mixes");
    assert_refused(&tar_of(&[("1.JPEG".into(), vec![0; 9]), ("n01.tar".into(), class.clone())]), "mixes");
    assert_refused(&tar_of(&[("n01.tar".into(), class.clone()), ("a/n01.tar".into(), class.clone())]), "twice");
    assert_refused(&tar_of(&[("n01.tar".into(), tar_of(&[]))]), "are empty");
    assert_refused(&tar_of(&[("n01.tar".into(), b"no tar at all".to_vec())]), "n01.tar");

    // A truncated tar of a class in a whole outer one.
    assert_refused(&tar_of(&[("n01.tar".into(), class[..1500].to_vec())]), "truncated");

    // Links could point anywhere.
    let mut links = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    links.append_link(&mut header, "1.JPEG", "/etc/passwd").unwrap();
    assert_refused(&links.into_inner().unwrap(), "not a plain file");

    // A header that promises 2^62 bytes.
    let mut header = tar::Header::new_gnu();
    header.set_path("1.JPEG").unwrap();
    header.set_size(1 << 62);
    header.set_cksum();
    assert_refused(&[header.as_bytes().as_slice(), &[0; 2048]].concat(), "truncated");
}

/// Wherever a tar is cut, and whatever byte of a header is altered, it is refused or read within its bounds.
#[test]
fn damaged_tars_never_panic() {
    let files: Vec<_> = (0..2).map(|number| (format!("{number}.JPEG"), vec![number as u8; 600])).collect();
    let nested = tar_of(&[("n01.tar".into(), tar_of(&files)), ("n02.tar".into(), tar_of(&files))]);
    for cut in (0..nested.len() - 1024).step_by(97) {
        assert!(open_bytes(&nested[..cut]).is_err(), "cut at {cut}");
    }
    for at in (0..nested.len()).step_by(13) {
        let mut damaged = nested.clone();
        damaged[at] ^= 0x15;
        if let Ok(tar) = open_bytes(&damaged) {
            (0..tar.len()).for_each(|index| drop(tar.image(index)));
        }
    }
}

#[test]
fn what_is_missing_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let spec = DataSpec::ImageNetTar(folder.path().into());
    for (split, name) in [(Split::Train, TRAIN_TAR), (Split::Test, VAL_TAR)] {
        let error = open(&spec, split, &options(SkipBad::NONE)).err().unwrap().to_string();
        assert!(error.contains(name) && error.contains("image-net.org"), "{error}");
    }
    // Validation images are no training images.
    let path = folder.path().join("val.tar");
    fs::write(&path, tar_of(&validation_images())).unwrap();
    let spec = DataSpec::ImageNetTar(path);
    let error = open(&spec, Split::Train, &options(SkipBad::NONE)).err().unwrap().to_string();
    assert!(error.contains(TRAIN_TAR), "{error}");
    assert_eq!(open(&spec, Split::Test, &options(SkipBad::NONE)).unwrap().len(), 8);
}

#[test]
fn jpegs_of_four_components_are_as_pillow_converts_them() {
    for name in ["cmyk", "ycck", "ycck_progressive"] {
        let jpeg = Path::new(FIXTURES).join("jpeg").join(name);
        let folder = tempfile::tempdir().unwrap();
        for kind in ["jpg", "png"] {
            fs::copy(jpeg.with_extension(kind), folder.path().join(name).with_extension(kind)).unwrap();
        }
        let options = OpenOptions { holdout: Some(0.0), ..options(SkipBad::NONE) };
        let source = open_images(&DataSpec::Images(folder.path().into()), Split::Train, &options).unwrap().0;
        let [ours, pillows] = [source.image(0).unwrap(), source.image(1).unwrap()];
        assert_eq!(ours.dimensions(), pillows.dimensions());
        let pairs = ours.as_raw().iter().zip(pillows.as_raw());
        let worst = pairs.map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(3), "{name}: differs by {worst:?}");
    }
}
