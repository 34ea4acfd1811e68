//! Which files a checkpoint's tensors lie in, and who writes which.
//!
//! Weights are `model.safetensors` or, in several files, `model-00001-of-00003.safetensors` … and their index, as the Hub has them;
//! averages and moments likewise. Which files there are changes no tensor: whoever reads them reads them by name.

use std::path::Path;

use serde_json::json;

use super::error::Result;
use super::json::write_json;
use super::tensors::TensorHeader;
use super::{EMA_FILE, MODEL_FILE, OPTIMIZER_FILE, write_hashed};
use crate::tape::ParameterSpec;

/// Prefixes of the moments' names in `optimizer.safetensors`.
pub(super) const MOMENTS: [&str; 2] = ["first_moment.", "second_moment."];

/// Most files of a kind: an index of more is not read.
const MOST: usize = 64;

/// What every parameter has one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The weights.
    Weight,
    /// The moving average of the weights.
    Average,
    /// Adam's first moment.
    FirstMoment,
    /// Adam's second moment.
    SecondMoment,
}

impl Kept {
    /// What a tensor's name begins with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Weight | Self::Average => "",
            Self::FirstMoment => MOMENTS[0],
            Self::SecondMoment => MOMENTS[1],
        }
    }
}

/// A file of tensors.
pub(crate) struct File {
    /// Its name.
    pub name: String,
    /// Its tensors in order, each with its parameter.
    pub tensors: Vec<(Kept, usize)>,
    /// Which of the writers writes it.
    pub writer: usize,
    headers: Vec<TensorHeader>,
    /// The file that stands for it and others.
    base: &'static str,
}

impl File {
    /// Elements of each of its tensors, in order.
    pub fn elements(&self) -> impl Iterator<Item = usize> {
        self.headers.iter().map(|(_, shape)| shape.iter().product())
    }
}

/// All files of tensors of a checkpoint.
pub(crate) struct Files {
    /// In the order in which a writer writes its own.
    pub list: Vec<File>,
}

