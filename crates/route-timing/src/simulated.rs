//! Simulated apps: each is a port of this machine that answers every request with its number.

use crate::judge::MARK;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::convert::Infallible;
use std::net::IpAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The apps, which end when they are dropped.
#[derive(Debug)]
pub(crate) struct Apps {
    ports: Vec<u16>,
    _listening: JoinSet<()>,
}

impl Apps {
    /// Starts apps that listen at this address of the machine.
    pub(crate) async fn start(address: IpAddr, count: usize) -> Result<Self> {
        // Each app has a listener, and routers keep some connections to each.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of files")?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raise the limit of files")?;
        let (mut ports, mut listening) = (Vec::new(), JoinSet::new());
        for app in 0..count {
            let listener = TcpListener::bind((address, 0)).await.with_context(|| {
                format!(
                    "listen at {address} for simulated app {app}: name an address of this machine with --own-address, and allow {count} open files (ulimit -n)"
                )
            })?;
            ports.push(listener.local_addr().context("read a port")?.port());
            listening.spawn(accept(listener, app));
        }
        Ok(Self {
            ports,
            _listening: listening,
        })
    }

    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }
}

async fn accept(listener: TcpListener, app: usize) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(answer(stream, app))),
                // The connection has gone already, or files are short for a moment.
                Err(_) => tokio::task::yield_now().await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(stream: TcpStream, app: usize) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |_: hyper::Request<hyper::body::Incoming>| async move {
        let response = hyper::Response::builder()
            .header(MARK, app)
            .body(Empty::<Bytes>::new());
        Ok::<_, Infallible>(response.unwrap_or_default())
    });
    let serving = hyper::server::conn::http1::Builder::new();
    let serving = serving.serve_connection(TokioIo::new(stream), service);
    // The router may end its connection at any time.
    let _ = serving.await;
}
