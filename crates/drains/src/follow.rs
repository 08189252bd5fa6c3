//! Follows the Cloud Controller's list: begins the task of each new drain, ends that of each drain that is gone, and reports what drains
//! lost. While the list cannot be read, the known drains go on.

use crate::Drains;
use crate::connection::Endpoint;
use crate::drain::{Drain, Tools};
use crate::list::{self, Refused, Wanted};
use crate::report::Reports;
use crate::target::Target;
use kit::CancellationToken;
use kit::reach::Reach;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// The interval at which losses are reported.
const REPORT_LOSSES: Duration = Duration::from_secs(5);
/// The time after which a refused drain is reported again.
const REPEAT_REFUSAL: Duration = Duration::from_secs(600);

/// A drain whose task runs.
struct Running {
    drain: Arc<Drain>,
    /// The token that ends the task.
    end: CancellationToken,
}

/// The drains whose tasks run, and what was reported.
struct Follower {
    drains: Drains,
    reach: Arc<Reach>,
    /// The addresses of drains that the operator has named.
    anywhere: Arc<Reach>,
    tools: Tools,
    /// The drains of all sources, which are in no list.
    aggregate: BTreeMap<Wanted, Target>,
    running: BTreeMap<Wanted, Running>,
    tasks: JoinSet<()>,
    /// The refused drains, and when each was reported.
    refused: BTreeMap<Refused, Instant>,
    is_failing: bool,
}

/// Follows the list until `shutdown`. Then all drains deliver for a moment what is left.
pub(crate) async fn follow(drains: Drains, reports: Reports, shutdown: CancellationToken) {
    let every = |period| {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let (mut refresh, mut losses) = (every(drains.config.interval), every(REPORT_LOSSES));
    let client = drains.client.clone();
    let mut follower = Follower::new(drains, reports);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = losses.tick() => follower.report_losses(),
            _ = refresh.tick() => {
                let read = tokio::select! {
                    () = shutdown.cancelled() => break,
                    read = client.all() => read,
                };
                follower.refreshed(read);
            }
        }
    }
    follower.end().await;
}

impl Follower {
    fn new(drains: Drains, reports: Reports) -> Self {
        let config = &drains.config;
        let aggregate = list::aggregate(&config.aggregate, config.has_tags);
        let mut follower = Self {
            reach: Arc::new(config.reach.clone()),
            anywhere: Arc::new(Reach::anywhere()),
            tools: Tools {
                metrics: drains.shared.metrics.clone(),
                reports,
            },
            aggregate,
            drains,
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            refused: BTreeMap::new(),
            is_failing: false,
        };
        // These do not depend on the Cloud Controller.
        follower.apply(Vec::new());
        follower
    }

    fn refreshed(&mut self, read: anyhow::Result<Vec<wire::cc::SyslogDrain>>) {
        match read {
            Ok(all) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("drains-read-again");
                }
                self.apply(all);
                self.drains.shared.known();
            }
            Err(error) => {
                self.tools.metrics.refresh_errors.add(1);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "drains-not-read: those that are known go on"
                    );
                }
            }
        }
        self.tools.metrics.refreshes.add(1);
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "drain-task-failed");
            }
        }
    }

    /// Begins and ends drains, so that exactly those of the list and those of all sources run.
    fn apply(&mut self, all: Vec<wire::cc::SyslogDrain>) {
        let config = &self.drains.config;
        let mut list = list::read(all, config.per_app, config.has_tags);
        list.drains.extend(self.aggregate.clone());
        let gone = |wanted: &Wanted| !list.drains.contains_key(wanted);
        let ended: Vec<Wanted> = self.running.keys().filter(|w| gone(w)).cloned().collect();
        for wanted in &ended {
            if let Some(running) = self.running.remove(wanted) {
                running.end.cancel();
            }
        }
        for (wanted, target) in std::mem::take(&mut list.drains) {
            if !self.running.contains_key(&wanted)
                && let Err(refused) = self.begin(wanted, target)
            {
                list.refused.insert(refused);
            }
        }
        self.drains.trust.forget_unused();
        let running = self.running.values().map(|running| running.drain.clone());
        self.drains.shared.set(running, list.refused.len());
        self.report_refusals(list.refused);
    }

    fn begin(&mut self, wanted: Wanted, target: Target) -> Result<(), Refused> {
        let tls = self.drains.trust.config(&wanted.credentials);
        let tls = tls.map_err(|error| (wanted.app.clone(), format!("{error} {}", target.shown)))?;
        let reach = match wanted.app.is_empty() {
            true => &self.anywhere,
            false => &self.reach,
        };
        let endpoint = Endpoint {
            target,
            reach: reach.clone(),
            router: self.drains.config.router.clone(),
            tls,
        };
        let drain = Drain::new(wanted.app.clone(), wanted.hostname.clone(), endpoint);
        let (drain, end) = (Arc::new(drain), CancellationToken::new());
        tracing::info!(
            app = drain.app,
            drain = drain.target().shown,
            "drain-started"
        );
        let task = drain.clone().run(self.tools.clone(), end.clone());
        self.tasks.spawn(task);
        self.running.insert(wanted, Running { drain, end });
        Ok(())
    }

    /// Reports each refused drain in the log of its app: at once, and again while it stays refused.
    fn report_refusals(&mut self, refused: BTreeSet<Refused>) {
        self.refused.retain(|known, _| refused.contains(known));
        for refused in refused {
            let last = self.refused.get(&refused);
            if last.is_some_and(|at| at.elapsed() < REPEAT_REFUSAL) {
                continue;
            }
            let (app, text) = &refused;
            tracing::info!(app, reason = text, "drain-refused");
            self.tools.reports.line(app, text.clone());
            self.refused.insert(refused, Instant::now());
        }
    }

    fn report_losses(&self) {
        for running in self.running.values() {
            let lost = running.drain.take_lost();
            if lost > 0 {
                let drain = &running.drain;
                let shown = &drain.target().shown;
                self.tools.reports.lost(&drain.app, lost, shown);
            }
        }
    }

    /// Ends all drains and waits until each has delivered what it could.
    async fn end(mut self) {
        for running in self.running.values() {
            running.end.cancel();
        }
        while self.tasks.join_next().await.is_some() {}
    }
}
