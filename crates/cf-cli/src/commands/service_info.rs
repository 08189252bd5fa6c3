//! The lists of service instances, and one instance with everything that is known about it.

use super::marketplace::by_guid;
use super::routes::names;
use super::services::{BINDINGS, GROUP, INSTANCES, announce};
use crate::api::types::{
    InstancePage, LastOperation, ServiceBinding, ServiceInstance, ServiceOffering, ServicePlan,
    ShareUsage,
};
use crate::api::{filter, with_query};
use crate::args::{Parsed, Spec, switch};
use crate::session::{Session, Target};
use anyhow::{Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The fields of what is above an instance.
const FIELDS: [(&str, &str); 3] = [
    (
        "fields[service_plan]",
        "guid,name,relationships.service_offering",
    ),
    (
        "fields[service_plan.service_offering]",
        "guid,name,description,documentation_url,tags,relationships.service_broker",
    ),
    (
        "fields[service_plan.service_offering.service_broker]",
        "guid,name",
    ),
];

/// The fields of a space and its organization.
const PLACES: [(&str, &str); 2] = [
    ("fields[space]", "guid,name,relationships.organization"),
    ("fields[space.organization]", "guid,name"),
];

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "services",
        alias: "s",
        group: GROUP,
        about: "List all service instances in the target space",
        args: &[],
        flags: &[switch(None, "no-apps", "Leave out the bound apps")],
        examples: &["cf services"],
    },
    Spec {
        name: "service",
        alias: "",
        group: GROUP,
        about: "Show a service instance and the apps that are bound to it",
        args: &["SERVICE_INSTANCE"],
        flags: &[
            switch(None, "guid", "Show only the guid").not_with(&["params"]),
            switch(None, "params", "Show only the parameters, as JSON"),
        ],
        examples: &["cf service my-db", "cf service my-db --params"],
    },
];

pub(super) async fn run(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    match spec.name {
        "services" => services(s, p).await,
        _ => service(s, p).await,
    }
}

/// Returns instances with what is above them.
async fn page(s: &Session, query: &[(&str, &str)]) -> Result<InstancePage> {
    let mut all: InstancePage = s.get(&with_query(INSTANCES, query)).await?;
    while let Some(next) = all.pagination.next.take().and_then(|next| next.href) {
        let more: InstancePage = s.get(&next).await?;
        all.resources.extend(more.resources);
        all.included.add(more.included);
        all.pagination = more.pagination;
    }
    Ok(all)
}

/// The rows above an instance.
struct Above<'a> {
    plan: &'a ServicePlan,
    offering: &'a ServiceOffering,
    broker: String,
}

/// Returns what is above a managed instance.
fn above<'a>(page: &'a InstancePage, instance: &ServiceInstance) -> Option<Above<'a>> {
    let wanted = instance.relationships.service_plan.guid();
    let included = &page.included;
    let plan = included
        .service_plans
        .iter()
        .find(|plan| plan.guid == wanted)?;
    let mut offerings = included.service_offerings.iter();
    let offering = offerings.find(|offering| offering.guid == plan.offering_guid())?;
    let brokers = by_guid(&included.service_brokers);
    let broker = brokers.get(offering.relationships.service_broker.guid());
    let broker = broker.copied().unwrap_or_default().to_owned();
    Some(Above {
        plan,
        offering,
        broker,
    })
}

/// Returns the bindings of instances to apps.
async fn bindings(s: &Session, instances: &[ServiceInstance]) -> Result<Vec<ServiceBinding>> {
    let guids: Vec<&str> = instances.iter().map(|one| one.guid.as_str()).collect();
    let mut all = Vec::new();
    for batch in guids.chunks(200) {
        let batch = batch.join(",");
        let query = [
            ("type", "app"),
            ("service_instance_guids", batch.as_str()),
            ("per_page", "5000"),
        ];
        all.extend(s.list::<ServiceBinding>(BINDINGS, &query).await?);
    }
    Ok(all)
}

/// Returns the names of the bound apps by guid.
async fn app_names(s: &Session, bindings: &[ServiceBinding]) -> Result<BTreeMap<String, String>> {
    let guids: BTreeSet<String> = bindings.iter().map(|b| b.app_guid().to_owned()).collect();
    names(s, "/v3/apps", guids).await
}

fn status(operation: &LastOperation) -> String {
    format!("{} {}", operation.kind, operation.state)
}

