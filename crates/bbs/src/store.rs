//! The state behind one lock, and the one writer behind it.
//!
//! ```text
//! request ─▶ write(): lock, decide, journal ─▶ queue ─▶ writer: one transaction per batch ─▶ events, orders ─▶ answer
//! ```
//! The queue's order is the order of the decisions, so subscribers hear of things in commit order. Neither a write nor a read
//! returns before everything it saw is durable: no answer can be taken back by a crash.

use crate::db;
use crate::failure::Failure;
use crate::hub::Hub;
use crate::journal::{Journal, Order, Write};
use crate::state::State;
use anyhow::{Context as _, Result};
use kit::CancellationToken;
use sqlx::sqlite::SqlitePool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// At most so many journals in one transaction.
const BATCH: usize = 512;

#[derive(Debug)]
pub(crate) struct Store {
    guarded: Mutex<Guarded>,
    /// The version up to which everything is on disk. Closed when the writer has stopped.
    durable: watch::Receiver<u64>,
}

#[derive(Debug)]
struct Guarded {
    state: State,
    version: u64,
    queue: mpsc::UnboundedSender<Commit>,
}

#[derive(Debug)]
struct Commit {
    version: u64,
    journal: Journal,
}

/// The other end of the queue; to be run as a task.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: mpsc::UnboundedReceiver<Commit>,
    durable: watch::Sender<u64>,
    pool: SqlitePool,
    hub: Arc<Hub>,
    orders: mpsc::UnboundedSender<Order>,
}

/// `orders` receives what others shall do, after it is durable.
pub(crate) fn open(state: State, pool: SqlitePool, hub: Arc<Hub>, orders: mpsc::UnboundedSender<Order>) -> (Arc<Store>, Writer) {
    let (queue, receiver) = mpsc::unbounded_channel();
    let (durable, is_durable) = watch::channel(0);
    let store = Store { guarded: Mutex::new(Guarded { state, version: 0, queue }), durable: is_durable };
    (Arc::new(store), Writer { queue: receiver, durable, pool, hub, orders })
}

impl Store {
    /// Changes the state. `Err` from `change` means that nothing was changed.
    pub(crate) async fn write<T>(&self, trace: &str, change: impl FnOnce(&mut State, &mut Journal) -> Result<T, Failure>) -> Result<T, Failure> {
        let (result, version) = {
            let mut guarded = self.lock();
            let mut journal = Journal::new(trace);
            let result = change(&mut guarded.state, &mut journal);
            (result, guarded.commit(journal))
        };
        self.wait_for(version).await?;
        result
    }

    /// Writes rows that are no part of the state (locket's).
    pub(crate) async fn log(&self, writes: Vec<Write>) -> Result<(), Failure> {
        let version = self.lock().commit(Journal { writes, ..Journal::default() });
        self.wait_for(version).await
    }

    pub(crate) async fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T, Failure> {
        let (result, version) = {
            let guarded = self.lock();
            (look(&guarded.state), guarded.version)
        };
        self.wait_for(version).await?;
        Ok(result)
    }

    /// A look without the wait, for what acts on it through transitions again.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock().state)
    }

    /// A change of what is never stored (which cells are there).
    pub(crate) fn adjust<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.lock().state)
    }

    async fn wait_for(&self, version: u64) -> Result<(), Failure> {
        let mut durable = self.durable.clone();
        durable.wait_for(|&reached| reached >= version).await.map(drop).map_err(|_| Failure::stopped())
    }

    fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guarded {
    /// Hands the journal to the writer; returns the version that makes it durable.
    fn commit(&mut self, journal: Journal) -> u64 {
        if !journal.is_empty() {
            self.version += 1;
            // A stopped writer shows in `wait_for`.
            let _ = self.queue.send(Commit { version: self.version, journal });
        }
        self.version
    }
}

impl Writer {
    /// Writes until `shutdown`, then what is queued. `Err`: the database cannot be written, and the process must end.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<()> {
        let mut connection = self.pool.acquire().await.context("open database connection")?;
        loop {
            let first = tokio::select! {
                biased;
                commit = self.queue.recv() => commit,
                () = shutdown.cancelled() => None,
            };
            let Some(first) = first else { return Ok(()) };
            let mut batch = vec![first];
            while batch.len() < BATCH {
                let Ok(commit) = self.queue.try_recv() else { break };
                batch.push(commit);
            }
            if batch.iter().any(|c| !c.journal.writes.is_empty()) {
                db::write(&mut connection, batch.iter().flat_map(|c| &c.journal.writes)).await.context("write to the BBS database")?;
            }
            for Commit { version, journal } in batch {
                self.durable.send_replace(version);
                for happening in &journal.happenings {
                    self.hub.emit(happening, &journal.trace);
                }
                for order in journal.orders {
                    let _ = self.orders.send(order);
                }
            }
        }
    }
}
