//! `igpt-engine import`: a Hugging Face ImageGPT folder to a checkpoint.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::checkpoint::convert::{self, Transfer};

/// Turn a Hugging Face ImageGPT folder (config.json, model.safetensors) into a checkpoint
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// The Hugging Face folder
    #[arg(value_name = "HF_DIR")]
    pub source: PathBuf,
    /// The checkpoint folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Keep biases even if all are zero, as in the official models
    #[arg(long)]
    pub keep_biases: bool,
    /// Replace the checkpoint that is at --out
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command. Every tensor is read and checked; what is at `--out` stays if anything is wrong.
pub fn run(args: ImportArgs) -> Result<()> {
    let done = convert::import(&args.source, &args.out, args.keep_biases, args.force)?;
    report("Imported", &args.source, &args.out, &done, args.json)
}

/// Says what an import or export did, for people or as one line of JSON.
pub(super) fn report(verb: &str, source: &Path, out: &Path, done: &Transfer, json: bool) -> Result<()> {
    let mut to = std::io::stdout().lock();
    write_report(&mut to, verb, source, out, done, json).context("cannot write to standard output")
}

fn write_report(
    to: &mut impl std::io::Write,
    verb: &str,
    source: &Path,
    out: &Path,
    done: &Transfer,
    json: bool,
) -> std::io::Result<()> {
    let Transfer { config, parameters, dropped, added, colours, sha256 } = done;
    if json {
        let value = json!({
            "source": source,
            "out": out,
            "config": config,
            "parameters": parameters,
            "dropped": dropped,
            "added": added,
            "colours": colours,
            "sha256": sha256,
        });
        return writeln!(to, "{value}");
    }
    writeln!(to, "{verb} {} to {}", source.display(), out.display())?;
    writeln!(to, "  model       {} layers × {}, {} heads", config.layers, config.width, config.heads)?;
    writeln!(to, "  sequence    {} positions, {} colours", config.positions, config.vocabulary)?;
    writeln!(to, "  parameters  {parameters}, {} biases", if config.bias { "with" } else { "no" })?;
    match colours {
        Some(colours) => writeln!(to, "  palette     {colours} colours")?,
        None => writeln!(to, "  palette     none in {}; give one with --palette", source.display())?,
    }
    if !dropped.is_empty() {
        writeln!(to, "  left out    {} tensors (zero biases, mask buffers)", dropped.len())?;
    }
    if !added.is_empty() {
        writeln!(to, "  added       {} biases of zero", added.len())?;
    }
    writeln!(to, "  sha256      {sha256}  model.safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_for_people_and_for_scripts() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden/l2d64h2p64");
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        let done = convert::import(&source, &out, false, false).unwrap();
        let text = |json| {
            let mut bytes = Vec::new();
            write_report(&mut bytes, "Imported", &source, &out, &done, json).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let value: serde_json::Value = serde_json::from_str(&text(true)).unwrap();
        assert_eq!(value["parameters"], done.config.parameter_count());
        assert_eq!(value["dropped"].as_array().map(Vec::len), Some(8));
        assert_eq!(value["config"]["width"], 64);
        let people = text(false);
        assert!(people.contains("2 layers × 64, 2 heads") && people.contains("left out    8 tensors"), "{people}");
    }
}
