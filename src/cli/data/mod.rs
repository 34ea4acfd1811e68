//! `igpt-engine data`: get data sets, look at them, fit a palette, encode images to tokens.

mod args;
mod output;

use anyhow::{Context, Result};

pub use args::DataCommand;
use args::{BenchArgs, Downloadable, EncodeArgs, FetchArgs, InfoArgs, PaletteArgs};

use crate::data::{
    Encoding, FitOptions, InspectOptions, Measurement, OpenOptions, data_named, fetch_cifar10, fit_palette, inspect,
};

/// Runs one of the commands.
///
/// # Errors
/// Those of [`crate::data`], with what was being done.
pub fn run(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Fetch(args) => fetch(&args),
        DataCommand::Info(args) => info(&args),
        DataCommand::Palette(args) => palette(&args),
        DataCommand::Encode(args) => encode(&args),
        DataCommand::Bench(args) => bench(&args),
    }
}

fn fetch(args: &FetchArgs) -> Result<()> {
    let Downloadable::Cifar10 = args.dataset;
    let fetched = fetch_cifar10(&args.out, args.via, !args.json)?;
    output::fetched(&fetched, &args.out, args.json)
}

fn info(args: &InfoArgs) -> Result<()> {
    let spec = data_named(&args.what)?;
    let skip_bad = args.skip_bad.unwrap_or_default();
    let contents = inspect(&spec, InspectOptions { verify: args.verify, skip_bad, progress: !args.json })?;
    output::contents(&contents, args.json)
}

fn palette(args: &PaletteArgs) -> Result<()> {
    let options = args.images.options(None)?;
    let fit =
        FitOptions { colours: args.colours, seed: args.seed, iterations: args.iterations, ..FitOptions::default() };
    let fitted = fit_palette(&args.images.data, &options, &fit)?;

    fitted.palette.save(&args.out)?;
    if let Some(path) = &args.swatch {
        fitted.palette.swatch(16).save(path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    output::palette(&fitted, &args.out, args.images.json)
}

fn encode(args: &EncodeArgs) -> Result<()> {
    let options = args.images.options(args.palette.as_ref())?;
    let encoding = Encoding {
        data: args.images.data.clone(),
        split: args.split,
        options: OpenOptions { holdout: args.holdout, seed: args.seed, ..options },
        workers: args.workers,
        out: args.out.clone(),
        labels_out: args.labels_out.clone(),
    };
    output::encoded(&encoding, &encoding.run()?, args.images.json)
}

fn bench(args: &BenchArgs) -> Result<()> {
    let options = args.images.options(args.palette.as_ref())?;
    let measurement = Measurement {
        data: args.images.data.clone(),
        options: OpenOptions { seed: args.seed, ..options },
        workers: args.workers,
        batch: args.batch,
        seconds: args.seconds,
    };
    output::throughput(&measurement.run()?, args.images.json)
}
