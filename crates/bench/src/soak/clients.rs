//! The clients: each kind sends requests to random hosts as fast as they are answered, and has every answer judged.

use super::ownership::{Answer, Owner, Ownership, Verdict};
use super::report::Tally;
use crate::messages;
use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite;

const PATIENCE: Duration = Duration::from_secs(20);
/// The number of texts that are sent through one WebSocket.
const TEXTS: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    KeepAlive,
    Upload,
    Https,
    Http2,
    WebSocket,
}

impl Kind {
    pub(super) const ALL: &'static [Self] = &[
        Self::KeepAlive,
        Self::Upload,
        Self::Https,
        Self::Http2,
        Self::WebSocket,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "HTTP/1.1 keep-alive",
            Self::Upload => "chunked uploads",
            Self::Https => "HTTPS",
            Self::Http2 => "HTTP/2",
            Self::WebSocket => "WebSocket echo",
        }
    }

    fn tasks(self) -> usize {
        match self {
            Self::KeepAlive | Self::Https | Self::Http2 => 8,
            Self::Upload | Self::WebSocket => 4,
        }
    }

    /// Returns the number of tasks that share a connection.
    fn streams(self) -> usize {
        if self == Self::Http2 { 4 } else { 1 }
    }
}

/// The state that all clients and the churn share.
pub(super) struct World {
    pub(super) http: u16,
    pub(super) https: u16,
    pub(super) ca_pem: String,
    pub(super) hosts: usize,
    pub(super) began: Instant,
    pub(super) ownership: Mutex<Ownership>,
    pub(super) tallies: Mutex<HashMap<Kind, Tally>>,
    pub(super) stop: AtomicBool,
}

impl World {
    pub(super) fn owner(&self, host: usize) -> Result<Owner> {
        Ok(self.owners()?.owner(host))
    }

    pub(super) fn change(&self, host: usize, owner: Owner) -> Result<()> {
        self.owners()?.change(host, self.began.elapsed(), owner);
        Ok(())
    }

    pub(super) fn hosts_of(&self, name: &str) -> Result<Vec<usize>> {
        let owners = self.owners()?;
        Ok((0..self.hosts)
            .filter(|host| owners.owner(*host).as_deref() == Some(name))
            .collect())
    }

    fn owners(&self) -> Result<std::sync::MutexGuard<'_, Ownership>> {
        self.ownership
            .lock()
            .map_err(|_| anyhow!("another thread panicked"))
    }

    fn judged(&self, kind: Kind, host: usize, sent: Duration, answer: &Answer) {
        let answered = self.began.elapsed();
        let (Ok(owners), Ok(mut tallies)) = (self.owners(), self.tallies.lock()) else {
            return;
        };
        let verdict = owners.judge(host, sent, answered, answer);
        let tally = tallies.entry(kind).or_default();
        tally.count(answer, &verdict);
        if verdict == Verdict::Wrong {
            let owner = owners.owner(host);
            let line = format!(
                "{:.3} s, {}, {}: {answer}, but its owner is {}",
                sent.as_secs_f64(),
                kind.name(),
                messages::host(host),
                owner.as_deref().unwrap_or("nobody")
            );
            tally.wrong.push(line);
        }
    }
}

type Body = BoxBody<Bytes, Infallible>;

pub(super) fn start(world: &Arc<World>, runtime: &tokio::runtime::Runtime) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for &kind in Kind::ALL {
        for _ in 0..kind.tasks() / kind.streams() {
            let kept = Kept::default();
            for _ in 0..kind.streams() {
                tasks.push(runtime.spawn(one(world.clone(), kind, kept.clone())));
            }
        }
    }
    tasks
}

