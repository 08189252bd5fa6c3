//! Tests of what operators see of an auctioneer.

use crate::fixture::{Foundation, cell, lrp};
use testkit::metrics::value;
use testkit::wait::until;

#[tokio::test]
async fn an_auctioneer_with_its_lock_is_ready_and_counts_auctions() {
    let unhealthy = (cell("ill", "z0", 9000).0, false);
    let f = Foundation::start(&[cell("a", "z1", 100), unhealthy]).await;
    until("readiness", || f.observed.readiness.unmet().is_empty()).await;
    let metric = |name: &str| value(&f.observed.metrics.text(), name);
    assert_eq!(metric("auctioneer_lock_held"), Some(1.0));
    f.client
        .request_lrp_auctions(&[lrp("small", &[0], 50), lrp("big", &[0], 500)])
        .await
        .unwrap();
    for (name, wanted) in [
        ("auctioneer_lrp_auctions_started_total", 1.0),
        ("auctioneer_lrp_auctions_failed_total", 1.0),
        ("auctioneer_request_count_total", 1.0),
    ] {
        until(name, || metric(name) == Some(wanted)).await;
    }
    assert!(metric("auctioneer_failed_cell_state_requests_total") >= Some(1.0));
    assert!(metric("auctioneer_fetch_states_duration_seconds_count") >= Some(1.0));
    assert_eq!(metric("auctioneer_task_auctions_started_total"), Some(0.0));
    f.stop().await;
}
