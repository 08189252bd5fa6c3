//! Metrics and readiness of the Cloud Controller.

use crate::fixture::*;
use testkit::metrics::value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synced_controller_is_ready_and_counts_its_requests() {
    let f = Foundation::start().await;
    wait_for("readiness", async || {
        let unmet = f.observed().readiness.unmet();
        if unmet.is_empty() {
            Ok(())
        } else {
            Err(unmet.join("; "))
        }
    })
    .await;
    let metric = |name: &str| value(&f.observed().metrics.text(), name);
    assert!(metric("cc_diego_sync_duration_seconds_count") >= Some(1.0));
    let before = metric("cc_requests_completed_total").unwrap();
    f.get("/v3/apps").await;
    assert_eq!(metric("cc_requests_completed_total"), Some(before + 1.0));
    assert_eq!(
        metric("cc_request_duration_seconds_count"),
        Some(before + 1.0)
    );
    assert_eq!(metric("cc_requests_outstanding_total"), Some(0.0));
    assert_eq!(metric("cc_staging_requests_total"), Some(0.0));
    wait_for("the census", async || metric("cc_users_total").is_some()).await;
    assert_eq!(metric("cc_running_tasks_total"), Some(0.0));
    assert_eq!(metric("cc_failed_jobs_total"), Some(0.0));
    f.finish().await;
}
