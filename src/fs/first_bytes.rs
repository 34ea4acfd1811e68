//! What a file is that is not what its name or its place says, told by its first bytes and never by its name: the one table of
//! them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How many bytes at the front are enough to tell.
pub(crate) const ENOUGH: usize = 1024;

/// What a file was recognised as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    /// As in "is NAME".
    name: &'static str,
    /// What to do about it; empty where nobody knows.
    remedy: &'static str,
}

/// What kind of thing that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A picture.
    Picture,
    /// A camera's raw file; most look like TIFFs, whose first picture is a thumbnail.
    RawPhoto,
    /// Anything else.
    Other,
}

use Kind::{Other, Picture, RawPhoto};

impl Found {
    const fn new(kind: Kind, name: &'static str, remedy: &'static str) -> Self {
        Found { kind, name, remedy }
    }

    /// Whether it is a zip archive, whole or not.
    pub(crate) fn is_zip(&self) -> bool {
        *self == ZIP
    }

    /// What it is called: "HEIC", "a zip archive".
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What it is and what to do about it: the end of a sentence that begins with the file's name.
    pub(crate) fn sentence(&self) -> String {
        let what = if self.kind == Picture { " (a picture)" } else { "" };
        format!("is {}{what}{}", self.name, self.advice())
    }

    /// `; ` and what to do about it, if that is known.
    pub(crate) fn advice(&self) -> String {
        if self.remedy.is_empty() { String::new() } else { format!("; {}", self.remedy) }
    }
}

/// What an empty file is.
const EMPTY: Found = Found::new(Other, "empty", "the copy or download did not finish: copy or download it again");
const LFS_POINTER: Found = Found::new(
    Other,
    "a Git LFS pointer and not the file itself",
    "run `git lfs install && git lfs pull` in its repository, or download the file",
);
const WEB_PAGE: Found =
    Found::new(Other, "a web page saved under this name (a login or an error, often)", "download the file itself");

const ZIP: Found =
    Found::new(Other, "a zip archive (so are .npz and what torch.save writes)", "unpack it, or give it its own name");

/// Bytes at a place, and what begins so. The first that fits counts.
const MARKS: [(usize, &[u8], Found); 48] = [
    // What stands in the place of a file.
    (0, b"version https://git-lfs.github.com/", LFS_POINTER),
    (0, b"version https://hawser.github.com/", LFS_POINTER),
    (0, b"\0\x05\x16\x07", Found::new(Other, "what macOS keeps beside a file (AppleDouble)", "")),
    // Raw photos, before the TIFFs that some of them look like.
    (8, b"CR\x02", Found::new(RawPhoto, "a raw photo (CR2)", "")),
    (0, b"IIRO", Found::new(RawPhoto, "a raw photo (ORF)", "")),
    (0, b"IIRS", Found::new(RawPhoto, "a raw photo (ORF)", "")),
    (0, b"MMOR", Found::new(RawPhoto, "a raw photo (ORF)", "")),
    (0, b"IIU\0", Found::new(RawPhoto, "a raw photo (RW2)", "")),
    (0, b"FUJIFILMCCD-RAW", Found::new(RawPhoto, "a raw photo (RAF)", "")),
    (0, b"FOVb", Found::new(RawPhoto, "a raw photo (X3F)", "")),
    (4, b"ftypcrx ", Found::new(RawPhoto, "a raw photo (CR3)", "")),
    // Pictures.
    (0, b"\x89PNG\r\n\x1a\n", Found::new(Picture, "PNG", "")),
    (0, b"\xff\xd8\xff", Found::new(Picture, "JPEG", "")),
    (0, b"GIF87a", Found::new(Picture, "GIF", "")),
    (0, b"GIF89a", Found::new(Picture, "GIF", "")),
    (8, b"WEBP", Found::new(Picture, "WebP", "")),
    (0, b"II*\0", Found::new(Picture, "TIFF", "")),
    (0, b"MM\0*", Found::new(Picture, "TIFF", "")),
    (0, b"8BPS", Found::new(Picture, "PSD", "")),
    (0, b"\xff\x0a", Found::new(Picture, "JPEG XL", "")),
    (0, b"\0\0\0\x0cJXL ", Found::new(Picture, "JPEG XL", "")),
    (0, b"\0\0\0\x0cjP  ", Found::new(Picture, "JPEG 2000", "")),
    (0, b"\xff\x4f\xff\x51", Found::new(Picture, "JPEG 2000", "")),
    (4, b"ftypjp2 ", Found::new(Picture, "JPEG 2000", "")),
    (4, b"ftypjpx ", Found::new(Picture, "JPEG 2000", "")),
    (4, b"ftypavi", Found::new(Picture, "AVIF", "")),
    (0, b"\x76\x2f\x31\x01", Found::new(Picture, "OpenEXR", "")),
    (0, b"#?RADIANCE", Found::new(Picture, "Radiance HDR", "")),
    (0, b"DDS ", Found::new(Picture, "DDS", "")),
    (0, b"qoif", Found::new(Picture, "QOI", "")),
    (0, b"farbfeld", Found::new(Picture, "Farbfeld", "")),
    (0, b"\0\0\x01\0", Found::new(Picture, "an icon (ICO)", "")),
    (0, b"II\x2b\0", Found::new(Picture, "BigTIFF", "")),
    (0, b"MM\0\x2b", Found::new(Picture, "BigTIFF", "")),
    (0, b"gimp xcf", Found::new(Picture, "XCF", "")),
    (0, b"AT&TFORM", Found::new(Picture, "DjVu", "")),
    (0, b"%PDF", Found::new(Picture, "PDF", "")),
    (0, b"%!PS", Found::new(Picture, "PostScript", "")),
    // Archives.
    (0, b"PK\x03\x04", ZIP),
    (0, b"\x1f\x8b", Found::new(Other, "a gzip archive", "unpack it with `gunzip` or `tar -xzf`")),
    (0, b"BZh", Found::new(Other, "a bzip2 archive", "unpack it first")),
    (0, b"\xfd7zXZ\0", Found::new(Other, "an xz archive", "unpack it first")),
    (0, b"\x28\xb5\x2f\xfd", Found::new(Other, "a zstd archive", "unpack it first")),
    // Arrays, weights and films.
    (0, b"\x93NUMPY", Found::new(Other, "a numpy array (.npy)", "")),
    (
        0,
        b"\x89HDF\r\n\x1a\n",
        Found::new(Other, "an HDF5 file, as Keras and TensorFlow save weights", "save it as safetensors"),
    ),
    (0, b"GGUF", Found::new(Other, "a GGUF file of llama.cpp", "take the model's safetensors")),
    (0, b"\x1a\x45\xdf\xa3", Found::new(Other, "a film (Matroska or WebM)", "")),
    (257, b"ustar", Found::new(Other, "a tar archive", "unpack it with `tar -xf`")),
];

