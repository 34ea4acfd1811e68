//! `igpt-engine man`: the manual pages, one for the program and one per command.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::common::output::say;
use crate::fs::atomic_dir;

/// Write the manual pages into a folder: igpt-engine.1, igpt-engine-train.1 and so on
///
/// They hold the text of --help. `man` finds them where MANPATH says, for example:
///   igpt-engine man --out ~/.local/share/man/man1 && man igpt-engine-train
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct ManCommand {
    /// Folder for the pages; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "man")]
    out: PathBuf,
}

impl ManCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let out = self.out.display();
        atomic_dir::check_folder(&self.out).and_then(|()| atomic_dir::make_folder(&self.out))?;
        clap_mangen::generate_to(super::command(), &self.out)
            .with_context(|| format!("cannot write manual pages to {out}"))?;
        say(format_args!("manual pages are in {out}; read one with: man {out}/{}-train.1", super::NAME))
    }
}
