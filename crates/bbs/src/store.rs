//! The state behind one lock, and the one writer that makes its changes durable.
//!
//! ```text
//! request ─▶ write(): lock, decide, journal ─▶ queue ─▶ writer: one transaction per batch ─▶ events, effects ─▶ answer
//! ```
//! The queue keeps the order of the decisions, so subscribers receive changes in commit order. Neither a write nor a read returns
//! before everything it saw is durable: no crash can revoke a response.
//!
//! When a batch cannot be written (the disk is full), its requests fail, the state is read again from the database, and changes
//! are refused until one can be written again. Reads continue to be served.

use crate::db::{self, Fence, TakenOver};
use crate::failure::Failure;
use crate::hub::Hub;
use crate::journal::{Caused, Journal, Write};
use crate::metrics::Metrics;
use crate::state::State;
use anyhow::Result;
use kit::CancellationToken;
use kit::backoff::Backoff;
use kit::db::Database;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// The maximum number of journals in one transaction.
const BATCH: usize = 512;

/// The delay after which a database that could not be written is tried again. It grows to `RETRY_CAP`.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_CAP: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Store {
    guarded: Arc<Mutex<Guarded>>,
    /// The version up to which every change is on disk or refused. The channel is closed when the writer has stopped.
    durable: watch::Receiver<u64>,
}

#[derive(Debug)]
struct Guarded {
    state: State,
    version: u64,
    /// The number of times the state was read again from the database, which drops changes that could not be written.
    epoch: u64,
    /// The reason why changes are refused, if they are.
    trouble: Option<Failure>,
    /// Whether the state has changes that could not be written, while the stored state cannot be read. Nothing is served then.
    is_withheld: bool,
    queue: mpsc::UnboundedSender<Commit>,
}

#[derive(Debug)]
struct Commit {
    version: u64,
    journal: Journal,
    done: oneshot::Sender<Result<(), Failure>>,
}

/// The condition that a request waits for before it answers.
enum Wait {
    /// The request's own change.
    Written(oneshot::Receiver<Result<(), Failure>>),
    /// All changes that the request saw.
    Seen { version: u64, epoch: u64 },
}

/// The receiving end of the queue. It is run as a task.
#[derive(Debug)]
pub(crate) struct Writer {
    guarded: Arc<Mutex<Guarded>>,
    queue: mpsc::UnboundedReceiver<Commit>,
    durable: watch::Sender<u64>,
    database: Database,
    hub: Arc<Hub>,
    effects: mpsc::UnboundedSender<Caused>,
    metrics: Metrics,
}

/// Creates an empty store and its writer ([`Store::begin`]). `effects` receives the effects on other components, after they are durable.
pub(crate) fn open(
    database: Database,
    hub: Arc<Hub>,
    effects: mpsc::UnboundedSender<Caused>,
    metrics: Metrics,
) -> (Arc<Store>, Writer) {
    let (queue, receiver) = mpsc::unbounded_channel();
    let (durable, is_durable) = watch::channel(0);
    let guarded = Arc::new(Mutex::new(Guarded {
        state: State::default(),
        version: 0,
        epoch: 0,
        trouble: None,
        is_withheld: false,
        queue,
    }));
    let store = Store {
        guarded: guarded.clone(),
        durable: is_durable,
    };
    let writer = Writer {
        guarded,
        queue: receiver,
        durable,
        database,
        hub,
        effects,
        metrics,
    };
    (Arc::new(store), writer)
}

impl Store {
    /// Sets the state that was read from the database. Nothing is served before that.
    pub(crate) fn begin(&self, stored: State) {
        lock(&self.guarded).state = stored;
    }

    /// Changes the state. An error means that nothing was changed.
    pub(crate) async fn write<T>(
        &self,
        trace: &str,
        change: impl FnOnce(&mut State, &mut Journal) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (result, wait) = {
            let mut guarded = lock(&self.guarded);
            guarded.refuse_in_trouble()?;
            let mut journal = Journal::new(trace);
            let result = change(&mut guarded.state, &mut journal);
            (result, guarded.commit(journal))
        };
        self.wait_for(wait).await?;
        result
    }

