//! Which request gets which answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use serde_json::{Value, json};

use super::canvas::Canvas;
use super::drawing::{Drawing, Event};
use super::http::{Connection, Head, Refusal, Response};
use super::queue::{Queue, Ticket};
use super::run_panel::RunPanel;
use crate::model::Objective;
use crate::report::html::{escape, filled, style};

/// Bytes of a picture file, and of a description of a drawing, at most.
const MAX_PICTURE: usize = 32 << 20;
const MAX_DRAWING: usize = 1 << 20;
/// Pictures that are being sent or decoded at most: each takes up to [`MAX_PICTURE`] of memory.
const MAX_UPLOADS: usize = 8;
/// How often somebody who waits hears of it. It also tells us who has gone.
const HEARTBEAT: Duration = Duration::from_secs(1);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

/// What the connections know.
pub struct Site {
    /// The model's images.
    pub canvas: Arc<Canvas>,
    /// The run.
    pub panel: RunPanel,
    /// The line before the device.
    pub queue: Arc<Queue>,
    /// Name of the checkpoint.
    pub name: String,
    /// The device in words.
    pub device: String,
    /// Pictures that are being sent or decoded.
    pub uploads: AtomicUsize,
}

/// A place among the pictures that are being sent, given back when dropped.
struct Upload<'a>(&'a AtomicUsize);

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Site {
    /// Answers a request; `None` where the answer was sent in pieces.
    ///
    /// # Errors
    /// Whatever is wrong with the request.
    pub fn answer(&self, head: &Head, connection: &mut Connection) -> Result<Option<Response>, Refusal> {
        match head.path.as_str() {
            "/picture" | "/draw" => allow(head, &["POST"])?,
            _ => allow(head, &["GET", "HEAD"])?,
        }

        let response = match head.path.as_str() {
            "/" => Response::ok(HTML, self.page().into_bytes()),
            "/page.css" => Response::ok(CSS, include_bytes!("page/page.css").as_slice()),
            "/report.css" => Response::ok(CSS, style().as_bytes()),
            "/page.js" => Response::ok(SCRIPT, include_bytes!("page/page.js").as_slice()),
            "/picture.js" => Response::ok(SCRIPT, include_bytes!("page/picture.js").as_slice()),
            "/drawing.js" => Response::ok(SCRIPT, include_bytes!("page/drawing.js").as_slice()),
            "/icon.svg" => Response::ok("image/svg+xml", include_bytes!("page/icon.svg").as_slice()),
            "/model.json" => json_response(&self.canvas.json()),
            "/example.json" => tokens_response(&self.canvas.example(number(&head.query)?)?),

            // What is sent.
            "/picture" => {
                // A type that no page of another site can send without asking first.
                expect_type(head, &["application/octet-stream"])?;
                let _place = self.upload()?;
                tokens_response(&self.canvas.picture(&connection.read_body(head, MAX_PICTURE)?)?)
            }
            "/draw" => {
                expect_type(head, &[JSON])?;
                let drawing = Drawing::parse(&connection.read_body(head, MAX_DRAWING)?, &self.canvas)?;
                let busy = || Refusal::busy("too many drawings are waiting already; try again in a moment", 5);
                let ticket = self.queue.join(drawing).ok_or_else(busy)?;
                // A client that is gone is nobody to tell; the ticket cancels its drawing.
                let _ = send_events(&ticket, connection);
                return Ok(None);
            }

            path => match path.strip_prefix("/samples/").and_then(|name| name.strip_suffix(".png")) {
                Some(step) => {
                    let png = number(step).ok().and_then(|step| self.panel.sample(step as u64));
                    Response::ok("image/png", png.ok_or_else(|| Refusal::new(404, "there are no such samples"))?)
                }
                None => return Err(Refusal::new(404, "there is nothing here; the page is at /")),
            },
        };
        Ok(Some(response))
    }

    /// A place for one more picture.
    fn upload(&self) -> Result<Upload<'_>, Refusal> {
        let place = Upload(&self.uploads);
        if self.uploads.fetch_add(1, Ordering::Relaxed) >= MAX_UPLOADS {
            return Err(Refusal::busy("too many pictures are being sent; try again in a moment", 1));
        }
        Ok(place)
    }

    /// The page with what is known of the model and the run.
    fn page(&self) -> String {
        let probe = self.panel.probe();
        filled(include_str!("page/index.html"), |name| match name {
            "name" => escape(&self.name),
            "model" => escape(&self.canvas.describe()),
            "device" => escape(&self.device),
            "side" => self.canvas.side.to_string(),
            "unit" => self.canvas.edge_unit().to_owned(),
            "max" => self.canvas.max_images.to_string(),
            "count" => self.canvas.max_images.min(4).to_string(),
            "body" => (if self.canvas.objective() == Objective::Bert { "bert" } else { "ar" }).to_owned(),
            "curves" => self.panel.curves(),
            "samples" => self.panel.samples(),
            "probe" => probe.clone().unwrap_or_else(|| self.how_to_probe()),
            _ => String::new(),
        })
    }

    fn how_to_probe(&self) -> String {
        let command = format!("igpt-engine probe --checkpoint {}", self.name);
        format!("<p>Not probed yet. This shows it here: <code>{}</code></p>\n", escape(&command))
    }
}

/// Sends what is told of a drawing until it ends.
fn send_events(ticket: &Ticket, connection: &mut Connection) -> io::Result<()> {
    connection.begin(LINES)?;
    // Who has to wait hears of it at once.
    let mut patience = if ticket.ahead() > 0 { Duration::ZERO } else { HEARTBEAT };
    loop {
        let event = match ticket.events.recv_timeout(std::mem::replace(&mut patience, HEARTBEAT)) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => match ticket.ahead() {
                0 => Event::Drawing,
                ahead => Event::Waiting { ahead },
            },
            Err(RecvTimeoutError::Disconnected) => Event::Failed { message: "the server was stopped".to_owned() },
        };

        // All that is there goes in one piece.
        let mut events = vec![event];
        events.extend(ticket.events.try_iter());
        let mut piece = Vec::new();
        for event in &events {
            serde_json::to_writer(&mut piece, event)?;
            piece.push(b'\n');
        }
        connection.send(&piece)?;
        if events.iter().any(Event::is_last) {
            return Ok(());
        }
    }
}

fn allow(head: &Head, methods: &[&str]) -> Result<(), Refusal> {
    if methods.contains(&head.method.as_str()) {
        return Ok(());
    }
    let allowed = methods.join(", ");
    Err(Refusal::new(405, format!("{} takes {allowed}", head.path)).with("Allow", allowed))
}

fn expect_type(head: &Head, types: &[&str]) -> Result<(), Refusal> {
    let given = head.header("content-type")?.unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim();
    if types.iter().any(|wanted| given.eq_ignore_ascii_case(wanted)) {
        return Ok(());
    }
    Err(Refusal::new(415, format!("send {} with Content-Type: {}", head.path, types.join(" or "))))
}

fn json_response(value: &Value) -> Response {
    Response::ok(JSON, value.to_string().into_bytes())
}

fn tokens_response(tokens: &[u16]) -> Response {
    json_response(&json!({ "tokens": tokens }))
}

/// A plain number.
fn number(text: &str) -> Result<usize, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| Refusal::bad("this takes a number"))
}
