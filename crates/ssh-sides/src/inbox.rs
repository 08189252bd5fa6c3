//! Receives the messages of one channel as fast as they come, so that the connection never waits for this channel.

use crate::gate::{Gate, Load};
use russh::{ChannelMsg, ChannelReadHalf};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The number of bytes that each message counts in addition to its data.
const OVERHEAD: usize = 128;

/// The messages of a channel in their order. The gate of the connection bounds their number.
#[derive(Debug)]
pub struct Inbox {
    messages: UnboundedReceiver<(ChannelMsg, Load)>,
    /// The load of the message that was returned last. It counts until the next one is requested.
    returned: Option<Load>,
}

impl Inbox {
    /// Begins to receive. It must be called within a runtime.
    pub fn of(mut half: ChannelReadHalf, gate: &Gate) -> Self {
        let (sender, messages) = unbounded_channel();
        let gate = gate.clone();
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    message = half.wait() => message,
                    // The reader is gone, but the channel may stay open for as long as the connection.
                    () = sender.closed() => return,
                };
                let Some(message) = message else {
                    return;
                };
                let load = gate.load(size(&message));
                let _ = sender.send((message, load));
            }
        });
        Self {
            messages,
            returned: None,
        }
    }

    /// Returns the next message, or `None` when the channel or its connection has ended.
    pub async fn next(&mut self) -> Option<ChannelMsg> {
        self.returned = None;
        let (message, load) = self.messages.recv().await?;
        self.returned = Some(load);
        Some(message)
    }
}

fn size(message: &ChannelMsg) -> usize {
    let data = match message {
        ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => data.len(),
        ChannelMsg::Exec { command, .. } => command.len(),
        _ => 0,
    };
    data + OVERHEAD
}
