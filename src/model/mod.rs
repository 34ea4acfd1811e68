//! The Image GPT: configuration, parameters, the transformer and its objectives. Knows no command line and no data set.

mod config;
mod generate;
mod objective;
mod parameters;
mod transformer;

pub use config::{Activation, ConfigError, ModelConfig, NORM_EPSILON, Norm, Preset};
pub use generate::{Decoder, Generation, generate};
pub use objective::{Loss, Objective, ObjectiveBatch, shift_right};
pub use parameters::{
    BlockIds, Init, LinearIds, ModelIds, NormIds, ParameterId, ParameterSpec, Parameters, model_ids, parameter_specs,
};
pub use transformer::{Depth, Transformer};
