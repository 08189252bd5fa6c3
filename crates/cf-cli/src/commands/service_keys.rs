//! Service keys: credentials of a service instance that belong to no app.

use super::services::{BINDINGS, GROUP, PARAMETERS, WAIT, instance, parameters, send};
use crate::api::error::ApiError;
use crate::api::types::{ServiceBinding, ServiceInstance};
use crate::api::{Request, filter};
use crate::args::{Parsed, Spec, switch};
use crate::session::Session;
use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "create-service-key",
        alias: "csk",
        group: GROUP,
        about: "Create a key of a service instance",
        args: &["SERVICE_INSTANCE", "SERVICE_KEY"],
        flags: &[PARAMETERS, WAIT],
        examples: &["cf create-service-key my-db my-key --wait"],
    },
    Spec {
        name: "delete-service-key",
        alias: "dsk",
        group: GROUP,
        about: "Delete a key of a service instance",
        args: &["SERVICE_INSTANCE", "SERVICE_KEY"],
        flags: &[switch(Some('f'), "force", "Delete without asking"), WAIT],
        examples: &["cf delete-service-key my-db my-key -f"],
    },
    Spec {
        name: "service-keys",
        alias: "sk",
        group: GROUP,
        about: "List the keys of a service instance",
        args: &["SERVICE_INSTANCE"],
        flags: &[],
        examples: &["cf service-keys my-db"],
    },
    Spec {
        name: "service-key",
        alias: "",
        group: GROUP,
        about: "Show the credentials of a key",
        args: &["SERVICE_INSTANCE", "SERVICE_KEY"],
        flags: &[switch(None, "guid", "Show only the guid")],
        examples: &["cf service-key my-db my-key"],
    },
];

pub(super) async fn run(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    match spec.name {
        "create-service-key" => create(s, p).await,
        "delete-service-key" => delete(s, p).await,
        "service-keys" => list(s, p).await,
        _ => show(s, p).await,
    }
}

/// Returns the key of a name.
async fn find(
    s: &Session,
    instance: &ServiceInstance,
    name: &str,
) -> Result<Option<ServiceBinding>> {
    let names = filter(name);
    let query = [
        ("type", "key"),
        ("service_instance_guids", instance.guid.as_str()),
        ("names", names.as_str()),
    ];
    s.first(BINDINGS, &query).await
}

async fn create(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let (name, key) = (p.arg(0), p.arg(1));
    let parameters = parameters(s, p)?;
    p.has("wait");
    s.ui.flavor(
        "Creating service key {} for service instance {} as {}...",
        &[key, name, &target.user],
    );
    let found = instance(s, name, &target).await?;
    let mut body = json!({
        "type": "key",
        "name": key,
        "relationships": { "service_instance": { "data": { "guid": found.guid } } },
    });
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    let request = Request::new(Method::POST, BINDINGS).json(&body)?;
    let is_done = match send(s, p, request).await {
        Err(error) if is_taken(&error) => {
            s.ui.line(format!("\nService key {key} already exists"));
            s.ui.ok();
            return Ok(());
        }
        sent => sent?,
    };
    s.ui.ok();
    if !is_done {
        s.ui.line("Create in progress.");
    }
    Ok(())
}

fn is_taken(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<ApiError>();
    refused.is_some_and(|refused| refused.has_detail("already has a key binding with name"))
}

async fn delete(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let (name, key) = (p.arg(0), p.arg(1));
    p.has("wait");
    let question = format!("Really delete the service key {}?", s.ui.named(key));
    if !p.has("force") && !s.ui.confirm(&question)? {
        s.ui.line("Delete cancelled");
        return p.end_early();
    }
    s.ui.flavor(
        "Deleting key {} for service instance {} as {}...",
        &[key, name, &target.user],
    );
    let found = instance(s, name, &target).await?;
    let Some(known) = find(s, &found, key).await? else {
        s.ui.line(format!(
            "\nService key {key} does not exist for service instance {name}."
        ));
        s.ui.ok();
        return Ok(());
    };
    let path = format!("{BINDINGS}/{}", known.guid);
    let is_done = send(s, p, Request::new(Method::DELETE, path)).await?;
    s.ui.ok();
    if !is_done {
        s.ui.line("Delete in progress.");
    }
    Ok(())
}

async fn list(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(0);
    s.ui.flavor(
        "Getting keys for service instance {} as {}...",
        &[name, &target.user],
    );
    s.ui.blank();
    let found = instance(s, name, &target).await?;
    let query = [
        ("type", "key"),
        ("service_instance_guids", found.guid.as_str()),
        ("per_page", "5000"),
    ];
    let keys: Vec<ServiceBinding> = s.list(BINDINGS, &query).await?;
    if keys.is_empty() {
        s.ui.line(format!("No service keys for service instance {name}"));
        return Ok(());
    }
    let rows = keys.into_iter().map(|key| {
        let operation = key.last_operation;
        vec![
            key.name.unwrap_or_default(),
            format!("{} {}", operation.kind, operation.state),
            operation.description.unwrap_or_default(),
        ]
    });
    let header = ["name", "last operation", "message"];
    s.ui.table("", &header, rows.collect());
    Ok(())
}

async fn show(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let (name, key) = (p.arg(0), p.arg(1));
    let shows_guid = p.has("guid");
    if !shows_guid {
        s.ui.flavor(
            "Getting key {} for service instance {} as {}...",
            &[key, name, &target.user],
        );
        s.ui.blank();
    }
    let found = instance(s, name, &target).await?;
    let missing = || format!("No service key {key} found for service instance {name}");
    let known = find(s, &found, key).await?.with_context(missing)?;
    if shows_guid {
        s.ui.line(&known.guid);
        return Ok(());
    }
    let details: Value = s.get(&format!("{BINDINGS}/{}/details", known.guid)).await?;
    s.ui.line(format!("{details:#}"));
    Ok(())
}
