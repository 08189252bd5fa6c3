//! Users and their roles.

use crate::api::Request;
use crate::api::error::ApiError;
use crate::args::{Flag, Parsed, Spec, Usage, switch, value};
use crate::session::Session;
use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};

const GROUP: &str = "Users";

const ORIGIN: Flag = value(None, "origin", "ORIGIN", "Identity provider of the user");
const CLIENT: Flag = switch(None, "client", "USERNAME is the id of a client").not_with(&["origin"]);

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "create-user",
        alias: "",
        group: GROUP,
        about: "Create a new user",
        args: &["USERNAME", "[PASSWORD]"],
        flags: &[value(
            None,
            "origin",
            "ORIGIN",
            "Identity provider of the user (default: uaa)",
        )],
        examples: &["cf create-user jo secret"],
    },
    Spec {
        name: "set-org-role",
        alias: "",
        group: GROUP,
        about: "Assign an org role (OrgManager, BillingManager, OrgAuditor) to a user",
        args: &["USERNAME", "ORG", "ROLE"],
        flags: &[ORIGIN, CLIENT],
        examples: &["cf set-org-role jo my-org OrgManager"],
    },
    Spec {
        name: "set-space-role",
        alias: "",
        group: GROUP,
        about: "Assign a space role (SpaceManager, SpaceDeveloper, SpaceAuditor, SpaceSupporter) to a user",
        args: &["USERNAME", "ORG", "SPACE", "ROLE"],
        flags: &[ORIGIN, CLIENT],
        examples: &["cf set-space-role jo my-org my-space SpaceDeveloper"],
    },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    OrganizationUser,
    OrganizationManager,
    BillingManager,
    OrganizationAuditor,
    SpaceManager,
    SpaceDeveloper,
    SpaceAuditor,
    SpaceSupporter,
}

impl Role {
    fn wire(self) -> &'static str {
        match self {
            Self::OrganizationUser => "organization_user",
            Self::OrganizationManager => "organization_manager",
            Self::BillingManager => "organization_billing_manager",
            Self::OrganizationAuditor => "organization_auditor",
            Self::SpaceManager => "space_manager",
            Self::SpaceDeveloper => "space_developer",
            Self::SpaceAuditor => "space_auditor",
            Self::SpaceSupporter => "space_supporter",
        }
    }

    fn of_org(name: &str) -> Result<Self, Usage> {
        match name.to_ascii_lowercase().as_str() {
            "orgmanager" => Ok(Self::OrganizationManager),
            "billingmanager" => Ok(Self::BillingManager),
            "orgauditor" => Ok(Self::OrganizationAuditor),
            _ => Err(Usage(format!(
                "ROLE must be \"OrgManager\", \"BillingManager\" or \"OrgAuditor\", not {name:?}"
            ))),
        }
    }

    fn of_space(name: &str) -> Result<Self, Usage> {
        match name.to_ascii_lowercase().as_str() {
            "spacemanager" => Ok(Self::SpaceManager),
            "spacedeveloper" => Ok(Self::SpaceDeveloper),
            "spaceauditor" => Ok(Self::SpaceAuditor),
            "spacesupporter" => Ok(Self::SpaceSupporter),
            _ => Err(Usage(format!(
                "ROLE must be \"SpaceManager\", \"SpaceDeveloper\", \"SpaceAuditor\" or \"SpaceSupporter\", not {name:?}"
            ))),
        }
    }
}

