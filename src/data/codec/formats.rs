//! Which format a picture is of, by its first bytes and never by its name: those that are read, and what is said of others.

use image::ImageFormat;

use crate::fs::first_bytes::{Kind, recognise};

/// Formats that are read (of an animation the first frame, of a file of many pages the first).
pub(super) fn readable(bytes: &[u8]) -> Option<ImageFormat> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let format = image::guess_format(bytes).ok()?;
    let is_raw = || recognise(bytes).is_some_and(|found| found.kind == Kind::RawPhoto);
    (matches!(format, Bmp | Gif | Jpeg | Png | Tiff | WebP) && !is_raw()).then_some(format)
}

/// What a file is that is not read, and what to do about it.
pub(super) fn unreadable(bytes: &[u8]) -> String {
    match recognise(bytes) {
        _ if bytes.is_empty() => "is empty (0 bytes)".into(),
        Some(found) if found.kind == Kind::Other => format!("is no picture but {}{}", found.name(), found.advice()),
        Some(found) => format!("is {}, which is not read; convert it to PNG or JPEG", found.name()),
        None => "is none of JPEG, PNG, WebP, GIF, BMP and TIFF".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_named() {
        for (bytes, name) in [
            (&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], "HEIC"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0", "a film"),
            (b"8BPS\0\x01", "PSD"),
            (b"\xff\x0a\x00", "JPEG XL"),
            (b"<?xml version=\"1.0\"?>\n<svg xmlns=\"x\">", "SVG"),
            (b"\xef\xbb\xbf<svg>", "SVG"),
            (b"<!DOCTYPE html><html>", "web page"),
            (b"P6\n2 2\n255\n", "PNM"),
            (b"II*\0\x10\0\0\0CR\x02\0", "CR2"),
            (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
            (b"hello", "none of JPEG"),
            (b"", "empty"),
        ] {
            assert!(readable(bytes).is_none(), "{name}");
            let said = unreadable(bytes);
            assert!(said.contains(name), "{said}");
        }
    }
}
