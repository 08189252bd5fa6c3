//! Shares of service instances: apps of other spaces may be bound to an instance.

use super::services::{GROUP, INSTANCES, instance};
use crate::api::types::Space;
use crate::args::{Flag, Parsed, Spec, Usage, switch, value};
use crate::session::{Session, Target};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

const SPACE: Flag = value(Some('s'), "", "SPACE", "The other space");
const ORG: Flag = value(
    Some('o'),
    "",
    "ORG",
    "Org of the other space; the targeted one if it is left out",
);

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "share-service",
        alias: "",
        group: GROUP,
        about: "Share a service instance with another space",
        args: &["SERVICE_INSTANCE"],
        flags: &[SPACE, ORG],
        examples: &["cf share-service my-db -s other -o acme"],
    },
    Spec {
        name: "unshare-service",
        alias: "",
        group: GROUP,
        about: "End the share of a service instance with another space, and its bindings there",
        args: &["SERVICE_INSTANCE"],
        flags: &[
            SPACE,
            ORG,
            switch(Some('f'), "force", "Do it without asking"),
        ],
        examples: &["cf unshare-service my-db -s other -f"],
    },
];

pub(super) async fn run(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    match spec.name {
        "share-service" => share(s, p).await,
        _ => unshare(s, p).await,
    }
}

/// Returns the names of the other space and of its organization.
fn place<'a>(p: &'a Parsed, target: &'a Target) -> Result<(&'a str, &'a str)> {
    let missing = || Usage("the required flag `-s' was not specified".to_owned());
    let space = p.get("s").with_context(missing)?;
    Ok((space, p.get("o").unwrap_or(&target.org.name)))
}

/// Finds the other space.
async fn other(s: &Session, (space, org): (&str, &str), target: &Target) -> Result<Space> {
    let guid = match org == target.org.name {
        true => target.org.guid.clone(),
        false => s.org(org).await?.guid,
    };
    s.space(space, &guid).await
}

async fn share(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(0);
    let (space, org) = place(p, &target)?;
    s.ui.flavor(
        "Sharing service instance {} into org {} / space {} as {}...",
        &[name, org, space, &target.user],
    );
    let found = instance(s, name, &target).await?;
    let other = other(s, (space, org), &target).await?;
    let path = format!("{INSTANCES}/{}/relationships/shared_spaces", found.guid);
    let body = json!({ "data": [{ "guid": other.guid }] });
    let _: Value = s.post(&path, &body).await?;
    s.ui.ok();
    Ok(())
}

async fn unshare(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(0);
    let (space, org) = place(p, &target)?;
    if !p.has("force") {
        s.ui.warn("WARNING: Unsharing this service instance will remove all existing bindings that originate from the service instance in the shared space. This could cause apps to stop working.");
        let question = format!(
            "Really unshare the service instance {} from space {}?",
            s.ui.named(name),
            s.ui.named(space)
        );
        if !s.ui.confirm(&question)? {
            s.ui.line("Unshare cancelled");
            return p.end_early();
        }
    }
    s.ui.flavor(
        "Unsharing service instance {} from org {} / space {} as {}...",
        &[name, org, space, &target.user],
    );
    let found = instance(s, name, &target).await?;
    let other = other(s, (space, org), &target).await?;
    let path = format!(
        "{INSTANCES}/{}/relationships/shared_spaces/{}",
        found.guid, other.guid
    );
    s.delete(&path).await?;
    s.ui.ok();
    Ok(())
}
