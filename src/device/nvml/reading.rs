//! What the sensors of a card say at one moment.

use serde::{Deserialize, Serialize};

use super::throttle::Throttle;

/// The state of a card; what it does not give is `None`, and left out of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reading {
    /// Power that the card draws, watts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watts: Option<f64>,
    /// Its temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub celsius: Option<u32>,
    /// Clock of its multiprocessors, MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sm_mhz: Option<u32>,
    /// Clock of its memory, MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mhz: Option<u32>,
    /// Why it is not clocked higher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_by: Option<Throttle>,
    /// Bytes of its memory in use, by all programs together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Energy that it used since the run began, over all sessions, joules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
}

impl Reading {
    /// For a line of progress: `310 W, 64 °C, power cap`; empty where nothing is known.
    pub fn in_short(&self) -> String {
        let watts = self.watts.map(|watts| format!("{watts:.0} W"));
        let celsius = self.celsius.map(|celsius| format!("{celsius} °C"));
        let held = self.throttled_by.map(Throttle::holding_back).unwrap_or_default();
        let held = (!held.is_empty()).then(|| format!("held by {}", held.names().join(" and ")));
        [watts, celsius, held].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_card_does_not_give_is_left_out() {
        let reading = Reading { watts: Some(310.4), throttled_by: Some(Throttle(0x5)), ..Reading::default() };
        let text = serde_json::to_string(&reading).unwrap();
        assert_eq!(text, r#"{"watts":310.4,"throttled_by":["idle","power cap"]}"#);
        assert_eq!(serde_json::from_str::<Reading>(&text).unwrap(), reading);
        assert_eq!(reading.in_short(), "310 W, held by power cap");
        assert_eq!(Reading { celsius: Some(64), ..Reading::default() }.in_short(), "64 °C");
        assert_eq!(Reading::default().in_short(), "");
    }
}
