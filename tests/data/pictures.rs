//! Pictures as people have them: formats, cameras' orientation, what cameras put behind a photo, alpha, sizes.

use igpt_engine::data::{
    Alpha, AugmentKey, DataSpec, Filter, ImageExamples, OpenOptions, Split, open, open_image, open_images, resize,
    training_transform,
};
use image::codecs::gif::GifEncoder;
use image::imageops::{crop_imm, flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
use image::{Frame, GrayAlphaImage, ImageFormat, LumaA, RgbImage, Rgba, RgbaImage};

use crate::pipeline::options;
use crate::sources::crc32;
use crate::support::{encoded, images, open_folder, picture, png, put};

/// What a file becomes in a folder of its own.
fn read(bytes: &[u8]) -> Result<RgbImage, String> {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "picture", bytes);
    let source = open_folder(folder.path(), Split::Train).map_err(|error| error.to_string())?;
    source.image(0).map_err(|error| error.to_string())
}

/// The picture with at most 216 colours, which a GIF holds exactly.
fn of_few_colours(picture: &RgbImage) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        image::Rgb(picture.get_pixel(x, y).0.map(|v| v / 51 * 51))
    })
}

#[test]
fn formats_of_the_web_come_out_pixel_for_pixel_whatever_the_file_is_called() {
    let picture = of_few_colours(&picture(1, 33, 21));
    for format in [ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Png] {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a/no-ending", "a/browser.jpg"] {
            put(folder.path(), name, &encoded(picture.clone(), format));
        }
        let source = open_folder(folder.path(), Split::Train).unwrap();
        for index in 0..2 {
            assert!(source.image(index).unwrap() == picture, "{format:?}, {}", source.name(index));
        }
    }
}

#[test]
fn of_an_animation_the_first_frame_is_taken() {
    let mut bytes = Vec::new();
    let frames = [1, 2, 3].map(|number| of_few_colours(&picture(number, 24, 24)));
    let pages = frames.clone().map(|frame| Frame::new(image::DynamicImage::from(frame).into_rgba8()));
    GifEncoder::new(&mut bytes).encode_frames(pages).unwrap();
    assert!(read(&bytes).unwrap() == frames[0]);
}

/// A JPEG that says how the camera was held.
fn oriented(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    // TIFF, big-endian, of one entry: tag 0x112, one SHORT.
    let tiff = [&b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation], b"\0\0\0\0\0\0"].concat();
    let segment = [&b"Exif\0\0"[..], &tiff].concat();
    let length = (segment.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], b"\xff\xe1", &length, &segment, &jpeg[2..]].concat()
}

#[test]
fn photos_are_turned_upright_in_all_eight_orientations() {
    // Larger than it must be, so that a wrong turn shows; wider than high.
    let jpeg = encoded(picture(5, 48, 32), ImageFormat::Jpeg);
    let stored = read(&jpeg).unwrap();
    let upright: [RgbImage; 8] = [
        stored.clone(),
        flip_horizontal(&stored),
        rotate180(&stored),
        flip_vertical(&stored),
        rotate90(&flip_vertical(&stored)),
        rotate90(&stored),
        rotate270(&flip_vertical(&stored)),
        rotate270(&stored),
    ];
    for (orientation, expected) in (1..).zip(&upright) {
        assert!(read(&oriented(&jpeg, orientation)).unwrap() == *expected, "orientation {orientation}");
        assert_eq!(upright.iter().filter(|other| *other == expected).count(), 1, "the eight differ");

        // A prompt of `sample` too; ImageNet stays as it is stored.
        let folder = tempfile::tempdir().unwrap();
        let path = put(folder.path(), "train/n01440764/a.JPEG", &oriented(&jpeg, orientation));
        let (x, y) = ((expected.width() - 32) / 2, (expected.height() - 32) / 2);
        let square = crop_imm(expected, x, y, 32, 32).to_image();
        assert!(open_image(&path, 32, Filter::Bilinear, Alpha::Drop).unwrap() == square, "prompt {orientation}");
        let spec = DataSpec::ImageNet(folder.path().to_owned());
        let source = open_images(&spec, Split::Train, &OpenOptions { holdout: Some(0.0), ..options() }).unwrap().0;
        assert!(source.image(0).unwrap() == stored, "ImageNet, orientation {orientation}");
    }
}

