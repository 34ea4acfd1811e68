//! From sources to batches: specs, splits, resizing, streams, loading ahead.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use igpt_engine::data::{
    Alpha, AugmentKey, Batches, DataError, DataSpec, Examples, Filter, ImageSource, OpenOptions, Palette, Prefetcher,
    Result, Split, npy, open, open_image, open_images, open_sample,
};
use proptest::prelude::*;

use crate::arrays::TokenFiles;

pub fn options() -> OpenOptions {
    OpenOptions { progress: false, resolution: 16, ..OpenOptions::new(Arc::new(Palette::built_in().unwrap())) }
}

pub fn sample(split: Split, options: &OpenOptions) -> Arc<dyn Examples> {
    Arc::from(open(&DataSpec::Sample, split, options).unwrap())
}

proptest! {
    #[test]
    fn specs_never_panic_and_survive_a_round_trip(text in "(cifar10|cifar100|stl10|images|tokens|sample|\\PC{0,4})?:?\\PC{0,30}") {
        if let Ok(spec) = DataSpec::from_str(&text) {
            prop_assert_eq!(DataSpec::from_str(&spec.to_string()).unwrap(), spec);
        }
    }
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
    assert_eq!(open_image(path, 32, Filter::Bilinear, Alpha::Drop).unwrap().dimensions(), (32, 32));
    let error = open_image(path, 48, Filter::Bilinear, Alpha::Drop).unwrap_err().to_string();
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
fn loading_that_falls_behind_is_reported_once() {
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