/// Returns the user that a command line names.
fn whom(p: &Parsed) -> Whom<'_> {
    match p.has("client") {
        true => Whom::Client(p.arg(0)),
        false => Whom::User(p.arg(0), p.get("origin")),
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Whom<'a> {
    Myself,
    /// A user name, with the origin if it is known.
    User(&'a str, Option<&'a str>),
    Client(&'a str),
}

/// Assigns a role to a user. For a space role the user becomes a member of the org first.
pub(super) async fn assign(
    s: &Session,
    role: Role,
    whom: Whom<'_>,
    org_guid: &str,
    space_guid: Option<&str>,
) -> Result<()> {
    let claims = s.claims();
    let data = match whom {
        // Without an origin the API finds the user, or lists the origins to choose from.
        Whom::User(name, None) => json!({"username": name}),
        Whom::User(name, Some(origin)) => json!({"username": name, "origin": origin}),
        Whom::Client(id) => json!({"guid": id}),
        Whom::Myself if claims.user_name.is_empty() => json!({"guid": claims.client_id}),
        Whom::Myself => {
            json!({"username": claims.user_name, "origin": if claims.origin.is_empty() { "uaa" } else { &claims.origin }})
        }
    };
    match space_guid {
        Some(space) => {
            post_role(
                s,
                Role::OrganizationUser,
                &data,
                json!({"organization": {"data": {"guid": org_guid}}}),
            )
            .await?;
            post_role(s, role, &data, json!({"space": {"data": {"guid": space}}})).await
        }
        None => {
            post_role(
                s,
                role,
                &data,
                json!({"organization": {"data": {"guid": org_guid}}}),
            )
            .await
        }
    }
}

/// Creates a role. A role that the user already has is no error; a caller who may not add org users may still add the user to the
/// space.
async fn post_role(s: &Session, role: Role, user: &Value, mut relationships: Value) -> Result<()> {
    relationships["user"] = json!({"data": user});
    let body = json!({"type": role.wire(), "relationships": relationships});
    match s.post::<Value>("/v3/roles", &body).await {
        Ok(_) => Ok(()),
        Err(error) => match error.downcast_ref::<ApiError>() {
            Some(e) if e.has_detail("already has") => Ok(()),
            Some(e) if e.status == 403 && role == Role::OrganizationUser => Ok(()),
            _ => Err(error),
        },
    }
}

pub(super) async fn create_user(s: &Session, p: &Parsed) -> Result<()> {
    s.require_login()?;
    let name = p.arg(0);
    let origin = p.get("origin").unwrap_or("uaa");
    let password = match p.opt(1) {
        Some(password) => password.to_owned(),
        None if origin != "uaa" => String::new(),
        None => s.ui.password("Password")?,
    };
    s.ui.flavor("Creating user {}...", &[name]);
    match s.create_uaa_user(name, &password, origin).await? {
        Some(guid) => s
            .call(Request::new(Method::POST, "/v3/users").json(&json!({"guid": guid}))?)
            .await
            .map(drop)
            .context("the UAA has the user, but the Cloud Controller refused to create it")?,
        None => s.ui.warn(format!("User '{name}' already exists.")),
    }
    s.ui.ok();
    s.ui.line("TIP: Assign roles with 'cf set-org-role' and 'cf set-space-role'.");
    Ok(())
}

pub(super) async fn set_org_role(s: &Session, p: &Parsed) -> Result<()> {
    let role = Role::of_org(p.arg(2))?;
    let me = s.require_login()?;
    let org = s.org(p.arg(1)).await?;
    s.ui.flavor(
        "Assigning role {} to user {} in org {} as {}...",
        &[p.arg(2), p.arg(0), &org.name, &me],
    );
    assign(s, role, whom(p), &org.guid, None).await?;
    s.ui.ok();
    Ok(())
}

pub(super) async fn set_space_role(s: &Session, p: &Parsed) -> Result<()> {
    let role = Role::of_space(p.arg(3))?;
    let me = s.require_login()?;
    let org = s.org(p.arg(1)).await?;
    let space = s.space(p.arg(2), &org.guid).await?;
    s.ui.flavor(
        "Assigning role {} to user {} in org {} / space {} as {}...",
        &[p.arg(3), p.arg(0), &org.name, &space.name, &me],
    );
    assign(s, role, whom(p), &org.guid, Some(&space.guid)).await?;
    s.ui.ok();
    Ok(())
}
