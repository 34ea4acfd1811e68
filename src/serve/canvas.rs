//! What the page draws on: the model's resolution, its palette, its order of pixels, and pictures in them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::http::Refusal;
use crate::checkpoint::images::ImageSelection;
use crate::data::{Alpha, DataSpec, Examples, Filter, Palette, read_image, tokens_of};
use crate::model::{ModelConfig, Objective, Order, Transformer};
use crate::report::html::{describe_model, grouped};

/// Test images of the built-in sample that are offered.
const EXAMPLES: usize = 64;

/// All that is to be known of the model without its device.
pub struct Canvas {
    /// Width and height of its images, pixels.
    pub side: usize,
    /// The model, without weights.
    pub model: Transformer,
    /// Completions of a drawing at most.
    pub max_images: usize,
    palette: Arc<Palette>,
    filter: Filter,
    alpha: Alpha,
    /// Images of the built-in sample, where they are not smaller than the model's.
    examples: Option<Box<dyn Examples>>,
    /// Held by whoever decodes: a small file may unpack to half a gigabyte, and one of those at a time is enough.
    decoding: Mutex<()>,
}

impl Canvas {
    /// The canvas of `model`, whose checkpoint is the folder `checkpoint`; pictures are shrunk as `images` says.
    pub fn new(
        model: Transformer,
        side: usize,
        palette: Arc<Palette>,
        images: &ImageSelection,
        checkpoint: &Path,
        max_images: usize,
    ) -> Self {
        let sample = ImageSelection { data: Some(DataSpec::Sample), progress: false, ..images.clone() };
        // Models of larger images, or of fewer colours, are shown none.
        let examples = sample.open(checkpoint, model.config()).ok().map(|opened| opened.examples);
        let examples = examples.filter(|examples| tokens_of(examples.as_ref(), 0, 1).is_ok());
        let (filter, alpha) = (images.filter.unwrap_or_default(), images.alpha.unwrap_or_default());
        Self { side, model, max_images, palette, filter, alpha, examples, decoding: Mutex::new(()) }
    }

    /// Pixels of an image.
    pub fn length(&self) -> usize {
        self.side * self.side
    }

    /// Colours that the model knows and the palette has.
    pub fn colours(&self) -> usize {
        self.palette.len().min(self.config().vocabulary)
    }

    /// What the model was trained for.
    pub fn objective(&self) -> Objective {
        self.config().objective()
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    /// The model in words.
    pub fn describe(&self) -> String {
        format!("{} parameters: {}", grouped(self.config().parameter_count() as u64), describe_model(self.config()))
    }

    /// What the page's script needs: `side`, `palette` (a row of red, green and blue per token), `objective`, `order` (its name), `pixels`
    /// (the pixel at each position, where the order is not raster), `prompt` (positions that a completion is shown), `examples` and
    /// `max_images`.
    pub fn json(&self) -> Value {
        let colours: Vec<_> = (0..self.colours() as u16).map(|token| self.palette.decode_token(token)).collect();
        json!({
            "side": self.side,
            "palette": colours,
            "objective": self.objective(),
            "order": self.config().order.name(),
            "pixels": self.model.permutation().map(|order| order.pixels()),
            "prompt": self.prompt(),
            "examples": self.examples.as_ref().map_or(0, |examples| examples.len().min(EXAMPLES)),
            "max_images": self.max_images,
        })
    }

    /// What the edge of what is kept moves by, in words: a row of a model that reads row by row, and so on.
    pub fn edge_unit(&self) -> &'static str {
        match self.config().order {
            Order::Raster => "rows",
            Order::Columns => "columns",
            Order::Spiral | Order::Hilbert | Order::Fixed(_) => "pixels",
        }
    }

    /// Positions that a completion is shown unless somebody says otherwise; of BERT models the upper half.
    pub fn prompt(&self) -> usize {
        match self.objective() {
            Objective::Ar => self.config().order.prompt(self.side),
            Objective::Bert => Order::Raster.prompt(self.side),
        }
    }

    /// A picture file as tokens, `[side²]`, raster order.
    ///
    /// # Errors
    /// 422 with the decoder's words for a file that is no picture, is damaged, too large or too small.
    pub fn picture(&self, bytes: &[u8]) -> Result<Vec<u16>, Refusal> {
        let _alone = self.decoding.lock().unwrap_or_else(PoisonError::into_inner);
        let image = read_image(Path::new("the picture"), bytes, self.side as u32, self.filter, self.alpha);
        let mut tokens = vec![0; self.length()];
        let encoded = image.and_then(|image| self.palette.encode(&image, &mut tokens));
        encoded.map_err(|error| Refusal::new(422, error.to_string()))?;
        Ok(tokens)
    }

    /// Test image `index` of the built-in sample as tokens, `[side²]`, raster order.
    ///
    /// # Errors
    /// 404 where it is not offered.
    pub fn example(&self, index: usize) -> Result<Vec<u16>, Refusal> {
        let examples = self.examples.as_ref().filter(|examples| index < examples.len().min(EXAMPLES));
        let Some(examples) = examples else { return Err(Refusal::new(404, "there is no such example")) };
        tokens_of(examples.as_ref(), index, 1).map_err(|error| Refusal::new(422, error.to_string()))
    }
}
