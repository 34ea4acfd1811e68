//! `igpt-engine completions`: what a shell needs to complete commands and flags on Tab.

use std::io::Write;

use anyhow::{Context, Result};
use clap::Args;
use clap_complete::Shell;

/// Print a completion script for a shell: bash, zsh, fish, elvish or powershell
///
/// The shell then completes commands, flags and their values on Tab:
///   igpt-engine completions bash > ~/.local/share/bash-completion/completions/igpt-engine
///   igpt-engine completions zsh > ~/.zfunc/_igpt-engine          (with fpath+=~/.zfunc before compinit in ~/.zshrc)
///   igpt-engine completions fish > ~/.config/fish/completions/igpt-engine.fish
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct CompletionsCommand {
    /// The shell that reads the script
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        // Into memory first: the generator panics on a closed pipe.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), super::NAME, &mut script);
        let mut script = String::from_utf8(script).context("the completion script is not UTF-8")?;

        // Its bash scripts spell a program's name with a hyphen in two ways, and then complete nothing behind a command
        // (clap issue 6421, open in clap_complete 4.6.11). A script that is right already stays as it is.
        if self.shell == Shell::Bash {
            let [wrong, right] = ["__subcmd__", "__"].map(|separator| super::NAME.replace('-', separator));
            script = script.replace(&wrong, &right);
        }
        std::io::stdout().write_all(script.as_bytes()).context("cannot write to standard output")
    }
}
