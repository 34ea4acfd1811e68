//! How much of what a device can compute a run uses.

use crate::model::ModelConfig;
use crate::run::metrics::PeakSource;

/// FLOPs of a token by two conventions, and what the device could do.
///
/// | convention | FLOPs of a forward and backward pass, per token |
/// |---|---|
/// | needed | 6 for each weight of a matmul, and for each score that the model needs: of an autoregressive model half of them |
/// | PaLM's | 6 N + 12 L n d: every parameter, and all scores, whether they are computed or not (Chowdhery and others, 2022, appendix B; nanoGPT and llm.c count so) |
///
/// N parameters, L layers, n tokens per image, d width. The first tells what the hardware did of use, the second compares with
/// figures of others.
#[derive(Clone, Debug, PartialEq)]
pub struct Compute {
    /// By the first.
    pub needed: f64,
    /// By the second.
    pub palm: f64,
    /// The most that the device can do: by its data sheet, or else as its own GEMM does; `None` on a CPU.
    pub peak: Option<Peak>,
}

/// What a data sheet promises, or a measurement found.
#[derive(Clone, Debug, PartialEq)]
pub struct Peak {
    /// FLOP/s.
    pub flops: f64,
    /// Of what, for people: `H100 SXM in bf16`.
    pub of: String,
    /// Where it is from.
    pub source: PeakSource,
}

/// Model FLOPs utilisation, 0 to 1, by both conventions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Utilisation {
    /// Of the FLOPs that are needed.
    pub needed: f64,
    /// Of PaLM's.
    pub palm: f64,
    /// Where the peak is from.
    pub peak: PeakSource,
}

impl Compute {
    /// That of training `config` on images of `length` tokens.
    pub fn of(config: &ModelConfig, length: usize, peak: Option<Peak>) -> Self {
        let scores = 12.0 * config.layers as f64 * length as f64 * config.width as f64;
        let palm = 6.0 * config.parameter_count() as f64 + scores;
        Self { needed: config.training_flops_per_token(length), palm, peak }
    }

    /// The same work on so many of these devices.
    #[must_use]
    pub fn on_cards(mut self, cards: usize) -> Self {
        if let Some(peak) = self.peak.as_mut().filter(|_| cards > 1) {
            peak.flops *= cards as f64;
            peak.of = format!("{cards} × {}", peak.of);
        }
        self
    }

    /// What so many tokens per second are of the peak; `None` where that is not known.
    pub fn utilisation(&self, tokens_per_second: f64) -> Option<Utilisation> {
        let Peak { flops, source, .. } = self.peak.as_ref()?;
        let per_flop = tokens_per_second / flops;
        Some(Utilisation { needed: self.needed * per_flop, palm: self.palm * per_flop, peak: *source })
    }

    /// In words: `0.012 TFLOP/s (0.014 as PaLM counts)`, and the share of the peak.
    pub fn describe(&self, tokens_per_second: f64) -> String {
        let [needed, palm] = [self.needed, self.palm].map(|flops| flops * tokens_per_second / 1e12);
        let speed = format!("{needed:.3} TFLOP/s ({palm:.3} as PaLM counts)");
        match (self.utilisation(tokens_per_second), &self.peak) {
            (Some(Utilisation { needed, palm, .. }), Some(peak)) => format!(
                "{speed}, {:.1} % ({:.1} %) of the {} of {}",
                100.0 * needed,
                100.0 * palm,
                teraflops(peak.flops),
                peak.of
            ),
            _ => speed,
        }
    }
}

/// `989.4 TFLOP/s`; with more digits where it is far less than one.
pub fn teraflops(flops: f64) -> String {
    let digits = if flops < 1e11 { 6 } else { 1 };
    format!("{:.digits$} TFLOP/s", flops / 1e12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn the_conventions_by_hand() {
        // iGPT-L at 32×32: 48·12·1536² weights in blocks, a head of 512·1536, 48·1024·1536 scores times width.
        let config = ModelConfig::preset(Preset::L, 32);
        let (of, source) = ("H100 SXM in bf16".to_owned(), PeakSource::DataSheet);
        let peak = Peak { flops: 989.4e12, of, source };
        let compute = Compute::of(&config, 1024, Some(peak));
        let scores = 48.0 * 1024.0 * 1536.0;
        assert_eq!(compute.needed, 6.0 * (48.0 * 12.0 * 1536.0 * 1536.0 + 512.0 * 1536.0) + 6.0 * scores);
        assert_eq!(compute.palm, 6.0 * 1_362_250_752.0 + 12.0 * scores);

        // Twice the tokens are twice the share; a device that nobody knows has none.
        let found = compute.utilisation(50_000.0).unwrap();
        assert!((found.needed - 50_000.0 * compute.needed / 989.4e12).abs() < 1e-12 && found.palm > found.needed);
        let words = compute.describe(50_000.0);
        assert!(words.ends_with("%) of the 989.4 TFLOP/s of H100 SXM in bf16"), "{words}");
        let unknown = Compute { peak: None, ..compute };
        assert_eq!(unknown.utilisation(50_000.0), None);
        assert!(!unknown.describe(50_000.0).contains('%'));
    }
}
