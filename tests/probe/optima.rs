//! The solvers against what Newton's method, scikit-learn and plain f64 SGD found (see `tests/fixtures/README.md`).

use igpt_engine::device::{CpuDevice, Device};
use igpt_engine::probe::{Classifier, Fit, FitLimits, ObjectiveF64, Regression, SgdOptions, TOLERANCE, sgd};

use crate::support::{CLASSES, Golden, WIDTH, worst};

pub const SETS: [&str; 2] = ["probe_digits", "probe_synth"];
const LIMITS: FitLimits = FitLimits { tolerance: TOLERANCE, iterations: 1000 };

#[test]
fn the_objective_and_its_gradient_are_scikit_learns() {
    for name in SETS {
        let golden = Golden::open(name);
        for row in golden.meta["rows"].as_array().unwrap() {
            let (c, number) = (row["C"].as_f64().unwrap(), |key: &str| row[key].as_f64().unwrap());
            let optimum = golden.classifier(&format!("C{c}"));
            let exact = ObjectiveF64::evaluate(&optimum, &golden.train, &golden.train_labels, None).unwrap();
            let objective = exact.objective(&optimum, c);
            assert!((objective / number("objective") - 1.0).abs() < 1e-13, "{name} {c}: {objective}");
            assert!(exact.gradient_norm(&optimum, c) < 1e-9 * objective, "{name} {c}");
            let mean = exact.cross_entropy / golden.train_labels.len() as f64;
            assert!((mean / number("mean_ce_train") - 1.0).abs() < 1e-12, "{name} {c}: {mean}");
            assert_eq!(optimum.accuracy(&golden.test, &golden.test_labels).unwrap(), number("acc_test"), "{name} {c}");
            assert_eq!(
                optimum.accuracy(&golden.train, &golden.train_labels).unwrap(),
                number("acc_train"),
                "{name} {c}"
            );
        }
    }
}

#[test]
fn every_c_reaches_the_golden_optimum() {
    let device = CpuDevice::new(Some(2)).unwrap();
    // On the device, and sent to it for every product.
    for resident in [usize::MAX, 0] {
        optima(&device, &SETS, resident);
    }
}

/// Every C of every set, with up to `resident` features kept on the device.
pub fn optima<D: Device>(device: &D, sets: &[&str], resident: usize) {
    for name in sets {
        let golden = Golden::open(name);
        let regression = Regression::new(device, &golden.train, &golden.train_labels, CLASSES, resident).unwrap();
        for row in golden.meta["rows"].as_array().unwrap() {
            assert_optimum(&golden, row, |c| regression.fit(c, None, LIMITS, |_| true).unwrap());
        }
    }
}

fn assert_optimum(golden: &Golden, row: &serde_json::Value, fit: impl FnOnce(f64) -> Fit) {
    let (c, number) = (row["C"].as_f64().unwrap(), |key: &str| row[key].as_f64().unwrap());
    let Fit { classifier, summary } = fit(c);
    let optimum = golden.classifier(&format!("C{c}"));

    let off = (
        summary.objective / number("objective") - 1.0,
        worst(&classifier.weights, &optimum.weights),
        worst(&classifier.intercepts, &optimum.intercepts),
    );
    println!("C {c}: {summary:?}, off by {off:?}");
    assert!(summary.converged, "C {c}: {summary:?}");

    // Below the optimum by no more than rounding, above by what the tolerance says.
    assert!(off.0 > -1e-12 && off.0 <= TOLERANCE, "C {c}: {off:?}");
    assert!(off.1 < 2e-4 && off.2 < 2e-3, "C {c}: {off:?}");

    assert_eq!(classifier.accuracy(&golden.test, &golden.test_labels).unwrap(), number("acc_test"), "C {c}");
    assert_eq!(classifier.accuracy(&golden.train, &golden.train_labels).unwrap(), number("acc_train"), "C {c}");

    // What is reported is true of what is returned.
    let exact = ObjectiveF64::evaluate(&classifier, &golden.train, &golden.train_labels, None).unwrap();
    assert!((exact.objective(&classifier, c) / summary.objective - 1.0).abs() < 1e-14);
    assert!((exact.gradient_norm(&classifier, c) / summary.gradient_norm - 1.0).abs() < 1e-6);
}

#[test]
fn f32_products_do_not_limit_how_far_it_goes() {
    let device = CpuDevice::new(Some(2)).unwrap();
    let golden = Golden::open("probe_digits");
    let regression = Regression::new(&device, &golden.train, &golden.train_labels, CLASSES, usize::MAX).unwrap();
    let limits = FitLimits { tolerance: 1e-17, iterations: 1000 };
    for c in [0.01, 1.0, 100.0] {
        let Fit { classifier, summary } = regression.fit(c, None, limits, |_| true).unwrap();
        assert!(summary.converged, "{summary:?}");
        let off = worst(&classifier.weights, &golden.classifier(&format!("C{c}")).weights);
        println!("C {c}: {summary:?}, weights off by {off:.1e}");
        assert!(off < 1e-8, "C {c}: {off}");
    }
}

