//! A subscription with a connection of its own, for components that receive many messages and may read slowly. The memory of
//! waiting messages is bounded, and lost messages are counted.
//!
//! ```text
//!  socket ──▶ at every call of wait ──▶ pending, PENDING_LIMIT bytes at most ──▶ reader
//!                                  └─▶ beyond it: dropped and counted; the reader gets the count in their place
//! ```
//!
//! A message is not copied on its way, and wakes no other task: a router receives tens of thousands of messages a second.

use super::Config;
use super::connection::{Client, Connection};
use super::protocol::{self, Info, Message, ServerMessage};
use super::refusal::Refusals;
use super::servers::{Server, Servers};
use anyhow::Result;
use futures::FutureExt as _;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;

/// The number of bytes that may wait for a router's parser: twice gorouter's. At 800 bytes a message this is a quarter of a
/// million new routes, which is several seconds of the fastest flood.
pub const PENDING_LIMIT: usize = 256 << 20;

/// The highest number of reads in one call of [`Subscription::wait`], so that new messages do not delay the reader of earlier
/// ones.
const READS: usize = 16;

/// An event for the reader, in the order in which it happened.
#[derive(Debug)]
pub enum Delivery {
    /// The subscription is active. Messages from before are lost, so a reader that keeps a state must request it again.
    Connected,
    /// The connection is lost, for this reason. No message arrives until the next [`Delivery::Connected`]; attempts never end.
    Disconnected(String),
    Message(Message),
    /// This number of messages was dropped since the last such event.
    Lost(u64),
}

/// A subscription. Call [`wait`](Self::wait), read [`front`](Self::front), then [`forget`](Self::forget) what was read. The
/// reason why a server refuses the connection is logged together with the remedy, once until it changes.
pub struct Subscription {
    client: Client,
    subjects: &'static [&'static str],
    servers: Servers,
    refusals: Refusals,
    line: Line,
    pending: VecDeque<Delivery>,
    /// The number of bytes of the pending messages.
    bytes: usize,
    limit: usize,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("subjects", &self.subjects)
            .field("servers", &self.servers)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

enum Line {
    Opening(Server, Opening),
    Open(Box<Connection>),
}

type Opening = Pin<Box<dyn Future<Output = Result<(Connection, Info)>> + Send>>;

