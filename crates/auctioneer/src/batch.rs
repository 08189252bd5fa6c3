//! Runs batches: reads the cells' states, places the work, sends it to the cells, reports failures.

use crate::convert;
use crate::metrics::Metrics;
use crate::queue::{Drained, Queue, Requested};
use auction::{Batch, Job, Placements, Weights};
use clients::{bbs, rep, request_id};
use futures::StreamExt as _;
use futures::stream::{self, FuturesUnordered};
use kit::CancellationToken;
use kit::backoff::Backoff;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wire::bbs::{ActualLrpKey, CellPresence, FailActualLrpRequest};
use wire::rep::{CellState, Lrp, Task, Work};

/// The highest number of failures that are reported to the BBS at the same time.
const REPORTS: usize = 32;
/// The number of times that the cells are asked for their states while cells exist but none answers.
const STATE_ROUNDS: usize = 4;
const ROUND_PAUSE: Duration = Duration::from_millis(200);
/// The time that the other cells have to answer once one has: a dead cell must not delay all starts.
const STRAGGLERS: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) bbs: bbs::Client,
    pub(crate) reps: rep::Client,
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Metrics,
    pub(crate) weights: Weights,
    pub(crate) cell_state_timeout: Duration,
    pub(crate) first_cell_grace: Duration,
}

/// A cell that can accept work now.
struct Candidate {
    url: String,
    state: CellState,
}

