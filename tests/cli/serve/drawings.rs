//! Drawings: the pixels of `sample`, of every kind of model.

use std::io::{BufRead, BufReader, Write};

use igpt_engine::data::npy::Npy;
use serde_json::{Value, json};
use test_support::golden_files::golden_set;

use super::{SLOW, Server, drawn, events, photo, request, trained};
use crate::{assert_succeeds, cuda, engine};

#[test]
fn the_same_seed_gives_the_pixels_of_sample() {
    let (folder, run) = trained(&["--steps", "20"]);
    let server = Server::start(&run);
    let file = folder.path().join("photo.png");
    std::fs::write(&file, photo()).unwrap();
    let tokens = server.upload(&photo()).tokens();
    assert_eq!(tokens.len(), 64);

    for (options, flags) in [
        (json!({}), &[][..]),
        (json!({"seed": 7, "temperature": 0.8}), &["--sample-seed", "7", "--temperature", "0.8"]),
        (json!({"seed": 3, "top_k": 5, "top_p": 0.9}), &["--sample-seed", "3", "--top-k", "5", "--top-p", "0.9"]),
        (json!({"temperature": 0, "top_k": 3, "seed": 9}), &["--temperature", "0"]),
    ] {
        let mut wanted = json!({"tokens": tokens, "kept": 32, "count": 3});
        wanted.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let images = drawn(&server.draw(&wanted), 64);

        let out = folder.path().join("tokens.npy");
        let mut sample = engine();
        sample.arg("sample").arg(&file).args(["--completions", "3"]).args(flags).arg("--checkpoint").arg(&run);
        assert_succeeds(sample.arg("--out").arg(folder.path().join("grid.png")).arg("--tokens-out").arg(&out));
        let expected: Vec<u16> = Npy::open(&out).unwrap().to_f32().unwrap().iter().map(|token| *token as u16).collect();
        assert_eq!(images.concat(), expected, "{wanted}");
        assert!(images.iter().all(|image| image[..32] == tokens[..32]));
    }
    let from_nothing = drawn(&server.draw(&json!({"count": 2, "seed": 1})), 64);
    assert_ne!(from_nothing[0], from_nothing[1]);
}

/// A line for each pixel, one by one, in the model's order.
#[test]
fn pixels_come_in_the_models_order_and_what_is_kept_stays() {
    for (order, first) in [("raster", [0, 1, 2]), ("columns", [0, 8, 16]), ("spiral", [0, 1, 2])] {
        let (_folder, run) = trained(&["--steps", "2", "--order", order]);
        let server = Server::start(&run);
        let model: Value = serde_json::from_slice(&server.get("/model.json").body).unwrap();
        assert_eq!((&model["order"], &model["side"]), (&order.into(), &8.into()));
        let tokens = server.get("/example.json?3").tokens();
        let answer = server.draw(&json!({"tokens": tokens, "kept": 24, "count": 2}));
        let events = events(&answer);
        assert_eq!((&events[0]["event"], events.len()), (&"drawing".into(), 66));
        let pixels: Vec<usize> = events[1..65].iter().map(|event| event["pixel"].as_u64().unwrap() as usize).collect();
        assert_eq!(pixels[..3], first, "{order}");
        let expected: Vec<usize> = match model["pixels"].as_array() {
            None => (0..64).collect(),
            Some(pixels) => pixels.iter().map(|pixel| pixel.as_u64().unwrap() as usize).collect(),
        };
        assert_eq!(pixels, expected, "{order}");
        for image in drawn(&answer, 64) {
            assert!(pixels[..24].iter().all(|pixel| image[*pixel] == tokens[*pixel]), "{order}");
        }
    }
}

/// A client sees pixels while others are still to come.
#[test]
fn pixels_are_sent_as_they_are_drawn() {
    let (_folder, run) = trained(&SLOW);
    let server = Server::start(&run);
    let body = json!({"count": 8}).to_string();
    let mut stream = server.connect();
    stream
        .write_all(&request(server.address, "POST /draw", "Content-Type: application/json\r\n", body.as_bytes()))
        .unwrap();
    let lines = BufReader::new(stream).lines().map(|line| (std::time::Instant::now(), line.unwrap()));
    let pixels: Vec<_> = lines.filter(|(_, line)| line.contains("\"pixel\"")).map(|(when, _)| when).collect();
    assert_eq!(pixels.len(), 1024);
    let (early, late) = (pixels[100] - pixels[0], pixels[1023] - pixels[0]);
    assert!(early < late / 2, "a tenth of the pixels came after {early:?} of {late:?}");
}

