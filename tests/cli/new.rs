//! `new`: a configuration that trains as it is written.

use std::fs;
use std::path::{Path, PathBuf};

use igpt_engine::recipe::{Command, Recipe};
use serde_json::Value;

use crate::{assert_refused, assert_succeeds, engine, json_lines};

/// Two classes of ten pictures each.
fn pictures(folder: &Path) -> PathBuf {
    let photos = folder.join("my \"photos\"");
    for class in ["cat", "dog"] {
        fs::create_dir_all(photos.join("train").join(class)).unwrap();
        for number in 0..10_u8 {
            let picture = image::RgbImage::from_fn(40, 36, |x, y| image::Rgb([number * 9, x as u8 * 5, y as u8 * 6]));
            picture.save(photos.join("train").join(class).join(format!("{number}.png"))).unwrap();
        }
    }
    photos
}

fn new(here: &Path, folder: &Path, flags: &[&str]) -> std::process::Command {
    let mut command = engine();
    command.current_dir(here).args(["new", "--device", "cpu"]).arg(folder).args(flags);
    command
}

#[test]
fn a_folder_of_images_gets_a_configuration_that_trains() {
    let place = tempfile::tempdir().unwrap();
    let photos = pictures(place.path());
    let said = assert_succeeds(&mut new(place.path(), &photos, &["--hours", "0.5"]));
    let config = place.path().join("my \"photos\".toml");
    assert!(said.contains("igpt-engine train --config") && said.contains("the tiny model on"), "{said}");

    // Every key is a setting of training, and every setting has its comment.
    let text = fs::read_to_string(&config).unwrap();
    let recipe = Recipe::parse("new", &text).unwrap();
    assert_eq!(
        (recipe.command, recipe.text("data").unwrap()),
        (Command::Train, &*format!("images:{}", photos.display()))
    );
    assert!(
        text.contains("20 training images of 2 classes") || text.contains("19 training images of 2 classes"),
        "{text}"
    );
    let plan = assert_succeeds(engine().args(["plan", "--config"]).arg(&config));
    assert!(plan.contains("here, on the CPU: yes"), "{plan}");

    let tiny = ["--steps", "1", "--layers", "1", "--width", "16", "--heads", "2", "--resolution", "8", "--batch", "2"];
    let quick = ["--accumulate", "1", "--eval-every", "0", "--sample-every", "0", "--out", "run"];
    let mut train = engine();
    train.current_dir(place.path()).args(["train", "--config"]).arg(&config).args(tiny).args(quick);
    assert_succeeds(&mut train);
}

#[test]
fn nothing_is_overwritten_and_what_cannot_be_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let photos = pictures(place.path());
    let config = place.path().join("mine.toml");
    let flags = ["--out", "mine.toml", "--json"];
    let found: Value = json_lines(&assert_succeeds(&mut new(place.path(), &photos, &flags))).remove(0);
    assert_eq!((&found["config"], &found["classes"]), (&"mine.toml".into(), &2.into()));
    let product = found["batch"].as_u64().unwrap() * found["accumulate"].as_u64().unwrap();
    assert!([16, 128].contains(&product) && found["memory"].as_f64() < found["available"].as_f64(), "{found}");

    fs::write(&config, "mine").unwrap();
    let message = assert_refused(&mut new(place.path(), &photos, &flags));
    assert!(message.contains("mine.toml is there already") && message.contains("--out"), "{message}");
    assert_eq!(fs::read_to_string(&config).unwrap(), "mine");

    // A link that leads nowhere is something too.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(place.path().join("gone"), place.path().join("link.toml")).unwrap();
        assert_refused(&mut new(place.path(), &photos, &["--out", "link.toml"]));
        assert!(!place.path().join("gone").exists());
    }
    assert!(assert_refused(&mut new(place.path(), Path::new("no/such"), &[])).contains("no/such"));
    fs::create_dir(place.path().join("empty")).unwrap();
    assert_refused(&mut new(place.path(), Path::new("empty"), &[]));
    assert!(!place.path().join("empty.toml").exists(), "nothing should have been written");
    assert!(assert_refused(&mut new(place.path(), &photos, &["--hours", "0"])).contains("--hours"));
}
