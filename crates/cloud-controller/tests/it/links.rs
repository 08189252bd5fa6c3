//! Every link that a resource shows leads somewhere.

use crate::fixture::*;
use crate::managed_route_bindings::become_gate;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testkit::broker::Broker;

/// Creates one of each resource that has links.
async fn fill(f: &Foundation, broker: &Broker) {
    become_gate(broker);
    let (plan, _) = f.offer(broker, "broker").await;
    f.register(broker, "own-broker", Some(&f.space)).await;
    let app = f.started_app("app").await;
    let package = f.package(&app, zip("run", "#!/bin/sh")).await;
    let package = package.as_str();
    let of_package = json!({ "package": { "guid": package } });
    f.send(Method::POST, "/v3/builds", of_package).await;
    let route = f.create_route("host", "/path").await;
    f.map(&route, &app).await;
    let sidecar = json!({ "name": "s", "command": "c", "process_types": ["web"] });
    f.send(Method::POST, &format!("/v3/apps/{app}/sidecars"), sidecar)
        .await;
    f.send(
        Method::POST,
        &format!("/v3/apps/{app}/tasks"),
        json!({ "command": "true" }),
    )
    .await;
    f.send(
        Method::POST,
        "/v3/deployments",
        json!({ "relationships": { "app": { "data": { "guid": app } } } }),
    )
    .await;
    let of_organization = json!({ "organization": { "data": { "guid": f.organization } } });
    for (path, body) in [
        (
            "/v3/domains",
            json!({ "name": "private.test", "relationships": of_organization }),
        ),
        (
            "/v3/space_quotas",
            json!({ "name": "q", "relationships": { "organization": of_organization["organization"], "spaces": { "data": [{ "guid": f.space }] } } }),
        ),
        ("/v3/security_groups", json!({ "name": "g", "rules": [] })),
    ] {
        f.send(Method::POST, path, body).await;
    }
    let service = f.create_instance("service", json!({ "k": "v" })).await;
    f.bind(&app, &service).await;
    let managed = f.create_managed("managed", &plan).await;
    f.bind_managed(&app, &managed).await;
    f.create_key(&managed, "key").await;
    f.bind_new_route("route-service").await;
    let route = f.create_route("managed", "").await;
    f.bind_route_managed(&route, &managed).await;
    let roles: &[(&str, &str, &str)] = &[
        ("organization_user", "organization", &f.organization),
        ("space_developer", "space", &f.space),
    ];
    f.user("u", roles).await;
}

/// Returns (method, path) of all links below `links` keys, and of those of the relationships.
fn links(json: &Value, found: &mut BTreeSet<(String, String)>) {
    match json {
        Value::Object(map) => {
            if let Some(href) = map.get("href").and_then(Value::as_str)
                && let Some(path) = href.strip_prefix("http://api.test")
            {
                let method = map.get("method").and_then(Value::as_str).unwrap_or("GET");
                found.insert((method.to_owned(), path.to_owned()));
            }
            map.values().for_each(|value| links(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| links(value, found)),
        _ => {}
    }
}

fn matches(template: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let (mut template, mut path) = (template.split('/'), path.split('/'));
    loop {
        match (template.next(), path.next()) {
            (None, None) => return true,
            (Some(t), Some(p)) if t == p || t.starts_with('{') => {}
            _ => return false,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_link_of_every_resource_answers() {
    let f = Foundation::start().await;
    let broker = Broker::start("db").await;
    fill(&f, &broker).await;
    let endpoints = cloud_controller::endpoints();
    let lists = endpoints
        .iter()
        .filter(|endpoint| endpoint.method == "GET" && !endpoint.path.contains('{'));
    let mut found = BTreeSet::new();
    for list in lists {
        let (status, body) = f.call(Method::GET, &list.path, None).await;
        if status == 200 {
            links(&body, &mut found);
        }
    }
    assert!(found.len() > 100, "only {} links", found.len());
    let mut dead = Vec::new();
    for (method, path) in &found {
        // These are a template, and the base to which clients append `/policies`.
        if path.contains('{') || path == "/networking/v1/external" {
            continue;
        }
        let path = if path.is_empty() { "/" } else { path.as_str() };
        let known = endpoints
            .iter()
            .any(|endpoint| endpoint.method == *method && matches(&endpoint.path, path));
        if !known {
            dead.push(format!("{method} {path} has no endpoint"));
        } else if method == "GET" {
            let (status, body) = f.call(Method::GET, path, None).await;
            if status != 200 {
                dead.push(format!("GET {path}: {status} {body}"));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
    f.finish().await;
}
