//! Looking at a whole data set: all that is damaged is named, and images that are there twice are found by their pixels.

use std::fs;
use std::path::Path;

use igpt_engine::data::imagenet::TRAIN_TAR;
use igpt_engine::data::{
    Contents, DataSpec, InspectOptions, ShardWriter, Shared, SkipBad, Split, Verification, hold_out, inspect, npy,
};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ImageFormat, RgbImage};

use crate::imagenet::{photo, training_tar};
use crate::shards::header;
use crate::support::{encoded, images, png, put};

fn contents(spec: &DataSpec) -> Contents {
    inspect(spec, InspectOptions { verify: true, ..InspectOptions::default() }).unwrap()
}

fn verified(spec: &DataSpec) -> Verification {
    contents(spec).verification.unwrap()
}

/// The same pixels as [`png`], packed in another way.
fn packed_anew(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Uncompressed, FilterType::NoFilter);
    picture.write_with_encoder(encoder).unwrap();
    bytes
}

/// Split and end of the name of what is damaged.
fn damaged(found: &Verification, folder: &Path) -> Vec<(Split, String)> {
    let name = |name: &str| Path::new(name).strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    found.damaged.iter().map(|damaged| (damaged.split, name(&damaged.name))).collect()
}

/// Split and file name of the images of each group.
fn groups(found: &Verification) -> Vec<Vec<(Split, String)>> {
    let file = |name: &str| Path::new(name).file_name().unwrap().to_str().unwrap().to_owned();
    let group =
        |group: &Vec<igpt_engine::data::Twin>| group.iter().map(|twin| (twin.split, file(&twin.name))).collect();
    found.duplicates.groups.iter().map(group).collect()
}

#[test]
fn every_damaged_file_of_every_split_is_named_with_its_reason() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let jpeg = encoded(photo(1, 64, 64), ImageFormat::Jpeg);
    put(folder, "train/a/0.png", &png(&photo(0, 40, 40)));
    put(folder, "train/a/1.png", b"hello");
    put(folder, "train/a/2.png", b"");
    put(folder, "train/b/3.jpg", &jpeg);
    // The header is sound, the pixels end early.
    put(folder, "train/b/4.jpg", &jpeg[..jpeg.len() * 9 / 10]);
    put(folder, "train/b/5.png", &png(&photo(5, 40, 40))[..400]);
    put(folder, "train/loose.png", &png(&photo(6, 40, 40)));
    put(folder, "test/a/7.png", &png(&photo(7, 40, 40)));
    put(folder, "test/b/8.gif", b"GIF89a");

    let found = verified(&images(folder));
    assert_eq!(found.decoded, 3);
    let expected = [
        (Split::Train, "train/loose.png"),
        (Split::Train, "train/a/1.png"),
        (Split::Train, "train/a/2.png"),
        (Split::Train, "train/b/4.jpg"),
        (Split::Train, "train/b/5.png"),
        (Split::Test, "test/b/8.gif"),
    ]
    .map(|(split, name)| (split, name.to_owned()));
    assert_eq!(damaged(&found, folder), expected);
    for (damaged, word) in found.damaged.iter().zip(["no class", "none of JPEG", "empty", "truncated", "", ""]) {
        assert!(damaged.problem.contains(word) && !damaged.problem.is_empty(), "{}: {}", damaged.name, damaged.problem);
        assert!(!damaged.problem.contains("--skip-bad"), "a reason is no advice: {}", damaged.problem);
    }

    // Five of one split, one of the other: what a run with that many to leave out would meet.
    for (allowed, beyond) in [(0, true), (4, true), (5, false), (u64::MAX, false)] {
        assert_eq!(found.is_beyond(SkipBad::up_to(allowed)), beyond, "{allowed}");
    }
    // Without being asked to, nobody decodes.
    fs::remove_file(folder.join("train/loose.png")).unwrap();
    assert!(inspect(&images(folder), InspectOptions::default()).is_err());
}

