//! The recipes in `recipes/`, built in, in the order of the paper's tables.

use super::{Recipe, RecipeError};

macro_rules! recipes {
    ($($name:literal),* $(,)?) => {
        /// File name and text of each recipe.
        const RECIPES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../recipes/", $name)))),*];
    };
}
recipes![
    "pretrain-s-ar-32.toml",
    "pretrain-m-ar-32.toml",
    "pretrain-l-ar-32.toml",
    "pretrain-l-ar-48.toml",
    "pretrain-xl-ar-64.toml",
    "pretrain-s-bert-32.toml",
    "pretrain-m-bert-32.toml",
    "pretrain-l-bert-32.toml",
    "probe-cifar10-l.toml",
    "probe-cifar10-l-bert.toml",
    "probe-cifar100-l.toml",
    "probe-stl10-l.toml",
    "probe-imagenet-s-32.toml",
    "probe-imagenet-m-32.toml",
    "probe-imagenet-l-32.toml",
    "probe-imagenet-l-bert.toml",
    "probe-imagenet-l-48.toml",
    "probe-imagenet-xl-64.toml",
    "probe-imagenet-xl-64-5-layers.toml",
    "finetune-cifar10-l.toml",
    "finetune-cifar10-l-bert.toml",
    "finetune-cifar100-l.toml",
    "finetune-imagenet-l-32.toml",
    "finetune-imagenet-l-bert.toml",
    "finetune-imagenet-l-48.toml",
    "low-data-cifar10-40-labels.toml",
    "low-data-cifar10-250-labels.toml",
    "low-data-cifar10-4000-labels.toml",
];

/// All recipes, in the order of the paper's tables.
///
/// # Errors
/// None, short of a damaged program: a test reads them all.
pub fn built_in() -> Result<Vec<Recipe>, RecipeError> {
    RECIPES.iter().map(|(name, text)| Recipe::parse(name, text)).collect()
}
