//! One forwarded connection: from a channel to a port that the container can reach.

use russh::ChannelMsg;
use russh::ChannelOpenFailure;
use russh::server::{ChannelOpenHandle, Msg};
use ssh_sides::{Inbox, Outlet};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
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
    let connecting = TcpStream::connect((host, port));
    let stream = tokio::time::timeout(CONNECT, connecting).await.ok()?.ok()?;
    let _ = stream.set_nodelay(true);
    Some(stream)
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