#[cfg(unix)]
#[test]
fn pipes_are_named_and_not_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    put(folder, "train/a/0.png", &png(&photo(0, 40, 40)));
    for name in ["train/a/pipe.png", "test-pipe"] {
        let pipe = folder.join(name);
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    }
    let found = verified(&images(folder));
    assert_eq!(damaged(&found, folder), [(Split::Train, "train/a/pipe.png".to_owned())]);
    assert!(found.damaged[0].problem.contains("a named pipe"), "{}", found.damaged[0].problem);

    // Nothing but a pipe: that is what is wrong, not that there is nothing.
    fs::create_dir_all(folder.join("test/a")).unwrap();
    fs::rename(folder.join("test-pipe"), folder.join("test/a/pipe.png")).unwrap();
    let found = verified(&images(folder));
    assert_eq!(damaged(&found, folder)[1], (Split::Test, "test/a/pipe.png".to_owned()));
}

#[test]
fn equal_pixels_are_found_within_a_split_and_across_splits_however_they_are_packed() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let picture = |number: u32| photo(number, 40, 36);
    // Fifty training images, of which two are held out by default.
    let held_out = hold_out(50, 0.04, 0).unwrap().1;
    let trained = (0..50_u32).find(|index| !held_out.contains(index)).unwrap();
    let [validation, other] = held_out[..] else { panic!("{held_out:?}") };
    for index in 0..50 {
        // The second of those held out is a training image too.
        let picture = picture(if index == other { trained } else { index });
        let bytes = if index == other { packed_anew(&picture) } else { png(&picture) };
        put(folder, &format!("train/a/{index:02}.png"), &bytes);
    }
    let [first, again] = [png, packed_anew].map(|pack| pack(&picture(trained)));
    assert_ne!(first, again, "the files differ, the pixels do not");

    // In the test part: one of the training images as a BMP, one held out, one twice, one of its own.
    put(folder, "test/a/t1.bmp", &encoded(picture(trained), ImageFormat::Bmp));
    put(folder, "test/a/t2.png", &packed_anew(&picture(validation)));
    put(folder, "test/a/t3.png", &png(&picture(70)));
    put(folder, "test/a/t4.png", &packed_anew(&picture(70)));
    put(folder, "test/a/t5.png", &png(&picture(71)));
    // As many bytes in other proportions are another picture.
    let turned = RgbImage::from_raw(36, 40, picture(71).into_raw()).unwrap();
    put(folder, "test/a/t6.png", &png(&turned));

    let found = verified(&images(folder));
    assert!(found.damaged.is_empty(), "{:?}", found.damaged);
    let shared = |split, also_in, images| Shared { split, also_in, images };
    assert_eq!(
        found.duplicates.shared,
        [
            shared(Split::Test, Split::Test, 1),
            shared(Split::Validation, Split::Train, 1),
            shared(Split::Test, Split::Train, 1),
            shared(Split::Test, Split::Validation, 2),
        ]
    );
    assert_eq!((found.decoded, found.duplicates.images, found.duplicates.of_several_classes), (56, 7, 0));
    let name = |index: u32| format!("{index:02}.png");
    let mut expected = vec![
        vec![(Split::Train, name(trained)), (Split::Validation, name(other)), (Split::Test, "t1.bmp".to_owned())],
        vec![(Split::Validation, name(validation)), (Split::Test, "t2.png".to_owned())],
        vec![(Split::Test, "t3.png".to_owned()), (Split::Test, "t4.png".to_owned())],
    ];
    expected[0].sort_by_key(|(split, name)| (*split == Split::Test, name.clone()));
    assert_eq!(groups(&found), expected);
    // None of it is a fault.
    assert!(!found.is_beyond(SkipBad::NONE));
}

