//! The Image GPT: configuration, parameters, the transformer and its objectives. Knows no command line and no data set.

mod config;
mod parameters;

pub use config::{Activation, ConfigError, ModelConfig, NORM_EPSILON, Norm, Preset};
pub use parameters::{
    BlockIds, Init, LinearIds, ModelIds, NormIds, ParameterId, ParameterSpec, Parameters, model_ids, parameter_specs,
};
