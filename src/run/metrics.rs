//! What the lines of `metrics.jsonl` say: one per training step and per validation.

use serde::{Deserialize, Deserializer, Serialize};

use crate::device::nvml::Reading;

/// One training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainRecord {
    /// Steps taken, this one included.
    pub step: u64,
    /// Steps in a row that were skipped up to this one, because loss or gradient was not finite or a spike; absent of one that was made.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Loss of the step's batch before the update: nats per token, or in fine-tuning the weighted sum of the next two.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Fine-tuning: the generative loss, nats per token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generative_loss: Option<f64>,
    /// Fine-tuning: the cross-entropy of the class head, nats per image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_loss: Option<f64>,
    /// Learning rate of the update.
    #[serde(deserialize_with = "number")]
    pub lr: f64,
    /// Global gradient norm before clipping.
    #[serde(deserialize_with = "number")]
    pub grad_norm: f64,
    /// Tokens trained on per second.
    #[serde(deserialize_with = "number")]
    pub tokens_per_second: f64,
    /// Images trained on per second. This and the next three are absent in older lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_per_second: Option<f64>,
    /// Of several ranks: tokens per second of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second_per_rank: Option<f64>,
    /// Of several ranks: milliseconds for which the exchange of gradients kept computing waiting, on the rank that waited least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange_ms: Option<f64>,
    /// Of several ranks: milliseconds that the slowest computed longer than the fastest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew_ms: Option<f64>,
    /// Of several ranks: the slowest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowest_rank: Option<u64>,
    /// In the first step that ends after a checkpoint is whole: milliseconds for which training stood still for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_stall_ms: Option<f64>,
    /// There too: milliseconds that its files took to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_write_ms: Option<f64>,
    /// Fraction of the session's time so far, its first batch apart, that was spent waiting for data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_wait: Option<f64>,
    /// Model FLOPs utilisation by the FLOPs that are needed, 0 to 1, where the device's peak is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfu: Option<f64>,
    /// The same by PaLM's count, 6 N + 12 L n d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfu_palm: Option<f64>,
    /// Which peak these are shares of; absent where it is a data sheet's.
    #[serde(default, skip_serializing_if = "PeakSource::is_data_sheet")]
    pub peak: PeakSource,
    /// What the card's sensors said, in the first step after each reading (they are read once a second).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Reading>,
    /// Seconds of training, over all sessions.
    #[serde(deserialize_with = "number")]
    pub elapsed: f64,
}

/// Where the peak is from that MFU is a share of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeakSource {
    /// The maker's data sheet.
    #[default]
    DataSheet,
    /// The rate of the engine's own GEMM, measured when the session began: of a card without a known data sheet.
    Measured,
}

impl PeakSource {
    fn is_data_sheet(&self) -> bool {
        *self == Self::DataSheet
    }
}

/// One validation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationRecord {
    /// Updates made before it.
    pub step: u64,
    /// Nats per token on the validation images.
    #[serde(deserialize_with = "number")]
    pub val_loss: f64,
    /// Entropy of the validation tokens' histogram, nats.
    #[serde(deserialize_with = "number")]
    pub unigram_entropy: f64,
    /// Fine-tuning: the cross-entropy of the class head, nats per image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_loss: Option<f64>,
    /// Fine-tuning: fraction of the validation images that are classified correctly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Images scored.
    pub images: usize,
    /// Seconds of training, over all sessions.
    #[serde(deserialize_with = "number")]
    pub elapsed: f64,
}

impl TrainRecord {
    /// The generative loss, nats per token: all of the loss in pre-training.
    pub fn generative(&self) -> f64 {
        // Without a generative part the sum is all class loss.
        self.generative_loss.unwrap_or(if self.class_loss.is_some() { f64::NAN } else { self.loss })
    }
}

/// A line of `metrics.jsonl`.
// One at a time is in memory.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Record {
    /// `{"step", "loss", "lr", "grad_norm", "tokens_per_second", "images_per_second", "data_wait", "elapsed"}`, where the
    /// device's peak is known `"mfu"` and `"mfu_palm"`, with `"peak": "measured"` where it is no data sheet's, on a card about
    /// once a second `"gpu"`, in fine-tuning `"generative_loss"` and `"class_loss"` too, and where the step was skipped `"skipped"`
    Train(TrainRecord),
    /// `{"step", "val_loss", "unigram_entropy", "images", "elapsed"}`, in fine-tuning `"class_loss"` and `"accuracy"`
    /// too
    Validation(ValidationRecord),
}

impl Record {
    /// Reads a line, with or without its end.
    pub(super) fn parse(line: &[u8]) -> serde_json::Result<Self> {
        // Not through the enum: it keeps every value of a line until it knows the kind, and a run has a million lines. What is
        // no training step fails at its first key that none has.
        let step = serde_json::from_slice(line).map(Record::Train);
        step.or_else(|_| serde_json::from_slice(line).map(Record::Validation))
    }

    /// The line that says it, with its end.
    pub(super) fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }

    /// The step it belongs to.
    pub fn step(&self) -> u64 {
        match self {
            Record::Train(record) => record.step,
            Record::Validation(record) => record.step,
        }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// JSON has no NaN and no infinity; they are written as null.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_a_number_is_kept_as_such() {
        let line = r#"{"step":1,"loss":null,"lr":1e-3,"grad_norm":null,"tokens_per_second":1,"elapsed":1}"#;
        let record: Record = serde_json::from_str(line).unwrap();
        assert!(matches!(record, Record::Train(train) if train.loss.is_nan() && train.lr == 1e-3));
    }

    #[test]
    fn lines_come_back_as_the_records_they_were_made_of() {
        let step = TrainRecord { step: 7, loss: 1.0 / 3.0, class_loss: Some(0.1), ..TrainRecord::default() };
        let reading = Reading { watts: Some(310.5), joules: Some(1e6), ..Reading::default() };
        let watched = TrainRecord { gpu: Some(reading), peak: PeakSource::Measured, ..step };
        let validation =
            ValidationRecord { step: 7, val_loss: 0.1, accuracy: Some(0.5), ..ValidationRecord::default() };
        for record in [Record::Train(step), Record::Train(watched), Record::Validation(validation)] {
            assert_eq!(Record::parse(&record.line().unwrap()).unwrap(), record);
        }
        for line in ["", "{}", "{\"step\":1}", "null", "{\"step\":1,\"val_loss\":2,\"loss\":3}"] {
            assert!(Record::parse(line.as_bytes()).is_err(), "{line}");
        }
    }
}
