//! One wrong row of one tenant beside the rows of others: the loops skip it and continue.

use crate::fixture::*;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

const SYNC: Duration = Duration::from_millis(200);

/// Returns whether the sync continues to mark a domain fresh.
async fn is_kept_fresh(f: &Foundation, domain: &str) -> bool {
    f.bbs.upsert_domain(domain, 1).await.unwrap();
    // The domain lives for one second, so that only a renewal keeps it fresh for longer.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    f.bbs.domains().await.unwrap().contains(&domain.to_owned())
}

/// Waits until the sync keeps a domain fresh, or until it does so no more. A pass of the sync may be late, and it may have begun
/// before the last change, so one look proves nothing.
async fn freshness_becomes(f: &Foundation, domain: &str, wanted: bool) {
    for _ in 0..10 {
        if is_kept_fresh(f, domain).await == wanted {
            return;
        }
    }
    panic!("{domain} must be kept fresh: {wanted}");
}

async fn lose_lrp(f: &Foundation, app: &str) {
    let lrp = f.lrps(app).await.remove(0).process_guid;
    f.bbs.remove_desired_lrp(&lrp).await.unwrap();
}

/// Checks that the sync repairs the LRP of another tenant.
async fn repairs(f: &Foundation, app: &str) {
    lose_lrp(f, app).await;
    wait_for("the LRP of another tenant", async || {
        (!f.lrps(app).await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_cannot_be_read_stops_nobody_else() {
    let f = Foundation::start_syncing(SYNC).await;
    let (bad, good) = (f.started_app("bad").await, f.started_app("good").await);
    freshness_becomes(&f, "cf-apps", true).await;
    let changed = f
        .sql("UPDATE processes SET health_check = '{' WHERE guid = (SELECT guid FROM apps WHERE name = 'bad')")
        .await;
    assert_eq!(changed, 1);
    repairs(&f, &good).await;
    assert_eq!(f.lrps(&bad).await.len(), 1, "what runs of it stays");
    // The BBS has all of it.
    freshness_becomes(&f, "cf-apps", true).await;

    // The BBS loses the LRP while an instance may run. In a fresh domain, an instance that nobody wants would be retired.
    let lrp = f.lrps(&bad).await.remove(0).process_guid;
    f.run_instance(&lrp, 0).await;
    lose_lrp(&f, &bad).await;
    freshness_becomes(&f, "cf-apps", false).await;
    repairs(&f, &good).await;
    f.sql("UPDATE processes SET health_check = '{\"type\":\"port\"}' WHERE health_check = '{'")
        .await;
    repairs_by_itself(&f, &bad).await;
    freshness_becomes(&f, "cf-apps", true).await;
    f.finish().await;
}

async fn repairs_by_itself(f: &Foundation, app: &str) {
    wait_for("the LRP of the mended row", async || {
        (f.lrps(app).await.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_the_bbs_never_had_does_not_prevent_freshness() {
    let f = Foundation::start_syncing(SYNC).await;
    let good = f.started_app("good").await;
    let bad = f.create_app("bad").await;
    let changed = f
        .sql("UPDATE apps SET droplet_guid = (SELECT guid FROM droplets), state = 'STARTED', environment = '{' WHERE name = 'bad'")
        .await;
    assert_eq!(changed, 1);
    repairs(&f, &good).await;
    assert!(f.lrps(&bad).await.is_empty());
    freshness_becomes(&f, "cf-apps", true).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_without_a_droplet_fails_and_the_next_runs() {
    let f = Foundation::start_syncing(SYNC).await;
    let app = f.started_app("app").await;
    let task = async |name: &str| {
        let body = json!({ "name": name, "command": "true" });
        let task = f
            .send(Method::POST, &format!("/v3/apps/{app}/tasks"), body)
            .await;
        task["guid"].as_str().unwrap().to_owned()
    };
    let (lost, unreadable, good) = (
        task("lost").await,
        task("unreadable").await,
        task("good").await,
    );
    for guid in [&lost, &unreadable, &good] {
        f.bbs.cancel_task(guid).await.unwrap();
        wait_for("the end of the task in the BBS", async || {
            f.bbs.task(guid).await.err().map(drop)
        })
        .await;
    }
    f.sql("UPDATE tasks SET droplet_guid = 'nobody' WHERE name = 'lost'")
        .await;
    f.sql("UPDATE tasks SET metadata = '{' WHERE name = 'unreadable'")
        .await;
    f.sql("UPDATE tasks SET state = 'PENDING'").await;
    wait_for("the good task", async || f.bbs.task(&good).await.ok()).await;
    let failed = wait_for("the failure of the task without a droplet", async || {
        let task = f.get(&format!("/v3/tasks/{lost}")).await;
        (task["state"] == "FAILED").then_some(task)
    })
    .await;
    assert_eq!(
        failed["result"]["failure_reason"],
        "the task's droplet does not exist any more"
    );
    freshness_becomes(&f, "cf-tasks", true).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_without_its_package_fails() {
    let f = Foundation::start_syncing(SYNC).await;
    let app = f.started_app("app").await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_micros();
    f.sql(&format!("INSERT INTO builds (guid, created_at, updated_at, app_guid, package_guid, droplet_guid, state, error, buildpacks, stack, memory_in_mb, disk_in_mb, created_by_guid, created_by_name, metadata) SELECT 'lost', {now}, 0, app_guid, 'nobody', guid, 'STAGING', NULL, '[]', 'cflinuxfs4', 64, 64, '', '', metadata FROM droplets LIMIT 1"))
        .await;
    let build = wait_for("the failure of the build", async || {
        let build = f.get("/v3/builds/lost").await;
        (build["state"] == "FAILED").then_some(build)
    })
    .await;
    assert_eq!(
        build["error"],
        "StagingError - Staging error: the build's package does not exist any more"
    );
    repairs(&f, &app).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_security_group_that_is_wrong_allows_nothing_and_stops_nobody() {
    let f = Foundation::start_syncing(SYNC).await;
    let app = f.started_app("app").await;
    let rules = f.lrps(&app).await.remove(0).egress_rules.len();
    assert!(rules > 2);
    f.sql("UPDATE security_groups SET rules = '[{\"protocol\": \"sctp\"}]' WHERE name = 'public_networks'")
        .await;
    repairs(&f, &app).await;
    assert_eq!(f.lrps(&app).await.remove(0).egress_rules.len(), 2, "dns");
    f.sql("UPDATE security_groups SET rules = '[' WHERE name = 'dns'")
        .await;
    repairs(&f, &app).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_without_its_process_ends_and_unknown_tasks_are_cancelled() {
    let f = Foundation::start_syncing(SYNC).await;
    let app = f.started_app("app").await;
    let body = json!({ "relationships": { "app": { "data": { "guid": app } } } });
    let deployment = f.send(Method::POST, "/v3/deployments", body).await;
    let path = format!("/v3/deployments/{}", deployment["guid"].as_str().unwrap());
    f.sql("DELETE FROM processes WHERE guid <> app_guid").await;
    let ended = wait_for("the end of the deployment", async || {
        let deployment = f.get(&path).await;
        (deployment["status"]["value"] == "FINALIZED").then_some(deployment)
    })
    .await;
    assert_eq!(
        ended["status"]["details"]["error"],
        "the deploying process does not exist any more"
    );

    let task = f
        .send(
            Method::POST,
            &format!("/v3/apps/{app}/tasks"),
            json!({ "command": "sleep 1000" }),
        )
        .await;
    let task = task["guid"].as_str().unwrap().to_owned();
    assert_eq!(f.bbs.task(&task).await.unwrap().task_guid, task);
    f.delete(&format!("/v3/apps/{app}")).await;
    wait_for("the end of the deleted app's task", async || {
        f.bbs.task(&task).await.err().map(drop)
    })
    .await;
    f.finish().await;
}
