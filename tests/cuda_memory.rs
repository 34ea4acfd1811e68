//! The memory of a GPU and the contexts that it is in, on simulated cards: counted, lent, given back, and usable after accidents.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::AtomicBool;

use cudasim::Simulator;
use igpt_engine::data::{Batch, DataSpec};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{CudaDevice, Error, Precision, SampleOptions};
use igpt_engine::eval::{Evaluation, score};
use igpt_engine::model::{Criterion, ModelConfig, Objective, Preset, Transformer, parameter_specs};
use igpt_engine::optim::{Adam, AdamConfig, Average, Schedule, ScheduleKind};
use igpt_engine::plan::{Load, Shares, USABLE, Work};
use igpt_engine::sample::grid::drawn_at_once;
use igpt_engine::sample::{Generation, generate};
use igpt_engine::tape::{Parameters, Recompute};
use igpt_engine::train::{Events, Pace, Saved, Session, Settings, StepOutcome, Trainer};
use test_support::{devices, in_turn};

/// The simulator, with a card of these options that no other test uses.
fn card(ordinal: u32, options: &str) -> Option<Simulator> {
    let simulator = devices::simulator()?;
    static CARDS: Once = Once::new();
    CARDS.call_once(|| simulator.set_options(None, "devices=32").unwrap());
    simulator.set_options(Some(ordinal), options).unwrap();
    Some(simulator)
}

/// A run, and images at a time.
struct Run {
    config: ModelConfig,
    precision: Precision,
    images: usize,
    /// Images that are validated at a time, and whether an average of the weights is kept.
    validated: usize,
    ema: bool,
    recompute: Recompute,
}

impl Run {
    fn new([layers, width, heads]: [usize; 3], side: usize, images: usize, precision: Precision) -> Self {
        let config = ModelConfig { layers, width, heads, ..ModelConfig::preset(Preset::Tiny, side) };
        Self { config, precision, images, validated: images, ema: false, recompute: Recompute::None }
    }

    /// With an average, and validations of `images` at a time.
    fn averaged(self, images: usize) -> Self {
        Self { validated: images, ema: true, ..self }
    }

    fn recomputing(self, recompute: Recompute) -> Self {
        Self { recompute, ..self }
    }

    fn bert(self) -> Self {
        Self { config: ModelConfig { sos: false, ..self.config }, ..self }
    }

    fn classes(self) -> Self {
        let classes = ["cat", "dog", "owl"].map(str::to_owned).to_vec();
        Self { config: ModelConfig { classes, bias: true, ..self.config }, ..self }
    }

    fn length(&self) -> usize {
        self.config.positions
    }

    fn load(&self, work: Work) -> Load<'_> {
        let Self { config, precision, images, ema, validated, .. } = self;
        let (ema, eval_images) = (*ema, Some(*validated));
        let load = Load::new(config, work, *images, self.length(), *precision);
        Load { ema, eval_images, recompute: self.recompute, ..load }
    }

    fn batch(&self, step: usize) -> Batch {
        self.batch_of(self.images, step)
    }

    fn batch_of(&self, images: usize, step: usize) -> Batch {
        let pixels = images * self.length();
        Batch {
            tokens: (0..pixels).map(|i| ((i * i + 101 * step) % 512) as u16).collect(),
            labels: (0..images).map(|image| ((image + step) % 3) as u16).collect(),
            first_sample: (step * images) as u64,
        }
    }

    fn parameters(&self, device: &CudaDevice) -> igpt_engine::device::Result<Parameters<CudaDevice>> {
        Parameters::init(device, parameter_specs(&self.config), 7)
    }

    fn trainer<'d>(&self, device: &'d CudaDevice) -> igpt_engine::device::Result<Trainer<'d, CudaDevice>> {
        let parameters = self.parameters(device)?;
        let adam = Adam::new(device, &parameters, AdamConfig::default())?;
        let schedule = Schedule { kind: ScheduleKind::Constant, peak: 1e-3, warmup: 0, steps: 10, cooldown: 0 };
        let learns = !self.config.classes.is_empty();
        let criterion = Criterion {
            classification_weight: if learns { 1.0 } else { 0.0 },
            ..Criterion::from(self.config.objective())
        };
        let average = self.ema.then(|| Average::new(device, &parameters, 0.9)).transpose()?;
        let model = Transformer::new(self.config.clone()).unwrap().recomputing(self.recompute);
        Ok(Trainer::new(device, model, parameters, adam, schedule, criterion)?.with_average(average))
    }

    /// Three steps, what is done between steps, and one more step.
    fn train(&self, device: &CudaDevice) -> igpt_engine::device::Result<()> {
        let mut trainer = self.trainer(device)?;
        for step in 0..3 {
            trainer.step(&[self.batch(step)], self.length())?;
        }
        self.between(device, &trainer)?;
        trainer.step(&[self.batch(3)], self.length())?;
        Ok(())
    }

    /// Validation, the check before a checkpoint, a grid of samples.
    fn between(&self, device: &CudaDevice, trainer: &Trainer<'_, CudaDevice>) -> igpt_engine::device::Result<()> {
        let (model, parameters) = (trainer.model(), trainer.parameters());
        let tokens = self.batch_of(self.validated, 9).tokens;
        trainer.between_steps(|| score(device, model, parameters, &tokens, self.length()))?;
        trainer.between_steps(|| score(device, model, parameters, &tokens[..self.length()], self.length()))?;
        if self.config.objective() == Objective::Ar {
            let images = drawn_at_once(self.images, self.recompute);
            trainer.between_steps(|| generate(device, model, parameters, images, &[], self.generation(), |_| {}))?;
        }
        Ok(())
    }

    fn generation(&self) -> Generation {
        let options = SampleOptions::PLAIN;
        Generation { length: self.length(), options, seed: 0, first: 0, guidance: None }
    }

    fn bits(&self, device: &CudaDevice, trainer: &Trainer<'_, CudaDevice>) -> Vec<u32> {
        let values = trainer.parameters().values().iter().flat_map(|tensor| device.download(tensor).unwrap());
        values.map(f32::to_bits).collect()
    }
}

