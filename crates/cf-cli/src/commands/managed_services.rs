//! Service instances of the marketplace: create, change, upgrade and purge them.

use super::marketplace::{BROKER, plans};
use super::services::{
    GROUP, INSTANCES, PARAMETERS, TAGS, WAIT, announce, find, in_progress, instance, parameters,
    send, tags,
};
use crate::api::error::ApiError;
use crate::api::types::{ServiceInstance, ServicePlan};
use crate::api::{Request, filter};
use crate::args::{Flag, Parsed, Spec, switch, value};
use crate::session::{Session, Target};
use anyhow::{Result, bail};
use reqwest::Method;
use serde_json::{Map, Value, json};

const FORCE: Flag = switch(Some('f'), "force", "Do it without asking");

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "create-service",
        alias: "cs",
        group: GROUP,
        about: "Create a service instance from a plan of the marketplace",
        args: &["SERVICE_OFFERING", "PLAN", "SERVICE_INSTANCE"],
        flags: &[BROKER, PARAMETERS, TAGS, WAIT],
        examples: &[
            "cf create-service postgres small my-db",
            "cf create-service postgres small my-db -c parameters.json -t sql,test --wait",
        ],
    },
    Spec {
        name: "update-service",
        alias: "",
        group: GROUP,
        about: "Change the plan, the parameters or the tags of a service instance",
        args: &["SERVICE_INSTANCE"],
        flags: &[
            value(Some('p'), "", "NEW_PLAN", "Another plan of its offering"),
            PARAMETERS,
            TAGS,
            WAIT,
        ],
        examples: &["cf update-service my-db -p large --wait"],
    },
    Spec {
        name: "upgrade-service",
        alias: "",
        group: GROUP,
        about: "Upgrade a service instance to the newest version of its plan",
        args: &["SERVICE_INSTANCE"],
        flags: &[FORCE, WAIT],
        examples: &["cf upgrade-service my-db -f --wait"],
    },
    Spec {
        name: "purge-service-instance",
        alias: "",
        group: GROUP,
        about: "Remove a service instance from the platform, without a call of its broker",
        args: &["SERVICE_INSTANCE"],
        flags: &[FORCE],
        examples: &["cf purge-service-instance my-db -f"],
    },
];

pub(super) async fn run(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    match spec.name {
        "create-service" => create(s, p).await,
        "update-service" => update(s, p).await,
        "upgrade-service" => upgrade(s, p).await,
        _ => purge(s, p).await,
    }
}

/// Returns the plan of an offering that the targeted space may use.
async fn plan(
    s: &Session,
    (offering, name): (&str, &str),
    broker: Option<&str>,
    target: &Target,
) -> Result<ServicePlan> {
    let (offering_name, plan_name) = (filter(offering), filter(name));
    let broker_name = broker.map(filter);
    let mut query = vec![
        ("names", plan_name.as_str()),
        ("service_offering_names", offering_name.as_str()),
        ("space_guids", target.space.guid.as_str()),
        ("include", "service_offering"),
        ("fields[service_offering.service_broker]", "name,guid"),
    ];
    if let Some(broker) = &broker_name {
        query.push(("service_broker_names", broker));
    }
    let mut found = plans(s, &query).await?;
    match found.resources.len() {
        1 => Ok(found.resources.remove(0)),
        0 => {
            let from = broker.map_or_else(String::new, |broker| {
                format!(" provided by service broker '{broker}'")
            });
            bail!(
                "The plan '{name}' could not be found for service offering '{offering}'{from}. 'cf marketplace' lists what this space may use."
            )
        }
        _ => {
            let brokers = found.included.service_brokers.iter();
            let brokers: Vec<&str> = brokers.map(|broker| broker.name.as_str()).collect();
            bail!(
                "Service plan '{name}' is provided by multiple service offerings or brokers: {}\nSpecify a broker by using the '-b' flag.",
                brokers.join(", ")
            )
        }
    }
}

async fn create(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let (offering, plan_name, name) = (p.arg(0), p.arg(1), p.arg(2).trim());
    let (broker, parameters) = (p.get("b"), parameters(s, p)?);
    let tags = p.get("t").map(tags);
    p.has("wait");
    announce(s, "Creating service instance {}", &[name], &target);
    let plan = plan(s, (offering, plan_name), broker, &target).await?;
    let mut body = json!({
        "type": "managed",
        "name": name,
        "relationships": {
            "space": { "data": { "guid": target.space.guid } },
            "service_plan": { "data": { "guid": plan.guid } },
        },
    });
    if let Some(tags) = tags {
        body["tags"] = json!(tags);
    }
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    let request = Request::new(Method::POST, INSTANCES).json(&body)?;
    let is_done = match send(s, p, request).await {
        Err(error) if is_taken(&error) => {
            s.ui.ok();
            s.ui.line(format!("Service instance {name} already exists"));
            return Ok(());
        }
        sent => sent?,
    };
    s.ui.blank();
    match is_done {
        true => s.ui.line(format!("Service instance {name} created.")),
        false => in_progress(s, "Create", name),
    }
    s.ui.ok();
    Ok(())
}

