//! The Image GPT: configuration, parameters, the transformer and its objectives. Knows no command line and no data set.

mod batch;
mod block;
mod buckets;
mod classifier;
mod config;
mod layout;
mod loss;
mod masking;
mod objective;
mod on_host;
mod order;
mod transformer;
mod units;

pub use batch::{HostBatch, ObjectiveBatch, shift_right};
pub use buckets::Bucket;
pub use classifier::ClassBatch;
pub use config::{ConfigError, MAX_VOCABULARY, ModelConfig, Preset};
pub use layout::{BlockIds, CLASS_HEAD, ModelIds, TOKEN_HEAD, is_matrix, model_ids, parameter_specs};
pub use loss::{Criterion, JointLoss, Loss, MicroBatch};
pub use masking::{MASK_RATE, Masking, modal_class};
pub use objective::Objective;
pub use on_host::OnHost;
pub use order::{Order, Permutation};
pub use transformer::{Depth, Transformer};
pub use units::{bits_per_dimension, bits_per_token};
