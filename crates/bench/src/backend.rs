//! `bench backend`: the one server behind every peer, in a process of its own. It answers 1 kB from memory to everything that
//! ends with an empty line. Its TLS port presents an instance's certificate and requires the client's. It ends when its stdin
//! ends.

use anyhow::{Context as _, Result};
use kit::tls::{ClientAuth, Identity, server_config};
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The ports on which the backend listens, as it prints them in its first line.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) plain: u16,
    /// The port that requires a client certificate.
    pub(crate) mutual: u16,
    /// The TLS port for all clients, which the row "direct" uses.
    pub(crate) tls: u16,
    /// The port that answers every request with 101.
    pub(crate) websocket: u16,
}

impl Ports {
    pub(crate) fn read(line: &str) -> Result<Self> {
        let ports: Vec<u16> = line
            .split_whitespace()
            .filter_map(|p| p.parse().ok())
            .collect();
        let [plain, mutual, tls, websocket] = ports[..] else {
            anyhow::bail!("cannot read the backend's ports: {line:?}");
        };
        Ok(Self {
            plain,
            mutual,
            tls,
            websocket,
        })
    }
}

/// The answer 101, with the accept value of RFC 6455's own example key, which the clients here send.
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBmTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

pub(crate) fn run(certificates: &Path) -> Result<()> {
    let identity = identity(certificates)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(identity))
}

/// Returns the identity of the instance, which was written into this folder.
pub(crate) fn identity(folder: &Path) -> Result<Identity> {
    let read = |name: &str| {
        std::fs::read_to_string(folder.join(name)).with_context(|| format!("read {name}"))
    };
    Ok(Identity {
        cert_pem: read("instance.crt")?,
        key_pem: read("instance.key")?,
        ca_pem: read("ca.pem")?,
    })
}

async fn serve(identity: Identity) -> Result<()> {
    kit::tls::install_crypto();
    let mutual = TlsAcceptor::from(server_config(
        &identity,
        ClientAuth::Required,
        &["http/1.1"],
    )?);
    let open = TlsAcceptor::from(server_config(&identity, ClientAuth::None, &["http/1.1"])?);
    let mut ports = Vec::new();
    for (tls, answer) in [
        (None, ok()),
        (Some(mutual), ok()),
        (Some(open), ok()),
        (None, SWITCH.to_vec()),
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        ports.push(listener.local_addr()?.port().to_string());
        tokio::spawn(accept(listener, tls, answer.leak()));
    }
    println!("{}", ports.join(" "));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

/// Returns a response with a body of 1 kB.
pub(crate) fn ok() -> Vec<u8> {
    let body = "x".repeat(1024);
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, answer: &'static [u8]) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, tls.clone(), answer));
    }
}

async fn converse(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    answer: &'static [u8],
) -> Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => answers(stream, answer).await,
        Some(tls) => answers(tls.accept(stream).await?, answer).await,
    }
}

/// Answers the requests of a connection. Peers do not pipeline, so the bytes that they have sent end with the end of a head. An
/// idle connection holds only a small buffer.
async fn answers<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: &[u8]) -> Result<()> {
    let mut buffer = vec![0; 4096];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            stream.write_all(answer).await?;
            stream.flush().await?;
            filled = 0;
        }
    }
}
