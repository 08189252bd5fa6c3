//! Apps, and what Diego gets of them.

use crate::fixture::*;
use reqwest::Method;
use serde_json::json;
use wire::bbs as m;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_scale_restart_stop_delete() {
    let f = Foundation::start().await;
    let idle = f.create_app("idle").await;
    let (status, body) = f
        .call(
            Method::POST,
            &format!("/v3/apps/{idle}/actions/start"),
            None,
        )
        .await;
    assert_eq!(
        (status, detail(&body)),
        (422, "Assign a droplet before starting this app.")
    );
    let (status, body) = f.call(Method::POST, "/v3/apps", Some(json!({ "name": "idle", "relationships": { "space": { "data": { "guid": f.space } } } }))).await;
    assert_eq!(
        (status, detail(&body)),
        (422, "App with the name 'idle' already exists.")
    );

    let app = f.started_app("app").await;
    let first = f.lrps(&app).await.remove(0);
    assert_eq!(
        (first.instances, first.memory_mb, first.root_fs.as_str()),
        (1, 256, "preloaded:cflinuxfs4")
    );
    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/processes/web/actions/scale"),
        json!({ "instances": 3 }),
    )
    .await;
    assert_eq!(f.lrps(&app).await[0].instances, 3);
    f.send(
        Method::PATCH,
        &format!("/v3/apps/{app}/environment_variables"),
        json!({ "var": { "A": "1", "B": null } }),
    )
    .await;
    assert_eq!(
        f.get(&format!("/v3/apps/{app}/env")).await["environment_variables"],
        json!({ "A": "1" })
    );
    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/actions/restart"),
        json!({}),
    )
    .await;
    let second = f.lrps(&app).await;
    assert_eq!(second.len(), 1);
    assert_ne!(second[0].process_guid, first.process_guid);
    assert!(format!("{:?}", second[0].action).contains("\"A\""));

    f.send(
        Method::PATCH,
        &format!("/v3/processes/{app}"),
        json!({ "health_check": { "type": "http", "data": { "endpoint": "/ok" } } }),
    )
    .await;
    let third = f.lrps(&app).await;
    assert_eq!(
        third[0].process_guid, second[0].process_guid,
        "a check waits for the next restart"
    );
    assert_eq!(third[0].check_definition, second[0].check_definition);

    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/actions/stop"),
        json!({}),
    )
    .await;
    assert_eq!(f.lrps(&app).await.len(), 0);
    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/actions/start"),
        json!({}),
    )
    .await;
    let fourth = f.lrps(&app).await;
    assert_eq!(fourth.len(), 1);
    assert!(format!("{:?}", fourth[0].check_definition).contains("/ok"));
    f.delete(&format!("/v3/apps/{app}")).await;
    assert_eq!(f.lrps(&app).await.len(), 0);
    assert_eq!(
        f.call(Method::GET, &format!("/v3/apps/{app}"), None)
            .await
            .0,
        404
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stats_and_crashes_come_from_the_bbs() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let lrp = f.lrps(&app).await.remove(0);
    wait_for("the actual LRP", async || {
        f.get(&format!("/v3/processes/{app}/stats")).await["resources"][0]["state"]
            .as_str()
            .filter(|state| *state == "STARTING")
            .map(drop)
    })
    .await;
    let (key, instance) = f.run_instance(&lrp.process_guid, 0).await;
    let stats = f.get(&format!("/v3/processes/{app}/stats")).await["resources"][0].clone();
    assert_eq!(
        (
            stats["state"].as_str(),
            stats["host"].as_str(),
            stats["routable"].as_bool()
        ),
        (Some("RUNNING"), Some("10.0.0.1"), Some(true))
    );
    assert_eq!(
        stats["instance_ports"][0],
        json!({ "external": 61001, "internal": 8080, "external_tls_proxy_port": 61003, "internal_tls_proxy_port": 61001 })
    );
    let embedded = f
        .get(&format!(
            "/v3/processes?space_guids={}&embed=process_instances",
            f.space
        ))
        .await;
    assert_eq!(
        embedded["resources"][0]["process_instances"][0]["state"],
        "RUNNING"
    );
    assert_eq!(
        f.get(&format!("/v2/apps/{app}/stats")).await["0"]["cell_id"],
        "cell-1"
    );

    let crash = m::CrashActualLrpRequest {
        key: Some(key),
        instance_key: Some(instance),
        error_message: "APP/PROC/WEB: Exited with status 1".to_owned(),
    };
    // The watcher may not have subscribed yet: crash until the event is there.
    let event = wait_for("the crash event", async || {
        if f.bbs.crash(&crash).await.is_err() {
            f.run_instance(&lrp.process_guid, 0).await;
        }
        let events = f.get(&format!("/v3/audit_events?target_guids={app}&types=audit.app.process.crash&order_by=-created_at&page=1")).await;
        events["resources"].get(0).cloned()
    })
    .await;
    assert_eq!(
        (
            event["data"]["reason"].as_str(),
            event["data"]["exit_description"].as_str()
        ),
        (Some("CRASHED"), Some("APP/PROC/WEB: Exited with status 1"))
    );
    assert_eq!(
        (
            event["data"]["index"].as_i64(),
            event["data"]["cell_id"].as_str()
        ),
        (Some(0), Some("cell-1"))
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_finds_nothing_desires_again() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let lrp = f.lrps(&app).await.remove(0);
    f.bbs.remove_desired_lrp(&lrp.process_guid).await.unwrap();
    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/processes/web/actions/scale"),
        json!({ "instances": 2 }),
    )
    .await;
    assert_eq!(f.lrps(&app).await[0].instances, 2);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sync_repairs_what_diego_lost_and_removes_what_nobody_wants() {
    let f = Foundation::start_syncing(std::time::Duration::from_millis(100)).await;
    let app = f.started_app("app").await;
    wait_for("a fresh domain", async || {
        f.bbs
            .domains()
            .await
            .unwrap()
            .contains(&"cf-apps".to_owned())
            .then_some(())
    })
    .await;
    let lrp = f.lrps(&app).await.remove(0);
    let surplus = m::DesiredLrp {
        process_guid: lrp
            .process_guid
            .replace(&app, "00000000-0000-0000-0000-000000000000"),
        log_guid: "nobody".to_owned(),
        ..lrp.clone()
    };
    f.bbs.desire_lrp(surplus).await.unwrap();
    f.bbs.remove_desired_lrp(&lrp.process_guid).await.unwrap();
    wait_for("the lost LRP", async || f.lrps(&app).await.pop()).await;
    wait_for("the end of the surplus LRP", async || {
        f.lrps("nobody").await.is_empty().then_some(())
    })
    .await;
    let old = m::DesiredLrpUpdate {
        annotation: Some("1.0".to_owned()),
        instances: Some(7),
        ..m::DesiredLrpUpdate::default()
    };
    f.bbs
        .update_desired_lrp(&lrp.process_guid, old)
        .await
        .unwrap();
    wait_for("one instance again", async || {
        (f.lrps(&app).await[0].instances == 1).then_some(())
    })
    .await;
    wait_for("a sync without an error", async || {
        f.last_sync().filter(|pass| pass.error.is_none())
    })
    .await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_deployment_swaps_the_web_process() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let old = f.lrps(&app).await.remove(0).process_guid;
    f.run_instance(&old, 0).await;
    let deployment = f
        .send(
            Method::POST,
            "/v3/deployments",
            json!({ "relationships": { "app": { "data": { "guid": app } } } }),
        )
        .await;
    assert_eq!(deployment["status"]["value"], "ACTIVE");
    let guid = deployment["guid"].as_str().unwrap();
    let new = wait_for("two LRPs", async || {
        f.lrps(&app)
            .await
            .into_iter()
            .find(|lrp| lrp.process_guid != old)
    })
    .await
    .process_guid;
    assert_eq!(f.lrps(&app).await.len(), 2);
    wait_for("the actual LRP", async || {
        f.bbs
            .actual_lrps_by_process_guids(vec![new.clone()])
            .await
            .unwrap()
            .pop()
    })
    .await;
    f.run_instance(&new, 0).await;
    wait_for("the end", async || {
        (f.get(&format!("/v3/deployments/{guid}")).await["status"]["reason"] == "DEPLOYED")
            .then_some(())
    })
    .await;
    let left = wait_for("one LRP", async || {
        Some(f.lrps(&app).await).filter(|lrps| lrps.len() == 1)
    })
    .await;
    assert_eq!(left[0].process_guid, new);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_deployment_scales_too_and_its_cancellation_scales_back() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let old = f.lrps(&app).await.remove(0).process_guid;
    f.run_instance(&old, 0).await;
    // The body is the one that `cf push --strategy rolling -i 3 -m 96M -k 32M` sends.
    let body = json!({
        "strategy": "rolling",
        "options": { "max_in_flight": 2, "web_instances": 3, "memory_in_mb": 96, "disk_in_mb": 32 },
        "relationships": { "app": { "data": { "guid": app } } },
    });
    let deployment = f.send(Method::POST, "/v3/deployments", body).await;
    assert_eq!(deployment["options"]["web_instances"], 3);
    assert_eq!(deployment["options"]["memory_in_mb"], 96);
    let new = wait_for("the new LRP", async || {
        let lrps = f.lrps(&app).await;
        lrps.into_iter().find(|lrp| lrp.process_guid != old)
    })
    .await;
    let size = (new.instances, new.memory_mb, new.disk_mb);
    assert_eq!(size, (2, 96, 32));
    let guid = deployment["guid"].as_str().unwrap();
    let cancel = format!("/v3/deployments/{guid}/actions/cancel");
    f.send(Method::POST, &cancel, json!({})).await;
    let left = wait_for("one LRP", async || {
        Some(f.lrps(&app).await).filter(|lrps| lrps.len() == 1)
    })
    .await;
    assert_eq!(
        (left[0].process_guid.as_str(), left[0].instances),
        (old.as_str(), 1)
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tags_of_logs_follow_a_rename() {
    let f = Foundation::start().await;
    let app = f.started_app("before").await;
    for (path, name, tag) in [
        (format!("/v3/apps/{app}"), "after", "app_name"),
        (format!("/v3/spaces/{}", f.space), "room", "space_name"),
        (
            format!("/v3/organizations/{}", f.organization),
            "firm",
            "organization_name",
        ),
    ] {
        f.send(Method::PATCH, &path, json!({ "name": name })).await;
        wait_for(&format!("the tag {tag}"), async || {
            let lrp = f.lrps(&app).await.pop()?;
            (lrp.metric_tags.get(tag)?.static_value == name).then_some(())
        })
        .await;
    }
    f.finish().await;
}

/// `cf apps` counts the instances: `web:0/1`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_process_has_its_instances_down() {
    let f = Foundation::start().await;
    let app = f.create_app("app").await;
    let embedded = f
        .get(&format!(
            "/v3/processes?app_guids={app}&embed=process_instances"
        ))
        .await;
    let instances = embedded["resources"][0]["process_instances"].clone();
    assert_eq!(
        instances,
        json!([{ "index": 0, "state": "DOWN", "since": 0 }])
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_are_stored_sealed_and_return() {
    let mut f = Foundation::start().await;
    let app = f.create_app("app").await;
    let path = format!("/v3/apps/{app}/environment_variables");
    let set = json!({ "var": { "B": "s3cret-of-the-test", "A": "1" } });
    f.send(Method::PATCH, &path, set).await;
    let change = json!({ "var": { "A": null } });
    f.send(Method::PATCH, &path, change).await;
    let wanted = json!({ "B": "s3cret-of-the-test" });
    assert_eq!(f.get(&path).await["var"], wanted);
    if !postgres::is_chosen() {
        let stored: String = sqlite::value(&f.database(), "SELECT environment FROM apps");
        assert!(stored.starts_with("v1."), "{stored}");
        assert!(!stored.contains("s3cret"), "{stored}");
    }
    // An older version stored them in clear; the next start seals them.
    f.restart(async |_| {}).await;
    assert_eq!(f.get(&path).await["var"], wanted);
    let clear = format!("UPDATE apps SET environment = '{{\"C\":\"2\"}}' WHERE guid = '{app}'");
    assert_eq!(f.sql(&clear).await, 1);
    f.restart(async |_| {}).await;
    assert_eq!(f.get(&path).await["var"], json!({ "C": "2" }));
    f.finish().await;
}
