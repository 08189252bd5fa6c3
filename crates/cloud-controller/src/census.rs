//! Measures the levels that operators see: the numbers of things in the database. It runs beside the API and changes nothing.

use crate::controller::Cc;
use crate::db::usage;
use kit::CancellationToken;
use std::time::Duration;

/// The interval between two measurements.
const INTERVAL: Duration = Duration::from_secs(10);

const MIB: f64 = 1_048_576.0;

/// Measures until `shutdown`. After a failure the levels keep their last values.
pub(crate) async fn run(cc: &Cc, shutdown: &CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Err(error) = measure(cc).await {
            tracing::warn!(%error, "census-failed");
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

async fn measure(cc: &Cc) -> sqlx::Result<()> {
    let mut conn = cc.db.read_own().await?;
    let census = usage::census(&mut conn).await?;
    let metrics = &cc.metrics;
    metrics.users.set(census.users as f64);
    metrics.running_tasks.set(census.running_tasks as f64);
    let memory = census.running_tasks_in_mb as f64 * MIB;
    metrics.running_tasks_memory.set(memory);
    metrics.deployments.set(census.active_deployments as f64);
    metrics.failed_jobs.set(census.failed_jobs as f64);
    Ok(())
}
