//! A subscription whose reader may be slow: what waits for it is bounded in bytes, and what is lost is counted.
//!
//! ```text
//!  socket ──▶ client ──▶ with every look at the subscription ──▶ pending, PENDING_LIMIT bytes at most ──▶ reader
//!                                                          └─▶ beyond it: dropped, counted, told in its place
//! ```

use anyhow::{Context as _, Result};
use async_nats::{Client, Message, Subscriber};
use futures::{FutureExt as _, StreamExt as _};
use std::collections::VecDeque;

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

/// [`wait`](Self::wait), look at what is in [`front`](Self::front), [`forget`](Self::forget) it, and let the client's own
/// task run in between. Dropped, it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    subscriber: Subscriber,
    pending: VecDeque<Delivery>,
    /// Of what is pending.
    bytes: usize,
    limit: usize,
}

impl Subscription {
    /// `limit`: bytes that may wait, messages' own size in memory included.
    pub async fn new(client: &Client, subject: &'static str, limit: usize) -> Result<Self> {
        let subscriber = client
            .subscribe(subject)
            .await
            .with_context(|| format!("subscribe to {subject}"))?;
        Ok(Self {
            subscriber,
            pending: VecDeque::new(),
            bytes: 0,
            limit,
        })
    }

    /// Takes in all that has come; waits if that is nothing. False: the client is closed, nothing will come any more.
    /// Nothing is lost when the future is dropped.
    pub async fn wait(&mut self) -> bool {
        self.take_in();
        if self.pending.is_empty() {
            match self.subscriber.next().await {
                Some(message) => self.append(message),
                None => return false,
            }
            self.take_in();
        }
        true
    }

    /// What came first, `most` at most. As long as something is pending, there is something.
    pub fn front(&self, most: usize) -> &[Delivery] {
        let (first, _) = self.pending.as_slices();
        &first[..first.len().min(most)]
    }

    /// Takes off the first `count`.
    pub fn forget(&mut self, count: usize) {
        for delivery in self.pending.drain(..count) {
            if let Delivery::Message(message) = &delivery {
                self.bytes -= size(message);
            }
        }
        if self.pending.is_empty() {
            // Begins at the start of its memory again: after a flood that is much, and most of it cold.
            self.pending.clear();
        }
    }

    /// One at a time, for whoever hears few messages. `None`: the client is closed. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.wait().await;
        let delivery = self.pending.pop_front()?;
        if let Delivery::Message(message) = &delivery {
            self.bytes -= size(message);
        }
        Some(delivery)
    }

    /// Messages, and notes of losses, that wait for the reader.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    fn take_in(&mut self) {
        while let Some(Some(message)) = self.subscriber.next().now_or_never() {
            self.append(message);
        }
    }

    fn append(&mut self, message: Message) {
        if self.bytes + size(&message) <= self.limit {
            self.bytes += size(&message);
            self.pending.push_back(Delivery::Message(message));
        } else if let Some(Delivery::Lost(count)) = self.pending.back_mut() {
            *count += 1;
        } else {
            self.pending.push_back(Delivery::Lost(1));
        }
    }
}

fn size(message: &Message) -> usize {
    message.length + size_of::<Delivery>()
}
