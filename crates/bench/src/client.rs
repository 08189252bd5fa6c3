//! A keep-alive client: one request, one response. It counts and hides nothing. It blocks, unless it is set not to.

use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// The address to connect to, and the TLS settings.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) port: u16,
    /// The name to request and to check, and the TLS configuration.
    pub(crate) tls: Option<(String, Arc<ClientConfig>)>,
}

pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

pub(crate) struct Client {
    stream: Box<dyn Stream>,
    /// The socket below `stream`.
    tcp: TcpStream,
    buffer: Vec<u8>,
    /// The number of bytes of the response that are in the buffer.
    filled: usize,
}

impl Client {
    pub(crate) fn connect(target: &Target) -> Result<Self> {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, target.port))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
        let own = tcp.try_clone()?;
        let stream: Box<dyn Stream> = match &target.tls {
            None => Box::new(own),
            Some((name, config)) => {
                let name = ServerName::try_from(name.clone())?;
                let connection = ClientConnection::new(config.clone(), name)?;
                Box::new(StreamOwned::new(connection, own))
            }
        };
        Ok(Self {
            stream,
            tcp,
            buffer: vec![0; 16 << 10],
            filled: 0,
        })
    }

    /// Connects and exchanges one request, because handshakes block. After that [`receive`](Self::receive) does not wait.
    pub(crate) fn connect_and_try(target: &Target, host: &str) -> Result<Self> {
        let mut client = Self::connect(target)?;
        let status = client.get(host)?;
        ensure!(status == 200, "{host} answered {status}");
        client.tcp.set_nonblocking(true)?;
        Ok(client)
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.tcp
    }

    /// Sends a whole request, and returns the status when the response is complete.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.send(request)?;
        self.receive()?.context("no answer within 10 s")
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request)?;
        Ok(self.stream.flush()?)
    }

    /// Returns the status when the response is complete, or `None` if no more has come so far.
    pub(crate) fn receive(&mut self) -> Result<Option<u16>> {
        loop {
            let free = &mut self.buffer[self.filled..];
            ensure!(!free.is_empty(), "the answer has more than 16 kB");
            match self.stream.read(free) {
                Ok(0) => bail!("the connection was closed"),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(status) = whole(&self.buffer[..self.filled])? {
                self.filled = 0;
                return Ok(Some(status));
            }
        }
    }

    pub(crate) fn get(&mut self, host: &str) -> Result<u16> {
        self.exchange(&request(host))
    }
}

pub(crate) fn request(host: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\n\r\n").into_bytes()
}

/// Returns the status if head and body are complete.
fn whole(answer: &[u8]) -> Result<Option<u16>> {
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&answer[..end])?;
    let status = head
        .get(9..12)
        .context("the answer has no status line")?
        .parse()?;
    let body = answer.len() - end - 4;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let done = match length {
        Some(length) => body >= length,
        None => answer.ends_with(b"0\r\n\r\n"),
    };
    Ok(done.then_some(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let head = "HTTP/1.1 200 OK\r\ncontent-LENGTH: 2\r\n\r\n";
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\n").unwrap(), None);
        assert_eq!(whole(head.as_bytes()).unwrap(), None);
        assert_eq!(whole(format!("{head}ok").as_bytes()).unwrap(), Some(200));
        let chunked = b"HTTP/1.1 404 Not Found\r\n\r\n2\r\nno\r\n0\r\n\r\n";
        assert_eq!(whole(chunked).unwrap(), Some(404));
    }
}
