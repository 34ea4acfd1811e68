//! What a training step asks of a card, launch by launch: written down by the step's own code, or timed on the card itself.

use super::taken::Load;
use crate::device::cuda::{Trace, TracedCard};
use crate::device::{Capture, CudaDevice, Error, Result};
use crate::model::parameter_specs;
use crate::optim::{Adam, AdamConfig};
use crate::random::{Purpose, stream};
use crate::tape::Parameters;

/// Tokens at a time beyond which a step is not traced: no card holds so many, and the host would.
const MAX_TRACED: usize = 1 << 22;

impl Load<'_> {
    /// The work of a recorded training step of one micro-batch: forward, backward and update, without what is done between two
    /// steps. The tokens are drawn evenly from the palette.
    ///
    /// # Errors
    /// [`Error::Unavailable`] in a build without kernels, and for a model that the kernels do not compute.
    pub fn traced(self, card: TracedCard) -> Result<Trace> {
        let device = CudaDevice::tracing(self.precision, card);
        self.second_step(&device, |step| {
            device.take_trace();
            drop(device.record(step)?);
            Ok(device.take_trace())
        })
    }

    /// The kernels that the same step launches on a device, in order, with their times in milliseconds.
    ///
    /// # Errors
    /// What the device fails of.
    pub fn timed(self, device: &CudaDevice) -> Result<Vec<(&'static str, f32)>> {
        self.second_step(device, |step| device.timed(step))
    }

    /// Takes a step, which makes copies of weights that the next ones find, and then what is to be done with the second one.
    fn second_step<T>(
        self,
        device: &CudaDevice,
        with: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<T>,
    ) -> Result<T> {
        let tokens = self.images.saturating_mul(self.length);
        if tokens > MAX_TRACED {
            let problem = format!("{tokens} tokens at a time are more than any card holds");
            return Err(Error::unavailable(problem, "use a smaller --batch or --resolution"));
        }
        let model = self.model()?;
        // Zeros that are never touched take no memory of the host.
        let specs = parameter_specs(self.config);
        let mut parameters = Parameters::from_fn(device, specs, |_, spec| Ok::<_, Error>(vec![0.0; spec.elements()]))?;
        let mut gradients = parameters.zeros_like(device)?;
        let mut adam = Adam::new(device, &parameters, AdamConfig::default())?;
        let (batches, criterion) = self.micro_batch(device, &model, &self.drawn_tokens())?;
        let update = adam.begin(device, 1e-3)?;

        let mut step = || {
            let losses = model.accumulate_gradients(device, &parameters, &criterion, &batches, &mut gradients)?;
            adam.apply(device, &mut parameters, &gradients, update)?;
            drop(losses);
            Ok(())
        };
        step()?;
        device.synchronize()?;
        with(&mut step)
    }

    /// Tokens of all images, each colour as likely as any other.
    fn drawn_tokens(&self) -> Vec<u16> {
        use rand::RngExt;

        let mut random = stream(0, Purpose::TracedTokens, 0, 0);
        let colours = self.config.vocabulary as u16;
        (0..self.images * self.length).map(|_| random.random_range(0..colours)).collect()
    }
}
