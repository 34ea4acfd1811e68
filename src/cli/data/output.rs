//! What `data` prints.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::verification;
use crate::cli::common::output::{note_all, print_json, say, tell};
use crate::data::labels::describe_unused;
use crate::data::{
    Contents, Encoded, Encoding, Fetched, FileSummary, FittedPalette, Published, SplitSummary, Throughput,
};
use crate::fs::path_text;

/// Classes listed for people; `--json` lists all.
const SHOWN_CLASSES: usize = 20;

/// What `data fetch` did.
pub fn fetched(published: &Published, fetched: &Fetched, next: &str, json: bool) -> Result<()> {
    if json {
        return print_json(fetched);
    }
    let checked = if published.is_hashed() {
        "the archive had its published SHA-256"
    } else {
        "no hashes were published, lengths are those the server gave"
    };
    say(format_args!(
        "{} is in {}: {} files written, {} already there; {checked}.",
        published.title,
        fetched.folder.display(),
        fetched.written.len(),
        fetched.kept.len()
    ))?;
    say(format_args!("Next: {next}"))
}

/// What `data fetch cifar10` did.
pub fn fetched_cifar10(fetched: &Fetched, out: &Path, json: bool) -> Result<()> {
    if json {
        return print_json(fetched);
    }
    say(format_args!(
        "CIFAR-10 is in {}: {} files written, {} already there; all six record files have the official SHA-256.",
        fetched.folder.display(),
        fetched.written.len(),
        fetched.kept.len()
    ))?;
    say(format_args!("Next: igpt-engine train --data cifar10:{}", out.display()))
}

/// What `data info` saw.
pub fn contents(contents: &Contents, json: bool) -> Result<()> {
    contents.notes.iter().for_each(|note| tell(format_args!("note: {note}")));
    if json {
        return print_json(contents);
    }
    let mut out = std::io::stdout().lock();
    write_contents(&mut out, contents).context("cannot write to standard output")
}

fn write_contents(out: &mut impl Write, contents: &Contents) -> std::io::Result<()> {
    writeln!(out, "{}: {}", contents.data, contents.kind)?;
    contents.files.iter().try_for_each(|file| write_file(out, file))?;
    contents.splits.iter().try_for_each(|split| write_split(out, split, &contents.class_names))?;
    match &contents.verification {
        Some(found) => verification::write(out, found, &contents.class_names),
        None => Ok(()),
    }
}

fn write_file(out: &mut impl Write, file: &FileSummary) -> std::io::Result<()> {
    let size = match file.official_size {
        Some(true) => ", the official size",
        Some(false) => ", NOT the official size",
        None => "",
    };
    let hash = match (file.official, file.hash) {
        (Some(true), Some(hash)) => format!(", official {hash}"),
        (Some(false), Some(hash)) => format!(", NOT the official {hash}: fetch it again"),
        _ => String::new(),
    };
    writeln!(out, "  {} ({} bytes{size}{hash})", file.path.display(), file.bytes)
}

fn write_split(out: &mut impl Write, split: &SplitSummary, class_names: &[String]) -> std::io::Result<()> {
    if let Some(missing) = &split.missing {
        return writeln!(out, "{}: none ({missing})", split.split);
    }
    let held_out = match split.held_out {
        0 => String::new(),
        held_out => format!(", of which {held_out} are held out for validation by default"),
    };
    writeln!(out, "{}: {} examples{held_out}\n  {}", split.split, split.examples, split.about)?;

    split.notes.iter().try_for_each(|note| writeln!(out, "  note: {note}"))?;

    let named = split.class_counts.iter().enumerate().map(|(class, count)| match class_names.get(class) {
        Some(name) => format!("{name} {count}"),
        None => format!("{class}: {count}"),
    });
    let counts: Vec<String> = named.take(SHOWN_CLASSES).collect();
    let more = split.class_counts.len().saturating_sub(SHOWN_CLASSES);
    let more = if more > 0 { format!(", and {more} more classes") } else { String::new() };
    if !counts.is_empty() {
        writeln!(out, "  {}{more}", counts.join(", "))?;
    }
    let empty: Vec<usize> = (0..split.class_counts.len()).filter(|class| split.class_counts[*class] == 0).collect();
    match describe_unused(&empty, class_names) {
        Some(note) => writeln!(out, "  note: {note}"),
        None => Ok(()),
    }
}

/// What `data palette` fitted.
pub fn palette(fitted: &FittedPalette, out: &Path, json: bool) -> Result<()> {
    let FittedPalette { palette, iterations, pixels, distinct, notes, train, test } = fitted;
    note_all(notes);
    if json {
        return print_json(&json!({
            "palette": path_text(out), "id": palette.id(), "colours": palette.len(), "iterations": iterations,
            "pixels": pixels, "distinct": distinct, "train": train, "test": test,
        }));
    }
    say(format_args!("{}: {} colours, id {}", out.display(), palette.len(), palette.id()))?;
    say(format_args!("fitted to {pixels} pixels ({distinct} distinct colours) in {iterations} iterations"))?;
    for (split, quality) in [("train", Some(train)), ("test", test.as_ref())] {
        let Some(quality) = quality else { continue };
        say(format_args!(
            "{split:5}: mean squared error {:.7} (0-1 scale, sum over R, G, B), {} colours used, token entropy {:.4} nats",
            quality.mse, quality.used, quality.entropy_nats
        ))?;
    }
    Ok(())
}

/// What `data encode` wrote.
pub fn encoded(encoding: &Encoding, encoded: &Encoded, json: bool) -> Result<()> {
    let Encoded { images, length, palette, about, notes, elapsed } = encoded;
    note_all(notes);
    let rate = *images as f64 / elapsed.as_secs_f64();
    if json {
        return print_json(&json!({
            "tokens": path_text(&encoding.out), "labels": encoding.labels_out.as_ref().map(path_text), "shape": [images, length], "palette": palette,
            "images_per_second": rate,
        }));
    }
    say(format_args!("{}: tokens [{images}, {length}] of {about}", encoding.out.display()))?;
    say(format_args!("{rate:.0} images/s"))
}

/// What `data bench` measured.
pub fn throughput(measured: &Throughput, json: bool) -> Result<()> {
    let Throughput { about, workers, cores, images, images_per_second, stages, .. } = measured;
    let (per_core, tokens) = (measured.images_per_second_per_core(), measured.tokens_per_second());
    let (decode, transform, quantise) = (stages.decode, stages.transform, stages.quantise);
    if json {
        return print_json(&json!({
            "data": about, "workers": workers, "cores": cores, "images": images,
            "images_per_second": images_per_second, "images_per_second_per_core": per_core,
            "tokens_per_second": tokens,
            "seconds_per_image": {"read_and_decode": decode, "crop_and_resize": transform, "palette": quantise},
        }));
    }

    say(format_args!("{about}"))?;
    say(format_args!(
        "{images_per_second:.0} images/s on {workers} workers, {per_core:.0} per core ({cores} cores here), augmented as in \
         training"
    ))?;
    say(format_args!(
        "one image on one core: read and decode {:.2} ms, crop and resize {:.2} ms, palette {:.2} ms",
        1e3 * decode,
        1e3 * transform,
        1e3 * quantise
    ))?;
    say(format_args!("keeps ahead of a device that trains on up to {tokens:.0} tokens/s"))
}
