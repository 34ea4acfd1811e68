//! What a run changes from step to step, before its next step: from a checkpoint or from a seed, whole or a rank's parts of it.

use std::path::Path;

use super::TrainError;
use super::buckets::{Buckets, Parts};
use super::settings::Settings;
use super::setup::{Origin, refuse, shape};
use crate::checkpoint::{self, Progress};
use crate::device::{self, Device};
use crate::model::{ModelConfig, OnHost, parameter_specs};
use crate::optim::{Adam, AdamConfig, Average, Skipped};
use crate::tape::{ParameterSpec, Parameters};

type Result<T> = std::result::Result<T, TrainError>;

/// Weights, optimiser and counters before the next step.
pub(super) struct State<D: Device> {
    /// What the model computes with; with ZeRO zero, until ranks have put their parts together.
    pub parameters: Parameters<D>,
    /// With ZeRO, this rank's parts of the weights. Moments and average are then of them.
    pub masters: Option<Parameters<D>>,
    /// Moments and counters.
    pub adam: Adam<D>,
    /// The moving average of the parameters, if the settings ask for one.
    pub average: Option<Average<D>>,
    /// How far training has come.
    pub progress: Progress,
    /// A number for all of the weights, to compare ranks by.
    pub fingerprint: u64,
}

impl<D: Device> State<D> {
    /// The resumed run's state, the initial checkpoint's, or a fresh one; of `buckets`, this rank's parts of it.
    pub fn of(
        device: &D,
        origin: &Origin,
        config: &ModelConfig,
        settings: &Settings,
        buckets: Option<&Buckets>,
    ) -> Result<Self> {
        let specs = parameter_specs(config);
        let weights = OnHost::weights(device, settings.offload_optimizer, buckets.is_some());
        let places = [weights, OnHost::moments(settings.offload_optimizer)];
        let receiver = |on_host| Receiver::new(device, &specs, buckets, on_host);
        let Read { weights, average, moments: [first, second], mut progress } = match &origin.latest {
            Some(folder) => resumed(folder, config, settings, receiver, places)?,
            None => fresh(origin, config, settings, receiver, places)?,
        };

        // A run that was ended by skipped steps has as many again.
        if progress.skipped.in_a_row >= settings.max_skipped {
            progress.skipped = Skipped { in_a_row: 0, ..progress.skipped };
        }
        let adam_config = AdamConfig { clip: settings.clip, ..AdamConfig::default() };
        let adam = Adam::resume(device, adam_config, first, second, progress.step, progress.skipped)?;

        // The average starts at the weights.
        let mut fingerprint = weights.fingerprint;
        let own = weights.finish()?;
        let average = match (settings.ema, average) {
            (Some(decay), Some(saved)) => Some(Average::resume(saved.finish()?, decay)),
            (Some(decay), None) => Some(Average::new(device, &own, decay)?),
            (None, _) => None,
        };
        let (parameters, masters) = match buckets {
            Some(buckets) => (buckets.weights(device, &specs)?, Some(own)),
            None => {
                let norm = device.download(&device.global_norm(own.values())?)?;
                fingerprint = norm.iter().fold(0, |bits, norm| bits << 32 | u64::from(norm.to_bits()));
                (own, None)
            }
        };
        Ok(Self { parameters, masters, adam, average, progress, fingerprint })
    }
}

/// What was read, or made.
struct Read<'a, D: Device> {
    weights: Receiver<'a, D>,
    average: Option<Receiver<'a, D>>,
    moments: [Vec<D::Tensor>; 2],
    progress: Progress,
}

/// What a resumed run has in `folder`.
fn resumed<'a, D: Device>(
    folder: &Path,
    config: &ModelConfig,
    settings: &Settings,
    receiver: impl Fn(OnHost) -> Receiver<'a, D>,
    [weights_on_host, moments_on_host]: [OnHost; 2],
) -> Result<Read<'a, D>> {
    check_saved(folder, config)?;
    let mut weights = receiver(weights_on_host);
    checkpoint::each_weight(folder, config, &mut |index, values| Ok(weights.put(index, &values)?))?;
    let mut moments = [receiver(moments_on_host), receiver(moments_on_host)];
    let progress =
        checkpoint::each_moment(folder, config, &mut |which, index, values| Ok(moments[which].put(index, &values)?))?;

    let mut average = settings.ema.map(|_| receiver(OnHost::Nothing));
    if let Some(average) = &mut average {
        checkpoint::each_averaged_weight(folder, config, &mut |index, values| Ok(average.put(index, &values)?))?;
    }
    let [first, second] = moments;
    let moments = [first.finish()?.into_values(), second.finish()?.into_values()];
    Ok(Read { weights, average, moments, progress })
}

