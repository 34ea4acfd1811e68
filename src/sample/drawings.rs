//! Images drawn from nothing by the ten thousand, into one `.npz` for programs that score them.
//!
//! | array | holds |
//! |---|---|
//! | `arr_0` | the images, uint8 `[N, H, W, 3]` |
//! | `tokens` | their tokens in raster order, uint16 `[N, H·W]` |
//! | `labels` | the class that was asked for, of guided ones, int64 `[N]` |
//!
//! Memory holds one batch. The tokens go batch by batch into a file beside the target ([`super::part`]), from which a run that was
//! ended goes on; the pictures follow from them at the end.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::decode::generate_until;
use super::error::SampleError;
use super::generation::Generation;
use super::part::{Header, Part, part_of};
use super::session::Session;
use crate::data::npy::{NpzWriter, write_npz};
use crate::data::{DataError, Palette};
use crate::device::{Device, Precision};
use crate::fs::{FsError, Output, place, space};

type Result<T> = std::result::Result<T, SampleError>;

/// Labels written at a time.
const LABELS: usize = 1 << 16;

/// Images to draw into one file, some of which may be there.
pub struct Drawings<'s, 'd, D: Device> {
    session: &'s Session<'d, D>,
    target: Output,
    part: Part,
}

impl<'s, 'd, D: Device> Drawings<'s, 'd, D> {
    /// Starts as many drawings as the session's settings say, into the file `target`, or goes on with those of an earlier run. Their
    /// `batch`, if none is given, is that of the earlier run, or else what `usual` says. Of a GPU, `precision` decides the bits.
    ///
    /// # Errors
    /// A target that cannot be written, or too small a disk; [`SampleError::Part`] for drawings begun with other settings.
    pub fn open(
        session: &'s Session<'d, D>,
        target: &Path,
        batch: Option<usize>,
        usual: impl FnOnce() -> usize,
        precision: Precision,
    ) -> Result<Self> {
        let target = Output::open(target)?;
        let Some(real) = target.place() else {
            let problem = "drawings go into a file, from which a run that was ended goes on; name one".to_owned();
            return Err(SampleError::Part { path: target.path().to_owned(), problem });
        };
        check_disk(real, session)?;
        let (images, length, origin) = (session.generated(), session.length(), session.origin(precision)?);
        let header = |batch| Header { images, length, batch, origin: origin.clone() };
        let part = Part::open(real, batch, usual, header)?;
        Ok(Self { session, target, part })
    }

    /// Images drawn so far.
    pub fn drawn(&self) -> usize {
        self.part.drawn()
    }

    /// Images at a time.
    pub fn batch(&self) -> usize {
        self.part.batch()
    }

    /// Draws what is missing and writes the file; `progress` hears how many images are drawn. Ends early, and says `false`, once
    /// `stop` is set: what is drawn is kept.
    ///
    /// # Errors
    /// Those of the device and of the disk.
    pub fn run(mut self, stop: &AtomicBool, mut progress: impl FnMut(usize)) -> Result<bool> {
        let (session, length) = (self.session, self.session.length());
        while let Some(images) = self.part.next() {
            let generation = Generation { first: images.start as u64, ..session.generation() };
            let goes_on = |position: usize| {
                progress(images.start + images.len() * position / length);
                !stop.load(Ordering::Relaxed)
            };
            let (device, model, parameters) = session.parts();
            let drawn = generate_until(device, model, parameters, images.len(), &[], generation, goes_on)?;
            let Some(tokens) = drawn else { return Ok(false) };
            self.part.append(&tokens)?;
        }

        let Self { target, part, .. } = self;
        write_npz(target, |npz| write_arrays(npz, &part, session))?;
        part.remove()?;
        Ok(true)
    }
}

/// Refuses what the disk has no room for, before anything is drawn.
fn check_disk<D: Device>(target: &Path, session: &Session<'_, D>) -> Result<()> {
    // Per pixel three bytes and a token in the archive, and a token in the part, of which some may be there.
    let pixels = (session.generated() as u64).saturating_mul(session.length() as u64);
    let there = std::fs::metadata(part_of(target)).map_or(0, |part| part.len());
    let needed = pixels.saturating_mul(7).saturating_sub(there);
    match space::free_bytes(place::parent_of(target)) {
        Some(free) if needed > free => {
            let gigabytes = |bytes: u64| bytes as f64 / 1e9;
            let problem = format!(
                "{} drawings need {:.1} GB of disk and there are {:.1} GB; free some, or name a file elsewhere",
                session.generated(),
                gigabytes(needed),
                gigabytes(free)
            );
            let refused = std::io::Error::new(std::io::ErrorKind::StorageFull, problem);
            Err(FsError::io("write", target)(refused).into())
        }
        _ => Ok(()),
    }
}

/// The arrays of all images that are in `part`.
fn write_arrays<D: Device>(
    npz: &mut NpzWriter<'_>,
    part: &Part,
    session: &Session<'_, D>,
) -> std::result::Result<(), DataError> {
    let (images, side, length) = (session.generated(), session.side(), session.length());
    let palette = session.palette();
    let pixels = part.tokens().map(|tokens| tokens.and_then(|tokens| pixels_of(palette, &tokens, side)));
    npz.array("arr_0", &[images, side, side, 3], pixels)?;
    npz.array("tokens", &[images, length], part.tokens())?;
    match session.class_of() {
        None => Ok(()),
        Some(class_of) => {
            let chunk = |first: usize| (first..images.min(first + LABELS)).map(|image| i64::from(class_of(image)));
            npz.array(
                "labels",
                &[images],
                (0..images).step_by(LABELS).map(|first| Ok(chunk(first).collect::<Vec<i64>>())),
            )
        }
    }
}

/// The pixels `[b, side, side, 3]` of tokens `[b, side²]`.
fn pixels_of(palette: &Palette, tokens: &[u16], side: usize) -> std::result::Result<Vec<u8>, DataError> {
    let mut pixels = Vec::with_capacity(3 * tokens.len());
    for image in tokens.chunks(side * side) {
        pixels.extend(palette.decode(image, side as u32, side as u32)?.into_raw());
    }
    Ok(pixels)
}
