//! One forwarded connection: from a channel to a port that the container can reach.
//!
//! Names are resolved by the container's own `getent`: this program is linked statically, and the resolver of its library would load
//! parts of the container's library, which may be another version.

use russh::ChannelMsg;
use russh::ChannelOpenFailure;
use russh::server::{ChannelOpenHandle, Msg};
use ssh_sides::{Inbox, Outlet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

const CONNECT: Duration = Duration::from_secs(10);
/// The number of bytes that are read at once.
const CHUNK: usize = 32 << 10;

/// Connects, answers the client, and copies both ways until one side has ended.
pub(super) async fn run(
    (host, port): (String, u32),
    outlet: Outlet<Msg>,
    inbox: Inbox,
    closed: CancellationToken,
    reply: ChannelOpenHandle,
) {
    let Some(stream) = connect(&host, port).await else {
        reply.reject(ChannelOpenFailure::ConnectFailed).await;
        closed.cancel();
        return;
    };
    reply.accept().await;
    let (reader, writer) = stream.into_split();
    tokio::select! {
        () = write(inbox, writer) => {}
        () = read(reader, &outlet) => {}
        () = closed.cancelled() => {}
    }
    let _ = outlet.half().close().await;
    closed.cancel();
}

async fn connect(host: &str, port: u32) -> Option<TcpStream> {
    let port = u16::try_from(port).ok()?;
    let connecting = async {
        let ips = match own(host) {
            Some(ips) => ips,
            None => resolve(host).await,
        };
        let addresses: Vec<SocketAddr> = ips.into_iter().map(|ip| (ip, port).into()).collect();
        TcpStream::connect(&addresses[..]).await.ok()
    };
    let stream = tokio::time::timeout(CONNECT, connecting).await.ok()??;
    let _ = stream.set_nodelay(true);
    Some(stream)
}

/// Returns the addresses of a host that needs no resolver.
fn own(host: &str) -> Option<Vec<IpAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    Some(vec![host.parse().ok()?])
}

/// Returns the addresses of a name; none if it is unknown, or no name.
async fn resolve(name: &str) -> Vec<IpAddr> {
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if !is_name || name.is_empty() || name.starts_with('-') {
        return Vec::new();
    }
    let found = Command::new("getent")
        .args(["ahosts", name])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    found.map_or_else(|_| Vec::new(), |found| listed(&found.stdout))
}

/// Returns the addresses in the output of `getent ahosts`: the first word of each line, each address once.
fn listed(output: &[u8]) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for line in String::from_utf8_lossy(output).lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        if let Ok(address) = word.parse()
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}

/// Copies from the client. It returns when the client has closed the channel, or the target takes no more.
async fn write(mut inbox: Inbox, mut writer: OwnedWriteHalf) {
    while let Some(message) = inbox.next().await {
        let written = match message {
            ChannelMsg::Data { data } => writer.write_all(&data).await,
            ChannelMsg::Eof => writer.shutdown().await,
            ChannelMsg::Close => return,
            _ => Ok(()),
        };
        if written.is_err() {
            return;
        }
    }
}

/// Copies to the client. At the end of what the target sends, the client may still send.
async fn read(mut reader: OwnedReadHalf, outlet: &Outlet<Msg>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => {
                let data = bytes::Bytes::copy_from_slice(&buffer[..length]);
                if !outlet.write(None, data).await {
                    return;
                }
            }
            Err(_) => return,
        }
    }
    let _ = outlet.half().eof().await;
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_getent_are_read_once() {
        let output = b"10.0.0.5        STREAM db.example\n10.0.0.5        DGRAM\nfd00::5         STREAM\nnonsense\n";
        let expected: Vec<IpAddr> = vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        assert_eq!(listed(output), expected);
        assert!(listed(b"").is_empty());
    }

    #[test]
    fn own_addresses_need_no_resolver() {
        assert_eq!(own("LocalHost").unwrap().len(), 2);
        assert_eq!(own("127.0.0.1").unwrap(), [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(own("db.example"), None);
    }

    #[tokio::test]
    async fn what_is_no_name_is_not_resolved() {
        for wrong in ["-s", "a b", "a;b", "$(id)", ""] {
            assert!(resolve(wrong).await.is_empty(), "{wrong}");
        }
    }
}
