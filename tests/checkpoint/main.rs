//! Checkpoints: whole folders, and the safetensors files in them.

mod folders;
mod huggingface;
mod safetensors;
