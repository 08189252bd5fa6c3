//! Streams of HTTP/2 that are broken off: many by an impatient client, too many by an attacker.

use crate::h2peer::{H2Backend, ask, begin, connect, get, head};
use crate::world::{PATIENCE, World};
use http::Method;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CALM: u32 = 0xb;
const PROTOCOL: u32 = 1;
const RETIRED: u32 = 0;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// Returns the frame that opens a GET, or a POST if a body follows.
fn opened(stream: u32, path: &str, more: &[u8], body: bool) -> Vec<u8> {
    let method = if body { 0x83 } else { 0x82 };
    let mut block = vec![method, 0x87];
    for (name, value) in [(0x04, path), (0x01, "app.apps.test")] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    block.extend(more);
    let end = if body { 0 } else { END_STREAM };
    frame(HEADERS, END_HEADERS | end, stream, &block)
}

fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

/// Returns a request that the library refuses by itself.
fn malformed(stream: u32) -> Vec<u8> {
    opened(stream, "/", b"\x00\x0aconnection\x05close", false)
}

/// The frames that the router has sent.
#[derive(Default)]
struct Seen {
    /// The streams that were answered with 200.
    answered: BTreeSet<u32>,
    reset: BTreeSet<u32>,
    goaway: Option<u32>,
    closed: bool,
    ended: BTreeSet<u32>,
    body: Vec<u8>,
    /// The status 400, once an answer had it.
    refused: u16,
}

/// A connection on which frames are written by hand.
pub(crate) struct Wire {
    reader: ReadHalf<TlsStream<TcpStream>>,
    writer: WriteHalf<TlsStream<TcpStream>>,
    /// The bytes that were read and are not a whole frame yet. They outlive a read that is given up.
    pending: Vec<u8>,
    seen: Seen,
}

impl Wire {
    pub(crate) async fn open(world: &World) -> Self {
        let mut config = kit::tls::client_config(&world.ca.issue(&["client"])).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(world.https).await.unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect("app.apps.test".try_into().unwrap(), stream)
            .await
            .unwrap();
        let (reader, writer) = tokio::io::split(stream);
        let mut wire = Self {
            reader,
            writer,
            pending: Vec::new(),
            seen: Seen::default(),
        };
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        wire.send(&frame(SETTINGS, 0, 0, &[])).await;
        wire
    }

