//! Organizations.

use crate::api::error::ApiError;
use crate::api::types::{Domain, Named, Organization, Space};
use crate::args::{Parsed, Spec, switch};
use crate::session::Session;
use anyhow::Result;
use serde_json::json;

const GROUP: &str = "Orgs";

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "orgs",
        alias: "o",
        group: GROUP,
        about: "List all orgs",
        args: &[],
        flags: &[],
        examples: &["cf orgs"],
    },
    Spec {
        name: "org",
        alias: "",
        group: GROUP,
        about: "Show org info",
        args: &["ORG"],
        flags: &[switch(None, "guid", "Print the org's guid only")],
        examples: &["cf org my-org"],
    },
    Spec {
        name: "create-org",
        alias: "co",
        group: GROUP,
        about: "Create an org",
        args: &["ORG"],
        flags: &[],
        examples: &["cf create-org my-org"],
    },
    Spec {
        name: "delete-org",
        alias: "",
        group: GROUP,
        about: "Delete an org with everything in it",
        args: &["ORG"],
        flags: &[switch(Some('f'), "force", "Delete without asking")],
        examples: &["cf delete-org my-org -f"],
    },
];

pub(super) async fn orgs(s: &Session) -> Result<()> {
    let user = s.require_login()?;
    s.ui.flavor("Getting orgs as {}...", &[&user]);
    s.ui.blank();
    let orgs: Vec<Organization> = s.list("/v3/organizations", &[("order_by", "name")]).await?;
    if orgs.is_empty() {
        s.ui.line("No orgs found.");
    } else {
        s.ui.table(
            "",
            &["name"],
            orgs.into_iter().map(|o| vec![o.name]).collect(),
        );
    }
    Ok(())
}

pub(super) async fn org(s: &Session, p: &Parsed) -> Result<()> {
    let user = s.require_login()?;
    let org = s.org(p.arg(0)).await?;
    if p.has("guid") {
        s.ui.line(&org.guid);
        return Ok(());
    }
    s.ui.flavor("Getting info for org {} as {}...", &[&org.name, &user]);
    s.ui.blank();
    let (domains, in_org) = (
        format!("/v3/organizations/{}/domains", org.guid),
        [
            ("organization_guids", org.guid.as_str()),
            ("order_by", "name"),
        ],
    );
    let (domains, spaces, quota) = tokio::try_join!(
        s.list::<Domain>(&domains, &[]),
        s.list::<Space>("/v3/spaces", &in_org),
        quota(s, &org)
    )?;
    let names = |names: Vec<String>| names.join(", ");
    s.ui.key_values(&[
        ("name", org.name.clone()),
        (
            "domains",
            names(domains.into_iter().map(|d| d.name).collect()),
        ),
        ("quota", quota),
        (
            "spaces",
            names(spaces.into_iter().map(|d| d.name).collect()),
        ),
        ("isolation segments", String::new()),
    ]);
    Ok(())
}

async fn quota(s: &Session, org: &Organization) -> Result<String> {
    match org.relationships.quota.guid() {
        "" => Ok(String::new()),
        guid => Ok(s
            .get::<Named>(&format!("/v3/organization_quotas/{guid}"))
            .await?
            .name),
    }
}

pub(super) async fn create_org(s: &Session, p: &Parsed) -> Result<()> {
    let user = s.require_login()?;
    let name = p.arg(0);
    s.ui.flavor("Creating org {} as {}...", &[name, &user]);
    match s
        .post::<Organization>("/v3/organizations", &json!({"name": name}))
        .await
    {
        Ok(_) => {
            s.ui.ok();
        }
        Err(error)
            if error.downcast_ref::<ApiError>().is_some_and(|e| {
                e.has_detail(&format!("Organization '{name}' already exists."))
            }) =>
        {
            s.ui.line(format!("Organization '{name}' already exists."));
            s.ui.ok();
            return p.end_early();
        }
        Err(error) => return Err(error),
    }
    s.ui.line(format!(
        "TIP: Use 'cf target -o \"{name}\"' to target new org"
    ));
    Ok(())
}

pub(super) async fn delete_org(s: &Session, p: &Parsed) -> Result<()> {
    let user = s.require_login()?;
    let name = p.arg(0);
    let question = format!(
        "Really delete the org {}, including its spaces, apps, service instances, routes, private domains and space-scoped service brokers?",
        s.ui.named(name)
    );
    if !p.has("force") && !s.ui.confirm(&question)? {
        s.ui.line(format!("Organization '{name}' has not been deleted."));
        return p.end_early();
    }
    s.ui.flavor("Deleting org {} as {}...", &[name, &user]);
    match s.find_org(name).await? {
        None => s.ui.warn(format!("Org '{name}' does not exist.")),
        Some(org) => {
            s.delete(&format!("/v3/organizations/{}", org.guid)).await?;
            if s.config().organization_fields.guid == org.guid {
                s.change(|c| c.clear_target())?;
            }
        }
    }
    s.ui.ok();
    Ok(())
}
