//! Steps that were skipped because loss or gradient was not finite, or a spike: what is said of them, and when they end a run.

use super::{Events, StepOutcome, TrainError};

/// Watches for skipped steps.
pub(super) struct Skipping {
    /// Steps in a row that end the run.
    max: u64,
    /// The step that was one too many.
    last: Option<StepOutcome>,
}

impl Skipping {
    /// Ends the run after `max` skipped steps in a row.
    pub fn new(max: u64) -> Self {
        Self { max, last: None }
    }

    /// Looks at a step that is done; says so where it is the first that was skipped.
    pub fn note(&mut self, outcome: &StepOutcome, events: &mut dyn Events) {
        let in_a_row = outcome.skipped.in_a_row;
        if in_a_row == 1 && self.max > 1 {
            let (what, value) = why(outcome);
            events.note(&format!(
                "note: step {} was skipped, since its {what} is {value}: weights and moments stay as they were; {} in a row \
                 end the run (--max-skipped)",
                outcome.step, self.max
            ));
        }
        if in_a_row >= self.max {
            self.last.get_or_insert(*outcome);
        }
    }

    /// The end of the run, once there were too many. A device may have begun another step by then, so this is asked when none
    /// is in flight.
    ///
    /// # Errors
    /// [`TrainError::Skipped`].
    pub fn check(&self) -> Result<(), TrainError> {
        let Some(outcome) = &self.last else { return Ok(()) };
        let (what, value) = why(outcome);
        let (step, in_a_row) = (outcome.step, outcome.skipped.in_a_row);
        Err(TrainError::Skipped { what, value, step, in_a_row, made: step - in_a_row })
    }
}

/// What was wrong with a step that was skipped. Where the loss is not finite, the gradient is not either.
fn why(outcome: &StepOutcome) -> (&'static str, f64) {
    match (outcome.is_spike, outcome.loss.is_finite()) {
        (true, _) => ("loss or its gradient's norm is a spike (--skip-spikes), and the loss", outcome.loss),
        (false, false) => ("loss", outcome.loss),
        (false, true) => ("gradient norm", outcome.gradient_norm),
    }
}
