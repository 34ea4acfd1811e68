use super::*;

/// A map of bf16 without interleave, swizzled by 128 bytes.
pub(super) fn arguments<'a>(dims: &'a [u64], strides: &'a [u64]) -> Arguments<'a> {
    Arguments {
        element: Element::Bf16 as u32,
        rank: dims.len() as u32,
        address: 0x1_0000,
        dims,
        strides,
        element_strides: &[1; MAX_RANK][..dims.len()],
        interleave: 0,
        swizzle: 3,
        l2_promotion: 2,
        fill: 0,
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    let tiled = TensorMap::tiled(&arguments(&[1 << 32, 77, 3], &[1 << 34, 1 << 39]), &[64, 256, 1]).unwrap();
    assert_eq!(TensorMap::decode(&tiled.encode()).unwrap(), tiled);
    let corners = Im2colArguments { lower: &[-1, -128], upper: &[127, -2], channels: 64, pixels: 1024 };
    let im2col = TensorMap::im2col(&arguments(&[64, 9, 8, 7], &[128, 1152, 9216]), &corners).unwrap();
    assert_eq!(TensorMap::decode(&im2col.encode()).unwrap(), im2col);
    assert!(TensorMap::decode(&[0; BYTES]).is_err());
}

#[test]
fn each_rule_is_checked() {
    let good = arguments(&[128, 64], &[256]);
    let refused = |what: Arguments<'_>, extent: &[u32], word: &str| {
        let message = TensorMap::tiled(&what, extent).unwrap_err();
        assert!(message.contains(word), "{message} lacks {word}");
    };

    assert!(TensorMap::tiled(&good, &[64, 64]).is_ok());
    refused(good, &[65, 64], "multiple of 16");
    refused(good, &[72, 64], "swizzle");
    refused(good, &[64, 257], "257");
    refused(good, &[0, 64], "0 elements");
    refused(good, &[64], "sizes of a box");

    refused(Arguments { address: 8, ..good }, &[64, 64], "address");
    refused(Arguments { dims: &[0, 64], ..good }, &[64, 64], "dimension 0");
    refused(Arguments { strides: &[248], ..good }, &[64, 64], "248");
    refused(Arguments { strides: &[1 << 40], ..good }, &[64, 64], "2^40");
    refused(Arguments { element_strides: &[1, 9], ..good }, &[64, 64], "element stride 9");
    refused(Arguments { element: 13, ..good }, &[64, 64], "data type 13");
    refused(Arguments { swizzle: 4, ..good }, &[64, 64], "swizzle 4");
    refused(Arguments { interleave: 1, ..good }, &[64, 64], "interleave");
    refused(Arguments { fill: 1, element: 0, ..good }, &[64, 64], "NaN");
    refused(Arguments { rank: 6, ..good }, &[64, 64], "rank 6");
    // Slices of 32 bytes need everything at multiples of 32 and their own swizzle; those of 16 take any.
    let slices = Arguments { interleave: 2, swizzle: 1, ..arguments(&[16, 8, 4], &[32, 256]) };
    let extent = [16, 8, 2];
    assert!(TensorMap::tiled(&slices, &extent).is_ok());
    refused(Arguments { swizzle: 0, ..slices }, &extent, "swizzle of 32");
    refused(Arguments { swizzle: 3, ..slices }, &extent, "swizzle of 32");
    refused(Arguments { address: 0x1_0010, ..slices }, &extent, "multiple of 32");
    refused(Arguments { strides: &[32, 272], ..slices }, &extent, "multiple of 32");
    for swizzle in 0..4 {
        let slices = Arguments { interleave: 1, swizzle, address: 0x1_0010, strides: &[16, 144], ..slices };
        assert!(TensorMap::tiled(&slices, &[8, 8, 2]).is_ok(), "the swizzle's width holds for no interleave only");
        assert!(TensorMap::tiled(&slices, &[4, 8, 2]).is_ok(), "nor does the box's multiple of 16 bytes");
    }
    let corners = Im2colArguments { lower: &[-129, 0], upper: &[0, 0], channels: 64, pixels: 8 };
    let four = arguments(&[64, 9, 8, 7], &[128, 1152, 9216]);
    assert!(TensorMap::im2col(&four, &corners).unwrap_err().contains("-129"));
    let corners = Im2colArguments { lower: &[0, 0], pixels: 1025, ..corners };
    assert!(TensorMap::im2col(&four, &corners).unwrap_err().contains("1025"));
}