/// By how much a plan is off what was taken, in percent.
#[track_caller]
fn assert_planned(what: &str, planned: f64, device: &CudaDevice) {
    let taken = device.memory_use().allocated as f64;
    println!("{what}: {planned} bytes are planned, {taken} were taken: {:+.2} %", 100.0 * (planned / taken - 1.0));
    assert!((planned / taken - 1.0).abs() <= 0.03, "{what}: {planned} planned, {taken} taken");
}

fn shapes() -> [Run; 9] {
    [
        Run::new([2, 64, 2], 4, 16, Precision::Bf16),
        Run::new([3, 128, 4], 4, 4, Precision::F32),
        Run::new([1, 192, 3], 8, 3, Precision::Bf16),
        Run::new([4, 64, 2], 4, 20, Precision::Bf16).bert(),
        Run::new([2, 96, 3], 8, 2, Precision::F32).classes(),
        Run::new([2, 64, 2], 4, 8, Precision::Bf16).averaged(20),
        Run::new([3, 128, 4], 4, 12, Precision::Bf16).recomputing(Recompute::Norms),
        Run::new([4, 64, 2], 8, 4, Precision::Bf16).recomputing(Recompute::NormsMlp),
        Run::new([4, 96, 3], 8, 4, Precision::F32).recomputing(Recompute::Block),
    ]
}

#[test]
fn a_plan_is_what_is_taken() {
    for (ordinal, run) in in_turn((16..).zip(shapes()), 5) {
        let Some(_) = card(ordinal, "races=off") else { return };
        let device = CudaDevice::new(ordinal as usize, run.precision).unwrap();
        run.train(&device).unwrap();
        let name = format!("training {}x{}", run.config.layers, run.config.width);
        assert_planned(&name, run.load(Work::Training).on_gpu().unwrap().total(), &device);

        // Scoring and sampling alone, each on a device of its own.
        let model = Transformer::new(run.config.clone()).unwrap();
        let device = CudaDevice::new(ordinal as usize, run.precision).unwrap();
        let parameters = run.parameters(&device).unwrap();
        score(&device, &model, &parameters, &run.batch(0).tokens, run.length()).unwrap();
        assert_planned("scoring", run.load(Work::Forward).on_gpu().unwrap().total(), &device);
        if run.config.objective() == Objective::Ar {
            let device = CudaDevice::new(ordinal as usize, run.precision).unwrap();
            let parameters = run.parameters(&device).unwrap();
            // Completions, each of another image.
            let prompt = run.length() / 2;
            let prompts: Vec<u16> = (0..run.images).flat_map(|image| vec![image as u16 % 8; prompt]).collect();
            generate(&device, &model, &parameters, run.images, &prompts, run.generation(), |_| {}).unwrap();
            assert_planned("sampling", run.load(Work::Sampling).on_gpu().unwrap().total(), &device);
        }
    }
}

