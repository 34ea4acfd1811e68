//! The page's server as a browser, a script and somebody hostile meet it: driven through plain sockets.

mod drawings;
mod hostile;
mod limits;
mod page;
#[cfg(unix)]
mod stopping;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{assert_succeeds, engine, json_lines, train};

/// A server that ends with its test.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, `name` as the server writes it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as tokens, after a status of 200.
    #[track_caller]
    pub fn tokens(&self) -> Vec<u16> {
        assert_eq!(self.status, 200, "{}", self.text());
        numbers(&serde_json::from_slice::<Value>(&self.body).unwrap()["tokens"])
    }
}

/// A list of numbers in JSON.
pub fn numbers(value: &Value) -> Vec<u16> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u16).collect()
}

impl Server {
    /// Serves a checkpoint on a free port.
    pub fn start(checkpoint: &Path) -> Self {
        Self::start_with(engine(), checkpoint, &[])
    }

    /// The same by another binary, with more flags.
    pub fn start_with(mut command: Command, checkpoint: &Path, flags: &[&str]) -> Self {
        command.args(["serve", "--port", "0", "--json", "--checkpoint"]).arg(checkpoint).args(flags);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("it printed {line:?}"));
        let port = said["port"].as_u64().unwrap() as u16;
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// A connection whose reads end after a while.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends bytes as they are, and reads all that comes.
    pub fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A server that has refused may close before all is sent.
        let _ = stream.write_all(bytes);
        read_answer(stream)
    }

    /// A request with the headers that every client sends, and `more`.
    pub fn request(&self, line: &str, more: &str, body: &[u8]) -> Answer {
        self.send(&request(self.address, line, more, body))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request(&format!("GET {path}"), "", b"")
    }

    pub fn upload(&self, picture: &[u8]) -> Answer {
        self.request("POST /picture", "Content-Type: application/octet-stream\r\n", picture)
    }

    pub fn draw(&self, wanted: &Value) -> Answer {
        self.request("POST /draw", "Content-Type: application/json\r\n", wanted.to_string().as_bytes())
    }
}

/// A whole request.
pub fn request(address: SocketAddr, line: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{line} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n{more}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Reads an answer to the end of its connection.
pub fn read_answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

/// The events of a drawing.
#[track_caller]
pub fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    json_lines(&answer.text())
}

/// The images of a drawing as its events made them, `[images][length]`.
#[track_caller]
pub fn drawn(answer: &Answer, length: usize) -> Vec<Vec<u16>> {
    let events = events(answer);
    assert_eq!(events.last().unwrap()["event"], "done", "{}", answer.text());
    let pixels: Vec<_> = events.iter().filter(|event| event["event"] == "pixel").collect();
    let mut images = vec![vec![u16::MAX; length]; pixels[0]["tokens"].as_array().unwrap().len()];
    for event in pixels {
        for (image, token) in images.iter_mut().zip(numbers(&event["tokens"])) {
            image[event["pixel"].as_u64().unwrap() as usize] = token;
        }
    }
    images
}

/// Flags of a run whose drawings take a while, though it is trained in a moment.
pub const SLOW: [&str; 14] = [
    "--steps",
    "1",
    "--resolution",
    "32",
    "--width",
    "128",
    "--heads",
    "4",
    "--layers",
    "2",
    "--sample-every",
    "0",
    "--eval-every",
    "0",
];

/// A run that was trained for some steps, and the folder that it vanishes with.
pub fn trained(flags: &[&str]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(train(&run, &["--lr", "0.01"]).args(flags));
    (folder, run)
}

/// A photograph as the bytes of a PNG file.
pub fn photo() -> Vec<u8> {
    let picture = image::RgbImage::from_fn(300, 260, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}
