//! Every path that uses something up respects the quotas, and what is shown of them is true.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Organization,
    Space,
}

/// A foundation whose organization or space has a quota of its own.
struct Place {
    f: Foundation,
    kind: Kind,
    quota: String,
}

impl Place {
    async fn start(kind: Kind) -> Self {
        let f = Foundation::start().await;
        let (path, relationships) = match kind {
            Kind::Organization => (
                "/v3/organization_quotas",
                json!({ "organizations": { "data": [{ "guid": f.organization }] } }),
            ),
            Kind::Space => (
                "/v3/space_quotas",
                json!({ "organization": { "data": { "guid": f.organization } }, "spaces": { "data": [{ "guid": f.space }] } }),
            ),
        };
        let body = json!({ "name": "tight", "relationships": relationships });
        let quota = f.send(Method::POST, path, body).await;
        let quota = format!("{path}/{}", quota["guid"].as_str().unwrap());
        Self { f, kind, quota }
    }

    async fn limit(&self, limits: Value) {
        self.f.send(Method::PATCH, &self.quota, limits).await;
    }

    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Organization => "organization",
            Kind::Space => "space",
        }
    }

    fn prefix(&self) -> &'static str {
        match self.kind {
            Kind::Organization => "",
            Kind::Space => "space_",
        }
    }

    /// Sends a request that the quota must refuse with this text.
    async fn refused(&self, method: Method, path: &str, body: Value, text: &str) {
        let (status, answer) = self.f.call(method.clone(), path, Some(body)).await;
        assert_eq!(status, 422, "{:?} {method} {path}: {answer}", self.kind);
        assert!(detail(&answer).contains(text), "{text}: {answer}");
    }

    async fn manifest_refused(&self, yaml: &str, text: &str) {
        let (_, job) = self.f.apply_manifest(yaml).await;
        assert_eq!(job["state"], "FAILED", "{:?}: {job}", self.kind);
        assert!(detail(&job).contains(text), "{text}: {job}");
    }

    async fn package(&self, app: &str) -> String {
        self.f.package(app, zip("run", "#!/bin/sh")).await
    }
}

