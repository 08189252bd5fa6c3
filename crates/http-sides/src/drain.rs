//! The two stages of the router's end that connections must learn of: the drain has begun, and its time is over.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// The time for which connections that wait for a request may continue to wait.
const IDLE: Duration = Duration::from_secs(3);

/// The drain of one serving thread. Connections check it whenever they are polled, and they are woken when it changes.
#[derive(Debug, Default)]
pub struct Drain {
    stage: AtomicU8,
    begun: OnceLock<Instant>,
    next: AtomicU64,
    wakers: Mutex<HashMap<u64, Waker>>,
}

impl Drain {
    /// Returns whether the drain has begun. Idle connections close, after one more chance for a request that is on its way;
    /// answers announce that their connections close.
    pub fn has_begun(&self) -> bool {
        self.stage.load(Ordering::Relaxed) > 0
    }

    /// Returns whether the drain's time is over, so that all remaining connections must end.
    pub fn is_over(&self) -> bool {
        self.stage.load(Ordering::Relaxed) > 1
    }

    /// Returns the time until which an idle connection stays open. A request that its client sends at the very moment of the
    /// drain is answered with `Connection: close`, instead of finding the connection closed. `None`: there is no drain.
    pub fn idle_until(&self) -> Option<Instant> {
        let begun = self.begun.get().filter(|_| self.has_begun())?;
        Some(*begun + IDLE)
    }

    /// Begins the drain and wakes the connections.
    pub fn begin(&self) {
        let _ = self.begun.set(Instant::now());
        self.advance(1);
    }

    /// Ends the drain's time and wakes the connections.
    pub fn end(&self) {
        self.advance(2);
    }

    fn advance(&self, stage: u8) {
        self.stage.store(stage, Ordering::Relaxed);
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.values().for_each(Waker::wake_by_ref);
    }
}

/// A registration of a task that is to be woken, for as long as it exists.
#[derive(Debug)]
pub struct Watch {
    drain: Arc<Drain>,
    number: Option<u64>,
}

impl Watch {
    /// Creates a registration of no task yet.
    pub fn new(drain: Arc<Drain>) -> Self {
        Self {
            drain,
            number: None,
        }
    }

    /// Registers the task. It is called whenever the task is polled; only the first call costs anything.
    pub fn register(&mut self, cx: &Context<'_>) {
        if self.number.is_none() {
            let drain = &self.drain;
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
            let wakers = &self.drain.wakers;
            let mut wakers = wakers.lock().unwrap_or_else(PoisonError::into_inner);
            wakers.remove(&number);
        }
    }
}
