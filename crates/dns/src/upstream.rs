//! Forwards queries to the machine's own resolvers, within bounded time.

use anyhow::{Context as _, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// The longest wait for one resolver, and the longest for all of them. Clients wait five seconds for our answer.
const PATIENCE: Duration = Duration::from_millis(1500);
const ALL_PATIENCE: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(crate) struct Upstream {
    resolv_conf: PathBuf,
    /// The addresses of this server, which is never asked, because that would cause a loop.
    own: Vec<SocketAddr>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    modified: Option<SystemTime>,
    servers: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

impl Upstream {
    pub(crate) fn new(resolv_conf: PathBuf, own: Vec<SocketAddr>) -> Self {
        Self {
            resolv_conf,
            own,
            known: Mutex::default(),
        }
    }

    /// Returns the first answer of a resolver.
    pub(crate) async fn query(&self, query: &[u8], transport: Transport) -> Result<Vec<u8>> {
        let servers = self.servers();
        anyhow::ensure!(
            !servers.is_empty(),
            "{} lists no resolver",
            self.resolv_conf.display()
        );
        let all = async {
            let mut last = None;
            for server in &servers {
                let asked = async {
                    match transport {
                        Transport::Udp => udp(*server, query).await,
                        Transport::Tcp => tcp(*server, query).await,
                    }
                };
                match tokio::time::timeout(PATIENCE, asked).await {
                    Ok(Ok(answer)) => {
                        self.prefer(*server);
                        return Ok(answer);
                    }
                    Ok(Err(error)) => {
                        last = Some(error.context(format!("query resolver {server}")))
                    }
                    Err(_) => {
                        last = Some(anyhow::anyhow!(
                            "resolver {server} did not answer in {PATIENCE:?}"
                        ))
                    }
                }
            }
            Err(last.unwrap_or_else(|| anyhow::anyhow!("no resolver is configured")))
        };
        tokio::time::timeout(ALL_PATIENCE, all)
            .await
            .context("no resolver answered in time")?
    }

    /// Returns the resolvers that the file lists now.
    fn servers(&self) -> Vec<SocketAddr> {
        let modified = std::fs::metadata(&self.resolv_conf)
            .and_then(|meta| meta.modified())
            .ok();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.modified != modified || known.servers.is_empty() {
            let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
            let mut servers = parse(&text);
            servers.retain(|server| !self.is_own(*server));
            *known = Known { modified, servers };
        }
        known.servers.clone()
    }

    fn is_own(&self, server: SocketAddr) -> bool {
        self.own.iter().any(|own| {
            own.port() == server.port()
                && (own.ip() == server.ip()
                    || (own.ip().is_unspecified() && server.ip().is_loopback()))
        })
    }

    /// Puts the resolver that answered first, so that a dead one costs its time limit only once.
    fn prefer(&self, server: SocketAddr) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = known.servers.iter().position(|known| *known == server) {
            known.servers[..=at].rotate_right(1);
        }
    }
}

/// Parses the `nameserver` lines. A port (`1.2.3.4:5353`) is accepted too.
fn parse(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let value = words
            .next()
            .filter(|word| *word == "nameserver")
            .and(words.next())?;
        let bare = value.split('%').next().unwrap_or(value);
        bare.parse::<IpAddr>()
            .map(|ip| SocketAddr::new(ip, 53))
            .or_else(|_| value.parse())
            .ok()
    };
    text.lines().filter_map(server).collect()
}

/// Asks a resolver by UDP with a new id and a new port, so that a process that knows the client's cannot forge an answer.
async fn udp(server: SocketAddr, query: &[u8]) -> Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let (id, query) = with_new_id(query)?;
    socket.send(&query).await?;
    let mut buffer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if length >= 12 && buffer[..2] == query[..2] {
            buffer.truncate(length);
            buffer[..2].copy_from_slice(&id);
            return Ok(buffer);
        }
    }
}

async fn tcp(server: SocketAddr, query: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let (id, query) = with_new_id(query)?;
    write_framed(&mut stream, &query).await?;
    let mut answer = read_framed(&mut stream)
        .await?
        .context("the resolver closed the connection")?;
    anyhow::ensure!(
        answer.len() >= 12 && answer[..2] == query[..2],
        "the resolver answered another question than ours"
    );
    answer[..2].copy_from_slice(&id);
    Ok(answer)
}

fn with_new_id(query: &[u8]) -> Result<([u8; 2], Vec<u8>)> {
    let mut query = query.to_vec();
    let id = query
        .get_mut(..2)
        .context("the query is too short for an id")?;
    let old = [id[0], id[1]];
    id.copy_from_slice(&rand::random::<[u8; 2]>());
    Ok((old, query))
}

/// Reads a message from a TCP stream, where its length precedes it. `None` means that the peer closed the stream.
pub(crate) async fn read_framed(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

pub(crate) async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len())
        .map_err(|_| std::io::Error::other("message longer than 65,535 bytes"))?;
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_in_order_and_never_ourselves() {
        let text = "# comment\nsearch x\nnameserver 1.1.1.1\nnameserver fe80::1%eth0\n nameserver 127.0.0.1:5353\nnameserver x\noptions ndots:5\n";
        let servers = parse(text);
        assert_eq!(
            servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["1.1.1.1:53", "[fe80::1]:53", "127.0.0.1:5353"]
        );
        let upstream = Upstream::new("/nowhere".into(), vec!["0.0.0.0:5353".parse().unwrap()]);
        assert!(upstream.is_own(servers[2]) && !upstream.is_own(servers[0]));
    }
}