/// Returns the last two columns of an instance: whether it can be upgraded is known of managed ones only.
fn upgrade(instance: &ServiceInstance) -> String {
    let text = match (instance.is_managed(), instance.is_upgradable()) {
        (false, _) => "",
        (true, true) => "yes",
        (true, false) => "no",
    };
    text.to_owned()
}

async fn services(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    announce(s, "Getting service instances", &[], &target);
    s.ui.blank();
    let mut query = vec![
        ("space_guids", target.space.guid.as_str()),
        ("order_by", "name"),
        ("per_page", "5000"),
    ];
    query.extend(FIELDS);
    let page = page(s, &query).await?;
    let instances = &page.resources;
    let hides_apps = p.has("no-apps");
    if instances.is_empty() {
        s.ui.line("No service instances found.");
        return Ok(());
    }
    let bindings = match hides_apps {
        true => Vec::new(),
        false => bindings(s, instances).await?,
    };
    let apps = app_names(s, &bindings).await?;
    let rows = instances.iter().map(|one| {
        let bound = bindings.iter().filter(|b| b.instance_guid() == one.guid);
        let bound: BTreeSet<&str> = bound
            .filter_map(|b| apps.get(b.app_guid()).map(String::as_str))
            .collect();
        let bound: Vec<&str> = bound.into_iter().collect();
        let above = above(&page, one);
        let (offering, plan, broker) = match &above {
            Some(above) => (
                above.offering.name.clone(),
                above.plan.name.clone(),
                above.broker.clone(),
            ),
            None => (one.kind.clone(), String::new(), String::new()),
        };
        let mut row = vec![one.name.clone(), offering, plan];
        if !hides_apps {
            row.push(bound.join(", "));
        }
        row.extend([status(&one.last_operation), broker, upgrade(one)]);
        row
    });
    let rows = rows.collect();
    let mut header = vec!["name", "offering", "plan"];
    if !hides_apps {
        header.push("bound apps");
    }
    header.extend(["last operation", "broker", "upgrade available"]);
    s.ui.table("", &header, rows);
    Ok(())
}

/// Returns the rows about an instance.
fn described(found: &ServiceInstance, above: Option<&Above<'_>>) -> Vec<(&'static str, String)> {
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut rows = vec![
        ("name", found.name.clone()),
        ("guid", found.guid.clone()),
        ("type", found.kind.clone()),
    ];
    let tags = ("tags", found.tags.join(", "));
    match above {
        Some(above) => rows.extend([
            ("broker", above.broker.clone()),
            ("offering", above.offering.name.clone()),
            ("plan", above.plan.name.clone()),
            tags,
            ("offering tags", above.offering.tags.join(", ")),
            ("description", above.offering.description.clone()),
            ("documentation", optional(&above.offering.documentation_url)),
            ("dashboard url", optional(&found.dashboard_url)),
        ]),
        None => rows.extend([
            tags,
            ("route service url", optional(&found.route_service_url)),
            ("syslog drain url", optional(&found.syslog_drain_url)),
        ]),
    }
    rows
}

async fn service(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(0);
    let (shows_guid, shows_parameters) = (p.has("guid"), p.has("params"));
    let is_whole = !shows_guid && !shows_parameters;
    if is_whole {
        announce(s, "Showing info of service {}", &[name], &target);
        s.ui.blank();
    }
    let filtered = filter(name);
    let mut query = vec![
        ("names", filtered.as_str()),
        ("space_guids", target.space.guid.as_str()),
    ];
    query.extend(FIELDS);
    query.extend(PLACES);
    let page = page(s, &query).await?;
    let Some(found) = page.resources.first() else {
        bail!("Service instance '{name}' not found.");
    };
    if shows_guid {
        s.ui.line(&found.guid);
        return Ok(());
    }
    if shows_parameters {
        let path = format!("{INSTANCES}/{}/parameters", found.guid);
        let parameters: Value = s.get(&path).await?;
        s.ui.line(format!("{parameters:#}"));
        return Ok(());
    }
    let above = above(&page, found);
    s.ui.key_values(&described(found, above.as_ref()));
    s.ui.blank();
    s.ui.line("Showing status of last operation:");
    let operation = &found.last_operation;
    s.ui.key_values(&[
        ("   status", status(operation)),
        (
            "   message",
            operation.description.clone().unwrap_or_default(),
        ),
        ("   started", operation.created_at.clone()),
        ("   updated", operation.updated_at.clone()),
    ]);
    s.ui.blank();
    bound_apps(s, found).await?;
    if let Some(above) = above {
        s.ui.blank();
        sharing(s, (&page, found), &target).await?;
        s.ui.blank();
        upgrades(s, found, above.plan).await?;
    }
    Ok(())
}

