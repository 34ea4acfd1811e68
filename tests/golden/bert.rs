//! The BERT objective: masked pixels without their content but with their position, no start of sequence, no causal mask.

use super::*;

/// Tokens `[B · n]` and what is masked of them.
fn masked(part: &Part) -> (&[u16], Vec<bool>) {
    (&part.integers["tokens"], part.integers["mask"].iter().map(|masked| *masked != 0).collect())
}

#[test]
fn bert_loss_and_gradients_match() {
    bert(&device(), Precision::F32);
}

pub fn bert<D: Device>(device: &D, precision: Precision) {
    for set in sets_with("bert", precision) {
        let part = set.part("bert");
        let (model, parameters) = set.model(device);
        let (tokens, masked) = masked(&part);
        let batch = model.bert_batch(device, tokens, tokens.len() / BATCH, &masked, 1.0).unwrap();

        let mut tape = Tape::default();
        let features = model
            .features(&mut Forward::new(device, &parameters, &mut tape), &batch.inputs, batch.mask, |_| Ok(()))
            .unwrap();

        let logits = model.logits(&mut Forward::new(device, &parameters, &mut NoTape), &features).unwrap();
        set.assert_close(&part, "logits", &device.download(logits.value()).unwrap());
        let loss = model.generative_loss(&mut Forward::new(device, &parameters, &mut tape), &batch, features).unwrap();
        set.assert_close(&part, "loss_bert", &device.download(&loss.loss).unwrap());

        let mut gradients = parameters.zeros_like(device).unwrap();
        tape.backward(device, &parameters, &mut gradients).unwrap();
        for (spec, gradient) in parameters.specs().iter().zip(&gradients) {
            set.assert_close(&part, &format!("grad.{}", spec.name), &device.download(gradient).unwrap());
        }
    }
}

/// What is masked has no say in what is predicted, and what is not masked has no share of the loss.
#[test]
fn masked_pixels_are_unseen_and_only_they_count() {
    let device = device();
    let set = &sets_with("bert", Precision::F32)[0];
    let part = set.part("bert");
    let (model, parameters) = set.model(&device);
    let (tokens, masked) = masked(&part);
    let length = tokens.len() / BATCH;

    let logits = |tokens: &[u16]| {
        let batch = model.bert_batch(&device, tokens, length, &masked, 1.0).unwrap();
        let features = model
            .features(&mut Forward::new(&device, &parameters, &mut NoTape), &batch.inputs, batch.mask, |_| Ok(()))
            .unwrap();
        device
            .download(model.logits(&mut Forward::new(&device, &parameters, &mut NoTape), &features).unwrap().value())
            .unwrap()
    };

    let masked_at = masked.iter().position(|masked| *masked).unwrap();
    let seen = masked.iter().position(|masked| !*masked).unwrap();
    let (mut other, mut visible) = (tokens.to_vec(), tokens.to_vec());
    other[masked_at] = (other[masked_at] + 1) % 512;
    visible[seen] = (visible[seen] + 1) % 512;

    assert!(logits(tokens) == logits(&other), "a masked pixel was seen");
    let (before, after) = (logits(tokens), logits(&visible));
    let row = masked_at * 512..(masked_at + 1) * 512;
    assert!(before[row.clone()] != after[row], "a visible pixel was not seen");

    let batch = model.bert_batch(&device, tokens, length, &masked, 1.0).unwrap();
    let weights = device.download(&batch.weights).unwrap();
    for (weights, masked) in weights.chunks(length).zip(masked.chunks(length)) {
        assert!(weights.iter().zip(masked).all(|(weight, masked)| (*weight != 0.0) == *masked));
        assert!((weights.iter().sum::<f32>() - 1.0 / BATCH as f32).abs() < 1e-6);
    }
}

/// The trainer's masks are those of the sample's number, whatever stands beside it in a batch.
#[test]
fn accumulated_bert_gradients_are_those_of_the_big_batch() {
    use igpt_engine::data::Batch;
    let device = device();
    let set = &sets_with("bert", Precision::F32)[0];
    let tokens = &set.part("activations").integers["targets"];
    let length = tokens.len() / BATCH;

    let step = |sizes: &[usize]| {
        let (model, parameters) = set.model(&device);
        let adam = Adam::new(&device, &parameters, AdamConfig::default()).unwrap();
        let schedule = Schedule { kind: ScheduleKind::Constant, peak: 0.0, warmup: 0, steps: 1, cooldown: 0 };
        let mut trainer = Trainer::new(&device, model, parameters, adam, schedule, Objective::Bert).unwrap();

        let mut first = 0;
        let batches: Vec<Batch> = sizes
            .iter()
            .map(|size| {
                let tokens = tokens[first * length..(first + size) * length].to_vec();
                let batch = Batch { tokens, first_sample: 7 + first as u64, ..Batch::default() };
                first += size;
                batch
            })
            .collect();

        let outcome = trainer.step(&batches, length).unwrap();
        (outcome.loss, outcome.gradient_norm)
    };

    let (whole, parts) = (step(&[2]), step(&[1, 1]));
    assert!((whole.0 - parts.0).abs() < 1e-6 && (whole.1 - parts.1).abs() < 1e-5, "{whole:?} {parts:?}");
}

#[test]
fn an_image_without_a_mask_is_refused() {
    let device = device();
    let (model, _) = sets_with("bert", Precision::F32)[0].model(&device);
    let masked = [[true; 8], [false; 8]].concat();
    let Err(error) = model.bert_batch(&device, &[0; 16], 8, &masked, 1.0) else { panic!("it should be refused") };
    assert!(error.to_string().contains("image 1"), "{error}");
    assert!(model.bert_batch(&device, &[0; 16], 8, &masked[..8], 1.0).is_err());
}
