//! Sends log lines and metrics to log-cache as loggregator v2 envelopes over gRPC (default port 3458).
//!
//! The components that have log lines or metrics of an app call it: rep, router, cloud-controller. It never blocks a caller and
//! never fails it: a full queue drops the oldest envelope and counts it, and the log of an app that lost lines says how many. One
//! background task owns the connection. It sends the queue in batches in one client-streaming call, and connects again, with
//! back-off, when that breaks.

mod ingress;

use anyhow::{Context as _, Result};
use kit::tls::Identity;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use wire::loggregator::{Envelope, Log, LogType, Message};

/// The limits of the queue. The oldest envelopes are dropped above them. A busy app logs 5,000 lines per second, each of which takes about
/// a kilobyte with its tags, so log-cache may stand still for five seconds.
const MAX_QUEUED: usize = 30_000;
const MAX_QUEUED_BYTES: usize = 32 << 20;
/// The number of sources whose lost lines are counted one by one.
const MOST_LOSERS: usize = 500;

/// An emitter of envelopes, cheap to clone. `Emitter::discard()` makes one that drops everything.
#[derive(Clone, Debug)]
pub struct Emitter {
    open: Option<Arc<Open>>,
}

/// The output stream from which a line came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// The properties that all lines of one source share.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The guid of the app.
    pub source_id: String,
    /// The index of the instance.
    pub instance_id: String,
    /// The type of the source: `APP/PROC/WEB`, `STG`, `RTR`, `CELL`, `API`, …. It becomes the tag `source_type`.
    pub source_type: String,
    /// Further tags (`process_id`, `organization_name`, …).
    pub tags: Arc<BTreeMap<String, String>>,
}

impl Emitter {
    pub fn discard() -> Self {
        Self { open: None }
    }

    /// Makes an emitter that sends to `url`, for example `https://127.0.0.1:3458`. Call it inside a tokio runtime. It returns at
    /// once; the background task connects, and retries without end.
    pub fn connect(url: &str, identity: &Identity) -> Result<Self> {
        let target = ingress::Target::new(url, identity)?;
        let queue = Arc::new(Queue::default());
        let runtime = tokio::runtime::Handle::try_current()
            .context("start the log emitter outside of a tokio runtime")?;
        runtime.spawn(ingress::deliver(target, queue.clone()));
        Ok(Self {
            open: Some(Arc::new(Open { queue })),
        })
    }

    /// Returns whether envelopes are sent and not discarded.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Sends one line (without its line end), with the present time.
    pub fn log(&self, source: &Source, stream: Stream, payload: impl Into<Vec<u8>>) {
        if self.open.is_none() {
            return;
        }
        let kind = match stream {
            Stream::Out => LogType::Out,
            Stream::Err => LogType::Err,
        };
        let mut tags = source.tags.as_ref().clone();
        tags.insert("source_type".into(), source.source_type.clone());
        self.emit(Envelope {
            timestamp: now_ns(),
            source_id: source.source_id.clone(),
            instance_id: source.instance_id.clone(),
            tags,
            message: Some(Message::Log(Log {
                payload: payload.into(),
                kind: kind as i32,
            })),
        });
    }

    /// Sends an envelope as it is.
    pub fn emit(&self, envelope: Envelope) {
        if let Some(open) = &self.open {
            open.queue.push(envelope);
        }
    }

    /// Returns the number of envelopes that were dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.open
            .as_ref()
            .map_or(0, |open| open.queue.dropped.load(Ordering::Relaxed))
    }

    /// Waits until the queue is empty (passed to the connection) or `limit` has passed. It is meant for an orderly shutdown.
    pub async fn flush(&self, limit: Duration) {
        let Some(open) = &self.open else { return };
        let _ = tokio::time::timeout(limit, async {
            loop {
                let emptied = open.queue.emptied.notified();
                if open.queue.is_empty() {
                    return;
                }
                emptied.await;
            }
        })
        .await;
    }
}

/// The part that all clones of an emitter share. Its drop, with the last emitter, ends the background task once the queue is
/// sent.
#[derive(Debug)]
struct Open {
    queue: Arc<Queue>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.filled.notify_one();
    }
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    filled: Notify,
    emptied: Notify,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct QueueState {
    envelopes: VecDeque<Envelope>,
    bytes: usize,
    /// Whether a batch was taken from the queue and is not yet passed to the connection.
    sending: bool,
    closed: bool,
    /// The lines that were dropped and are not reported yet, by source.
    lost: BTreeMap<String, u64>,
}

impl QueueState {
    /// Counts a dropped envelope if it is a line.
    fn lose(&mut self, envelope: Envelope) {
        let is_line = matches!(envelope.message, Some(Message::Log(_)));
        if !is_line || envelope.source_id.is_empty() {
            return;
        }
        if let Some(count) = self.lost.get_mut(&envelope.source_id) {
            *count += 1;
        } else if self.lost.len() < MOST_LOSERS {
            self.lost.insert(envelope.source_id, 1);
        }
    }

