//! Writes to one channel.

use bytes::Bytes;
use russh::{ChannelId, ChannelMsg, ChannelWriteHalf};
use tokio_util::sync::CancellationToken;

/// The writing half of a channel. Writing waits until the peer has room, or until the channel is closed: russh alone would wait
/// without end when the peer is gone.
#[derive(Debug)]
pub struct Outlet<S: From<(ChannelId, ChannelMsg)>> {
    half: ChannelWriteHalf<S>,
    closed: CancellationToken,
}

impl<S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static> Outlet<S> {
    /// `closed` is cancelled by whoever learns that the channel or the connection has ended.
    pub fn new(half: ChannelWriteHalf<S>, closed: CancellationToken) -> Self {
        Self { half, closed }
    }

    /// Returns the half itself, for messages that need no room at the peer.
    pub fn half(&self) -> &ChannelWriteHalf<S> {
        &self.half
    }

    /// Writes data, or extended data of a kind: 1 is the standard error stream. Returns whether the peer can still receive.
    pub async fn write(&self, kind: Option<u32>, data: Bytes) -> bool {
        let sending = async {
            match kind {
                None => self.half.data_bytes(data).await,
                Some(kind) => self.half.extended_data_bytes(kind, data).await,
            }
        };
        tokio::select! {
            sent = sending => sent.is_ok(),
            () = self.closed.cancelled() => false,
        }
    }
}
