//! Access to plans: for everybody, for organizations, or for nobody but administrators.

use super::marketplace::{BROKER, OFFERING, PLANS, by_guid, offering, plans};
use crate::api::filter;
use crate::api::types::{ServiceOffering, ServicePlan, Space, Visibility};
use crate::args::{Flag, Parsed, Spec, value};
use crate::session::Session;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const GROUP: &str = "Service admin";

const ORGANIZATION: Flag = value(Some('o'), "", "ORG", "Only for this organization");
const PLAN: Flag = value(Some('p'), "", "PLAN", "Only this plan");

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "service-access",
        alias: "",
        group: GROUP,
        about: "Show who may use which plans",
        args: &[],
        flags: &[
            value(Some('b'), "", "BROKER", "Only this service broker"),
            OFFERING,
            ORGANIZATION,
        ],
        examples: &["cf service-access -e postgres"],
    },
    Spec {
        name: "enable-service-access",
        alias: "",
        group: GROUP,
        about: "Let everybody or an organization use plans",
        args: &["SERVICE_OFFERING"],
        flags: &[BROKER, ORGANIZATION, PLAN],
        examples: &["cf enable-service-access postgres -p small -o shop"],
    },
    Spec {
        name: "disable-service-access",
        alias: "",
        group: GROUP,
        about: "Let nobody use plans, or an organization no longer",
        args: &["SERVICE_OFFERING"],
        flags: &[BROKER, ORGANIZATION, PLAN],
        examples: &["cf disable-service-access postgres -o shop"],
    },
];

pub(super) async fn run(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    match spec.name {
        "service-access" => service_access(s, p).await,
        "enable-service-access" => enable(s, p).await,
        _ => disable(s, p).await,
    }
}

/// Returns the plans of an offering, or the one of a name.
async fn plans_to_change(
    s: &Session,
    offering: &ServiceOffering,
    plan: Option<&str>,
) -> Result<Vec<ServicePlan>> {
    let plan_name = plan.map(filter);
    let mut query = vec![("service_offering_guids", offering.guid.as_str())];
    if let Some(name) = &plan_name {
        query.push(("names", name));
    }
    let found: Vec<ServicePlan> = s.list(PLANS, &query).await?;
    if found.is_empty() {
        let name = &offering.name;
        match plan {
            Some(plan) => {
                bail!("The plan '{plan}' could not be found for service offering '{name}'.")
            }
            None => bail!("No plans could be found for service offering '{name}'."),
        }
    }
    if found.iter().any(|plan| plan.visibility_type == "space") {
        bail!(
            "You cannot change access for space-scoped service plans. Access to this plan is allowed only within its space."
        );
    }
    Ok(found)
}

/// Writes what a command is about to change.
fn announce(s: &Session, operation: &str, p: &Parsed, user: &str) {
    let mut title = format!("{operation} access to ");
    let mut names = Vec::new();
    match p.get("p") {
        Some(plan) => {
            title.push_str("plan {} ");
            names.push(plan);
        }
        None => title.push_str("all plans "),
    }
    title.push_str("of service offering {} ");
    names.push(p.arg(0));
    if let Some(broker) = p.get("b") {
        title.push_str("from broker {} ");
        names.push(broker);
    }
    match p.get("o") {
        Some(organization) => {
            title.push_str("for org {} ");
            names.push(organization);
        }
        None => title.push_str("for all orgs "),
    }
    names.push(user);
    s.ui.flavor(&format!("{title}as {{}}..."), &names);
}

fn show_skipped(s: &Session, skipped: &[String], visibility: &str) {
    if skipped.is_empty() {
        return;
    }
    s.ui.blank();
    for plan in skipped {
        s.ui.flavor(
            "Did not update plan {} as it already has visibility {}.",
            &[plan, visibility],
        );
    }
    s.ui.blank();
}

fn path_of(plan: &ServicePlan) -> String {
    format!("{PLANS}/{}/visibility", plan.guid)
}

async fn enable(s: &Session, p: &Parsed) -> Result<()> {
    let user = s.require_login()?;
    announce(s, "Enabling", p, &user);
    let offering = offering(s, p.arg(0), p.get("b")).await?;
    let plans = plans_to_change(s, &offering, p.get("p")).await?;
    let body = match p.get("o") {
        None => json!({ "type": "public" }),
        Some(name) => {
            let guid = s.org(name).await?.guid;
            json!({ "type": "organization", "organizations": [{ "guid": guid }] })
        }
    };
    let is_for_all = body["type"] == "public";
    let mut skipped = Vec::new();
    for plan in plans {
        if plan.visibility_type == "public" && !is_for_all {
            skipped.push(plan.name);
            continue;
        }
        let _: Value = s.post(&path_of(&plan), &body).await?;
    }
    show_skipped(s, &skipped, "all");
    s.ui.ok();
    Ok(())
}

