//! A flag that does nothing is an error: who gave it expects something of it.

use anyhow::{Result, bail};

/// Refuses the first of `flags` that was given; `why` says with what it does nothing.
pub fn refuse_given(why: &str, flags: &[(&str, bool)]) -> Result<()> {
    match flags.iter().find(|(_, given)| *given) {
        Some((flag, _)) => bail!("--{flag} does nothing {why}; leave it out"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_flag_that_was_given_is_named() {
        assert!(refuse_given("here", &[("a", false)]).is_ok());
        let text = refuse_given("here", &[("a", false), ("b", true), ("c", true)]).unwrap_err().to_string();
        assert_eq!(text, "--b does nothing here; leave it out");
    }
}
