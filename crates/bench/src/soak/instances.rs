//! The instances behind the routes. Each has a port of its own, plain or TLS, and puts its name into every answer. A TLS port may
//! pass to another instance: the name and the certificate change, and all connections of the old instance are cut.

use crate::certs::Authority;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kit::tls::{ClientAuth, server_config};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

pub(super) struct Instances {
    all: Vec<Instance>,
    spare: Vec<Identity>,
}

pub(super) struct Instance {
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) name: Arc<str>,
    identity: watch::Sender<Identity>,
}

#[derive(Clone)]
struct Identity {
    name: Arc<str>,
    tls: Option<TlsAcceptor>,
}

impl Instances {
    pub(super) async fn start(authority: &Authority, plain: usize, tls: usize) -> Result<Self> {
        let mut all = Vec::new();
        for n in 0..plain + tls {
            all.push(Instance::start(identity(authority, n, n >= plain)?).await?);
        }
        // These are the certificates of the instances that take a port over later. An instance may return after it was away.
        let spare = (0..tls.max(1)).map(|n| identity(authority, plain + tls + n, true));
        Ok(Self {
            all,
            spare: spare.collect::<Result<_>>()?,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, n: usize) -> &Instance {
        &self.all[n]
    }

    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|instance| &*instance.name == name)
    }

    /// Returns the name of the instance that takes the next port over.
    pub(super) fn next_name(&self) -> Arc<str> {
        self.spare[0].name.clone()
    }

    /// Makes another instance take the TLS port over at once. The name of the old one is used again later.
    pub(super) fn replace(&mut self, n: usize) {
        let new = self.spare.remove(0);
        let old = self.all[n].identity.send_replace(new.clone());
        self.all[n].name = new.name;
        self.spare.push(old);
    }
}

fn identity(authority: &Authority, n: usize, tls: bool) -> Result<Identity> {
    let name = format!("instance-{n:04}");
    let tls = if tls {
        let identity = authority.issue(&name)?;
        let config = server_config(&identity, ClientAuth::Required, &["http/1.1"])?;
        Some(TlsAcceptor::from(config))
    } else {
        None
    };
    Ok(Identity {
        name: name.into(),
        tls,
    })
}

impl Instance {
    async fn start(identity: Identity) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (name, tls) = (identity.name.clone(), identity.tls.is_some());
        let (sender, receiver) = watch::channel(identity);
        tokio::spawn(accept(listener, receiver));
        Ok(Self {
            port,
            tls,
            name,
            identity: sender,
        })
    }
}

async fn accept(listener: TcpListener, identity: watch::Receiver<Identity>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // There are no free descriptors; some will be free again.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut changes = identity.clone();
        let now = changes.borrow_and_update().clone();
        tokio::spawn(async move {
            tokio::select! {
                served = converse(stream, now) => served,
                _ = changes.changed() => Ok(()),
            }
        });
    }
}

async fn converse(stream: TcpStream, identity: Identity) -> Result<()> {
    stream.set_nodelay(true)?;
    match identity.tls {
        None => serve(stream, identity.name).await,
        Some(tls) => serve(tls.accept(stream).await?, identity.name).await,
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    name: Arc<str>,
) -> Result<()> {
    let service = service_fn(move |request| answer(request, name.clone()));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    connection
        .with_upgrades()
        .await
        .context("serve a connection")
}

/// Answers with `<name> <bytes of the request's body>`.
async fn answer(request: Request<Incoming>, name: Arc<str>) -> Result<Response<Full<Bytes>>> {
    if let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) {
        let accept = derive_accept_key(key.as_bytes());
        tokio::spawn(echo(request, name));
        return Ok(Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_ACCEPT, accept)
            .body(Full::default())?);
    }
    let mut body = request.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(Response::new(format!("{name} {length}").into()))
}

/// Sends each text back, with the instance's name in front.
async fn echo(request: Request<Incoming>, name: Arc<str>) -> Result<()> {
    let upgraded = TokioIo::new(hyper::upgrade::on(request).await?);
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() {
            socket
                .send(format!("{name} {}", message.to_text()?).into())
                .await?;
        }
    }
    Ok(())
}
