//! What a probe tells whoever watches it.

use std::path::Path;

use super::outcome::FittedClassifier;
use super::protocol::Step;

/// Receives a probe's events, in order. Where a method returns a `bool`, it says whether to go on.
pub trait Events {
    /// Something that a person should know and that does not stop the probe.
    fn note(&mut self, text: &str);
    /// Features of `images` images are about to be taken from the model.
    fn pass_started(&mut self, images: usize);
    /// `done` of the images have been seen.
    fn pass_advanced(&mut self, done: usize) -> bool;
    /// The features are in `file`; only some of them where the pass was interrupted.
    fn pass_ended(&mut self, file: &Path, complete: bool);
    /// Fits of one kind begin.
    fn fit_started(&mut self, name: &str);
    /// An iteration of a solver was made.
    fn fit_advanced(&mut self, step: &Step) -> bool;
    /// The fits are done; without a classifier to show where they were interrupted or are not listed one by one.
    fn fit_ended(&mut self, fitted: Option<&FittedClassifier>);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Events for Silent {
    fn note(&mut self, _text: &str) {}
    fn pass_started(&mut self, _images: usize) {}
    fn pass_advanced(&mut self, _done: usize) -> bool {
        true
    }
    fn pass_ended(&mut self, _file: &Path, _complete: bool) {}
    fn fit_started(&mut self, _name: &str) {}
    fn fit_advanced(&mut self, _step: &Step) -> bool {
        true
    }
    fn fit_ended(&mut self, _fitted: Option<&FittedClassifier>) {}
}
