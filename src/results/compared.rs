//! The methods that the paper compares Image GPT with, with the figures that it prints of them.
//!
//! Every figure is the paper's (version 2 of 2020), or where the source says so that of OpenAI's article on it. What they do not
//! print is left out: input, parameters and features stand in Table 2 alone, and of the others nobody here looked them up. OpenAI's
//! article has other numbers of features for two rows of Table 2: 16,384 for BigBiGAN and 4,096 for CPC v2.

use serde::Serialize;

use crate::recipe::Table;

/// What a model learned from before the labels of the task itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transfer {
    /// Images without labels.
    Unsupervised,
    /// ImageNet with its labels.
    Supervised,
    /// Nothing: trained on the task's own images.
    None,
}

impl std::fmt::Display for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Transfer::Unsupervised => "unsupervised",
            Transfer::Supervised => "supervised",
            Transfer::None => "none",
        })
    }
}

/// A row of another method.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// The table that it stands in.
    #[serde(skip)]
    pub table: Table,
    /// What is measured on: data set, and of few labels how many.
    pub group: &'static str,
    /// The method.
    pub method: &'static str,
    /// Side of its input in pixels, `original` for that of the data set.
    pub input: Option<&'static str>,
    /// Millions of parameters.
    pub parameters_millions: Option<u32>,
    /// Features that the linear classifier reads.
    pub features: Option<u32>,
    /// % accuracy.
    pub published: f64,
    /// Its standard deviation.
    pub deviation: Option<f64>,
    /// What it learned from.
    pub transfer: Transfer,
    /// Where the figures stand.
    pub source: &'static str,
}

/// What tables are sorted by, in the paper's order.
pub(super) const GROUPS: [&str; 7] = [
    "CIFAR-10",
    "CIFAR-100",
    "STL-10",
    "ImageNet",
    "CIFAR-10, 4 labels a class",
    "CIFAR-10, 25 labels a class",
    "CIFAR-10, 400 labels a class",
];

const fn row(
    table: Table,
    group: &'static str,
    method: &'static str,
    published: f64,
    transfer: Transfer,
    source: &'static str,
) -> Compared {
    let (input, parameters_millions, features, deviation) = (None, None, None, None);
    Compared { table, group, method, input, parameters_millions, features, published, deviation, transfer, source }
}

/// A row of Table 2: methods without labels, at ImageNet's own resolution.
const fn table_2(method: &'static str, parameters: u32, features: u32, published: f64) -> Compared {
    Compared {
        input: Some("original"),
        parameters_millions: Some(parameters),
        features: Some(features),
        ..row(Table::LinearProbe, "ImageNet", method, published, Transfer::Unsupervised, "paper, Table 2")
    }
}

/// A row of Table 4, which prints errors: the accuracy is what is left of 100.
const fn table_4(group: &'static str, method: &'static str, published: f64, deviation: f64) -> Compared {
    let of = row(Table::LowData, group, method, published, Transfer::None, "paper, Table 4 (100 − error)");
    Compared { deviation: Some(deviation), ..of }
}

use Table::{FineTuning, LinearProbe};
use Transfer::{Supervised, Unsupervised};

