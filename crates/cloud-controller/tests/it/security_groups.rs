//! Security groups and running instances.

use crate::fixture::{Foundation, wait_for, zip};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Returns which of the addresses that this test uses the app's instances may reach.
async fn reaches(f: &Foundation, app: &str) -> Vec<String> {
    let lrp = f.lrps(app).await.remove(0);
    let rules = lrp.egress_rules.into_iter();
    ours(rules.flat_map(|rule| rule.destinations))
}

fn ours(destinations: impl Iterator<Item = String>) -> Vec<String> {
    destinations
        .filter(|destination| destination.starts_with("198.51.100."))
        .collect()
}

/// Waits until the task of the BBS may reach exactly these addresses.
async fn task_reaches(f: &Foundation, task: &str, wanted: &[&str]) {
    wait_for(&format!("{task} to reach {wanted:?}"), async || {
        let task = f.bbs.task(task).await.unwrap();
        let rules = task.task_definition.unwrap().egress_rules;
        let is = ours(rules.into_iter().flat_map(|rule| rule.destinations));
        (is == wanted).then_some(())
    })
    .await;
}

async fn version(f: &Foundation, app: &str) -> u32 {
    let lrp = f.lrps(app).await.remove(0);
    lrp.modification_tag.unwrap().index
}

fn rules(last: u8) -> Value {
    json!([{ "protocol": "tcp", "destination": format!("198.51.100.{last}"), "ports": "443" }])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_reaches_the_apps_that_run() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let process = f.lrps(&app).await.remove(0).process_guid;
    let group = f
        .send(
            Method::POST,
            "/v3/security_groups",
            json!({ "name": "g", "rules": rules(1) }),
        )
        .await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v3/security_groups/{group}");
    let patch = async |body: Value| drop(f.send(Method::PATCH, &path, body).await);
    let bind = async |phase: &str| {
        let body = json!({ "data": [{ "guid": f.space }] });
        let path = format!("{path}/relationships/{phase}_spaces");
        drop(f.send(Method::POST, &path, body).await);
    };
    let unbind = async |phase: &str| {
        f.delete(&format!("{path}/relationships/{phase}_spaces/{}", f.space))
            .await;
    };
    let before = version(&f, &app).await;
    bind("staging").await;
    unbind("staging").await;
    assert_eq!(
        version(&f, &app).await,
        before,
        "staging concerns no instance"
    );

    assert!(reaches(&f, &app).await.is_empty());
    bind("running").await;
    assert_eq!(reaches(&f, &app).await, ["198.51.100.1"]);
    patch(json!({ "rules": rules(2) })).await;
    assert_eq!(reaches(&f, &app).await, ["198.51.100.2"]);
    unbind("running").await;
    assert!(reaches(&f, &app).await.is_empty());
    patch(json!({ "globally_enabled": { "running": true } })).await;
    assert_eq!(reaches(&f, &app).await, ["198.51.100.2"]);
    patch(json!({ "globally_enabled": { "running": false } })).await;
    assert!(reaches(&f, &app).await.is_empty());
    bind("running").await;
    assert_eq!(reaches(&f, &app).await, ["198.51.100.2"]);
    f.delete(&path).await;
    assert!(reaches(&f, &app).await.is_empty());

    let global =
        json!({ "name": "all", "rules": rules(3), "globally_enabled": { "running": true } });
    let global = f.send(Method::POST, "/v3/security_groups", global).await;
    assert_eq!(reaches(&f, &app).await, ["198.51.100.3"]);
    f.delete(&format!(
        "/v3/security_groups/{}",
        global["guid"].as_str().unwrap()
    ))
    .await;
    let bound = json!({
        "name": "bound", "rules": rules(4), "relationships": { "running_spaces": { "data": [{ "guid": f.space }] } },
    });
    f.send(Method::POST, "/v3/security_groups", bound).await;
    assert_eq!(reaches(&f, &app).await, ["198.51.100.4"]);
    assert_eq!(
        f.lrps(&app).await.remove(0).process_guid,
        process,
        "no instance was restarted for it"
    );
    f.finish().await;
}

/// The sync's interval is longer than the test, so that only a change wakes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_reaches_tasks_and_builds_that_run() {
    let f = Foundation::start_syncing(Duration::from_secs(600)).await;
    let app = f.started_app("app").await;
    let body = json!({ "command": "sleep 60" });
    let task = f
        .send(Method::POST, &format!("/v3/apps/{app}/tasks"), body)
        .await;
    let task = task["guid"].as_str().unwrap();
    let package = f.package(&app, zip("run", "#!/bin/sh")).await;
    let package = package.as_str();
    let body = json!({ "package": { "guid": package } });
    let build = f.send(Method::POST, "/v3/builds", body).await;
    let build = build["guid"].as_str().unwrap();

    let body = json!({ "name": "g", "rules": rules(1), "globally_enabled": { "running": true } });
    let group = f.send(Method::POST, "/v3/security_groups", body).await;
    let path = format!("/v3/security_groups/{}", group["guid"].as_str().unwrap());
    let patch = async |body: Value| drop(f.send(Method::PATCH, &path, body).await);
    task_reaches(&f, task, &["198.51.100.1"]).await;
    task_reaches(&f, build, &[]).await;
    patch(json!({ "globally_enabled": { "running": false, "staging": true } })).await;
    task_reaches(&f, task, &[]).await;
    task_reaches(&f, build, &["198.51.100.1"]).await;
    patch(json!({ "rules": rules(2) })).await;
    task_reaches(&f, build, &["198.51.100.2"]).await;
    patch(json!({ "globally_enabled": { "staging": false } })).await;
    task_reaches(&f, build, &[]).await;
    let bind = json!({ "data": [{ "guid": f.space }] });
    for (phase, guid) in [("running", task), ("staging", build)] {
        let bound = format!("{path}/relationships/{phase}_spaces");
        f.send(Method::POST, &bound, bind.clone()).await;
        task_reaches(&f, guid, &["198.51.100.2"]).await;
        f.delete(&format!("{bound}/{}", f.space)).await;
        task_reaches(&f, guid, &[]).await;
        f.send(Method::POST, &bound, bind.clone()).await;
        task_reaches(&f, guid, &["198.51.100.2"]).await;
    }
    f.delete(&path).await;
    task_reaches(&f, task, &[]).await;
    task_reaches(&f, build, &[]).await;
    f.finish().await;
}
