//! Spaces.

use super::users::{Role, Whom, assign};
use crate::api::error::ApiError;
use crate::api::types::{App, Named, Space};
use crate::args::{Parsed, Spec, switch, value};
use crate::config;
use crate::session::Session;
use anyhow::Result;
use serde_json::json;

const GROUP: &str = "Spaces";

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "spaces",
        alias: "",
        group: GROUP,
        about: "List all spaces in the targeted org",
        args: &[],
        flags: &[],
        examples: &["cf spaces"],
    },
    Spec {
        name: "space",
        alias: "",
        group: GROUP,
        about: "Show space info",
        args: &["SPACE"],
        flags: &[switch(None, "guid", "Print the space's guid only")],
        examples: &["cf space my-space"],
    },
    Spec {
        name: "create-space",
        alias: "csp",
        group: GROUP,
        about: "Create a space",
        args: &["SPACE"],
        flags: &[value(
            Some('o'),
            "",
            "ORG",
            "Org of the space (default: the targeted one)",
        )],
        examples: &["cf create-space my-space -o my-org"],
    },
    Spec {
        name: "delete-space",
        alias: "",
        group: GROUP,
        about: "Delete a space with everything in it",
        args: &["SPACE"],
        flags: &[
            value(
                Some('o'),
                "",
                "ORG",
                "Org of the space (default: the targeted one)",
            ),
            switch(Some('f'), "force", "Delete without asking"),
        ],
        examples: &["cf delete-space my-space -f"],
    },
];

pub(super) async fn spaces(s: &Session) -> Result<()> {
    let target = s.require_org()?;
    s.ui.flavor(
        "Getting spaces in org {} as {}...",
        &[&target.org.name, &target.user],
    );
    s.ui.blank();
    let spaces: Vec<Space> = s
        .list(
            "/v3/spaces",
            &[
                ("organization_guids", &target.org.guid),
                ("order_by", "name"),
            ],
        )
        .await?;
    if spaces.is_empty() {
        s.ui.line("No spaces found.");
    } else {
        s.ui.table(
            "",
            &["name"],
            spaces.into_iter().map(|o| vec![o.name]).collect(),
        );
    }
    Ok(())
}

pub(super) async fn space(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_org()?;
    let space = s.space(p.arg(0), &target.org.guid).await?;
    if p.has("guid") {
        s.ui.line(&space.guid);
        return Ok(());
    }
    s.ui.flavor(
        "Getting info for space {} in org {} as {}...",
        &[&space.name, &target.org.name, &target.user],
    );
    s.ui.blank();
    let in_space = [("space_guids", space.guid.as_str()), ("order_by", "name")];
    let running = format!("/v3/spaces/{}/running_security_groups", space.guid);
    let staging = format!("/v3/spaces/{}/staging_security_groups", space.guid);
    let (apps, running, staging) = tokio::try_join!(
        s.list::<App>("/v3/apps", &in_space),
        s.list::<Named>(&running, &[]),
        s.list::<Named>(&staging, &[])
    )?;
    let names = |all: Vec<Named>| {
        all.into_iter()
            .map(|n| n.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    s.ui.key_values(&[
        ("name", space.name.clone()),
        ("org", target.org.name.clone()),
        (
            "apps",
            apps.into_iter()
                .map(|a| a.name)
                .collect::<Vec<_>>()
                .join(", "),
        ),
        ("services", String::new()),
        ("isolation segment", String::new()),
        ("quota", String::new()),
        ("running security groups", names(running)),
        ("staging security groups", names(staging)),
    ]);
    Ok(())
}

/// Returns the org of `-o`, or the targeted one.
async fn org_of(s: &Session, p: &Parsed) -> Result<(config::Organization, String)> {
    match p.get("o") {
        Some(name) => {
            let user = s.require_login()?;
            let org = s.org(name).await?;
            Ok((
                config::Organization {
                    guid: org.guid,
                    name: org.name,
                },
                user,
            ))
        }
        None => s.require_org().map(|t| (t.org, t.user)),
    }
}

pub(super) async fn create_space(s: &Session, p: &Parsed) -> Result<()> {
    let (org, user) = org_of(s, p).await?;
    let name = p.arg(0);
    s.ui.flavor(
        "Creating space {} in org {} as {}...",
        &[name, &org.name, &user],
    );
    let body =
        json!({"name": name, "relationships": {"organization": {"data": {"guid": org.guid}}}});
    match s.post::<Space>("/v3/spaces", &body).await {
        Ok(space) => {
            s.ui.ok();
            for (role, shown) in [
                (Role::SpaceManager, "SpaceManager"),
                (Role::SpaceDeveloper, "SpaceDeveloper"),
            ] {
                s.ui.blank();
                s.ui.flavor(
                    &format!(
                        "Assigning role {shown} to user {{}} in org {{}} / space {{}} as {{}}..."
                    ),
                    &[&user, &org.name, name, &user],
                );
                assign(s, role, Whom::Myself, &org.guid, Some(&space.guid)).await?;
                s.ui.ok();
            }
        }
        Err(error)
            if error
                .downcast_ref::<ApiError>()
                .is_some_and(|e| e.has_detail("Name must be unique per organization")) =>
        {
            s.ui.warn(format!("Space '{name}' already exists."));
            s.ui.ok();
        }
        Err(error) => return Err(error),
    }
    s.ui.blank();
    s.ui.line(format!(
        "TIP: Use 'cf target -o \"{}\" -s \"{name}\"' to target new space",
        org.name
    ));
    Ok(())
}

pub(super) async fn delete_space(s: &Session, p: &Parsed) -> Result<()> {
    let (org, user) = org_of(s, p).await?;
    let name = p.arg(0);
    let question = format!(
        "Really delete the space {}, including its apps, service instances, routes and space-scoped service brokers?",
        s.ui.named(name)
    );
    if !p.has("force") && !s.ui.confirm(&question)? {
        s.ui.line(format!("Space '{name}' has not been deleted."));
        return p.end_early();
    }
    s.ui.flavor(
        "Deleting space {} in org {} as {}...",
        &[name, &org.name, &user],
    );
    match s.find_space(name, &org.guid).await? {
        None => s.ui.warn(format!("Space '{name}' does not exist.")),
        Some(space) => {
            s.delete(&format!("/v3/spaces/{}", space.guid)).await?;
            if s.config().space_fields.guid == space.guid {
                s.change(|c| c.space_fields = config::Space::default())?;
                s.ui.ok();
                s.ui.line("TIP: No space targeted, use 'cf target -s' to target a space.");
                return Ok(());
            }
        }
    }
    s.ui.ok();
    Ok(())
}
