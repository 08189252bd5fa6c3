//! Bindings of routes to service instances: requests for a bound route go to the service before they reach an app.

use super::routes::{Wanted, names};
use super::services::{GROUP, PARAMETERS, WAIT, announce, instance, parameters, send};
use crate::api::Request;
use crate::api::types::{Route, RouteBinding, ServiceInstance};
use crate::args::{Flag, Parsed, Spec, switch, value};
use crate::propagation;
use crate::session::Session;
use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeMap;

const BINDINGS: &str = "/v3/service_route_bindings";

const HOSTNAME: Flag = value(Some('n'), "hostname", "HOSTNAME", "Host name of the route");
const PATH: Flag = value(None, "path", "PATH", "Path of the route");

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "bind-route-service",
        alias: "brs",
        group: GROUP,
        about: "Bind a service instance to a route, whose requests go to the service first",
        args: &["DOMAIN", "SERVICE_INSTANCE"],
        flags: &[HOSTNAME, PATH, PARAMETERS, WAIT],
        examples: &[
            "cf bind-route-service apps.cupola.test my-gate --hostname my-app",
            "cf bind-route-service apps.cupola.test my-gate --hostname my-app --path /v2",
        ],
    },
    Spec {
        name: "unbind-route-service",
        alias: "urs",
        group: GROUP,
        about: "Remove the binding between a route and a service instance",
        args: &["DOMAIN", "SERVICE_INSTANCE"],
        flags: &[
            HOSTNAME,
            PATH,
            switch(Some('f'), "force", "Unbind without asking"),
            WAIT,
        ],
        examples: &["cf unbind-route-service apps.cupola.test my-gate --hostname my-app -f"],
    },
];

/// Returns the binding of a route to an instance, if there is one.
async fn binding(
    s: &Session,
    route: &Route,
    instance: &ServiceInstance,
) -> Result<Option<RouteBinding>> {
    let query = [
        ("route_guids", route.guid.as_str()),
        ("service_instance_guids", instance.guid.as_str()),
    ];
    s.first(BINDINGS, &query).await
}

pub(super) async fn bind(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let (name, parameters) = (p.arg(1), parameters(s, p)?);
    let wanted = Wanted::of(s, spec, p, p.arg(0)).await?;
    let url = wanted.url();
    announce(
        s,
        "Binding route {} to service instance {}",
        &[&url, name],
        &target,
    );
    let instance = instance(s, name, &target).await?;
    let route = wanted.find(s).await?.with_context(|| wanted.not_found())?;
    if binding(s, &route, &instance).await?.is_some() {
        s.ui.line(format!(
            "Route {url} is already bound to service instance {name}."
        ));
        s.ui.ok();
        return p.end_early();
    }
    let mut body = json!({ "relationships": {
        "route": { "data": { "guid": route.guid } },
        "service_instance": { "data": { "guid": instance.guid } },
    } });
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    let request = Request::new(Method::POST, BINDINGS).json(&body)?;
    let is_done = send(s, p, request).await?;
    end(s, &route, is_done, "Binding").await;
    Ok(())
}

/// Ends a command with what the routers have, or with the note that a broker still works.
async fn end(s: &Session, route: &Route, is_done: bool, verb: &str) {
    s.ui.ok();
    match is_done {
        true => show_propagation(s, route).await,
        false => s.ui.line(format!("{verb} in progress.")),
    }
}

/// Waits until the routers of a route that leads somewhere have its change, and shows how far it has come.
async fn show_propagation(s: &Session, route: &Route) {
    if !route.destinations.is_empty() {
        propagation::show(s, std::slice::from_ref(route)).await;
    }
}

pub(super) async fn unbind(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(1);
    let wanted = Wanted::of(s, spec, p, p.arg(0)).await?;
    let url = wanted.url();
    let question = format!(
        "Really unbind route {} from service instance {}?",
        s.ui.named(&url),
        s.ui.named(name)
    );
    if !p.has("force") && !s.ui.confirm(&question)? {
        s.ui.line("Unbind cancelled");
        return p.end_early();
    }
    announce(
        s,
        "Unbinding route {} from service instance {}",
        &[&url, name],
        &target,
    );
    let instance = instance(s, name, &target).await?;
    let route = wanted.find(s).await?.with_context(|| wanted.not_found())?;
    let Some(binding) = binding(s, &route, &instance).await? else {
        s.ui.line(format!(
            "Route {url} was not bound to service instance {name}."
        ));
        s.ui.ok();
        return p.end_early();
    };
    let path = format!("{BINDINGS}/{}", binding.guid);
    let is_done = send(s, p, Request::new(Method::DELETE, path)).await?;
    end(s, &route, is_done, "Unbinding").await;
    Ok(())
}

/// Returns the names of the service instances to which routes are bound, by the guids of the routes. One request fetches 200.
pub(super) async fn instances(s: &Session, routes: &[Route]) -> Result<BTreeMap<String, String>> {
    let guids: Vec<&str> = routes.iter().map(|route| route.guid.as_str()).collect();
    let mut bindings: Vec<RouteBinding> = Vec::new();
    for batch in guids.chunks(200) {
        let batch = batch.join(",");
        let query = [("route_guids", batch.as_str()), ("per_page", "200")];
        bindings.extend(s.list::<RouteBinding>(BINDINGS, &query).await?);
    }
    let instances = bindings.iter().map(|one| one.instance_guid().to_owned());
    let names = names(s, "/v3/service_instances", instances.collect()).await?;
    let named = |binding: &RouteBinding| {
        let name = names.get(binding.instance_guid())?;
        Some((binding.route_guid().to_owned(), name.clone()))
    };
    Ok(bindings.iter().filter_map(named).collect())
}
