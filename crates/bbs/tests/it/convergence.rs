//! Tests of convergence: lost cells, new cells, and stale rows.

use crate::fixture::{Foundation, Request, desired, key, on, start};
use testkit::wait::wait_for;
use wire::bbs as m;
use wire::locket::{Resource, TypeCode};

fn presence(cell: &str, rep_url: &str) -> Resource {
    let value = m::CellPresence {
        cell_id: cell.into(),
        rep_url: rep_url.into(),
        ..Default::default()
    }
    .to_locket_value();
    Resource {
        key: cell.into(),
        owner: cell.into(),
        value,
        type_name: "presence".into(),
        type_code: TypeCode::Presence as i32,
    }
}

#[tokio::test]
async fn a_dead_cell_is_replaced_and_forgiven() {
    let mut f = Foundation::start().await;
    f.bbs.desire_lrp(desired("p", 1)).await.unwrap();
    f.auction().await;
    let lease = async |f: &Foundation, seconds: u64| {
        let presence = presence("cell-1", &f.peer_url);
        let ttl = std::time::Duration::from_secs(seconds);
        f.locket.lock(presence, ttl).await.unwrap();
    };
    lease(&f, 600).await;
    f.wait_for_cells(&["cell-1"]).await;
    f.bbs
        .start(&start("p", 0, &on("a", "cell-1")))
        .await
        .unwrap();
    let mut events = f.bbs.instance_events("").await.unwrap();
    // This is the last renewal, so the presence expires after a second.
    lease(&f, 1).await;
    assert_eq!(
        f.auction().await,
        [("p".to_owned(), vec![0])],
        "requested at once when the presence expires"
    );
    assert_eq!(
        f.rows("p").await,
        ["0 Ordinary UNCLAIMED", "0 Suspect RUNNING a"]
    );
    assert_eq!(
        events.next().await.unwrap().name(),
        "actual_lrp_instance_changed",
        "still routable: no removal"
    );
    assert_eq!(
        events.next().await.unwrap().name(),
        "actual_lrp_instance_created"
    );

    let (_gone, _keeper) = f.cell("cell-1").await;
    wait_for("the suspect to be restored", async || {
        f.rows("p").await == ["0 Ordinary RUNNING a"]
    })
    .await;
    f.finish().await;
}

#[tokio::test]
async fn a_cell_that_releases_its_presence_is_held() {
    let f = Foundation::start().await;
    let (gone, keeper) = f.cell("cell-1").await;
    f.bbs.desire_lrp(desired("p", 1)).await.unwrap();
    f.bbs
        .start(&start("p", 0, &on("a", "cell-1")))
        .await
        .unwrap();
    gone.cancel();
    keeper.await.unwrap();
    wait_for("the cell to be gone", async || {
        f.bbs.cells().await.unwrap().is_empty()
    })
    .await;
    let (_gone, _keeper) = f.cell("cell-1").await;
    assert_eq!(f.rows("p").await, ["0 Ordinary RUNNING a"]);
    f.finish().await;
}

#[tokio::test]
async fn unplaced_work_is_auctioned_again_when_a_cell_appears() {
    let mut f = Foundation::start().await;
    f.bbs.desire_lrp(desired("p", 1)).await.unwrap();
    f.auction().await;
    f.bbs
        .fail(&m::FailActualLrpRequest {
            key: Some(key("p", 0)),
            error_message: "found no compatible cell for required rootfs".into(),
        })
        .await
        .unwrap();
    let (_gone, _keeper) = f.cell("cell-1").await;
    assert_eq!(f.auction().await, [("p".to_owned(), vec![0])]);
    f.finish().await;
}

#[tokio::test]
async fn only_fresh_domains_lose_rows_that_are_not_desired() {
    let mut f = Foundation::start().await;
    let (_gone, _keeper) = f.cell("cell-1").await;
    f.bbs
        .start(&start("orphan", 0, &on("a", "cell-1")))
        .await
        .unwrap();
    f.bbs.desire_lrp(desired("p", 1)).await.unwrap();
    f.auction().await;
    let (_gone, _keeper) = f.cell("cell-2").await;
    assert_eq!(
        f.rows("orphan").await,
        ["0 Ordinary RUNNING a"],
        "the pass that cell-2 caused left it alone"
    );
    f.bbs.upsert_domain("cf-apps", 120).await.unwrap();
    let (_gone, _keeper) = f.cell("cell-3").await;
    assert_eq!(f.next_request().await, Request::Stop("a".into()));
    f.finish().await;
}

#[tokio::test]
async fn the_last_pass_can_be_read() {
    let f = Foundation::start().await;
    wait_for("the first pass", async || f.last_convergence().is_some()).await;
    let first = f.last_convergence().unwrap();
    assert_eq!(first.error, None);
    assert!(first.changed.is_empty(), "there is nothing to change");
    // A new cell wakes convergence.
    let (_cell, _keeper) = f.cell("cell-1").await;
    wait_for("another pass", async || {
        f.last_convergence().unwrap().began > first.began
    })
    .await;
    f.finish().await;
}
