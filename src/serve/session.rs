//! A served model: loaded, listening, drawing.

use std::net::{SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::canvas::Canvas;
use super::drawing::Event;
use super::error::ServeError;
use super::http::{Hosts, Server};
use super::queue::{Job, Queue};
use super::routes::Site;
use super::run_panel::RunPanel;
use crate::checkpoint;
use crate::checkpoint::images::{ChosenPalette, ImageSelection, resolution_of};
use crate::data::DataSpec;
use crate::device::Device;
use crate::model::{ModelConfig, Transformer};
use crate::run::checkpoints;
use crate::run::images::TrainedOn;
use crate::tape::Parameters;

type Result<T> = std::result::Result<T, ServeError>;

/// How often a server without work looks whether it shall stop.
const IDLE: Duration = Duration::from_millis(100);
/// What answers under way are given when it stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is served, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A checkpoint, a run, or a Hugging Face folder.
    pub checkpoint: PathBuf,
    /// Whether the moving average of the weights draws, which a run with `ema` keeps, instead of the weights.
    pub ema: bool,
    /// The palette, filter and alpha of pictures.
    pub images: ImageSelection,
    /// Name or address to listen on.
    pub host: String,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Completions of a drawing at most.
    pub max_images: usize,
}

impl Settings {
    /// A checkpoint on a free port of this machine alone, up to 16 completions at a time.
    pub fn new(checkpoint: &Path) -> Self {
        Self {
            checkpoint: checkpoint.to_owned(),
            ema: false,
            images: ImageSelection::test_images(DataSpec::Sample),
            host: "127.0.0.1".to_owned(),
            port: 0,
            max_images: 16,
        }
    }
}

/// A model that is loaded and can be served.
pub struct Session<'a, D: Device> {
    device: &'a D,
    settings: Settings,
    parameters: Parameters<D>,
    canvas: Arc<Canvas>,
    /// The run, if the checkpoint is of one.
    root: Option<PathBuf>,
    notes: Vec<String>,
}

impl<'a, D: Device> Session<'a, D> {
    /// Loads the model.
    ///
    /// # Errors
    /// Whatever cannot be read or does not go together.
    pub fn open(device: &'a D, mut settings: Settings) -> Result<Self> {
        let folder = checkpoints::resolve(&settings.checkpoint)?;
        let load = if settings.ema { checkpoint::load_averaged_model } else { checkpoint::load_model };
        let (config, parameters) = load(device, &folder)?;
        checkpoint::require_token_head(&folder, "draw images")?;
        let side = resolution_of(&config)?;
        let model = Transformer::new(config)?;

        if model.config().sos {
            model.prepare_decoding(device, &parameters)?;
        }

        // Pictures become what the run's were.
        let run = TrainedOn::of(&settings.checkpoint)?;
        if let Some(run) = &run {
            settings.images = run.complete(&settings.images);
        }
        let ChosenPalette { palette, note } = settings.images.palette(&folder)?;
        let canvas = Canvas::new(model, side, palette, &settings.images, &folder, settings.max_images);
        let root = run.map(|run| run.root);
        Ok(Self { device, settings, parameters, canvas: Arc::new(canvas), root, notes: note.into_iter().collect() })
    }

    /// What people should know: an assumed palette.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The model's configuration.
    pub fn model(&self) -> &ModelConfig {
        self.canvas.config()
    }

    /// Takes the address; from here on the system keeps who connects.
    ///
    /// # Errors
    /// [`ServeError::Listen`].
    pub fn listen(&self) -> Result<Listening> {
        let Settings { host, port, .. } = &self.settings;
        let bind = || {
            let listener = TcpListener::bind((host.as_str(), *port))?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let failed = |source| ServeError::Listen { host: host.clone(), port: *port, source };
        let (listener, address) = bind().map_err(failed)?;
        Ok(Listening { listener, address })
    }

    /// Serves until `stop` is set, which also ends the drawing under way.
    ///
    /// # Errors
    /// [`ServeError::Thread`].
    pub fn run(&self, listening: Listening, stop: &AtomicBool) -> Result<()> {
        let queue = Arc::new(Queue::default());
        let Settings { checkpoint, host, .. } = &self.settings;
        let site = Site {
            canvas: Arc::clone(&self.canvas),
            panel: RunPanel::new(checkpoint, self.root.clone(), self.model().vocabulary),
            queue: Arc::clone(&queue),
            name: checkpoint.display().to_string(),
            device: self.device.describe(),
            uploads: AtomicUsize::new(0),
        };
        let hosts = Hosts::new(host, listening.is_loopback());
        let server = Server::new(hosts, Box::new(move |head, connection| site.answer(head, connection)));

        // It ends with the process.
        let acceptor = Arc::clone(&server);
        let accept = move || acceptor.accept(&listening.listener);
        thread::Builder::new().name("accept".to_owned()).spawn(accept).map_err(ServeError::Thread)?;

        while !stop.load(Ordering::Relaxed) {
            if let Some(job) = queue.next(IDLE) {
                self.draw(&job, stop);
            }
        }
        queue.clear();
        server.drain(FAREWELL);
        Ok(())
    }

    /// Draws for a client, as long as it is there.
    fn draw(&self, job: &Job, stop: &AtomicBool) {
        job.tell(Event::Drawing);
        let drawn = job.drawing.draw(self.device, &self.canvas, &self.parameters, |event| {
            job.tell(event);
            let ends = job.is_cancelled() || stop.load(Ordering::Relaxed);
            if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match drawn {
            Ok(Some(done)) => job.tell(done),
            // The client is gone, or sees its events end.
            Ok(None) => {}
            Err(error) => job.tell(Event::Failed { message: error.to_string() }),
        }
    }
}

/// An address that was taken.
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Where the page is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether only this machine reaches it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}
