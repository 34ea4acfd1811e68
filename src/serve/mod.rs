//! One page in the browser: a picture goes in, the model completes it pixel by pixel.
//!
//! The thread that owns the device draws, one drawing at a time; what is asked for meanwhile waits in a bounded queue. Everything else
//! (pictures, the page, the run's curves) is answered by the connections' own threads.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the page, with the run's curves, samples and probe |
//! | `GET /page.css`, `/report.css`, `/page.js`, `/picture.js`, `/drawing.js` | its parts |
//! | `GET /model.json` | what the page needs to know of the model, see `Canvas::json` |
//! | `GET /example.json?N` | test image N of the built-in sample as tokens |
//! | `GET /samples/STEP.png` | a sample grid of the run |
//! | `POST /picture` | the body, a picture file, as tokens |
//! | `POST /draw` | a drawing as lines of JSON, one per pixel, see `drawing.rs` |

mod canvas;
mod drawing;
mod error;
mod http;
mod queue;
mod routes;
mod run_panel;
mod session;

pub use error::ServeError;
pub use http::{Head, MAX_HEAD, parse_head};
pub use session::{Listening, Session, Settings};
