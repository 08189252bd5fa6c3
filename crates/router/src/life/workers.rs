//! The threads that serve: how many start, what each runs, and how they end.

use crate::life::thread;
use crate::listen::{self, Front};
use crate::worker::{Shared, Worker};
use anyhow::Result;
use kit::CancellationToken;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The time that the last bytes have, after a drain's own time is over, to reach the clients that are still connected.
const FAREWELL: Duration = Duration::from_secs(1);

/// The threads that serve with one configuration.
#[derive(Debug)]
pub(crate) struct Workers {
    /// The threads' results, one for each thread.
    pub(crate) ended: JoinSet<Result<()>>,
    /// A token that makes the threads accept nothing any more and end when their connections are done.
    pub(crate) stop: CancellationToken,
    /// A token that makes the threads end without waiting for their connections.
    pub(crate) cut: CancellationToken,
}

/// Starts the workers: each is a thread with a single-threaded runtime.
pub(crate) fn spawn_workers(shared: &Arc<Shared>, fronts: Vec<Front>) -> Result<Workers> {
    let mut workers = Workers {
        ended: JoinSet::new(),
        stop: CancellationToken::new(),
        cut: CancellationToken::new(),
    };
    for number in 0..shared.settings.workers {
        let fronts = fronts
            .iter()
            .map(Front::try_clone)
            .collect::<Result<Vec<_>>>()?;
        let (shared, stop, cut) = (shared.clone(), workers.stop.clone(), workers.cut.clone());
        let ended = thread::spawn(format!("router-{number}"), move || {
            run_worker(shared, fronts, stop, cut)
        })?;
        workers.ended.spawn(ended);
    }
    Ok(workers)
}

async fn run_worker(
    shared: Arc<Shared>,
    fronts: Vec<Front>,
    stop: CancellationToken,
    cut: CancellationToken,
) -> Result<()> {
    let worker = Arc::new(Worker::new(shared));
    let sweeper = tokio::spawn(sweep(worker.clone()));
    let mut accepting = JoinSet::new();
    for front in fronts {
        accepting.spawn(listen::accept(worker.clone(), front, stop.clone()));
    }
    let mut result = Ok(());
    tokio::select! {
        () = stop.cancelled() => worker.drain.begin(),
        Some(ended) = accepting.join_next() => result = ended.map_err(anyhow::Error::from).and_then(|r| r),
    }
    while let Some(ended) = accepting.join_next().await {
        result = result.and(ended.map_err(anyhow::Error::from).and_then(|r| r));
    }
    worker.tasks.close();
    worker.drain.begin();
    tokio::select! {
        () = worker.tasks.wait() => {}
        () = cut.cancelled() => {
            tracing::warn!(left = worker.tasks.len(), "requests-cut-off");
            worker.drain.end();
            let _ = timeout(FAREWELL, worker.tasks.wait()).await;
        }
    }
    sweeper.abort();
    worker.connections.close();
    result
}

/// Closes backend connections that were idle for too long.
async fn sweep(worker: Arc<Worker>) {
    let period = (worker.shared.settings.backend_idle_timeout / 4).max(Duration::from_millis(100));
    loop {
        tokio::time::sleep(period).await;
        worker.connections.sweep(Instant::now());
    }
}
