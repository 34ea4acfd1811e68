//! Files of features: read back as written, gone on with after a cut, refused when damaged.

// Ranges of images, and not the images of a range, are what is written.
#![allow(clippy::single_range_in_vec_init)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use igpt_engine::data::{AugmentKey, Examples};
use igpt_engine::probe::{FeatureFile, FeatureWriter, Header, Rows, write_features};

const IMAGES: usize = 53;
const WIDTH: usize = 3;

fn header() -> Header {
    Header { block: 16, ..Header::new(IMAGES, vec![0, 2, 5], WIDTH, 4, "a test".into()) }
}

/// The value of an image's feature at a depth: all different.
fn value(image: usize, depth: usize, column: usize) -> f32 {
    (image * 100 + depth * 10 + column) as f32
}

fn batch(images: std::ops::Range<usize>) -> (Vec<u16>, Vec<Vec<f32>>) {
    let labels = images.clone().map(|image| (image % 4) as u16).collect();
    let depth = |depth| images.clone().flat_map(|i| (0..WIDTH).map(move |column| value(i, depth, column))).collect();
    (labels, [0, 2, 5].map(depth).to_vec())
}

fn write(path: &Path, batches: &[std::ops::Range<usize>]) -> FeatureWriter {
    let mut writer = FeatureWriter::open(path, header()).unwrap();
    for images in batches {
        let (labels, features) = batch(images.clone());
        writer.append(&labels, &features).unwrap();
    }
    writer
}

#[test]
fn depths_are_read_back_side_by_side_in_the_order_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.features");
    write(&path, &[0..7, 7..40, 40..IMAGES]).finish().unwrap();

    let file = FeatureFile::open(&path).unwrap();
    assert_eq!(*file.header(), header());
    assert!(file.labels().into_iter().eq((0..IMAGES).map(|image| (image % 4) as u16)));

    for depths in [&[0][..], &[5], &[2, 5], &[5, 0, 2]] {
        let view = file.at(depths).unwrap();
        assert_eq!((view.len(), view.width()), (IMAGES, depths.len() * WIDTH));
        let mut row = vec![f32::NAN; view.width()];
        for image in [0, 15, 16, 47, 48, IMAGES - 1] {
            view.row(image, &mut row).unwrap();
            let expected = depths.iter().flat_map(|depth| (0..WIDTH).map(|column| value(image, *depth, column)));
            assert!(row.iter().copied().eq(expected), "{depths:?} {image}: {row:?}");
        }
    }

    for missing in [&[1][..], &[0, 6], &[]] {
        assert!(file.at(missing).is_err(), "{missing:?}");
    }

    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no part stays");
}

#[test]
fn an_interrupted_file_is_gone_on_with_and_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, cut] = ["whole", "cut"].map(|name| folder.path().join(name));
    write(&whole, &[0..IMAGES]).finish().unwrap();
    let part = folder.path().join("cut.part");

    // Two blocks are there, and some of the third that never reached the disk.
    drop(write(&cut, &[0..39]));
    assert!(!cut.exists(), "an unfinished file has not its name");

    for damage in ["none", "half a block", "a changed byte"] {
        let mut bytes = fs::read(&part).unwrap();
        match damage {
            "half a block" => bytes.truncate(bytes.len() - 10),
            "a changed byte" => *bytes.last_mut().unwrap() ^= 1,
            _ => {}
        }
        fs::write(&part, bytes).unwrap();
        let writer = write(&cut, &[]);
        assert_eq!(writer.written(), if damage == "none" { 32 } else { 16 }, "{damage}");
        drop(writer);

        // Back to two blocks.
        let mut writer = write(&cut, &[]);
        let (labels, features) = batch(writer.written()..33);
        writer.append(&labels, &features).unwrap();
    }

    let mut writer = write(&cut, &[]);
    assert_eq!(writer.written(), 32);
    let (labels, features) = batch(32..IMAGES);
    writer.append(&labels, &features).unwrap();
    writer.finish().unwrap();
    assert!(fs::read(&whole).unwrap() == fs::read(&cut).unwrap());

    // All written but not renamed.
    fs::rename(&cut, &part).unwrap();
    let writer = write(&cut, &[]);
    assert_eq!(writer.written(), IMAGES);
    writer.finish().unwrap();
    assert!(fs::read(&whole).unwrap() == fs::read(&cut).unwrap());

    // Of another origin nothing is taken over.
    drop(write(&cut, &[0..20]));
    let other = Header { origin: "another".into(), ..header() };
    assert_eq!(FeatureWriter::open(&cut, other).unwrap().written(), 0);

    // And what lacks images is not finished.
    assert!(write(&cut, &[0..20]).finish().unwrap_err().to_string().contains("of 53"));
}

