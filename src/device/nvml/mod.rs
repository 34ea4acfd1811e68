//! The sensors of NVIDIA's cards, by NVML (`libnvidia-ml.so.1`, which comes with the driver and is opened at run time).
//!
//! A card is found by its place on the PCI bus, which the CUDA driver tells of the device that computes: NVML numbers cards in
//! an order of its own, and knows nothing of `CUDA_VISIBLE_DEVICES`. Of a card that is divided (MIG) the values are the whole
//! card's. A machine without the library, and a card that does not give a value, are no errors.

mod card;
mod energy;
mod monitor;
mod reading;
mod throttle;

pub use card::{CardState, inspect};
pub use monitor::{INTERVAL, Monitor};
pub use reading::Reading;
pub use throttle::Throttle;
