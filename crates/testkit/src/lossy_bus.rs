//! A proxy in front of a nats-server that loses and reorders messages, as overloaded servers and clients do.
//!
//! It reads the text protocol in both directions, as far as it must: where a frame ends, and which frames are messages (`MSG`,
//! `HMSG`, `PUB`, `HPUB`). All other frames (`INFO`, `CONNECT`, `SUB`, `PING`, `PONG` …) pass at once and in their order.

use crate::nats::NatsServer;
use clients::nats::Config;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// The most messages by which a message is overtaken, and the longest time that it waits for them.
const OVERTAKEN_BY: u32 = 20;
const HELD_AT_MOST: Duration = Duration::from_millis(30);

/// The shares of the messages that do not pass as they came. The choice follows from the seed, from the number of the connection and
/// from the order of the messages.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub seed: u64,
    /// The share that is lost, from 0 to 1.
    pub lost: f64,
    /// The share that others overtake, from 0 to 1.
    pub overtaken: f64,
}

/// The numbers of messages that came through the proxy, or did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub lost: u64,
    pub overtaken: u64,
}

/// The proxy. It ends when it is dropped, with all of its connections.
#[derive(Debug)]
pub struct LossyBus {
    port: u16,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counters {
    passed: AtomicU64,
    lost: AtomicU64,
    overtaken: AtomicU64,
}

impl LossyBus {
    /// Starts a proxy for the clients of a server.
    pub async fn start(server: &NatsServer, faults: Faults) -> Self {
        let listener = crate::net::listener().await;
        let port = listener
            .local_addr()
            .expect("a bound listener has an address")
            .port();
        let counters = Arc::new(Counters::default());
        let task = tokio::spawn(accept(listener, server.address(), faults, counters.clone()));
        Self {
            port,
            counters,
            task,
        }
    }

    /// Returns the configuration of a client of [`NatsServer::start`] behind this proxy.
    pub fn config(&self) -> Config {
        NatsServer::config(self.port)
    }

    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            passed: read(&self.counters.passed),
            lost: read(&self.counters.lost),
            overtaken: read(&self.counters.overtaken),
        }
    }
}

impl Drop for LossyBus {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: String, faults: Faults, counters: Arc<Counters>) {
    let mut connections = JoinSet::new();
    let mut seed = faults.seed;
    while let Ok((client, _)) = listener.accept().await {
        let choices = [Choices::new(seed, faults), Choices::new(!seed, faults)];
        seed = seed.wrapping_add(1);
        connections.spawn(connect(client, server.clone(), choices, counters.clone()));
    }
}

/// Serves one client until either side closes.
async fn connect(
    client: TcpStream,
    server: String,
    [towards_client, towards_server]: [Choices; 2],
    counters: Arc<Counters>,
) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = carry(from_server, to_client, towards_client, &counters) => {}
        () = carry(from_client, to_server, towards_server, &counters) => {}
    }
}

/// Carries the frames of one direction until it is closed.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut choices: Choices,
    counters: &Counters,
) {
    let mut received = Vec::new();
    let mut held = Held::default();
    loop {
        received.reserve(16 << 10);
        tokio::select! {
            read = from.read_buf(&mut received) => {
                if !read.is_ok_and(|read| read > 0) {
                    return;
                }
            }
            () = due(held.due_at()) => {}
        }
        let mut out = Vec::new();
        for frame in frames(&mut received) {
            let choice = if frame.is_message {
                choices.choose()
            } else {
                Choice::Control
            };
            match choice {
                Choice::Control => out.extend(frame.bytes),
                Choice::Lost => {
                    counters.lost.fetch_add(1, Ordering::Relaxed);
                }
                Choice::Overtaken { by } => {
                    counters.overtaken.fetch_add(1, Ordering::Relaxed);
                    held.hold(frame.bytes, by, Instant::now());
                }
                Choice::Passes => {
                    counters.passed.fetch_add(1, Ordering::Relaxed);
                    out.extend(frame.bytes);
                    held.overtake(&mut out);
                }
            }
        }
        held.release(Instant::now(), &mut out);
        if !out.is_empty() && to.write_all(&out).await.is_err() {
            return;
        }
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The fate of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// It is no message.
    Control,
    Passes,
    Lost,
    Overtaken {
        by: u32,
    },
}

/// The choices for the messages of one direction.
#[derive(Debug)]
struct Choices {
    rng: StdRng,
    faults: Faults,
}

impl Choices {
    fn new(seed: u64, faults: Faults) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            faults,
        }
    }

    fn choose(&mut self) -> Choice {
        let (at, by) = (
            self.rng.random::<f64>(),
            self.rng.random_range(1..=OVERTAKEN_BY),
        );
        if at < self.faults.lost {
            Choice::Lost
        } else if at < self.faults.lost + self.faults.overtaken {
            Choice::Overtaken { by }
        } else {
            Choice::Passes
        }
    }
}

/// The messages that others overtake, in the order in which they came.
#[derive(Debug, Default)]
struct Held(Vec<(Vec<u8>, u32, Instant)>);

