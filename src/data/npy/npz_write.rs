//! Writing `.npz`: arrays side by side in a zip file, stored as they are, so that they can be read where they lie.
//!
//! Every member is written in the form for more than 4 GiB (zip64), whatever its size: there is one form, and the small arrays
//! of the tests have it. Zip's own CRC-32 tells damage; there is no trailer.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::write::{Element, header};
use crate::data::error::{DataError, Result};
use crate::fs::Output;

/// An archive being written.
pub(crate) struct NpzWriter<'f> {
    /// What errors name.
    path: PathBuf,
    zip: ZipWriter<&'f mut BufWriter<File>>,
}

/// Writes the archive `file` through `fill`, whole or not at all. The same arrays give the same bytes: no time is in it.
///
/// # Errors
/// [`DataError::Write`], for a pipe or a device too; those of `fill`.
pub(crate) fn write_npz(mut file: Output, fill: impl FnOnce(&mut NpzWriter<'_>) -> Result<()>) -> Result<()> {
    let path = file.path().to_owned();
    fill_archive(path.clone(), file.seekable().map_err(DataError::write(&path))?, fill)?;
    Ok(file.commit()?)
}

/// All of an archive into `inner`.
fn fill_archive<'f>(
    path: PathBuf,
    inner: &'f mut BufWriter<File>,
    fill: impl FnOnce(&mut NpzWriter<'f>) -> Result<()>,
) -> Result<()> {
    let mut writer = NpzWriter { path, zip: ZipWriter::new(inner) };
    fill(&mut writer)?;
    let NpzWriter { path, zip } = writer;
    zip.finish().map_err(|error| DataError::write(&path)(error.into()))?;
    Ok(())
}

impl NpzWriter<'_> {
    /// Adds an array of the given shape, whose values in C order come in pieces: no more than one is held.
    ///
    /// # Errors
    /// [`DataError::Write`]; [`DataError::Bounds`] where the pieces do not fill the shape; those of the pieces.
    pub(crate) fn array<T: Element>(
        &mut self,
        name: &str,
        shape: &[usize],
        pieces: impl Iterator<Item = Result<Vec<T>>>,
    ) -> Result<()> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
        let started = self.zip.start_file(format!("{name}.npy"), options);
        started.map_err(|error| DataError::write(&self.path)(error.into()))?;
        self.write(&header(T::DTYPE, shape))?;

        let (mut written, mut bytes) = (0, Vec::new());
        for piece in pieces {
            let piece = piece?;
            written += piece.len();
            bytes.clear();
            piece.iter().for_each(|value| value.append(&mut bytes));
            self.write(&bytes)?;
        }

        let wanted: usize = shape.iter().product();
        if written != wanted {
            let limit = format!("the array {name} has room for {wanted}");
            return Err(DataError::Bounds { what: "the number of values", got: written, limit });
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.zip.write_all(bytes).map_err(DataError::write(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::npy::{Dtype, Npy};

    #[test]
    fn arrays_come_back_from_their_archive() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            let written = write_npz(Output::open(&path).unwrap(), |npz| {
                npz.array("arr_0", &[3, 2], [vec![1_u8, 2, 3, 255], vec![4, 5]].into_iter().map(Ok))?;
                npz.array("labels", &[2], std::iter::once(Ok(vec![-1_i64, 1 << 40])))
            });
            written.unwrap();
            path
        };
        let (path, again) = (write("a.npz"), write("b.npz"));
        assert!(std::fs::read(&path).unwrap() == std::fs::read(again).unwrap(), "the bytes differ");

        let open = |name: &str| Npy::open(format!("{}:{name}", path.display())).unwrap();
        let (images, labels) = (open("arr_0"), open("labels"));
        assert_eq!((images.dtype(), images.shape()), (Dtype::U8, &[3, 2][..]));
        assert_eq!(images.integers(0..6).unwrap().collect::<Vec<_>>(), [1, 2, 3, 255, 4, 5]);
        assert_eq!(labels.integers(0..2).unwrap().collect::<Vec<_>>(), [-1, 1 << 40]);
    }

    /// Members and their directory beyond where 32 bits reach.
    #[test]
    #[ignore = "writes 4.5 GB; run it by name when the form of archives changes"]
    fn more_than_four_gibibytes_come_back() {
        const PIECE: usize = 64 << 20;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.npz");
        let written = write_npz(Output::open(&path).unwrap(), |npz| {
            let piece = |index: usize| Ok(vec![index as u8; PIECE]);
            npz.array("arr_0", &[67, PIECE], (0..67).map(piece))?;
            npz.array("tokens", &[3], std::iter::once(Ok(vec![7_u16, 8, 9])))
        });
        written.unwrap();
        let open = |name: &str| Npy::open(format!("{}:{name}", path.display())).unwrap();
        let (large, small) = (open("arr_0"), open("tokens"));
        let last = large.len() - 2;
        assert_eq!((large.len(), large.integers(last..last + 2).unwrap().collect()), (67 * PIECE, vec![66, 66]));
        assert_eq!(small.integers(0..3).unwrap().collect::<Vec<_>>(), [7, 8, 9]);
    }

    #[test]
    fn an_array_that_is_not_filled_leaves_no_archive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        for pieces in [vec![vec![1_u8]], vec![vec![1], vec![2, 3]]] {
            let file = Output::open(&path).unwrap();
            let outcome = write_npz(file, |npz| npz.array("arr_0", &[2], pieces.into_iter().map(Ok)));
            assert!(outcome.unwrap_err().to_string().contains("arr_0 has room for 2"));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
