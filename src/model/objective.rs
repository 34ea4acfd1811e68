//! The pre-training objectives.

use serde::{Deserialize, Serialize};

use crate::named::named;

named! {
    /// What a model is trained to predict.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Objective {
        /// The next pixel, given all before it in the model's order.
        #[default]
        Ar = "ar",
        /// Masked pixels, given all others.
        Bert = "bert",
    }
}
