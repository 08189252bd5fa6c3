//! A subscription whose reader may be slow: what waits for it is bounded in bytes, and what is lost is counted.
//!
//! ```text
//!  socket ──▶ client ──▶ a task that takes at once ──▶ pending, PENDING_LIMIT bytes at most ──▶ reader
//!                                                └─▶ beyond it: dropped, counted, told in its place
//! ```

use anyhow::{Context as _, Result};
use async_nats::{Client, Message};
use futures::StreamExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Bytes that may wait for a router's parsing: twice gorouter's. At 800 bytes a message this is a quarter of a million new
/// routes, several seconds of the fastest flood.
pub const PENDING_LIMIT: usize = 256 << 20;

/// What the reader gets, in the order in which it came.
#[derive(Debug)]
pub enum Delivery {
    Message(Message),
    /// So many messages were dropped since the last of these: whoever keeps a state must ask for it again.
    Lost(u64),
}

/// Read it with [`next`](Self::next). Dropped, it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    deliveries: mpsc::UnboundedReceiver<Taken>,
    pending: Arc<Pending>,
}

#[derive(Debug)]
enum Taken {
    Message(Message),
    /// How many is in [`Pending::lost`]: it may still grow.
    Lost,
}

#[derive(Debug, Default)]
struct Pending {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    lost: AtomicU64,
}

impl Subscription {
    /// `limit`: bytes that may wait, messages' own size in memory included.
    pub async fn new(client: &Client, subject: &'static str, limit: usize) -> Result<Self> {
        let mut subscriber = client
            .subscribe(subject)
            .await
            .with_context(|| format!("subscribe to {subject}"))?;
        let pending = Arc::<Pending>::default();
        let (taken, deliveries) = mpsc::unbounded_channel();
        let of_task = pending.clone();
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    biased;
                    message = subscriber.next() => message,
                    () = taken.closed() => None,
                };
                let Some(message) = message else { return };
                if let Some(taken_in) = of_task.take_in(message, limit)
                    && taken.send(taken_in).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self {
            deliveries,
            pending,
        })
    }

    /// `None`: the client is closed. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Delivery> {
        Some(match self.deliveries.recv().await? {
            Taken::Message(message) => {
                self.pending.messages.fetch_sub(1, Ordering::Relaxed);
                self.pending
                    .bytes
                    .fetch_sub(size(&message), Ordering::Relaxed);
                Delivery::Message(message)
            }
            Taken::Lost => Delivery::Lost(self.pending.lost.swap(0, Ordering::Relaxed)),
        })
    }

    /// Messages that wait for the reader.
    pub fn pending(&self) -> usize {
        self.pending.messages.load(Ordering::Relaxed)
    }
}

impl Pending {
    /// `None`: one more of a loss that the reader will hear of.
    fn take_in(&self, message: Message, limit: usize) -> Option<Taken> {
        let size = size(&message);
        if self.bytes.load(Ordering::Relaxed).saturating_add(size) > limit {
            let first = self.lost.fetch_add(1, Ordering::Relaxed) == 0;
            return first.then_some(Taken::Lost);
        }
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
        Some(Taken::Message(message))
    }
}

fn size(message: &Message) -> usize {
    message.length + size_of::<Taken>()
}
