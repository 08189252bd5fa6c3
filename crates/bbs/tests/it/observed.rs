//! Tests of what operators see of the BBS: its metrics follow what happens, and it is ready when it holds its lock.

use crate::fixture::{Foundation, claim, desired, on, run_action, start};
use testkit::wait::until;
use wire::bbs as m;

#[tokio::test]
async fn a_bbs_is_ready_when_it_holds_its_lock() {
    let f = Foundation::start().await;
    until("readiness", || f.observed().readiness.unmet().is_empty()).await;
    assert_eq!(f.metric("bbs_lock_held"), Some(1.0));
    assert_eq!(f.metric("bbs_master_elected_total"), Some(1.0));
    assert_eq!(f.metric("locket_active_locks"), Some(1.0));
    f.finish().await;
}

#[tokio::test]
async fn levels_are_those_of_the_state() {
    let f = Foundation::start().await;
    let (_stop, _keeper) = f.cell("cell-1").await;
    f.bbs.upsert_domain("cf-apps", 60).await.unwrap();
    f.bbs.desire_lrp(desired("p", 2)).await.unwrap();
    let instance = on("i-0", "cell-1");
    f.bbs.claim(&claim("p", 0, &instance)).await.unwrap();
    f.bbs.start(&start("p", 0, &instance)).await.unwrap();
    let levels = [
        ("bbs_lrps_desired", 2.0),
        ("bbs_lrps_running", 1.0),
        ("bbs_lrps_unclaimed", 1.0),
        ("bbs_lrps_claimed", 0.0),
        ("bbs_lrps_missing", 0.0),
        ("bbs_lrps_extra", 0.0),
        ("bbs_crashed_actual_lrps", 0.0),
        ("bbs_present_cells", 1.0),
        ("locket_active_presences", 1.0),
        ("bbs_domain", 1.0),
    ];
    for (name, wanted) in levels {
        // The numbers of one page are up to a second old.
        until(name, || f.metric(name) == Some(wanted)).await;
    }
    f.finish().await;
}

#[tokio::test]
async fn events_are_counted_once() {
    let f = Foundation::start().await;
    let definition = m::TaskDefinition {
        root_fs: "preloaded:cflinuxfs4".into(),
        action: Some(run_action()),
        ..m::TaskDefinition::default()
    };
    let requests = f.metric("bbs_request_count_total").unwrap();
    for (guid, failed) in [("good", false), ("bad", true)] {
        let definition = definition.clone();
        f.bbs
            .desire_task(guid, "cf-tasks", definition)
            .await
            .unwrap();
        assert!(f.bbs.start_task(guid, "cell-1").await.unwrap());
        let request = m::CompleteTaskRequest {
            task_guid: guid.into(),
            cell_id: "cell-1".into(),
            failed,
            failure_reason: if failed {
                "it broke".into()
            } else {
                String::new()
            },
            ..m::CompleteTaskRequest::default()
        };
        f.bbs.complete_task(&request).await.unwrap();
        assert!(
            f.bbs.complete_task(&request).await.is_err(),
            "it has completed already"
        );
    }
    for (name, wanted) in [
        ("bbs_tasks_started_total", 2.0),
        ("bbs_tasks_succeeded_total", 1.0),
        ("bbs_tasks_failed_total", 1.0),
        ("bbs_requests_in_flight", 0.0),
    ] {
        until(name, || f.metric(name) == Some(wanted)).await;
    }
    assert_eq!(f.metric("bbs_request_count_total"), Some(requests + 8.0));
    assert_eq!(
        f.metric("bbs_request_latency_seconds_count"),
        Some(requests + 8.0)
    );
    assert!(f.metric("bbs_db_queries_succeeded_total") > Some(0.0));
    assert_eq!(f.metric("bbs_db_queries_failed_total"), Some(0.0));
    f.finish().await;
}
