//! `--scale-down N`: the same recipe for a machine that is N times smaller, to see that it runs and what it does.
//!
//! Divided by N and rounded down, but at least 1: layers, batch, accumulated micro-batches, steps, warm-up and all that is
//! counted in steps. The width is divided too, to a multiple of 8 and at least 16, with as many heads of the old size as fit
//! it; the resolution by √N, and at least 8, so that an image's tokens are divided by about N. What is not a size stays:
//! learning rate, schedule, objective, data.

use toml::Table;

use crate::model::Preset;

/// Maximum N: more would leave nothing of iGPT-XL to divide.
pub const MAX_SCALE: u64 = 1024;

/// Counted in steps or images.
const COUNTS: [&str; 11] = [
    "batch",
    "accumulate",
    "steps",
    "warmup",
    "cooldown",
    "eval-every",
    "eval-images",
    "eval-batch",
    "sample-every",
    "save-every",
    "iterations",
];

/// Why a recipe cannot be scaled.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ScaleError {
    /// N is out of range.
    #[error("the number to divide by must be from 1 to {MAX_SCALE}")]
    By,
    /// A setting is not a number.
    #[error("{0}")]
    Value(String),
}

/// A setting that is a whole number of at least 0.
pub(super) fn number(settings: &Table, key: &str) -> Result<Option<u64>, String> {
    let Some(value) = settings.get(key) else { return Ok(None) };
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.map(Some).ok_or_else(|| format!("{key} = {value} must be a whole number, 0 or more"))
}

/// Divides the sizes among the settings of a recipe by `by`, as the module says. The model's are only divided where the
/// recipe names a model: one that is read from a checkpoint has its size.
///
/// # Errors
/// [`ScaleError`].
pub fn scale_down(settings: &mut Table, by: u64) -> Result<(), ScaleError> {
    if !(1..=MAX_SCALE).contains(&by) {
        return Err(ScaleError::By);
    }
    if by == 1 {
        return Ok(());
    }

    for key in COUNTS {
        match number(settings, key).map_err(ScaleError::Value)? {
            // Zero means "never" or "all".
            None | Some(0) => {}
            Some(value) => set(settings, key, (value / by).max(1)),
        }
    }

    let Some(model) = settings.get("model").cloned() else { return Ok(()) };
    let preset: Preset =
        model.try_into().map_err(|error: toml::de::Error| ScaleError::Value(error.message().into()))?;
    let (layers, width, heads) = preset.shape();
    let given =
        |key: &str, preset: usize| Ok(number(settings, key).map_err(ScaleError::Value)?.unwrap_or(preset as u64));
    let (layers, width, heads) = (given("layers", layers)?, given("width", width)?, given("heads", heads)?);

    // The width to a multiple of 8, with as many heads as divide it.
    let narrow = (width / by / 8 * 8).max(16);
    let mut fewer = (narrow * heads / width.max(1)).max(1);
    while !narrow.is_multiple_of(fewer) {
        fewer -= 1;
    }

    set(settings, "layers", (layers / by).max(1));
    set(settings, "width", narrow);
    set(settings, "heads", fewer);
    if let Some(resolution) = number(settings, "resolution").map_err(ScaleError::Value)? {
        set(settings, "resolution", (resolution / by.isqrt()).max(8).min(resolution));
    }
    Ok(())
}

fn set(settings: &mut Table, key: &str, value: u64) {
    settings.insert(key.to_owned(), toml::Value::Integer(value as i64));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_shrink_and_the_rest_stays() {
        let mut settings: Table = toml::from_str(
            "model = \"l\"\nresolution = 48\nbatch = 128\nsteps = 1000000\nwarmup = 9609\nlr = 0.01\nsample-every = 0",
        )
        .unwrap();
        scale_down(&mut settings, 8).unwrap();
        let expected: Table = toml::from_str(
            "model = \"l\"\nlayers = 6\nwidth = 192\nheads = 2\nresolution = 24\nbatch = 16\nsteps = 125000\n\
             warmup = 1201\nlr = 0.01\nsample-every = 0",
        )
        .unwrap();
        assert_eq!(settings, expected);
        let before = settings.clone();
        scale_down(&mut settings, 1).unwrap();
        assert_eq!(settings, before);
        assert_eq!(scale_down(&mut settings, 0), Err(ScaleError::By));
        assert_eq!(scale_down(&mut settings, 1025), Err(ScaleError::By));
    }

    #[test]
    fn every_preset_survives_every_scale() {
        for model in ["tiny", "s", "m", "l", "xl"] {
            for by in 1..=MAX_SCALE {
                let mut settings: Table = toml::from_str(&format!("model = \"{model}\"\nresolution = 64")).unwrap();
                scale_down(&mut settings, by).unwrap();
                let path = format!("{model} / {by}");
                let recipe = super::super::Recipe::parse(&path, &toml::to_string(&settings).unwrap()).unwrap();
                recipe.model().unwrap_or_else(|error| panic!("{path}: {error}"));
            }
        }
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        for text in ["batch = -1", "steps = \"many\"", "model = \"xxl\"", "model = \"s\"\nlayers = 0.5"] {
            let mut settings: Table = toml::from_str(text).unwrap();
            assert!(matches!(scale_down(&mut settings, 2), Err(ScaleError::Value(_))), "{text}");
        }
    }
}