    /// Returns the status of a GET whose target is written as it is; `indexed`: it is added to the table and then named by its
    /// index.
    pub(crate) async fn ask(&mut self, stream: u32, target: &str, indexed: bool) -> u16 {
        let mut block = vec![0x82, 0x87, if indexed { 0x44 } else { 0x04 }];
        let mut left = target.len();
        if left < 0x7f {
            block.push(u8::try_from(left).unwrap());
        } else {
            block.push(0x7f);
            left -= 0x7f;
            while left >= 0x80 {
                block.push((left & 0x7f | 0x80).try_into().unwrap());
                left >>= 7;
            }
            block.push(u8::try_from(left).unwrap());
        }
        block.extend(target.as_bytes());
        block.extend([0x01, 13]);
        block.extend(b"app.apps.test");
        self.seen = Seen::default();
        let mut pieces = block.chunks(16_384).peekable();
        let (mut kind, mut flags) = (HEADERS, END_STREAM);
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                flags |= END_HEADERS;
            }
            self.send(&frame(kind, flags, stream, piece)).await;
            (kind, flags) = (CONTINUATION, 0);
        }
        self.until("the answer's end", |seen| seen.ended.contains(&stream))
            .await;
        if self.seen.answered.contains(&stream) {
            200
        } else {
            self.seen.refused
        }
    }

    /// Returns the body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        &self.seen.body
    }

    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.writer.write_all(bytes).await.is_ok() && self.writer.flush().await.is_ok()
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        while !is_so(&self.seen) {
            assert!(
                !self.seen.closed,
                "closed before {what}: {:?}",
                self.seen.goaway
            );
            let next = timeout(PATIENCE, self.next()).await;
            next.unwrap_or_else(|_| panic!("waited too long for {what}"));
        }
    }

    async fn next(&mut self) {
        let (head, payload) = loop {
            if let Some((head, rest)) = self.pending.split_first_chunk::<9>() {
                let (head, length) = (*head, u32::from_be_bytes([0, head[0], head[1], head[2]]));
                if let Some(payload) = rest.get(..length as usize) {
                    let payload = payload.to_vec();
                    self.pending.drain(..9 + payload.len());
                    break (head, payload);
                }
            }
            if !matches!(self.reader.read_buf(&mut self.pending).await, Ok(1..)) {
                self.seen.closed = true;
                return;
            }
        };
        let [_, _, _, kind, flags, stream @ ..] = head;
        let stream = u32::from_be_bytes(stream);
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 || kind == RST_STREAM {
            self.seen.ended.insert(stream);
        }
        match kind {
            DATA => {
                let credit = u32::try_from(payload.len()).unwrap().to_be_bytes();
                if !payload.is_empty() {
                    self.send(&frame(WINDOW_UPDATE, 0, 0, &credit)).await;
                    self.send(&frame(WINDOW_UPDATE, 0, stream, &credit)).await;
                }
                self.seen.body.extend(payload);
            }
            SETTINGS if flags == 0 => {
                self.send(&frame(SETTINGS, 1, 0, &[])).await;
            }
            // 0x88 is `:status: 200` of the static table.
            HEADERS if payload.contains(&0x88) => {
                self.seen.answered.insert(stream);
            }
            // 0x8c is `:status: 400` of the static table.
            HEADERS if payload.contains(&0x8c) => self.seen.refused = 400,
            RST_STREAM => {
                self.seen.reset.insert(stream);
            }
            GOAWAY => {
                let code = payload[4..8].try_into().unwrap();
                self.seen.goaway = Some(u32::from_be_bytes(code));
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cancellations_in_one_flight_leave_the_others() {
    let world = World::new().await;
    H2Backend::start(&world, "app.apps.test").await;
    let mut wire = Wire::open(&world).await;
    let (mut flight, mut good) = (Vec::new(), BTreeSet::new());
    for n in 0..1000 {
        let stream = 2 * n + 1;
        if n % 50 == 0 {
            flight.extend(opened(stream, "/", b"", false));
            good.insert(stream);
        } else {
            flight.extend(opened(stream, "/slow", b"", false));
            flight.extend(cancel(stream));
        }
    }
    assert!(wire.send(&flight).await);
    wire.until("all others' answers", |seen| seen.answered == good)
        .await;
    // The same streams are opened again, and cancelled while the backend works on them.
    for round in 1..4 {
        let streams = || (0..200).map(|n| 2 * (1000 * round + n) + 1);
        let opening: Vec<u8> = streams()
            .flat_map(|stream| opened(stream, "/slow", b"", false))
            .collect();
        assert!(wire.send(&opening).await);
        let cancelling: Vec<u8> = streams().flat_map(cancel).collect();
        assert!(wire.send(&cancelling).await);
        let last = 2 * (1000 * round + 500) + 1;
        wire.send(&opened(last, "/", b"", false)).await;
        good.insert(last);
        wire.until("the other's answer", |seen| seen.answered == good)
            .await;
    }
    assert_eq!(wire.seen.goaway, None);
}

/// These floods break streams off, or make the router do so.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cancels_everything_is_disconnected() {
    let world = World::new().await;
    H2Backend::start(&world, "app.apps.test").await;
    let other = connect(&world).await;
    type Piece = fn(u32) -> Vec<u8>;
    let floods: [(&str, Piece); 4] = [
        ("rapid reset", |n| {
            [opened(n, "/slow", b"", false), cancel(n)].concat()
        }),
        ("an increment of 0", |n| {
            let zero = frame(WINDOW_UPDATE, 0, n, &[0; 4]);
            [opened(n, "/slow", b"", true), zero].concat()
        }),
        ("a window too large", |n| {
            let most = frame(WINDOW_UPDATE, 0, n, &[0x7f, 0xff, 0xff, 0xff]);
            [opened(n, "/slow", b"", true), most].concat()
        }),
        ("malformed requests", malformed),
    ];
    for (name, piece) in floods {
        let mut wire = Wire::open(&world).await;
        let mut stream = 1;
        while wire.seen.goaway.is_none() && !wire.seen.closed {
            if stream > 60_000 {
                // Everything is sent; the router may need a while to read it.
                let next = timeout(PATIENCE, wire.next()).await;
                assert!(next.is_ok(), "{name} is tolerated");
                continue;
            }
            let mut flight = Vec::new();
            for _ in 0..2000 {
                flight.extend(piece(stream));
                stream += 2;
            }
            wire.send(&flight).await;
            let soon = std::time::Duration::from_millis(1);
            while timeout(soon, wire.next()).await.is_ok() && !wire.seen.closed {}
        }
        // The library ends a connection at once for an increment of 0. When its own resets come first, the connection is
        // retired: it takes no more streams.
        let code = wire.seen.goaway;
        let gone = matches!(code, Some(CALM | PROTOCOL | RETIRED));
        assert!(gone, "{name}: {code:?}");
        assert_eq!(get(&other, "/").await.0, 200, "{name}");
    }
}

/// The library counts, over a connection's life, the streams that it breaks off for a client's fault.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_cost_no_valid_request() {
    let world = World::new().await;
    H2Backend::start(&world, "app.apps.test").await;
    let mut wire = Wire::open(&world).await;
    let mut good = BTreeSet::new();
    let mut stream = 1;
    while wire.seen.goaway.is_none() {
        assert!(stream < 40_000, "the connection is never retired");
        let mut flight = Vec::new();
        for _ in 0..50 {
            flight.extend(malformed(stream));
            flight.extend(opened(stream + 2, "/", b"", false));
            good.insert(stream + 2);
            stream += 4;
        }
        if !wire.send(&flight).await {
            break;
        }
        let last = stream - 2;
        wire.until("an answer or the end", |seen| {
            seen.answered.contains(&last) || seen.goaway.is_some()
        })
        .await;
    }
    assert!(wire.seen.reset.len() > 1000, "{}", wire.seen.reset.len());
    assert_eq!(wire.seen.goaway, Some(0), "it is retired, not cut off");
    // All requests are answered that were sent before the client received GOAWAY.
    while !wire.seen.closed && wire.seen.answered != good {
        let next = timeout(PATIENCE, wire.next()).await;
        next.expect("an answer or the end");
    }
    assert_eq!(wire.seen.answered.len(), good.len());
}

/// Downloads that many clients break off share the backend's connection with one that continues.
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_downloads_leave_the_backends_connection() {
    let world = World::new().await;
    let backend = H2Backend::start(&world, "app.apps.test").await;
    let sender = connect(&world).await;
    let (slow, _) = begin(&sender, ask(Method::GET, "/slow"), true).await;
    for _ in 0..30 {
        let mut downloads = Vec::new();
        for _ in 0..50 {
            downloads.push(begin(&sender, ask(Method::GET, "/big"), true).await);
        }
        for (answer, _) in downloads {
            let mut answer = head(answer).await;
            answer.body_mut().data().await.unwrap().unwrap();
        }
    }
    backend.go.notify_one();
    backend.go.notify_waiters();
    assert_eq!(head(slow).await.status(), 200);
    assert_eq!(get(&sender, "/").await.0, 200);
}