impl Runner {
    /// Runs one batch after another until `ended`.
    pub(crate) async fn run(&self, ended: CancellationToken) {
        let grace_ends = Instant::now() + self.first_cell_grace;
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                () = self.queue.ready() => {}
            }
            let candidates = tokio::select! {
                () = ended.cancelled() => return,
                candidates = self.candidates(grace_ends) => candidates,
            };
            self.batch(&candidates, self.queue.drain()).await;
        }
    }

    /// Returns the states of all cells that can accept work. It waits as long as the BBS does not answer, and the queue is kept.
    async fn candidates(&self, grace_ends: Instant) -> Vec<Candidate> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut rounds = 0;
        loop {
            let cells = match self.bbs.cells().await {
                Ok(cells) => cells,
                Err(error) => {
                    tracing::warn!(
                        error = format!("{:#}", anyhow::Error::from(error)),
                        "list-cells-failed"
                    );
                    tokio::time::sleep(backoff.next_delay()).await;
                    continue;
                }
            };
            let began = Instant::now();
            let candidates = self.states(&cells).await;
            self.metrics.fetch_states_duration.observe(began.elapsed());
            rounds += 1;
            let retry = Instant::now() < grace_ends || (!cells.is_empty() && rounds < STATE_ROUNDS);
            if !candidates.is_empty() || !retry {
                return candidates;
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }

    async fn states(&self, cells: &[CellPresence]) -> Vec<Candidate> {
        let mut requested: FuturesUnordered<_> =
            cells.iter().map(|cell| self.state(cell)).collect();
        let mut candidates = Vec::new();
        let mut deadline = Instant::now() + self.cell_state_timeout + STRAGGLERS;
        while let Ok(Some(answer)) = tokio::time::timeout_at(deadline, requested.next()).await {
            if candidates.is_empty() && answer.is_some() {
                deadline = Instant::now() + STRAGGLERS.min(self.cell_state_timeout);
            }
            candidates.extend(answer);
        }
        if !requested.is_empty() {
            self.metrics
                .failed_cell_state_requests
                .add(requested.len() as u64);
            tracing::warn!(cells = requested.len(), "cell-states-missing");
        }
        candidates
    }

    /// Returns the cell's state, or logs the reason and returns `None` when the cell cannot accept work.
    async fn state(&self, cell: &CellPresence) -> Option<Candidate> {
        let (url, state) = self.fetched_state(cell).await.or_else(|| {
            self.metrics.failed_cell_state_requests.add(1);
            None
        })?;
        (!state.evacuating).then(|| Candidate {
            url: url.clone(),
            state,
        })
    }

    /// Returns the cell's URL and state, or logs the reason and returns `None`.
    async fn fetched_state<'a>(&self, cell: &'a CellPresence) -> Option<(&'a String, CellState)> {
        let url = if cell.rep_url.is_empty() {
            &cell.rep_address
        } else {
            &cell.rep_url
        };
        let state = match tokio::time::timeout(self.cell_state_timeout, self.reps.state(url)).await
        {
            Ok(Ok(state)) => state,
            Ok(Err(error)) => {
                tracing::warn!(
                    cell = cell.cell_id,
                    error = format!("{error:#}"),
                    "cell-state-failed"
                );
                return None;
            }
            Err(_) => {
                tracing::warn!(cell = cell.cell_id, timeout = ?self.cell_state_timeout, "cell-state-timed-out");
                return None;
            }
        };
        if state.cell_id != cell.cell_id {
            tracing::warn!(
                cell = cell.cell_id,
                answered = state.cell_id,
                "cell-answered-with-another-id"
            );
            return None;
        }
        Some((url, state))
    }

    async fn batch(&self, candidates: &[Candidate], requested: Drained) {
        let started = Instant::now();
        let batch = Batch {
            lrps: requested
                .lrps
                .iter()
                .map(|lrp| convert::lrp(&lrp.work))
                .collect(),
            tasks: requested
                .tasks
                .iter()
                .map(|task| convert::task(&task.work))
                .collect(),
        };
        let mut cells: Vec<_> = candidates
            .iter()
            .map(|candidate| convert::cell(&candidate.state))
            .collect();
        let placements = auction::place(&mut cells, &batch, &self.weights);
        let refused = self.send_work(candidates, &requested, &placements).await;
        self.count_started(&placements, &refused);
        let mut failures: Vec<_> = placements
            .failed
            .iter()
            .map(|(job, error)| {
                let failure = Failure::new(&requested, *job, error.to_string());
                (failure, cause(&requested, *job).to_owned())
            })
            .collect();
        failures.extend(self.requeue_refused(&requested, refused));
        for (failure, _) in &failures {
            match failure {
                Failure::Lrp(..) => self.metrics.lrp_auctions_failed.add(1),
                Failure::Task(..) => self.metrics.task_auctions_failed.add(1),
            }
        }
        let lrps = requested.lrps.iter().map(|lrp| &lrp.request_id);
        let tasks = requested.tasks.iter().map(|task| &task.request_id);
        let request_ids = request_id::joined(lrps.chain(tasks));
        tracing::info!(
            lrps = requested.lrps.len(),
            tasks = requested.tasks.len(),
            cells = candidates.len(),
            placed = placements.won.len(),
            failed = failures.len(),
            millis = started.elapsed().as_millis(),
            vcap_request_id = request_ids,
            "auction"
        );
        stream::iter(failures)
            .for_each_concurrent(REPORTS, |(failure, id)| {
                request_id::scope(id, self.report(failure))
            })
            .await;
    }

    /// Counts the work that was placed and not refused.
    fn count_started(&self, placements: &Placements, refused: &[(String, Work)]) {
        let won = placements.won.iter();
        let placed_lrps = won.filter(|(job, _)| matches!(job, Job::Lrp(_))).count();
        let placed_tasks = placements.won.len() - placed_lrps;
        let refused_lrps: usize = refused.iter().map(|(_, work)| work.lrps.len()).sum();
        let refused_tasks: usize = refused.iter().map(|(_, work)| work.tasks.len()).sum();
        let lrps = placed_lrps.saturating_sub(refused_lrps);
        let tasks = placed_tasks.saturating_sub(refused_tasks);
        self.metrics.lrp_auctions_started.add(lrps as u64);
        self.metrics.task_auctions_started.add(tasks as u64);
    }

    /// Sends each cell its work, to all cells at once. Returns the work that they refused, with the id of the cell.
    async fn send_work(
        &self,
        candidates: &[Candidate],
        requested: &Drained,
        placements: &Placements,
    ) -> Vec<(String, Work)> {
        let mut works: BTreeMap<&str, (Work, Vec<&str>)> = BTreeMap::new();
        for (job, cell) in &placements.won {
            let (work, request_ids) = works.entry(cell.as_str()).or_insert_with(|| {
                let work = Work {
                    cell_id: cell.to_string(),
                    ..Work::default()
                };
                (work, Vec::new())
            });
            match *job {
                Job::Lrp(at) => work.lrps.push(requested.lrps[at].work.clone()),
                Job::Task(at) => work.tasks.push(requested.tasks[at].work.clone()),
            }
            request_ids.push(cause(requested, *job));
        }
        let sent: FuturesUnordered<_> = candidates
            .iter()
            .filter_map(|candidate| {
                works
                    .remove(candidate.state.cell_id.as_str())
                    .map(|work| (candidate, work))
            })
            .map(async |(candidate, (work, request_ids))| {
                let id = request_id::joined(request_ids);
                let performed = self.reps.perform(&candidate.url, &work);
                (
                    candidate.state.cell_id.clone(),
                    request_id::scope(id, performed).await,
                )
            })
            .collect();
        let answers: Vec<_> = sent.collect().await;
        answers
            .into_iter()
            .filter_map(|(cell, answer)| match answer {
                Ok(refused) => Some((cell, refused)),
                // The cell may have accepted a part of it. The BBS repeats the request for everything that does not start.
                Err(error) => {
                    tracing::warn!(cell, error = format!("{error:#}"), "work-not-answered");
                    None
                }
            })
            .collect()
    }

    /// Queues refused work for one more auction at once, with fresh states. Work that is refused twice has failed and is
    /// returned, with the ids of the requests that caused it.
    fn requeue_refused(
        &self,
        requested: &Drained,
        refused: Vec<(String, Work)>,
    ) -> Vec<(Failure, String)> {
        let (mut lrps, mut tasks, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        let again = |refused_before: Option<&String>| refused_before.is_none();
        let reason = |cell: &str| format!("insufficient resources: cell {cell} refused the work");
        for (cell, work) in refused {
            for lrp in work.lrps {
                let Some(before) = requested
                    .lrps
                    .iter()
                    .find(|requested| requested.work.identifier() == lrp.identifier())
                else {
                    continue;
                };
                if again(before.refused_by.as_ref()) {
                    lrps.push(Requested {
                        refused_by: Some(cell.clone()),
                        ..before.clone()
                    });
                } else {
                    let failure = Failure::Lrp(before.work.clone(), reason(&cell));
                    failures.push((failure, before.request_id.clone()));
                }
            }
            for task in work.tasks {
                let Some(before) = requested
                    .tasks
                    .iter()
                    .find(|requested| requested.work.task_guid == task.task_guid)
                else {
                    continue;
                };
                if again(before.refused_by.as_ref()) {
                    tasks.push(Requested {
                        refused_by: Some(cell.clone()),
                        ..before.clone()
                    });
                } else {
                    let failure = Failure::Task(before.work.clone(), reason(&cell));
                    failures.push((failure, before.request_id.clone()));
                }
            }
        }
        self.queue.requeue(lrps, tasks);
        failures
    }

    async fn report(&self, failure: Failure) {
        let (what, reason, reported) = match failure {
            Failure::Lrp(lrp, reason) => {
                let key = ActualLrpKey {
                    process_guid: lrp.process_guid.clone(),
                    index: lrp.index,
                    domain: lrp.domain.clone(),
                };
                let reported = self
                    .bbs
                    .fail(&FailActualLrpRequest {
                        key: Some(key),
                        error_message: reason.clone(),
                    })
                    .await;
                (lrp.identifier(), reason, reported)
            }
            Failure::Task(task, reason) => {
                let reported = self.bbs.reject_task(&task.task_guid, &reason).await;
                (task.task_guid, reason, reported)
            }
        };
        match reported {
            Ok(()) => {
                let vcap_request_id = request_id::current();
                tracing::info!(what, reason, vcap_request_id, "not-placed");
            }
            Err(error) => tracing::warn!(what, reason, %error, "report-not-placed-failed"),
        }
    }
}

/// Returns the ids of the requests that caused a job.
fn cause(requested: &Drained, job: Job) -> &str {
    match job {
        Job::Lrp(at) => &requested.lrps[at].request_id,
        Job::Task(at) => &requested.tasks[at].request_id,
    }
}

/// Work that no cell accepts, with the reason.
#[derive(Debug)]
enum Failure {
    Lrp(Lrp, String),
    Task(Task, String),
}

impl Failure {
    fn new(requested: &Drained, job: Job, reason: String) -> Self {
        match job {
            Job::Lrp(at) => Self::Lrp(requested.lrps[at].work.clone(), reason),
            Job::Task(at) => Self::Task(requested.tasks[at].work.clone(), reason),
        }
    }
}
