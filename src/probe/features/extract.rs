//! Features of a model: what its blocks see of an image, averaged over the positions.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::feature_file::{FeatureFile, FeatureWriter};
use super::header::Header;
use crate::data::{Batches, Examples, Prefetcher};
use crate::device::{BLANK, Device, Mask};
use crate::model::{Transformer, shift_right};
use crate::probe::error::{ProbeError, Result};
use crate::tape::{Forward, NoTape, Parameters};

/// What a model is shown of some images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Token ids, `[images · length]`.
    pub ids: Vec<u16>,
    /// Which positions see which.
    pub mask: Mask,
}

impl Shown {
    /// As an autoregressive model is trained: behind the start-of-sequence token, without the last pixel.
    pub fn autoregressive(tokens: &[u16], length: usize, sos: u16) -> Self {
        Shown { ids: shift_right(tokens, length, sos), mask: Mask::Causal }
    }

    /// As a BERT model is trained: pixels that are `masked` (`[images · length]`) without their content, in full view of each
    /// other.
    pub fn masked(tokens: &[u16], masked: &[bool]) -> Self {
        let ids = tokens.iter().zip(masked).map(|(token, masked)| if *masked { BLANK } else { *token });
        Shown { ids: ids.collect(), mask: Mask::Full }
    }
}

/// Features of a batch at some depths: for each, in the order of `depths`, `[images, d]`.
///
/// The feature at depth `l` is the mean over positions of `n^l`, the normalised input of block `l`; of the final norm's output
/// at `l = layers`. All depths cost one pass.
///
/// # Errors
/// Those of the device; [`ProbeError::Unfit`] for a depth beyond the model.
pub fn pooled_features<D: Device>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    shown: &Shown,
    length: usize,
    depths: &[usize],
) -> Result<Vec<Vec<f32>>> {
    let layers = model.config().layers;
    if let Some(beyond) = depths.iter().find(|depth| **depth > layers) {
        return Err(ProbeError::Unfit(format!("depth {beyond} is beyond the model's {layers} layers")));
    }

    let ids = Rc::new(device.upload_tokens([shown.ids.len() / length, length], &shown.ids)?);
    let mut features = vec![Vec::new(); depths.len()];
    model.features(&mut Forward::new(device, parameters, &mut NoTape), &ids, shown.mask, |at| {
        for (features, _) in features.iter_mut().zip(depths).filter(|(_, depth)| **depth == at.depth) {
            *features = device.download(&device.mean_pool(at.normed.value())?)?;
        }
        Ok(())
    })?;
    Ok(features)
}

/// Fills `path` with rows of all `examples`, in their order, `batch` at a time; a file that is there already is taken as it is
/// if it has the same header. `features` turns tokens (`[images, length]`, the first image's number given) into the rows of
/// every depth. `progress` is told how many images are there and says whether to go on; it returns `None` if told to stop,
/// and the next call continues from what is there.
///
/// # Errors
/// Those of the data, of the file, and of `features`; [`ProbeError::Unfit`] for images without labels.
pub fn write_features(
    path: &Path,
    header: Header,
    examples: &Arc<dyn Examples>,
    batch: usize,
    mut features: impl FnMut(u64, &[u16]) -> Result<Vec<Vec<f32>>>,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Option<FeatureFile>> {
    if path.is_file() {
        // A damaged file is an error; one of other images is written anew.
        let file = FeatureFile::open(path)?;
        if *file.header() == header {
            return Ok(Some(file));
        }
    }

    // Go on where an interrupted pass stopped.
    let (images, length) = (header.images, examples.sequence_length());
    let mut writer = FeatureWriter::open(path, header)?;
    let first = writer.written();
    let batches = Batches::evaluation(Arc::clone(examples))?;
    let mut batches = Prefetcher::start(batches, first as u64, batch, 4)?;

    while writer.written() < images {
        if !progress(writer.written()) {
            return Ok(None);
        }
        let Some(tokens) = batches.next().transpose()? else { break };
        // The stream starts over at its end.
        let count = batch.min(images - writer.written());
        let Some(labels) = tokens.labels.get(..count) else {
            return Err(ProbeError::Unfit("the images have no labels, and a probe is about nothing else".into()));
        };
        let rows = features(writer.written() as u64, &tokens.tokens[..count * length])?;
        writer.append(labels, &rows)?;
    }

    progress(images);
    writer.finish()?;
    FeatureFile::open(path).map(Some)
}

/// Depths of `count` consecutive layers centred on `centre`, shifted inside `0..=layers` near the ends; ascending.
///
/// # Errors
/// [`ProbeError::Unfit`] for an even count (it has no centre) or more than there are.
pub fn window(centre: usize, count: usize, layers: usize) -> Result<Vec<usize>> {
    if count.is_multiple_of(2) || count > layers + 1 || centre > layers {
        let problem = format!("{count} layers around depth {centre} of a model of {layers}");
        return Err(ProbeError::Unfit(format!("{problem}: give an odd number of layers, at most {}", layers + 1)));
    }
    let first = centre.saturating_sub(count / 2).min(layers + 1 - count);
    Ok((first..first + count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_centred_and_stay_inside() {
        assert_eq!(window(12, 5, 24).unwrap(), [10, 11, 12, 13, 14]);
        assert_eq!(window(1, 5, 24).unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(window(24, 5, 24).unwrap(), [20, 21, 22, 23, 24]);
        assert_eq!(window(3, 1, 4).unwrap(), [3]);
        assert_eq!(window(2, 5, 4).unwrap(), [0, 1, 2, 3, 4]);
        for (centre, count) in [(12, 4), (12, 0), (2, 27), (25, 1)] {
            assert!(window(centre, count, 24).is_err(), "{centre} {count}");
        }
    }

    #[test]
    fn what_each_kind_of_model_is_shown() {
        let ar = Shown::autoregressive(&[5, 6, 7, 8], 2, 512);
        assert_eq!((ar.ids, ar.mask), (vec![512, 5, 512, 7], Mask::Causal));
        let bert = Shown::masked(&[5, 6, 7, 8], &[false, true, true, false]);
        assert_eq!((bert.ids, bert.mask), (vec![5, BLANK, BLANK, 8], Mask::Full));
    }
}
