//! Changing an encoded tensor map field by field.

use super::{BYTES, Element, MAGIC, MAX_RANK, demand, fill, interleave, swizzle};

/// A field that `tensormap.replace` replaces, with its index where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `.global_address`
    Address,
    /// `.rank`: the number of dimensions less one
    Rank,
    /// `.box_dim`
    Extent(usize),
    /// `.global_dim`
    Dim(usize),
    /// `.global_stride`, of dimension `.0 + 1`
    Stride(usize),
    /// `.element_stride`
    ElementStride(usize),
    /// `.elemtype`, in the order of the ISA
    Element,
    /// `.interleave_layout`
    Interleave,
    /// `.swizzle_mode`
    Swizzle,
    /// `.fill_mode`
    Fill,
}

/// The element type of a number of the ISA, whose order is not that of the driver's enum.
fn element(number: u64) -> Result<Element, String> {
    use Element::*;
    let order = [U8, U16, U32, S32, U64, S64, F16, F32, F32Ftz, F64, Bf16, Tf32, Tf32Ftz];
    let element = order.get(number as usize).copied();
    element.ok_or_else(|| format!("element type {number}; compute capability 9.0 has 0 to 12"))
}

/// Replaces a field of an encoded tiled map. What it leaves is checked when a copy uses the map, since fields are replaced
/// one by one. 128 bytes of zeros are a tiled map without any field: kernels that make their own begin with that.
///
/// # Errors
/// In words: not a tiled map, or an index or a value that the field cannot have.
pub fn replace(bytes: &mut [u8; BYTES], field: Field, value: u64) -> Result<(), String> {
    if *bytes == [0; BYTES] {
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    }
    demand!(bytes.starts_with(MAGIC) && bytes[101] == 0, "these 128 bytes are not a tiled tensor map");

    let mut put = |at: usize, count: usize, value: u64| {
        bytes[at..at + count].copy_from_slice(&value.to_le_bytes()[..count]);
    };
    let in_range = |index: usize, count: usize| match index < count {
        true => Ok(()),
        false => Err(format!("index {index} of a field that has {count}")),
    };

    match field {
        Field::Address => put(8, 8, value),
        Field::Rank => {
            demand!(value < MAX_RANK as u64, "rank {value} (less one); it is 0 to 4");
            put(95, 1, value + 1);
        }
        Field::Extent(axis) => {
            in_range(axis, MAX_RANK)?;
            demand!((1..=256).contains(&value), "a box of {value} elements; 1 to 256 fit");
            put(68 + 2 * axis, 2, value);
        }
        Field::Dim(axis) => {
            in_range(axis, MAX_RANK)?;
            demand!(value != 0, "a dimension of no elements");
            put(16 + 4 * axis, 4, value - 1);
        }
        Field::Stride(axis) => {
            in_range(axis, MAX_RANK - 1)?;
            put(36 + 8 * axis, 8, value);
        }
        Field::ElementStride(axis) => {
            in_range(axis, MAX_RANK)?;
            demand!((1..=8).contains(&value), "an element stride of {value}; it is 1 to 8");
            put(78 + axis, 1, value);
        }
        Field::Element => put(96, 1, element(value)? as u64),
        Field::Interleave => {
            interleave(value as u32)?;
            put(97, 1, value);
        }
        Field::Swizzle => {
            swizzle(value as u32)?;
            put(98, 1, value);
        }
        Field::Fill => {
            fill(value as u32)?;
            put(99, 1, value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::arguments;
    use super::super::{Kind, TensorMap};
    use super::*;

    #[test]
    fn a_map_is_made_of_nothing() {
        let map = TensorMap::tiled(&arguments(&[128, 64], &[256]), &[64, 64]).unwrap();
        let encoded = map.encode();
        let mut bytes = [0; BYTES];
        assert!(TensorMap::decode(&bytes).is_err(), "without any field it is none");
        for (field, value) in [
            (Field::Address, map.address),
            (Field::Rank, 1),
            (Field::Extent(0), 64),
            (Field::Extent(1), 64),
            (Field::Dim(0), 128),
            (Field::Dim(1), 64),
            (Field::Stride(0), 256),
            (Field::ElementStride(0), 1),
            (Field::ElementStride(1), 1),
            (Field::Element, 6),
            (Field::Swizzle, encoded[98].into()),
            (Field::Fill, encoded[99].into()),
        ] {
            replace(&mut bytes, field, value).unwrap();
        }

        let made = TensorMap::decode(&bytes).unwrap();
        assert_eq!(
            (made.address, made.dims[..2].to_vec(), made.strides[0]),
            (map.address, map.dims[..2].to_vec(), 256)
        );
        assert_eq!((made.kind, made.element), (map.kind, Element::F16));

        let mut other = [0; BYTES];
        other[127] = 1;
        assert!(replace(&mut other, Field::Address, 64).is_err(), "anything else is no map");
    }

    #[test]
    fn fields_are_replaced() {
        let mut map = TensorMap::tiled(&arguments(&[128, 64], &[256]), &[64, 64]).unwrap();

        let mut bytes = map.encode();
        for (field, value) in [
            (Field::Address, 0x2_0000),
            (Field::Dim(1), 32),
            (Field::Stride(0), 512),
            (Field::Extent(1), 16),
            (Field::Element, 6),
            (Field::Swizzle, 3),
            (Field::Fill, 1),
        ] {
            replace(&mut bytes, field, value).unwrap();
        }

        map.address = 0x2_0000;
        map.dims[1] = 32;
        map.strides[0] = 512;
        map.kind = Kind::Tiled { extent: [64, 16, 1, 1, 1] };
        map.element = Element::F16;
        map.nan_fill = true;
        assert_eq!(TensorMap::decode(&bytes).unwrap(), map);

        assert!(replace(&mut bytes, Field::Stride(4), 16).is_err());
        assert!(replace(&mut bytes, Field::Extent(0), 0).is_err());
    }
}
