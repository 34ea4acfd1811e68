//! The parts of a data set.

use serde::{Deserialize, Serialize};

use crate::named::named;

named! {
    /// Which part of a data set. For the paper's data sets, validation is held out of the official training part and test
    /// is the official test part (of ImageNet: the official validation part).
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Split {
        /// What is trained on.
        #[default]
        Train = "train",
        /// Held out of the training images, the same ones for the same seed.
        Validation = "validation",
        /// The data set's own test images.
        Test = "test",
    }
}
