//! Hearing much from the bus: a subscription with a connection of its own, whose reader may be slow. What waits for it is
//! bounded in bytes, and what is lost is counted.
//!
//! ```text
//!  socket ──▶ with every look at the subscription ──▶ pending, PENDING_LIMIT bytes at most ──▶ reader
//!                                                └─▶ beyond it: dropped, counted, told in its place
//! ```
//!
//! A message is not copied on its way, and costs no other task a wake-up: a router hears tens of thousands a second.

use super::Config;
use super::connection::{Client, Connection};
use super::protocol::{self, Info, Message, Said};
use super::refusal::Refusals;
use super::servers::{Server, Servers};
use anyhow::Result;
use futures::FutureExt as _;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

/// Bytes that may wait for a router's parsing: twice gorouter's. At 800 bytes a message this is a quarter of a million new
/// routes, several seconds of the fastest flood.
pub const PENDING_LIMIT: usize = 256 << 20;

/// Reads of one look: whoever waits for what has come is not kept waiting by what comes.
const READS: usize = 16;

/// What the reader gets, in the order in which it happened.
#[derive(Debug)]
pub enum Delivery {
    /// The subscription stands. What was said before is lost: whoever keeps a state must ask for it again.
    Connected,
    /// Nothing is heard until the next [`Delivery::Connected`], which is tried for ever. Why.
    Disconnected(String),
    Message(Message),
    /// So many messages were dropped since the last of these.
    Lost(u64),
}

/// [`wait`](Self::wait), look at what is in [`front`](Self::front), [`forget`](Self::forget) it. Why a server does not take
/// us is logged, once until it changes, with what to do about it.
pub struct Subscription {
    client: Client,
    subjects: &'static [&'static str],
    servers: Servers,
    refusals: Refusals,
    line: Line,
    pending: VecDeque<Delivery>,
    /// Of what is pending.
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
    /// `name` shows in the server's list of connections. `limit`: bytes that may wait, messages' own size in memory included.
    /// It connects with the first look.
    pub fn new(
        config: &Config,
        name: &str,
        subjects: &'static [&'static str],
        limit: usize,
    ) -> Result<Self> {
        let client = Client {
            name: name.to_owned(),
            user: config.user.clone(),
            password: config.password.clone(),
            tls: config.client_tls()?.map(Arc::new),
            ping_interval: config.ping_interval,
        };
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

    /// Takes in what has come; waits if that is nothing. Nothing is lost when the future is dropped.
    pub async fn wait(&mut self) {
        if !self.pending.is_empty() {
            // Only a thread that rests learns what has come.
            tokio::task::yield_now().await;
        }
        for _ in 0..READS {
            let more = if self.pending.is_empty() {
                self.go_on().await
            } else {
                self.go_on().now_or_never().unwrap_or(false)
            };
            if !more {
                break;
            }
        }
    }

    /// What came first, `most` at most.
    pub fn front(&self, most: usize) -> &[Delivery] {
        let (first, _) = self.pending.as_slices();
        &first[..first.len().min(most)]
    }

    /// Takes off the first `count`.
    pub fn forget(&mut self, count: usize) {
        for _ in 0..count {
            self.take_off();
        }
    }

    /// One at a time, for whoever hears few messages. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Delivery {
        loop {
            self.wait().await;
            if let Some(delivery) = self.take_off() {
                return delivery;
            }
        }
    }

    fn take_off(&mut self) -> Option<Delivery> {
        let delivery = self.pending.pop_front()?;
        self.bytes -= size(&delivery);
        if self.pending.is_empty() {
            // Begins at the start of its memory again: after a flood that is much, and most of it cold.
            self.pending.clear();
        }
        Some(delivery)
    }

    /// `host:port` of the server that it is connected to, or that it tries next.
    pub fn server(&self) -> &str {
        match &self.line {
            Line::Opening(server, _) => &server.address,
            Line::Open(connection) => &connection.server.address,
        }
    }

    /// What waits for the reader.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Says something itself, with the next look, behind its subscription; what is said while the bus is away is lost.
    pub fn publish(&mut self, subject: &str, payload: &[u8]) {
        if let Line::Open(connection) = &mut self.line {
            connection.say(&protocol::publish(subject, payload));
        }
    }

    /// One step: a read, or an attempt to connect. Whether there is more to take in at once.
    async fn go_on(&mut self) -> bool {
        match &mut self.line {
            Line::Opening(server, open) => {
                let (server, opened) = (server.address.clone(), open.await);
                match opened {
                    Ok((connection, info)) => {
                        self.refusals.look(&server, None);
                        self.opened(connection, &info);
                    }
                    Err(error) => {
                        self.refusals.look(&server, Some(&format!("{error:#}")));
                        self.line = opening(&mut self.servers, &self.client);
                    }
                }
                true
            }
            Line::Open(connection) => match connection.read().await {
                Ok(more) => match self.take_in() {
                    Ok(()) => more,
                    Err(error) => self.lost(&error),
                },
                Err(error) => self.lost(&error),
            },
        }
    }

    fn opened(&mut self, mut connection: Connection, info: &Info) {
        for (number, subject) in self.subjects.iter().enumerate() {
            connection.say(protocol::subscribe(subject, number + 1).as_bytes());
        }
        self.servers.told(&connection.server, &info.connect_urls);
        self.line = Line::Open(Box::new(connection));
        self.pending.push_back(Delivery::Connected);
    }

    /// Nothing more comes at once.
    fn lost(&mut self, error: &anyhow::Error) -> bool {
        if let Line::Open(connection) = &self.line {
            self.servers.stayed(connection.since.elapsed());
        }
        let why = format!("{error:#}");
        self.pending.push_back(Delivery::Disconnected(why));
        self.line = opening(&mut self.servers, &self.client);
        false
    }

    fn take_in(&mut self) -> Result<()> {
        let Line::Open(connection) = &mut self.line else {
            return Ok(());
        };
        while let Some(said) = connection.take()? {
            match said {
                Said::Message(message) => {
                    append(&mut self.pending, &mut self.bytes, self.limit, message);
                }
                Said::Info(info) => self.servers.told(&connection.server, &info.connect_urls),
                // Whatever costs us the connection, the server ends it itself.
                Said::Error(error) => self.refusals.look(&connection.server.address, Some(&error)),
                Said::Ping | Said::Pong | Said::Ok => {}
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

/// Of its bytes, those that count.
fn size(delivery: &Delivery) -> usize {
    match delivery {
        Delivery::Message(message) => message.size() + size_of::<Delivery>(),
        _ => 0,
    }
}