impl Held {
    fn hold(&mut self, bytes: Vec<u8>, by: u32, now: Instant) {
        self.0.push((bytes, by, now + HELD_AT_MOST));
    }

    fn due_at(&self) -> Option<Instant> {
        self.0.iter().map(|(_, _, due)| *due).min()
    }

    /// Records that a message has passed, and releases those that enough have overtaken.
    fn overtake(&mut self, out: &mut Vec<u8>) {
        for (_, by, _) in &mut self.0 {
            *by -= 1;
        }
        self.release_if(out, |by, _| by == 0);
    }

    /// Releases what has waited long enough.
    fn release(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.release_if(out, |_, due| due <= now);
    }

    fn release_if(&mut self, out: &mut Vec<u8>, is_due: impl Fn(u32, Instant) -> bool) {
        self.0.retain_mut(|(bytes, by, due)| {
            let is_due = is_due(*by, *due);
            if is_due {
                out.append(bytes);
            }
            !is_due
        });
    }
}

/// A whole frame of the protocol.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    bytes: Vec<u8>,
    is_message: bool,
}

/// Removes the whole frames from the received bytes.
fn frames(received: &mut Vec<u8>) -> Vec<Frame> {
    let (mut frames, mut begin) = (Vec::new(), 0);
    while let Some((length, is_message)) = first_frame(&received[begin..]) {
        let end = begin + length;
        frames.push(Frame {
            bytes: received[begin..end].to_vec(),
            is_message,
        });
        begin = end;
    }
    received.drain(..begin);
    frames
}

/// Returns the length of the first frame and whether it is a message; `None`: more bytes must come.
fn first_frame(received: &[u8]) -> Option<(usize, bool)> {
    let line = received.iter().position(|byte| *byte == b'\n')? + 1;
    let text = String::from_utf8_lossy(&received[..line]);
    let mut fields = text.split_ascii_whitespace();
    let name = fields.next().unwrap_or_default().to_ascii_uppercase();
    if !["MSG", "HMSG", "PUB", "HPUB"].contains(&name.as_str()) {
        return Some((line, false));
    }
    // The last field is the length of the headers and the payload, which a line end follows.
    let length = fields.next_back().and_then(|last| last.parse().ok());
    let whole = line + length.unwrap_or(0usize) + "\r\n".len();
    (received.len() >= whole).then_some((whole, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALOGUE: &[u8] = b"INFO {\"a\":1}\r\nSUB router.* 1\r\nPUB a 5\r\nab\r\nc\r\nMSG b 1 r 0\r\n\r\nHPUB c 12 14\r\nNATS/1.0\r\n\r\nxx\r\nPING\r\n";

    fn texts(frames: &[Frame]) -> Vec<(String, bool)> {
        let text = |frame: &Frame| String::from_utf8_lossy(&frame.bytes).into_owned();
        let texts = frames.iter().map(|frame| (text(frame), frame.is_message));
        texts.collect()
    }

    #[test]
    fn frames_are_found_in_pieces_of_any_size() {
        let expected: Vec<(String, bool)> = [
            ("INFO {\"a\":1}\r\n", false),
            ("SUB router.* 1\r\n", false),
            ("PUB a 5\r\nab\r\nc\r\n", true),
            ("MSG b 1 r 0\r\n\r\n", true),
            ("HPUB c 12 14\r\nNATS/1.0\r\n\r\nxx\r\n", true),
            ("PING\r\n", false),
        ]
        .map(|(text, is_message)| (text.to_owned(), is_message))
        .into();
        for size in 1..=DIALOGUE.len() {
            let (mut received, mut found) = (Vec::new(), Vec::new());
            for piece in DIALOGUE.chunks(size) {
                received.extend_from_slice(piece);
                found.extend(frames(&mut received));
            }
            assert_eq!(texts(&found), expected, "pieces of {size}");
            assert!(received.is_empty());
        }
    }

    #[test]
    fn a_seed_makes_the_same_choices_again() {
        let faults = Faults {
            seed: 7,
            lost: 0.2,
            overtaken: 0.2,
        };
        let choices = || {
            let mut choices = Choices::new(faults.seed, faults);
            (0..1000).map(|_| choices.choose()).collect::<Vec<_>>()
        };
        let first = choices();
        assert_eq!(first, choices());
        let lost = first.iter().filter(|choice| **choice == Choice::Lost);
        assert!((150..250).contains(&lost.count()));
    }

    #[test]
    fn a_held_message_follows_those_that_overtake_it() {
        let now = Instant::now();
        let (mut held, mut out) = (Held::default(), Vec::new());
        held.hold(b"first".into(), 2, now);
        held.hold(b"second".into(), 9, now);
        held.overtake(&mut out);
        assert_eq!(out, b"");
        held.overtake(&mut out);
        assert_eq!(out, b"first");
        held.release(now, &mut out);
        assert_eq!(out, b"first");
        held.release(held.due_at().unwrap(), &mut out);
        assert_eq!(out, b"firstsecond");
        assert_eq!(held.due_at(), None);
    }
}
