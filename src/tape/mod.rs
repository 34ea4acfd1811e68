//! Reverse-mode differentiation: a list of ops to walk backwards.
//!
//! An op is recorded by handing over a value that implements [`Backward`]; there is no other way onto a [`Tape`], so an
//! op without a gradient is a type error and not a model that trains as if frozen. [`NoTape`] records nothing and keeps
//! nothing alive: inference cannot pay for gradients by accident. A tape is walked once, newest node first, and each
//! node frees what it saved as soon as it has been used. A tape can keep less and compute it again: see [`Recompute`].

mod hooks;
mod ops;
mod parameters;
mod recompute;

pub use hooks::{Hooks, NoHooks};
pub use ops::Residual;
pub use parameters::{Init, LinearIds, NormIds, ParameterId, ParameterSpec, Parameters};
pub use recompute::{Piece, Recompute};

use std::rc::Rc;

use self::recompute::Normalised;
use crate::device::{Beta, Device, PartialSum, Result, WeightGradient, WeightLayout};

/// A value of the computation: a tensor, and the name under which its gradient is known to the tape.
pub struct Var<D: Device> {
    id: usize,
    value: Rc<D::Tensor>,
    /// How a backward pass computes it again, if it is not to be kept for that.
    again: Option<Normalised<D>>,
}

impl<D: Device> Clone for Var<D> {
    fn clone(&self) -> Self {
        Self { id: self.id, value: Rc::clone(&self.value), again: self.again.clone() }
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
    /// Of parameters: accumulated over micro-batches, or handed on as soon as they are whole.
    parameters: Destination<'a, D>,
    /// Gradients of weights that are still to be computed, several at once.
    weights: Vec<PendingWeight<D>>,
    /// Gradients of gains and biases of norms, as partial sums: all of them are added up at the end, together.
    partials: Vec<(ParameterId, D::Tensor)>,
}

/// Where the gradients of parameters go.
pub struct Destination<'a, D: Device> {
    /// Their tensors.
    pub tensors: &'a mut [D::Tensor],
    /// By parameter: which of `tensors` is its own. Several weights may share one where the hooks take each gradient from it once
    /// that is [finished](Hooks::finished), and have it before the next [is written](Hooks::writes).
    pub places: &'a [usize],
    /// By parameter: whether its gradient has been written. The first op that writes one stores it, so nobody zeroes it before.
    pub written: &'a mut [bool],
    /// Who is called on the way.
    pub hooks: &'a mut dyn Hooks<D>,
    /// Whether it is told of gradients that are finished: not if others are added to them later.
    pub finishes: bool,
}

impl<D: Device> Destination<'_, D> {
    fn place(&self, id: ParameterId) -> usize {
        self.places[id.0]
    }

    /// Of each of `tensors` that one of `ids` has, the tensor and which of `ids` it is.
    fn several(&mut self, ids: &[ParameterId]) -> impl Iterator<Item = (usize, &mut D::Tensor)> {
        let places: Vec<usize> = ids.iter().map(|id| self.place(*id)).collect();
        let whose = move |place: usize| places.iter().position(|own| *own == place);
        self.tensors.iter_mut().enumerate().filter_map(move |(place, tensor)| Some((whose(place)?, tensor)))
    }
}

/// The gradient of a weight that is still to be computed, and what it is computed from.
struct PendingWeight<D: Device> {
    weight: ParameterId,
    layout: WeightLayout,
    x: Rc<D::Tensor>,
    dy: Rc<D::Tensor>,
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

    /// The gradient of a parameter, and whether it is stored or added to.
    fn parameter(&mut self, id: ParameterId) -> Result<(&mut D::Tensor, Beta)> {
        self.parameters.hooks.writes(&[id])?;
        let beta = write(&mut self.parameters.written[id.0]);
        let place = self.parameters.place(id);
        Ok((&mut self.parameters.tensors[place], beta))
    }

