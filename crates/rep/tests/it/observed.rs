//! Tests of what operators see of a cell.

use crate::fixture::{Fixture, app};
use testkit::metrics::value;
use testkit::wait::until;

#[tokio::test]
async fn a_cell_shows_its_resources_and_names_what_it_lacks() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let unmet = || rep.observed.readiness.unmet();
    // No locket listens, so all but the presence are met.
    until(
        "garden and the BBS",
        || matches!(unmet().as_slice(), [only] if only.starts_with("the presence at locket: ")),
    )
    .await;
    let metric = |name: &str| value(&rep.observed.metrics.text(), name);
    assert_eq!(metric("rep_container_count"), Some(0.0));
    assert_eq!(metric("rep_garden_health_check_failed"), Some(0.0));
    assert_eq!(metric("rep_capacity_allocated_memory_bytes"), Some(0.0));

    fixture.place(&rep, app()).await;
    let created = "rep_garden_container_creation_succeeded_duration_seconds_count";
    until("the container", || metric(created) == Some(1.0)).await;
    assert_eq!(metric("rep_container_count"), Some(1.0));
    assert!(metric("rep_capacity_allocated_memory_bytes") >= Some(64.0 * 1_048_576.0));
    until("a certificate", || {
        metric("rep_cred_creation_succeeded_count_total") >= Some(1.0)
    })
    .await;
    assert_eq!(metric("rep_container_completed_count_total"), Some(0.0));
    rep.stop().await;
}
