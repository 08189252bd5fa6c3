//! The one way to change what users want.
//!
//! ```text
//!  cc.change() ──▶ who.find(tx, guid, right) ──▶ a verb of actions ──▶ audit::record(tx, …) ──▶ tx.commit(trail)
//!  one at a time   the row only with the right   rows, jobs, marks     the event                 │ durable
//!                                                                                                ▼
//!           what was marked: lines in apps' logs, clean-up, jobs, the driver's work, the routes' propagation, sync, deployments
//! ```
//!
//! Only this module commits a change: [`Changes`] owns the only [`Writer`] of the database, and the transaction is private to
//! [`Change`]. `commit` requires the proof that the audit trail covers the change ([`Trail`]). What must follow the commit is
//! marked before it, mostly by the verbs themselves, so that a change that fails has no effects, and so that no handler can
//! commit without them. A change that is dropped is rolled back.
//!
//! Callers: handlers of `api` and `internal`, `jobs`, and the parts of `diego` that continue what a user began. This module knows
//! neither nouns nor rights.

use crate::app_log;
use crate::db::{Connection, Trail, Tx, Writer};
use crate::diego::driver::Driver;
use crate::receipts::Receipts;
use clients::loggregator::Emitter;
use kit::reconcile::Nudge;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time for which a change should have the writer at most. A verb that may need longer is a job.
const LONGEST: Duration = Duration::from_millis(100);

/// The owner of the database's writer, and of all that works after a commit. It is cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Changes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    writer: Writer,
    driver: Driver,
    /// The record of how far changes of routes have come.
    receipts: Receipts,
    /// The nudge that wakes the clean-up.
    cleanup: Nudge,
    /// The nudge that wakes the jobs.
    jobs: Nudge,
    emitter: Emitter,
}

impl Changes {
    pub(crate) fn new(
        writer: Writer,
        driver: Driver,
        receipts: Receipts,
        cleanup: Nudge,
        jobs: Nudge,
        emitter: Emitter,
    ) -> Self {
        Self(Arc::new(Shared {
            writer,
            driver,
            receipts,
            cleanup,
            jobs,
            emitter,
        }))
    }

