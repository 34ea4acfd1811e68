//! The commands of the walk.

use std::path::{Path, PathBuf};

use super::error::{DemoError, Result};
use super::settings::Settings;
use crate::run::folder::RunFolder;

/// One command.
pub struct Stage {
    /// Its key in `demo.json`.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// `igpt-engine`, the command and its flags.
    pub words: Vec<String>,
    /// What is there once it is done.
    pub product: PathBuf,
}

/// Folder of the pre-training run.
pub(super) const PRETRAINED: &str = "pretrain";
/// Folder of the fine-tuning run.
pub(super) const FINETUNED: &str = "finetune";
/// Folder of the probe.
pub(super) const PROBED: &str = "probe";
/// The picture of completed images.
pub(super) const COMPLETIONS: &str = "completions.png";

/// Score of the fine-tuned model, below the demo's folder.
pub(super) fn score_file(out: &Path) -> PathBuf {
    out.join(FINETUNED).join("test.json")
}

/// What each size of the demo passes to its commands.
struct Sizes {
    train: &'static str,
    probe: &'static str,
    finetune: &'static str,
    eval: &'static str,
    sample: &'static str,
}

/// Minutes: a model that has learned something.
const FULL: Sizes = Sizes {
    train: "--model tiny --resolution 16 --batch 16 --steps 1800 --no-augment",
    probe: "--images 4000 --batch 64",
    finetune: "--batch 16 --steps 400 --lr 0.001 --eval-every 40 --eval-images 500",
    eval: "--images 2000",
    sample: "--count 6 --completions 4",
};

/// Seconds: a model that has seen everything once.
const QUICK: Sizes = Sizes {
    train: "--layers 2 --width 32 --heads 2 --resolution 8 --batch 8 --steps 40 --eval-images 32 --sample-every 0 --no-augment",
    probe: "--images 100 --batch 50 --c 0.001,0.1 --iterations 100",
    finetune: "--batch 8 --steps 20 --lr 0.001 --eval-every 10 --eval-images 50",
    eval: "--images 100",
    sample: "--count 2 --completions 2",
};

/// The commands in their order.
pub(super) fn stages(demo: &Settings) -> Result<Vec<Stage>> {
    let sizes = if demo.quick { QUICK } else { FULL };
    let path = |path: PathBuf| match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(DemoError::NotUtf8 { path: demo.out.clone() }),
    };
    let (pretrained, finetuned) = (path(demo.out.join(PRETRAINED))?, path(demo.out.join(FINETUNED))?);
    let (probed, completions) = (path(demo.out.join(PROBED))?, path(demo.out.join(COMPLETIONS))?);
    let score = path(score_file(&demo.out))?;

    // A command with the flags that all of them have.
    let stage = |[name, command, sizes]: [&'static str; 3],
                 purpose,
                 paths: &[(&str, &str)],
                 more: &[&str],
                 product: PathBuf| {
        let words = command_line(demo, command, sizes, paths, more);
        Stage { name, purpose, words, product }
    };

    Ok(vec![
        stage(
            ["pre-train", "train", sizes.train],
            "the model learns to predict the next pixel, without any labels",
            &[("--out", &pretrained)],
            &["--resume"],
            demo.out.join(PRETRAINED).join(RunFolder::REPORT),
        ),
        stage(
            ["probe", "probe", sizes.probe],
            "a linear classifier on each layer's features, on those of the untrained model, and on raw pixels",
            &[("--checkpoint", &pretrained), ("--out", &probed)],
            &["--untrained", "--raw-pixels", "--discard-features"],
            demo.out.join(PROBED).join(RunFolder::PROBE),
        ),
        stage(
            ["fine-tune", "finetune", sizes.finetune],
            "all weights and a class head learn the labels",
            &[("--checkpoint", &pretrained), ("--out", &finetuned)],
            &["--resume"],
            demo.out.join(FINETUNED).join(RunFolder::REPORT),
        ),
        stage(
            ["test", "eval", sizes.eval],
            "the fine-tuned model on test images",
            &[("--checkpoint", &finetuned), ("--out", &score)],
            &[],
            score_file(&demo.out),
        ),
        stage(
            ["complete", "sample", sizes.sample],
            "the pre-trained model completes the lower halves of test images",
            &[("--checkpoint", &pretrained), ("--out", &completions)],
            &[],
            demo.out.join(COMPLETIONS),
        ),
    ])
}

/// `igpt-engine`, a command and its flags: those of all commands, and its own.
fn command_line(demo: &Settings, command: &str, sizes: &str, paths: &[(&str, &str)], more: &[&str]) -> Vec<String> {
    let (data, seed) = (demo.data.to_string(), demo.seed.to_string());
    let mut words = vec!["igpt-engine".to_owned(), command.to_owned()];
    words.extend(["--data", &data].map(str::to_owned));
    words.extend(sizes.split(' ').map(str::to_owned));
    // Scores and completions take what decides the images from the run.
    if !matches!(command, "eval" | "sample") {
        words.extend(["--seed", &seed].map(str::to_owned));
    }
    words.extend(paths.iter().flat_map(|(flag, path)| [(*flag).to_owned(), (*path).to_owned()]));
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words.extend(demo.device_flags.iter().cloned());
    words
}

/// A command as it is typed into a shell.
pub fn typed(words: &[String]) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=:,./+@%".contains(letter);
    let quoted = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_for_a_shell() {
        let words = ["igpt-engine", "--data", "images:my photos", "it's", "a/b-c_1.png"].map(str::to_owned);
        assert_eq!(typed(&words), r"igpt-engine --data 'images:my photos' 'it'\''s' a/b-c_1.png");
    }
}