    /// The gradients of two different parameters that one op writes.
    fn pair(&mut self, device: &D, ids: [ParameterId; 2]) -> Result<([&mut D::Tensor; 2], Beta)> {
        self.parameters.hooks.writes(&ids)?;
        let betas = ids.map(|id| write(&mut self.parameters.written[id.0]));
        let places = ids.map(|id| self.parameters.place(id));
        let mut pair =
            self.parameters.tensors.get_disjoint_mut(places).expect("the parameters of one op are different ones");
        // Only one of them was written before: the other is zero until now.
        if betas[0] != betas[1] {
            for (gradient, _) in pair.iter_mut().zip(betas).filter(|(_, beta)| *beta == Beta::Zero) {
                device.zero(gradient)?;
            }
        }
        Ok((pair, if betas == [Beta::Zero; 2] { Beta::Zero } else { Beta::One }))
    }

    /// Adds the gradient of a weight, now or with others.
    fn add_weight(&mut self, device: &D, pending: PendingWeight<D>) -> Result<()> {
        // A weight that is used twice is added to after it was stored, and one tensor is stored to by one weight at a time.
        let place = self.parameters.place(pending.weight);
        if self.weights.iter().any(|other| self.parameters.place(other.weight) == place) {
            self.compute_weights(device)?;
        }
        self.weights.push(pending);
        if self.weights.len() >= D::WEIGHTS_AT_ONCE { self.compute_weights(device) } else { Ok(()) }
    }

    /// Computes what [`Gradients::add_weight`] has collected.
    fn compute_weights(&mut self, device: &D) -> Result<()> {
        let pending = std::mem::take(&mut self.weights);
        if pending.is_empty() {
            return Ok(());
        }
        let ids: Vec<ParameterId> = pending.iter().map(|pending| pending.weight).collect();
        self.parameters.hooks.writes(&ids)?;
        let betas: Vec<Beta> = ids.iter().map(|id| write(&mut self.parameters.written[id.0])).collect();
        let gradients = self.parameters.several(&ids).map(|(index, d_weight)| {
            let PendingWeight { layout, x, dy, .. } = &pending[index];
            WeightGradient { x: &**x, dy: &**dy, layout: *layout, d_weight, beta: betas[index] }
        });
        device.weight_gradients(gradients.collect())?;
        let Destination { tensors, hooks, finishes, .. } = &mut self.parameters;
        if *finishes { hooks.finished(tensors, &ids) } else { Ok(()) }
    }

    /// Adds up the partial sums.
    fn sum_partials(&mut self, device: &D) -> Result<()> {
        // Those of a norm that is used twice come to its gradient one after the other.
        let mut partials = std::mem::take(&mut self.partials);
        while !partials.is_empty() {
            let (mut now, mut later) = (Vec::new(), Vec::new());
            for (id, partial) in partials {
                let list = if now.iter().any(|(other, _)| *other == id) { &mut later } else { &mut now };
                list.push((id, partial));
            }
            let ids: Vec<ParameterId> = now.iter().map(|(id, _)| *id).collect();
            self.parameters.hooks.writes(&ids)?;
            let betas: Vec<Beta> = ids.iter().map(|id| write(&mut self.parameters.written[id.0])).collect();
            let sums = self.parameters.several(&ids).map(|(index, total)| PartialSum {
                partials: &now[index].1,
                total,
                beta: betas[index],
            });
            device.sum_partials(sums.collect())?;
            partials = later;
        }
        Ok(())
    }
}

