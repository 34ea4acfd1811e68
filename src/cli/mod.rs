//! The command line: one folder per command. Flags in, one call into the library, a report out.

mod common;
mod completions;
mod data;
mod demo;
mod doctor;
mod eval;
mod export;
mod finetune;
mod import;
mod man;
mod new;
mod plan;
mod probe;
#[cfg(target_os = "linux")]
mod profile;
mod results;
mod sample;
mod serve;
mod train;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};

use self::common::interrupt::Stopped;
use crate::plan::limits;

/// What the program is called.
const NAME: &str = env!("CARGO_PKG_NAME");

/// Train, evaluate and sample Image GPT ("Generative Pretraining from Pixels").
///
/// An image is shrunk to a few thousand pixels, each replaced by the nearest of 512
/// colours, and the colours are read in raster order by a transformer that learns to
/// predict the next one.
///
/// Start here:
///   igpt-engine train                     train a tiny model on the built-in sample (a few minutes)
///   igpt-engine sample --checkpoint RUN   complete images with what was trained
///   igpt-engine serve --checkpoint RUN    the same in the browser, pixel by pixel
///   igpt-engine demo                      everything in one walk: train, probe, fine-tune, complete; ends with a report
///   igpt-engine new PHOTOS                a configuration for your own folder of images, of a size that fits this machine
///   igpt-engine doctor                    what this machine can do, and how to get the rest
#[derive(Parser)]
#[command(version, verbatim_doc_comment, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::TrainCommand>),
    Finetune(Box<finetune::FinetuneCommand>),
    Eval(eval::EvalCommand),
    Sample(sample::SampleCommand),
    Serve(serve::ServeCommand),
    Probe(Box<probe::ProbeCommand>),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
    /// Get data sets, look at them, fit palettes, encode images
    #[command(subcommand)]
    Data(data::DataCommand),
    New(new::NewCommand),
    Plan(plan::PlanCommand),
    #[cfg(target_os = "linux")]
    Profile(profile::ProfileCommand),
    Results(results::ResultsCommand),
    Demo(demo::DemoCommand),
    Doctor(doctor::DoctorCommand),
    Completions(completions::CompletionsCommand),
    #[command(hide = true)]
    Man(man::ManCommand),
}

impl Command {
    /// Whether it works on images or tensors, with threads.
    fn computes(&self) -> bool {
        !matches!(
            self,
            Command::Plan(_) | Command::Results(_) | Command::Doctor(_) | Command::Completions(_) | Command::Man(_)
        )
    }

    /// Whether it computes or writes files, rather than print what is there.
    fn works(&self) -> bool {
        self.computes() && !matches!(self, Command::Data(data::DataCommand::Info(_)))
    }

    fn run(self) -> Result<()> {
        match self {
            Command::Train(command) => command.run(),
            Command::Finetune(command) => command.run(),
            Command::Eval(command) => command.run(),
            Command::Sample(command) => command.run(),
            Command::Serve(command) => command.run(),
            Command::Probe(command) => command.run(),
            Command::Import(args) => import::run(args),
            Command::Export(args) => export::run(args),
            Command::Data(command) => data::run(command),
            Command::New(command) => command.run(),
            Command::Plan(command) => command.run(),
            #[cfg(target_os = "linux")]
            Command::Profile(command) => command.run(),
            Command::Results(command) => command.run(),
            Command::Demo(command) => command.run(),
            Command::Doctor(command) => command.run(),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
        }
    }
}

/// The whole command line, as data: what completions and manual pages are made from.
fn command() -> clap::Command {
    Cli::command()
}

/// Starts the threads that decode and convert, one per core. Rayon would start them when they are first needed, and panic where
/// the system has none to give.
fn start_threads() -> Result<()> {
    rayon::ThreadPoolBuilder::new().build_global().context(
        "cannot start one thread per core; raise the limits on processes (ulimit -u) and memory (ulimit -v), or set \
         RAYON_NUM_THREADS=1",
    )
}

/// Prepares what is said where memory runs out before a command knows how much it needs.
fn prepare_for_exhaustion() {
    let words: Vec<String> = std::env::args_os().skip(1).take(1).map(|word| word.display().to_string()).collect();
    let remedy = "raise the limit, or give it less to do: a smaller --batch or --resolution, fewer images";
    limits::expect_work(&format!("`{NAME} {}`", words.join(" ")), remedy);
}

/// Runs the command that the process was started with.
///
/// Exit codes: 0 done (an interrupted but saved training run too), 2 anything that the user can mend, with the fix in the
/// message, 3 of several ranks where another failed or never came, 128 and the number of a signal that ended the command:
/// 130 for Ctrl-C, 143 for SIGTERM.
pub fn main() -> ExitCode {
    prepare_for_exhaustion();
    let parsed = common::recipe::expand(std::env::args_os().collect()).map(Cli::parse_from);
    let outcome = parsed.and_then(|cli| {
        common::interrupt::listen()?;
        crate::data::progress::show_with(common::counter::data_meter);
        // Here and not in `run`, which `demo` calls for each of its stages.
        if cli.command.computes() {
            start_threads()?;
        }
        if cli.command.works() {
            common::output::outlive_reader();
        }
        cli.command.run()
    });

    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has gone (`| head`): nobody is left to tell.
        Err(error) if common::output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            common::output::tell(format_args!("{}: {}", error_label(), common::output::describe(&error)));
            match error.is::<Stopped>() {
                true => Stopped::exit_code(),
                false if common::ranks::is_of_another_rank(&error) => ExitCode::from(common::ranks::FAILED),
                false => ExitCode::from(2),
            }
        }
    }
}

/// What errors begin with: red where a person looks, unless they would rather not.
fn error_label() -> &'static str {
    let red = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if red { "\x1b[1;31merror\x1b[0m" } else { "error" }
}
