//! Palettes: fitted, built in, saved and read.

use igpt_engine::data::{DataError, FitOptions, Histogram, ImageSource, Palette, Split, fit, npy, open_sample};

#[test]
fn a_palette_fitted_to_the_sample_is_good_reproducible_and_indifferent_to_threads() {
    let source = open_sample(Split::Train).unwrap();
    let histogram = Histogram::of_images(300, || {}, |index| source.image(index)).unwrap();
    assert_eq!(histogram.pixels(), 300 * 1024);

    let options = FitOptions { colours: 64, seed: 3, iterations: 30, ..FitOptions::default() };
    let mut errors = Vec::new();
    let palette = fit(&histogram, &options, |_, mse| errors.push(mse)).unwrap();
    assert!(errors.len() > 5 && errors.windows(2).all(|pair| pair[1] <= pair[0] * (1.0 + 1e-6)), "{errors:?}");

    let quality = histogram.quality(&palette);
    assert!(quality.mse <= *errors.last().unwrap() && quality.used == 64, "{quality:?}");

    // Against the definition, pixel by pixel.
    let image = source.image(0).unwrap();
    let one = Histogram::of_images(1, || {}, |_| Ok(image.clone())).unwrap().quality(&palette);
    let by_hand: f64 = image
        .pixels()
        .map(|pixel| {
            let colour = palette.colours()[usize::from(palette.nearest(pixel.0))];
            pixel
                .0
                .iter()
                .zip(colour)
                .map(|(&p, c)| (f64::from(p) / 255.0 - (f64::from(c) + 1.0) / 2.0).powi(2))
                .sum::<f64>()
        })
        .sum::<f64>()
        / 1024.0;
    assert!((one.mse - by_hand).abs() < 1e-9, "{} {by_hand}", one.mse);

    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let alone = pool.install(|| fit(&histogram, &options, |_, _| {})).unwrap();
    assert_eq!(alone.colours(), palette.colours());
    assert_ne!(fit(&histogram, &FitOptions { seed: 4, ..options }, |_, _| {}).unwrap().id(), palette.id());
}

#[test]
fn impossible_fits_are_refused() {
    let image = image::RgbImage::from_fn(4, 4, |x, _| image::Rgb([x as u8 * 9, 0, 0]));
    let histogram = Histogram::of_images(1, || {}, |_| Ok(image.clone())).unwrap();
    let fit_to = |colours| fit(&histogram, &FitOptions { colours, ..FitOptions::default() }, |_, _| {});
    // As many colours as there are: no error is left.
    assert!(histogram.quality(&fit_to(4).unwrap()).mse < 1e-12);
    assert!(fit_to(5).unwrap_err().to_string().contains("--colours 4"));
    assert!(fit_to(0).is_err() && fit_to(4097).is_err());
}

#[test]
fn the_built_in_palette_suits_the_test_images() {
    let source = open_sample(Split::Test).unwrap();
    let histogram = Histogram::of_images(200, || {}, |index| source.image(index)).unwrap();
    let quality = histogram.quality(&Palette::built_in().unwrap());
    assert!(quality.mse < 0.0012 && quality.used > 480, "{quality:?}");
}

#[test]
fn palette_files_round_trip_and_wrong_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.npy");
    let palette = Palette::built_in().unwrap();
    palette.save(&path).unwrap();
    assert_eq!(Palette::load(&path).unwrap().id(), palette.id());
    npy::write_f32(&path, &[3, 2], &[0.0; 6]).unwrap();
    assert!(Palette::load(&path).unwrap_err().to_string().contains("[3, 2]"));
    npy::write_i64(&path, &[2, 3], &[0; 6]).unwrap();
    assert!(Palette::load(&path).unwrap_err().to_string().contains("int64"));
    npy::write_f32(&path, &[1, 3], &[0.0, 255.0, 0.0]).unwrap();
    assert!(matches!(Palette::load(&path), Err(DataError::Palette { .. })));
}