/// The card itself agrees: a run fits into what is planned and 3 %, and not into 3 % less.
#[test]
fn a_card_of_the_planned_size_holds_the_run_and_a_smaller_one_does_not() {
    let run = &shapes()[0];
    let planned = run.load(Work::Training).on_gpu().unwrap().total();
    for (ordinal, share, fits) in [(15, 1.03, true), (7, 0.97, false)] {
        let Some(_) = card(ordinal, &format!("races=off,memory={}", (planned * share) as u64)) else { return };
        let device = CudaDevice::new(ordinal as usize, run.precision).unwrap();
        match run.train(&device) {
            Ok(()) => assert!(fits, "{share} of the planned memory was enough"),
            Err(error) => {
                let text = error.to_string();
                assert!(!fits && text.contains("OUT_OF_MEMORY") && text.contains("smaller batch"), "{text}");
            }
        }
    }
}

/// Work between steps takes next to nothing of its own, changes no bit of what follows, and must give back what it took.
#[test]
fn work_between_steps_borrows_the_memory_of_a_recorded_step() {
    let run = Run::new([2, 64, 2], 4, 16, Precision::Bf16);
    let Some(_) = card(8, "seed=3") else { return };
    let device = CudaDevice::poisoned(8, run.precision).unwrap();
    let [mut trainer, mut other] = [(); 2].map(|()| run.trainer(&device).unwrap());
    for step in 0..3 {
        trainer.step(&[run.batch(step)], run.length()).unwrap();
        other.step(&[run.batch(step)], run.length()).unwrap();
    }
    assert!(trainer.replays());

    // The same images once more without the loan, for comparison.
    let (model, parameters, tokens) = (trainer.model(), trainer.parameters(), run.batch(9).tokens);
    let before = device.memory_use().allocated;
    let lent = trainer.between_steps(|| score(&device, model, parameters, &tokens, run.length())).unwrap();
    assert_eq!(device.memory_use().allocated, before, "a batch of the step's size takes nothing");
    run.between(&device, &trainer).unwrap();
    let grown = device.memory_use().allocated - before;
    assert!(grown * 20 < before, "{grown} bytes beside {before}");
    let own = score(&device, model, parameters, &tokens, run.length()).unwrap();
    assert!(device.memory_use().allocated > before + grown, "what is not lent is allocated");
    assert_eq!(lent, own);

    // A tensor that stays is refused, and nothing is lost by it.
    let kept: Result<_, Error> = trainer.between_steps(|| device.zeros(&[run.images * run.length(), 64]));
    let error = kept.err().expect("a tensor was kept").to_string();
    assert!(error.contains("between two replays kept memory"), "{error}");
    let failed: Result<(), Error> = trainer.between_steps(|| device.upload(&[2], &[1.0]).map(drop));
    assert!(failed.unwrap_err().to_string().contains("upload"));
    for step in 3..5 {
        let [one, two] =
            [&mut trainer, &mut other].map(|trainer| trainer.step(&[run.batch(step)], run.length()).unwrap());
        assert_eq!(one, two);
    }
    assert!(run.bits(&device, &trainer) == run.bits(&device, &other), "the loan has changed bits");
}

/// Keeps what a run says.
#[derive(Default)]
struct Notes(Vec<String>, usize);