async fn disable(s: &Session, p: &Parsed) -> Result<()> {
    let user = s.require_login()?;
    announce(s, "Disabling", p, &user);
    let offering = offering(s, p.arg(0), p.get("b")).await?;
    let plans = plans_to_change(s, &offering, p.get("p")).await?;
    let organization = match p.get("o") {
        Some(name) => Some(s.org(name).await?.guid),
        None => None,
    };
    if organization.is_some() && plans.iter().any(|plan| plan.visibility_type == "public") {
        bail!("Cannot remove organization level access for public plans.");
    }
    let mut skipped = Vec::new();
    for plan in plans {
        let path = path_of(&plan);
        match &organization {
            _ if plan.visibility_type == "admin" => skipped.push(plan.name),
            Some(guid) => s.delete(&format!("{path}/{guid}")).await?,
            None => {
                let _: Value = s.post(&path, &json!({ "type": "admin" })).await?;
            }
        }
    }
    show_skipped(s, &skipped, "none");
    s.ui.ok();
    Ok(())
}

/// Returns the text about a plan's visibility, and the organizations or the space.
async fn access(s: &Session, plan: &ServicePlan, spaces: &[Space]) -> Result<(String, String)> {
    Ok(match plan.visibility_type.as_str() {
        "public" => ("all".to_owned(), String::new()),
        "admin" => ("none".to_owned(), String::new()),
        "space" => {
            let space = spaces.iter().find(|space| space.guid == plan.space_guid());
            let name = space.map(|space| space.name.clone()).unwrap_or_default();
            ("limited".to_owned(), name)
        }
        _ => {
            let found: Visibility = s.get(&path_of(plan)).await?;
            let names: Vec<String> = found
                .organizations
                .into_iter()
                .map(|row| row.name)
                .collect();
            ("limited".to_owned(), names.join(","))
        }
    })
}

async fn service_access(s: &Session, p: &Parsed) -> Result<()> {
    let user = s.require_login()?;
    let (broker, offering, organization) = (p.get("b"), p.get("e"), p.get("o"));
    let (mut about, mut names) = (Vec::new(), Vec::new());
    for (what, name) in [
        ("broker {}", broker),
        ("service offering {}", offering),
        ("organization {}", organization),
    ] {
        if let Some(name) = name {
            about.push(what);
            names.push(name);
        }
    }
    let about = match about.is_empty() {
        true => String::new(),
        false => format!(" for {}", about.join(" and ")),
    };
    names.push(&user);
    s.ui.flavor(&format!("Getting service access{about} as {{}}..."), &names);
    s.ui.blank();
    let organization = match organization {
        Some(name) => Some(s.org(name).await?.guid),
        None => None,
    };
    let (broker, offering) = (broker.map(filter), offering.map(filter));
    let mut query = vec![
        ("include", "space.organization,service_offering"),
        ("fields[service_offering.service_broker]", "name,guid"),
    ];
    for (name, value) in [
        ("service_broker_names", &broker),
        ("service_offering_names", &offering),
        ("organization_guids", &organization),
    ] {
        if let Some(value) = value {
            query.push((name, value));
        }
    }
    let found = plans(s, &query).await?;
    if found.resources.is_empty() {
        s.ui.line("No service plans found.");
        return Ok(());
    }
    let brokers = by_guid(&found.included.service_brokers);
    let offerings = &found.included.service_offerings;
    let mut groups: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    let mut is_of_space: BTreeMap<String, bool> = BTreeMap::new();
    for plan in &found.resources {
        let owner = offerings
            .iter()
            .find(|offering| offering.guid == plan.offering_guid());
        // A plan may have been removed between two pages.
        let Some(owner) = owner else { continue };
        let guid = owner.relationships.service_broker.guid();
        let broker = brokers.get(guid).copied().unwrap_or_default().to_owned();
        let (kind, details) = access(s, plan, &found.included.spaces).await?;
        let is_space = plan.visibility_type == "space";
        is_of_space.entry(broker.clone()).or_insert(is_space);
        let row = vec![owner.name.clone(), plan.name.clone(), kind, details];
        groups.entry(broker).or_default().push(row);
    }
    for (at, (broker, mut rows)) in groups.into_iter().enumerate() {
        if at > 0 {
            s.ui.blank();
        }
        rows.sort();
        s.ui.line(format!("broker: {broker}"));
        let last = match is_of_space.get(&broker) {
            Some(true) => "space",
            _ => "orgs",
        };
        s.ui.table("   ", &["offering", "plan", "access", last], rows);
    }
    Ok(())
}
