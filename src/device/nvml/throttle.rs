//! Why a card is not clocked higher.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Reasons as bits, as NVML gives them (`nvmlClocksThrottleReason...` of `nvml.h`); as a list of names in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle(pub u64);

/// Each reason's bit and name, and whether it holds a card back that has work. Idling, chosen clocks and a display do not: they
/// are as somebody wants it.
const REASONS: [(u64, &str, bool); 9] = [
    (0x1, "idle", false),
    (0x2, "chosen clocks", false),
    (0x4, "power cap", true),
    (0x8, "hardware slowdown", true),
    (0x10, "synchronised boost", true),
    (0x20, "heat, by the driver", true),
    (0x40, "heat, by the hardware", true),
    (0x80, "power brake", true),
    (0x100, "display clocks", false),
];

/// What a bit is called that a later NVML has added.
const OTHER: &str = "other";

/// The bit that stands for those.
const OTHER_BIT: u64 = 1 << 63;

impl Throttle {
    /// The reasons in words.
    pub fn names(self) -> Vec<&'static str> {
        let mut names: Vec<_> =
            REASONS.iter().filter(|(bit, ..)| self.0 & bit != 0).map(|(_, name, _)| *name).collect();
        if self.0 & !REASONS.iter().fold(0, |all, (bit, ..)| all | bit) != 0 {
            names.push(OTHER);
        }
        names
    }

    /// Those of them that hold back a card that has work.
    pub fn holding_back(self) -> Self {
        let wanted = REASONS.iter().filter(|(_, _, holds)| !holds).fold(0, |all, (bit, ..)| all | bit);
        Self(self.0 & !wanted)
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Of both.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Serialize for Throttle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.names().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Throttle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        names.iter().try_fold(Self::default(), |all, name| {
            let known = REASONS.iter().find(|(_, known, _)| known == name).map(|(bit, ..)| *bit);
            let bit = known.or_else(|| (name == OTHER).then_some(OTHER_BIT));
            bit.map(|bit| all.with(Self(bit))).ok_or_else(|| de::Error::custom(format!("unknown reason '{name}'")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_come_back_as_they_were_written() {
        for bits in [0, 0x4, 0x1 | 0x20, 0x1FF, OTHER_BIT | 0x8] {
            let text = serde_json::to_string(&Throttle(bits)).unwrap();
            assert_eq!(serde_json::from_str::<Throttle>(&text).unwrap(), Throttle(bits), "{text}");
        }
        assert_eq!(serde_json::to_string(&Throttle(0x44)).unwrap(), r#"["power cap","heat, by the hardware"]"#);
        assert_eq!(Throttle(1 << 40).names(), ["other"]);
        assert!(serde_json::from_str::<Throttle>(r#"["boredom"]"#).is_err());
    }

    #[test]
    fn an_idle_card_is_not_held_back() {
        assert!(Throttle(0x1 | 0x2 | 0x100).holding_back().is_empty());
        assert_eq!(Throttle(0x1 | 0x4).holding_back().names(), ["power cap"]);
    }
}