/// Marks a gradient as written; whether it is stored or added to.
fn write(written: &mut bool) -> Beta {
    if std::mem::replace(written, true) { Beta::One } else { Beta::Zero }
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
#[derive(Clone, Copy, Debug)]
pub struct Slot(usize);

impl Slot {
    /// Of a value that has no gradient.
    const NONE: Self = Self(usize::MAX);
}

/// Where ops are recorded: a [`Tape`] when training, [`NoTape`] otherwise.
pub trait Recorder<D: Device> {
    /// Whether gradients will be wanted, for ops that can skip work otherwise.
    const RECORDS: bool;

    /// Names the next value.
    fn slot(&mut self) -> Slot;
    /// Wraps an op's output.
    fn value(&mut self, tensor: impl Into<Rc<D::Tensor>>) -> Var<D> {
        let Slot(id) = self.slot();
        Var { id, value: tensor.into(), again: None }
    }
    /// Records the op; `node` is not even built when nothing records.
    fn record<N: Backward<D> + 'static>(&mut self, node: impl FnOnce() -> N);

    /// How much of what is recorded is computed again in the backward pass.
    fn recompute(&self) -> Recompute {
        Recompute::None
    }
}

/// Records nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTape;

impl<D: Device> Recorder<D> for NoTape {
    const RECORDS: bool = false;

    fn slot(&mut self) -> Slot {
        Slot::NONE
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
    /// Who is called before a parameter is read.
    hooks: Option<&'a mut dyn Hooks<D>>,
}

impl<'a, D: Device, R: Recorder<D>> Forward<'a, D, R> {
    /// A pass on `device` with `parameters`, recorded on a [`Tape`] or, as [`NoTape`], not at all.
    pub fn new(device: &'a D, parameters: &'a Parameters<D>, recorder: &'a mut R) -> Self {
        Self { device, parameters, recorder, hooks: None }
    }

    /// The same, which calls `hooks` before it reads a parameter.
    pub fn with_hooks(self, hooks: &'a mut dyn Hooks<D>) -> Self {
        Self { hooks: Some(hooks), ..self }
    }

    /// A parameter, to be read now.
    fn parameter(&mut self, id: ParameterId) -> Result<&'a D::Tensor> {
        if let Some(hooks) = &mut self.hooks {
            hooks.reads(id)?;
        }
        Ok(self.parameters.get(id))
    }

    /// The same of one that there may be.
    fn maybe_parameter(&mut self, id: Option<ParameterId>) -> Result<Option<&'a D::Tensor>> {
        id.map(|id| self.parameter(id)).transpose()
    }
}

/// The ops of one forward pass.
pub struct Tape<D: Device> {
    nodes: Vec<Box<dyn Backward<D>>>,
    values: usize,
    recompute: Recompute,
}

impl<D: Device> Default for Tape<D> {
    fn default() -> Self {
        Self { nodes: Vec::new(), values: 0, recompute: Recompute::None }
    }
}

impl<D: Device> Recorder<D> for Tape<D> {
    const RECORDS: bool = true;

    fn slot(&mut self) -> Slot {
        self.values += 1;
        Slot(self.values - 1)
    }

    fn record<N: Backward<D> + 'static>(&mut self, node: impl FnOnce() -> N) {
        self.nodes.push(Box::new(node()));
    }

    fn recompute(&self) -> Recompute {
        self.recompute
    }
}

impl<D: Device> Tape<D> {
    /// A tape that keeps as little as `recompute` says.
    pub fn recomputing(recompute: Recompute) -> Self {
        Self { recompute, ..Self::default() }
    }

    /// Walks the tape from its end, adding to `parameter_gradients` (one tensor per parameter, in order).
    ///
    /// The walk starts at the losses on the tape: [`Forward::cross_entropy`] made its gradient in the forward pass.
    pub fn backward(self, device: &D, parameters: &Parameters<D>, parameter_gradients: &mut [D::Tensor]) -> Result<()> {
        let mut written = vec![true; parameter_gradients.len()];
        self.accumulate(device, parameters, parameter_gradients, &mut written)
    }

    /// [`Tape::backward`] into gradients of which only those are added to that are `written`. The others are stored, whatever they
    /// held, and are written from then on; those of parameters that the tape does not know are left as they are.
    pub fn accumulate(
        self,
        device: &D,
        parameters: &Parameters<D>,
        parameter_gradients: &mut [D::Tensor],
        written: &mut [bool],
    ) -> Result<()> {
        let places: Vec<usize> = (0..parameter_gradients.len()).collect();
        let hooks = &mut NoHooks;
        let to = Destination { tensors: parameter_gradients, places: &places, written, hooks, finishes: false };
        self.walk_into(device, parameters, to)
    }

    /// [`Tape::accumulate`] into wherever gradients are to go.
    pub fn walk_into(self, device: &D, parameters: &Parameters<D>, to: Destination<'_, D>) -> Result<()> {
        let context = BackwardContext { device, parameters };
        let values = (0..self.values).map(|_| None).collect();
        let (weights, partials) = (Vec::new(), Vec::new());
        let mut gradients = Gradients { values, parameters: to, weights, partials };
        self.walk(&context, &mut gradients)?;
        gradients.compute_weights(device)?;
        gradients.sum_partials(device)
    }

    /// The newest node first.
    fn walk(self, context: &BackwardContext<'_, D>, gradients: &mut Gradients<'_, D>) -> Result<()> {
        self.nodes.into_iter().rev().try_for_each(|node| node.backward(context, gradients))
    }
}
