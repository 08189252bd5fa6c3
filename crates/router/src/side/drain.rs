//! What connections must know of the router's end: that it has begun, and that its time is over.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// How long connections that wait for a request may go on doing so.
const IDLE: Duration = Duration::from_secs(3);

/// One worker's. Connections look at it whenever they are polled; they are woken when it changes.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    stage: AtomicU8,
    begun: OnceLock<Instant>,
    next: AtomicU64,
    wakers: Mutex<HashMap<u64, Waker>>,
}

impl Drain {
    /// Idle connections close, after one more chance for a request that is on its way; answers say that theirs will.
    pub(crate) fn has_begun(&self) -> bool {
        self.stage.load(Ordering::Relaxed) > 0
    }

    /// Whoever is still there has to go.
    pub(crate) fn is_over(&self) -> bool {
        self.stage.load(Ordering::Relaxed) > 1
    }

    /// Until when an idle connection stays: a request that its client sends at the very moment of the drain is answered
    /// with the word that the connection closes, instead of finding it closed. `None`: there is no drain.
    pub(crate) fn patience(&self) -> Option<Instant> {
        let begun = self.begun.get().filter(|_| self.has_begun())?;
        Some(*begun + IDLE)
    }

    pub(crate) fn begin(&self) {
        let _ = self.begun.set(Instant::now());
        self.advance(1);
    }

    pub(crate) fn end(&self) {
        self.advance(2);
    }

    fn advance(&self, stage: u8) {
        self.stage.store(stage, Ordering::Relaxed);
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.values().for_each(Waker::wake_by_ref);
    }
}

/// A task that wants to be woken; for as long as it lives.
#[derive(Debug)]
pub(crate) struct Watch {
    worker: std::sync::Arc<crate::router::Worker>,
    number: Option<u64>,
}

impl Watch {
    pub(crate) fn new(worker: std::sync::Arc<crate::router::Worker>) -> Self {
        Self {
            worker,
            number: None,
        }
    }

    /// To be called whenever the task is polled; only the first call costs something.
    pub(crate) fn register(&mut self, cx: &Context<'_>) {
        if self.number.is_none() {
            let drain = &self.worker.drain;
            let number = drain.next.fetch_add(1, Ordering::Relaxed);
            let mut wakers = drain.wakers.lock().unwrap_or_else(PoisonError::into_inner);
            wakers.insert(number, cx.waker().clone());
            self.number = Some(number);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let wakers = &self.worker.drain.wakers;
            let mut wakers = wakers.lock().unwrap_or_else(PoisonError::into_inner);
            wakers.remove(&number);
        }
    }
}
