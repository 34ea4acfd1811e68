//! Reverse-mode differentiation: a list of ops to walk backwards.
//!
//! An op is recorded by handing over a value that implements [`Backward`]; there is no other way onto a [`Tape`], so an
//! op without a gradient is a type error and not a model that trains as if frozen. [`NoTape`] records nothing and keeps
//! nothing alive: inference cannot pay for gradients by accident. A tape is walked once, newest node first, and each
//! node frees what it saved as soon as it has been used.

mod ops;
mod parameters;

pub use parameters::{Init, LinearIds, NormIds, ParameterId, ParameterSpec, Parameters};

use std::rc::Rc;

use crate::device::{Device, Result};

/// A value of the computation: a tensor, and the name under which its gradient is known to the tape.
pub struct Var<D: Device> {
    id: usize,
    value: Rc<D::Tensor>,
}

impl<D: Device> Clone for Var<D> {
    fn clone(&self) -> Self {
        Self { id: self.id, value: Rc::clone(&self.value) }
    }
}

impl<D: Device> Var<D> {
    /// The tensor itself.
    pub fn value(&self) -> &D::Tensor {
        &self.value
    }

    /// The tensor itself, shared with whatever node of a tape saved it.
    pub fn into_value(self) -> Rc<D::Tensor> {
        self.value
    }
}

/// The backward half of an op that has been run forward: what it saved, and how gradients pass through it.
pub trait Backward<D: Device> {
    /// Takes the gradients of the op's outputs out of `gradients` and adds those of its inputs and parameters.
    fn backward(self: Box<Self>, context: &BackwardContext<'_, D>, gradients: &mut Gradients<'_, D>) -> Result<()>;
}

/// What a backward pass reads.
pub struct BackwardContext<'a, D: Device> {
    /// Where to compute.
    pub device: &'a D,
    /// The parameters that the forward pass used.
    pub parameters: &'a Parameters<D>,
}

/// The gradients of a backward pass in progress.
pub struct Gradients<'a, D: Device> {
    /// Of values, by [`Var::id`]; absent until an op adds to it, and again once taken. Shared where one gradient
    /// belongs to several values (the two inputs of a residual sum).
    values: Vec<Option<Rc<D::Tensor>>>,
    /// Of parameters, by [`ParameterId`]: accumulated over micro-batches.
    parameters: &'a mut [D::Tensor],
}

impl<D: Device> Gradients<'_, D> {
    /// Removes and returns the gradient of a value; `None` if nothing downstream depended on it.
    fn take(&mut self, var: &Slot) -> Option<Rc<D::Tensor>> {
        self.values.get_mut(var.0).and_then(Option::take)
    }

    /// Adds to the gradient of a value.
    fn add(&mut self, device: &D, var: &Slot, gradient: Rc<D::Tensor>) -> Result<()> {
        let Some(slot) = self.values.get_mut(var.0) else { return Ok(()) };
        let Some(earlier) = slot.take() else {
            *slot = Some(gradient);
            return Ok(());
        };
        let mut total = unshare(device, earlier)?;
        device.add_assign(&mut total, &gradient)?;
        *slot = Some(Rc::new(total));
        Ok(())
    }

    /// The accumulated gradients of a weight and, where there is one, its bias.
    fn weight_and_bias(
        &mut self,
        weight: ParameterId,
        bias: Option<ParameterId>,
    ) -> (&mut D::Tensor, Option<&mut D::Tensor>) {
        match bias {
            None => (&mut self.parameters[weight.0], None),
            Some(bias) => {
                let [weight, bias] = self.distinct([weight, bias]);
                (weight, Some(bias))
            }
        }
    }

    /// The accumulated gradients of several different parameters at once.
    fn distinct<const N: usize>(&mut self, ids: [ParameterId; N]) -> [&mut D::Tensor; N] {
        self.parameters.get_disjoint_mut(ids.map(|id| id.0)).expect("the parameters of one op are different ones")
    }
}

/// Makes a gradient that others may share writable, copying only if they still do.
fn unshare<D: Device>(device: &D, gradient: Rc<D::Tensor>) -> Result<D::Tensor> {
    match Rc::try_unwrap(gradient) {
        Ok(sole) => Ok(sole),
        Err(shared) => {
            let mut copy = device.zeros(device.shape(&shared))?;
            device.add_assign(&mut copy, &shared)?;
            Ok(copy)
        }
    }
}

/// The index of a value's gradient, without its tensor: nodes keep slots so that they do not keep memory.
#[derive(Clone, Copy)]
struct Slot(usize);

/// Where ops are recorded: a [`Tape`] when training, [`NoTape`] otherwise.
pub trait Recorder<D: Device> {
    /// Whether gradients will be wanted, for ops that can skip work otherwise.
    const RECORDS: bool;

    /// Wraps an op's output.
    fn value(&mut self, tensor: D::Tensor) -> Var<D>;
    /// Records the op; `node` is not even built when nothing records.
    fn record<N: Backward<D> + 'static>(&mut self, node: impl FnOnce() -> N);
}

/// Records nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTape;

impl<D: Device> Recorder<D> for NoTape {
    const RECORDS: bool = false;

    fn value(&mut self, tensor: D::Tensor) -> Var<D> {
        Var { id: usize::MAX, value: Rc::new(tensor) }
    }

    fn record<N: Backward<D> + 'static>(&mut self, _node: impl FnOnce() -> N) {}
}

/// A forward pass in progress: where it computes, with which parameters, and where its ops are recorded.
///
/// Its methods are the ops that a tape knows, so a model reads like its formula: `f.linear(block.c_attn, InOut, &x)?`.
pub struct Forward<'a, D: Device, R: Recorder<D>> {
    /// Where to compute.
    pub device: &'a D,
    /// The parameters to compute with.
    pub parameters: &'a Parameters<D>,
    /// Where ops are recorded.
    pub recorder: &'a mut R,
}

impl<'a, D: Device, R: Recorder<D>> Forward<'a, D, R> {
    /// A pass on `device` with `parameters`, recorded on a [`Tape`] or, as [`NoTape`], not at all.
    pub fn new(device: &'a D, parameters: &'a Parameters<D>, recorder: &'a mut R) -> Self {
        Self { device, parameters, recorder }
    }
}

/// The ops of one forward pass.
pub struct Tape<D: Device> {
    nodes: Vec<Box<dyn Backward<D>>>,
    values: usize,
}

impl<D: Device> Default for Tape<D> {
    fn default() -> Self {
        Self { nodes: Vec::new(), values: 0 }
    }
}

impl<D: Device> Recorder<D> for Tape<D> {
    const RECORDS: bool = true;

    fn value(&mut self, tensor: D::Tensor) -> Var<D> {
        self.values += 1;
        Var { id: self.values - 1, value: Rc::new(tensor) }
    }

    fn record<N: Backward<D> + 'static>(&mut self, node: impl FnOnce() -> N) {
        self.nodes.push(Box::new(node()));
    }
}

impl<D: Device> Tape<D> {
    /// Walks the tape from its end, adding to `parameter_gradients` (one tensor per parameter, in order).
    ///
    /// The walk starts at the losses on the tape: [`Forward::cross_entropy`] made its gradient in the forward pass.
    pub fn backward(self, device: &D, parameters: &Parameters<D>, parameter_gradients: &mut [D::Tensor]) -> Result<()> {
        let context = BackwardContext { device, parameters };
        let mut gradients =
            Gradients { values: (0..self.values).map(|_| None).collect(), parameters: parameter_gradients };
        for node in self.nodes.into_iter().rev() {
            node.backward(&context, &mut gradients)?;
        }
        Ok(())
    }
}
