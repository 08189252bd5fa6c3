//! Sends traces to a receiver of OTLP: in batches, behind a bounded queue. A receiver that is slow or absent costs traces, which are
//! counted, and never a request's time.

use super::Traced;
use super::spans;
use crate::config::Otlp;
use anyhow::{Context as _, Result};
use clients::otlp::Receiver;
use kit::CancellationToken;
use kit::backoff::Backoff;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// The traces that wait. Each has some kilobytes at most.
const QUEUED: usize = 2048;
/// The most traces of one message.
const BATCH: usize = 256;
/// The time in which a batch gathers.
const GATHERING: Duration = Duration::from_millis(200);
/// The number of times that a batch is sent, and the pauses between them.
const TRIES: usize = 4;
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// The time that the last batch has when the router ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// The numbers of traces that reached the receiver, and that were lost.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
}

/// The requests' end of the queue.
#[derive(Debug)]
pub(crate) struct Queue {
    traces: mpsc::Sender<Traced>,
    counts: Arc<Counts>,
}

/// The task's end of the queue, and the receiver.
#[derive(Debug)]
pub(crate) struct Exporter {
    receiver: Receiver,
    /// The router's id, which every message has.
    router: String,
    traces: mpsc::Receiver<Traced>,
    /// The batch that is being sent.
    batch: Vec<Traced>,
    counts: Arc<Counts>,
    /// Whether the last batch was lost, so that only the first of many losses is logged.
    is_failing: bool,
}

impl Queue {
    /// Adds a trace. If the queue is full, the trace is dropped and counted.
    pub(super) fn push(&self, traced: Traced) {
        if self.traces.try_send(traced).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the number of traces that the receiver has accepted.
    pub(crate) fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::Relaxed)
    }

    /// Returns the number of traces that were lost, because the queue was full or because the receiver did not accept them.
    pub(crate) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

impl Exporter {
    /// Creates a queue and the exporter that empties it. `router`: the router's id.
    pub(crate) fn new(otlp: &Otlp, router: &str) -> Result<(Queue, Self)> {
        let receiver = Receiver::new(otlp.url());
        let receiver = receiver.with_context(|| format!("traces to {}", otlp.url()))?;
        let (traces, waiting) = mpsc::channel(QUEUED);
        let counts = Arc::<Counts>::default();
        let queue = Queue {
            traces,
            counts: counts.clone(),
        };
        let exporter = Self {
            receiver,
            router: router.to_owned(),
            traces: waiting,
            batch: Vec::new(),
            counts,
            is_failing: false,
        };
        Ok((queue, exporter))
    }

    /// Sends traces until `end`; then the last batch has a moment.
    pub(crate) async fn run(mut self, end: CancellationToken) -> Result<()> {
        loop {
            let batch = async {
                self.gather().await;
                self.deliver().await;
            };
            tokio::select! {
                () = end.cancelled() => break,
                () = batch => {}
            }
        }
        while self.batch.len() < BATCH
            && let Ok(traced) = self.traces.try_recv()
        {
            self.batch.push(traced);
        }
        if !self.batch.is_empty() {
            let _ = tokio::time::timeout(FAREWELL, self.deliver()).await;
        }
        Ok(())
    }

    /// Fills the batch. The future may be dropped: what it has received stays in the batch.
    async fn gather(&mut self) {
        if self.batch.is_empty() {
            let received = self.traces.recv_many(&mut self.batch, BATCH).await;
            if received == 0 {
                // The router ends: all senders of traces are gone.
                std::future::pending::<()>().await;
            }
        }
        tokio::time::sleep(GATHERING).await;
        while self.batch.len() < BATCH
            && let Ok(traced) = self.traces.try_recv()
        {
            self.batch.push(traced);
        }
    }

    /// Sends the batch, several times if need be, and empties it.
    async fn deliver(&mut self) {
        let message = spans::message(&self.router, &self.batch, rand::random);
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
        let mut tries = 1;
        loop {
            let error = match self.receiver.send(&message).await {
                Ok(noted) => {
                    if !noted.is_empty() {
                        tracing::warn!(noted, "traces-partly-refused");
                    }
                    self.done(true);
                    return;
                }
                Err(error) => error,
            };
            if tries >= TRIES || !error.may_retry() {
                if !self.is_failing {
                    tracing::warn!(%error, lost = self.batch.len(), "traces-not-sent");
                }
                self.done(false);
                return;
            }
            tries += 1;
            tokio::time::sleep(pauses.next_delay()).await;
        }
    }

    fn done(&mut self, accepted: bool) {
        let counter = match accepted {
            true => &self.counts.sent,
            false => &self.counts.dropped,
        };
        counter.fetch_add(self.batch.len() as u64, Ordering::Relaxed);
        self.batch.clear();
        self.is_failing = !accepted;
    }
}

/// Exporters for tests.
#[cfg(test)]
pub(super) mod sample {
    use super::*;

    /// Makes a queue whose receiver does not exist.
    pub(in crate::observe::trace) fn queue() -> (Queue, Exporter) {
        kit::tls::install_crypto();
        let otlp = Otlp::parse("http://127.0.0.1:1").unwrap();
        Exporter::new(&otlp, "0-id").unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::sample::queue;
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (queue, _exporter) = queue();
        for _ in 0..QUEUED + 5 {
            queue.push(spans::sample::traced());
        }
        assert_eq!((queue.dropped(), queue.sent()), (5, 0));
    }

    #[tokio::test]
    async fn a_batch_gathers_what_waits() {
        let (queue, mut exporter) = queue();
        for _ in 0..BATCH + 5 {
            queue.push(spans::sample::traced());
        }
        exporter.gather().await;
        assert_eq!(exporter.batch.len(), BATCH);
        exporter.done(false);
        exporter.gather().await;
        assert_eq!(exporter.batch.len(), 5);
        exporter.done(true);
        assert_eq!((queue.dropped(), queue.sent()), (BATCH as u64, 5));
    }
}
