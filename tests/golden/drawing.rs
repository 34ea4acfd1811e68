//! Drawing: prompts fed at once are those fed token by token, and an image hangs on nothing that is drawn beside it.

use igpt_engine::device::{CpuDevice, Precision, SampleOptions, Tensors};
use igpt_engine::sample::{Decoder, Generation, generate};

use super::{BATCH, length_of, sets_with};

/// A prompt in one pass leaves the caches that its tokens leave one by one, for some images and for copies of one.
#[test]
fn a_prompt_fed_at_once_is_one_fed_token_by_token() {
    for set in sets_with("activations", Precision::F32) {
        let device = CpuDevice::poisoned(Some(2)).unwrap();
        let part = set.part("activations");
        let (model, parameters) = set.model(&device);
        let (targets, images) = (&part.integers["targets"], 3);
        let length = length_of(&part, BATCH);
        let prompt = length / 2;
        let same = |image: usize| if image == 2 { 1 } else { image };
        let prompts: Vec<u16> = (0..images).flat_map(|image| &targets[same(image)..][..prompt]).copied().collect();
        let token = |image: usize, at: usize| prompts[image * prompt + at];
        let feed = |at: usize| -> Vec<u16> {
            (0..images).map(|image| if at == 0 { model.sos() } else { token(image, at - 1) }).collect()
        };

        let mut slow = Decoder::new(&device, &model, &parameters, images, length).unwrap();
        (0..prompt).for_each(|at| drop(slow.step(&feed(at)).unwrap()));
        let mut fast = Decoder::prompted(&device, &model, &parameters, images, &prompts, length).unwrap();
        let [slow, fast] =
            [&mut slow, &mut fast].map(|decoder| device.download(&decoder.step(&feed(prompt)).unwrap()).unwrap());

        let scale = slow.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
        for (slow, fast) in slow.iter().zip(&fast) {
            assert!((slow - fast).abs() <= 2e-5 * scale, "{fast} instead of {slow}, largest {scale}");
        }
        let colours = slow.len() / images;
        assert!(fast[colours..2 * colours] == fast[2 * colours..], "copies of an image");
    }
}

/// A step that is taken again says the same, whatever was fed behind it.
#[test]
fn a_step_taken_again_says_the_same() {
    for set in sets_with("activations", Precision::F32) {
        let device = CpuDevice::poisoned(Some(2)).unwrap();
        let (model, parameters) = set.model(&device);
        let targets = &set.part("activations").integers["targets"];
        let mut decoder = Decoder::new(&device, &model, &parameters, 1, 6).unwrap();
        let step =
            |decoder: &mut Decoder<'_, _>, token: u16| device.download(&decoder.step(&[token]).unwrap()).unwrap();

        let first = [model.sos(), targets[0], targets[1]].map(|token| step(&mut decoder, token));
        step(&mut decoder, targets[5]);
        decoder.rewind(1);
        assert!([targets[0], targets[1]].map(|token| step(&mut decoder, token)) == first[1..]);

        // Never forward.
        decoder.rewind(6);
        let third = step(&mut decoder, targets[2]);
        decoder.rewind(3);
        assert!(step(&mut decoder, targets[2]) == third);
    }
}

/// The tokens of an image are the same alone and beside others, on one thread and on three, with its weights laid out or not, in f32 and in bf16.
#[test]
fn an_image_is_the_same_whatever_is_drawn_beside_it() {
    let sets = [Precision::F32, Precision::Bf16]
        .map(|drawing| sets_with("activations", Precision::F32).into_iter().map(move |set| (set, drawing)));
    for (set, drawing) in sets.into_iter().flatten() {
        let targets = &set.part("activations").integers["targets"];
        let draw = |threads, prepared: bool, first: u64, images: usize, prompt: usize| {
            let device = CpuDevice::new(Some(threads)).unwrap().drawing_in(drawing);
            let (model, parameters) = set.model(&device);
            if prepared {
                model.prepare_decoding(&device, &parameters).unwrap();
            }
            let length = model.config().positions;
            let prompts: Vec<u16> = (first as usize..first as usize + images)
                .flat_map(|image| &targets[image..][..prompt])
                .copied()
                .collect();
            let generation = Generation { length, options: SampleOptions::PLAIN, seed: 3, first, guidance: None };
            (length, generate(&device, &model, &parameters, images, &prompts, generation, |_| {}).unwrap())
        };
        for prompt in [0, 7] {
            let (length, seven) = draw(2, false, 0, 7, prompt);
            for (threads, prepared, first, images) in
                [(1, true, 0, 7), (3, true, 0, 7), (2, true, 2, 1), (3, false, 1, 5)]
            {
                let (_, drawn) = draw(threads, prepared, first as u64, images, prompt);
                assert!(drawn == seven[first * length..][..images * length], "{threads} {prepared} {first} {images}");
            }
        }
    }
}
