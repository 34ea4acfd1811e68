//! The ops that a tape records: each forward beside its backward.
//!
//! A forward runs the device's op, wraps the output, and records a node with what the backward needs. Where the
//! gradient of an output is absent (nothing downstream used it) the node passes nothing on.

use std::rc::Rc;

use super::parameters::{LinearIds, NormIds, ParameterId};
use super::recompute::{Normalised, Saved};
use super::{Backward, BackwardContext, Forward, Gradients, PendingWeight, Recorder, Slot, Var, unshare};
use crate::device::{
    Activation, Attended, Device, Mask, MlpWeights, Norm, ResidualLayerNormed, ResidualNorm, Result, WeightLayout,
};

impl<D: Device> Var<D> {
    pub(super) fn slot(&self) -> Slot {
        Slot(self.id)
    }
}

impl<D: Device, R: Recorder<D>> Forward<'_, D, R> {
    /// Token and position embeddings of `ids` `[B, T]`: `[B, T, d]`. See
    /// [`EmbeddingOps::embedding`](crate::device::EmbeddingOps::embedding).
    pub fn embedding(
        &mut self,
        wte: ParameterId,
        wpe: ParameterId,
        ids: &Rc<D::Tokens>,
        first: Option<&D::Tokens>,
    ) -> Result<Var<D>> {
        let (tokens, positions) = (self.parameter(wte)?, self.parameter(wpe)?);
        let output = self.device.embedding(tokens, positions, ids, first)?;
        let output = self.recorder.value(output);
        self.recorder.record(|| EmbeddingNode { wte, wpe, ids: Rc::clone(ids), output: output.slot() });
        Ok(output)
    }
}

struct EmbeddingNode<D: Device> {
    wte: ParameterId,
    wpe: ParameterId,
    ids: Rc<D::Tokens>,
    output: Slot,
}

impl<D: Device> Backward<D> for EmbeddingNode<D> {
    fn backward(self: Box<Self>, context: &BackwardContext<'_, D>, gradients: &mut Gradients<'_, D>) -> Result<()> {
        let Some(dy) = gradients.take(&self.output) else { return Ok(()) };
        let ([d_wte, d_wpe], beta) = gradients.pair(context.device, [self.wte, self.wpe])?;
        context.device.embedding_backward(&dy, &self.ids, d_wte, d_wpe, beta)
    }
}

impl<D: Device, R: Recorder<D>> Forward<'_, D, R> {
    /// Normalisation of `x` `[.., d]`. See [`LayerNormOps::layernorm`](crate::device::LayerNormOps::layernorm).
    pub fn layernorm(&mut self, ids: NormIds, norm: Norm, x: &Var<D>) -> Result<Var<D>> {
        let (gain, bias) = (self.parameter(ids.gain)?, self.maybe_parameter(ids.bias)?);
        let out = self.device.layernorm(norm, x.value(), gain, bias)?;
        let normed = self.normed(out.normed, ids, norm, x);
        self.recorder.record(|| LayerNormNode {
            norm,
            ids,
            x: x.clone(),
            stats: out.stats,
            normed: normed.slot(),
            residual: None,
        });
        Ok(normed)
    }

    /// The normalisation `normed` of `x`, which may be kept or computed again.
    fn normed(&mut self, normed: D::Tensor, ids: NormIds, norm: Norm, x: &Var<D>) -> Var<D> {
        let forgets = self.recorder.recompute().forgets_norms();
        let again = forgets.then(|| Normalised { norm, ids, x: Rc::clone(&x.value) });
        Var { again, ..self.recorder.value(normed) }
    }
}

/// The residual stream that an op adds its result to, and the norm of the sum.
pub struct Residual<'a, D: Device> {
    /// The stream so far, `[.., d]`.
    pub x: &'a Var<D>,
    /// How the sum is normalised.
    pub norm: Norm,
    /// With which gain and bias.
    pub ids: NormIds,
}