#[test]
fn a_warm_start_ends_where_a_cold_one_does() {
    let device = CpuDevice::new(Some(2)).unwrap();
    let golden = Golden::open("probe_synth");
    let regression = Regression::new(&device, &golden.train, &golden.train_labels, CLASSES, usize::MAX).unwrap();
    let near = golden.classifier("C0.1");
    let cold = regression.fit(1.0, None, LIMITS, |_| true).unwrap();
    let warm = regression.fit(1.0, Some(&near), LIMITS, |_| true).unwrap();
    assert!(warm.summary.converged && warm.summary.iterations < cold.summary.iterations);
    assert!((warm.summary.objective / cold.summary.objective - 1.0).abs() < TOLERANCE);
    // From the optimum there is nothing to do.
    let optimum = golden.classifier("C1");
    assert_eq!(regression.fit(1.0, Some(&optimum), LIMITS, |_| true).unwrap().summary.iterations, 0);
}

#[test]
fn fits_that_are_stopped_say_so() {
    let device = CpuDevice::new(Some(2)).unwrap();
    let golden = Golden::open("probe_digits");
    let regression = Regression::new(&device, &golden.train, &golden.train_labels, CLASSES, usize::MAX).unwrap();
    let few = regression.fit(1.0, None, FitLimits { iterations: 7, ..LIMITS }, |_| true).unwrap().summary;
    assert!(!few.converged && few.iterations == 7, "{few:?}");
    let stopped = regression.fit(1.0, None, LIMITS, |iteration| iteration.number < 5).unwrap().summary;
    assert!(!stopped.converged && stopped.iterations == 5, "{stopped:?}");
    assert!(few.gradient_norm > 1e-2 && few.objective < stopped.objective);
}

/// The same numbers on one thread and on two, down to the last bit.
#[test]
fn threads_change_no_bit() {
    let golden = Golden::open("probe_synth");

    let run = |threads: usize| {
        let device = CpuDevice::new(Some(threads)).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let regression =
                Regression::new(&device, &golden.train, &golden.train_labels, CLASSES, usize::MAX).unwrap();
            let lbfgs = regression.fit(1.0, None, LIMITS, |_| true).unwrap();
            let sgd = golden_sgd(&device, &golden, &mut Vec::new());
            (lbfgs.classifier, sgd.classifier)
        })
    };

    let bits = |classifier: &Classifier| -> Vec<u64> {
        classifier.weights.iter().chain(&classifier.intercepts).map(|value| value.to_bits()).collect()
    };

    let (one, two) = (run(1), run(2));
    assert!(bits(&one.0) == bits(&two.0), "L-BFGS");
    assert!(bits(&one.1) == bits(&two.1), "SGD");
}

fn golden_sgd<D: Device>(device: &D, golden: &Golden, losses: &mut Vec<f64>) -> Fit {
    let sgd_meta = &golden.meta["sgd"];
    let index = golden.integers("sgd.index");
    let batch = sgd_meta["batch"].as_u64().unwrap() as usize;
    let options = SgdOptions {
        learning_rate: sgd_meta["lr0"].as_f64().unwrap(),
        momentum: sgd_meta["momentum"].as_f64().unwrap(),
        steps: sgd_meta["steps"].as_u64().unwrap(),
        batch,
        c: None,
        seed: 0,
    };
    let order = |step: u64| index[step as usize * batch..][..batch].iter().map(|row| *row as u32).collect();
    let watch = |_, loss| {
        losses.push(loss);
        true
    };
    sgd(device, &golden.train, &golden.train_labels, CLASSES, &options, order, watch).unwrap()
}

#[test]
fn sgd_walks_the_golden_path() {
    sgd_path(&CpuDevice::new(Some(2)).unwrap(), &SETS);
}

pub fn sgd_path<D: Device>(device: &D, sets: &[&str]) {
    for name in sets {
        let golden = Golden::open(name);
        let mut losses = Vec::new();
        let fit = golden_sgd(device, &golden, &mut losses);
        let expected = golden.doubles("sgd.losses");
        let optimum = golden.classifier("sgd");
        let off = (worst(&losses, &expected), worst(&fit.classifier.weights, &optimum.weights));
        println!("{name}: losses off by {:.1e}, weights by {:.1e}", off.0, off.1);
        assert!((losses[0] - (CLASSES as f64).ln()).abs() < 1e-6);
        assert!(off.0 < 1e-5 && off.1 < 1e-5, "{name}: {off:?}");
        assert_eq!(fit.classifier.weights.len(), CLASSES * WIDTH);
        assert!(!fit.summary.converged, "200 steps do not converge, and are not said to");
    }
}
