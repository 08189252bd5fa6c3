//! One connection to a server of the bus, with all that a subscriber needs.

use super::Config;
use super::protocol::{self, Connect, Info, ServerMessage};
use super::servers::Server;
use anyhow::{Context as _, Result, anyhow, bail};
use bytes::{Buf as _, BytesMut};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_rustls::TlsConnector;

/// The time limit of each step until a server has accepted us.
const PATIENCE: Duration = Duration::from_secs(5);
/// The number of unanswered pings after which the server counts as gone.
const UNANSWERED: u8 = 2;
/// The free space of the buffer before each read, in bytes.
const ROOM: usize = 64 << 10;

/// The identity of this process, the same at every server.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) ping_interval: Duration,
}

impl Client {
    /// Makes the identity of a process. `name` appears in the server's list of connections.
    pub(super) fn new(config: &Config, name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            user: config.user.clone(),
            password: config.password.clone(),
            tls: config.client_tls()?.map(Arc::new),
            ping_interval: config.ping_interval,
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) struct Connection {
    pub(super) server: Server,
    /// The server's address, as it was reached.
    pub(super) addr: Option<SocketAddr>,
    pub(super) since: Instant,
    stream: Box<dyn Stream>,
    /// The bytes that were read and not yet parsed.
    received: BytesMut,
    /// The bytes that are not yet written.
    outgoing: BytesMut,
    /// Whether written bytes may still be in a buffer before the socket.
    unflushed: bool,
    pings: Interval,
    unanswered: u8,
}

impl Connection {
    /// Connects, introduces this process, and waits until the server has accepted it. Also returns the server's `INFO`.
    pub(super) async fn open(server: Server, client: Client) -> Result<(Self, Info)> {
        let stream = timely("connect", TcpStream::connect(&server.address)).await?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let addr = stream.peer_addr().ok();
        let mut connection = Self::over(Box::new(stream), server, client.ping_interval);
        connection.addr = addr;
        let mut info = match connection.next_before_login().await? {
            ServerMessage::Info(info) => info,
            other => {
                bail!("the peer is not a NATS server: its first message is not INFO but {other:?}")
            }
        };
        match &client.tls {
            Some(_) if !info.tls_required && !info.tls_available => {
                bail!("the server does not support TLS");
            }
            Some(tls) => connection = connection.secured(tls.clone()).await?,
            None if info.tls_required => bail!("the server requires TLS"),
            None => {}
        }
        let connect = Connect {
            verbose: false,
            pedantic: false,
            tls_required: client.tls.is_some(),
            name: &client.name,
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            protocol: 1,
            headers: false,
            user: &client.user,
            pass: &client.password,
        };
        connection.queue(&connect.line());
        connection.queue(b"PING\r\n");
        loop {
            match connection.next_before_login().await? {
                ServerMessage::Pong => break,
                ServerMessage::Error(error) => bail!("{error}"),
                ServerMessage::Info(newer) => info = newer,
                _ => {}
            }
        }
        Ok((connection, info))
    }

    fn over(stream: Box<dyn Stream>, server: Server, ping_interval: Duration) -> Self {
        let mut pings = tokio::time::interval_at(Instant::now() + ping_interval, ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            server,
            addr: None,
            since: Instant::now(),
            stream,
            received: BytesMut::new(),
            outgoing: BytesMut::new(),
            unflushed: false,
            pings,
            unanswered: 0,
        }
    }

    async fn secured(self, tls: Arc<ClientConfig>) -> Result<Self> {
        let name = ServerName::try_from(self.server.name.clone()).with_context(|| {
            format!(
                "the server's name {:?} is neither a host name nor an IP address",
                self.server.name
            )
        })?;
        let handshake = TlsConnector::from(tls).connect(name, self.stream);
        let stream = timely("TLS handshake", handshake).await?;
        let addr = self.addr;
        let secured = Self::over(Box::new(stream), self.server, self.pings.period());
        Ok(Self { addr, ..secured })
    }

    /// Returns the next message of the server's protocol, before the server has accepted us.
    async fn next_before_login(&mut self) -> Result<ServerMessage> {
        let next = async {
            loop {
                if let Some(message) = self.next()? {
                    return Ok(message);
                }
                self.read().await?;
            }
        };
        let answer = tokio::time::timeout(PATIENCE, next).await;
        answer.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", PATIENCE.as_secs())))
    }

    /// Queues bytes, which the next [`read`](Self::read) writes.
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.outgoing.extend_from_slice(bytes);
    }

    /// Returns the next message of the protocol among the bytes that were read. It answers pings.
    pub(super) fn next(&mut self) -> Result<Option<ServerMessage>> {
        let message = protocol::parse(&mut self.received).map_err(|why| anyhow!(why))?;
        match message {
            Some(ServerMessage::Ping) => self.queue(b"PONG\r\n"),
            Some(ServerMessage::Pong) => self.unanswered = 0,
            _ => {}
        }
        Ok(message)
    }

    /// Writes the queued bytes, then waits until bytes arrive. Returns whether there may be more. An error means that the
    /// connection is lost. The future may be dropped without losing bytes.
    pub(super) async fn read(&mut self) -> Result<bool> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        while self.pings.poll_tick(cx).is_ready() {
            if self.unanswered == UNANSWERED {
                return Poll::Ready(Err(anyhow!("the server does not answer pings")));
            }
            self.unanswered += 1;
            self.queue(b"PING\r\n");
        }
        let mut stream = Pin::new(&mut *self.stream);
        while !self.outgoing.is_empty() {
            let Poll::Ready(written) = stream.as_mut().poll_write(cx, &self.outgoing)? else {
                break;
            };
            if written == 0 {
                return Poll::Ready(Err(anyhow!("the server accepts no more bytes")));
            }
            self.outgoing.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            self.unflushed = stream.as_mut().poll_flush(cx)?.is_pending();
        }
        self.received.reserve(ROOM);
        let room = self.received.capacity() - self.received.len();
        match tokio_util::io::poll_read_buf(stream, cx, &mut self.received)? {
            Poll::Pending => Poll::Pending,
            Poll::Ready(0) => Poll::Ready(Err(anyhow!("the server closed the connection"))),
            Poll::Ready(read) => Poll::Ready(Ok(read == room)),
        }
    }
}

async fn timely<T>(what: &str, step: impl Future<Output = std::io::Result<T>>) -> Result<T> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(done) => done.with_context(|| what.to_owned()),
        Err(_) => bail!("{what}: no answer within {} s", PATIENCE.as_secs()),
    }
}