impl<'p, D: Device, R: Recorder<D>> Forward<'p, D, R> {
    /// The same for a device.
    fn residual_norm<'a>(&mut self, to: &Residual<'a, D>) -> Result<ResidualNorm<'a, D::Tensor>>
    where
        'p: 'a,
    {
        let Residual { x, norm, ids } = *to;
        Ok(ResidualNorm { norm, x: x.value(), gain: self.parameter(ids.gain)?, bias: self.maybe_parameter(ids.bias)? })
    }

    /// The new stream and its norm; `delta` is what was added.
    fn residual(&mut self, out: ResidualLayerNormed<D::Tensor>, to: Residual<'_, D>, delta: Slot) -> [Var<D>; 2] {
        let Residual { x, norm, ids } = to;
        // Backward needs the sum, which is what was normalised; the summands themselves it does not.
        let sum = self.recorder.value(out.sum);
        let normed = self.normed(out.normed, ids, norm, &sum);
        self.recorder.record(|| LayerNormNode {
            norm,
            ids,
            x: sum.clone(),
            stats: out.stats,
            normed: normed.slot(),
            residual: Some([x.slot(), delta]),
        });
        [sum, normed]
    }
}

struct LayerNormNode<D: Device> {
    norm: Norm,
    ids: NormIds,
    /// What was normalised: the op's input, or for the residual form the sum that it made.
    x: Var<D>,
    stats: D::Tensor,
    normed: Slot,
    /// The two summands of the residual form.
    residual: Option<[Slot; 2]>,
}

impl<D: Device> Backward<D> for LayerNormNode<D> {
    fn backward(self: Box<Self>, context: &BackwardContext<'_, D>, gradients: &mut Gradients<'_, D>) -> Result<()> {
        let device = context.device;
        let dy = gradients.take(&self.normed);

        // The gradient that reached `x` by the skip connection, not through the norm. In the residual form `x` is the
        // sum that this node made; otherwise an earlier node made `x` and takes the gradient that is left for it here.
        let residual_grad = gradients.take(&self.x.slot());
        let dx = match (dy, residual_grad) {
            (None, None) => return Ok(()),
            (None, Some(residual_grad)) => residual_grad,
            // Through the norm as well: the device adds the norm's gradient to the other, in place where nothing else needs it.
            (Some(dy), residual_grad) => {
                let (x, gain) = (self.x.value(), context.parameters.get(self.ids.gain));
                let biased = self.ids.bias.is_some();
                let out = device.layernorm_gradients(self.norm, &dy, x, gain, &self.stats, residual_grad, biased)?;
                gradients.partials.push((self.ids.gain, out.d_gain));
                gradients.partials.extend(self.ids.bias.zip(out.d_bias));
                Rc::new(out.dx)
            }
        };

        // Both summands of a residual sum have its gradient.
        match self.residual {
            None => gradients.add(device, &self.x.slot(), dx),
            Some([x, delta]) => {
                gradients.add(device, &x, Rc::clone(&dx))?;
                gradients.add(device, &delta, dx)
            }
        }
    }
}

impl<D: Device, R: Recorder<D>> Forward<'_, D, R> {
    /// `x · W (+ bias)`. See [`LinearOps::linear`](crate::device::LinearOps::linear).
    pub fn linear(&mut self, ids: LinearIds, layout: WeightLayout, x: &Var<D>) -> Result<Var<D>> {
        let (weight, bias) = (self.parameter(ids.weight)?, self.maybe_parameter(ids.bias)?);
        let output = self.recorder.value(self.device.linear(x.value(), weight, layout, bias)?);
        self.recorder.record(|| LinearNode { ids, layout, x: x.saved(), output: output.slot() });
        Ok(output)
    }

    /// The residual stream with `x · W (+ bias)` added, and its norm, each `[.., d]`. See
    /// [`ResidualOps::linear_residual_layernorm`](crate::device::ResidualOps::linear_residual_layernorm).
    pub fn linear_residual_layernorm(
        &mut self,
        ids: LinearIds,
        x: &Var<D>,
        to: Residual<'_, D>,
    ) -> Result<[Var<D>; 2]> {
        let (weight, bias) = (self.parameter(ids.weight)?, self.maybe_parameter(ids.bias)?);
        let residual = self.residual_norm(&to)?;
        let out = self.device.linear_residual_layernorm(x.value(), weight, bias, residual)?;
        // No tensor holds what is added.
        let output = self.recorder.slot();
        self.recorder.record(|| LinearNode { ids, layout: WeightLayout::InOut, x: x.saved(), output });
        Ok(self.residual(out, to, output))
    }
}

