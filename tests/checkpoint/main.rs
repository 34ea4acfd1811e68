//! Checkpoints: whole folders, and the safetensors files in them.

mod folders;
mod heads;
mod huggingface;
mod integrity;
mod pytorch;
mod safetensors;
mod sharded;
mod tensorflow;
