//! The one way to change what users want.
//!
//! ```text
//!  cc.change() ──▶ who.find(tx, guid, right) ──▶ a verb of actions ──▶ audit::record(tx, …) ──▶ tx.commit(trail)
//!  one at a time   the row only with the right   rows, jobs, marks     the event                      │
//!                                                                                                     ▼ durable
//!                          lines in the apps' logs, clean-up, driver, sync, deployments: what was marked
//! ```
//!
//! Nothing else commits a change: [`Changes`] owns the only [`Writer`] of the database, and the transaction is private to
//! [`Change`]. `commit` requires the proof that the audit trail covers the change ([`Trail`]). What must follow the commit is marked
//! before it, so that a change that fails has no effects, and so that no handler can commit without them. A change that is
//! dropped is rolled back.
//!
//! Callers: handlers of `api` and `internal`, and the parts of `diego` that continue what a user began. This module knows neither
//! nouns nor rights.

use crate::app_log;
use crate::db::{Connection, Trail, Tx, Writer};
use crate::diego::driver::Driver;
use clients::loggregator::Emitter;
use kit::reconcile::Nudge;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The owner of the database's writer, and of all that works after a commit. It is cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Changes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    writer: Writer,
    driver: Driver,
    /// The nudge that wakes the clean-up.
    cleanup: Nudge,
    emitter: Emitter,
}

impl Changes {
    pub(crate) fn new(writer: Writer, driver: Driver, cleanup: Nudge, emitter: Emitter) -> Self {
        Self(Arc::new(Shared {
            writer,
            driver,
            cleanup,
            emitter,
        }))
    }

    /// Begins a change when the previous one has ended.
    pub(crate) async fn begin(&self) -> sqlx::Result<Change> {
        Ok(Change {
            tx: self.0.writer.begin().await?,
            marks: Marks::default(),
            shared: self.0.clone(),
        })
    }
}

/// A change under way: a transaction, and what must follow its commit. It is used as a connection.
#[derive(Debug)]
#[must_use = "a change that is not committed is rolled back"]
pub(crate) struct Change {
    tx: Tx,
    marks: Marks,
    shared: Arc<Shared>,
}

/// The effects that follow a commit.
#[derive(Debug, Default)]
struct Marks {
    /// The guid of an app, and a line for its log.
    lines: Vec<(String, String)>,
    /// The processes that the driver must reconcile.
    processes: Vec<String>,
    cleanup: bool,
    sync: bool,
    deployments: bool,
}

impl Change {
    /// Marks processes that the driver must reconcile with Diego after the commit.
    pub(crate) fn reconcile(&mut self, processes: Vec<String>) {
        self.marks.processes.extend(processes);
    }

    /// Marks that tasks or many processes changed, which only the sync updates. It wakes the sync after the commit.
    pub(crate) fn sync(&mut self) {
        self.marks.sync = true;
    }

    /// Marks that a deployment has a next step. It wakes the deployments after the commit.
    pub(crate) fn advance_deployments(&mut self) {
        self.marks.deployments = true;
    }

    /// Marks that files of packages or droplets are no longer needed. It wakes the clean-up after the commit.
    pub(crate) fn clean_up(&mut self) {
        self.marks.cleanup = true;
    }

    /// Adds a line to an app's log after the commit.
    pub(crate) fn log_to_app(&mut self, app_guid: &str, line: impl Into<String>) {
        self.marks.lines.push((app_guid.to_owned(), line.into()));
    }

    /// Adds the first line of an app's log after the commit. Every way to create an app calls it.
    pub(crate) fn log_creation(&mut self, app_guid: &str) {
        self.log_to_app(app_guid, format!("Created app with guid {app_guid}"));
    }

    /// Commits the change, and lets everything that was marked follow. The change is durable before any of it begins. It waits for
    /// the driver as long as a request may.
    pub(crate) async fn commit(self, trail: impl Into<Trail>) -> sqlx::Result<()> {
        let Self { tx, marks, shared } = self;
        let trail: Trail = trail.into();
        tx.commit(trail).await?;
        shared.follow(marks).await;
        Ok(())
    }
}

impl Shared {
    async fn follow(&self, marks: Marks) {
        for (app_guid, line) in marks.lines {
            app_log::write(&self.emitter, &app_guid, line);
        }
        if marks.cleanup {
            self.cleanup.nudge();
        }
        self.driver.reconcile(marks.processes).await;
        if marks.sync {
            self.driver.nudge().nudge();
        }
        if marks.deployments {
            self.driver.rollout_nudge().nudge();
        }
    }
}

impl Deref for Change {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.tx
    }
}

impl DerefMut for Change {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.tx
    }
}