    /// Returns a line for each source that lost lines since the last call.
    fn losses(&mut self) -> Vec<Envelope> {
        let lost = std::mem::take(&mut self.lost).into_iter();
        lost.map(|(source_id, count)| Envelope {
            timestamp: now_ns(),
            source_id,
            instance_id: "0".to_owned(),
            tags: [("source_type".to_owned(), "LGR".to_owned())].into(),
            message: Some(Message::Log(Log {
                payload: format!("{count} messages lost on the way to log-cache").into_bytes(),
                kind: LogType::Err as i32,
            })),
        })
        .collect()
    }
}

impl Queue {
    fn push(&self, envelope: Envelope) {
        let was_empty = {
            let mut state = self.lock();
            let was_empty = state.envelopes.is_empty();
            state.bytes += size(&envelope);
            state.envelopes.push_back(envelope);
            let mut dropped = 0;
            while state.envelopes.len() > MAX_QUEUED
                || (state.bytes > MAX_QUEUED_BYTES && state.envelopes.len() > 1)
            {
                if let Some(oldest) = state.envelopes.pop_front() {
                    state.bytes -= size(&oldest);
                    state.lose(oldest);
                    dropped += 1;
                }
            }
            if dropped > 0 {
                self.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
            was_empty
        };
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Removes and returns the oldest envelopes, at most `count` and about `bytes`. Returns `None` when the queue is closed and empty.
    async fn next_batch(&self, count: usize, bytes: usize) -> Option<Vec<Envelope>> {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.lock();
                state.sending = false;
                if !state.envelopes.is_empty() {
                    let mut batch = state.losses();
                    let mut taken = 0;
                    while batch.len() < count && taken < bytes {
                        let Some(envelope) = state.envelopes.pop_front() else {
                            break;
                        };
                        taken += size(&envelope);
                        batch.push(envelope);
                    }
                    state.bytes -= taken;
                    state.sending = true;
                    return Some(batch);
                }
                if state.closed {
                    return None;
                }
            }
            self.emptied.notify_waiters();
            filled.await;
        }
    }

    fn is_empty(&self) -> bool {
        let state = self.lock();
        state.envelopes.is_empty() && !state.sending
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, QueueState> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Returns the approximate memory of an envelope, in bytes.
fn size(envelope: &Envelope) -> usize {
    let payload = match &envelope.message {
        Some(Message::Log(log)) => log.payload.len(),
        Some(Message::Event(event)) => event.title.len() + event.body.len(),
        Some(Message::Gauge(gauge)) => gauge.metrics.len() * 64,
        Some(Message::Counter(_) | Message::Timer(_)) | None => 32,
    };
    128 + payload
        + envelope.source_id.len()
        + envelope
            .tags
            .iter()
            .map(|(k, v)| k.len() + v.len() + 48)
            .sum::<usize>()
}

fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: usize) -> Envelope {
        Envelope {
            timestamp: n as i64,
            message: Some(Message::Log(Log {
                payload: vec![b'x'; 10],
                kind: 0,
            })),
            ..Envelope::default()
        }
    }

    #[tokio::test]
    async fn a_full_queue_drops_the_oldest_and_counts() {
        let queue = Queue::default();
        for n in 0..MAX_QUEUED + 3 {
            queue.push(line(n));
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 3);
        let batch = queue.next_batch(2, 1 << 20).await.unwrap();
        assert_eq!(
            batch.iter().map(|e| e.timestamp).collect::<Vec<_>>(),
            [3, 4]
        );
    }

    #[tokio::test]
    async fn the_log_of_an_app_says_how_many_lines_were_lost() {
        let queue = Queue::default();
        for n in 0..MAX_QUEUED + 3 {
            queue.push(Envelope {
                source_id: if n == 1 { "other" } else { "app" }.to_owned(),
                ..line(n)
            });
        }
        let batch = queue.next_batch(4, 1 << 20).await.unwrap();
        let shown: Vec<(&str, String)> = batch
            .iter()
            .map(|envelope| {
                let Some(Message::Log(log)) = &envelope.message else {
                    panic!("{envelope:?}");
                };
                let text = String::from_utf8(log.payload.clone()).unwrap();
                (envelope.source_id.as_str(), text)
            })
            .collect();
        let text = |count| format!("{count} messages lost on the way to log-cache");
        assert_eq!(shown[0], ("app", text(2)));
        assert_eq!(shown[1], ("other", text(1)));
        assert_eq!(batch[2].timestamp, 3);
        let next = queue.next_batch(1, 1 << 20).await.unwrap();
        assert_eq!(next[0].timestamp, 5, "a loss is reported once");
    }

    #[tokio::test]
    async fn huge_lines_are_bounded_in_bytes() {
        let queue = Queue::default();
        for _ in 0..100 {
            queue.push(Envelope {
                message: Some(Message::Log(Log {
                    payload: vec![0; 1 << 20],
                    kind: 0,
                })),
                ..Envelope::default()
            });
        }
        assert!(queue.lock().bytes <= MAX_QUEUED_BYTES);
    }

    #[tokio::test]
    async fn discard_swallows() {
        let emitter = Emitter::discard();
        emitter.log(&Source::default(), Stream::Out, "x");
        emitter.flush(Duration::from_secs(1)).await;
        assert_eq!(emitter.dropped(), 0);
    }
}