fn is_taken(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<ApiError>();
    refused.is_some_and(|refused| refused.has_detail("The service instance name is taken"))
}

/// Refuses what only instances of the marketplace have.
fn must_be_managed(found: &ServiceInstance) -> Result<()> {
    if found.is_managed() {
        return Ok(());
    }
    let name = &found.name;
    bail!(
        "Service instance '{name}' is user-provided. Use 'cf update-user-provided-service' to change it."
    )
}

/// Returns the plan that an instance has.
async fn plan_of(s: &Session, found: &ServiceInstance) -> Result<ServicePlan> {
    let guid = found.relationships.service_plan.guid();
    s.get(&format!("/v3/service_plans/{guid}")).await
}

async fn update(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(0);
    let (plan_name, parameters) = (p.get("p"), parameters(s, p)?);
    let tags = p.get("t").map(tags);
    p.has("wait");
    announce(s, "Updating service instance {}", &[name], &target);
    s.ui.blank();
    if plan_name.is_none() && parameters.is_none() && tags.is_none() {
        s.ui.line("No flags specified. No changes were made.");
        s.ui.ok();
        return Ok(());
    }
    let found = instance(s, name, &target).await?;
    must_be_managed(&found)?;
    let mut body = Map::new();
    if let Some(tags) = tags {
        body.insert("tags".to_owned(), json!(tags));
    }
    if let Some(parameters) = parameters {
        body.insert("parameters".to_owned(), parameters);
    }
    if let Some(wanted) = plan_name
        && let Some(guid) = other_plan(s, &found, wanted).await?
    {
        let related = json!({ "service_plan": { "data": { "guid": guid } } });
        body.insert("relationships".to_owned(), related);
    }
    if body.is_empty() {
        s.ui.line("No changes were made.");
        s.ui.ok();
        return Ok(());
    }
    match change(s, p, &found, &body.into()).await? {
        true => {
            s.ui.line(format!("Update of service instance {name} complete."))
        }
        false => in_progress(s, "Update", name),
    }
    s.ui.ok();
    Ok(())
}

/// Returns the plan of a name in the offering of an instance, unless the instance has this plan.
async fn other_plan(s: &Session, found: &ServiceInstance, wanted: &str) -> Result<Option<String>> {
    let present = plan_of(s, found).await?;
    if present.name == wanted {
        return Ok(None);
    }
    let name = filter(wanted);
    let query = [
        ("names", name.as_str()),
        ("service_offering_guids", present.offering_guid()),
    ];
    let mut all = plans(s, &query).await?.resources;
    match all.pop() {
        Some(plan) => Ok(Some(plan.guid)),
        None => bail!(
            "The plan '{wanted}' could not be found for the service offering of '{}'.",
            found.name
        ),
    }
}

/// Changes an instance. Returns whether all is done.
async fn change(s: &Session, p: &Parsed, found: &ServiceInstance, body: &Value) -> Result<bool> {
    let path = format!("{INSTANCES}/{}", found.guid);
    send(s, p, Request::new(Method::PATCH, path).json(body)?).await
}

async fn upgrade(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(0);
    p.has("wait");
    if !p.has("force") {
        s.ui.line("Warning: This operation may be long running and will block further operations on the service instance until it's completed");
        let named = s.ui.named(name);
        let question = format!("Do you really want to upgrade the service instance {named}?");
        if !s.ui.confirm(&question)? {
            s.ui.line("Upgrade cancelled");
            return p.end_early();
        }
    }
    announce(s, "Upgrading service instance {}", &[name], &target);
    s.ui.blank();
    let found = instance(s, name, &target).await?;
    must_be_managed(&found)?;
    if !found.is_upgradable() {
        s.ui.line(format!(
            "No upgrade is available for service instance '{name}'."
        ));
        s.ui.ok();
        return Ok(());
    }
    let info = plan_of(s, &found).await?.maintenance_info;
    let version = info.unwrap_or_default().version;
    let body = json!({ "maintenance_info": { "version": version } });
    match change(s, p, &found, &body).await? {
        true => {
            s.ui.line(format!("Upgrade of service instance {name} complete."))
        }
        false => in_progress(s, "Upgrade", name),
    }
    s.ui.ok();
    Ok(())
}

const WARNING: &str = "WARNING: The service broker is not called. The service instance is removed from the platform with its service bindings and service keys; what the broker has made stays there. Use this only if the broker does not work any more.\n";

async fn purge(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(0);
    if !p.has("force") {
        s.ui.line(WARNING);
        let named = s.ui.named(name);
        let question = format!("Really purge service instance {named} from Cloud Foundry?");
        if !s.ui.confirm(&question)? {
            s.ui.line("Purge cancelled");
            return p.end_early();
        }
    }
    announce(s, "Purging service instance {}", &[name], &target);
    match find(s, name, &target).await? {
        Some(found) => {
            s.delete(&format!("{INSTANCES}/{}?purge=true", found.guid))
                .await?;
            s.ui.line(format!("\nService instance {name} purged."));
        }
        None => {
            s.ui.line(format!("\nService instance {name} did not exist."))
        }
    }
    s.ui.ok();
    Ok(())
}
