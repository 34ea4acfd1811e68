//! `--fit`: how many images at a time, and what is computed again, by the memory that there is.

use super::settings::Settings;
use super::together::Together;
use crate::device::{Device, Precision};
use crate::model::ModelConfig;
use crate::named::Named;
use crate::plan::machine::host_memory;
use crate::plan::{
    About, DeviceModel, GAP, Question, Reason, Speed, Split, Splits, USABLE, UTILISATION, device_model, gib, limits,
    recognised,
};
use crate::tape::Recompute;

/// Rates of a CPU: FLOP/s and bytes per second of an ordinary one. Only their ratio decides.
const CPU: [f64; 2] = [2e11, 4e10];
/// Bytes per second that ranks send, of CPUs and of GPUs in one machine.
const WIRE: [f64; 2] = [1e9, 350e9];
/// The card whose rates are taken where the card here is not known.
const UNKNOWN: &str = "h100";

/// Rates of a device, of which there are `beside` in this machine: only what is faster than what else hangs on them.
fn speed<D: Device>(device: &D, precision: Precision, beside: usize) -> Speed {
    if device.own_memory().is_none() {
        return Speed { flops: CPU[0], memory: CPU[1], gap: 0.0, wire: WIRE[0], bus: f64::INFINITY };
    }
    let rates = |card: &DeviceModel| Speed {
        flops: UTILISATION * card.peak(precision).1,
        memory: card.bandwidth,
        gap: GAP,
        wire: WIRE[1],
        bus: card.to_host(beside),
    };
    let card = recognised(&device.describe()).or_else(|| device_model(UNKNOWN));
    let none = Speed { flops: CPU[0], memory: CPU[1], gap: GAP, wire: WIRE[1], bus: CPU[1] };
    card.map_or(none, rates)
}

/// Sets the micro-batch, how many of them make a step, what is computed again and whether moments and master weights lie in the host's
/// memory, so that the run fits into the memory of each rank's device, the step has as many images as before and is as fast as can be;
/// returns what to say of it. A run that goes on keeps its micro-batch, which decides bits.
pub(super) fn fit<D: Device>(
    device: &D,
    settings: &mut Settings,
    config: &ModelConfig,
    together: &Together<D>,
    goes_on: bool,
) -> String {
    let (ranks, beside) = (together.size(), together.beside());
    let precision = settings.precision.unwrap_or(Precision::F32);
    let of_host = host_memory().reachable() / beside as f64;
    let available = device.own_memory().map_or(of_host, |own| own as f64);
    // On a CPU there is nowhere to move the optimiser to.
    let offload = match device.own_memory() {
        Some(_) => settings.offload_optimizer.then_some(true),
        None => Some(false),
    };
    // Levels of ZeRO: what was asked for, or any.
    let levels = match (ranks, settings.zero) {
        (1, _) => vec![0],
        (_, Some(given)) => vec![given],
        (_, None) => vec![0, 1, 2],
    };
    let question = Question {
        config,
        global_batch: settings.batch * settings.accumulate,
        micro_batch: goes_on.then_some(settings.batch),
        gpus: ranks,
        zero: &levels,
        precision,
        reduction: settings.reduction,
        ema: settings.ema.is_some(),
        offload,
        eval_images: settings.eval_batch,
        speed: speed(device, precision, beside),
        room: USABLE * available,
        host_room: USABLE * of_host,
    };

    let splits = question.splits(&|load| limits::memory_on(device, load));
    let Some(choice) = splits.choice.filter(|choice| choice.gpus == ranks) else {
        // What takes least is refused with what it would take.
        let batch = question.micro_batch.unwrap_or(1);
        settings.accumulate = question.global_batch / batch;
        (settings.batch, settings.recompute) = (batch, Recompute::Block);
        settings.zero = settings.zero.or((ranks > 1).then_some(2));
        return "--fit finds nothing that fits".to_owned();
    };
    let Split { zero, micro_batch, accumulate, recompute, .. } = choice;
    if ranks > 1 {
        settings.zero = Some(zero);
    }
    (settings.batch, settings.accumulate, settings.recompute) = (micro_batch, accumulate, recompute);
    let mut level = if ranks > 1 { format!(" --zero {zero}") } else { String::new() };
    if choice.offloads() {
        settings.offload_optimizer = true;
        level.push_str(&format!(" --offload-optimizer ({} in the host's memory)", gib(choice.host)));
    }
    format!(
        "--fit: --batch {micro_batch} --accumulate {accumulate} --recompute {}{level}: {} of the {} that a run may fill; {}",
        recompute.name(),
        gib(choice.bytes()),
        gib(question.room),
        why(&splits, &question)
    )
}

/// What speaks against more images at a time and, where something is computed again or moved to the host, against keeping it.
fn why(splits: &Splits, question: &Question<'_>) -> String {
    let reasons = splits.reasons(question);
    let told = [About::Room, About::MicroBatch, About::Recompute(Recompute::None), About::NoOffload];
    let said = told.iter().filter_map(|about| reasons.iter().find(|reason| reason.about == *about));
    said.map(Reason::to_string).collect::<Vec<_>>().join(", ")
}