#[test]
fn equal_images_of_different_classes_are_counted() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    for (name, number) in [("a/0.png", 0), ("a/1.png", 1), ("b/2.png", 0), ("b/3.png", 3), ("b/4.png", 3)] {
        put(folder, name, &png(&photo(number, 40, 40)));
    }
    let found = verified(&images(folder));
    assert_eq!((found.duplicates.groups.len(), found.duplicates.of_several_classes), (2, 1));
    let classes: Vec<_> = found.duplicates.groups[0].iter().map(|twin| twin.class).collect();
    assert_eq!(classes, [Some(0), Some(1)]);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    for index in 0..40_u32 {
        let bytes = png(&photo(index % 13, 40, 40));
        let end = if index % 5 == 0 { 300 } else { bytes.len() };
        put(folder, &format!("train/{}/{index}.png", ["a", "b"][index as usize % 2]), &bytes[..end]);
    }
    let of = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| serde_json::to_string(&contents(&images(folder))).unwrap())
    };
    let one = of(1);
    assert!(one.matches("\"problem\"").count() == 8 && one.contains("also_in"), "{one}");
    assert_eq!(one, of(2));
    assert_eq!(one, of(7));
}

/// A record of CIFAR-10.
fn record(label: u8, pixel: u8) -> Vec<u8> {
    [&[label][..], &[pixel; 3072]].concat()
}

#[test]
fn cifars_damaged_files_are_all_named_and_the_others_looked_at() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    put(folder, "data_batch_1.bin", &[record(1, 10), record(2, 20)].concat());
    put(folder, "data_batch_2.bin", &record(3, 30)[..3000]);
    put(folder, "data_batch_4.bin", &[record(4, 40), record(10, 50)].concat());
    put(folder, "data_batch_5.bin", &record(5, 20));
    put(folder, "test_batch.bin", &record(6, 10));

    let spec = DataSpec::Cifar10(folder.to_owned());
    let contents = contents(&spec);
    let found = contents.verification.as_ref().unwrap();
    let expected = ["data_batch_2.bin", "data_batch_4.bin"].map(|name| (Split::Train, name.to_owned()));
    assert_eq!(damaged(found, folder), expected);
    assert!(found.damaged[0].problem.contains("truncated") && found.damaged[1].problem.contains("label 10"));
    // One that is damaged is not missing.
    let notes = contents.splits[0].notes.concat();
    assert!(notes.contains("data_batch_3.bin is missing"), "{notes}");
    // No --skip-bad helps with these.
    assert!(found.is_beyond(SkipBad::ALL));

    assert_eq!((found.decoded, found.duplicates.groups.len(), found.duplicates.of_several_classes), (4, 2, 2));
    assert!(inspect(&spec, InspectOptions::default()).is_err());

    // All of a split damaged, and then all of the data set.
    put(folder, "test_batch.bin", &record(6, 10)[1..]);
    let found = verified(&spec);
    assert_eq!(damaged(&found, folder)[2], (Split::Test, "test_batch.bin".to_owned()));
}

#[test]
fn imagenets_tars_are_read_where_they_lie() {
    let place = tempfile::tempdir().unwrap();
    let jpeg = |number| encoded(photo(number, 60, 50), ImageFormat::Jpeg);
    let image = |class: u32, name: &str, bytes: Vec<u8>| (format!("n0000000{class}"), name.to_owned(), bytes);
    let cut = jpeg(4)[..300].to_vec();
    let images = [
        image(1, "a.JPEG", jpeg(1)),
        image(1, "b.JPEG", cut),
        image(2, "c.JPEG", jpeg(1)),
        image(2, "d.JPEG", jpeg(3)),
        image(2, "e.JPEG", Vec::new()),
    ];
    let tar = put(place.path(), TRAIN_TAR, &training_tar(&images));
    let found = verified(&DataSpec::ImageNetTar(place.path().to_owned()));
    let expected = ["n00000001/b.JPEG", "n00000002/e.JPEG"].map(|name| (Split::Train, name.to_owned()));
    assert_eq!(damaged(&found, &tar), expected);
    assert_eq!((found.decoded, found.duplicates.of_several_classes), (3, 1));
    assert_eq!(found.duplicates.groups[0].iter().map(|twin| twin.index).collect::<Vec<_>>(), [0, 2]);

    // A tar that is no tar is what is damaged.
    let whole = fs::read(&tar).unwrap();
    put(place.path(), TRAIN_TAR, &whole[..whole.len() - 1500]);
    fs::remove_file(place.path().join(format!("{TRAIN_TAR}.index"))).ok();
    let found = verified(&DataSpec::ImageNetTar(tar.clone()));
    assert!(found.damaged[0].problem.contains("truncated") && found.is_beyond(SkipBad::ALL), "{:?}", found.damaged);
}

