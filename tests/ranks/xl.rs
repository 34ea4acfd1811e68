//! iGPT-XL's own shape on two ranks: all but the number of layers, and of pixels.

use std::time::Duration;

use igpt_engine::data::npy;

use super::{Libraries, Rank, Ranks, engine, numbers, place, port};

/// Pixels of a side where every block runs. The paper's 64 (4,096 tokens) would take the simulator hours per step; width, heads and every
/// weight are its own.
const SIDE: &str = "8";

/// One step of one layer 3072 wide, with the heads of 192 and of 96 columns that the paper leaves open, in bf16: forward, backward,
/// gradients of two ranks, the update. The model has 120 million parameters.
#[test]
fn a_step_of_igpt_xl_in_one_layer() {
    if std::env::var_os("IGPT_TEST_ALL").is_none_or(|all| all != "1") {
        return test_support::skipped("a step of iGPT-XL: it takes minutes; IGPT_TEST_ALL=1 runs it");
    }
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    for heads in ["16", "32"] {
        let (out, port) = (run(heads), port());
        let start = |rank| {
            let mut command = libraries.rank(engine(), [rank, 2], port);
            command.args(["train", "--model", "xl", "--layers", "1", "--heads", heads, "--resolution", SIDE]);
            command.args(["--batch", "1", "--global-batch", "2", "--steps", "1", "--warmup", "0", "--save-every", "0"]);
            command.args(["--eval-every", "0", "--sample-every", "0", "--no-tensorboard", "--device", "cuda"]);
            // A step may take as long as it needs here.
            command.args(["--collective-timeout", "3000", "--meeting-timeout", "3000", "--out"]).arg(&out);
            command.env("NCCLSIM_TIMEOUT_MS", "3000000").env("CUDASIM", "races=off,stop=warning");
            Rank::start(&mut command)
        };
        Ranks { ranks: (0..2).map(start).collect(), port }.succeed_within(Duration::from_secs(3000));

        // A head of zeros knows nothing of 512 colours, and learns from both ranks.
        let [(step, loss, norm)] = numbers(&out)[..] else { panic!("not one step") };
        assert_eq!(step, 1);
        assert!((loss - 512_f64.ln()).abs() < 1e-3 && norm > 0.0 && norm.is_finite(), "loss {loss}, norm {norm}");
    }
}

/// The same at the paper's 64 × 64 pixels: 4,096 tokens, of whose launches the simulator runs a few blocks each. So no number means
/// anything, and the step is skipped if it has none; but shapes, memory, launches, the graph and the exchange of two ranks are those of the step.
#[test]
fn the_launches_of_a_step_of_4096_tokens() {
    if std::env::var_os("IGPT_TEST_ALL").is_none_or(|all| all != "1") {
        return test_support::skipped("the launches of a step of iGPT-XL: it takes minutes; IGPT_TEST_ALL=1 runs it");
    }
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    let images = run("images.npy");
    let tokens: Vec<u16> = (0..4 * 4096).map(|index| (index * 7 % 509) as u16).collect();
    npy::write_u16(&images, &[4, 64, 64], &tokens).unwrap();
    let data = format!("tokens:{}", images.display());
    for heads in ["16", "32"] {
        let (out, port) = (run(heads), port());
        let start = |rank| {
            let mut command = libraries.rank(engine(), [rank, 2], port);
            command.args(["train", "--model", "xl", "--layers", "1", "--heads", heads, "--resolution", "64"]);
            command.args(["--data", &data, "--batch", "1", "--global-batch", "2", "--steps", "2", "--warmup", "0"]);
            command.args(["--zero", "2", "--save-every", "0", "--eval-every", "0", "--sample-every", "0"]);
            command.args(["--no-tensorboard", "--device", "cuda", "--collective-timeout", "3000"]);
            command.args(["--meeting-timeout", "3000", "--out"]).arg(&out);
            let sampled = "blocks=2,races=off,uninitialised=off,registers=off";
            command.env("NCCLSIM_TIMEOUT_MS", "3000000").env("CUDASIM", sampled);
            Rank::start(&mut command)
        };
        Ranks { ranks: (0..2).map(start).collect(), port }.succeed_within(Duration::from_secs(3000));
        assert_eq!(numbers(&out).len(), 2, "two steps, the second of them recorded");
    }
}