/// [`recognise`] of the file at `path`; `None` too where it cannot be read.
pub(crate) fn foreign(path: &Path) -> Option<Found> {
    let mut first = Vec::new();
    File::open(path).ok()?.take(ENOUGH as u64).read_to_end(&mut first).ok()?;
    recognise(&first)
}

/// What a file is that begins with `bytes`; `None` for what is not known.
pub(crate) fn recognise(bytes: &[u8]) -> Option<Found> {
    if bytes.is_empty() {
        return Some(EMPTY);
    }
    let begins = |at: usize, mark: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(mark));
    let marked = MARKS.iter().find(|(at, mark, _)| begins(*at, mark)).map(|(.., found)| *found);
    marked.or_else(|| boxed(bytes)).or_else(|| pickle(bytes)).or_else(|| text(bytes))
}

/// Files of ISO boxes that no mark tells: pictures of phones, and films.
fn boxed(bytes: &[u8]) -> Option<Found> {
    let brand = bytes.get(4..12)?.strip_prefix(b"ftyp")?;
    Some(match brand {
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs" | b"mif1" | b"msf1" => {
            // The general brand of both: the others that the file is compatible with tell them apart.
            let rest = bytes.get(16..64.min(bytes.len())).unwrap_or_default();
            let avif = rest.chunks_exact(4).any(|brand| brand == b"avif");
            Found::new(Picture, if avif { "AVIF" } else { "HEIC" }, "")
        }
        _ => Found::new(Other, "a film (MP4 or QuickTime)", ""),
    })
}

fn pickle(bytes: &[u8]) -> Option<Found> {
    let found = Found::new(Other, "a Python pickle (an old `torch.save`, or numpy's)", "give it its own name");
    matches!(bytes, [0x80, 2..=5, ..]).then_some(found)
}

/// Files of text.
fn text(bytes: &[u8]) -> Option<Found> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(ENOUGH)]).to_lowercase();
    let start = start.trim_start_matches('\u{feff}').trim_start();
    let begins = |words: &[&str]| words.iter().any(|word| start.starts_with(word));

    if begins(&["<svg"]) || begins(&["<?xml", "<!--"]) && start.contains("<svg") {
        return Some(Found::new(Picture, "SVG", ""));
    }
    if begins(&["<!doctype html", "<html", "<head", "<?xml"]) {
        return Some(WEB_PAGE);
    }
    let netpbm = matches!(start.as_bytes(), [b'p', b'1'..=b'7', space, ..] if space.is_ascii_whitespace());
    netpbm.then_some(Found::new(Picture, "PNM", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_first_bytes() {
        for (bytes, word) in [
            (&b""[..], "empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "git lfs pull"),
            (b"\r\n<!DOCTYPE HTML PUBLIC", "web page"),
            (b"\xef\xbb\xbf<html lang=en>", "web page"),
            (b"<?xml version=\"1.0\"?><Error>", "web page"),
            (b"<?xml version=\"1.0\"?>\n<svg xmlns=\"x\">", "SVG (a picture)"),
            (b"PK\x03\x04\x14\0", "zip"),
            (b"\x1f\x8b\x08\0", "gunzip"),
            (b"\x80\x02}q\0", "pickle"),
            (b"\x89PNG\r\n\x1a\n\0", "PNG (a picture)"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
            (b"II*\0\x08\0\0\0", "TIFF"),
            (b"II*\0\x10\0\0\0CR\x02\0", "CR2"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0", "a film"),
        ] {
            let said = recognise(bytes).map(|found| found.sentence());
            assert!(said.as_ref().is_some_and(|said| said.contains(word)), "{word}: {said:?}");
        }
        assert_eq!(recognise(b"{\"__metadata__\""), None);
        assert_eq!(recognise(&[0x80]), None);
    }
}