#[test]
fn what_a_camera_puts_behind_a_photo_is_no_part_of_it() {
    let jpeg = encoded(picture(6, 40, 40), ImageFormat::Jpeg);
    let photo = read(&jpeg).unwrap();
    // A film of bytes that look like anything: markers of scans and of ends in any order.
    for seed in 0..8_u32 {
        let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
        let mut film = b"MotionPhoto_Data\0\0\0\x18ftypmp42".to_vec();
        film.extend((0..200_000).map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            if state.is_multiple_of(64) { 0xff } else { (state >> 8) as u8 }
        }));
        film.extend(if seed % 2 == 0 { b"\xff\xd9\xff\xda\0\x04" } else { b"\xff\xda\0\x04\xff\xd9" });
        assert!(read(&[&jpeg[..], &film].concat()).unwrap() == photo, "film {seed}");
    }

    // A photo that ends early is not saved by another one behind it, nor by a preview in front.
    for cut in [jpeg.len() / 2, jpeg.len() - 2, jpeg.len() - 1] {
        let error = read(&jpeg[..cut]).unwrap_err();
        assert!(error.contains("truncated (no end marker)"), "{error}");
    }
}

#[test]
fn alpha_is_dropped_or_laid_over_white_or_black() {
    let folder = tempfile::tempdir().unwrap();
    let alphas = [0, 1, 100, 254, 255];
    let picture = RgbaImage::from_fn(5, 1, |x, _| Rgba([200, 100, 7, alphas[x as usize]]));
    put(folder.path(), "0.png", &encoded(picture, ImageFormat::Png));
    let grey = GrayAlphaImage::from_fn(5, 1, |x, _| LumaA([60, alphas[x as usize]]));
    put(folder.path(), "1.png", &encoded(grey, ImageFormat::Png));
    // Without alpha there is nothing to lay over.
    put(folder.path(), "2.png", &png(&RgbImage::from_pixel(5, 1, image::Rgb([9, 8, 7]))));

    for (alpha, ground) in [(Alpha::Drop, None), (Alpha::White, Some(255.0)), (Alpha::Black, Some(0.0))] {
        let options = OpenOptions { alpha, holdout: Some(0.0), resolution: 1, ..options() };
        let source = open_images(&images(folder.path()), Split::Train, &options).unwrap().0;
        for (index, colour) in [[200, 100, 7], [60; 3], [9, 8, 7]].into_iter().enumerate() {
            let image = source.image(index).unwrap();
            for (x, alpha) in (0..).zip(alphas) {
                let share = if index == 2 { 1.0 } else { f64::from(alpha) / 255.0 };
                let over = |colour: u8, ground: f64| (f64::from(colour) * share + ground * (1.0 - share)).round() as u8;
                let expected = colour.map(|colour| ground.map_or(colour, |ground| over(colour, ground)));
                assert_eq!(image.get_pixel(x, 0).0, expected, "image {index} at {x}, {ground:?}");
            }
        }
    }
}

/// A PNG that begins as one of this size does.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(&picture(0, 1, 1));
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

#[test]
fn too_many_pixels_are_refused_with_both_numbers() {
    for (width, height, words) in [
        (13_378, 13_378, "13378x13378 = 178970884 pixels are above the limit of 178956970"),
        (32_769, 10, "32769x10 pixels are above the limit of 32768 on a side"),
        (10, 4_000_000, "10x4000000 pixels are above the limit of 32768 on a side"),
    ] {
        let error = read(&png_of(width, height)).unwrap_err();
        assert!(error.contains(words) && error.contains("shrink"), "{error}");
    }
    // Just below it, only the pixels are missing.
    let error = read(&png_of(13_377, 13_377)).unwrap_err();
    assert!(!error.contains("limit"), "{error}");
}