/// What a new run starts with, at step 0: weights of a checkpoint or of the seed, moments of zero.
fn fresh<'a, D: Device>(
    origin: &Origin,
    config: &ModelConfig,
    settings: &Settings,
    receiver: impl Fn(OnHost) -> Receiver<'a, D>,
    [weights_on_host, moments_on_host]: [OnHost; 2],
) -> Result<Read<'a, D>> {
    let mut weights = receiver(weights_on_host);
    match &origin.init {
        Some(init) => {
            checkpoint::each_weight_of_body(init, config, &mut |index, values| Ok(weights.put(index, &values)?))?;
        }
        None => {
            for (index, spec) in weights.specs.iter().enumerate() {
                weights.put(index, &spec.initial_values(settings.seed, index))?;
            }
        }
    }
    let moments = [receiver(moments_on_host).zeros()?, receiver(moments_on_host).zeros()?];
    Ok(Read { weights, average: None, moments, progress: Progress::default() })
}

/// Refuses a saved model that is another than `config`.
fn check_saved(folder: &Path, config: &ModelConfig) -> Result<()> {
    let saved = checkpoint::load_config(folder)?;
    if saved.vocabulary != config.vocabulary {
        let (colours, now) = (saved.vocabulary, config.vocabulary);
        return refuse(format!(
            "{} was trained with a palette of {colours} colours, and the palette is one of {now} now; go on with the \
             palette that the run was started with",
            folder.display()
        ));
    }
    if saved != *config {
        let (held, wanted) = (shape(&saved), shape(config));
        return refuse(format!("{} holds a model of {held}; this run's is {wanted}", folder.display()));
    }
    Ok(())
}

/// Something that every parameter has one of, on its way to the device: all of it, or a rank's parts.
struct Receiver<'a, D: Device> {
    device: &'a D,
    specs: &'a [ParameterSpec],
    kept: Kept<'a, D>,
    on_host: OnHost,
    /// Of parts: a number for all that came.
    fingerprint: u64,
}

enum Kept<'a, D: Device> {
    Whole(Vec<D::Tensor>),
    Parts(Parts<'a>),
}

impl<'a, D: Device> Receiver<'a, D> {
    fn new(device: &'a D, specs: &'a [ParameterSpec], buckets: Option<&'a Buckets>, on_host: OnHost) -> Self {
        let kept = match buckets {
            None => Kept::Whole(Vec::with_capacity(specs.len())),
            Some(buckets) => Kept::Parts(Parts::of(buckets)),
        };
        Self { device, specs, kept, on_host, fingerprint: 0 }
    }

    /// Takes that of parameter `index`; they come in order.
    fn put(&mut self, index: usize, values: &[f32]) -> device::Result<()> {
        match &mut self.kept {
            Kept::Whole(tensors) => tensors.push(self.on_host.upload(self.device, &self.specs[index], values)?),
            Kept::Parts(parts) => {
                // FNV-1a over words: what all ranks have read, of which each keeps another part.
                let mix = |hash: u64, value: &f32| (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3);
                self.fingerprint = values.iter().fold(self.fingerprint, mix);
                parts.put(index, values);
            }
        }
        Ok(())
    }

    fn finish(self) -> device::Result<Parameters<D>> {
        match self.kept {
            Kept::Whole(tensors) => Ok(Parameters::of(self.specs.to_vec(), tensors)),
            Kept::Parts(parts) => parts.upload(self.device, self.on_host),
        }
    }

    /// Zeros of as many tensors.
    fn zeros(self) -> device::Result<Vec<D::Tensor>> {
        match self.kept {
            Kept::Whole(_) => self.specs.iter().map(|spec| self.on_host.zeros(self.device, spec)).collect(),
            Kept::Parts(parts) => Ok(parts.upload(self.device, self.on_host)?.into_values()),
        }
    }
}
