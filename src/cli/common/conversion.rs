//! What `import` and `export` print.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use crate::checkpoint::convert::Conversion;
use crate::fs::path_text;

/// Says what an import or export did, for people or as one line of JSON.
pub fn report(verb: &str, source: &Path, out: &Path, done: &Conversion, json: bool) -> Result<()> {
    let mut to = std::io::stdout().lock();
    write_report(&mut to, verb, source, out, done, json).context("cannot write to standard output")
}

fn write_report(
    to: &mut impl std::io::Write,
    verb: &str,
    source: &Path,
    out: &Path,
    done: &Conversion,
    json: bool,
) -> std::io::Result<()> {
    let Conversion { config, parameters, dropped, added, colours, sha256, files } = done;

    // For scripts.
    if json {
        let value = json!({
            "source": path_text(source),
            "out": path_text(out),
            "config": config,
            "parameters": parameters,
            "dropped": dropped,
            "added": added,
            "colours": colours,
            "sha256": sha256,
            "files": files.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        });
        return writeln!(to, "{value}");
    }

    // For people.
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
    files.iter().try_for_each(|(name, hash)| writeln!(to, "  sha256      {hash}  {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::convert;

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
