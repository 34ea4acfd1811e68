//! Units of a loss: nats per token, and the bits that they are.

/// Dimensions that a token stands for: the red, green and blue value of a pixel.
const DIMENSIONS_PER_TOKEN: f64 = 3.0;

/// Bits per token: bits that an ideal coder driven by the model spends on a pixel's colour.
pub fn bits_per_token(nats_per_token: f64) -> f64 {
    nats_per_token / std::f64::consts::LN_2
}

/// Bits per dimension: those bits divided by the three channel values that a colour of the palette stands for.
///
/// The dimensions are those of the image *as the palette shows it*, W × H × 3 values of the shrunk image. They are not those
/// of raw pixels: replacing a pixel by the nearest of 512 colours loses what the literature's bits per dimension pay for, so
/// the two cannot be compared. Nor is it a code length for a BERT model, which sees the other pixels of both sides.
pub fn bits_per_dimension(nats_per_token: f64) -> f64 {
    bits_per_token(nats_per_token) / DIMENSIONS_PER_TOKEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knowing_nothing_of_512_colours_costs_nine_bits_and_three_per_dimension() {
        let nothing = 512_f64.ln();
        assert!((bits_per_token(nothing) - 9.0).abs() < 1e-12);
        assert!((bits_per_dimension(nothing) - 3.0).abs() < 1e-12);
        // iGPT-L of the paper: 2.0466 nats.
        assert_eq!(format!("{:.4} {:.4}", bits_per_token(2.0466), bits_per_dimension(2.0466)), "2.9526 0.9842");
    }
}
