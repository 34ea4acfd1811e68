//! Why a step is divided as it is ([`Splits`]), in sentences, with their bytes and seconds.

use std::fmt;

use super::split::{Question, Split, Splits};
use crate::named::Named;
use crate::tape::Recompute;

/// What a reason speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Cards that have nothing to do.
    Gpus,
    /// Memory that there is not.
    Room,
    /// Images at a time.
    MicroBatch,
    /// Another level of ZeRO.
    Zero,
    /// Computing something else again.
    Recompute(Recompute),
    /// The optimiser on the host: what the choice pays for it, or what it would.
    Offload,
    /// The optimiser on the card, where the choice has it on the host.
    NoOffload,
}

/// Why a step is divided as it is: in one respect.
#[derive(Clone, Debug)]
pub struct Reason {
    /// Which that is.
    pub about: About,
    sentence: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Splits {
    /// Why the choice is what it is, a sentence for each thing that could have been otherwise.
    pub fn reasons(&self, question: &Question<'_>) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut say = |about, sentence| reasons.push(Reason { about, sentence });
        if self.idle > 0 {
            let Question { global_batch, gpus, .. } = question;
            let working = gpus - self.idle;
            let divided = format!("a step of {global_batch} images is divided over {working} GPUs at most");
            say(About::Gpus, format!("{divided}; {} have nothing to do", self.idle));
        }
        let Some(choice) = &self.choice else {
            let least = self.alternatives.iter().map(Split::bytes).min_by(f64::total_cmp).unwrap_or_default();
            let (least, room) = (gib(least), gib(question.room));
            say(About::Room, format!("nothing fits: {least} are needed at least, and there are {room}"));
            if let Some(other) = &self.otherwise {
                let (card, host) = (gib(other.bytes()), gib(other.host));
                let needed = format!("{card} are needed, and {host} of the host's memory for each card");
                say(About::Offload, format!("with --offload-optimizer {needed}"));
            }
            return reasons;
        };

        // More images at a time.
        let larger = match &self.larger {
            None if choice.micro_batches() == 1 => "all images of a card at once".to_owned(),
            None => "the micro-batch is given".to_owned(),
            Some(larger) if larger.fits => format!(
                "{} at a time would be {:.1} % slower",
                images(larger.micro_batch),
                100.0 * (larger.times.step / choice.times.step - 1.0)
            ),
            Some(larger) => format!("{} at a time would take {}", images(larger.micro_batch), gib(larger.bytes())),
        };
        say(About::MicroBatch, larger);

        // Other levels of ZeRO, and then other things computed again.
        let of = |zero: u8, recompute: Recompute| {
            self.alternatives.iter().find(move |split| (split.zero, split.recompute) == (zero, recompute))
        };
        for zero in question.zero.iter().filter(|zero| **zero != choice.zero) {
            let named = Split { zero: *zero, ..*choice };
            if let Some(other) = of(*zero, choice.recompute) {
                say(About::Zero, question.against(choice, other, (&format!("ZeRO-{zero}"), named)));
            }
        }
        for level in Recompute::VALUES.iter().filter(|level| level.value != choice.recompute) {
            let named = Split { recompute: level.value, ..*choice };
            if let Some(other) = of(choice.zero, level.value) {
                let against = question.against(choice, other, (&format!("--recompute {}", level.name), named));
                say(About::Recompute(level.value), against);
            }
        }

        // The other place for the optimiser, with all that follows from it.
        if choice.offloads() {
            let (host, longer, rate) = (gib(choice.host), duration(choice.times.bus), question.speed.bus / 1e9);
            let keeps = format!("--offload-optimizer keeps {host} per card in the host's memory, page-locked");
            say(About::Offload, format!("{keeps}; for it an update takes {longer} longer, at {rate:.1} GB/s"));
        }
        if let Some(other) = &self.otherwise {
            let (about, what) = match other.offloads() {
                true => (About::Offload, "--offload-optimizer"),
                false => (About::NoOffload, "without --offload-optimizer it"),
            };
            say(about, question.against(choice, other, (what, Split { host: other.host, ..*choice })));
        }
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
