//! `data info --verify`: what it prints, and how it ends.

use std::path::Path;

use serde_json::Value;

use crate::{assert_succeeds, engine, json_lines, stderr};

/// Thirty pictures in `photos/{train,test}`, of which each training image from 5 on ends early and the test images are
/// training images.
fn photographs(photos: &Path, broken: bool) {
    for index in 0..30_u32 {
        let picture = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([x * 7, y * 7, index * 8].map(|v| v as u8)));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        let bytes = bytes.into_inner();
        let end = if broken && index >= 5 { bytes.len() - 40 } else { bytes.len() };
        for (split, end) in [("train", end), ("test", bytes.len())] {
            let folder = photos.join(split).join(["cat", "dog"][index as usize % 2]);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("{index:02}.png")), &bytes[..end]).unwrap();
        }
    }
}

fn verify(folder: &Path, flags: &[&str]) -> std::process::Command {
    let mut command = engine();
    command.current_dir(folder).args(["data", "info", "images:photos", "--verify"]).args(flags);
    command
}

#[test]
fn damage_is_listed_and_ends_with_code_2() {
    let folder = tempfile::tempdir().unwrap();
    photographs(&folder.path().join("photos"), true);
    let output = verify(folder.path(), &[]).output().unwrap();
    let (text, told) = (String::from_utf8_lossy(&output.stdout), stderr(&output));
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(text.contains("35 images decoded, 25 damaged\n"), "{text}");
    assert_eq!(text.matches(".png (train): ").count(), 20, "{text}");
    assert!(text.contains("and 5 more, which --json lists"), "{text}");
    assert!(told.contains("25 files of images:photos are damaged") && told.contains("--skip-bad"), "{told}");

    // As JSON it is one line with all of them.
    let output = verify(folder.path(), &["--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let lines = json_lines(&String::from_utf8(output.stdout).unwrap());
    let [found] = &lines[..] else { panic!("{} lines", lines.len()) };
    let damaged = found["verification"]["damaged"].as_array().unwrap();
    assert_eq!(damaged.len(), 25);
    assert!(damaged.iter().all(|damaged| !damaged["problem"].as_str().unwrap().is_empty()));
    let names: Vec<&str> = damaged.iter().map(|damaged| damaged["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"photos/train/dog/29.png") && names.is_sorted(), "{names:?}");

    // What may be left out is no reason to stop.
    assert!(assert_succeeds(&mut verify(folder.path(), &["--skip-bad"])).contains("25 damaged"));
    assert_succeeds(&mut verify(folder.path(), &["--skip-bad=25"]));
    assert_eq!(verify(folder.path(), &["--skip-bad=24"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn duplicates_are_listed_and_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    photographs(&folder.path().join("photos"), false);
    let text = assert_succeeds(&mut verify(folder.path(), &[]));
    assert!(text.contains("60 images decoded, none damaged"), "{text}");
    assert!(text.contains("60 images in 30 groups of the same pixels"), "{text}");
    assert!(text.contains("29 test images are in train too\n"), "{text}");
    assert!(text.contains("1 test image is in validation too (held out by default)"), "{text}");
    assert_eq!(text.matches(".png (test, ").count(), 20, "{text}");
    assert!(text.contains("and 10 more, which --json lists"), "{text}");

    let of = |threads: &str| assert_succeeds(verify(folder.path(), &["--json"]).env("RAYON_NUM_THREADS", threads));
    let json = of("1");
    assert_eq!(json, of("3"));
    let found: Value = serde_json::from_str(&json).unwrap();
    let groups = found["verification"]["duplicates"]["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 30);
    assert!(groups.iter().all(|group| group.as_array().is_some_and(|group| group.len() == 2)));
    // Without --verify nothing is decoded, and nothing said of it.
    let plain = assert_succeeds(engine().current_dir(folder.path()).args(["data", "info", "images:photos", "--json"]));
    assert!(!plain.contains("verification"), "{plain}");
}
