//! The dictionary in the pickle: which tensor is which part of which storage.

use std::collections::BTreeMap;

use super::storages::Place;
use crate::checkpoint::numbers::Number;
use crate::data::pickle::{Global, Id, Pickle, Value};

/// All that a dictionary of tensors may name.
pub(super) const GLOBALS: &[Global] = &[
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "FloatStorage"),
    ("torch", "HalfStorage"),
    ("torch", "BFloat16Storage"),
    ("torch", "DoubleStorage"),
    ("torch", "ByteStorage"),
    ("torch", "CharStorage"),
    ("torch", "BoolStorage"),
    ("torch", "ShortStorage"),
    ("torch", "IntStorage"),
    ("torch", "LongStorage"),
];
const TENSOR: &[Global] = &[GLOBALS[1], GLOBALS[2]];
const PARAMETER: &[Global] = &[GLOBALS[3]];
/// Most dimensions, and most values of a tensor that repeats those of a smaller storage.
const MAX_RANK: usize = 8;
const MAX_REPEATED: usize = 1 << 16;

type Result<T> = std::result::Result<T, String>;

/// A part of a storage.
#[derive(Clone, Debug)]
pub(super) struct StoredTensor {
    pub(super) storage: String,
    pub(super) number: Number,
    /// In values, as the strides.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    strides: Vec<usize>,
}

/// The tensors of a dictionary. Errors are the problem in words.
pub(super) fn read_state(pickle: &Pickle<'_>) -> Result<BTreeMap<String, StoredTensor>> {
    let pairs = pickle.pairs(pickle.root);
    let pairs = pairs.ok_or("it holds no dictionary of tensors; save the model's state_dict(), not the model")?;
    let mut tensors = BTreeMap::new();
    for &(key, value) in pairs {
        let Some(name) = pickle.text(key).filter(|name| name.len() <= 256) else {
            return Err("one of its tensors has a name that is no text, or too long".into());
        };
        let tensor = tensor(pickle, value).ok_or_else(|| {
            format!(
                "{name} in it is not a plain tensor of numbers; save the model's state_dict(), and nothing beside it"
            )
        })?;
        tensors.insert(name.into_owned(), tensor);
    }
    Ok(tensors)
}

/// `_rebuild_tensor_v2(storage, offset, size, stride, …)`, perhaps as a parameter.
fn tensor(pickle: &Pickle<'_>, id: Id) -> Option<StoredTensor> {
    let id = match pickle.object(id, GLOBALS, PARAMETER) {
        Some(parameter) => *pickle.items(parameter.arguments)?.first()?,
        None => id,
    };
    let call = pickle.object(id, GLOBALS, TENSOR)?;
    let [storage, offset, shape, strides, ..] = *pickle.items(call.arguments)? else { return None };
    let Value::Persistent(storage) = *pickle.value(storage) else { return None };
    let [kind, class, key, _, _, ref view @ ..] = *pickle.items(storage)? else { return None };

    // A storage that is a part of another one was possible before PyTorch 0.4.
    let whole = view.iter().all(|&view| matches!(pickle.value(view), Value::None));
    let Value::Global(class) = *pickle.value(class) else { return None };
    let number = match GLOBALS.get(usize::from(class))?.1 {
        "FloatStorage" => Number::F32,
        "HalfStorage" => Number::F16,
        "BFloat16Storage" => Number::BF16,
        "DoubleStorage" => Number::F64,
        "ByteStorage" | "CharStorage" | "BoolStorage" => Number::Other(1),
        "ShortStorage" => Number::Other(2),
        "IntStorage" => Number::Other(4),
        "LongStorage" => Number::Other(8),
        _ => return None,
    };
    let tensor = StoredTensor {
        storage: pickle.text(key)?.into_owned(),
        number,
        offset: usize::try_from(pickle.int(offset)?).ok()?,
        shape: pickle.sizes(shape)?,
        strides: pickle.sizes(strides)?,
    };
    let sound = whole && pickle.text(kind)? == "storage" && tensor.shape.len() == tensor.strides.len();
    sound.then_some(tensor)
}

impl StoredTensor {
    /// Checks that the tensor lies within its storage, and does not make much of little.
    pub(super) fn check(&self, place: &Place) -> Result<()> {
        let held = usize::try_from(place.length).unwrap_or(usize::MAX) / self.number.size();
        let elements = self.shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
        if self.shape.len() > MAX_RANK || elements.is_none_or(|elements| elements > held.max(MAX_REPEATED)) {
            return Err(format!("claims the shape {:?}, and its storage holds {held} values", self.shape));
        }
        if elements == Some(0) {
            return Ok(());
        }

        let last = self.shape.iter().zip(&self.strides).try_fold(self.offset, |at, (side, stride)| {
            (side - 1).checked_mul(*stride).and_then(|step| at.checked_add(step))
        });
        match last {
            Some(last) if last < held => Ok(()),
            _ => Err(format!("reaches beyond its storage of {held} values")),
        }
    }

    /// From the first value to the last, in the storage.
    pub(super) fn span(&self) -> usize {
        if self.shape.contains(&0) {
            return 0;
        }
        1 + self.shape.iter().zip(&self.strides).map(|(side, stride)| (side - 1) * stride).sum::<usize>()
    }

    /// The values in row-major order, out of those of the span.
    pub(super) fn gather(&self, span: Vec<f32>) -> Vec<f32> {
        let mut contiguous = 1;
        let row_major = self.shape.iter().zip(&self.strides).rev().all(|(&side, &stride)| {
            let right = side == 1 || stride == contiguous;
            contiguous *= side;
            right
        });
        if row_major || self.shape.contains(&0) {
            return span;
        }

        let elements = self.shape.iter().product();
        let mut at = vec![0; self.shape.len()];
        let mut values = Vec::with_capacity(elements);
        for _ in 0..elements {
            let place: usize = at.iter().zip(&self.strides).map(|(index, stride)| index * stride).sum();
            values.push(span[place]);
            // One on, the last axis fastest.
            for axis in (0..at.len()).rev() {
                at[axis] += 1;
                if at[axis] < self.shape[axis] {
                    break;
                }
                at[axis] = 0;
            }
        }
        values
    }
}