/// The rows.
pub static COMPARED: [Compared; 35] = [
    row(LinearProbe, "CIFAR-10", "ResNet-152", 94.0, Supervised, "paper, Table 1"),
    row(LinearProbe, "CIFAR-10", "SimCLR", 95.3, Unsupervised, "paper, Table 1"),
    row(LinearProbe, "CIFAR-100", "ResNet-152", 78.0, Supervised, "paper, Table 1"),
    row(LinearProbe, "CIFAR-100", "SimCLR", 80.2, Unsupervised, "paper, Table 1"),
    row(LinearProbe, "STL-10", "AMDIM-L", 94.2, Unsupervised, "paper, Table 1"),
    table_2("Rotation", 86, 8192, 55.4),
    table_2("BigBiGAN", 86, 8192, 61.3),
    table_2("AMDIM", 626, 8192, 68.1),
    table_2("MoCo", 375, 8192, 68.6),
    table_2("SimCLR, small", 24, 2048, 69.3),
    table_2("CPC v2", 303, 8192, 71.5),
    table_2("SimCLR, large", 375, 8192, 76.5),
    row(FineTuning, "CIFAR-10", "AutoAugment", 98.5, Transfer::None, "paper, Table 3"),
    row(FineTuning, "CIFAR-10", "SimCLR", 98.6, Unsupervised, "paper, Table 3"),
    row(FineTuning, "CIFAR-10", "GPipe", 99.0, Supervised, "paper, Table 3"),
    row(FineTuning, "CIFAR-100", "SimCLR", 89.0, Unsupervised, "paper, Table 3"),
    row(FineTuning, "CIFAR-100", "AutoAugment", 89.3, Transfer::None, "paper, Table 3"),
    row(FineTuning, "CIFAR-100", "EfficientNet", 91.7, Supervised, "paper, Table 3"),
    Compared {
        input: Some("28×28"),
        ..row(FineTuning, "ImageNet", "Isometric Nets", 70.2, Transfer::None, "paper, section 4.5")
    },
    Compared {
        input: Some("48×48"),
        ..row(FineTuning, "ImageNet", "iGPT-L from random weights", 53.2, Transfer::None, "paper, section 4.5")
    },
    table_4("CIFAR-10, 4 labels a class", "MixMatch", 52.5, 11.5),
    table_4("CIFAR-10, 4 labels a class", "UDA", 71.0, 5.9),
    table_4("CIFAR-10, 4 labels a class", "FixMatch RA", 86.2, 3.4),
    table_4("CIFAR-10, 4 labels a class", "FixMatch CTA", 88.6, 3.4),
    table_4("CIFAR-10, 25 labels a class", "Mean Teacher", 67.7, 2.3),
    table_4("CIFAR-10, 25 labels a class", "MixMatch", 89.0, 0.9),
    table_4("CIFAR-10, 25 labels a class", "UDA", 91.2, 1.1),
    table_4("CIFAR-10, 25 labels a class", "FixMatch RA", 94.9, 0.7),
    table_4("CIFAR-10, 25 labels a class", "FixMatch CTA", 94.9, 0.3),
    Compared { source: "OpenAI's article", ..table_4("CIFAR-10, 400 labels a class", "Improved GAN", 81.4, 2.3) },
    table_4("CIFAR-10, 400 labels a class", "Mean Teacher", 90.8, 0.2),
    table_4("CIFAR-10, 400 labels a class", "MixMatch", 93.6, 0.1),
    table_4("CIFAR-10, 400 labels a class", "UDA", 95.1, 0.2),
    table_4("CIFAR-10, 400 labels a class", "FixMatch RA", 95.7, 0.1),
    table_4("CIFAR-10, 400 labels a class", "FixMatch CTA", 95.7, 0.2),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_of_a_group_and_says_where_it_is_from() {
        for row in &COMPARED {
            assert!(GROUPS.contains(&row.group) && row.table != Table::PreTraining, "{row:?}");
            assert!(row.source.starts_with("paper, ") || row.source.starts_with("OpenAI"), "{row:?}");
            assert!((50.0..100.0).contains(&row.published), "{row:?}");
            // Table 2 alone has these, and has them of every row.
            assert_eq!(row.features.is_some(), row.source == "paper, Table 2", "{row:?}");
            assert_eq!(row.parameters_millions.is_some(), row.source == "paper, Table 2", "{row:?}");
        }
        let twice = |row: &Compared| {
            COMPARED
                .iter()
                .filter(|other| (other.table, other.group, other.method) == (row.table, row.group, row.method))
                .count()
        };
        assert!(COMPARED.iter().all(|row| twice(row) == 1));
    }
}