struct LinearNode<D: Device> {
    ids: LinearIds,
    layout: WeightLayout,
    x: Saved<D>,
    output: Slot,
}

impl<D: Device> Backward<D> for LinearNode<D> {
    fn backward(self: Box<Self>, context: &BackwardContext<'_, D>, gradients: &mut Gradients<'_, D>) -> Result<()> {
        let Some(dy) = gradients.take(&self.output) else { return Ok(()) };
        let device = context.device;
        let LinearIds { weight, bias } = self.ids;
        let dx = device.linear_input_gradient(&dy, context.parameters.get(weight), self.layout)?;
        gradients.add(device, self.x.slot(), Rc::new(dx))?;
        if let Some(bias) = bias {
            let (d_bias, beta) = gradients.parameter(bias)?;
            device.bias_gradient(&dy, d_bias, beta)?;
        }
        let x = self.x.restore(context)?;
        gradients.add_weight(device, PendingWeight { weight, layout: self.layout, x, dy })
    }
}

impl<D: Device, R: Recorder<D>> Forward<'_, D, R> {
    /// The residual stream with `act(x · up) · down` added, and its norm, each `[.., d]`. See
    /// [`ResidualOps::mlp_residual_layernorm`](crate::device::ResidualOps::mlp_residual_layernorm).
    pub fn mlp_residual_layernorm(
        &mut self,
        up: LinearIds,
        down: LinearIds,
        activation: Activation,
        x: &Var<D>,
        to: Residual<'_, D>,
    ) -> Result<[Var<D>; 2]> {
        let weights = MlpWeights {
            up: self.parameter(up.weight)?,
            up_bias: self.maybe_parameter(up.bias)?,
            down: self.parameter(down.weight)?,
            down_bias: self.maybe_parameter(down.bias)?,
        };
        let residual = self.residual_norm(&to)?;

        let out = self.device.mlp_residual_layernorm(x.value(), weights, activation, residual)?;
        // No tensor holds what is added.
        let output = self.recorder.slot();
        let hidden = Some(out.hidden).filter(|_| !self.recorder.recompute().forgets_hidden());
        self.recorder.record(|| MlpNode { up, down, activation, x: x.saved(), hidden, output });
        Ok(self.residual(out.stream, to, output))
    }
}

struct MlpNode<D: Device> {
    up: LinearIds,
    down: LinearIds,
    activation: Activation,
    x: Saved<D>,
    /// Unless it is computed again.
    hidden: Option<D::Tensor>,
    output: Slot,
}

impl<D: Device> Backward<D> for MlpNode<D> {
    fn backward(self: Box<Self>, context: &BackwardContext<'_, D>, gradients: &mut Gradients<'_, D>) -> Result<()> {
        let Some(dy) = gradients.take(&self.output) else { return Ok(()) };
        let Self { up, down, activation, x, hidden, .. } = *self;
        let (device, parameters) = (context.device, context.parameters);

        // What is pending is of the layers above: the weights of one block make a group.
        gradients.compute_weights(device)?;

        // What was forgotten.
        let (slot, x) = (*x.slot(), x.restore(context)?);
        let hidden = match hidden {
            Some(hidden) => hidden,
            None => device.mlp_hidden(&x, parameters.get(up.weight), up.bias.map(|id| parameters.get(id)))?,
        };

        // Through the second GEMM and the activation, then through the first.
        let out = device.mlp_hidden_backward(&dy, &hidden, parameters.get(down.weight), activation)?;
        drop(hidden);
        let (activated, d_hidden) = (Rc::new(out.activated), Rc::new(out.d_hidden));
        let layout = WeightLayout::InOut;
        let dx = device.linear_input_gradient(&d_hidden, parameters.get(up.weight), layout)?;
        gradients.add(device, &slot, Rc::new(dx))?;

        // The gradients of biases and weights.
        for (bias, dy) in [(up.bias, &d_hidden), (down.bias, &dy)] {
            let Some(bias) = bias else { continue };
            let (d_bias, beta) = gradients.parameter(bias)?;
            device.bias_gradient(dy, d_bias, beta)?;
        }
        gradients.add_weight(device, PendingWeight { weight: down.weight, layout, x: activated, dy })?;
        gradients.add_weight(device, PendingWeight { weight: up.weight, layout, x, dy: d_hidden })
    }
}