    /// Writes rows that are not part of the state (those of locket).
    pub(crate) async fn log(&self, writes: Vec<Write>) -> Result<(), Failure> {
        let wait = {
            let mut guarded = lock(&self.guarded);
            guarded.refuse_in_trouble()?;
            guarded.commit(Journal {
                writes,
                ..Journal::default()
            })
        };
        self.wait_for(wait).await
    }

    /// Reads the state. It reads again if a change that it saw could not be written. It fails if the stored state cannot be read
    /// after such a change.
    pub(crate) async fn read<T>(&self, look: impl Fn(&State) -> T) -> Result<T, Failure> {
        loop {
            let (result, wait) = {
                let guarded = lock(&self.guarded);
                if guarded.is_withheld {
                    guarded.refuse_in_trouble()?;
                }
                (look(&guarded.state), guarded.seen())
            };
            match self.wait_for(wait).await {
                Ok(()) => return Ok(result),
                Err(failure) if failure == Failure::stopped() => return Err(failure),
                Err(_) => {}
            }
        }
    }

    /// Reads the state without waiting until it is durable. It is for callers that act on the result only through further
    /// transitions.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&lock(&self.guarded).state)
    }

    /// Returns the reason why changes are refused, if they are.
    pub(crate) fn trouble(&self) -> Option<String> {
        let guarded = lock(&self.guarded);
        guarded
            .trouble
            .as_ref()
            .map(|failure| failure.message.clone())
    }

    /// Changes state that is never stored (the list of present cells).
    pub(crate) fn adjust<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut lock(&self.guarded).state)
    }

    async fn wait_for(&self, wait: Wait) -> Result<(), Failure> {
        let (version, epoch) = match wait {
            Wait::Written(done) => return done.await.unwrap_or_else(|_| Err(Failure::stopped())),
            Wait::Seen { version, epoch } => (version, epoch),
        };
        let mut durable = self.durable.clone();
        let durable = durable.wait_for(|&reached| reached >= version).await;
        durable.map_err(|_| Failure::stopped())?;
        let guarded = lock(&self.guarded);
        match &guarded.trouble {
            _ if guarded.epoch == epoch => Ok(()),
            Some(trouble) => Err(trouble.clone()),
            None => Err(Failure::unwritten("try again")),
        }
    }
}

fn lock(guarded: &Mutex<Guarded>) -> MutexGuard<'_, Guarded> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guarded {
    fn refuse_in_trouble(&self) -> Result<(), Failure> {
        self.trouble.clone().map_or(Ok(()), Err)
    }

    fn seen(&self) -> Wait {
        Wait::Seen {
            version: self.version,
            epoch: self.epoch,
        }
    }

    /// Hands the journal to the writer. Returns what to wait for until it is durable.
    fn commit(&mut self, journal: Journal) -> Wait {
        if journal.is_empty() {
            return self.seen();
        }
        self.version += 1;
        let (done, wait) = oneshot::channel();
        // A stopped writer drops `done`.
        let _ = self.queue.send(Commit {
            version: self.version,
            journal,
            done,
        });
        Wait::Written(wait)
    }
}

impl Writer {
    /// Writes until `shutdown`, and then writes what is still queued.
    ///
    /// # Errors
    /// It fails if another BBS has taken the database over.
    pub(crate) async fn run(mut self, fence: Fence, shutdown: CancellationToken) -> Result<()> {
        loop {
            let first = tokio::select! {
                biased;
                commit = self.queue.recv() => commit,
                () = shutdown.cancelled() => None,
            };
            let Some(first) = first else {
                // A connection that stayed open would remove the journal of another database that is put in the place of this
                // one.
                self.database.close().await;
                return Ok(());
            };
            let mut batch = vec![first];
            while batch.len() < BATCH {
                let Ok(commit) = self.queue.try_recv() else {
                    break;
                };
                batch.push(commit);
            }
            let writes = || batch.iter().flat_map(|commit| &commit.journal.writes);
            let written = match writes().next() {
                Some(_) => {
                    let began = Instant::now();
                    let written = db::write(&self.database, &fence, writes()).await;
                    self.metrics.written(began.elapsed(), written.is_ok());
                    written
                }
                None => Ok(()),
            };
            match written {
                Ok(()) => self.publish(batch),
                Err(error) if error.is::<TakenOver>() => return Err(error),
                Err(error) => {
                    let trouble = self.refuse(batch, &error);
                    self.recover(&trouble, &fence, &shutdown).await?;
                }
            }
        }
    }

