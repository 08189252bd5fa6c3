//! The audit trail: every write leaves its events, each in its space and organization.

mod events;

use crate::fixture::*;
use events::EVENTS;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A new endpoint that writes must have a row for its event.
#[test]
fn every_writing_endpoint_has_its_event() {
    let known: BTreeSet<String> = EVENTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing: Vec<String> = cloud_controller::endpoints()
        .into_iter()
        .filter(|endpoint| endpoint.method != "GET")
        .map(|endpoint| format!("{} {}", endpoint.method, endpoint.path))
        .filter(|name| !known.contains(name))
        .collect();
    assert!(missing.is_empty(), "endpoints without a row: {missing:#?}");
    assert_eq!(known.len(), EVENTS.len(), "no endpoint stands twice");
}

/// A reader of the events that were written since the last look.
struct Trail {
    seen: usize,
}

impl Trail {
    async fn all(f: &Foundation) -> Vec<Value> {
        let list = f.get("/v3/audit_events?per_page=1000").await;
        list["resources"].as_array().unwrap().clone()
    }

    async fn begin(f: &Foundation) -> Self {
        Self {
            seen: Self::all(f).await.len(),
        }
    }

    /// Returns the types of the new events; each must be in this space and organization.
    async fn latest(
        &mut self,
        f: &Foundation,
        space: Option<&str>,
        org: Option<&str>,
    ) -> Vec<String> {
        let all = Self::all(f).await;
        let new = all[self.seen..].to_vec();
        self.seen = all.len();
        for event in &new {
            let place = |name: &str| event[name]["guid"].as_str();
            assert_eq!(
                (place("space"), place("organization")),
                (space, org),
                "{event}"
            );
        }
        new.iter()
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apps_life_is_recorded() {
    let f = Foundation::start().await;
    let (space, org) = (f.space.clone(), f.organization.clone());
    let mut trail = Trail::begin(&f).await;
    let app = f.started_app("app").await;
    let new = trail.latest(&f, Some(&space), Some(&org)).await;
    assert_eq!(
        new,
        [
            "audit.app.process.create",
            "audit.app.create",
            "audit.app.droplet.create",
            "audit.app.droplet.upload",
            "audit.app.droplet.mapped",
            "audit.app.start"
        ]
    );
    let route = f.create_route("r", "").await;
    f.map(&route, &app).await;
    let web = format!("/v3/apps/{app}/processes/web");
    f.send(
        Method::POST,
        &format!("{web}/actions/scale"),
        json!({ "instances": 2 }),
    )
    .await;
    f.send(Method::PATCH, &web, json!({ "command": "./secret" }))
        .await;
    f.get(&format!("/v3/apps/{app}/env")).await;
    f.send(
        Method::PATCH,
        &format!("/v3/apps/{app}"),
        json!({ "name": "renamed" }),
    )
    .await;
    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/actions/stop"),
        json!({}),
    )
    .await;
    let new = trail.latest(&f, Some(&space), Some(&org)).await;
    assert_eq!(
        new,
        [
            "audit.route.create",
            "audit.app.map-route",
            "audit.app.process.scale",
            "audit.app.process.update",
            "audit.app.environment.show",
            "audit.app.update",
            "audit.app.stop"
        ]
    );
    let all = Trail::all(&f).await;
    assert!(
        !json!(all).to_string().contains("./secret"),
        "commands are hidden"
    );
    f.send(
        Method::PATCH,
        &format!("/v3/routes/{route}"),
        json!({ "options": { "loadbalancing": "least-connection" } }),
    )
    .await;
    f.send(
        Method::PATCH,
        &format!("/v3/routes/{route}/destinations"),
        json!({ "destinations": [] }),
    )
    .await;
    f.delete(&format!("/v3/routes/{route}")).await;
    f.delete(&format!("/v3/apps/{app}")).await;
    let new = trail.latest(&f, Some(&space), Some(&org)).await;
    assert_eq!(
        new,
        [
            "audit.route.update",
            "audit.app.unmap-route",
            "audit.route.delete-request",
            "audit.app.delete-request"
        ]
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staging_tasks_and_deployments_are_recorded() {
    let f = Foundation::start().await;
    let (space, org) = (f.space.clone(), f.organization.clone());
    let app = f.started_app("app").await;
    let mut trail = Trail::begin(&f).await;
    let package = f.package(&app, zip("run", "#!/bin/sh")).await;
    let package = package.as_str();
    let build = f
        .send(
            Method::POST,
            "/v3/builds",
            json!({ "package": { "guid": package } }),
        )
        .await;
    f.bbs
        .cancel_task(build["guid"].as_str().unwrap())
        .await
        .unwrap();
    let mut new = Vec::new();
    wait_for("the event of the failed staging", async || {
        new.extend(trail.latest(&f, Some(&space), Some(&org)).await);
        new.iter()
            .any(|kind| kind == "audit.app.build.failed")
            .then_some(())
    })
    .await;
    assert_eq!(
        new,
        [
            "audit.app.package.create",
            "audit.app.package.upload",
            "audit.app.upload-bits",
            "audit.app.build.create",
            "audit.app.build.failed"
        ]
    );
    let task = f
        .send(
            Method::POST,
            &format!("/v3/apps/{app}/tasks"),
            json!({ "command": "true" }),
        )
        .await;
    let task = task["guid"].as_str().unwrap();
    f.send(
        Method::POST,
        &format!("/v3/tasks/{task}/actions/cancel"),
        json!({}),
    )
    .await;
    let deployment = f
        .send(
            Method::POST,
            "/v3/deployments",
            json!({ "relationships": { "app": { "data": { "guid": app } } } }),
        )
        .await;
    let deployment = deployment["guid"].as_str().unwrap();
    f.send(
        Method::POST,
        &format!("/v3/deployments/{deployment}/actions/cancel"),
        json!({}),
    )
    .await;
    f.delete(&format!("/v3/packages/{package}")).await;
    assert_eq!(
        trail.latest(&f, Some(&space), Some(&org)).await,
        [
            "audit.app.task.create",
            "audit.app.task.cancel",
            "audit.app.process.create",
            "audit.app.deployment.create",
            "audit.app.deployment.cancel",
            "audit.app.package.delete"
        ]
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_and_readiness_are_recorded() {
    let f = Foundation::start().await;
    let (space, org) = (f.space.clone(), f.organization.clone());
    let app = f.started_app("app").await;
    let lrp = f.lrps(&app).await.remove(0).process_guid;
    let mut trail = Trail::begin(&f).await;
    let (key, instance) = f.run_instance(&lrp, 0).await;
    f.set_ready(&key, &instance, false).await;
    f.set_ready(&key, &instance, true).await;
    f.bbs
        .crash(&wire::bbs::CrashActualLrpRequest {
            key: Some(key),
            instance_key: Some(instance),
            error_message: "APP/PROC/WEB: Exited with status 1".to_owned(),
        })
        .await
        .unwrap();
    let mut new = Vec::new();
    wait_for("the events of the crash", async || {
        new.extend(trail.latest(&f, Some(&space), Some(&org)).await);
        new.iter()
            .any(|kind| kind == "audit.app.process.crash")
            .then_some(())
    })
    .await;
    assert_eq!(
        new,
        [
            "audit.app.process.not-ready",
            "audit.app.process.ready",
            "app.crash",
            "audit.app.process.crash"
        ]
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn organizations_spaces_and_roles_are_recorded() {
    let f = Foundation::start().await;
    let mut trail = Trail::begin(&f).await;
    let guid = |json: Value| json["guid"].as_str().unwrap().to_owned();
    let org = guid(
        f.send(Method::POST, "/v3/organizations", json!({ "name": "acme" }))
            .await,
    );
    f.send(
        Method::PATCH,
        &format!("/v3/organizations/{org}"),
        json!({ "name": "acme2" }),
    )
    .await;
    let user = json!({ "data": { "guid": "somebody-guid" } });
    let member = guid(
        f.send(
            Method::POST,
            "/v3/roles",
            json!({ "type": "organization_user", "relationships": { "user": user, "organization": { "data": { "guid": org } } } }),
        )
        .await,
    );
    assert_eq!(
        trail.latest(&f, None, Some(&org)).await,
        [
            "audit.organization.create",
            "audit.organization.update",
            "audit.user.organization_user_add"
        ]
    );
    let space = guid(
        f.send(
            Method::POST,
            "/v3/spaces",
            json!({ "name": "prod", "relationships": { "organization": { "data": { "guid": org } } } }),
        )
        .await,
    );
    f.send(
        Method::PATCH,
        &format!("/v3/spaces/{space}"),
        json!({ "name": "prod2" }),
    )
    .await;
    let developer = guid(
        f.send(
            Method::POST,
            "/v3/roles",
            json!({ "type": "space_developer", "relationships": { "user": user, "space": { "data": { "guid": space } } } }),
        )
        .await,
    );
    f.delete(&format!("/v3/roles/{developer}")).await;
    assert_eq!(
        trail.latest(&f, Some(&space), Some(&org)).await,
        [
            "audit.space.create",
            "audit.space.update",
            "audit.user.space_developer_add",
            "audit.user.space_developer_remove"
        ]
    );
    f.delete(&format!("/v3/roles/{member}")).await;
    assert_eq!(
        trail.latest(&f, None, Some(&org)).await,
        ["audit.user.organization_user_remove"]
    );
    f.delete(&format!("/v3/spaces/{space}")).await;
    assert_eq!(
        trail.latest(&f, Some(&space), Some(&org)).await,
        ["audit.space.delete-request"]
    );
    f.delete(&format!("/v3/organizations/{org}")).await;
    assert_eq!(
        trail.latest(&f, None, Some(&org)).await,
        ["audit.organization.delete-request"]
    );
    let group = guid(
        f.send(
            Method::POST,
            "/v3/security_groups",
            json!({ "name": "open" }),
        )
        .await,
    );
    f.delete(&format!("/v3/security_groups/{group}")).await;
    f.send(
        Method::PATCH,
        "/v3/feature_flags/diego_docker",
        json!({ "enabled": true }),
    )
    .await;
    assert!(
        trail.latest(&f, None, None).await.is_empty(),
        "Cloud Foundry has no events for these"
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_and_a_deleted_space_record_all_that_they_do() {
    let f = Foundation::start().await;
    let (space, org) = (f.space.clone(), f.organization.clone());
    let mut trail = Trail::begin(&f).await;
    let manifest = "applications:\n- name: web\n  memory: 64M\n  default-route: true\n  processes: [{type: worker}]\n";
    f.apply_manifest(manifest).await;
    let new = trail.latest(&f, Some(&space), Some(&org)).await;
    assert_eq!(
        new,
        [
            "audit.app.create",
            "audit.app.process.create",
            "audit.app.process.create",
            "audit.route.create",
            "audit.app.map-route",
            "audit.app.apply_manifest"
        ]
    );
    f.apply_manifest(
        "applications:\n- name: web\n  memory: 128M\n  command: ./x\n  no-route: true\n",
    )
    .await;
    let new = trail.latest(&f, Some(&space), Some(&org)).await;
    assert_eq!(
        new,
        [
            "audit.app.update",
            "audit.app.process.scale",
            "audit.app.process.update",
            "audit.app.unmap-route",
            "audit.app.apply_manifest"
        ]
    );
    f.delete(&format!("/v3/spaces/{space}")).await;
    let new = trail.latest(&f, Some(&space), Some(&org)).await;
    assert_eq!(
        new,
        [
            "audit.app.delete-request",
            "audit.route.delete-request",
            "audit.space.delete-request"
        ]
    );
    f.finish().await;
}