impl Subscription {
    /// Makes a subscription, which connects at the first [`wait`](Self::wait). `name` appears in the server's list of
    /// connections. `limit` is the number of bytes that may wait, including the size of the messages' structs.
    pub fn new(
        config: &Config,
        name: &str,
        subjects: &'static [&'static str],
        limit: usize,
    ) -> Result<Self> {
        let client = Client::new(config, name)?;
        let mut servers = Servers::new(config)?;
        Ok(Self {
            line: opening(&mut servers, &client),
            client,
            subjects,
            servers,
            refusals: Refusals::default(),
            pending: VecDeque::new(),
            bytes: 0,
            limit,
        })
    }

    /// Receives what has come, and waits if nothing is pending. The future may be dropped without losing messages.
    pub async fn wait(&mut self) {
        if !self.pending.is_empty() {
            // The runtime learns of new bytes only when this task yields.
            tokio::task::yield_now().await;
        }
        for _ in 0..READS {
            let more = if self.pending.is_empty() {
                self.step().await
            } else {
                self.step().now_or_never().unwrap_or(false)
            };
            if !more {
                break;
            }
        }
    }

    /// Returns the oldest pending events, at most `most`.
    pub fn front(&self, most: usize) -> &[Delivery] {
        let (first, _) = self.pending.as_slices();
        &first[..first.len().min(most)]
    }

    /// Removes the oldest `count` events.
    pub fn forget(&mut self, count: usize) {
        for _ in 0..count {
            self.pop();
        }
    }

    /// Returns one event, for readers of few messages. The future may be dropped without losing messages.
    pub async fn next(&mut self) -> Delivery {
        loop {
            self.wait().await;
            if let Some(delivery) = self.pop() {
                return delivery;
            }
        }
    }

    fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.pending.pop_front()?;
        self.bytes -= size(&delivery);
        if self.pending.is_empty() {
            // The queue begins at the start of its memory again. After a flood that memory is large, and most of it is not in a
            // cache.
            self.pending.clear();
        }
        Some(delivery)
    }

    /// Returns `host:port` of the server to which it is connected, or which it tries next.
    pub fn server(&self) -> &str {
        match &self.line {
            Line::Opening(server, _) => &server.address,
            Line::Open(connection) => &connection.server.address,
        }
    }

    /// Returns the address of the server that it is connected to.
    pub fn peer(&self) -> Option<SocketAddr> {
        match &self.line {
            Line::Opening(..) => None,
            Line::Open(connection) => connection.addr,
        }
    }

    /// Returns the number of events that wait for the reader.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Publishes a message with the next [`wait`](Self::wait). A message that is published while the bus is away is lost.
    pub fn publish(&mut self, subject: &str, payload: &[u8]) {
        if let Line::Open(connection) = &mut self.line {
            connection.queue(&protocol::publish(subject, None, payload));
        }
    }

    /// Publishes a message whose receivers answer on the subject `reply`, as [`publish`](Self::publish).
    pub fn publish_with_reply(&mut self, subject: &str, reply: &str, payload: &[u8]) {
        if let Line::Open(connection) = &mut self.line {
            connection.queue(&protocol::publish(subject, Some(reply), payload));
        }
    }

    /// Does one step: a read, or an attempt to connect. Returns whether there may be more to receive at once.
    async fn step(&mut self) -> bool {
        match &mut self.line {
            Line::Opening(server, open) => {
                let (server, opened) = (server.address.clone(), open.await);
                match opened {
                    Ok((connection, info)) => {
                        self.refusals.record(&server, None);
                        self.opened(connection, &info);
                    }
                    Err(error) => {
                        self.refusals.record(&server, Some(&format!("{error:#}")));
                        self.line = opening(&mut self.servers, &self.client);
                    }
                }
                true
            }
            Line::Open(connection) => match connection.read().await {
                Ok(more) => match self.receive() {
                    Ok(()) => more,
                    Err(error) => self.lost(&error),
                },
                Err(error) => self.lost(&error),
            },
        }
    }

    fn opened(&mut self, mut connection: Connection, info: &Info) {
        for (number, subject) in self.subjects.iter().enumerate() {
            connection.queue(protocol::subscribe(subject, number + 1).as_bytes());
        }
        self.servers
            .record_listed(&connection.server, &info.connect_urls);
        self.line = Line::Open(Box::new(connection));
        self.pending.push_back(Delivery::Connected);
    }

    /// Begins to reconnect. Returns false, because nothing more arrives at once.
    fn lost(&mut self, error: &anyhow::Error) -> bool {
        if let Line::Open(connection) = &self.line {
            self.servers.stayed(connection.since.elapsed());
        }
        let why = format!("{error:#}");
        self.pending.push_back(Delivery::Disconnected(why));
        self.line = opening(&mut self.servers, &self.client);
        false
    }

    fn receive(&mut self) -> Result<()> {
        let Line::Open(connection) = &mut self.line else {
            return Ok(());
        };
        while let Some(message) = connection.next()? {
            match message {
                ServerMessage::Message(message) => {
                    append(&mut self.pending, &mut self.bytes, self.limit, message);
                }
                ServerMessage::Info(info) => self
                    .servers
                    .record_listed(&connection.server, &info.connect_urls),
                // If the error costs us the connection, the server ends it itself.
                ServerMessage::Error(error) => self
                    .refusals
                    .record(&connection.server.address, Some(&error)),
                ServerMessage::Ping | ServerMessage::Pong | ServerMessage::Ok => {}
            }
        }
        Ok(())
    }
}

fn append(pending: &mut VecDeque<Delivery>, bytes: &mut usize, limit: usize, message: Message) {
    let delivery = Delivery::Message(message);
    if *bytes + size(&delivery) <= limit {
        *bytes += size(&delivery);
        pending.push_back(delivery);
    } else if let Some(Delivery::Lost(count)) = pending.back_mut() {
        *count += 1;
    } else {
        pending.push_back(Delivery::Lost(1));
    }
}

fn opening(servers: &mut Servers, client: &Client) -> Line {
    let ((server, wait), client) = (servers.next(), client.clone());
    let to = server.clone();
    let open = async move {
        tokio::time::sleep(wait).await;
        Connection::open(to, client).await
    };
    Line::Opening(server, Box::pin(open))
}

/// Returns the bytes of an event that count against the limit.
fn size(delivery: &Delivery) -> usize {
    match delivery {
        Delivery::Message(message) => message.size() + size_of::<Delivery>(),
        _ => 0,
    }
}
