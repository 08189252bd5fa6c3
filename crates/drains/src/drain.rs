//! One drain: a buffer, and the task that delivers what is in it.
//!
//! ```text
//!  offer ──▶ buffer ──▶ task: wait for messages ──▶ connect ──▶ deliver ──┐
//!           (bounded)     ▲                           ▲                   │
//!                         └──────── all delivered ────┼───────────────────┤
//!                                                     └── wait a while ◀──┘ something failed
//! ```
//!
//! Messages that were taken from the buffer stay in the task's hands until they are delivered, so a failure loses nothing that was not
//! written whole. A server that answers requests and refuses the same ones again and again loses them.

use crate::buffer::Buffer;
use crate::connection::{Connection, Endpoint, Failure};
use crate::metrics::Metrics;
use crate::report::Reports;
use crate::rfc5424;
use crate::target::Target;
use kit::CancellationToken;
use kit::backoff::Backoff;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use wire::loggregator::Envelope;

/// The largest portion that is taken from the buffer at once.
const MOST_MESSAGES: usize = 500;
const MOST_BYTES: usize = 256 << 10;
/// The largest body of a request with many messages, and how long they are collected.
const BATCH_MESSAGES: usize = 20_000;
const BATCH_BYTES: usize = 512 << 10;
const COLLECT: Duration = Duration::from_secs(1);

/// The pauses after failures: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(15));
/// The pause after a peer that ended the connection by an error.
const AFTER_RESET: Duration = Duration::from_secs(1);
/// The number of refusals after which messages are dropped.
const MOST_REFUSALS: u32 = 22;
/// The time without messages after which a connection is closed, so that no firewall forgets it while it seems to be open.
const IDLE: Duration = Duration::from_secs(60);
/// How long a drain that ends may deliver what is left.
const LAST: Duration = Duration::from_secs(3);
/// The shortest time between two reports of failures.
const BETWEEN_REPORTS: Duration = Duration::from_secs(60);

/// The state of a drain, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Unconnected = 0,
    Connected = 1,
    /// The host cannot be resolved.
    Invalid = 2,
    /// The operator permits no connection to the host.
    Blacklisted = 3,
}

/// A drain of one app.
pub(crate) struct Drain {
    pub(crate) app: String,
    pub(crate) endpoint: Endpoint,
    /// The host of messages whose envelopes name no app.
    hostname: String,
    buffer: Mutex<Buffer>,
    filled: Notify,
    /// Whether nothing will be added any more.
    is_closed: AtomicBool,
    state: AtomicU8,
}

/// Prints the destination without its secrets.
impl std::fmt::Debug for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drain")
            .field("app", &self.app)
            .field("target", self.target())
            .finish_non_exhaustive()
    }
}

impl Drain {
    pub(crate) fn new(app: String, hostname: String, endpoint: Endpoint) -> Self {
        Self {
            app,
            endpoint,
            hostname,
            buffer: Mutex::default(),
            filled: Notify::new(),
            is_closed: AtomicBool::new(false),
            state: AtomicU8::new(State::Unconnected as u8),
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.endpoint.target
    }

    /// Adds the messages of an envelope, if the drain sends such envelopes. Its buffer has at most `most` bytes. It never waits.
    pub(crate) fn offer(&self, envelope: &Envelope, most: usize, metrics: &Metrics) {
        let target = self.target();
        let message = envelope.message.as_ref();
        if !message.is_some_and(|message| target.data.includes(message)) {
            return;
        }
        let messages = rfc5424::messages(envelope, &self.hostname, target.has_tags);
        metrics.ingress.add(messages.len() as u64);
        let mut dropped = 0;
        {
            let mut buffer = self.buffer();
            for message in messages {
                dropped += buffer.push(message, most);
            }
        }
        if dropped > 0 {
            metrics.dropped.add(dropped);
        }
        self.filled.notify_one();
    }

    /// Returns the number of messages that were lost since the last call.
    pub(crate) fn take_lost(&self) -> u64 {
        self.buffer().take_lost()
    }

    pub(crate) fn is(&self, state: State) -> bool {
        self.state.load(Ordering::Relaxed) == state as u8
    }

    fn set(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Notes that nothing will be added any more.
    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.filled.notify_one();
    }

    /// Returns when so many bytes wait, or when the drain is closed.
    async fn filled(&self, bytes: usize) {
        loop {
            let filled = self.filled.notified();
            if self.is_closed() || self.buffer().bytes() >= bytes {
                return;
            }
            filled.await;
        }
    }

    /// Delivers messages until `ended`, and then for a moment what is left.
    pub(crate) async fn run(self: Arc<Self>, tools: Tools, ended: CancellationToken) {
        let delivery = Delivery {
            drain: &self,
            tools: &tools,
            hand: VecDeque::new(),
            connection: None,
            backoff: Backoff::new(PAUSES.0, PAUSES.1),
            failures: 0,
            refusals: 0,
            is_troubled: false,
            reported: None,
        };
        let last = async {
            ended.cancelled().await;
            self.close();
            tokio::time::sleep(LAST).await;
        };
        tokio::select! {
            () = delivery.run() => {}
            () = last => {}
        }
        self.set(State::Unconnected);
        let left = self.buffer().take(usize::MAX, usize::MAX).len();
        tools.metrics.dropped.add(left as u64);
    }
}

/// The parts that the tasks of all drains share.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) metrics: Metrics,
    pub(crate) reports: Reports,
}

