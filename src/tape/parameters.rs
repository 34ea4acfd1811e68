//! Parameters: names, shapes, how each starts, their ids, and their values on a device.
//!
//! A tape knows parameters by [`ParameterId`]. Which ones there are is the model's affair: it hands in a list of
//! [`ParameterSpec`], and ids count within that list.

use rand_distr::{Distribution, StandardNormal};

use crate::device::{Device, Result};
use crate::random::{self, Purpose};

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zero: the token head, and biases.
    Zero,
    /// All one: gains.
    One,
    /// Normal with mean zero and this standard deviation.
    Normal(f64),
}

/// Name, shape and start of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Hugging Face's name, e.g. `transformer.h.0.attn.c_attn.weight`.
    pub name: String,
    /// Dimensions, row-major.
    pub shape: Vec<usize>,
    /// How it starts.
    pub init: Init,
}

impl ParameterSpec {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The starting values, row-major. Parameter number `index` draws from a stream of its own, so adding a parameter
    /// leaves the others' values alone.
    pub fn initial_values(&self, seed: u64, index: usize) -> Vec<f32> {
        match self.init {
            Init::Zero => vec![0.0; self.elements()],
            Init::One => vec![1.0; self.elements()],
            Init::Normal(std) => {
                let mut rng = random::stream(seed, Purpose::InitialValues, 0, index as u64 + 1);
                (0..self.elements())
                    .map(|_| {
                        let normal: f64 = StandardNormal.sample(&mut rng);
                        (std * normal) as f32
                    })
                    .collect()
            }
        }
    }
}

/// Index of a parameter within the list of specs that it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParameterId(pub usize);

/// A linear layer's weight and, where the model has them, bias.
#[derive(Clone, Copy, Debug)]
pub struct LinearIds {
    /// Weight.
    pub weight: ParameterId,
    /// Bias `[out]`.
    pub bias: Option<ParameterId>,
}

/// A norm's gain and, for the mean-centred norm of a model with biases, bias.
#[derive(Clone, Copy, Debug)]
pub struct NormIds {
    /// Gain `[d]`.
    pub gain: ParameterId,
    /// Bias `[d]`.
    pub bias: Option<ParameterId>,
}

/// Parameters on a device.
pub struct Parameters<D: Device> {
    specs: Vec<ParameterSpec>,
    values: Vec<D::Tensor>,
}

impl<D: Device> Parameters<D> {
    /// Fresh parameters, initialised from `seed`.
    pub fn init(device: &D, specs: Vec<ParameterSpec>, seed: u64) -> Result<Self> {
        Self::from_fn(device, specs, |index, spec| Ok::<_, crate::device::Error>(spec.initial_values(seed, index)))
    }

    /// Parameters of these specs and values.
    pub fn of(specs: Vec<ParameterSpec>, values: Vec<D::Tensor>) -> Self {
        Self { specs, values }
    }

    /// Parameters of these specs, whose values `values(index, spec)` gives, row-major, one at a time.
    pub fn from_fn<E: From<crate::device::Error>>(
        device: &D,
        specs: Vec<ParameterSpec>,
        mut values: impl FnMut(usize, &ParameterSpec) -> std::result::Result<Vec<f32>, E>,
    ) -> std::result::Result<Self, E> {
        let values = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| Ok(device.upload(&spec.shape, &values(index, spec)?)?))
            .collect::<std::result::Result<_, E>>()?;
        Ok(Self { specs, values })
    }

    /// A zeroed tensor per parameter, in the same order: gradients, or an optimiser's moments.
    pub fn zeros_like(&self, device: &D) -> Result<Vec<D::Tensor>> {
        self.specs.iter().map(|spec| device.zeros(&spec.shape)).collect()
    }

    /// The same parameters in memory of their own.
    pub fn copied(&self, device: &D) -> Result<Self> {
        let mut values = self.zeros_like(device)?;
        for (copy, value) in values.iter_mut().zip(&self.values) {
            device.add_assign(copy, value)?;
        }
        Ok(Self { specs: self.specs.clone(), values })
    }

    /// The value of one parameter.
    pub fn get(&self, id: ParameterId) -> &D::Tensor {
        &self.values[id.0]
    }

    /// Names, shapes and starts, in order.
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// The values, in order.
    pub fn values(&self) -> &[D::Tensor] {
        &self.values
    }

    /// The values, in order, alone.
    pub fn into_values(self) -> Vec<D::Tensor> {
        self.values
    }

    /// The values, in order, for an optimiser to change.
    pub fn values_mut(&mut self) -> &mut [D::Tensor] {
        &mut self.values
    }
}
