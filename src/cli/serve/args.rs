//! The flags of `serve`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::checkpoint::images::ImageSelection;
use crate::cli::common::device::DeviceArgs;
use crate::cli::common::first_model;
use crate::cli::common::named::named;
use crate::data::{Alpha, DataSpec, Filter};
use crate::serve::Settings;

/// Most completions that a drawing may be allowed.
const MAX_IMAGES: usize = 256;

/// Serve one page on which a model completes your pictures, pixel by pixel
///
/// Open the address that it prints. Drop a picture on the page, drag the edge of what is kept (of
/// a BERT model: paint what is to be guessed), choose temperature, top-k and seed, and watch the
/// completions being drawn; beside them are the run's curves, samples and probe. Everything comes
/// from this program: nothing is loaded from elsewhere, and no picture goes anywhere else.
///
/// It listens on this machine alone. With --host others can reach it, and whoever reaches it can
/// use it: there is no password. To a server, a tunnel is better:
/// `ssh -L 8000:localhost:8000 SERVER`. One drawing is made at a time, and a few wait. Ctrl-C ends it.
///
///   igpt-engine serve --checkpoint RUN
///   igpt-engine serve --checkpoint RUN --port 0 --json      a free port, and the address for a script
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct ServeCommand {
    /// A checkpoint, a run (its best or latest checkpoint is taken), or a Hugging Face ImageGPT folder; without it you are told
    /// how to make one in a minute
    #[arg(long, value_name = "DIR")]
    pub(super) checkpoint: Option<PathBuf>,
    /// Draw with the moving average of the weights, which `train --ema` keeps, instead of the weights
    #[arg(long)]
    pub(super) ema: bool,
    /// Colours that pictures are quantised to [default: those saved with the model, else the built-in ones]
    #[arg(long, value_name = "FILE.npy")]
    pub(super) palette: Option<PathBuf>,
    /// How pictures are shrunk [default: as in the run, else bilinear]
    #[arg(long, value_parser = named::<Filter>())]
    pub(super) filter: Option<Filter>,
    /// What becomes of the alpha of pictures: dropped, or the picture laid over white or black [default: as in the run, else
    /// drop]
    #[arg(long, value_parser = named::<Alpha>())]
    pub(super) alpha: Option<Alpha>,
    /// Name or address to listen on; 0.0.0.0 is every network that this machine is in. The page answers to that name, to
    /// localhost and to addresses, and to no other Host
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub(super) host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8000)]
    pub(super) port: u16,
    /// Completions of a drawing at most; more take more memory
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(super) max_images: usize,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    /// Print the address as a JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl ServeCommand {
    /// What the flags say, for the library.
    ///
    /// # Errors
    /// No checkpoint, and how to come by one; a number that makes no sense.
    pub(super) fn settings(&self) -> Result<Settings> {
        if !(1..=MAX_IMAGES).contains(&self.max_images) {
            bail!("--max-images must be from 1 to {MAX_IMAGES}");
        }
        let checkpoint = first_model::named(self.checkpoint.as_deref(), "serve")?;
        let images = ImageSelection {
            palette: self.palette.clone(),
            filter: self.filter,
            alpha: self.alpha,
            ..ImageSelection::test_images(DataSpec::Sample)
        };
        let (host, port, max_images) = (self.host.clone(), self.port, self.max_images);
        Ok(Settings { checkpoint, ema: self.ema, images, host, port, max_images })
    }
}
