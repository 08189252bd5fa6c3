//! Peers that were written only from the reference: a plain NATS client, and a BBS call with protobuf read by hand.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// A NATS client of one connection, which speaks the text protocol.
pub(crate) struct Nats {
    stream: BufReader<TcpStream>,
}

impl Nats {
    pub(crate) fn connect(port: u16, user: &str, password: &str) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut nats = Self {
            stream: BufReader::new(stream),
        };
        let hello = nats
            .line(Instant::now() + Duration::from_secs(20))?
            .context("no INFO")?;
        ensure!(hello.starts_with("INFO "), "{hello}");
        nats.send(&format!("CONNECT {{\"verbose\":false,\"pedantic\":false,\"user\":\"{user}\",\"pass\":\"{password}\"}}\r\nPING\r\n"))?;
        let answer = nats
            .line(Instant::now() + Duration::from_secs(20))?
            .unwrap_or_default();
        ensure!(answer == "PONG", "{answer}");
        Ok(nats)
    }

    pub(crate) fn subscribe(&mut self, subject: &str) -> Result<()> {
        self.send(&format!("SUB {subject} 1\r\nPING\r\n"))
    }

    pub(crate) fn request(&mut self, subject: &str) -> Result<()> {
        self.send(&format!(
            "SUB _INBOX.story 2\r\nPUB {subject} _INBOX.story 0\r\n\r\n"
        ))
    }

    fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.stream.get_mut().write_all(text.as_bytes())?)
    }

    /// Returns the next message before the deadline: subject and payload.
    pub(crate) fn message(&mut self, deadline: Instant) -> Result<Option<(String, Value)>> {
        while let Some(line) = self.line(deadline)? {
            if line == "PING" {
                self.send("PONG\r\n")?;
            } else if let Some(rest) = line.strip_prefix("MSG ") {
                let parts: Vec<&str> = rest.split(' ').collect();
                let length: usize = parts.last().context("no length")?.parse()?;
                let mut payload = vec![0; length + 2];
                self.read_exact(&mut payload, deadline)?;
                return Ok(Some((
                    parts[0].to_owned(),
                    serde_json::from_slice(&payload[..length]).unwrap_or(Value::Null),
                )));
            } else if line.starts_with("-ERR") {
                bail!("{line}");
            }
        }
        Ok(None)
    }

    fn line(&mut self, deadline: Instant) -> Result<Option<String>> {
        let mut line = Vec::new();
        while Instant::now() < deadline {
            match self.stream.read_until(b'\n', &mut line) {
                Ok(0) => bail!("NATS closed the connection"),
                Ok(_) if line.ends_with(b"\n") => {
                    return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
                }
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn read_exact(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            ensure!(Instant::now() < deadline, "message was cut");
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => bail!("NATS closed the connection"),
                Ok(count) => filled += count,
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// One protobuf field: number and value.
#[derive(Debug)]
pub(crate) enum Field<'a> {
    Varint(u64, u64),
    Bytes(u64, &'a [u8]),
}

/// Reads the fields of one protobuf message.
pub(crate) fn fields(mut bytes: &[u8]) -> Result<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match tag & 7 {
            0 => fields.push(Field::Varint(tag >> 3, varint(&mut bytes)?)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?)?;
                ensure!(length <= bytes.len(), "field {} is cut", tag >> 3);
                fields.push(Field::Bytes(tag >> 3, &bytes[..length]));
                bytes = &bytes[length..];
            }
            other => bail!("unexpected wire type {other}"),
        }
    }
    Ok(fields)
}

pub(crate) fn bytes_of(message: &[u8], number: u64) -> Result<Vec<&[u8]>> {
    Ok(fields(message)?
        .into_iter()
        .filter_map(|f| match f {
            Field::Bytes(n, value) if n == number => Some(value),
            _ => None,
        })
        .collect())
}

pub(crate) fn text_of(message: &[u8], number: u64) -> Result<String> {
    Ok(bytes_of(message, number)?
        .last()
        .map(|b| String::from_utf8_lossy(b).into_owned())
        .unwrap_or_default())
}

pub(crate) fn number_of(message: &[u8], number: u64) -> Result<u64> {
    Ok(fields(message)?
        .into_iter()
        .filter_map(|f| match f {
            Field::Varint(n, value) if n == number => Some(value),
            _ => None,
        })
        .next_back()
        .unwrap_or_default())
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().context("varint is cut")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("varint is too long")
}

/// Sends a `POST` to the BBS with curl and the operator's certificate. Returns the raw response.
pub(crate) fn bbs_call(data: &std::path::Path, port: u16, path: &str) -> Result<Vec<u8>> {
    let certs = data.join("certs");
    let output = Command::new("curl")
        .args([
            "-sS",
            "-f",
            "-X",
            "POST",
            "-H",
            "Content-Type: application/x-protobuf",
            "--data-binary",
            "",
        ])
        .arg("--cacert")
        .arg(certs.join("components_ca.crt"))
        .arg("--cert")
        .arg(certs.join("operator.crt"))
        .arg("--key")
        .arg(certs.join("operator.key"))
        .arg(format!("https://127.0.0.1:{port}{path}"))
        .output()?;
    ensure!(
        output.status.success(),
        "POST {path}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}
