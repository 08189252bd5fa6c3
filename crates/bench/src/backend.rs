//! `bench backend`: the one server behind every peer, in a process of its own. Answers 1 kB from memory to whatever
//! ends with an empty line; its TLS port shows an instance's certificate and demands the client's. Ends with its stdin.

use anyhow::{Context as _, Result};
use kit::tls::{ClientAuth, Identity, server_config};
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Where the backend listens, as it tells in its first line.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) plain: u16,
    /// With a client certificate only.
    pub(crate) mutual: u16,
    /// TLS for everybody: for the row "direct".
    pub(crate) tls: u16,
    /// Answers every request with 101.
    pub(crate) websocket: u16,
}

impl Ports {
    pub(crate) fn read(line: &str) -> Result<Self> {
        let ports: Vec<u16> = line
            .split_whitespace()
            .filter_map(|p| p.parse().ok())
            .collect();
        let [plain, mutual, tls, websocket] = ports[..] else {
            anyhow::bail!("the backend told {line:?}");
        };
        Ok(Self {
            plain,
            mutual,
            tls,
            websocket,
        })
    }
}

/// With the accept value of RFC 6455's own example key, which the clients here send.
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBmTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

pub(crate) fn run(certificates: &Path) -> Result<()> {
    let identity = identity(certificates)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(identity))
}

/// The instance's, as it was written into this folder.
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

/// 1 kB.
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

/// Peers do not pipeline: what they have sent ends with the end of a head. An idle connection holds no buffer worth
/// speaking of.
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
