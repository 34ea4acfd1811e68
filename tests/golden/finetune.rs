//! Fine-tuning: a class head on the mean of the final features, and the sum of both losses.

use super::*;
use igpt_engine::checkpoint::huggingface::ModelFile;
use igpt_engine::checkpoint::{CheckpointError, load_config};
use igpt_engine::data::{self, AugmentKey, Batch, Examples};
use igpt_engine::device::prelude::*;
use igpt_engine::eval::{Evaluation, EvaluationPlan, Masks, evaluate_with};
use igpt_engine::model::{CLASS_HEAD, ClassBatch, Criterion, Masking, ModelConfig, modal_class};
use igpt_engine::train::TrainError;

/// The golden model with the golden class head.
fn with_head<D: Device>(device: &D, set: &Set, part: &Part) -> (Transformer, Parameters<D>) {
    let head = &part.floats["score.weight"];
    let config = load_config(&set.folder).unwrap();
    let classes = (0..head.len() / config.width).map(|class| format!("class {class}")).collect();
    let config = ModelConfig { classes, ..config };
    let mut file = ModelFile::open(&set.folder).unwrap();
    let parameters = Parameters::from_fn(device, parameter_specs(&config), |_, spec| match spec.name.as_str() {
        CLASS_HEAD => Ok::<_, CheckpointError>(head.iter().map(|value| *value as f32).collect()),
        name => file.read(name),
    });
    (Transformer::new(config).unwrap(), parameters.unwrap())
}

#[test]
fn finetuning_losses_and_gradients_match() {
    finetuning(&device(), Precision::F32);
}

pub fn finetuning<D: Device>(device: &D, precision: Precision) {
    for set in sets_with("finetune", precision) {
        let part = set.part("finetune");
        let (model, parameters) = with_head(device, &set, &part);
        let targets = &part.integers["targets"];
        let batch = model.autoregressive_batch(device, targets, length_of(&part, BATCH), 1.0).unwrap();
        assert_eq!(device.download_tokens(&batch.inputs).unwrap(), part.integers["input_ids"]);
        let classes = ClassBatch::new(device, &part.integers["labels"], BATCH, 1.0).unwrap();

        let features = model
            .features(&mut Forward::new(device, &parameters, &mut NoTape), &batch.inputs, batch.mask, |_| Ok(()))
            .unwrap();
        let logits = model.class_logits(&mut Forward::new(device, &parameters, &mut NoTape), &features).unwrap();
        set.assert_close(&part, "class_logits", &device.download(logits.value()).unwrap());

        let mut tape = Tape::default();
        let losses =
            model.joint_loss(&mut Forward::new(device, &parameters, &mut tape), &batch, true, Some(&classes)).unwrap();
        let value = |loss: &D::Tensor| f64::from(device.download(loss).unwrap()[0]);
        let (generative, class) = (value(&losses.generative.unwrap().loss), value(&losses.class.unwrap().loss));
        set.assert_close_f64(&part, "loss_gen", &[generative]);
        set.assert_close_f64(&part, "loss_clf", &[class]);
        set.assert_close_f64(&part, "loss_total", &[generative + class]);
        let mut gradients = parameters.zeros_like(device).unwrap();
        tape.backward(device, &parameters, &mut gradients).unwrap();
        for (spec, gradient) in parameters.specs().iter().zip(&gradients) {
            set.assert_close(&part, &format!("grad.{}", spec.name), &device.download(gradient).unwrap());
        }
    }
}

/// The gradient of `a · L_GEN + b · L_CLF` is `a` times the one and `b` times the other.
#[test]
fn weights_scale_each_loss_and_its_gradient() {
    let device = device();
    let set = &sets_with("finetune", Precision::F32)[0];
    let part = set.part("finetune");
    let length = length_of(&part, BATCH);
    let batch =
        Batch { tokens: part.integers["targets"].clone(), labels: part.integers["labels"].clone(), first_sample: 0 };

    let step = |generative_weight: f32, classification_weight: f32| {
        let (model, parameters) = with_head(&device, set, &part);
        let adam = Adam::new(&device, &parameters, AdamConfig::default()).unwrap();
        let schedule = Schedule { kind: ScheduleKind::Constant, peak: 0.0, warmup: 0, steps: 1, cooldown: 0 };
        let criterion = Criterion { generative_weight, classification_weight, ..Objective::Ar.into() };
        let mut trainer = Trainer::new(&device, model, parameters, adam, schedule, criterion).unwrap();
        let outcome = trainer.step(std::slice::from_ref(&batch), length).unwrap();
        let gradients: Vec<f32> =
            trainer.gradients().iter().flat_map(|gradient| device.download(gradient).unwrap()).collect();
        (outcome, gradients)
    };

    let ((generative, of_generative), (class, of_class), (both, of_both)) =
        (step(1.0, 0.0), step(0.0, 1.0), step(0.5, 3.0));
    assert_eq!((generative.class_loss, class.generative_loss), (None, None));
    set.assert_close_f64(&part, "loss_gen", &[generative.loss]);
    set.assert_close_f64(&part, "loss_clf", &[class.loss]);

    assert!((both.loss - (0.5 * generative.loss + 3.0 * class.loss)).abs() < 1e-5);
    assert!((both.generative_loss.unwrap() - generative.loss).abs() < 1e-5);
    assert!((both.class_loss.unwrap() - class.loss).abs() < 1e-5);

    let scale = of_both.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
    for ((generative, class), both) in of_generative.iter().zip(&of_class).zip(&of_both) {
        let expected = 0.5 * generative + 3.0 * class;
        assert!((both - expected).abs() <= 4e-6 * scale, "{both} instead of {expected}, largest {scale}");
    }
}

