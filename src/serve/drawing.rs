//! A drawing: what is asked for, and how it comes.
//!
//! `POST /draw` takes an object; all but `count` may be left out:
//!
//! | field | says |
//! |---|---|
//! | `tokens` | the picture, `[side²]`, raster order; none draws from nothing |
//! | `kept` | autoregressive: how many positions of the model's order are kept; about half |
//! | `mask` | BERT: a letter per pixel, raster order, `1` where it is to be guessed; all of them |
//! | `count` | completions |
//! | `temperature`, `top_k`, `top_p`, `seed` | as the flags of `sample` |
//!
//! and answers with a line of JSON for each event, see [`Event`].

use std::ops::ControlFlow;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::canvas::Canvas;
use super::http::Refusal;
use crate::device::{Device, Result as DeviceResult, SampleOptions};
use crate::model::Objective;
use crate::sample::{Generation, fill_watched, generate_watched};
use crate::tape::Parameters;

/// The body of `POST /draw`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    tokens: Vec<u16>,
    kept: Option<usize>,
    mask: Option<String>,
    count: usize,
    #[serde(default = "one")]
    temperature: f32,
    top_k: Option<usize>,
    top_p: Option<f32>,
    #[serde(default)]
    seed: u64,
}

fn one() -> f32 {
    1.0
}

/// What is told of a drawing, a line each.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// So many drawings are ahead of it; said every second.
    Waiting {
        /// How many.
        ahead: usize,
    },
    /// It has begun; said again every second in which there was no pixel.
    Drawing,
    /// A pixel of all completions is known.
    Pixel {
        /// Which, raster order.
        pixel: usize,
        /// The token of each completion.
        tokens: Vec<u16>,
    },
    /// All pixels were sent.
    Done {
        /// How long it took.
        seconds: f64,
    },
    /// It came to nothing.
    Failed {
        /// Why.
        message: String,
    },
}

impl Event {
    /// Whether nothing follows.
    pub fn is_last(&self) -> bool {
        matches!(self, Event::Done { .. } | Event::Failed { .. })
    }
}

/// A drawing whose numbers were checked.
#[derive(Clone, Debug)]
pub struct Drawing {
    start: Start,
    count: usize,
    options: SampleOptions,
    seed: u64,
}

/// What it goes out from.
#[derive(Clone, Debug)]
enum Start {
    /// The first tokens in the model's order; possibly none.
    Prompt(Vec<u16>),
    /// All tokens, and which of them are guessed, both in raster order.
    Masked(Vec<u16>, Vec<bool>),
}

impl Drawing {
    /// Reads what is asked for.
    ///
    /// # Errors
    /// 400 for what is no such object, 422 for numbers out of range.
    pub fn parse(body: &[u8], canvas: &Canvas) -> Result<Self, Refusal> {
        let asked: Asked =
            serde_json::from_slice(body).map_err(|error| Refusal::bad(format!("this is no drawing: {error}")))?;
        asked.check(canvas).map_err(|problem| Refusal::new(422, problem))?;
        let start = asked.start(canvas).map_err(|problem| Refusal::new(422, problem))?;
        let Asked { count, temperature, top_k, top_p, seed, .. } = asked;
        // A likeliest colour is one, whatever others may be drawn.
        let (top_k, top_p) = if temperature == 0.0 { (None, None) } else { (top_k, top_p) };
        Ok(Self { start, count, options: SampleOptions { temperature, top_k, top_p }, seed })
    }

    /// Draws; `tell` is given every pixel, and may end it. `None` if it did.
    ///
    /// # Errors
    /// Those of the device.
    pub fn draw<D: Device>(
        &self,
        device: &D,
        canvas: &Canvas,
        parameters: &Parameters<D>,
        mut tell: impl FnMut(Event) -> ControlFlow<()>,
    ) -> DeviceResult<Option<Event>> {
        let began = Instant::now();
        let (model, length) = (&canvas.model, canvas.length());
        let generation = Generation { length, options: self.options, seed: self.seed, first: 0, guidance: None };

        let drawn = match &self.start {
            Start::Prompt(prompt) => {
                let prompts = prompt.repeat(self.count);
                let pixel = |at: usize| model.permutation().map_or(at, |order| usize::from(order.pixels()[at]));
                generate_watched(device, model, parameters, self.count, &prompts, generation, |position, tokens| {
                    tell(Event::Pixel { pixel: pixel(position), tokens: tokens.to_vec() })
                })?
            }
            Start::Masked(tokens, mask) => {
                let what = (&tokens[..], &mask[..]);
                fill_watched(device, model, parameters, self.count, what, generation, |pixel, tokens| {
                    tell(Event::Pixel { pixel, tokens: tokens.to_vec() })
                })?
            }
        };

        Ok(drawn.map(|_| Event::Done { seconds: began.elapsed().as_secs_f64() }))
    }
}

impl Asked {
    /// Refuses numbers out of range, in the words of `sample`.
    fn check(&self, canvas: &Canvas) -> Result<(), String> {
        if self.count == 0 || self.count > canvas.max_images {
            return Err(format!("completions must be from 1 to {}", canvas.max_images));
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err("the temperature must be 0 or more".into());
        }
        if self.top_k == Some(0) {
            return Err("top-k must be at least 1".into());
        }
        if self.top_p.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
            return Err("top-p must be above 0 and at most 1".into());
        }
        if !self.tokens.is_empty() && self.tokens.len() != canvas.length() {
            return Err(format!("a picture has {} tokens here, not {}", canvas.length(), self.tokens.len()));
        }
        match self.tokens.iter().find(|token| usize::from(**token) >= canvas.colours()) {
            Some(token) => Err(format!("there is no token {token}; the model has {} colours", canvas.colours())),
            None => Ok(()),
        }
    }

    /// What the drawing goes out from.
    fn start(&self, canvas: &Canvas) -> Result<Start, String> {
        let length = canvas.length();
        match (canvas.objective(), &self.mask) {
            (Objective::Ar, Some(_)) => Err("a mask is for BERT models; say with `kept` how much stays".into()),
            (Objective::Ar, None) => {
                let nothing = self.tokens.is_empty();
                let kept = self.kept.unwrap_or(if nothing { 0 } else { canvas.prompt() });
                if nothing && kept > 0 {
                    return Err(format!("there is no picture of which {kept} pixels could be kept"));
                }
                if kept >= length {
                    return Err(format!("{kept} of {length} pixels are kept, which leaves none to draw"));
                }
                let arranged = canvas.model.arrange(&self.tokens, length).map_err(|error| error.to_string())?;
                Ok(Start::Prompt(arranged[..kept].to_vec()))
            }

            (Objective::Bert, _) if self.kept.is_some() => {
                Err("what is kept is for models that read pixels in an order; a BERT model takes a `mask`".into())
            }
            (Objective::Bert, mask) => {
                // From nothing, everything is guessed.
                let all = "1".repeat(length);
                let mask = if self.tokens.is_empty() { &all } else { mask.as_ref().unwrap_or(&all) };
                let tokens = if self.tokens.is_empty() { vec![0; length] } else { self.tokens.clone() };
                if mask.len() != length || mask.bytes().any(|letter| !b"01".contains(&letter)) {
                    return Err(format!(
                        "a mask is {length} letters, 1 where a pixel is to be guessed and 0 elsewhere"
                    ));
                }
                let mask: Vec<bool> = mask.bytes().map(|letter| letter == b'1').collect();
                if !mask.contains(&true) {
                    return Err("the mask hides nothing, which leaves nothing to draw".into());
                }
                Ok(Start::Masked(tokens, mask))
            }
        }
    }
}