#[test]
fn stl_tokens_shards_and_the_sample_are_looked_at_too() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let pictures = [3_u8, 4, 3].map(|value| vec![value; 27_648]).concat();
    put(folder, "stl/train_X.bin", &pictures);
    put(folder, "stl/train_y.bin", &[1, 2, 10]);
    put(folder, "stl/test_X.bin", &pictures[..27_647]);
    let found = verified(&DataSpec::Stl10(folder.join("stl")));
    assert_eq!((found.decoded, found.duplicates.images, found.duplicates.of_several_classes), (3, 2, 1));
    assert_eq!(damaged(&found, folder), [(Split::Test, "stl/test_X.bin".to_owned())]);

    // Token arrays, row by row.
    let (tokens, labels) = (folder.join("t.npy"), folder.join("y.npy"));
    npy::write_u16(&tokens, &[3, 4], &[1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4]).unwrap();
    npy::write_i64(&labels, &[3], &[0, 1, 0]).unwrap();
    let spec = DataSpec::Tokens { tokens: tokens.clone(), labels: Some(labels) };
    let found = verified(&spec);
    assert_eq!((found.decoded, found.duplicates.of_several_classes), (3, 0));
    assert_eq!(found.duplicates.shared, [Shared { split: Split::Train, also_in: Split::Train, images: 1 }]);
    assert!(found.duplicates.groups[0][1].name.starts_with("row 2 of tokens:"), "{:?}", found.duplicates);

    npy::write_u16(folder.join("bad.npy"), &[1, 4], &[1, 2, 3, 4096]).unwrap();
    let found = verified(&DataSpec::Tokens { tokens: folder.join("bad.npy"), labels: None });
    assert!(found.damaged[0].problem.contains("token 4096"), "{:?}", found.damaged);

    // A shard, and one of which a bit has flipped.
    let header = header(2);
    let shard = folder.join("s.shard");
    let mut writer = ShardWriter::create(&shard, &header).unwrap();
    writer.append(&[9, 8, 7, 6, 9, 8, 7, 6], &[0, 1]).unwrap();
    writer.finish(&header).unwrap();
    let found = verified(&DataSpec::Shard(shard.clone()));
    assert_eq!((found.decoded, found.duplicates.of_several_classes), (2, 1));
    assert_eq!(found.duplicates.groups[0][0].split, Split::Test);

    let mut bytes = fs::read(&shard).unwrap();
    let middle = bytes.len() - 40;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let found = verified(&DataSpec::Shard(shard));
    assert!(found.decoded == 0 && found.damaged[0].problem.contains("altered"), "{:?}", found.damaged);

    let found = verified(&DataSpec::Sample);
    assert_eq!((found.decoded, found.damaged.len(), found.duplicates.groups.len()), (1200, 0, 0));
}

#[test]
fn a_data_set_that_is_not_there_is_an_error_as_ever() {
    let place = tempfile::tempdir().unwrap();
    let options = InspectOptions { verify: true, ..InspectOptions::default() };
    for spec in [
        images(&place.path().join("nowhere")),
        images(place.path()),
        DataSpec::Cifar10(place.path().to_owned()),
        DataSpec::Tokens { tokens: place.path().join("t.npy"), labels: None },
    ] {
        assert!(inspect(&spec, options).is_err(), "{spec}");
    }
}
