//! Tests of where instances and tasks are placed, and of what is reported when they cannot be.

use crate::fixture::{Foundation, cell, constraint, lrp, placements};
use clients::request_id;
use wire::bbs as m;
use wire::rep::{CellState, PlacementConstraint, Task};

#[tokio::test]
async fn instances_and_tasks_reach_cells() {
    let evacuating = (
        CellState {
            evacuating: true,
            ..cell("leaving", "z0", 9000).0
        },
        true,
    );
    let unhealthy = (cell("ill", "z0", 9000).0, false);
    let foundation = Foundation::start(&[
        cell("a", "z1", 1000),
        cell("b", "z2", 1000),
        evacuating,
        unhealthy,
    ])
    .await;
    // A cell that answers a second later than another one is left out, so a busy machine may need several auctions.
    let wanted = [("a".to_owned(), 0), ("b".to_owned(), 1)];
    let mut placed = Vec::new();
    for round in 0..5 {
        let process = format!("p{round}");
        foundation
            .client
            .request_lrp_auctions(&[lrp(&process, &[0, 1], 100)])
            .await
            .unwrap();
        placed = foundation
            .until("two instances at cells", |peers| {
                Some(placements(peers, &process)).filter(|placed| placed.len() == 2)
            })
            .await;
        if placed == wanted {
            break;
        }
    }
    assert_eq!(placed, wanted);
    foundation
        .client
        .request_task_auctions(&[Task {
            task_guid: "t".into(),
            constraint: constraint(),
            ..Default::default()
        }])
        .await
        .unwrap();
    let task = foundation
        .until("the task at a cell", |peers| {
            peers
                .work
                .iter()
                .find_map(|work| work.tasks.first().cloned())
        })
        .await;
    assert_eq!(task.task_guid, "t");
    assert!(foundation.peers.lock().unwrap().failed.is_empty());
    foundation.stop().await;
}

#[tokio::test]
async fn work_without_room_is_reported() {
    let foundation = Foundation::start(&[cell("a", "z1", 100)]).await;
    foundation
        .client
        .request_lrp_auctions(&[lrp("big", &[3], 500)])
        .await
        .unwrap();
    let failed = foundation.failure().await;
    assert_eq!(
        failed.error_message,
        "insufficient resources: memory (no cell is that large)"
    );
    assert_eq!(
        failed.key,
        Some(m::ActualLrpKey {
            process_guid: "big".into(),
            index: 3,
            domain: "cf-apps".into()
        })
    );
    let constraint = PlacementConstraint {
        root_fs: "preloaded:other".into(),
        ..Default::default()
    };
    foundation
        .client
        .request_task_auctions(&[Task {
            task_guid: "t".into(),
            constraint,
            ..Default::default()
        }])
        .await
        .unwrap();
    let rejected = foundation
        .until("the task's rejection", |peers| {
            peers.rejected.first().cloned()
        })
        .await;
    assert_eq!(
        (
            rejected.task_guid.as_str(),
            rejected.rejection_reason.as_str()
        ),
        ("t", "found no compatible cell for required rootfs")
    );
    foundation.stop().await;
}

#[tokio::test]
async fn a_missing_cell_is_named_in_the_error() {
    let foundation = Foundation::start(&[]).await;
    foundation
        .client
        .request_lrp_auctions(&[lrp("p", &[0], 1)])
        .await
        .unwrap();
    assert_eq!(
        foundation.failure().await.error_message,
        "unable to communicate to compatible cells"
    );
    foundation.stop().await;
}

#[tokio::test]
async fn refused_work_is_auctioned_once_more() {
    let foundation = Foundation::start(&[cell("a", "z1", 1000)]).await;
    foundation.peers.lock().unwrap().refusing.push("a".into());
    foundation
        .client
        .request_lrp_auctions(&[lrp("p", &[0], 1)])
        .await
        .unwrap();
    let failed = foundation.failure().await;
    assert_eq!(
        failed.error_message,
        "insufficient resources: cell a refused the work"
    );
    assert_eq!(foundation.peers.lock().unwrap().work.len(), 2);
    foundation.stop().await;
}

#[tokio::test]
async fn a_cell_gets_the_id_of_the_request_with_its_work() {
    let f = Foundation::start(&[cell("a", "z1", 1000)]).await;
    let requests = [lrp("p", &[0], 100)];
    let request = f.client.request_lrp_auctions(&requests);
    request_id::scope("request-1".into(), request)
        .await
        .unwrap();
    let ids = f
        .until("the work", |peers| {
            (!peers.work.is_empty()).then(|| peers.request_ids.clone())
        })
        .await;
    assert_eq!(ids, ["request-1"]);
    f.stop().await;
}
