//! Usage events, copies of bits, and collections that are empty.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};

/// Returns the usage events after one of them, as `state/previous instances/previous memory/previous`.
async fn usage(f: &Foundation, after: Option<&str>) -> (Vec<String>, Vec<Value>) {
    let filter = after.map_or_else(String::new, |guid| format!("&after_guid={guid}"));
    let list = f
        .get(&format!("/v3/app_usage_events?per_page=100{filter}"))
        .await;
    let events = list["resources"].as_array().unwrap().clone();
    let pair = |value: &Value| format!("{}/{}", value["current"], value["previous"]);
    let texts = events.iter().map(|event| {
        let state = pair(&event["state"]).replace('"', "");
        format!(
            "{state} {} {}",
            pair(&event["instance_count"]),
            pair(&event["memory_in_mb_per_instance"])
        )
    });
    (texts.collect(), events)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_changes_the_use_writes_an_event() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let (texts, events) = usage(&f, None).await;
    assert_eq!(texts, ["STARTED/STOPPED 1/1 256/256"]);
    let first = &events[0];
    assert_eq!(
        (&first["app"], &first["process"], &first["space"]["name"]),
        (
            &json!({ "guid": app, "name": "app" }),
            &json!({ "guid": app, "type": "web" }),
            &json!("dev")
        )
    );
    let first = first["guid"].as_str().unwrap();
    assert_eq!(
        f.get(&format!("/v3/app_usage_events/{first}")).await["guid"],
        first
    );
    let scale = format!("/v3/apps/{app}/processes/web/actions/scale");
    f.send(Method::POST, &scale, json!({ "instances": 3 }))
        .await;
    f.send(Method::POST, &scale, json!({ "memory_in_mb": 64 }))
        .await;
    f.send(Method::POST, &scale, json!({ "disk_in_mb": 64 }))
        .await;
    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/actions/stop"),
        json!({}),
    )
    .await;
    f.send(Method::POST, &scale, json!({ "instances": 1 }))
        .await;
    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/actions/start"),
        json!({}),
    )
    .await;
    f.delete(&format!("/v3/apps/{app}")).await;
    assert_eq!(
        usage(&f, Some(first)).await.0,
        [
            "STARTED/STARTED 3/1 256/256",
            "STARTED/STARTED 3/3 64/256",
            "STOPPED/STARTED 3/3 64/64",
            "STARTED/STOPPED 1/1 64/64",
            "STOPPED/STARTED 1/1 64/64",
        ]
    );
    // A manifest and the removal of a space cause events, too.
    let (_, job) = f
        .apply_manifest("applications:\n- name: other\n  memory: 32M\n  instances: 2\n")
        .await;
    assert_eq!(job["state"], "COMPLETE");
    let running = f.started_app("running").await;
    let before = usage(&f, None).await.1.len();
    f.delete(&format!("/v3/spaces/{}", f.space)).await;
    let (texts, events) = usage(&f, None).await;
    assert_eq!(texts[before..], ["STOPPED/STARTED 1/1 256/256"]);
    assert_eq!(events[before]["app"]["guid"], running);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_and_builds_are_used_too() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    let task = f
        .send(
            Method::POST,
            &format!("/v3/apps/{app}/tasks"),
            json!({ "name": "once", "command": "true", "memory_in_mb": 32 }),
        )
        .await;
    let task = task["guid"].as_str().unwrap();
    let (texts, events) = usage(&f, None).await;
    assert_eq!(texts[1..], ["TASK_STARTED/PENDING 1/1 32/32"]);
    assert_eq!(events[1]["task"], json!({ "guid": task, "name": "once" }));
    f.send(
        Method::POST,
        &format!("/v3/tasks/{task}/actions/cancel"),
        json!({}),
    )
    .await;
    wait_for("the event of the task's end", async || {
        let (texts, _) = usage(&f, None).await;
        (texts[2..] == ["TASK_STOPPED/RUNNING 1/1 32/32"]).then_some(())
    })
    .await;

    let package = f.package(&app, zip("run", "#!/bin/sh")).await;
    let package = package.as_str();
    let build = f
        .send(
            Method::POST,
            "/v3/builds",
            json!({ "package": { "guid": package }, "staging_memory_in_mb": 2048 }),
        )
        .await;
    let (texts, events) = usage(&f, None).await;
    assert_eq!(texts[3..], ["STAGING_STARTED/STAGING 1/1 2048/2048"]);
    assert_eq!(events[3]["app"]["guid"], app);
    let build = build["guid"].as_str().unwrap();
    f.bbs.cancel_task(build).await.unwrap();
    wait_for("the event of the staging's end", async || {
        let (texts, _) = usage(&f, None).await;
        (texts[4..] == ["STAGING_STOPPED/STAGING 1/1 2048/2048"]).then_some(())
    })
    .await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_for_those_who_read_everything_and_can_be_purged() {
    let f = Foundation::start().await;
    let app = f.started_app("app").await;
    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/actions/stop"),
        json!({}),
    )
    .await;
    f.started_app("other").await;
    let guid = usage(&f, None).await.1[0]["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let one = format!("/v3/app_usage_events/{guid}");
    let user = token("somebody", USER, 600);
    let (status, list) = f
        .call_as(&user, Method::GET, "/v3/app_usage_events", None)
        .await;
    assert_eq!((status, &list["resources"]), (200, &json!([])));
    assert_eq!(f.call_as(&user, Method::GET, &one, None).await.0, 404);
    let auditor = token(
        "auditor",
        &["cloud_controller.global_auditor", "cloud_controller.read"],
        600,
    );
    assert_eq!(f.call_as(&auditor, Method::GET, &one, None).await.0, 200);
    let (status, body) = f
        .call(Method::GET, "/v3/app_usage_events?after_guid=nobody", None)
        .await;
    assert_eq!(
        (status, detail(&body)),
        (
            422,
            "After guid filter must be a valid app usage event guid."
        )
    );

    for kind in ["app", "service"] {
        let purge = format!("/v3/{kind}_usage_events/actions/destructively_purge_all_and_reseed");
        assert_eq!(f.call_as(&user, Method::POST, &purge, None).await.0, 403);
        assert_eq!(f.call(Method::POST, &purge, None).await, (200, json!({})));
    }
    let (texts, events) = usage(&f, None).await;
    assert_eq!(texts, ["STARTED/STARTED 1/1 256/256"]);
    assert_eq!(events[0]["app"]["name"], "other");
    assert_eq!(
        f.get("/v3/service_usage_events").await["resources"],
        json!([])
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_droplet_runs_and_outlives_its_source() {
    let f = Foundation::start().await;
    let (from, to) = (f.started_app("from").await, f.create_app("to").await);
    let source = f.get(&format!("/v3/apps/{from}/droplets/current")).await;
    let related = json!({ "relationships": { "app": { "data": { "guid": to } } } });
    let copy = f
        .send(
            Method::POST,
            &format!(
                "/v3/droplets?source_guid={}",
                source["guid"].as_str().unwrap()
            ),
            related.clone(),
        )
        .await;
    assert_eq!(copy["state"], "STAGED", "{copy}");
    for field in ["checksum", "process_types", "stack", "buildpacks"] {
        assert_eq!(copy[field], source[field], "{field}");
    }
    assert_ne!(copy["guid"], source["guid"]);
    let download = async |droplet: &Value| {
        let guid = droplet["guid"].as_str().unwrap();
        f.call(Method::GET, &format!("/v3/droplets/{guid}/download"), None)
            .await
    };
    let bits = download(&source).await;
    assert_eq!(bits.0, 200);
    assert_eq!(download(&copy).await, bits);
    f.delete(&format!("/v3/apps/{from}")).await;
    assert_eq!(download(&copy).await, bits);
    f.send(
        Method::PATCH,
        &format!("/v3/apps/{to}/relationships/current_droplet"),
        json!({ "data": { "guid": copy["guid"] } }),
    )
    .await;
    f.send(
        Method::POST,
        &format!("/v3/apps/{to}/actions/start"),
        json!({}),
    )
    .await;
    assert_eq!(f.lrps(&to).await.len(), 1);

    let (status, body) = f
        .call(
            Method::POST,
            "/v3/droplets?source_guid=nobody",
            Some(related.clone()),
        )
        .await;
    assert_eq!((status, detail(&body)), (404, "Droplet not found"));
    let empty = f.send(Method::POST, "/v3/droplets", related.clone()).await;
    let (status, body) = f
        .call(
            Method::POST,
            &format!(
                "/v3/droplets?source_guid={}",
                empty["guid"].as_str().unwrap()
            ),
            Some(related),
        )
        .await;
    assert_eq!(
        (status, detail(&body)),
        (422, "source droplet is not staged")
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_package_has_the_bits() {
    let f = Foundation::start().await;
    let (from, to) = (f.create_app("from").await, f.create_app("to").await);
    let related = |app: &str| json!({ "app": { "data": { "guid": app } } });
    let source = f
        .send(
            Method::POST,
            "/v3/packages",
            json!({ "type": "bits", "relationships": related(&from) }),
        )
        .await;
    let source = source["guid"].as_str().unwrap();
    let path = format!("/v3/packages?source_guid={source}");
    let body = json!({ "relationships": related(&to) });
    assert_eq!(
        f.call(Method::POST, &path, Some(body.clone())).await.0,
        422,
        "there is nothing to copy"
    );
    f.upload(source, zip("run", "#!/bin/sh")).await;
    let copy = f.send(Method::POST, &path, body).await;
    assert_eq!(copy["state"], "READY");
    let uploaded = f.get(&format!("/v3/packages/{source}")).await;
    assert_eq!(copy["data"]["checksum"], uploaded["data"]["checksum"]);
    assert!(copy["data"]["checksum"]["value"].is_string());
    let same = json!({ "relationships": related(&from) });
    let (status, body) = f.call(Method::POST, &path, Some(same)).await;
    assert_eq!(
        (status, detail(&body)),
        (422, "Source and destination app must not be the same.")
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolation_segments_are_refused_by_name() {
    let f = Foundation::start().await;
    let (status, body) = f
        .call(
            Method::POST,
            "/v3/isolation_segments",
            Some(json!({ "name": "mine" })),
        )
        .await;
    assert_eq!(
        (status, detail(&body)),
        (404, "Isolation segments are not supported yet"),
        "the CLI takes 422 for 'exists'"
    );
    let of_organization = format!(
        "/v3/organizations/{}/relationships/default_isolation_segment",
        f.organization
    );
    let of_space = format!("/v3/spaces/{}/relationships/isolation_segment", f.space);
    for path in [of_organization, of_space] {
        let answer = f.send(Method::PATCH, &path, json!({ "data": null })).await;
        assert_eq!(answer["data"], Value::Null);
        let (status, body) = f
            .call(
                Method::PATCH,
                &path,
                Some(json!({ "data": { "guid": "mine" } })),
            )
            .await;
        assert_eq!(status, 422);
        assert!(detail(&body).starts_with("Unable to assign isolation segment"));
    }
    for (method, rest) in [
        (Method::GET, ""),
        (Method::PATCH, ""),
        (Method::DELETE, ""),
        (Method::GET, "/organizations"),
        (Method::POST, "/relationships/organizations"),
        (Method::DELETE, "/relationships/organizations/o"),
        (Method::GET, "/relationships/spaces"),
    ] {
        let path = format!("/v3/isolation_segments/mine{rest}");
        let (status, body) = f.call(method, &path, Some(json!({}))).await;
        assert_eq!(
            (status, detail(&body)),
            (404, "Isolation segment not found"),
            "{path}"
        );
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_link_of_the_root_documents_answers() {
    let f = Foundation::start().await;
    let v3 = f.get("/v3").await;
    for (name, link) in v3["links"].as_object().unwrap() {
        let href = link["href"].as_str().unwrap();
        let path = href.strip_prefix("http://api.test").unwrap();
        if name == "resource_matches" || path.contains('{') {
            continue;
        }
        f.get(path).await;
    }
    let root = f.get("/").await;
    let known = [
        "self",
        "cloud_controller_v3",
        "network_policy_v1",
        "login",
        "uaa",
        "log_cache",
        "app_ssh",
    ];
    for (name, link) in root["links"].as_object().unwrap() {
        assert_eq!(!link.is_null(), known.contains(&name.as_str()), "{name}");
    }
    f.finish().await;
}
