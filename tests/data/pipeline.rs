//! From sources to batches: token arrays, specs, resizing, palettes, streams.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use igpt_engine::data::{
    AugmentKey, Batches, DataError, DataSpec, Examples, Filter, FitOptions, Histogram, ImageSource, OpenOptions,
    Palette, Prefetcher, Result, Split, TokenArray, fit, npy, open, open_image, open_images, open_sample,
};
use proptest::prelude::*;

fn options() -> OpenOptions {
    OpenOptions { progress: false, resolution: 16, ..OpenOptions::new(Arc::new(Palette::built_in().unwrap())) }
}

fn sample(split: Split, options: &OpenOptions) -> Arc<dyn Examples> {
    Arc::from(open(&DataSpec::Sample, split, options).unwrap())
}

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
        prop_assert!(array.to_f32().is_err());
    }

    /// Random damage never panics, and never yields values that the file does not hold.
    #[test]
    fn npy_survives_damage(
        damage in prop::collection::vec((0_usize..160, any::<u8>()), 0..6),
        cut in 0_usize..=176,
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
            prop_assert_eq!(array.f64s(0..usize::MAX).count(), array.len());
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

    #[test]
    fn specs_never_panic_and_survive_a_round_trip(text in "(cifar10|cifar100|stl10|images|tokens|sample|\\PC{0,4})?:?\\PC{0,30}") {
        if let Ok(spec) = DataSpec::from_str(&text) {
            prop_assert_eq!(DataSpec::from_str(&spec.to_string()).unwrap(), spec);
        }
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
        (raw_npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", &[0; 16]), "ascontiguousarray"),
        (raw_npy("{'descr': '>f4', 'fortran_order': False, 'shape': (4,), }", &[0; 16]), "little-endian"),
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
fn an_unfinished_array_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = npy::Writer::<u16>::create(folder.path().join("a.npy"), &[2, 2]).unwrap();
    writer.append(&[1, 2, 3]).unwrap();
    assert!(writer.append(&[4, 5]).is_err());
    assert!(writer.finish().is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Token files in a folder of their own.
struct TokenFiles(tempfile::TempDir);

impl TokenFiles {
    fn new(tokens: &[u16], columns: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        npy::write_u16(folder.path().join("x.npy"), &[tokens.len() / columns, columns], tokens).unwrap();
        TokenFiles(folder)
    }

    fn labels<T: npy::Element>(&self, shape: &[usize], labels: &[T]) -> Result<TokenArray> {
        npy::write(self.0.path().join("y.npy"), shape, labels)?;
        TokenArray::open(&self.0.path().join("x.npy"), Some(&self.0.path().join("y.npy")), 512)
    }

    fn open(&self, vocabulary: usize) -> Result<TokenArray> {
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

#[test]
fn specs_parse_and_errors_list_the_kinds() {
    assert_eq!("sample".parse::<DataSpec>().unwrap(), DataSpec::Sample);
    assert_eq!("cifar10:a b/c:d".parse::<DataSpec>().unwrap(), DataSpec::Cifar10("a b/c:d".into()));
    let tokens = DataSpec::Tokens { tokens: "a,b/x.npy".into(), labels: Some("y.npy".into()) };
    assert_eq!("tokens:a,b/x.npy,y.npy".parse::<DataSpec>().unwrap(), tokens);
    assert_eq!(serde_json::to_string(&tokens).unwrap(), "\"tokens:a,b/x.npy,y.npy\"");
    for bad in ["", "cifar", "cifar10:", "mnist:x", "tokens:x.npy,"] {
        let error = bad.parse::<DataSpec>().unwrap_err().to_string();
        assert!(error.contains("stl10:DIR"), "{error}");
    }
}

#[test]
fn splits_of_the_sample_are_disjoint_and_stable() {
    let options = options();
    let images = |split| open_images(&DataSpec::Sample, split, &options).unwrap().1;
    let (train, validation) = (images(Split::Train), images(Split::Validation));
    assert_eq!((train.len(), validation.len(), images(Split::Test).len()), (900, 100, 200));
    assert!(validation.iter().all(|index| !train.contains(index)));
    let none = OpenOptions { holdout: Some(0.0), ..options.clone() };
    assert_eq!(open(&DataSpec::Sample, Split::Train, &none).unwrap().len(), 1000);
    assert!(matches!(open(&DataSpec::Sample, Split::Validation, &none), Err(DataError::NoSplit { .. })));
}

/// Pillow 13.0.0 resizing a computed 29x37 image to 8x9 by BOX, BILINEAR, BICUBIC and LANCZOS.
#[test]
fn resizing_agrees_with_pillow() {
    let expected = npy::Npy::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pillow_resize.npy")).unwrap();
    assert_eq!(expected.shape(), [4, 9, 8, 3]);
    let image = image::RgbImage::from_fn(29, 37, |x, y| {
        image::Rgb([x * 37 + y * 11 + x * y, x * x * 3 + y * 7, y * y * 5 + x * 13].map(|value| (value % 256) as u8))
    });
    for (at, filter) in [Filter::Box, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos].into_iter().enumerate() {
        let resized = igpt_engine::data::resize(image.clone(), 8, 9, filter).unwrap();
        let expected: Vec<i64> = expected.integers(at * 216..(at + 1) * 216).unwrap().collect();
        let worst = resized.as_raw().iter().zip(expected).map(|(&ours, pillow)| (i64::from(ours) - pillow).abs()).max();
        assert!(worst <= Some(1), "{filter}: off by {worst:?}");
    }
}

#[test]
fn a_palette_fitted_to_the_sample_is_good_reproducible_and_indifferent_to_threads() {
    let source = open_sample(Split::Train).unwrap();
    let bar = indicatif::ProgressBar::hidden();
    let histogram = Histogram::of_images(300, &bar, |index| source.image(index)).unwrap();
    assert_eq!(histogram.pixels(), 300 * 1024);
    let options = FitOptions { colours: 64, seed: 3, iterations: 30, ..FitOptions::default() };
    let mut errors = Vec::new();
    let palette = fit(&histogram, &options, |_, mse| errors.push(mse)).unwrap();
    assert!(errors.len() > 5 && errors.windows(2).all(|pair| pair[1] <= pair[0] * (1.0 + 1e-6)), "{errors:?}");
    let quality = histogram.quality(&palette);
    assert!(quality.mse <= *errors.last().unwrap() && quality.used == 64, "{quality:?}");
    // Against the definition, pixel by pixel.
    let image = source.image(0).unwrap();
    let one = Histogram::of_images(1, &bar, |_| Ok(image.clone())).unwrap().quality(&palette);
    let by_hand: f64 = image
        .pixels()
        .map(|pixel| {
            let colour = palette.colours()[usize::from(palette.nearest(pixel.0))];
            pixel
                .0
                .iter()
                .zip(colour)
                .map(|(&p, c)| (f64::from(p) / 255.0 - (f64::from(c) + 1.0) / 2.0).powi(2))
                .sum::<f64>()
        })
        .sum::<f64>()
        / 1024.0;
    assert!((one.mse - by_hand).abs() < 1e-9, "{} {by_hand}", one.mse);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let alone = pool.install(|| fit(&histogram, &options, |_, _| {})).unwrap();
    assert_eq!(alone.colours(), palette.colours());
    assert_ne!(fit(&histogram, &FitOptions { seed: 4, ..options }, |_, _| {}).unwrap().id(), palette.id());
}

#[test]
fn fits_that_cannot_be() {
    let image = image::RgbImage::from_fn(4, 4, |x, _| image::Rgb([x as u8 * 9, 0, 0]));
    let histogram = Histogram::of_images(1, &indicatif::ProgressBar::hidden(), |_| Ok(image.clone())).unwrap();
    let fit_to = |colours| fit(&histogram, &FitOptions { colours, ..FitOptions::default() }, |_, _| {});
    // As many colours as there are: no error is left.
    assert!(histogram.quality(&fit_to(4).unwrap()).mse < 1e-12);
    assert!(fit_to(5).unwrap_err().to_string().contains("--colours 4"));
    assert!(fit_to(0).is_err() && fit_to(513).is_err());
}

#[test]
fn the_built_in_palette_suits_the_test_images() {
    let source = open_sample(Split::Test).unwrap();
    let histogram = Histogram::of_images(200, &indicatif::ProgressBar::hidden(), |index| source.image(index)).unwrap();
    let quality = histogram.quality(&Palette::built_in().unwrap());
    assert!(quality.mse < 0.0012 && quality.used > 480, "{quality:?}");
}

#[test]
fn palette_files_round_trip_and_wrong_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.npy");
    let palette = Palette::built_in().unwrap();
    palette.save(&path).unwrap();
    assert_eq!(Palette::load(&path).unwrap().id(), palette.id());
    npy::write_f32(&path, &[3, 2], &[0.0; 6]).unwrap();
    assert!(Palette::load(&path).unwrap_err().to_string().contains("[3, 2]"));
    npy::write_i64(&path, &[2, 3], &[0; 6]).unwrap();
    assert!(Palette::load(&path).unwrap_err().to_string().contains("int64"));
    npy::write_f32(&path, &[1, 3], &[0.0, 255.0, 0.0]).unwrap();
    assert!(matches!(Palette::load(&path), Err(DataError::Palette { .. })));
}

#[test]
fn batches_are_a_pure_function_of_the_sample_number() {
    let batches = Batches::training(sample(Split::Train, &options()), 5, true).unwrap();
    let long = batches.batch(880, 60).unwrap();
    assert_eq!((long.tokens.len(), long.labels.len()), (60 * 256, 60));
    // Out of order, in other sizes, from another object, across the end of the epoch at 900.
    let fresh = Batches::training(sample(Split::Train, &options()), 5, true).unwrap();
    let late = fresh.batch(920, 20).unwrap();
    let early = fresh.batch(880, 40).unwrap();
    assert_eq!([early.tokens, late.tokens].concat(), long.tokens);
    assert_eq!([early.labels, late.labels].concat(), long.labels);
    let other = Batches::training(sample(Split::Train, &options()), 6, true).unwrap().batch(880, 60).unwrap();
    assert_ne!(other.labels, long.labels);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(|| batches.batch(880, 60)).unwrap(), long);
}

#[test]
fn an_epoch_has_every_example_once_and_a_new_order_each_time() {
    // Tokens that tell the rows apart.
    let files = TokenFiles::new(&(0..50).collect::<Vec<u16>>(), 1);
    let examples: Arc<dyn Examples> = Arc::new(files.open(512).unwrap());
    let shuffled = Batches::training(Arc::clone(&examples), 1, true).unwrap();
    let epoch = |epoch: u64| shuffled.batch(epoch * 50, 50).unwrap().tokens;
    for tokens in [epoch(0), epoch(1)] {
        let mut sorted = tokens.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..50));
        assert_ne!(tokens, sorted);
    }
    assert_ne!(epoch(0), epoch(1));
    let plain = Batches::training(examples, 1, false).unwrap();
    assert!(plain.batch(45, 10).unwrap().tokens.iter().copied().eq((45..50).chain(0..5)));
}

#[test]
fn only_training_is_augmented_and_differently_each_epoch() {
    let options = OpenOptions { resolution: 32, ..options() };
    let train = sample(Split::Train, &options);
    let tokens = |examples: &dyn Examples, epoch| {
        let mut out = vec![0; 1024];
        examples.tokens(0, Some(AugmentKey { seed: 1, epoch, index: 0 }), &mut out).unwrap();
        out
    };
    assert_ne!(tokens(&*train, 0), tokens(&*train, 1));
    let plain = sample(Split::Train, &OpenOptions { augment: false, ..options.clone() });
    assert_eq!(tokens(&*plain, 0), tokens(&*plain, 1));
    let test = sample(Split::Test, &options);
    assert_eq!(tokens(&*test, 0), tokens(&*test, 1));
    // Not augmented at the stored size, tokens are the palette's of the stored pixels.
    let mut expected = vec![0; 1024];
    options.palette.encode(&open_sample(Split::Test).unwrap().image(0).unwrap(), &mut expected).unwrap();
    assert_eq!(tokens(&*test, 0), expected);
    let evaluation = Batches::evaluation(sample(Split::Train, &options)).unwrap();
    assert_eq!(evaluation.batch(0, 5).unwrap().tokens, evaluation.batch(900, 5).unwrap().tokens);
}

/// Examples of which one fails.
struct Faulty;

impl Examples for Faulty {
    fn len(&self) -> usize {
        100
    }
    fn sequence_length(&self) -> usize {
        1
    }
    fn vocabulary(&self) -> usize {
        512
    }
    fn tokens(&self, index: usize, _: Option<AugmentKey>, out: &mut [u16]) -> Result<()> {
        if index == 57 {
            return Err(DataError::Image { path: "57.jpg".into(), problem: "is bad".into() });
        }
        out[0] = index as u16;
        Ok(())
    }
    fn label(&self, _: usize) -> Option<u16> {
        None
    }
    fn classes(&self) -> usize {
        0
    }
    fn describe(&self) -> String {
        "a test".into()
    }
}

#[test]
fn prefetching_keeps_the_order_and_errors_arrive_in_their_place() {
    let batches = Batches::evaluation(Arc::new(Faulty)).unwrap();
    let mut stream = Prefetcher::start(batches, 3, 10, 3).unwrap();
    for first in (3..53).step_by(10) {
        let batch = stream.next().unwrap().unwrap();
        assert_eq!(batch.first_sample, first);
        assert!(batch.tokens.iter().map(|&token| u64::from(token)).eq(first..first + 10));
        assert!(batch.labels.is_empty());
    }
    assert!(stream.next().unwrap().unwrap_err().to_string().contains("57.jpg"));
    assert!(stream.next().is_none());
    // Dropping a stream that could go on for ever ends it.
    let endless = Batches::evaluation(sample(Split::Test, &options())).unwrap();
    let mut stream = Prefetcher::start(endless, 0, 4, 2).unwrap();
    assert_eq!(stream.next().unwrap().unwrap().tokens.len(), 4 * 256);
}

#[test]
fn single_images_and_too_high_a_resolution() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images/rgb.png"));
    assert_eq!(open_image(path, 32, Filter::Bilinear).unwrap().dimensions(), (32, 32));
    let error = open_image(path, 48, Filter::Bilinear).unwrap_err().to_string();
    assert!(error.contains("rgb.png") && error.contains("48x48"), "{error}");
    let options = OpenOptions { resolution: 48, ..options() };
    let error = sample(Split::Test, &options).tokens(0, None, &mut vec![0; 48 * 48]).unwrap_err().to_string();
    assert!(error.contains("image 0") && !error.contains("--skip-bad"), "{error}");
}

/// Examples that take their time.
struct Slow(std::time::Duration);

impl Examples for Slow {
    fn len(&self) -> usize {
        1000
    }

    fn sequence_length(&self) -> usize {
        1
    }

    fn vocabulary(&self) -> usize {
        1
    }

    fn tokens(&self, _index: usize, _augment: Option<AugmentKey>, _out: &mut [u16]) -> Result<()> {
        std::thread::sleep(self.0);
        Ok(())
    }

    fn label(&self, _index: usize) -> Option<u16> {
        None
    }

    fn classes(&self) -> usize {
        0
    }

    fn describe(&self) -> String {
        "slow".into()
    }
}

#[test]
fn loading_that_falls_behind_is_said_once() {
    let millisecond = std::time::Duration::from_millis(1);
    let start = |pause: u32| {
        let batches = Batches::training(Arc::new(Slow(pause * millisecond)), 0, false).unwrap();
        Prefetcher::start(batches.with_workers(1).unwrap(), 0, 1, 2).unwrap()
    };
    // 60 ms a batch, and somebody who does nothing but wait for them.
    let mut slow = start(60);
    let complaints: Vec<String> = (0..30)
        .filter_map(|_| {
            slow.next().unwrap().unwrap();
            slow.complaint()
        })
        .collect();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("--workers") && complaints[0].contains("data bench"), "{complaints:?}");
    assert!(slow.wait().fraction() > 0.8 && slow.wait().batches == 29, "{:?}", slow.wait());
    // At most 1 ms a batch, and somebody who takes 40.
    let mut fast = start(1);
    for _ in 0..30 {
        fast.next().unwrap().unwrap();
        std::thread::sleep(40 * millisecond);
        assert_eq!(fast.complaint(), None, "{:?}", fast.wait());
    }
    assert!(fast.wait().fraction() < 0.5, "{:?}", fast.wait());
    let batches = Batches::training(Arc::new(Slow(millisecond)), 0, false).unwrap();
    assert!(batches.with_workers(100_000).err().unwrap().to_string().contains("--workers"));
}
