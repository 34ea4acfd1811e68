//! Golden data sets of `tests/fixtures/golden/probe_*`.

use igpt_engine::probe::{Classifier, Matrix};
use safetensors::SafeTensors;

use test_support::golden_files::{golden_set, read_part};

/// Features, labels and the optima for six values of C.
pub struct Golden {
    pub train: Matrix,
    pub train_labels: Vec<u16>,
    pub test: Matrix,
    pub test_labels: Vec<u16>,
    pub meta: serde_json::Value,
    bytes: Vec<u8>,
}

pub const CLASSES: usize = 10;
pub const WIDTH: usize = 64;

impl Golden {
    pub fn open(name: &str) -> Self {
        let bytes = read_part(&golden_set(name), "probe");
        let meta = serde_json::from_slice(&std::fs::read(golden_set(name).join("meta.json")).unwrap()).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let matrix = |tensor: &str| {
            let floats = file.tensor(tensor).unwrap().data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
            Matrix::new(WIDTH, floats.collect()).unwrap()
        };
        let labels = |tensor: &str| integers(&file, tensor).into_iter().map(|label| label as u16).collect();
        Golden {
            train: matrix("x_train"),
            test: matrix("x_test"),
            train_labels: labels("y_train"),
            test_labels: labels("y_test"),
            meta,
            bytes,
        }
    }

    pub fn doubles(&self, tensor: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        file.tensor(tensor).unwrap().data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
    }

    pub fn integers(&self, tensor: &str) -> Vec<i64> {
        integers(&SafeTensors::deserialize(&self.bytes).unwrap(), tensor)
    }

    /// The classifier saved as `NAME.W` and `NAME.b`.
    pub fn classifier(&self, name: &str) -> Classifier {
        let (weights, intercepts) = (self.doubles(&format!("{name}.W")), self.doubles(&format!("{name}.b")));
        Classifier { classes: CLASSES, width: WIDTH, weights, intercepts }
    }
}

fn integers(file: &SafeTensors, tensor: &str) -> Vec<i64> {
    file.tensor(tensor).unwrap().data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
}

/// The largest difference.
pub fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}
