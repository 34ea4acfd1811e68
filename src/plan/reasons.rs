//! Why a step is divided as it is ([`Splits`]), in sentences, with their bytes and seconds.

use super::split::{Question, Split, Splits, WITHOUT_OFFLOAD};
use crate::named::Named;
use crate::tape::Recompute;

impl Splits {
    /// Why the choice is what it is, a sentence for each thing that could have been otherwise.
    pub fn reasons(&self, question: &Question<'_>) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.idle > 0 {
            let Question { global_batch, gpus, .. } = question;
            let working = gpus - self.idle;
            reasons.push(format!(
                "a step of {global_batch} images is divided over {working} GPUs at most; {} have nothing to do",
                self.idle
            ));
        }
        let Some(choice) = &self.choice else {
            let least = self.alternatives.iter().map(Split::bytes).min_by(f64::total_cmp).unwrap_or_default();
            reasons.push(format!(
                "nothing fits: {} are needed at least, and there are {}",
                gib(least),
                gib(question.room)
            ));
            reasons.extend(self.otherwise.map(|other| {
                let (card, host) = (gib(other.bytes()), gib(other.host));
                format!("with --offload-optimizer {card} are needed, and {host} of the host's memory for each card")
            }));
            return reasons;
        };

        // More images at a time.
        reasons.push(match &self.larger {
            None if choice.micro_batches() == 1 => "all images of a card at once".to_owned(),
            None => "the micro-batch is given".to_owned(),
            Some(larger) if larger.fits => format!(
                "{} at a time would be {:.1} % slower",
                images(larger.micro_batch),
                100.0 * (larger.times.step / choice.times.step - 1.0)
            ),
            Some(larger) => format!("{} at a time would take {}", images(larger.micro_batch), gib(larger.bytes())),
        });

        // Other levels of ZeRO, and then other things computed again.
        let of = |zero: u8, recompute: Recompute| {
            self.alternatives.iter().find(move |split| (split.zero, split.recompute) == (zero, recompute))
        };
        for zero in question.zero.iter().filter(|zero| **zero != choice.zero) {
            let named = Split { zero: *zero, ..*choice };
            let other = of(*zero, choice.recompute);
            reasons.extend(other.map(|other| question.against(choice, other, (&format!("ZeRO-{zero}"), named))));
        }
        for level in Recompute::VALUES.iter().filter(|level| level.value != choice.recompute) {
            let named = Split { recompute: level.value, ..*choice };
            let (other, what) = (of(choice.zero, level.value), format!("--recompute {}", level.name));
            reasons.extend(other.map(|other| question.against(choice, other, (&what, named))));
        }

        // The other place for the optimiser, with all that follows from it.
        if choice.offloads() {
            reasons.push(format!(
                "--offload-optimizer keeps {} per card in the host's memory, page-locked; for it an update takes {} longer, at {:.1} GB/s",
                gib(choice.host),
                duration(choice.times.bus),
                question.speed.bus / 1e9
            ));
        }
        reasons.extend(self.otherwise.map(|other| {
            let what = if other.offloads() { "--offload-optimizer" } else { WITHOUT_OFFLOAD };
            question.against(choice, &other, (what, Split { host: other.host, ..*choice }))
        }));
        reasons
    }
}

impl Question<'_> {
    /// What speaks against another way than the choice, which `what` says; `named` is the choice with that alone otherwise, so all else
    /// that is different is said too.
    fn against(&self, choice: &Split, other: &Split, (what, named): (&str, Split)) -> String {
        if !other.fits {
            let batch = images(other.micro_batch);
            if other.bytes() <= self.room {
                return format!("{what} does not fit: {} of the host's memory per card", gib(other.host));
            }
            return format!("{what} does not fit: {} with {batch} at a time", gib(other.bytes()));
        }

        let mut also = Vec::new();
        if other.zero != named.zero {
            also.push(format!("ZeRO-{}", other.zero));
        }
        if other.recompute != named.recompute {
            also.push(format!("--recompute {}", other.recompute.name()));
        }
        match (other.offloads(), named.offloads()) {
            (true, false) => also.push("--offload-optimizer".to_owned()),
            (false, true) => also.push("the optimiser on the card".to_owned()),
            _ => {}
        }
        if other.micro_batch != named.micro_batch {
            also.push(format!("{} at a time", images(other.micro_batch)));
        }
        let also = match also.split_last() {
            None => String::new(),
            Some((last, [])) => format!(" with {last}"),
            Some((last, others)) => format!(" with {} and {last}", others.join(", ")),
        };

        let slower = 100.0 * (other.times.step / choice.times.step - 1.0);
        if slower < 0.1 {
            return format!("{what} would be as fast{also}, in {}", gib(other.bytes()));
        }
        format!("{what} would be {slower:.1} % slower{also}")
    }
}

fn images(count: usize) -> String {
    if count == 1 { "1 image".to_owned() } else { format!("{count} images") }
}

/// Seconds for people.
pub fn duration(seconds: f64) -> String {
    if seconds < 0.9995 { format!("{:.0} ms", 1000.0 * seconds) } else { format!("{seconds:.2} s") }
}

/// Bytes for people.
pub fn gib(bytes: f64) -> String {
    let gib = bytes / (1_u64 << 30) as f64;
    if gib >= 0.1 { format!("{gib:.1} GiB") } else { format!("{:.1} MiB", gib * 1024.0) }
}