fn deployment(app: &str, options: Value) -> Value {
    json!({ "relationships": { "app": { "data": { "guid": app } } }, "options": options })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_path_that_uses_memory_or_instances_is_limited() {
    for kind in [Kind::Organization, Kind::Space] {
        let place = Place::start(kind).await;
        let f = &place.f;
        // One instance of 256 MB runs; there is no room for another one.
        let one = f.started_app("one").await;
        let two = f.stopped_app("two").await;
        let package = place.package(&two).await;
        for (limits, memory, task) in [
            (
                json!({ "apps": { "total_memory_in_mb": 300 } }),
                format!("memory {}quota_exceeded", place.prefix()),
                format!("memory_in_mb exceeds {} memory quota", place.name()),
            ),
            (
                json!({ "apps": { "total_memory_in_mb": null, "total_instances": 1, "per_app_tasks": 0 } }),
                format!(
                    "app_instance_limit {}app_instance_limit_exceeded",
                    place.prefix()
                ),
                "app_task_limit quota exceeded".to_owned(),
            ),
            (
                json!({ "apps": { "total_instances": null, "per_app_tasks": null, "log_rate_limit_in_bytes_per_second": 0 } }),
                format!("log_rate_limit cannot be unlimited in {}", place.name()),
                format!("log_rate_limit cannot be unlimited in {}", place.name()),
            ),
        ] {
            if limits["apps"]["log_rate_limit_in_bytes_per_second"].is_i64() {
                // While something runs with unlimited logs, the quota itself is refused.
                let (status, answer) = f
                    .call(Method::PATCH, &place.quota, Some(limits.clone()))
                    .await;
                assert_eq!(status, 422, "{answer}");
                assert!(
                    detail(&answer).contains("unlimited log rate limit"),
                    "{answer}"
                );
                f.send(
                    Method::POST,
                    &format!("/v3/apps/{one}/actions/stop"),
                    json!({}),
                )
                .await;
                place.limit(limits).await;
                for verb in ["start", "restart"] {
                    let path = format!("/v3/apps/{two}/actions/{verb}");
                    place.refused(Method::POST, &path, json!({}), &memory).await;
                }
                let body = json!({ "command": "true", "memory_in_mb": 100 });
                place
                    .refused(Method::POST, &format!("/v3/apps/{one}/tasks"), body, &task)
                    .await;
                continue;
            }
            place.limit(limits).await;
            for verb in ["start", "restart"] {
                let path = format!("/v3/apps/{two}/actions/{verb}");
                place.refused(Method::POST, &path, json!({}), &memory).await;
            }
            for path in [
                format!("/v3/processes/{one}/actions/scale"),
                format!("/v3/apps/{one}/processes/web/actions/scale"),
            ] {
                place
                    .refused(Method::POST, &path, json!({ "instances": 2 }), &memory)
                    .await;
            }
            let yaml = "applications:\n- name: one\n  instances: 2\n";
            place.manifest_refused(yaml, &memory).await;
            place
                .refused(
                    Method::POST,
                    "/v3/deployments",
                    deployment(&one, json!({})),
                    &memory,
                )
                .await;
            place
                .refused(
                    Method::POST,
                    "/v3/deployments",
                    deployment(&two, json!({ "web_instances": 2 })),
                    &memory,
                )
                .await;
            let body = json!({ "command": "true", "memory_in_mb": 100 });
            place
                .refused(Method::POST, &format!("/v3/apps/{one}/tasks"), body, &task)
                .await;
            assert_eq!(f.get(&format!("/v3/processes/{one}")).await["instances"], 1);
            assert_eq!(f.get(&format!("/v3/apps/{two}")).await["state"], "STOPPED");
        }

        place.limit(json!({ "apps": { "total_memory_in_mb": 1500, "log_rate_limit_in_bytes_per_second": null } })).await;
        let text = format!(
            "{}'s memory limit exceeded: staging requires 2000M memory",
            place.name()
        );
        let build = json!({ "package": { "guid": package }, "staging_memory_in_mb": 2000 });
        place
            .refused(Method::POST, "/v3/builds", build, &text)
            .await;
        let build = json!({ "package": { "guid": package }, "staging_memory_in_mb": 1200 });
        f.send(Method::POST, "/v3/builds", build).await;
        // What is being staged counts for the next build.
        let package = place.package(&one).await;
        let build = json!({ "package": { "guid": package }, "staging_memory_in_mb": 400 });
        place
            .refused(Method::POST, "/v3/builds", build, "memory limit exceeded")
            .await;

        place
            .limit(json!({ "apps": { "per_process_memory_in_mb": 100 } }))
            .await;
        let text = format!("memory {}instance_memory_limit_exceeded", place.prefix());
        place
            .refused(
                Method::POST,
                &format!("/v3/apps/{two}/actions/start"),
                json!({}),
                &text,
            )
            .await;
        let task = json!({ "command": "true", "memory_in_mb": 200 });
        let text = format!(
            "memory_in_mb exceeds {} instance memory quota",
            place.name()
        );
        place
            .refused(Method::POST, &format!("/v3/apps/{two}/tasks"), task, &text)
            .await;
        place.f.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_stays_when_a_quota_is_lowered() {
    for kind in [Kind::Organization, Kind::Space] {
        let place = Place::start(kind).await;
        let f = &place.f;
        let app = f.started_app("web").await;
        let scale = format!("/v3/processes/{app}/actions/scale");
        f.send(Method::POST, &scale, json!({ "instances": 4 }))
            .await;
        place
            .limit(json!({ "apps": { "total_memory_in_mb": 300, "total_instances": 1 } }))
            .await;
        assert_eq!(f.lrps(&app).await[0].instances, 4);
        f.send(Method::POST, &scale, json!({ "instances": 3 }))
            .await;
        let checks = json!({ "health_check": { "type": "process" } });
        f.send(Method::PATCH, &format!("/v3/processes/{app}"), checks)
            .await;
        f.apply_manifest("applications:\n- name: web\n  env: {A: 1}\n")
            .await;
        place
            .refused(
                Method::POST,
                &scale,
                json!({ "instances": 4 }),
                "quota_exceeded",
            )
            .await;
        // A restart would start an app that no longer fits.
        let restart = format!("/v3/apps/{app}/actions/restart");
        place
            .refused(Method::POST, &restart, json!({}), "quota_exceeded")
            .await;
        assert_eq!(f.get(&format!("/v3/apps/{app}")).await["state"], "STARTED");
        f.send(Method::POST, &scale, json!({ "instances": 1 }))
            .await;
        f.send(Method::POST, &restart, json!({})).await;
        place.f.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_needs_room_for_its_largest_moment() {
    let place = Place::start(Kind::Organization).await;
    let f = &place.f;
    let app = f.started_app("web").await;
    place
        .limit(json!({ "apps": { "total_memory_in_mb": 512 } }))
        .await;
    // At first one new instance runs beside the old one, and at last four new ones run.
    let grown = deployment(&app, json!({ "web_instances": 4 }));
    place
        .refused(Method::POST, "/v3/deployments", grown, "max-in-flight")
        .await;
    let larger = deployment(&app, json!({ "memory_in_mb": 300 }));
    place
        .refused(
            Method::POST,
            "/v3/deployments",
            larger,
            "memory quota_exceeded",
        )
        .await;
    f.send(Method::POST, "/v3/deployments", deployment(&app, json!({})))
        .await;
    place.f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_waits_for_room_that_others_took_meanwhile() {
    let place = Place::start(Kind::Space).await;
    let f = &place.f;
    let app = f.stopped_app("web").await;
    let other = f.stopped_app("other").await;
    let scale = |app: &str| format!("/v3/processes/{app}/actions/scale");
    f.send(Method::POST, &scale(&app), json!({ "instances": 2 }))
        .await;
    f.send(Method::POST, &scale(&other), json!({ "memory_in_mb": 100 }))
        .await;
    place
        .limit(json!({ "apps": { "total_memory_in_mb": 1100 } }))
        .await;
    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/actions/start"),
        json!({}),
    )
    .await;
    let old = f.lrps(&app).await.remove(0).process_guid;
    f.run_instance(&old, 0).await;
    f.run_instance(&old, 1).await;
    // At its largest the deployment needs two new instances beside an old one: 1056 MB.
    let deployed = f
        .send(
            Method::POST,
            "/v3/deployments",
            deployment(&app, json!({ "memory_in_mb": 400 })),
        )
        .await;
    let shown = format!("/v3/deployments/{}", deployed["guid"].as_str().unwrap());
    let new = wait_for("the new LRP", async || {
        let lrps = f.lrps(&app).await;
        lrps.into_iter().find(|lrp| lrp.process_guid != old)
    })
    .await
    .process_guid;
    f.send(
        Method::POST,
        &format!("/v3/apps/{other}/actions/start"),
        json!({}),
    )
    .await;
    wait_for("the actual LRP", async || {
        let guids = vec![new.clone()];
        f.bbs
            .actual_lrps_by_process_guids(guids)
            .await
            .unwrap()
            .pop()
    })
    .await;
    f.run_instance(&new, 0).await;
    let error = wait_for("the reason to wait", async || {
        let deployment = f.get(&shown).await;
        deployment["status"]["details"]["error"]
            .as_str()
            .map(str::to_owned)
    })
    .await;
    assert!(error.contains("memory space_quota_exceeded"), "{error}");
    let used = f
        .get(&format!("/v3/spaces/{}/usage_summary", f.space))
        .await;
    let used = used["usage_summary"]["memory_in_mb"].as_i64().unwrap();
    assert!(used <= 1100, "{used}");
    // The deployment continues by itself when the quota has room again.
    f.send(
        Method::POST,
        &format!("/v3/apps/{other}/actions/stop"),
        json!({}),
    )
    .await;
    wait_for("the second new instance", async || {
        let lrps = f.lrps(&app).await;
        let grown = lrps.iter().find(|lrp| lrp.process_guid == new)?;
        (grown.instances == 2).then_some(())
    })
    .await;
    assert_eq!(
        f.get(&shown).await["status"]["details"]["error"],
        Value::Null
    );
    place.f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_rollout_goes_back_as_far_as_the_quota_allows() {
    let place = Place::start(Kind::Organization).await;
    let f = &place.f;
    let app = f.started_app("web").await;
    let scale = format!("/v3/processes/{app}/actions/scale");
    f.send(Method::POST, &scale, json!({ "instances": 3 }))
        .await;
    place
        .limit(json!({ "apps": { "total_instances": 4 } }))
        .await;
    let old = f.lrps(&app).await.remove(0).process_guid;
    for index in 0..3 {
        f.run_instance(&old, index).await;
    }
    let options = json!({ "web_instances": 1 });
    let deployed = f
        .send(Method::POST, "/v3/deployments", deployment(&app, options))
        .await;
    let shown = format!("/v3/deployments/{}", deployed["guid"].as_str().unwrap());
    // Only one of the old instances is left; others use the room.
    wait_for("fewer old instances", async || {
        let lrps = f.lrps(&app).await;
        let shrunk = lrps.iter().find(|lrp| lrp.process_guid == old)?;
        (shrunk.instances == 1).then_some(())
    })
    .await;
    f.started_app("two").await;
    f.started_app("three").await;
    f.send(Method::POST, &format!("{shown}/actions/cancel"), json!({}))
        .await;
    wait_for("the old process alone", async || {
        let lrps = f.lrps(&app).await;
        (lrps.len() == 1 && lrps[0].process_guid == old && lrps[0].instances == 2).then_some(())
    })
    .await;
    place.f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_and_domains_are_limited() {
    for kind in [Kind::Organization, Kind::Space] {
        let place = Place::start(kind).await;
        let f = &place.f;
        let (_, elsewhere) = f.another_place("elsewhere").await;
        f.send(
            Method::PATCH,
            "/v3/feature_flags/route_sharing",
            json!({ "enabled": true }),
        )
        .await;
        let mut body = f.route_body("coming", "");
        body["relationships"]["space"]["data"]["guid"] = json!(elsewhere);
        let coming = f.send(Method::POST, "/v3/routes", body).await;
        f.create_route("first", "").await;
        place
            .limit(json!({ "routes": { "total_routes": 2 } }))
            .await;
        let second = f.create_route("second", "").await;
        let text = format!("Routes quota exceeded for {} ", place.name());
        place
            .refused(Method::POST, "/v3/routes", f.route_body("third", ""), &text)
            .await;
        place
            .manifest_refused(
                "applications:\n- name: a\n  routes: [{route: m.apps.test}]\n",
                &text,
            )
            .await;
        place
            .manifest_refused("applications:\n- name: a\n  random-route: true\n", &text)
            .await;
        let transfer = format!(
            "/v3/routes/{}/relationships/space",
            coming["guid"].as_str().unwrap()
        );
        let to_here = json!({ "data": { "guid": f.space } });
        place
            .refused(Method::PATCH, &transfer, to_here.clone(), &text)
            .await;
        f.delete(&format!("/v3/routes/{second}")).await;
        f.send(Method::PATCH, &transfer, to_here).await;
        assert_eq!(f.get("/v3/apps?names=a").await["resources"], json!([]));
        if kind == Kind::Organization {
            place
                .limit(json!({ "domains": { "total_domains": 0 } }))
                .await;
            let body = json!({ "name": "own.test", "relationships": { "organization": { "data": { "guid": f.organization } } } });
            let text = "The number of private domains exceeds the quota for organization \"demo\"";
            place.refused(Method::POST, "/v3/domains", body, text).await;
        }
        place.f.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_summaries_are_true() {
    let f = Foundation::start().await;
    let app = f.started_app("web").await;
    f.send(
        Method::POST,
        &format!("/v3/processes/{app}/actions/scale"),
        json!({ "instances": 3, "memory_in_mb": 100 }),
    )
    .await;
    f.stopped_app("idle").await;
    f.create_route("web", "").await;
    let (other, _) = f.another_place("other").await;
    for organization in [&f.organization, &other] {
        let name = format!("d-{organization}.test");
        let body = json!({ "name": name, "relationships": { "organization": { "data": { "guid": organization } } } });
        f.send(Method::POST, "/v3/domains", body).await;
    }
    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/tasks"),
        json!({ "command": "true", "memory_in_mb": 50 }),
    )
    .await;
    let here = json!({
        "started_instances": 3, "memory_in_mb": 350, "routes": 1, "service_instances": 0, "reserved_ports": 0, "domains": 1,
        "per_app_tasks": 1, "service_keys": 0,
    });
    let mut all = here.clone();
    all["domains"] = json!(2);
    for (path, expected) in [
        (
            format!("/v3/organizations/{}/usage_summary", f.organization),
            &here,
        ),
        (format!("/v3/spaces/{}/usage_summary", f.space), &here),
        ("/v3/info/usage_summary".to_owned(), &all),
    ] {
        assert_eq!(&f.get(&path).await["usage_summary"], expected, "{path}");
    }
    let nobody = f.user("nobody", &[]).await;
    assert_eq!(
        f.call_as(&nobody, Method::GET, "/v3/info/usage_summary", None)
            .await
            .0,
        404
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_quota_is_finite() {
    let f = Foundation::start().await;
    let quota = f.get("/v3/organization_quotas?names=default").await["resources"][0].clone();
    for path in [
        "/apps/total_memory_in_mb",
        "/apps/total_instances",
        "/apps/per_app_tasks",
        "/routes/total_routes",
        "/domains/total_domains",
    ] {
        assert!(
            quota.pointer(path).is_some_and(Value::is_i64),
            "{path}: {quota}"
        );
    }
    // The text of a refusal names the limit.
    let app = f.started_app("web").await;
    let (status, answer) = f
        .call(
            Method::POST,
            &format!("/v3/processes/{app}/actions/scale"),
            Some(json!({ "memory_in_mb": 20_000_000 })),
        )
        .await;
    assert_eq!(status, 422);
    assert!(detail(&answer).contains("10000000"), "{answer}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_quotas_are_checked() {
    let f = Foundation::start().await;
    let space_quota = json!({ "organization": { "data": { "guid": f.organization } } });
    for (path, relationships) in [
        ("/v3/organization_quotas", json!({})),
        ("/v3/space_quotas", space_quota),
    ] {
        for (limits, why) in [
            (
                json!({ "apps": { "total_memory": 1 } }),
                "unknown field(s): 'total_memory'",
            ),
            (
                json!({ "apps": { "total_memory_in_mb": -1 } }),
                "greater than or equal to 0",
            ),
            (
                json!({ "apps": { "total_memory_in_mb": "1G" } }),
                "is not a number",
            ),
            (
                json!({ "apps": { "total_instances": 3_000_000_000_u64 } }),
                "less than or equal to 2147483647",
            ),
            (json!({ "apps": [] }), "Apps must be an object"),
            (
                json!({ "services": { "paid_services_allowed": 1 } }),
                "must be a boolean",
            ),
            (
                json!({ "routes": { "total_routes": 1, "total_reserved_ports": 2 } }),
                "less than or equal to total routes",
            ),
        ] {
            let mut body = limits.clone();
            body["name"] = json!("bad");
            body["relationships"] = relationships.clone();
            let (status, answer) = f.call(Method::POST, path, Some(body)).await;
            assert_eq!(status, 422, "{limits}: {answer}");
            assert!(detail(&answer).contains(why), "{why}: {answer}");
        }
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn space_quotas_are_created_changed_and_removed() {
    let f = Foundation::start().await;
    let (other, other_space) = f.another_place("other").await;
    let manager = f
        .user(
            "manager",
            &[("organization_manager", "organization", &f.organization)],
        )
        .await;
    let developer = f
        .user(
            "dev",
            &[
                ("organization_user", "organization", &f.organization),
                ("space_developer", "space", &f.space),
            ],
        )
        .await;
    let stranger = f
        .user(
            "stranger",
            &[("organization_manager", "organization", &other)],
        )
        .await;
    let body = |organization: &str| json!({ "name": "small", "apps": { "total_memory_in_mb": 64 }, "relationships": { "organization": { "data": { "guid": organization } } } });
    for (token, organization, expected) in [
        (&developer, f.organization.as_str(), 403),
        (&stranger, f.organization.as_str(), 403),
        (&manager, "no-such-guid", 422),
        (&manager, f.organization.as_str(), 201),
        (&manager, f.organization.as_str(), 422),
    ] {
        let (status, answer) = f
            .call_as(
                token,
                Method::POST,
                "/v3/space_quotas",
                Some(body(organization)),
            )
            .await;
        assert_eq!(status, expected, "{answer}");
    }
    let quota = f.get("/v3/space_quotas?names=small").await["resources"][0].clone();
    assert_eq!(quota["apps"]["total_memory_in_mb"], 64);
    assert!(quota.get("domains").is_none());
    let path = format!("/v3/space_quotas/{}", quota["guid"].as_str().unwrap());
    for (token, expected) in [(&developer, 404), (&stranger, 404), (&manager, 200)] {
        assert_eq!(f.call_as(token, Method::GET, &path, None).await.0, expected);
    }
    let spaces = format!("{path}/relationships/spaces");
    let apply = |space: &str| Some(json!({ "data": [{ "guid": space }] }));
    assert_eq!(
        f.call_as(&manager, Method::POST, &spaces, apply(&other_space))
            .await
            .0,
        422
    );
    assert_eq!(
        f.call(Method::POST, &spaces, apply(&other_space)).await.0,
        422
    );
    let (status, answer) = f
        .call_as(&manager, Method::POST, &spaces, apply(&f.space))
        .await;
    assert_eq!(
        (status, &answer["data"]),
        (200, &json!([{ "guid": f.space }]))
    );
    let space = f.get(&format!("/v3/spaces/{}", f.space)).await;
    assert_eq!(
        space["relationships"]["quota"]["data"]["guid"],
        quota["guid"]
    );
    for (token, expected) in [(&developer, 200), (&stranger, 404)] {
        assert_eq!(f.call_as(token, Method::GET, &path, None).await.0, expected);
    }
    assert_eq!(
        f.call_as(
            &developer,
            Method::PATCH,
            &path,
            Some(json!({ "name": "x" }))
        )
        .await
        .0,
        403
    );
    assert_eq!(
        f.call(Method::DELETE, &path, None).await.0,
        422,
        "it is applied"
    );
    f.delete(&format!("{spaces}/{}", f.space)).await;
    assert_eq!(
        f.call(Method::DELETE, &format!("{spaces}/{}", f.space), None)
            .await
            .0,
        422
    );
    f.delete(&path).await;
    f.finish().await;
}
