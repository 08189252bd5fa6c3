//! Bindings of service instances to apps.

use super::services::{BINDINGS, GROUP, PARAMETERS, WAIT, announce, instance, parameters, send};
use crate::api::Request;
use crate::api::types::{App, ServiceBinding, ServiceInstance};
use crate::args::{Parsed, Spec, value};
use crate::session::Session;
use anyhow::Result;
use reqwest::Method;
use serde_json::json;

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "bind-service",
        alias: "bs",
        group: GROUP,
        about: "Bind a service instance to an app, which gets its credentials with its next start",
        args: &["APP_NAME", "SERVICE_INSTANCE"],
        flags: &[
            value(
                None,
                "binding-name",
                "BINDING_NAME",
                "Name under which the app finds the binding",
            ),
            PARAMETERS,
            value(
                None,
                "strategy",
                "STRATEGY",
                "single (default), or multiple: a further binding, which replaces the others with the next start",
            ),
            WAIT,
        ],
        examples: &[
            "cf bind-service my-app my-db --binding-name main",
            "cf bind-service my-app my-db --strategy multiple --wait",
        ],
    },
    Spec {
        name: "unbind-service",
        alias: "us",
        group: GROUP,
        about: "Remove the bindings between an app and a service instance",
        args: &["APP_NAME", "SERVICE_INSTANCE"],
        flags: &[
            value(None, "guid", "BINDING_GUID", "Only this binding"),
            WAIT,
        ],
        examples: &["cf unbind-service my-app my-db"],
    },
];

pub(super) async fn run(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    match spec.name {
        "bind-service" => bind(s, p).await,
        _ => unbind(s, p).await,
    }
}

/// Returns the bindings of an app to an instance.
async fn bindings(
    s: &Session,
    app: &App,
    instance: &ServiceInstance,
) -> Result<Vec<ServiceBinding>> {
    let query = [
        ("type", "app"),
        ("app_guids", app.guid.as_str()),
        ("service_instance_guids", instance.guid.as_str()),
        ("per_page", "5000"),
    ];
    s.list(BINDINGS, &query).await
}

async fn bind(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let (app_name, name) = (p.arg(0), p.arg(1));
    let (binding_name, strategy) = (p.get("binding-name"), p.get("strategy"));
    p.has("wait");
    let parameters = parameters(s, p)?;
    match binding_name {
        None => announce(
            s,
            "Binding service instance {} to app {}",
            &[name, app_name],
            &target,
        ),
        Some(own) => announce(
            s,
            "Binding service instance {} to app {} with binding name {}",
            &[name, app_name, own],
            &target,
        ),
    }
    let found = instance(s, name, &target).await?;
    let app = s.app(app_name, &target).await?;
    let is_another = strategy == Some("multiple");
    let mut known = bindings(s, &app, &found).await?;
    // One that was not made is replaced.
    known.retain(|binding| !binding.last_operation.is("create", "failed"));
    if !is_another && !known.is_empty() {
        s.ui.line(format!(
            "App {app_name} is already bound to service instance {name}."
        ));
        s.ui.ok();
        return Ok(());
    }
    let mut body = json!({ "type": "app", "relationships": {
        "app": { "data": { "guid": app.guid } },
        "service_instance": { "data": { "guid": found.guid } },
    } });
    if let Some(own) = binding_name {
        body["name"] = own.into();
    }
    if let Some(strategy) = strategy {
        body["strategy"] = strategy.into();
    }
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    let request = Request::new(Method::POST, BINDINGS).json(&body)?;
    let is_done = send(s, p, request).await?;
    s.ui.ok();
    if is_done {
        s.ui.blank();
        s.ui.line(format!(
            "TIP: Use 'cf restage {app_name}' to ensure your env variable changes take effect"
        ));
        return Ok(());
    }
    s.ui.line(format!(
        "Binding in progress. Use 'cf service {name}' to check operation status."
    ));
    s.ui.blank();
    s.ui.line(format!(
        "TIP: Once this operation succeeds, use 'cf restage {app_name}' to ensure your env variable changes take effect"
    ));
    Ok(())
}

async fn unbind(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let (app_name, name) = (p.arg(0), p.arg(1));
    let only = p.get("guid");
    p.has("wait");
    announce(
        s,
        "Unbinding app {} from service {}",
        &[app_name, name],
        &target,
    );
    let found = instance(s, name, &target).await?;
    let app = s.app(app_name, &target).await?;
    let mut bound = bindings(s, &app, &found).await?;
    if bound.is_empty() {
        s.ui.warn(format!(
            "Binding between {name} and {app_name} did not exist"
        ));
        s.ui.ok();
        return Ok(());
    }
    if let Some(guid) = only {
        bound.retain(|binding| binding.guid == guid);
        if bound.is_empty() {
            s.ui.line(format!("Service binding with GUID {guid} does not exist"));
            s.ui.ok();
            return Ok(());
        }
    }
    for binding in bound {
        let guid = &binding.guid;
        s.ui.line(format!("Deleting service binding {guid}..."));
        let request = Request::new(Method::DELETE, format!("{BINDINGS}/{guid}"));
        let is_done = send(s, p, request).await?;
        s.ui.ok();
        if !is_done {
            s.ui.line(format!(
                "Unbinding in progress. Use 'cf service {name}' to check operation status."
            ));
        }
    }
    Ok(())
}
