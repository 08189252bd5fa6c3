//! Network policies: which app's containers may connect to which other app's.

use crate::api::types::{App, Policies, Policy};
use crate::args::{Flag, Parsed, Spec, Usage, value};
use crate::session::{Session, Target};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const GROUP: &str = "Network policies";
const ORG: Flag = value(
    Some('o'),
    "",
    "ORG",
    "Org of the destination app (default: the targeted one)",
)
.needs(&["s"]);
const SPACE: Flag = value(
    Some('s'),
    "",
    "SPACE",
    "Space of the destination app (default: the targeted one)",
);
const PORT: &str = "Port or range of ports (8080 or 8080-8090)";

/// The flags for the traffic that a policy allows, and for the space of the destination app.
const TRAFFIC: &[Flag] = &[
    value(None, "protocol", "PROTOCOL", "tcp (default) or udp"),
    value(None, "port", "PORT", PORT),
    ORG,
    SPACE,
];

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "network-policies",
        alias: "",
        group: GROUP,
        about: "List direct network traffic policies of the targeted space",
        args: &[],
        flags: &[value(
            None,
            "source",
            "SOURCE_APP",
            "Only the policies of this app",
        )],
        examples: &["cf network-policies", "cf network-policies --source front"],
    },
    Spec {
        name: "add-network-policy",
        alias: "",
        group: GROUP,
        about: "Allow direct network traffic from one app to another",
        args: &["SOURCE_APP", "DESTINATION_APP"],
        flags: TRAFFIC,
        examples: &["cf add-network-policy front back --protocol tcp --port 8080"],
    },
    Spec {
        name: "remove-network-policy",
        alias: "",
        group: GROUP,
        about: "Remove a permission that 'add-network-policy' granted",
        args: &["SOURCE_APP", "DESTINATION_APP"],
        flags: TRAFFIC,
        examples: &["cf remove-network-policy front back --protocol tcp --port 8080"],
    },
];

fn url(s: &Session) -> Result<String> {
    let endpoint = s.config().network_policy_v1_endpoint.clone();
    ensure!(
        !endpoint.is_empty(),
        "This API offers no network policies. Log in again if they were added recently."
    );
    Ok(format!("{}/policies", endpoint.trim_end_matches('/')))
}

/// Parses `8080` or `8080-8090`. The default is the port of an app.
fn ports(text: Option<&str>) -> Result<(u16, u16)> {
    let text = text.unwrap_or("8080");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok((first, last)),
        _ => bail!(Usage(format!(
            "invalid argument for flag `--port' ({text:?}): it must be a port or a range such as 8080-8090"
        ))),
    }
}

fn protocol(text: Option<&str>) -> Result<&str> {
    match text {
        None => Ok("tcp"),
        Some(protocol @ ("tcp" | "udp")) => Ok(protocol),
        Some(other) => bail!(Usage(format!(
            "invalid argument for flag `--protocol' ({other:?}): it must be \"tcp\" or \"udp\""
        ))),
    }
}

/// Returns the guid and the name of the destination's space.
async fn place(s: &Session, p: &Parsed, target: &Target) -> Result<(String, String)> {
    let (org, space) = (p.get("o"), p.get("s"));
    let Some(space) = space else {
        return Ok((target.space.guid.clone(), target.space.name.clone()));
    };
    let org = match org {
        Some(org) => s.org(org).await?.guid,
        None => target.org.guid.clone(),
    };
    let space = s.space(space, &org).await?;
    Ok((space.guid, space.name))
}

/// Returns the policy that the command line describes.
async fn wanted(s: &Session, p: &Parsed, doing: &str) -> Result<Value> {
    let (protocol, (first, last)) = (protocol(p.get("protocol"))?, ports(p.get("port"))?);
    let target = s.require_space()?;
    let (space_guid, space_name) = place(s, p, &target).await?;
    s.ui.flavor(
        &format!("{doing} network policy from app {{}} to app {{}} in space {{}} as {{}}..."),
        &[p.arg(0), p.arg(1), &space_name, &target.user],
    );
    let source = s.app(p.arg(0), &target).await?;
    let destination = s
        .find_app(p.arg(1), &space_guid)
        .await?
        .with_context(|| format!("App '{}' not found in space '{space_name}'.", p.arg(1)))?;
    Ok(json!({"policies": [{
        "source": {"id": source.guid},
        "destination": {"id": destination.guid, "protocol": protocol, "ports": {"start": first, "end": last}},
    }]}))
}

pub(super) async fn add(s: &Session, p: &Parsed) -> Result<()> {
    let url = url(s)?;
    let wanted = wanted(s, p, "Adding").await?;
    let _: Value = s.post(&url, &wanted).await?;
    s.ui.ok();
    Ok(())
}

pub(super) async fn remove(s: &Session, p: &Parsed) -> Result<()> {
    let url = url(s)?;
    let wanted = wanted(s, p, "Removing").await?;
    let found: Policies = s.get(&url).await?;
    let sought: Policies = serde_json::from_value(wanted.clone())?;
    ensure!(
        sought
            .policies
            .iter()
            .all(|policy| found.policies.contains(policy)),
        "There is no such policy. 'cf network-policies' lists the existing ones."
    );
    let _: Value = s.post(&format!("{url}/delete"), &wanted).await?;
    s.ui.ok();
    Ok(())
}

pub(super) async fn list(s: &Session, p: &Parsed) -> Result<()> {
    let url = url(s)?;
    let target = s.require_space()?;
    let source = match p.get("source") {
        Some(name) => Some(s.app(name, &target).await?),
        None => None,
    };
    s.ui.flavor(
        "Listing network policies in org {} / space {} as {}...",
        &[&target.org.name, &target.space.name, &target.user],
    );
    s.ui.blank();
    let in_space = [("space_guids", target.space.guid.as_str())];
    let (found, apps) = tokio::try_join!(
        s.get::<Policies>(&url),
        s.list::<App>("/v3/apps", &in_space)
    )?;
    let mut names: BTreeMap<String, String> =
        apps.into_iter().map(|app| (app.guid, app.name)).collect();
    let is_shown = |policy: &Policy| match &source {
        Some(app) => policy.source.id == app.guid,
        None => names.contains_key(&policy.source.id),
    };
    let policies: Vec<Policy> = found.policies.into_iter().filter(is_shown).collect();
    for policy in &policies {
        let guid = &policy.destination.id;
        if !names.contains_key(guid) {
            let app: App = s.get(&format!("/v3/apps/{guid}")).await?;
            names.insert(app.guid, app.name);
        }
    }
    let row = |policy: &Policy| {
        let name = |guid: &String| names.get(guid).unwrap_or(guid).clone();
        let ports = &policy.destination.ports;
        let ports = match ports.start == ports.end {
            true => ports.start.to_string(),
            false => format!("{}-{}", ports.start, ports.end),
        };
        vec![
            name(&policy.source.id),
            name(&policy.destination.id),
            policy.destination.protocol.clone(),
            ports,
        ]
    };
    s.ui.table(
        "",
        &["source", "destination", "protocol", "ports"],
        policies.iter().map(row).collect(),
    );
    Ok(())
}