/// A GIF of 9x7 pixels whose only frame claims 20,000 x 3,000: 240 MB, of which the file has nothing.
#[test]
fn a_frame_far_larger_than_its_picture_is_refused() {
    let mut gif = b"GIF89a\x09\0\x07\0\x80\0\0".to_vec();
    gif.extend([0; 6]);
    gif.extend([0x2c, 0, 0, 0, 0]);
    gif.extend([20_000u16, 3_000].map(u16::to_le_bytes).as_flattened());
    gif.extend([0, 2, 0]);
    let error = read(&gif).unwrap_err();
    assert!(error.contains("limit"), "{error}");
}

/// Found by fuzzing: the decoder indexes out of range.
#[test]
fn a_picture_that_makes_its_decoder_panic_is_an_error() {
    let error = read(include_bytes!("../fixtures/hostile/range.jpg")).unwrap_err();
    assert!(error.contains("the picture is damaged"), "{error}");
}

/// The image that evaluation encodes of a picture in a folder.
fn evaluated(picture: &RgbImage, resolution: u32) -> RgbImage {
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), "train/a/0.png", &png(picture));
    let options = OpenOptions { holdout: Some(0.0), augment: false, resolution, ..options() };
    let examples = open(&images(folder.path()), Split::Train, &options).unwrap();
    let prompt = open_image(&path, resolution, options.filter, Alpha::Drop).unwrap();

    // What is encoded is what `sample` would complete.
    let mut tokens = [0, 1].map(|_| vec![0; (resolution * resolution) as usize]);
    examples.tokens(0, None, &mut tokens[0]).unwrap();
    options.palette.encode(&prompt, &mut tokens[1]).unwrap();
    assert_eq!(tokens[0], tokens[1]);
    prompt
}

#[test]
fn pictures_of_the_right_size_are_taken_as_they_are_and_smaller_photos_resized_once() {
    for side in [8, 32, 48, 192, 223] {
        let picture = picture(side, side, side);
        assert!(evaluated(&picture, side) == picture, "{side}");
    }
    // The middle of one that is longer.
    let wide = picture(3, 50, 32);
    assert!(evaluated(&wide, 32) == crop_imm(&wide, 9, 0, 32, 32).to_image());

    // Larger, but below 224: the central square, once.
    let high = picture(4, 100, 140);
    let square = crop_imm(&high, 0, 20, 100, 100).to_image();
    assert!(evaluated(&high, 32) == resize(square, 32, 32, Filter::Bilinear).unwrap());
}

#[test]
fn in_training_small_pictures_are_shifted_and_mirrored_but_never_blurred() {
    let folder = tempfile::tempdir().unwrap();
    let picture = picture(7, 32, 32);
    put(folder.path(), "train/a/0.png", &png(&picture));
    let options = OpenOptions { holdout: Some(0.0), resolution: 32, ..options() };
    let spec = images(folder.path());
    let (source, indices) = open_images(&spec, Split::Train, &options).unwrap();
    let transform = training_transform(&spec, &options).unwrap();
    let examples = ImageExamples::new(source, indices, transform, options.palette.clone());

    let mut seen = Vec::new();
    for epoch in 0..20 {
        let image = examples.image(0, Some(AugmentKey { seed: 1, epoch, index: 0 })).unwrap();
        assert_eq!(image.dimensions(), (32, 32));
        assert!(image.pixels().all(|pixel| picture.pixels().any(|own| own == pixel)), "epoch {epoch} has new colours");
        seen.push(image);
    }
    let different = seen.iter().filter(|image| **image != seen[0]).count();
    assert!(different > 10, "{different} of 20 differ from the first");
}