    /// Publishes the events and effects of a batch that is durable, and answers its requests.
    fn publish(&self, batch: Vec<Commit>) {
        for Commit {
            version,
            journal,
            done,
        } in batch
        {
            self.durable.send_replace(version);
            for publication in journal.publications {
                if !journal.trace.is_empty() {
                    publication.log(&journal.trace);
                }
                self.metrics.published(&publication);
                self.hub.emit(publication, &journal.trace);
            }
            for effect in journal.effects {
                let _ = self.effects.send((effect, journal.trace.clone()));
            }
            let _ = done.send(Ok(()));
        }
    }

    /// Drops the batch and every change that was decided after it. From now on changes are refused.
    fn refuse(&mut self, batch: Vec<Commit>, error: &anyhow::Error) -> Failure {
        let trouble = match self.database.trouble_of(error) {
            Some(why) => Failure::unwritten(why),
            None => Failure::unwritten(format_args!("{error:#}")),
        };
        tracing::error!(
            error = format!("{error:#}"),
            why = trouble.message,
            "bbs-database-not-written: changes are refused until it can be written again"
        );
        lock(&self.guarded).trouble = Some(trouble.clone());
        // No request adds to the queue now, because changes are refused.
        let queued = std::iter::from_fn(|| self.queue.try_recv().ok());
        for commit in batch.into_iter().chain(queued) {
            let _ = commit.done.send(Err(trouble.clone()));
        }
        trouble
    }

    /// Restores the stored state, then waits until a change can be written.
    async fn recover(
        &self,
        trouble: &Failure,
        fence: &Fence,
        shutdown: &CancellationToken,
    ) -> Result<()> {
        let mut backoff = Backoff::new(RETRY, RETRY_CAP);
        let mut reloaded = false;
        loop {
            reloaded = reloaded || self.reload().await;
            if reloaded {
                match db::try_to_write(&self.database, fence).await {
                    Err(error) if error.is::<TakenOver>() => return Err(error),
                    // A server may have committed the failed batch after the state was read.
                    Ok(()) if !self.database.is_shared() || self.reload().await => break,
                    _ => {}
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = shutdown.cancelled() => return Ok(()),
            }
        }
        tracing::warn!(after = trouble.message, "bbs-database-written-again");
        lock(&self.guarded).trouble = None;
        Ok(())
    }

    /// Reads the stored state again, and returns whether that succeeded.
    async fn reload(&self) -> bool {
        match db::load(&self.database).await {
            Ok(state) => self.restore(state),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "bbs-database-not-read");
                self.withhold();
                false
            }
        }
    }

    /// Refuses reads until the stored state is read. Requests that wait for a change they saw are answered.
    fn withhold(&self) {
        let mut guarded = lock(&self.guarded);
        guarded.is_withheld = true;
        guarded.epoch += 1;
        self.durable.send_replace(guarded.version);
    }

    fn restore(&self, stored: State) -> bool {
        let mut guarded = lock(&self.guarded);
        guarded.is_withheld = false;
        let now = &mut guarded.state;
        let cells = std::mem::take(&mut now.cells);
        let policy = std::mem::take(&mut now.policy);
        *now = State {
            cells,
            policy,
            ..stored
        };
        guarded.epoch += 1;
        self.durable.send_replace(guarded.version);
        true
    }
}
