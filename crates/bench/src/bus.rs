//! A real nats-server, and a plain client of it, which uses one socket, so that its own cost is small and known.

use crate::process::Process;
use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) struct Nats {
    pub(crate) port: u16,
    _process: Process,
}

impl Nats {
    pub(crate) fn start(folder: &Path, core: Option<usize>) -> Result<Self> {
        let port = kit::net::free_port()?;
        let command = ["nats-server", "-a", "127.0.0.1", "-p", &port.to_string()];
        let mut process = Process::start("nats-server", core, &command, folder)?;
        process.listens(port)?;
        Ok(Self {
            port,
            _process: process,
        })
    }

    pub(crate) fn connect(&self) -> Result<Bus> {
        Bus::connect(self.port)
    }
}

/// The rate at which messages are sent.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    /// The smallest number of messages that are sent at once. 1 means an even rate: every millisecond those that are due.
    pub(crate) at_once: u64,
}

impl Rate {
    pub(crate) const fn even(per_second: f64) -> Self {
        Self {
            per_second,
            at_once: 1,
        }
    }
}

/// A connection to NATS.
pub(crate) struct Bus {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Bus {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut bus = Self {
            reader: BufReader::new(stream.try_clone()?),
            stream,
        };
        let info = bus.line()?;
        ensure!(
            info.starts_with("INFO"),
            "nats-server began with {info:?}, expected INFO"
        );
        bus.stream.write_all(b"CONNECT {\"verbose\":false}\r\n")?;
        bus.flush()?;
        Ok(bus)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        ensure!(!line.is_empty(), "nats-server closed the connection");
        ensure!(!line.starts_with("-ERR"), "nats-server reported {line:?}");
        Ok(line)
    }

    /// Waits until the server has read everything that was sent.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.stream.write_all(b"PING\r\n")?;
        loop {
            match self.line()?.trim_end() {
                "PONG" => return Ok(()),
                "PING" => self.stream.write_all(b"PONG\r\n")?,
                _ => {}
            }
        }
    }

    pub(crate) fn publish(&mut self, subject: &str, payload: &[u8]) -> Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 64);
        append(&mut frame, subject, payload);
        self.stream.write_all(&frame)?;
        Ok(())
    }

    /// Publishes registrations at this rate. Returns the time that it took.
    pub(crate) fn register_at(
        &mut self,
        rate: Rate,
        payloads: impl Iterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Duration> {
        self.publish_at("router.register", rate, payloads)
    }

    /// Publishes messages under any subject at this rate.
    pub(crate) fn publish_at(
        &mut self,
        subject: &str,
        rate: Rate,
        payloads: impl Iterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Duration> {
        let began = Instant::now();
        let mut frames = Vec::with_capacity(1 << 17);
        let mut sent = 0u64;
        let mut payloads = payloads.peekable();
        while payloads.peek().is_some() {
            let due = (began.elapsed().as_secs_f64() * rate.per_second) as u64;
            if due < sent + rate.at_once {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            frames.clear();
            let most = (due - sent).clamp(rate.at_once, rate.at_once.max(1000));
            for payload in payloads.by_ref().take(most as usize) {
                append(&mut frames, subject, payload.as_ref());
                sent += 1;
            }
            self.stream.write_all(&frames)?;
        }
        self.flush()?;
        Ok(began.elapsed())
    }

    pub(crate) fn subscribe(&mut self, subject: &str) -> Result<()> {
        self.stream
            .write_all(format!("SUB {subject} 1\r\n").as_bytes())?;
        self.flush()
    }

    /// Sends greetings until a router answers. Its subscription is active then, and it misses no registration of this connection.
    pub(crate) fn greet(&mut self, patience: Duration) -> Result<()> {
        let reply = format!("bench.greeted.{}", rand::random::<u64>());
        self.subscribe(&reply)?;
        self.stream
            .set_read_timeout(Some(Duration::from_millis(200)))?;
        let deadline = Instant::now() + patience;
        loop {
            let frame = format!("PUB router.greet {reply} 0\r\n\r\n");
            self.stream.write_all(frame.as_bytes())?;
            match self.message() {
                Ok(()) => break,
                Err(_) if Instant::now() < deadline => {}
                Err(error) => return Err(error).context("no router answers router.greet"),
            }
        }
        self.stream
            .set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(())
    }

    /// Publishes on a subject that this connection subscribes to, and waits for the message to return.
    pub(crate) fn echo(&mut self, subject: &str, payload: &[u8]) -> Result<Duration> {
        let began = Instant::now();
        self.publish(subject, payload)?;
        self.message()?;
        Ok(began.elapsed())
    }

    /// Discards everything that arrives until `stop`. Returns the CPU time of this thread.
    pub(crate) fn drain(mut self, stop: &AtomicBool) -> Result<Duration> {
        self.stream
            .set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut buffer = vec![0; 32 << 10];
        while !stop.load(Ordering::Relaxed) {
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("nats-server closed the connection"),
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let used = getrusage(UsageWho::RUSAGE_THREAD)?;
        let time = used.user_time() + used.system_time();
        Ok(Duration::from_micros(u64::try_from(
            time.num_microseconds(),
        )?))
    }

    /// Waits for a message of a subscription and discards it.
    pub(crate) fn message(&mut self) -> Result<()> {
        loop {
            let line = self.line()?;
            if let Some(rest) = line.strip_prefix("MSG ") {
                let length = rest
                    .split_whitespace()
                    .last()
                    .context("a MSG line has no length")?;
                let mut body = vec![0; length.parse::<usize>()? + 2];
                self.reader.read_exact(&mut body)?;
                return Ok(());
            }
        }
    }
}

fn append(frames: &mut Vec<u8>, subject: &str, payload: &[u8]) {
    frames.extend_from_slice(format!("PUB {subject} {}\r\n", payload.len()).as_bytes());
    frames.extend_from_slice(payload);
    frames.extend_from_slice(b"\r\n");
}
