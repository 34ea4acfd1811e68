//! A model for whoever has none yet.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::run::checkpoints;
use crate::run::folder::RunFolder;

/// Where the first model is made.
const RUN: &str = "runs/first";
/// Makes it from the built-in images, in about a minute on two cores.
const TRAIN: &str = "igpt-engine train --steps 300 --out runs/first";

/// The checkpoint that was named; `command` is what needs it.
///
/// # Errors
/// Where none was named: how to name one, and the command that makes one (or goes on with one that was stopped).
pub fn named(checkpoint: Option<&Path>, command: &str) -> Result<PathBuf> {
    match checkpoint {
        Some(checkpoint) => Ok(checkpoint.to_owned()),
        None => bail!("no model is named; {}", offer(command)),
    }
}

/// What to type for a model that `command` can take.
pub fn offer(command: &str) -> String {
    offer_of(command, Path::new(RUN))
}

/// The same, where `run` is the first model's folder.
fn offer_of(command: &str, run: &Path) -> String {
    let then = format!("igpt-engine {command} --checkpoint {RUN}");
    if checkpoints::resolve(run).is_ok() {
        return format!("give a run or a checkpoint with --checkpoint. Your first model is there:\n\n  {then}\n");
    }
    let resume = if run.join(RunFolder::CONFIG).is_file() { " --resume" } else { "" };
    format!(
        "give a run or a checkpoint with --checkpoint. If you have none yet, this trains a small one on built-in images, in \
         about a minute on two cores:\n\n  {TRAIN}{resume}\n  {then}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offer_is_what_helps_now() {
        let place = tempfile::tempdir().unwrap();
        let run = place.path().join("first");
        assert!(offer_of("sample", &run).contains(&format!("\n  {TRAIN}\n  igpt-engine sample --checkpoint {RUN}\n")));
        // Stopped before it had saved anything.
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join(RunFolder::CONFIG), "").unwrap();
        assert!(offer_of("sample", &run).contains(&format!("\n  {TRAIN} --resume\n")));
        // Done.
        let best = run.join(checkpoints::BEST);
        std::fs::create_dir(&best).unwrap();
        std::fs::write(best.join("config.json"), "{}").unwrap();
        std::fs::write(best.join("model.safetensors"), "").unwrap();
        let text = offer_of("eval", &run);
        assert!(!text.contains("train") && text.contains(&format!("igpt-engine eval --checkpoint {RUN}")), "{text}");
    }
}