async fn bound_apps(s: &Session, found: &ServiceInstance) -> Result<()> {
    s.ui.line("Showing bound apps:");
    let bindings = bindings(s, std::slice::from_ref(found)).await?;
    if bindings.is_empty() {
        s.ui.line("   There are no bound apps for this service instance.");
        return Ok(());
    }
    let apps = app_names(s, &bindings).await?;
    let mut rows: Vec<Vec<String>> = bindings
        .iter()
        .map(|binding| {
            let operation = &binding.last_operation;
            vec![
                apps.get(binding.app_guid()).cloned().unwrap_or_default(),
                binding.name.clone().unwrap_or_default(),
                status(operation),
                operation.description.clone().unwrap_or_default(),
                binding.guid.clone(),
                binding.created_at.clone(),
            ]
        })
        .collect();
    // The bindings of an app are shown from the newest one on.
    rows.sort_by(|a, b| a[0].cmp(&b[0]).then_with(|| b[5].cmp(&a[5])));
    let header = [
        "name",
        "binding name",
        "status",
        "message",
        "guid",
        "created_at",
    ];
    s.ui.table("   ", &header, rows);
    Ok(())
}

/// Shows with which spaces an instance is shared, or from which space.
async fn sharing(
    s: &Session,
    (page, found): (&InstancePage, &ServiceInstance),
    target: &Target,
) -> Result<()> {
    s.ui.line("Showing sharing info:");
    let organizations = by_guid(&page.included.organizations);
    let own = found.relationships.space.guid();
    if own != target.space.guid {
        let space = page.included.spaces.iter().find(|space| space.guid == own);
        let organization = space.and_then(|space| {
            organizations
                .get(space.relationships.organization.guid())
                .copied()
        });
        s.ui.flavor(
            "   This service instance is shared from space {} of org {}.",
            &[
                space.map_or("", |space| space.name.as_str()),
                organization.unwrap_or_default(),
            ],
        );
        return Ok(());
    }
    let path = format!("{INSTANCES}/{}/relationships/shared_spaces", found.guid);
    let usage: ShareUsage = s.get(&format!("{path}/usage_summary")).await?;
    if usage.usage_summary.is_empty() {
        s.ui.line("   This service instance is not currently being shared.");
        return Ok(());
    }
    let places: InstancePage = s.get(&with_query(&path, &PLACES)).await?;
    let included = places.included;
    let organizations = by_guid(&included.organizations);
    let rows = usage.usage_summary.iter().map(|used| {
        let guid = &used.space.guid;
        let space = included.spaces.iter().find(|space| space.guid == *guid);
        let organization = space.and_then(|space| {
            organizations
                .get(space.relationships.organization.guid())
                .copied()
        });
        vec![
            organization.unwrap_or_default().to_owned(),
            space.map_or_else(|| guid.clone(), |space| space.name.clone()),
            used.bound_app_count.to_string(),
        ]
    });
    s.ui.line("   Shared with spaces:");
    s.ui.table("   ", &["org", "space", "bindings"], rows.collect());
    Ok(())
}

/// Shows whether an instance can be upgraded.
async fn upgrades(s: &Session, found: &ServiceInstance, plan: &ServicePlan) -> Result<()> {
    s.ui.line("Showing upgrade status:");
    let name = &found.name;
    if found.is_upgradable() {
        let path = format!("/v3/service_plans/{}", plan.guid);
        let plan: ServicePlan = s.get(&path).await?;
        s.ui.line("   There is an upgrade available for this service.");
        s.ui.blank();
        let description = plan.maintenance_info.and_then(|info| info.description);
        let description = description.unwrap_or_default();
        s.ui.line(format!("   Upgrade description: {description}"));
        s.ui.line(format!(
            "   TIP: You can upgrade using 'cf upgrade-service {name}'"
        ));
    } else if found.version().is_empty() {
        s.ui.line("   Upgrades are not supported by this broker.");
    } else {
        s.ui.line("   There is no upgrade available for this service.");
    }
    Ok(())
}