#[test]
fn two_writers_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let first = write(&path, &[0..20]);
    let message = FeatureWriter::open(&path, header()).err().unwrap().to_string();
    assert!(message.contains("another process") && message.contains("a.part"), "{message}");
    drop(first);
    assert_eq!(FeatureWriter::open(&path, header()).unwrap().written(), 16);
}

#[test]
fn damaged_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.features");
    write(&path, &[0..IMAGES]).finish().unwrap();
    let whole = fs::read(&path).unwrap();

    let header_end = whole.len() - (IMAGES * 4 * (1 + 3 * WIDTH) + 4 * 32);
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        bytes
    };

    let longer = [&whole[..], &[0]].concat();
    let mut long_header = whole.clone();
    long_header[8..12].copy_from_slice(&u32::MAX.to_le_bytes());

    for (bytes, word) in [
        (Vec::new(), "not a file of features"),
        (b"\x93NUMPY\x01\x00".to_vec(), "not a file of features"),
        (whole[..30].to_vec(), "not a file of features"),
        (whole[..header_end - 1].to_vec(), "damaged header"),
        (changed(20), "damaged header"),
        (changed(60), "damaged header"),
        (long_header, "damaged header"),
        (whole[..whole.len() - 1].to_vec(), "truncated"),
        (whole[..header_end].to_vec(), "truncated"),
        (longer, "too long"),
        (changed(header_end + 70), "0..16"),
        (changed(whole.len() - 1), "48..53"),
        (changed(whole.len() - 100), "48..53"),
    ] {
        fs::write(&path, bytes).unwrap();
        let message = FeatureFile::open(&path).err().unwrap().to_string();
        assert!(message.contains("a.features") && message.contains(word), "{word}: {message}");
    }
}

/// Every image's tokens are its number; the class its remainder.
struct Numbered {
    labels: bool,
}

impl Examples for Numbered {
    fn len(&self) -> usize {
        IMAGES
    }
    fn sequence_length(&self) -> usize {
        2
    }
    fn vocabulary(&self) -> usize {
        512
    }
    fn tokens(&self, index: usize, _: Option<AugmentKey>, out: &mut [u16]) -> igpt_engine::data::Result<()> {
        out.fill(index as u16);
        Ok(())
    }
    fn label(&self, index: usize) -> Option<u16> {
        self.labels.then_some((index % 4) as u16)
    }
    fn classes(&self) -> usize {
        4
    }
    fn describe(&self) -> String {
        "numbers".into()
    }
}

#[test]
fn images_are_written_once_in_order_whatever_the_batch_and_however_often_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let examples: Arc<dyn Examples> = Arc::new(Numbered { labels: true });
    let features = |first: u64, tokens: &[u16]| {
        assert_eq!(u64::from(tokens[0]), first);
        let images = usize::from(tokens[0])..usize::from(tokens[0]) + tokens.len() / 2;
        Ok(batch(images).1)
    };

    let expected = folder.path().join("expected");
    write(&expected, &[0..IMAGES]).finish().unwrap();

    for size in [1, 7, 16, 1000] {
        let path = folder.path().join(format!("{size}"));
        let mut stops = 0;
        loop {
            let mut calls = 0;
            let go_on = |_| {
                calls += 1;
                calls < 20
            };
            match write_features(&path, header(), &examples, size, features, go_on).unwrap() {
                Some(file) => break assert_eq!(file.header().images, IMAGES),
                None => stops += 1,
            }
            assert!(stops < 10);
        }

        assert_eq!(stops > 0, size == 1);
        assert!(fs::read(&path).unwrap() == fs::read(&expected).unwrap(), "batch {size}");

        // A second time nothing is computed.
        let unused = |_: u64, _: &[u16]| panic!("it is there already");
        assert!(write_features(&path, header(), &examples, size, unused, |_| true).unwrap().is_some());
    }

    let unlabelled: Arc<dyn Examples> = Arc::new(Numbered { labels: false });
    let path = folder.path().join("none");
    let problem = write_features(&path, header(), &unlabelled, 8, features, |_| true).err().unwrap();
    assert!(problem.to_string().contains("no labels"));
}
