//! `--config RECIPE.toml` for commands whose flags are not layered as those of `train` and `finetune` are: the recipe's
//! settings are put in front of the flags that were given, which therefore win.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::recipe::{Command, Recipe};

/// The command whose flags come from recipes.
const COMMAND: &str = "probe";

/// The arguments of the process, `args[0]` its name, with `--config FILE` (and `--scale-down N`) of `probe` replaced by
/// the recipe's settings.
pub fn expand(args: Vec<OsString>) -> Result<Vec<OsString>> {
    if args.get(1).is_none_or(|command| command != COMMAND) {
        return Ok(args);
    }

    // The two flags apart from the rest.
    let mut given = args.into_iter();
    let mut expanded: Vec<OsString> = given.by_ref().take(2).collect();
    let (mut config, mut scale_down, mut rest) = (None, None, Vec::new());
    while let Some(argument) = given.next() {
        match own_flag(&argument) {
            None => rest.push(argument),
            Some((flag, value)) => {
                let Some(value) = value.or_else(|| given.next()) else { bail!("{flag} needs a value") };
                *(if flag == CONFIG { &mut config } else { &mut scale_down }) = Some(value);
            }
        }
    }

    // What the recipe is divided by.
    let scale_down = match scale_down {
        None => 1,
        Some(_) if config.is_none() => {
            bail!("{SCALE_DOWN} divides what {CONFIG} says; give a recipe, or smaller numbers")
        }
        Some(text) => match text.to_str().and_then(|text| text.parse().ok()) {
            Some(number) => number,
            None => bail!("{SCALE_DOWN} {} is not a whole number", text.display()),
        },
    };

    // The recipe's flags in front of those given.
    if let Some(path) = config {
        let recipe = Recipe::read(&PathBuf::from(path))?.scaled_down(scale_down)?;
        // A list that is given replaces the recipe's; clap would put one behind the other.
        let given = |flag: &str| {
            let is = |argument: &OsString| {
                argument
                    .to_str()
                    .and_then(|text| text.strip_prefix(flag))
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            };
            rest.iter().any(is)
        };
        for flag in recipe.flags_for(Command::Probe)? {
            if !given(flag.split('=').next().unwrap_or(&flag)) {
                expanded.push(flag.into());
            }
        }
    }
    expanded.extend(rest);
    Ok(expanded)
}

const CONFIG: &str = "--config";
const SCALE_DOWN: &str = "--scale-down";

/// Which of the two flags an argument is, and its value if that is in the same argument.
fn own_flag(argument: &OsString) -> Option<(&'static str, Option<OsString>)> {
    let text = argument.to_str()?;
    [CONFIG, SCALE_DOWN].into_iter().find_map(|flag| match text.strip_prefix(flag)? {
        "" => Some((flag, None)),
        value => value.strip_prefix('=').map(|value| (flag, Some(value.into()))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_recipe_becomes_flags_in_front_of_those_given() {
        let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/probe-imagenet-xl-64-5-layers.toml");
        let given = format!("igpt-engine probe --checkpoint run --config {recipe} --data imagenet-tar:x");
        let mut expanded = expand(words(&given)).unwrap();
        let recipe_flags: Vec<_> = expanded.drain(2..8).map(|flag| flag.into_string().unwrap()).collect();
        // Less what is given.
        let mut expected =
            ["--solver=sgd", "--depth=best", "--concat=5", "--iterations=1000000", "--sgd-batch=128", "--lr=30,10,3,1"];
        expected.sort();
        let mut sorted = recipe_flags;
        sorted.sort();
        assert_eq!(sorted, expected);
        assert_eq!(expanded, words("igpt-engine probe --checkpoint run --data imagenet-tar:x"));
        let scaled = expand(words(&format!("igpt-engine probe --config={recipe} --scale-down=1000"))).unwrap();
        assert!(scaled.contains(&"--iterations=1000".into()) && scaled.contains(&"--concat=5".into()), "{scaled:?}");
    }

    #[test]
    fn other_commands_keep_their_flags_and_mistakes_are_said() {
        for text in ["igpt-engine train --config a.toml", "igpt-engine", "igpt-engine probe --configure x"] {
            assert_eq!(expand(words(text)).unwrap(), words(text));
        }
        let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/finetune-cifar10-l.toml");
        for (text, word) in [
            (format!("igpt-engine probe --config {recipe}"), "igpt-engine finetune"),
            ("igpt-engine probe --config".into(), "--config"),
            ("igpt-engine probe --scale-down 2".into(), "--config"),
            ("igpt-engine probe --config x.toml --scale-down two".into(), "two"),
            ("igpt-engine probe --config no/such.toml".into(), "no/such.toml"),
        ] {
            let message = format!("{:#}", expand(words(&text)).unwrap_err());
            assert!(message.contains(word), "{text}: {message}");
        }
    }
}
