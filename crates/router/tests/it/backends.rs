//! Apps: HTTP servers that answer with their names.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

pub(crate) struct Backend {
    pub(crate) addr: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    /// The signal at which `/slow` answers.
    pub(crate) go: Arc<Notify>,
    /// The signal that `/slow` was requested.
    pub(crate) waiting: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    pub(crate) async fn start(name: &'static str) -> Self {
        Self::listen(name, TcpListener::bind("127.0.0.1:0").await.unwrap(), None)
    }

    pub(crate) async fn start_tls(name: &'static str, tls: Arc<rustls::ServerConfig>) -> Self {
        Self::listen(
            name,
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            Some(tls),
        )
    }

    pub(crate) fn listen(
        name: &'static str,
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let (connections, go, waiting) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Notify::new()),
            Arc::new(Notify::new()),
        );
        let (count, release, notice) = (connections.clone(), go.clone(), waiting.clone());
        let task = tokio::spawn(async move {
            let acceptor = tls.map(TlsAcceptor::from);
            let mut serving = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let (acceptor, release, notice) =
                    (acceptor.clone(), release.clone(), notice.clone());
                let service = service_fn(move |request| {
                    let (release, notice) = (release.clone(), notice.clone());
                    async move { Ok::<_, Infallible>(answer(name, &release, &notice, request).await) }
                });
                serving.spawn(async move {
                    match acceptor {
                        None => drop(
                            http1::Builder::new()
                                .serve_connection(TokioIo::new(stream), service)
                                .await,
                        ),
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else {
                                return;
                            };
                            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                                drop(
                                    http2::Builder::new(TokioExecutor::new())
                                        .serve_connection(TokioIo::new(stream), service)
                                        .await,
                                );
                            } else {
                                drop(
                                    http1::Builder::new()
                                        .serve_connection(TokioIo::new(stream), service)
                                        .await,
                                );
                            }
                        }
                    }
                });
            }
        });
        Self {
            addr,
            connections,
            go,
            waiting,
            task,
        }
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into())
        .map_err(|never| match never {})
        .boxed()
}

pub(crate) const BIG: usize = 48 << 20;

async fn answer(
    name: &'static str,
    go: &Notify,
    waiting: &Notify,
    request: Request<Incoming>,
) -> Response<Body> {
    match request.uri().path() {
        "/echo" => Response::new(request.into_body().boxed()),
        "/count" => {
            let body = request.into_body().collect().await.unwrap();
            let trailer = body
                .trailers()
                .map(|trailers| format!("{trailers:?}"))
                .unwrap_or_default();
            Response::new(full(format!("{} {trailer}", body.to_bytes().len())))
        }
        "/big" => {
            let chunk = Bytes::from(vec![b'x'; 1 << 20]);
            let chunks = (0..BIG / chunk.len())
                .map(move |_| Ok::<_, hyper::Error>(Frame::data(chunk.clone())));
            Response::new(BodyExt::boxed(StreamBody::new(futures::stream::iter(
                chunks,
            ))))
        }
        "/slow" => {
            waiting.notify_one();
            go.notified().await;
            Response::new(full(name))
        }
        "/early" => Response::builder()
            .status(413)
            .body(full("too much"))
            .unwrap(),
        "/session" => Response::builder()
            .header(
                "set-cookie",
                "JSESSIONID=s1; Path=/; Secure; SameSite=Strict",
            )
            .body(full(name))
            .unwrap(),
        "/trailers" => {
            let frames = [
                Frame::data(Bytes::from_static(b"data")),
                Frame::trailers(
                    [("x-sum".parse().unwrap(), "42".parse().unwrap())]
                        .into_iter()
                        .collect(),
                ),
            ];
            Response::builder()
                .header("trailer", "x-sum")
                .body(BodyExt::boxed(StreamBody::new(futures::stream::iter(
                    frames.map(Ok),
                ))))
                .unwrap()
        }
        "/length" => Response::builder()
            .header("content-length", "5")
            .header("x-method", request.method().as_str())
            .body(full("12345"))
            .unwrap(),
        path if path.starts_with("/dump") => {
            let mut text = format!(
                "{} {} {:?}\n",
                request.method(),
                request.uri(),
                request.version()
            );
            for (name, value) in request.headers() {
                text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            Response::new(full(text))
        }
        _ => Response::new(full(name)),
    }
}
