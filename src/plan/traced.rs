//! What a step of training or of drawing asks of a card, launch by launch: written down by the step's own code, or timed on the card
//! itself.

use super::memory::Work;
use super::taken::Load;
use crate::device::cuda::{Trace, TracedCard};
use crate::device::{CudaDevice, Error, Result, SampleOps, SampleOptions, Tensors};
use crate::model::parameter_specs;
use crate::optim::{Adam, AdamConfig};
use crate::random::{Purpose, stream};
use crate::sample::Decoder;
use crate::tape::Parameters;

/// Tokens at a time beyond which a step is not traced: no card holds so many, and the host would.
const MAX_TRACED: usize = 1 << 22;

impl Load<'_> {
    /// The work of a training step of one micro-batch: forward, backward and update, without what is done between two steps. Of sampling,
    /// that of drawing one pixel of each image: the one in the middle, where a step reads what steps read on average. The tokens are drawn
    /// evenly from the palette.
    ///
    /// # Errors
    /// [`Error::Unavailable`] in a build without kernels, and for a model that the kernels do not compute.
    pub fn traced(self, card: TracedCard) -> Result<Trace> {
        let device = CudaDevice::tracing(self.precision, card);
        self.second_step(&device, |step| {
            device.take_trace();
            step()?;
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
        match self.work {
            Work::Training => self.second_training_step(device, with),
            Work::Sampling => self.second_pixel(device, with),
            Work::Forward => Err(Error::unavailable(
                "nobody asks what a forward pass launches",
                "trace a step of training or of drawing",
            )),
        }
    }

    fn second_training_step<T>(
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
        let mut parameters = self.untouched(device)?;
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

    /// The same of drawing, behind a prompt of half an image.
    fn second_pixel<T>(
        self,
        device: &CudaDevice,
        with: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<T>,
    ) -> Result<T> {
        let Self { images, length, .. } = self;
        if !self.config.sos || length < 4 {
            return Err(Error::unavailable("only autoregressive models draw", "give one, of 4 tokens or more"));
        }
        let (model, parameters) = (self.model()?, self.untouched(device)?);
        let prompt = length / 2 - 1;
        let prompts: Vec<u16> =
            self.drawn_tokens().chunks(length).flat_map(|image| &image[..prompt]).copied().collect();
        let decoder = Decoder::prompted(device, &model, &parameters, images, &prompts, length)?;
        // A graph's launches are not timed one by one.
        let mut decoder = decoder.with_graphs(false);

        let mut ids = vec![0; images];
        let uniforms = vec![0.5; images];
        let mut step = || {
            let logits = decoder.step(&ids)?;
            ids = device.download_tokens(&device.sample(&logits, SampleOptions::PLAIN, &uniforms)?)?;
            Ok(())
        };
        step()?;
        device.synchronize()?;
        with(&mut step)
    }

    /// Parameters that are zeros: what is never touched takes no memory of the host.
    fn untouched(self, device: &CudaDevice) -> Result<Parameters<CudaDevice>> {
        let specs = parameter_specs(self.config);
        Parameters::from_fn(device, specs, |_, spec| Ok::<_, Error>(vec![0.0; spec.elements()]))
    }

    /// Tokens of all images, each colour as likely as any other.
    fn drawn_tokens(&self) -> Vec<u16> {
        use rand::RngExt;

        let mut random = stream(0, Purpose::TracedTokens, 0, 0);
        let colours = self.config.vocabulary as u16;
        (0..self.images * self.length).map(|_| random.random_range(0..colours)).collect()
    }
}
