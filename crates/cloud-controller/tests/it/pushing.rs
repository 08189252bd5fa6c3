//! The requests of `cf push`: manifest, package, build, droplet.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};
use wire::bbs as m;

const MANIFEST: &str = "applications:\n- name: web\n  memory: 64M\n  instances: 2\n  buildpacks: [binary_buildpack]\n  command: ./run\n  env: {A: 1}\n  default-route: true\n  path: .\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_makes_the_app_and_its_route() {
    let f = Foundation::start().await;
    let (status, job) = f.apply_manifest(MANIFEST).await;
    assert_eq!(
        (status, job["state"].as_str(), &job["errors"]),
        (202, Some("COMPLETE"), &json!([]))
    );
    let app = f
        .get(&format!("/v3/apps?names=web&space_guids={}", f.space))
        .await["resources"][0]
        .clone();
    assert_eq!(
        app["lifecycle"],
        json!({ "type": "buildpack", "data": { "buildpacks": ["binary_buildpack"], "stack": "cflinuxfs4" } })
    );
    let guid = app["guid"].as_str().unwrap();
    let process = f.get(&format!("/v3/processes/{guid}")).await;
    assert_eq!(
        (
            process["instances"].as_i64(),
            process["memory_in_mb"].as_i64(),
            process["command"].as_str()
        ),
        (Some(2), Some(64), Some("./run"))
    );
    assert_eq!(
        f.get(&format!("/v3/apps/{guid}/routes")).await["resources"][0]["url"],
        "web.apps.test"
    );

    // Applying the manifest again adds nothing; a manifest that names a further route adds it.
    f.apply_manifest(MANIFEST).await;
    let named = "applications:\n- name: web\n  routes:\n  - route: http://other.apps.test/p\n";
    assert_eq!(f.apply_manifest(named).await.1["state"], "COMPLETE");
    assert_eq!(
        f.get(&format!("/v3/apps/{guid}/routes")).await["pagination"]["total_results"],
        2
    );
    f.apply_manifest("applications:\n- name: web\n  no-route: true\n")
        .await;
    assert_eq!(
        f.get(&format!("/v3/apps/{guid}/routes")).await["pagination"]["total_results"],
        0
    );

    let (status, body) = f
        .apply_manifest(
            "applications:\n- name: bad\n  memory: lots\n- name: worse\n  instances: many\n",
        )
        .await;
    assert_eq!((status, body["errors"].as_array().unwrap().len()), (422, 2));
    let (_, job) = f
        .apply_manifest("applications:\n- name: half\n  routes: [{route: x.nowhere.test}]\n")
        .await;
    assert_eq!(job["state"], "FAILED");
    assert_eq!(
        job["errors"][0]["detail"],
        "For application 'half': For route 'x.nowhere.test': No domains exist for route x.nowhere.test"
    );
    assert_eq!(
        f.get("/v3/apps?names=half").await["resources"],
        json!([]),
        "nothing half-done is left"
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_becomes_a_droplet() {
    let f = Foundation::start().await;
    f.apply_manifest(MANIFEST).await;
    let app = f.get("/v3/apps?names=web").await["resources"][0]["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let package = f
        .send(
            Method::POST,
            "/v3/packages",
            json!({ "type": "bits", "relationships": { "app": { "data": { "guid": app } } } }),
        )
        .await;
    let package = package["guid"].as_str().unwrap();
    let (status, body) = f
        .call(
            Method::POST,
            "/v3/builds",
            Some(json!({ "package": { "guid": package } })),
        )
        .await;
    assert_eq!(
        (status, detail(&body)),
        (
            400,
            "Bad request: Cannot stage package whose state is not ready."
        )
    );
    let zip = zip("run", "#!/bin/sh");
    let (status, uploaded) = f.upload(package, zip.clone()).await;
    assert_eq!(
        (status, uploaded["state"].as_str()),
        (200, Some("READY")),
        "{uploaded}"
    );

    let build = f
        .send(
            Method::POST,
            "/v3/builds",
            json!({ "package": { "guid": package } }),
        )
        .await;
    assert_eq!(build["state"], "STAGING");
    let build = build["guid"].as_str().unwrap();
    let (status, body) = f
        .call(
            Method::POST,
            "/v3/builds",
            Some(json!({ "package": { "guid": package } })),
        )
        .await;
    assert_eq!(
        (status, body["errors"][0]["title"].as_str()),
        (422, Some("CF-StagingInProgress"))
    );

    // The test does what the cell does: it downloads, builds and uploads; then the BBS calls back.
    let task = f.bbs.task(build).await.unwrap();
    assert_eq!(task.domain, "cf-app-staging");
    let definition = format!("{:?}", task.task_definition);
    let fetched = f
        .cell
        .get(format!(
            "{}/internal/v4/packages/{package}/download",
            f.internal_url
        ))
        .send()
        .await
        .unwrap();
    assert_eq!(fetched.bytes().await.unwrap(), zip);
    let at = definition.find("/internal/v4/droplets/").unwrap();
    let droplet = &definition[at + 22..at + 58];
    let sent = f
        .cell
        .post(format!(
            "{}/internal/v4/droplets/{droplet}/upload",
            f.internal_url
        ))
        .body("droplet")
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 200);
    let lifecycle = f
        .cell
        .get(format!(
            "{}/internal/lifecycle/lifecycle.tgz",
            f.internal_url
        ))
        .send()
        .await
        .unwrap();
    assert_eq!(lifecycle.status(), 200);
    let result = json!({ "lifecycle_type": "buildpack", "lifecycle_metadata": { "buildpack_key": "binary_buildpack", "detected_buildpack": "binary",
        "buildpacks": [{ "key": "binary_buildpack", "name": "binary", "version": "1.0.0" }] }, "process_types": { "web": "./run", "worker": "./work" }, "execution_metadata": "" });
    assert!(f.bbs.start_task(build, "cell-1").await.unwrap());
    f.bbs
        .complete_task(&m::CompleteTaskRequest {
            task_guid: build.to_owned(),
            cell_id: "cell-1".to_owned(),
            result: result.to_string(),
            ..Default::default()
        })
        .await
        .unwrap();
    let staged = wait_for("the build", async || {
        Some(f.get(&format!("/v3/builds/{build}")).await)
            .filter(|build| build["state"] != "STAGING")
    })
    .await;
    assert_eq!(
        (staged["state"].as_str(), staged["droplet"]["guid"].as_str()),
        (Some("STAGED"), Some(droplet)),
        "{staged}"
    );
    let shown = f.get(&format!("/v3/droplets/{droplet}")).await;
    assert_eq!(
        (
            shown["buildpacks"][0]["name"].as_str(),
            shown["process_types"]["web"].as_str()
        ),
        (Some("binary_buildpack"), Some("./run"))
    );
    assert_eq!(
        f.get(&format!("/v3/packages/{package}/droplets?states=STAGED"))
            .await["pagination"]["total_results"],
        1
    );

    f.send(
        Method::PATCH,
        &format!("/v3/apps/{app}/relationships/current_droplet"),
        json!({ "data": { "guid": droplet } }),
    )
    .await;
    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/actions/restart"),
        json!({}),
    )
    .await;
    let lrps = f.lrps(&app).await;
    assert_eq!(lrps.len(), 2, "web and worker");
    let web = lrps
        .iter()
        .find(|lrp| lrp.process_guid.starts_with(&app))
        .unwrap();
    assert_eq!((web.instances, web.memory_mb), (2, 64));
    assert_eq!(f.lrp_urls(web), json!(["web.apps.test"]));
    let at = format!("{:?}", web.setup)
        .find("/internal/v2/droplets/")
        .map(|at| at + 22);
    assert!(at.is_some());
    f.finish().await;
}