impl Events for Notes {
    fn started(&mut self, _step: u64, _steps: u64) {}
    fn stepped(&mut self, _outcome: &StepOutcome, _pace: &Pace) {}
    fn evaluated(&mut self, _step: u64, _evaluation: &Evaluation) {
        self.1 += 1;
    }
    fn saved(&mut self, _saved: &Saved<'_>) {}
    fn sampled(&mut self, _step: u64, _picture: &Path) {}
    fn note(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

/// Memory that another program takes while a run trains makes its validations smaller, and does not end it.
#[test]
fn a_validation_that_finds_the_card_full_takes_fewer_images_at_a_time() {
    let Some(_) = card(14, "memory=67108864") else { return };
    let place = tempfile::tempdir().unwrap();
    let settings = Settings {
        layers: Some(1),
        width: Some(64),
        heads: Some(2),
        resolution: Some(8),
        batch: 1,
        steps: 2,
        warmup: 0,
        eval_every: 1,
        eval_images: 64,
        eval_batch: Some(64),
        sample_every: 0,
        save_every: 0,
        precision: Some(Precision::F32),
        ..Settings::pretraining(DataSpec::Sample, &place.path().join("run")).unwrap()
    };
    let device = CudaDevice::new(14, Precision::F32).unwrap();
    let session = Session::open(&device, settings, None, false).unwrap();

    // Of 64 MiB, 5 are left beside what the run has taken so far: enough for the next step beside what a validation keeps.
    let other = CudaDevice::new(14, Precision::F32).unwrap();
    let taken = (64 << 20) - device.memory_use().allocated - (5 << 20);
    let taken = other.zeros(&[taken / 4]).unwrap();
    let mut notes = Notes::default();
    let outcome =
        session.run(&mut notes, &AtomicBool::new(false)).unwrap_or_else(|error| panic!("{error}: {:?}", notes.0));
    drop(taken);
    assert_eq!((outcome.step, notes.1), (2, 2), "{:?}", notes.0);
    let said: Vec<&String> = notes.0.iter().filter(|note| note.contains("memory ended while")).collect();
    assert!(said[0].contains("while 64 images were validated at a time; it is 32"), "{said:?}");
    // What has been found out once is not tried again.
    assert!(said.iter().filter(|note| note.contains("while 64")).count() == 1, "{said:?}");
}

/// `--fit` on cards that hold only a part of what the whole step would take at once: what it chooses keeps the step, is written down, fits,
/// and takes what was counted.
#[test]
fn a_run_that_is_fitted_to_a_card_takes_what_was_counted() {
    let cases = [
        (Run::new([2, 64, 2], 4, 16, Precision::Bf16), 0.85),
        (Run::new([3, 64, 2], 4, 32, Precision::F32).bert(), 0.6),
        (Run::new([4, 64, 2], 4, 32, Precision::Bf16).bert(), 0.2),
        (Run::new([3, 96, 3], 4, 8, Precision::Bf16).bert(), 0.93),
    ];
    for (ordinal, (run, share)) in in_turn((26..).zip(cases), 2) {
        let all = run.load(Work::Training);
        let least = Load { images: 1, recompute: Recompute::Block, eval_images: Some(1), ..all };
        let [all, least] = [all, least].map(|load| load.on_gpu().unwrap().total());
        let room = least + share * (all - least);
        let Some(_) = card(ordinal, &format!("races=off,memory={}", (room / USABLE) as u64)) else { return };
        let place = tempfile::tempdir().unwrap();
        let ModelConfig { layers, width, heads, sos, .. } = run.config;
        let settings = Settings {
            layers: Some(layers),
            width: Some(width),
            heads: Some(heads),
            resolution: Some(4),
            objective: if sos { Objective::Ar } else { Objective::Bert },
            mask_rate: (!sos).then_some(0.5),
            batch: run.images,
            steps: 3,
            warmup: 0,
            eval_every: 3,
            eval_images: 2,
            sample_every: if sos { 3 } else { 0 },
            save_every: 0,
            precision: Some(run.precision),
            fit: true,
            ..Settings::pretraining(DataSpec::Sample, &place.path().join("run")).unwrap()
        };
        let device = CudaDevice::new(ordinal as usize, run.precision).unwrap();
        let session = Session::open(&device, settings, None, false).unwrap();
        let mut notes = Notes::default();
        session.run(&mut notes, &AtomicBool::new(false)).unwrap();

        // Another way than all at once with all kept, and the same step.
        let kept = Settings::read(&place.path().join("run")).unwrap();
        let offload = kept.offload_optimizer;
        println!("{} of {} images, recompute {}, {offload}: {:?}", kept.batch, run.images, kept.recompute, notes.0);
        assert!(kept.batch < run.images || kept.recompute != Recompute::None || offload);
        assert_eq!(kept.batch * kept.accumulate, run.images);
        assert!(notes.0[0].contains(&format!("--batch {} --accumulate {}", kept.batch, kept.accumulate)));
        let run = Run { images: kept.batch, validated: kept.batch, recompute: kept.recompute, ..run };
        let load = run.load(Work::Training);
        let planned = Load { shares: Shares { offload, ..load.shares }, ..load }.on_gpu().unwrap().total();
        assert!(planned <= room * 1.000_001);
        assert_planned("fitted", planned, &device);
    }
}

/// Buffers of sizes that nobody needs any more are given back before a card is said to be full.
#[test]
fn a_full_card_gives_back_what_is_free_and_tries_again() {
    let Some(_) = card(9, "memory=33554432") else { return };
    let device = CudaDevice::new(9, Precision::F32).unwrap();
    let kept = device.upload(&[3], &[1.0, 2.0, 3.0]).unwrap();
    // Together far more than the card has.
    for mebibytes in 1..16 {
        drop(device.zeros(&[mebibytes, 1 << 18]).unwrap());
    }
    assert!(device.memory_use().allocated <= 32 << 20, "{:?}", device.memory_use());
    let error = device.zeros(&[33, 1 << 18]).err().expect("more than the card has").to_string();
    assert!(error.contains("cuMemAlloc") && error.contains("smaller batch"), "{error}");
    assert_eq!(device.download(&kept).unwrap(), [1.0, 2.0, 3.0]);
    drop(device.zeros(&[31, 1 << 18]).unwrap());
}

/// Two cards on one thread, a step each in turn: every call is for the card that it is meant for.
#[test]
fn two_devices_take_turns_on_one_thread() {
    let run = Run::new([2, 64, 2], 4, 2, Precision::Bf16);
    let Some(_) = card(10, "seed=1") else { return };
    card(11, "seed=2");
    let cards = [10, 11].map(|ordinal| CudaDevice::new(ordinal, run.precision).unwrap());
    let mut trainers = cards.each_ref().map(|device| run.trainer(device).unwrap());
    for step in 0..4 {
        let [one, two] = trainers.each_mut().map(|trainer| trainer.start(&[run.batch(step)], run.length()).unwrap());
        let [one, two] = [trainers[0].finish(one).unwrap(), trainers[1].finish(two).unwrap()];
        assert_eq!(one, two);
        if step == 2 {
            cards.iter().zip(&trainers).for_each(|(device, trainer)| run.between(device, trainer).unwrap());
        }
    }

    let bits: Vec<_> = cards.iter().zip(&trainers).map(|(device, trainer)| run.bits(device, trainer)).collect();
    assert!(bits[0] == bits[1], "the cards' bits differ");
    // Buffers, pinned memory and the graph of the one are freed while the other is current.
    let [first, second] = trainers;
    cards[1].synchronize().unwrap();
    drop(first);
    cards[0].synchronize().unwrap();
    drop(second);
    cards.iter().for_each(|device| device.synchronize().unwrap());
}

/// What fails or panics while it is recorded leaves a device that computes, records and frees.
#[test]
fn a_recording_that_panics_leaves_a_usable_device() {
    let Some(_) = card(12, "seed=1") else { return };
    let device = CudaDevice::new(12, Precision::F32).unwrap();
    let one = device.upload(&[1000], &[1.0; 1000]).unwrap();
    let mut sum = device.zeros(&[1000]).unwrap();
    device.add_assign(&mut sum, &one).unwrap();

    for panics in [true, false, true] {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            device.record(|| {
                let scratch = device.zeros(&[500, 3])?;
                device.add_assign(&mut sum, &one)?;
                assert!(!panics, "planted");
                drop(scratch);
                device.add_assign(&mut sum, &device.zeros(&[7])?)
            })
        }));
        assert_eq!(outcome.is_err(), panics);
        if let Ok(outcome) = outcome {
            assert!(outcome.err().expect("the shapes differ").to_string().contains("add_assign"));
        }

        // Nothing of it was done, and the next recording is as good as any.
        let before = device.download(&sum).unwrap()[0];
        let ((), recording) = device.record(|| device.add_assign(&mut sum, &one)).unwrap();
        device.replay(recording.as_ref().unwrap()).unwrap();
        assert_eq!(device.download(&sum).unwrap(), [before + 2.0; 1000]);
    }
    device.synchronize().unwrap();
}

/// A driver may read pageable memory as late as its stream gets there: the upload waits for that, whatever becomes of the values.
#[test]
fn uploads_are_done_when_they_return() {
    let Some(_) = card(13, "streams=late,late_pageable=on") else { return };
    let device = CudaDevice::new(13, Precision::F32).unwrap();
    let mut values = vec![1.0f32; 5000];
    let tensor = device.upload(&[5000], &values).unwrap();
    values.fill(2.0);
    let tokens = vec![7_u16; 40];
    let ids = device.upload_tokens([4, 10], &tokens).unwrap();
    drop(tokens);
    let table = device.upload(&[8, 5], &[3.0; 40]).unwrap();
    let positions = device.upload(&[10, 5], &[0.5; 50]).unwrap();
    let embedded = device.embedding(&table, &positions, &ids, None).unwrap();
    assert_eq!(device.download(&tensor).unwrap(), [1.0; 5000]);
    assert_eq!(device.download(&embedded).unwrap(), [3.5; 200]);
}