#[test]
fn a_bert_model_fills_any_mask() {
    let (_folder, run) = trained(&["--steps", "20", "--objective", "bert"]);
    let server = Server::start(&run);
    let model: Value = serde_json::from_slice(&server.get("/model.json").body).unwrap();
    assert_eq!(model["objective"], "bert");
    let tokens = server.upload(&photo()).tokens();
    let hidden = |pixel: usize| pixel % 5 == 2 || pixel == 63;
    let mask: String = (0..64).map(|pixel| if hidden(pixel) { '1' } else { '0' }).collect();
    let draw = |seed: u64| server.draw(&json!({"tokens": tokens, "mask": mask, "count": 3, "seed": seed}));

    // What is hidden is filled, each pixel once, and nothing else.
    let answer = draw(1);
    let filled: Vec<usize> =
        events(&answer).iter().filter_map(|event| Some(event["pixel"].as_u64()? as usize)).collect();
    let mut sorted = filled.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..64).filter(|pixel| hidden(*pixel)).collect::<Vec<_>>());
    assert_ne!(filled, sorted, "not in raster order");
    let images = drawn(&answer, 64);
    assert!(images.iter().flatten().all(|token| *token == u16::MAX || *token < 512));
    assert_eq!(drawn(&draw(1), 64), images);
    assert_ne!(drawn(&draw(2), 64), images);

    // From nothing, all is.
    assert!(drawn(&server.draw(&json!({"count": 1})), 64)[0].iter().all(|token| *token < 512));
    for (wanted, word) in [
        (json!({"count": 1, "tokens": tokens, "kept": 3}), "mask"),
        (json!({"count": 1, "tokens": tokens, "mask": "01"}), "64 letters"),
        (json!({"count": 1, "tokens": tokens, "mask": "2".repeat(64)}), "64 letters"),
        (json!({"count": 1, "tokens": tokens, "mask": "0".repeat(64)}), "hides nothing"),
    ] {
        let answer = server.draw(&wanted);
        assert!(answer.status == 422 && answer.text().contains(word), "{}", answer.text());
    }
}

/// A folder of Hugging Face's has no run: everything works, and the page says that there are no curves.
#[test]
fn a_folder_that_no_run_left_is_served_too() {
    let server = Server::start(&golden_set("l2d64h2p64"));
    assert!(server.get("/").text().contains("no run, so there are no curves"));
    let images =
        drawn(&server.draw(&json!({"count": 2, "tokens": server.get("/example.json?0").tokens(), "kept": 56})), 64);
    assert_eq!(images.len(), 2);
}

#[test]
fn a_cuda_device_draws_what_its_sample_draws() {
    let Some(driver) = cuda::Driver::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let command = || driver.engine_with("seed=0");
    for objective in ["ar", "bert"] {
        let run = folder.path().join(objective);
        let flags = ["cuda", "--steps", "2", "--objective", objective, "--out"];
        assert_succeeds(command().args(cuda::RUN).args(flags).arg(&run));
        let server = Server::start_with(command(), &run, &["--device", "cuda", "--max-images", "2"]);
        let images = drawn(&server.draw(&json!({"count": 2, "seed": 5})), 16);
        assert!(images.iter().flatten().all(|token| *token < 512));
        if objective == "bert" {
            continue;
        }
        let out = folder.path().join("tokens.npy");
        let mut sample = command();
        sample.args(["sample", "--unconditional", "--count", "2", "--sample-seed", "5", "--device", "cuda"]);
        sample.arg("--out").arg(folder.path().join("grid.png")).arg("--tokens-out").arg(&out);
        assert_succeeds(sample.arg("--checkpoint").arg(&run));
        let expected: Vec<u16> = Npy::open(&out).unwrap().to_f32().unwrap().iter().map(|token| *token as u16).collect();
        assert_eq!(images.concat(), expected);
    }
}