/// `cf push -c ./app` of a script: no buildpack knows how to start it, but the user does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_droplet_without_process_types_needs_the_users_command() {
    let f = Foundation::start().await;
    let app = f.create_app("script").await;
    let failed = stage_without_process_types(&f, &app).await;
    assert_eq!(failed["state"], "FAILED");
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("Start command not specified"), "{error}");
    let process = format!("/v3/apps/{app}/processes/web");
    f.send(Method::PATCH, &process, json!({ "command": "./app" }))
        .await;
    let staged = stage_without_process_types(&f, &app).await;
    assert_eq!(staged["state"], "STAGED", "{staged}");
    f.finish().await;
}

/// Returns the build after everything that the cell does with it.
async fn stage_without_process_types(f: &Foundation, app: &str) -> Value {
    let package = f.package(app, zip("app", "exec true")).await;
    let package = package.as_str();
    let wanted = json!({ "package": { "guid": package } });
    let build = f.send(Method::POST, "/v3/builds", wanted).await;
    let build = build["guid"].as_str().unwrap();
    let task = f.bbs.task(build).await.unwrap();
    let definition = format!("{:?}", task.task_definition);
    let at = definition.find("/internal/v4/droplets/").unwrap();
    let droplet = &definition[at + 22..at + 58];
    let url = format!("{}/internal/v4/droplets/{droplet}/upload", f.internal_url);
    let sent = f.cell.post(url).body("droplet").send().await.unwrap();
    assert_eq!(sent.status(), 200);
    assert!(f.bbs.start_task(build, "cell-1").await.unwrap());
    let result = json!({ "lifecycle_type": "buildpack", "lifecycle_metadata": { "buildpacks": [] }, "process_types": {}, "execution_metadata": "" });
    f.bbs
        .complete_task(&m::CompleteTaskRequest {
            task_guid: build.to_owned(),
            cell_id: "cell-1".to_owned(),
            result: result.to_string(),
            ..Default::default()
        })
        .await
        .unwrap();
    wait_for("the build", async || {
        Some(f.get(&format!("/v3/builds/{build}")).await)
            .filter(|build| build["state"] != "STAGING")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_carry_the_reason() {
    let f = Foundation::start().await;
    let app = f.create_app("broken").await;
    let related =
        json!({ "type": "bits", "relationships": { "app": { "data": { "guid": app } } } });
    let package = f.send(Method::POST, "/v3/packages", related.clone()).await;
    let (status, body) = f
        .upload(package["guid"].as_str().unwrap(), zip("../evil", "x"))
        .await;
    assert_eq!(
        (status, body["errors"][0]["title"].as_str()),
        (400, Some("CF-AppBitsUploadInvalid"))
    );
    let shown = f
        .get(&format!(
            "/v3/packages/{}",
            package["guid"].as_str().unwrap()
        ))
        .await;
    assert_eq!(shown["state"], "FAILED");
    assert!(shown["data"]["error"].as_str().unwrap().contains("../evil"));

    let package = f.send(Method::POST, "/v3/packages", related).await;
    assert_eq!(
        f.upload(package["guid"].as_str().unwrap(), zip("a.txt", "x"))
            .await
            .0,
        200
    );
    let build = f
        .send(
            Method::POST,
            "/v3/builds",
            json!({ "package": { "guid": package["guid"] } }),
        )
        .await;
    let build = build["guid"].as_str().unwrap();
    f.bbs.start_task(build, "cell-1").await.unwrap();
    let failed = m::CompleteTaskRequest {
        task_guid: build.to_owned(),
        cell_id: "cell-1".to_owned(),
        failed: true,
        failure_reason: "STG: Exited with status 222".to_owned(),
        ..Default::default()
    };
    f.bbs.complete_task(&failed).await.unwrap();
    let shown = wait_for("the build", async || {
        Some(f.get(&format!("/v3/builds/{build}")).await)
            .filter(|build| build["state"] != "STAGING")
    })
    .await;
    assert_eq!(
        (shown["state"].as_str(), shown["error"].as_str()),
        (
            Some("FAILED"),
            Some(
                "NoAppDetectedError - An app was not successfully detected by any available buildpack"
            )
        )
    );
    f.finish().await;
}
