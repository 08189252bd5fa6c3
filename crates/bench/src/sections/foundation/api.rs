//! Calls the Cloud Controller's API and apps, over keep-alive connections to the router.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use testkit::foundation::Foundation;

pub(super) struct Api {
    pub(super) port: u16,
    host: String,
    token: String,
}

impl Api {
    pub(super) fn new(f: &Foundation) -> Result<Self> {
        let port = f.plan["http_port"]
            .as_u64()
            .and_then(|p| u16::try_from(p).ok());
        Ok(Self {
            port: port.context("the foundation has no HTTP port")?,
            host: f.host("api"),
            token: f.cf_ok(&["oauth-token"])?.trim().to_owned(),
        })
    }

    pub(super) fn call(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            self.token,
            body.len()
        )
        .into_bytes()
    }

    /// Creates a route and returns its guid.
    pub(super) fn create_route(
        &self,
        control: &mut Connection,
        host: &str,
        space: &str,
        domain: &str,
    ) -> Result<String> {
        let body = format!(
            r#"{{"host":"{host}","relationships":{{"space":{{"data":{{"guid":"{space}"}}}},"domain":{{"data":{{"guid":"{domain}"}}}}}}}}"#
        );
        let answer = json(&control.request(&self.call("POST", "/v3/routes", &body))?)?;
        let guid = answer["guid"].as_str();
        Ok(guid
            .with_context(|| format!("no route guid in {answer}"))?
            .to_owned())
    }
}

/// A keep-alive connection.
pub(super) struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub(super) fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { stream })
    }

    /// Returns head and body of the response (with a Content-Length or a chunked body).
    pub(super) fn request(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        self.stream.write_all(request)?;
        let mut answer = Vec::new();
        let mut buffer = [0; 16384];
        loop {
            let count = self.stream.read(&mut buffer)?;
            ensure!(
                count > 0,
                "connection closed: {}",
                String::from_utf8_lossy(&answer)
            );
            answer.extend_from_slice(&buffer[..count]);
            let Some(end) = answer
                .windows(4)
                .position(|w| w == b"\r\n\r\n")
                .map(|p| p + 4)
            else {
                continue;
            };
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length:"))
                .and_then(|v| v.trim().parse::<usize>().ok());
            let whole = match length {
                Some(length) => answer.len() >= end + length,
                None if head.contains("transfer-encoding: chunked") => {
                    answer.ends_with(b"0\r\n\r\n")
                }
                None => true,
            };
            if whole {
                return Ok(answer);
            }
        }
    }

    /// Sends requests every 0.3 ms until the route answers with `wanted`.
    pub(super) fn poll(&mut self, host: &str, wanted: u16) -> Result<()> {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            if status(&self.request(&request)?) == wanted {
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        bail!("{host} did not answer {wanted} within 20 s")
    }
}

pub(super) fn status(answer: &[u8]) -> u16 {
    let digits = std::str::from_utf8(answer.get(9..12).unwrap_or_default());
    digits.ok().and_then(|s| s.parse().ok()).unwrap_or_default()
}

pub(super) fn json(answer: &[u8]) -> Result<Value> {
    let at = answer
        .iter()
        .position(|&b| b == b'{')
        .context("the answer contains no JSON")?;
    let end = answer
        .iter()
        .rposition(|&b| b == b'}')
        .context("the answer contains no JSON")?;
    serde_json::from_slice(&answer[at..=end])
        .with_context(|| String::from_utf8_lossy(answer).into_owned())
}