    /// Begins a change when the previous one has ended.
    pub(crate) async fn begin(&self) -> sqlx::Result<Change> {
        Ok(Change {
            tx: self.0.writer.begin().await?,
            began: Instant::now(),
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
    /// The time since which all other changes wait.
    began: Instant,
    marks: Marks,
    shared: Arc<Shared>,
}

/// The effects that follow a commit.
#[derive(Debug, Default)]
struct Marks {
    /// The guid of an app, and a line for its log.
    lines: Vec<(String, String)>,
    /// The processes that the driver must reconcile.
    processes: BTreeSet<String>,
    /// The routes whose change travels to the routers, each with the generation of the change.
    routes: BTreeMap<String, u64>,
    cleanup: bool,
    jobs: bool,
    sync: bool,
    deployments: bool,
}

impl Change {
    /// Marks a process that the driver must reconcile with Diego after the commit.
    pub(crate) fn reconcile(&mut self, process_guid: impl Into<String>) {
        self.marks.processes.insert(process_guid.into());
    }

    /// Marks that a change of a route travels to the routers from the commit on.
    pub(crate) fn propagate(&mut self, route_guid: &str, generation: u64) {
        self.marks.routes.insert(route_guid.to_owned(), generation);
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

    /// Marks that a job was stored. It wakes the jobs after the commit.
    pub(crate) fn start_jobs(&mut self) {
        self.marks.jobs = true;
    }

    /// Adds a line to an app's log after the commit.
    pub(crate) fn log_to_app(&mut self, app_guid: &str, line: impl Into<String>) {
        self.marks.lines.push((app_guid.to_owned(), line.into()));
    }

    /// Adds the first line of an app's log after the commit. Every way to create an app calls it.
    pub(crate) fn log_creation(&mut self, app_guid: &str) {
        self.log_to_app(app_guid, format!("Created app with guid {app_guid}"));
    }

    /// Returns whether service bindings of some brokers open addresses to their apps.
    pub(crate) fn has_bound_egress(&self) -> bool {
        !self.shared.driver.bound_egress().is_empty()
    }

    /// Commits the change, and lets everything that was marked follow. The change is durable before any of it begins. It waits for
    /// the driver as long as a request may.
    pub(crate) async fn commit(self, trail: impl Into<Trail>) -> sqlx::Result<()> {
        let Self {
            tx,
            began,
            marks,
            shared,
        } = self;
        let trail: Trail = trail.into();
        tx.commit(trail).await?;
        let held = began.elapsed();
        if held > LONGEST {
            tracing::info!(millis = held.as_millis(), "change-took-long");
        }
        shared.follow(marks).await;
        Ok(())
    }
}

impl Shared {
    async fn follow(&self, marks: Marks) {
        self.receipts.stored(&marks.routes);
        for (app_guid, line) in marks.lines {
            app_log::write(&self.emitter, &app_guid, line);
        }
        if marks.cleanup {
            self.cleanup.nudge();
        }
        if marks.jobs {
            self.jobs.nudge();
        }
        let processes = marks.processes.into_iter().collect();
        if self.driver.reconcile(processes).await {
            self.receipts.desired(&marks.routes);
        }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    /// The calls that only some files may make, with all files that make them.
    const RESERVED: &[(&str, &[&str])] = &[
        ("writer.begin()", &["change.rs"]),
        ("database.begin()", &["db/transaction.rs"]),
        ("changes.begin()", &["controller.rs"]),
        ("driver.reconcile(", &["change.rs"]),
        ("Db::open(", &["component.rs"]),
        // Rows that the platform writes for itself. A handler has no place here: what it writes is a change.
        (
            ".upkeep()",
            &[
                "auth.rs",
                "cleanup/blobs.rs",
                "cleanup/records.rs",
                "diego/driver.rs",
                "secrets.rs",
                "seed.rs",
            ],
        ),
    ];

    /// Returns the path below `src` and the code of every file, without comments and tests.
    fn sources() -> Vec<(String, String)> {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let (mut folders, mut found): (Vec<PathBuf>, _) = (vec![src.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&src).unwrap().display().to_string();
                if name.ends_with("tests.rs") {
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let code = code
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"));
                found.push((name, code.flat_map(|line| [line, "\n"]).collect()));
            }
        }
        assert!(found.len() > 80, "{} files were read", found.len());
        found
    }

    #[test]
    fn nothing_else_begins_a_change_or_follows_it() {
        let sources = sources();
        for (call, files) in RESERVED {
            let makes = |(_, code): &&(String, String)| code.contains(call);
            let found: BTreeSet<&str> = sources
                .iter()
                .filter(makes)
                .map(|(name, _)| name.as_str())
                .collect();
            let listed: BTreeSet<&str> = files.iter().copied().collect();
            assert_eq!(
                found, listed,
                "{call} is reserved: change what users want with cc.change(), and mark what must follow its commit"
            );
        }
    }

    /// The functions of `api` that change something after another function has checked the right.
    const CHECKED_ELSEWHERE: &[(&str, &str)] = &[
        // The callers have found the app with the right to read what they return.
        ("api/app.rs", "note_read"),
        ("api/deployment.rs", "find_to_steer"),
        ("api/network_policy.rs", "requested"),
        ("api/role.rs", "place"),
        ("api/service_broker.rs", "find_to_change"),
        ("api/service_offering.rs", "find_to_change"),
        ("api/service_plan.rs", "find_to_change"),
        ("api/service_plan_visibility.rs", "find_to_change"),
    ];

    #[test]
    fn every_handler_that_changes_something_checks_a_right() {
        let mut handlers = 0;
        for (name, code) in sources() {
            if !name.starts_with("api/") {
                continue;
            }
            for function in code.split("async fn ") {
                if !function.contains("cc.change()") {
                    continue;
                }
                handlers += 1;
                let by_other = |(file, other): &(&str, &str)| {
                    name == *file && function.contains(&format!("{other}("))
                };
                assert!(
                    function.contains("Right::")
                        || function.contains("must_be_admin()")
                        || CHECKED_ELSEWHERE.iter().any(by_other),
                    "{name} changes something without a right in: async fn {}",
                    function.lines().next().unwrap_or_default()
                );
            }
        }
        assert!(handlers > 60, "{handlers} handlers were read");
    }
}
