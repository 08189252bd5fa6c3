//! The connection to the ingress service: one HTTP/2 connection with one client-streaming gRPC call on it.
//!
//! A gRPC message is a flag byte (0: not compressed), its length in four bytes and the protobuf bytes.

use super::Queue;
use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kit::backoff::Backoff;
use kit::tls::Identity;
use prost::Message as _;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use wire::loggregator::{BATCH_SENDER, Envelope, EnvelopeBatch};

const BATCH: usize = 500;
const BATCH_BYTES: usize = 512 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit for the last batch, once the last emitter is gone.
const LAST_BATCH_TIMEOUT: Duration = Duration::from_secs(2);

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// The checked address of the service.
pub(super) struct Target {
    url: String,
    authority: String,
    address: (String, u16),
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Target {
    pub(super) fn new(url: &str, identity: &Identity) -> Result<Self> {
        let uri: http::Uri = url
            .parse()
            .with_context(|| format!("log-cache URL {url:?}: expected https://host:port"))?;
        let host = uri
            .host()
            .with_context(|| format!("log-cache URL {url:?} has no host"))?
            .trim_matches(['[', ']'])
            .to_owned();
        anyhow::ensure!(
            uri.scheme_str() == Some("https"),
            "log-cache URL {url:?}: expected https://host:port"
        );
        let mut tls = kit::tls::client_config(identity)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let port = uri.port_u16().unwrap_or(3458);
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
            name: ServerName::try_from(host.clone())
                .with_context(|| format!("log-cache host {host:?} is not a valid name"))?,
            address: (host, port),
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }
}

/// Sends the queue in the background, until the last emitter is gone and its envelopes are sent (or cannot be).
pub(super) async fn deliver(target: Target, queue: Arc<Queue>) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    let mut report = Report::default();
    let mut unsent = None;
    loop {
        let outcome = match tokio::time::timeout(CONNECT_TIMEOUT, Call::open(&target)).await {
            Ok(Ok(call)) => {
                backoff.reset();
                report.connected(&target, &queue);
                call.send_all(&queue, &mut unsent).await
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(anyhow::anyhow!(
                "connect timed out after {CONNECT_TIMEOUT:?}"
            )),
        };
        match outcome {
            Ok(()) => return,
            Err(_) if queue.is_closed() => return,
            Err(error) => report.failed(&target, &error),
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// The state for logging once that log-cache is lost and once that it is back.
#[derive(Default)]
struct Report {
    lost: Option<Instant>,
    dropped: u64,
}

impl Report {
    fn failed(&mut self, target: &Target, error: &anyhow::Error) {
        if self.lost.is_none() {
            self.lost = Some(Instant::now());
            tracing::info!(url = %target.url, error = format!("{error:#}"), "log-cache-unreachable");
        }
    }
    fn connected(&mut self, target: &Target, queue: &Queue) {
        let dropped = queue.dropped.load(Ordering::Relaxed);
        if let Some(lost) = self.lost.take() {
            tracing::info!(url = %target.url, after_ms = u64::try_from(lost.elapsed().as_millis()).unwrap_or(u64::MAX), dropped = dropped - self.dropped, "log-cache-connected");
        }
        self.dropped = dropped;
    }
}

/// One open client-streaming call.
struct Call {
    frames: mpsc::Sender<Result<Frame<Bytes>, std::convert::Infallible>>,
    /// The task that ends when the server answers or the connection breaks. No more can be sent then.
    ended: tokio::task::JoinHandle<anyhow::Error>,
}

impl Call {
    async fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect((target.address.0.as_str(), target.address.1))
            .await
            .with_context(|| format!("connect to {}", target.authority))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let stream = target
            .tls
            .connect(target.name.clone(), stream)
            .await
            .with_context(|| format!("TLS with {}", target.authority))?;
        let (mut requests, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .handshake::<_, Body>(TokioIo::new(stream))
            .await
            .context("HTTP/2 handshake")?;
        let driver = tokio::spawn(connection);
        // Only one batch waits here. What the connection cannot accept yet stays in the queue, where it is bounded.
        let (frames, receiver) = mpsc::channel(1);
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|frame| (frame, receiver))
        });
        let request = http::Request::post(format!("https://{}{BATCH_SENDER}", target.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(UnsyncBoxBody::new(StreamBody::new(stream)))
            .context("build request")?;
        requests.ready().await.context("open gRPC call")?;
        let answer = requests.send_request(request);
        let ended = tokio::spawn(async move {
            let why = match answer.await {
                Err(error) => anyhow::Error::new(error).context("gRPC call broke"),
                Ok(answer) => {
                    // The head may come early; the call ends with the body. The status of an error is in the head or in the
                    // trailers.
                    let (head, body) = answer.into_parts();
                    let trailers = body
                        .collect()
                        .await
                        .ok()
                        .and_then(|body| body.trailers().cloned())
                        .unwrap_or_default();
                    let text = |name| {
                        head.headers
                            .get(name)
                            .or_else(|| trailers.get(name))
                            .and_then(|v| v.to_str().ok())
                            .unwrap_or("-")
                            .to_owned()
                    };
                    anyhow::anyhow!(
                        "log-cache ended the call: status {}, grpc-status {}, message {}",
                        head.status,
                        text("grpc-status"),
                        text("grpc-message")
                    )
                }
            };
            driver.abort();
            drop(requests);
            why
        });
        Ok(Self { frames, ended })
    }

    /// Sends until the queue is closed and empty (`Ok`) or the call breaks. A batch that was not passed on stays in `unsent`.
    async fn send_all(mut self, queue: &Queue, unsent: &mut Option<Vec<Envelope>>) -> Result<()> {
        loop {
            let batch = match unsent.take() {
                Some(batch) => batch,
                None => tokio::select! {
                    why = &mut self.ended => return Err(why.context("gRPC call")?),
                    batch = queue.next_batch(BATCH, BATCH_BYTES) => match batch {
                        Some(batch) => batch,
                        None => break,
                    },
                },
            };
            let permit = tokio::select! {
                why = &mut self.ended => {
                    *unsent = Some(batch);
                    return Err(why.context("gRPC call")?);
                }
                permit = self.frames.reserve() => permit,
            };
            match permit {
                Ok(permit) => permit.send(Ok(Frame::data(frame(batch)))),
                Err(_) => {
                    *unsent = Some(batch);
                    let why = self.ended.await.context("gRPC call")?;
                    return Err(why);
                }
            }
        }
        drop(self.frames);
        let _ = tokio::time::timeout(LAST_BATCH_TIMEOUT, self.ended).await;
        Ok(())
    }
}

fn frame(batch: Vec<Envelope>) -> Bytes {
    let batch = EnvelopeBatch { batch };
    let length = batch.encoded_len();
    let mut buffer = BytesMut::with_capacity(5 + length);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    batch
        .encode(&mut buffer)
        .unwrap_or_else(|_| unreachable!("a BytesMut grows"));
    buffer.freeze()
}