impl<D: Device, R: Recorder<D>> Forward<'_, D, R> {
    /// Multi-head attention over `qkv` `[B, T, 3d]`. See
    /// [`AttentionOps::attention`](crate::device::AttentionOps::attention).
    pub fn attention(&mut self, heads: usize, mask: Mask, qkv: &Var<D>) -> Result<Var<D>> {
        let Attended { output, logsumexp } = self.device.attention(qkv.value(), heads, mask)?;
        let output = self.recorder.value(output);
        self.recorder.record(|| AttentionNode { heads, mask, qkv: qkv.clone(), output: output.clone(), logsumexp });
        Ok(output)
    }
}

struct AttentionNode<D: Device> {
    heads: usize,
    mask: Mask,
    qkv: Var<D>,
    output: Var<D>,
    logsumexp: D::Tensor,
}

impl<D: Device> Backward<D> for AttentionNode<D> {
    fn backward(self: Box<Self>, context: &BackwardContext<'_, D>, gradients: &mut Gradients<'_, D>) -> Result<()> {
        let Some(dy) = gradients.take(&self.output.slot()) else { return Ok(()) };
        let Self { heads, mask, qkv, output, logsumexp } = *self;
        let dx = context.device.attention_backward(&dy, qkv.value(), output.value(), &logsumexp, heads, mask)?;
        gradients.add(context.device, &qkv.slot(), Rc::new(dx))
    }
}

impl<D: Device, R: Recorder<D>> Forward<'_, D, R> {
    /// The scalar loss of `logits` `[.., V]`, with each row's nll: `(loss [1], nll [R])`. See
    /// [`CrossEntropyOps::cross_entropy`](crate::device::CrossEntropyOps::cross_entropy).
    ///
    /// A loss is where a backward pass starts: its own gradient is 1.
    pub fn cross_entropy(
        &mut self,
        logits: Var<D>,
        targets: &D::Tokens,
        weights: &D::Tensor,
    ) -> Result<(D::Tensor, D::Tensor)> {
        let slot = logits.slot();
        // The gradient overwrites the logits in place; if they are still shared, copy first.
        let logits = unshare(self.device, logits.value)?;
        let out = self.device.cross_entropy(logits, targets, weights)?;
        self.recorder.record(|| CrossEntropyNode { logits: slot, d_logits: Rc::new(out.d_logits) });
        Ok((out.loss, out.nll))
    }
}

struct CrossEntropyNode<D: Device> {
    logits: Slot,
    d_logits: Rc<D::Tensor>,
}

impl<D: Device> Backward<D> for CrossEntropyNode<D> {
    fn backward(self: Box<Self>, context: &BackwardContext<'_, D>, gradients: &mut Gradients<'_, D>) -> Result<()> {
        gradients.add(context.device, &self.logits, self.d_logits)
    }
}

impl<D: Device, R: Recorder<D>> Forward<'_, D, R> {
    /// Mean over tokens, `[B, T, d] → [B, d]`. See [`MeanPoolOps::mean_pool`](crate::device::MeanPoolOps::mean_pool).
    pub fn mean_pool(&mut self, x: &Var<D>) -> Result<Var<D>> {
        let output = self.recorder.value(self.device.mean_pool(x.value())?);
        let tokens = self.device.shape(x.value()).get(1).copied().unwrap_or(0);
        self.recorder.record(|| MeanPoolNode { tokens, x: x.slot(), output: output.slot() });
        Ok(output)
    }
}

struct MeanPoolNode {
    tokens: usize,
    x: Slot,
    output: Slot,
}

impl<D: Device> Backward<D> for MeanPoolNode {
    fn backward(self: Box<Self>, context: &BackwardContext<'_, D>, gradients: &mut Gradients<'_, D>) -> Result<()> {
        let Some(dy) = gradients.take(&self.output) else { return Ok(()) };
        let dx = context.device.mean_pool_backward(&dy, self.tokens)?;
        gradients.add(context.device, &self.x, Rc::new(dx))
    }
}