impl Files {
    /// Those of parameters of these `specs`, in files of at most `limit` bytes each and at least as many as there are `writers`; of an
    /// average and of moments too, if there are any.
    pub fn new(specs: &[ParameterSpec], [averaged, trained]: [bool; 2], writers: usize, limit: u64) -> Self {
        let kinds: [(bool, &'static str, &[Kept]); 3] = [
            (true, MODEL_FILE, &[Kept::Weight]),
            (averaged, EMA_FILE, &[Kept::Average]),
            (trained, OPTIMIZER_FILE, &[Kept::FirstMoment, Kept::SecondMoment]),
        ];

        let mut list = Vec::new();
        for (_, base, kept) in kinds.into_iter().filter(|(there, ..)| *there) {
            let parts = cut(specs, kept.len() as u64, writers, limit);
            let count = parts.len();
            for (number, part) in parts.into_iter().enumerate() {
                let tensors: Vec<_> = kept.iter().flat_map(|kept| part.clone().map(|index| (*kept, index))).collect();
                let header = |(kept, index): &(Kept, usize)| {
                    (format!("{}{}", kept.prefix(), specs[*index].name), specs[*index].shape.clone())
                };
                let headers = tensors.iter().map(header).collect();
                let name = match count {
                    1 => base.to_owned(),
                    _ => format!("{}-{:05}-of-{count:05}.safetensors", stem(base), number + 1),
                };
                list.push(File { name, tensors, writer: number % writers, headers, base });
            }
        }
        Self { list }
    }

    /// Writes the files of `writer` into `folder`, their tensors given by `values`; returns the SHA-256 of each by its place in the list.
    ///
    /// # Errors
    /// [`CheckpointError::Io`](super::CheckpointError::Io), those of `values`.
    pub fn write(
        &self,
        folder: &Path,
        writer: usize,
        values: &mut dyn FnMut(Kept, usize) -> Result<Vec<f32>>,
    ) -> Result<Vec<(usize, String)>> {
        let own = self.list.iter().enumerate().filter(|(_, file)| file.writer == writer);
        let write = |(place, file): (usize, &File)| {
            let tensor = |index: usize| file.tensors.get(index).map_or(Ok(Vec::new()), |(kept, of)| values(*kept, *of));
            Ok((place, write_hashed(&folder.join(&file.name), &file.headers, tensor)?))
        };
        own.map(write).collect()
    }

    /// Writes the file at `place` of the list into `folder`, of whose tensors `values` are those of all of them, one after the other;
    /// returns its SHA-256.
    ///
    /// # Errors
    /// [`CheckpointError::Io`](super::CheckpointError::Io); values that are fewer than the file's.
    pub fn write_values(&self, folder: &Path, place: usize, values: &[f32]) -> Result<String> {
        let Some(file) = self.list.get(place) else { return Ok(String::new()) };
        let (mut rest, mut counts) = (values, file.elements());
        write_hashed(&folder.join(&file.name), &file.headers, |_| {
            let (own, after) = rest.split_at(counts.next().unwrap_or(0).min(rest.len()));
            rest = after;
            Ok(own)
        })
    }

    /// Writes the indices of what is in several files.
    ///
    /// # Errors
    /// [`CheckpointError::Io`](super::CheckpointError::Io).
    pub(super) fn write_indices(&self, folder: &Path) -> Result<()> {
        for base in [MODEL_FILE, EMA_FILE, OPTIMIZER_FILE] {
            let parts = || self.list.iter().filter(|file| file.base == base && file.name != base);
            if parts().next().is_none() {
                continue;
            }
            let map: serde_json::Map<_, _> = parts()
                .flat_map(|file| file.headers.iter().map(|(tensor, _)| (tensor.clone(), file.name.clone().into())))
                .collect();
            let total: usize =
                parts().flat_map(|file| &file.headers).map(|(_, shape)| shape.iter().product::<usize>()).sum();
            let index = json!({"metadata": {"total_size": size_of::<f32>() * total}, "weight_map": map});
            write_json(&folder.join(index_of(base)), &index)?;
        }
        Ok(())
    }
}

/// The parameters of each file: neighbours, about as many bytes in each. `each` tensors belong to a parameter.
fn cut(specs: &[ParameterSpec], each: u64, writers: usize, limit: u64) -> Vec<std::ops::Range<usize>> {
    let bytes = |spec: &ParameterSpec| each * (size_of::<f32>() * spec.elements()) as u64;
    let total: u64 = specs.iter().map(bytes).sum();
    let wanted = (writers as u64).max(total.div_ceil(limit)).clamp(1, MOST as u64);

    // The file in which a parameter's middle lies.
    let (mut parts, mut before): (Vec<(u64, std::ops::Range<usize>)>, u64) = (Vec::new(), 0);
    for (index, spec) in specs.iter().enumerate() {
        let own = (u128::from(before + bytes(spec) / 2) * u128::from(wanted) / u128::from(total.max(1))) as u64;
        match parts.last_mut() {
            Some((part, range)) if *part == own => range.end = index + 1,
            _ => parts.push((own, index..index + 1)),
        }
        before += bytes(spec);
    }
    parts.into_iter().map(|(_, range)| range).collect()
}

/// `model` of `model.safetensors`.
pub(super) fn stem(base: &str) -> &str {
    base.split('.').next().unwrap_or(base)
}

/// The index of what `base` would hold alone.
pub(super) fn index_of(base: &str) -> String {
    format!("{base}.index.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelConfig, Preset, parameter_specs};

    #[test]
    fn every_tensor_is_in_one_file_and_every_writer_has_one() {
        let specs = parameter_specs(&ModelConfig::preset(Preset::Tiny, 8));
        for (writers, limit, least) in [(1, u64::MAX, 1), (3, u64::MAX, 3), (2, 400_000, 9)] {
            let files = Files::new(&specs, [true, true], writers, limit).list;
            for (base, tensors) in
                [(MODEL_FILE, specs.len()), (EMA_FILE, specs.len()), (OPTIMIZER_FILE, 2 * specs.len())]
            {
                let own: Vec<&File> = files.iter().filter(|file| file.base == base).collect();
                assert!(own.len() >= least && own.iter().map(|file| file.tensors.len()).sum::<usize>() == tensors);
                assert!((0..writers).all(|writer| own.iter().any(|file| file.writer == writer)), "{base}");
                assert_eq!(own.len() == 1, own[0].name == base);
            }
        }
        let names = |files: Files| files.list.into_iter().map(|file| file.name).collect::<Vec<_>>();
        let expected = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        assert_eq!(names(Files::new(&specs, [false, false], 2, u64::MAX)), expected);
    }
}
