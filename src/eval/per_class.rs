//! Accuracy class by class.

use serde::Serialize;

use crate::data::Examples;

/// How often each class was there, and was found.
pub(super) struct PerClass {
    seen: Vec<usize>,
    found: Vec<usize>,
}

/// How one class was found.
#[derive(Clone, Debug, Serialize)]
pub struct ClassCount {
    /// Name of the class.
    pub class: String,
    /// Images of it.
    pub images: usize,
    /// How many of them were classified correctly.
    pub found: usize,
}

impl PerClass {
    /// Nothing yet.
    pub fn new(classes: usize) -> Self {
        Self { seen: vec![0; classes], found: vec![0; classes] }
    }

    /// Adds a batch: the classes that were predicted for its images, from number `first` on.
    pub fn add(&mut self, first: usize, predicted: &[u16], examples: &dyn Examples) {
        for (image, predicted) in (first..).zip(predicted) {
            let Some(label) = examples.label(image) else { continue };
            if let (Some(seen), Some(found)) =
                (self.seen.get_mut(usize::from(label)), self.found.get_mut(usize::from(label)))
            {
                *seen += 1;
                *found += usize::from(*predicted == label);
            }
        }
    }

    /// A row per class, of these names.
    pub fn rows(&self, names: &[String]) -> Vec<ClassCount> {
        let counts = self.seen.iter().zip(&self.found);
        names
            .iter()
            .zip(counts)
            .map(|(name, (&images, &found))| ClassCount { class: name.clone(), images, found })
            .collect()
    }
}
