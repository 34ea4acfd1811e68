//! Memory for time: what a backward pass reads is kept, or computed again by the ops that computed it first, to the same bits.
//!
//! | [`Recompute`] | kept of a block, of d values a token | computed again |
//! |---|---|---|
//! | none | 12 d: two streams, two norms, 3 d of queries, keys and values, attention's output, 4 d of the MLP's hidden layer | |
//! | norms | 10 d | each norm's output from its input, where [`Saved`] is read |
//! | norms-mlp | 6 d | the hidden layer too: one of the MLP's two GEMMs |
//! | block | 1 d: the stream | all of it: the block is a [`Piece`], which runs once more before it goes backward |

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::parameters::NormIds;
use super::{Backward, BackwardContext, Forward, Gradients, Recorder, Slot, Tape, Var};
use crate::device::{Device, Norm, Result};
use crate::named::named;

named! {
    /// How much of a forward pass is computed again in the backward pass instead of being kept.
    #[derive(Default, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Recompute {
        /// Nothing: the fastest, and takes most memory
        #[default]
        None = "none",
        /// Outputs of norms: a sixth of the activations less, at next to no time
        Norms = "norms",
        /// The MLP's hidden layers too: half of the activations, for a tenth more FLOPs
        NormsMlp = "norms-mlp",
        /// Whole blocks: a twelfth of the activations, for a third more FLOPs
        Block = "block",
    }
}

impl Recompute {
    /// What is kept of a block: so many times the width, of every token.
    pub fn kept(self) -> usize {
        match self {
            Self::None => 12,
            Self::Norms => 10,
            Self::NormsMlp => 6,
            Self::Block => 1,
        }
    }

    /// Whether outputs of norms are computed again from what was normalised.
    pub(super) fn forgets_norms(self) -> bool {
        self >= Self::Norms
    }

    /// Whether the hidden layer of an MLP is computed again from its input.
    pub(super) fn forgets_hidden(self) -> bool {
        self >= Self::NormsMlp
    }

    /// Whether whole pieces are run again.
    pub(super) fn forgets_pieces(self) -> bool {
        self == Self::Block
    }
}

/// A normalisation to be computed again.
pub(super) struct Normalised<D: Device> {
    pub norm: Norm,
    pub ids: NormIds,
    /// What was normalised.
    pub x: Rc<D::Tensor>,
}

impl<D: Device> Clone for Normalised<D> {
    fn clone(&self) -> Self {
        Self { x: Rc::clone(&self.x), ..*self }
    }
}

/// What a node keeps of a value that its backward reads.
pub(super) struct Saved<D: Device> {
    slot: Slot,
    kept: Kept<D>,
}

enum Kept<D: Device> {
    /// The value itself.
    Value(Rc<D::Tensor>),
    /// What it is computed from.
    Normalised(Normalised<D>),
}

impl<D: Device> Var<D> {
    /// What to keep of it, so that [`Saved::restore`] gives it back.
    pub(super) fn saved(&self) -> Saved<D> {
        let kept = match &self.again {
            Some(again) => Kept::Normalised(again.clone()),
            None => Kept::Value(Rc::clone(&self.value)),
        };
        Saved { slot: self.slot(), kept }
    }
}

impl<D: Device> Saved<D> {
    /// Under which the gradient is known.
    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// The value.
    pub(super) fn restore(self, context: &BackwardContext<'_, D>) -> Result<Rc<D::Tensor>> {
        let (device, parameters) = (context.device, context.parameters);
        match self.kept {
            Kept::Value(value) => Ok(value),
            Kept::Normalised(Normalised { norm, ids, x }) => {
                let (gain, bias) = (parameters.get(ids.gain), ids.bias.map(|id| parameters.get(id)));
                Ok(Rc::new(device.layernorm(norm, &x, gain, bias)?.normed))
            }
        }
    }
}

/// A part of a forward pass that can be run again: what comes out follows from what goes in, and from parameters.
pub trait Piece<D: Device>: 'static {
    /// Runs it.
    fn run<R: Recorder<D>>(&self, f: &mut Forward<'_, D, R>, inputs: [Var<D>; 2]) -> Result<[Var<D>; 2]>;
}

/// Records nothing, for a piece that will run again: what leaves it knows how it is computed.
struct Rehearsal(Recompute);

impl<D: Device> Recorder<D> for Rehearsal {
    const RECORDS: bool = false;

    fn slot(&mut self) -> Slot {
        Slot::NONE
    }

    fn record<N: Backward<D> + 'static>(&mut self, _node: impl FnOnce() -> N) {}

    fn recompute(&self) -> Recompute {
        self.0
    }
}

impl<D: Device, R: Recorder<D>> Forward<'_, D, R> {
    /// Runs a piece. Where whole pieces are computed again, no more than its inputs is kept.
    pub fn piece<P: Piece<D>>(&mut self, piece: P, inputs: [Var<D>; 2]) -> Result<[Var<D>; 2]> {
        let recompute = self.recorder.recompute();
        if !recompute.forgets_pieces() {
            return piece.run(self, inputs);
        }

        let saved = inputs.each_ref().map(Var::saved);
        let mut rehearsal = Rehearsal(recompute);
        let mut within = Forward::new(self.device, self.parameters, &mut rehearsal);
        if let Some(hooks) = &mut self.hooks {
            within = within.with_hooks(&mut **hooks);
        }
        let outputs = piece.run(&mut within, inputs)?;
        let outputs = outputs.map(|Var { value, again, .. }| Var { again, ..self.recorder.value(value) });
        let slots = outputs.each_ref().map(Var::slot);
        self.recorder.record(|| PieceNode { piece, inputs: saved, outputs: slots });
        Ok(outputs)
    }
}

struct PieceNode<D: Device, P> {
    piece: P,
    inputs: [Saved<D>; 2],
    outputs: [Slot; 2],
}

impl<D: Device, P: Piece<D>> Backward<D> for PieceNode<D, P> {
    fn backward(self: Box<Self>, context: &BackwardContext<'_, D>, gradients: &mut Gradients<'_, D>) -> Result<()> {
        let Self { piece, inputs: [one, other], outputs } = *self;
        let restored = |saved: Saved<D>| -> Result<Var<D>> {
            let id = saved.slot().0;
            Ok(Var { id, value: saved.restore(context)?, again: None })
        };
        let inputs = [restored(one)?, restored(other)?];

        // Forward once more, on a tape whose values come after all others: gradients of the inputs find the outer ones.
        let before = gradients.values.len();
        let mut tape = Tape { values: before, ..Tape::default() };
        let again = piece.run(&mut Forward::new(context.device, context.parameters, &mut tape), inputs)?;
        let again = again.map(|output| output.slot());
        gradients.values.resize_with(tape.values, || None);

        // Backward from the gradients of the outputs.
        for (output, again) in outputs.iter().zip(&again) {
            if let Some(gradient) = gradients.take(output) {
                gradients.add(context.device, again, gradient)?;
            }
        }
        tape.walk(context, gradients)?;
        gradients.values.truncate(before);
        Ok(())
    }
}
