//! What a card's sensors said over a run, and the energy that it used beside what was to be expected.

use super::thinned::Thinned;
use crate::device::nvml::{Reading, Throttle};

/// What `plan` would expect of the same steps.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedEnergy {
    /// Of a step.
    pub joules_per_step: f64,
    /// By what assumptions: `40 % of the peak of H100 SXM in bf16, at 700 W, the TDP of its data sheet`.
    pub basis: String,
}

/// The readings of a run, taken one by one.
#[derive(Clone, Debug, Default)]
pub(super) struct CardHistory {
    pub watts: Thinned,
    pub celsius: Thinned,
    pub sm_mhz: Thinned,
    hottest: Option<u32>,
    memory_bytes: Option<u64>,
    /// Readings that say whether the card is held back, those in which it is, and by what.
    judged: u64,
    held: u64,
    held_by: Throttle,
    /// The first step and joules, and the last.
    energy: Option<[(u64, f64); 2]>,
}

impl CardHistory {
    /// Takes the reading of a step.
    pub fn push(&mut self, step: u64, reading: &Reading) {
        let at = step as f64;
        self.watts.push((at, reading.watts.unwrap_or(f64::NAN)));
        self.celsius.push((at, reading.celsius.map_or(f64::NAN, f64::from)));
        self.sm_mhz.push((at, reading.sm_mhz.map_or(f64::NAN, f64::from)));
        self.hottest = self.hottest.max(reading.celsius);
        self.memory_bytes = self.memory_bytes.max(reading.memory_bytes);

        if let Some(held_by) = reading.throttled_by.map(Throttle::holding_back) {
            self.judged += 1;
            self.held += u64::from(!held_by.is_empty());
            self.held_by = self.held_by.with(held_by);
        }
        if let Some(joules) = reading.joules {
            let first = self.energy.map_or((step, joules), |[first, _]| first);
            self.energy = Some([first, (step, joules)]);
        }
    }

    /// Joules in all.
    pub fn joules(&self) -> Option<f64> {
        self.energy.map(|[_, (_, joules)]| joules)
    }

    /// The rows of the summary table.
    pub fn rows(&self, expected: Option<&ExpectedEnergy>) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        if let Some([(first, before), (last, joules)]) = self.energy {
            let mut words = format!("{} by NVML, of the whole card, up to step {last}", energy(joules));
            // Of the same steps: those between the readings, since the first was taken before its step ended.
            if let Some(expected) = expected.filter(|_| last > first) {
                let steps = (last - first) as f64;
                let (used, planned) = (joules - before, expected.joules_per_step * steps);
                words.push_str(&format!(
                    "; {} of it in steps {} to {last}, for which plan expects {} ({})",
                    energy(used),
                    first + 1,
                    energy(planned),
                    expected.basis
                ));
            }
            rows.push(("Energy", words));
        }

        let hottest = self.hottest.map(|celsius| format!("at most {celsius} °C"));
        let memory = self.memory_bytes.map(|bytes| {
            format!("at most {:.1} GiB of its memory in use, by all programs", bytes as f64 / f64::from(1 << 30))
        });
        let held = (self.judged > 0).then(|| match self.held {
            0 => "never held back".to_owned(),
            held => {
                let share = 100.0 * held as f64 / self.judged as f64;
                format!("held back in {share:.0} % of the readings by {}", self.held_by.names().join(", "))
            }
        });
        let words: Vec<String> = [hottest, memory, held].into_iter().flatten().collect();
        if !words.is_empty() {
            rows.push(("Sensors", words.join("; ")));
        }
        rows
    }
}

/// Joules in words: `812 J`, `45.2 kJ (12.6 Wh)`, `131.40 kWh`.
pub fn energy(joules: f64) -> String {
    match joules {
        small if small < 1e4 => format!("{small:.0} J"),
        middle if middle < 3.6e6 => format!("{:.1} kJ ({:.1} Wh)", middle / 1e3, middle / 3.6e3),
        large => format!("{:.2} kWh", large / 3.6e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_is_compared_over_the_steps_that_were_measured() {
        let mut card = CardHistory::default();
        assert!(card.rows(None).is_empty());
        for (step, joules, bits) in [(11, 5_000.0, 0x1), (20, 9_000.0, 0x4), (111, 30_000.0, 0x44)] {
            let reading = Reading {
                joules: Some(joules),
                throttled_by: Some(Throttle(bits)),
                celsius: Some(60 + step as u32),
                memory_bytes: Some(3 << 30),
                ..Reading::default()
            };
            card.push(step, &reading);
        }
        let expected = ExpectedEnergy { joules_per_step: 200.0, basis: "a guess".to_owned() };
        let rows = card.rows(Some(&expected));
        assert_eq!(
            rows[0].1,
            "30.0 kJ (8.3 Wh) by NVML, of the whole card, up to step 111; 25.0 kJ (6.9 Wh) of it in steps 12 to 111, for which \
             plan expects 20.0 kJ (5.6 Wh) (a guess)"
        );
        assert_eq!(
            rows[1].1,
            "at most 171 °C; at most 3.0 GiB of its memory in use, by all programs; held back in 67 % of the readings by power \
             cap, heat, by the hardware"
        );
    }

    #[test]
    fn a_card_without_a_counter_has_no_row_of_energy() {
        let mut card = CardHistory::default();
        card.push(1, &Reading { celsius: Some(50), ..Reading::default() });
        assert_eq!(card.rows(None), [("Sensors", "at most 50 °C".to_owned())]);
        assert_eq!([5.0, 45_200.0, 4.7304e8].map(energy), ["5 J", "45.2 kJ (12.6 Wh)", "131.40 kWh"]);
    }
}