/// The state of a drain's task.
struct Delivery<'a> {
    drain: &'a Drain,
    tools: &'a Tools,
    /// The messages that were taken from the buffer and are not delivered yet.
    hand: VecDeque<Vec<u8>>,
    connection: Option<Connection>,
    backoff: Backoff,
    /// The number of failures since a message was delivered.
    failures: u32,
    /// The number of times that the server refused the first message in hand.
    refusals: u32,
    /// Whether a failure was reported and no success followed.
    is_troubled: bool,
    /// The time of the last report.
    reported: Option<Instant>,
}

impl Delivery<'_> {
    /// Delivers until the drain is closed and empty.
    async fn run(mut self) {
        loop {
            if self.hand.is_empty() && !self.fill().await {
                self.close().await;
                return;
            }
            let before = self.hand.len();
            let result = self.attempt().await;
            let delivered = before - self.hand.len();
            if delivered > 0 {
                self.tools.metrics.egress.add(delivered as u64);
                self.backoff.reset();
                (self.failures, self.refusals) = (0, 0);
            }
            match result {
                Ok(()) => self.succeeded(),
                Err(failure) => {
                    self.failed(&failure, self.failures > 0);
                    tokio::time::sleep(self.backoff.next_delay()).await;
                }
            }
        }
    }

    /// Waits for messages and takes some. Returns `false` if there will be none any more. A connection that ends meanwhile is dropped.
    async fn fill(&mut self) -> bool {
        loop {
            let is_connected = self.connection.is_some();
            tokio::select! {
                biased;
                failure = ended(&mut self.connection) => match failure {
                    Some(failure) => {
                        self.failed(&failure, true);
                        tokio::time::sleep(AFTER_RESET).await;
                    }
                    None => self.close().await,
                },
                () = self.drain.filled(1) => {
                    let is_batch = self.drain.target().is_batch();
                    let (most, bytes) = if is_batch {
                        let collected = self.drain.filled(BATCH_BYTES);
                        let _ = tokio::time::timeout(COLLECT, collected).await;
                        (BATCH_MESSAGES, BATCH_BYTES)
                    } else {
                        (MOST_MESSAGES, MOST_BYTES)
                    };
                    self.hand = self.drain.buffer().take(most, bytes);
                    if !self.hand.is_empty() {
                        return true;
                    }
                    if self.drain.is_closed() {
                        return false;
                    }
                }
                () = tokio::time::sleep(IDLE), if is_connected => self.close().await,
            }
        }
    }

    async fn close(&mut self) {
        self.drain.set(State::Unconnected);
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    /// Connects if there is no connection, and delivers what is in hand.
    async fn attempt(&mut self) -> Result<(), Failure> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let made = self.drain.endpoint.connect().await?;
                self.drain.set(State::Connected);
                self.connection.insert(made)
            }
        };
        connection.deliver(&mut self.hand).await
    }

    fn succeeded(&mut self) {
        if std::mem::take(&mut self.is_troubled) {
            tracing::info!(
                app = self.drain.app,
                drain = self.drain.target().shown,
                "drain-delivers-again"
            );
        }
    }

    /// Drops the connection, and reports the failure if it is more than that of a connection which the peer had closed, perhaps after each
    /// answer.
    fn failed(&mut self, failure: &Failure, is_serious: bool) {
        self.connection = None;
        self.drain.set(match failure {
            Failure::Unresolved => State::Invalid,
            Failure::Forbidden => State::Blacklisted,
            _ => State::Unconnected,
        });
        self.failures = self.failures.saturating_add(1);
        let shown = &self.drain.target().shown;
        let is_due = |at: Instant| at.elapsed() >= BETWEEN_REPORTS;
        if is_serious && self.reported.is_none_or(is_due) {
            self.is_troubled = true;
            self.reported = Some(Instant::now());
            tracing::info!(app = self.drain.app, drain = shown, %failure, "drain-failed");
            self.tools
                .reports
                .line(&self.drain.app, failure.line(shown));
        }
        if matches!(failure, Failure::Refused(_)) {
            self.refusals += 1;
            if self.refusals >= MOST_REFUSALS {
                self.give_up();
            }
        }
    }

    /// Drops what the server does not accept: the first message, or the whole request.
    fn give_up(&mut self) {
        let lost = match self.drain.target().is_batch() {
            true => std::mem::take(&mut self.hand).len(),
            false => self.hand.pop_front().map_or(0, |_| 1),
        };
        self.tools.metrics.dropped.add(lost as u64);
        self.drain.buffer().lose(lost as u64);
        self.refusals = 0;
        self.backoff.reset();
    }
}

/// Returns when a connection has ended, and why. Without a connection it never returns.
async fn ended(connection: &mut Option<Connection>) -> Option<Failure> {
    match connection {
        Some(connection) => connection.ended().await,
        None => std::future::pending().await,
    }
}