/// At the start of fine-tuning the head is zero: the class loss is the logarithm of the number of classes, and of all that the
/// class loss could move only the head is moved.
#[test]
fn a_fresh_head_scores_ln_of_the_classes() {
    let device = device();
    let set = &sets_with("finetune", Precision::F32)[0];
    let part = set.part("finetune");

    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    let config = ModelConfig { classes, ..load_config(&set.folder).unwrap() };
    let parameters = checkpoint::load_body(&device, &set.folder, &config).unwrap();
    let model = Transformer::new(config).unwrap();

    let batch = model.autoregressive_batch(&device, &part.integers["targets"], length_of(&part, BATCH), 1.0).unwrap();
    let labels = ClassBatch::new(&device, &part.integers["labels"], BATCH, 1.0).unwrap();
    let mut tape = Tape::default();
    let losses =
        model.joint_loss(&mut Forward::new(&device, &parameters, &mut tape), &batch, false, Some(&labels)).unwrap();

    let loss = f64::from(device.download(&losses.class.unwrap().loss).unwrap()[0]);
    assert!((loss - 10_f64.ln()).abs() < 1e-6, "{loss}");

    let mut gradients = parameters.zeros_like(&device).unwrap();
    tape.backward(&device, &parameters, &mut gradients).unwrap();
    for (spec, gradient) in parameters.specs().iter().zip(&gradients) {
        let alive = device.download(gradient).unwrap().iter().any(|value| *value != 0.0);
        assert_eq!(alive, spec.name == CLASS_HEAD, "{}", spec.name);
    }
}

#[test]
fn labels_that_do_not_fit_are_refused() {
    let device = device();
    let set = &sets_with("finetune", Precision::F32)[0];
    let (model, parameters) = with_head(&device, set, &set.part("finetune"));
    assert!(ClassBatch::new(&device, &[1], 2, 1.0).is_err(), "a label is missing");
    let batch = model.autoregressive_batch(&device, &[3; 64], 64, 1.0).unwrap();
    let classes = ClassBatch::new(&device, &[10], 1, 1.0).unwrap();
    let loss = model.joint_loss(&mut Forward::new(&device, &parameters, &mut NoTape), &batch, true, Some(&classes));
    assert!(loss.is_err(), "there is no class 10");
    let (headless, parameters) = set.model(&device);
    assert!(
        headless
            .joint_loss(&mut Forward::new(&device, &parameters, &mut NoTape), &batch, true, Some(&classes))
            .is_err()
    );
}

/// Made-up images of 64 pixels, each of its own few colours.
struct MadeUp(usize);

impl Examples for MadeUp {
    fn len(&self) -> usize {
        self.0
    }

    fn sequence_length(&self) -> usize {
        64
    }

    fn vocabulary(&self) -> usize {
        512
    }

    fn tokens(&self, index: usize, _augment: Option<AugmentKey>, out: &mut [u16]) -> data::Result<()> {
        out.iter_mut()
            .enumerate()
            .for_each(|(pixel, out)| *out = ((index * 131 + pixel % 5 * 17 + pixel / 16) % 512) as u16);
        Ok(())
    }

    fn label(&self, index: usize) -> Option<u16> {
        Some((index % 10) as u16)
    }

    fn classes(&self) -> usize {
        10
    }

    fn describe(&self) -> String {
        "made-up images".to_owned()
    }
}

/// An ensemble's prediction is the mode of what the model says under each of the masks, and its losses are their means.
#[test]
fn an_ensemble_is_the_mode_of_its_masks() {
    let device = device();
    let set = &sets_with("finetune", Precision::F32)[0];
    let (model, parameters) = with_head(&device, set, &set.part("finetune"));
    let (images, draws) = (40, 5);
    let masking = Masking { rate: 0.6, seed: 2 };

    let evaluate = |masks: Masks<'_>, batch: usize| -> (Evaluation, Vec<u16>) {
        let plan = EvaluationPlan { images, batch, objective: Objective::Bert, masks };
        let mut classes = Vec::new();
        let result = evaluate_with(&device, &model, &parameters, &MadeUp(images), &plan, |scores| {
            classes.extend_from_slice(scores.classes);
            Ok::<_, TrainError>(())
        });
        (result.unwrap(), classes)
    };

    let single: Vec<(Evaluation, Vec<u16>)> =
        (0..draws).map(|draw| evaluate(Masks::Given(&masking.evaluation(draw, 0, images, 64)), 7)).collect();
    let (ensemble, voted) = evaluate(Masks::Random { masking, per_image: draws }, 16);

    let votes = |image: usize| single.iter().map(|(_, classes)| classes[image]).collect::<Vec<_>>();
    let expected: Vec<u16> =
        (0..images).map(|image| modal_class(&votes(image), masking.seed, image as u64).unwrap()).collect();
    assert_eq!(voted, expected);
    assert!(
        (0..images).any(|image| votes(image).iter().any(|class| *class != voted[image])),
        "the masks never disagree"
    );

    let mean = |of: fn(&Evaluation) -> f64| single.iter().map(|(result, _)| of(result)).sum::<f64>() / draws as f64;
    let loss = |result: &Evaluation| result.classification.unwrap().loss;
    assert!((ensemble.nats_per_token - mean(|result| result.nats_per_token)).abs() < 1e-9);
    assert!((loss(&ensemble) - mean(loss)).abs() < 1e-9);

    let right = voted.iter().enumerate().filter(|(image, class)| usize::from(**class) == image % 10).count();
    assert_eq!(ensemble.classification.unwrap().accuracy, right as f64 / images as f64);
    assert_eq!(ensemble.tokens, single.iter().map(|(result, _)| result.tokens).sum::<usize>());
}