async fn one(world: Arc<World>, kind: Kind, kept: Kept) {
    while !world.stop.load(Ordering::Relaxed) {
        let host = rand::random_range(0..world.hosts);
        let sent = world.began.elapsed();
        let answer = tokio::time::timeout(PATIENCE, send_one(&world, kind, host, &kept)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::Failed(format!("{error:#}")),
            Err(_) => Answer::Failed("no answer within 20 s".into()),
        };
        world.judged(kind, host, sent, &answer);
    }
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// The connection for the next request. For HTTP/1 it is present while no request runs, for HTTP/2 all the time.
type Kept = Arc<tokio::sync::Mutex<Option<Sender>>>;

async fn send_one(world: &World, kind: Kind, host: usize, kept: &Kept) -> Result<Answer> {
    let name = messages::host(host);
    if kind == Kind::WebSocket {
        return websocket(world, &name).await;
    }
    let (body, length) = match kind {
        Kind::Upload => upload(),
        _ => (Empty::new().boxed(), 0),
    };
    let version_2 = kind == Kind::Http2;
    let method = if kind == Kind::Upload { "POST" } else { "GET" };
    let request = Request::builder().method(method);
    let request = if version_2 {
        request.uri(format!("https://{name}/"))
    } else {
        request.uri("/").header("host", &name)
    };
    let request = request.body(body)?;
    let mut sender = open(world, kind, kept).await?;
    let response = match &mut sender {
        Sender::Http1(sender) => sender.send_request(request).await?,
        Sender::Http2(sender) => sender.send_request(request).await?,
    };
    let answer = read(response, length).await?;
    kept.lock().await.get_or_insert(sender);
    Ok(answer)
}

/// Returns an open connection. A server may close a kept connection, which does not count as an answer; a request that is lost
/// after it was sent does.
async fn open(world: &World, kind: Kind, kept: &Kept) -> Result<Sender> {
    let mut kept = kept.lock().await;
    let open = match kept.take() {
        Some(mut sender) => ready(&mut sender).await.then_some(sender),
        None => None,
    };
    let sender = match open {
        Some(sender) => sender,
        None => connect(world, kind).await?,
    };
    if let Sender::Http2(sender) = &sender {
        *kept = Some(Sender::Http2(sender.clone()));
    }
    Ok(sender)
}

async fn ready(sender: &mut Sender) -> bool {
    match sender {
        Sender::Http1(sender) => sender.ready().await.is_ok(),
        Sender::Http2(sender) => sender.ready().await.is_ok(),
    }
}

async fn read(response: Response<hyper::body::Incoming>, length: usize) -> Result<Answer> {
    let status = response.status().as_u16();
    let error = response.headers().get("x-cf-routererror").cloned();
    let body = response.into_body().collect().await?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    if status == 404 && error.as_ref().is_some_and(|e| e == "unknown_route") {
        return Ok(Answer::NoRoute);
    }
    match body.split_once(' ') {
        Some((name, got)) if status == 200 && got == length.to_string() => {
            Ok(Answer::From(name.to_owned()))
        }
        _ => Ok(Answer::Failed(format!("{status} {error:?} {body:?}"))),
    }
}

async fn connect(world: &World, kind: Kind) -> Result<Sender> {
    match kind {
        Kind::Https => {
            let stream = secure(world, b"http/1.1").await?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok(Sender::Http1(sender))
        }
        Kind::Http2 => {
            let stream = secure(world, b"h2").await?;
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok(Sender::Http2(sender))
        }
        _ => {
            let (sender, connection) =
                http1::handshake(TokioIo::new(tcp(world.http).await?)).await?;
            tokio::spawn(connection);
            Ok(Sender::Http1(sender))
        }
    }
}

async fn tcp(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn secure(world: &World, protocol: &[u8]) -> Result<TlsStream<TcpStream>> {
    let mut config =
        kit::tls::trusting(kit::tls::Authorities::from_pem(&world.ca_pem)?).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = tcp(world.https).await?;
    let name = crate::rig::HOST.try_into()?;
    Ok(TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?)
}

/// Returns a few chunks and their total size in bytes.
fn upload() -> (Body, usize) {
    let chunks: Vec<Bytes> = (0..rand::random_range(1..6))
        .map(|_| vec![b'u'; rand::random_range(1..20_000)].into())
        .collect();
    let length = chunks.iter().map(Bytes::len).sum();
    let frames = futures::stream::iter(chunks.into_iter().map(|chunk| Ok(Frame::data(chunk))));
    (BodyExt::boxed(StreamBody::new(frames)), length)
}

/// Opens a WebSocket, exchanges a few texts, and closes it. The instance that answered the upgrade must answer all of them.
async fn websocket(world: &World, host: &str) -> Result<Answer> {
    let stream = tcp(world.http).await?;
    let opened = tokio_tungstenite::client_async(format!("ws://{host}/"), stream).await;
    let mut socket = match opened {
        Ok((socket, _)) => socket,
        Err(tungstenite::Error::Http(response)) if response.status() == 404 => {
            return Ok(Answer::NoRoute);
        }
        Err(tungstenite::Error::Http(response)) => {
            return Ok(Answer::Failed(response.status().to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    let mut from = None;
    for n in 0..TEXTS {
        socket.send(format!("text {n}").into()).await?;
        let answer = socket.next().await.context("the socket was closed")??;
        let (name, rest) = answer
            .to_text()?
            .split_once(' ')
            .context("an echo without a name")?;
        if rest != format!("text {n}") || from.as_deref().is_some_and(|f| f != name) {
            return Ok(Answer::Failed(format!("echo {n} was {answer:?}")));
        }
        from = Some(name.to_owned());
    }
    socket.close(None).await?;
    Ok(from.map_or_else(|| Answer::Failed("no echo".into()), Answer::From))
}
