//! Domains.

use crate::api::Request;
use crate::api::types::Domain;
use crate::args::{Flag, Parsed, Spec, Usage, switch, value};
use crate::session::Session;
use anyhow::{Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};

const GROUP: &str = "Domains";
const ENFORCE: Flag = switch(
    None,
    "enforce-route-policies",
    "Only apps that a route policy names may call the routes of the domain",
);
const SCOPE: Flag = value(
    None,
    "scope",
    "SCOPE",
    "With --enforce-route-policies: callers from any org, the same org or the same space (any, org, space)",
);

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "domains",
        alias: "",
        group: GROUP,
        about: "List domains in the target org",
        args: &[],
        flags: &[],
        examples: &["cf domains"],
    },
    Spec {
        name: "create-private-domain",
        alias: "create-domain",
        group: GROUP,
        about: "Create a private domain for a specific org",
        args: &["ORG", "DOMAIN"],
        flags: &[ENFORCE, SCOPE],
        examples: &["cf create-private-domain my-org example.com"],
    },
    Spec {
        name: "delete-private-domain",
        alias: "",
        group: GROUP,
        about: "Delete a private domain",
        args: &["DOMAIN"],
        flags: &[switch(Some('f'), "force", "Delete without asking")],
        examples: &["cf delete-private-domain example.com -f"],
    },
    Spec {
        name: "create-shared-domain",
        alias: "",
        group: GROUP,
        about: "Create a domain that can be used by all orgs",
        args: &["DOMAIN"],
        flags: &[
            switch(None, "internal", "A domain for traffic between apps only"),
            ENFORCE,
            SCOPE,
        ],
        examples: &[
            "cf create-shared-domain example.com",
            "cf create-shared-domain pay.identity --enforce-route-policies --scope org",
        ],
    },
    Spec {
        name: "delete-shared-domain",
        alias: "",
        group: GROUP,
        about: "Delete a shared domain",
        args: &["DOMAIN"],
        flags: &[switch(Some('f'), "force", "Delete without asking")],
        examples: &["cf delete-shared-domain example.com -f"],
    },
];

pub(super) async fn domains(s: &Session) -> Result<()> {
    let target = s.require_org()?;
    s.ui.flavor(
        "Getting domains in org {} as {}...",
        &[&target.org.name, &target.user],
    );
    s.ui.blank();
    let mut domains: Vec<Domain> = s
        .list(
            &format!("/v3/organizations/{}/domains", target.org.guid),
            &[],
        )
        .await?;
    if domains.is_empty() {
        s.ui.line("No domains found.");
        return Ok(());
    }
    let some_enforce = domains.iter().any(|domain| domain.enforce_route_policies);
    domains.sort_by(|a, b| a.name.cmp(&b.name));
    let row = |d: Domain| {
        let availability = if d.relationships.organization.guid().is_empty() {
            "shared"
        } else {
            "private"
        };
        let enforced = shown_enforcement(&d);
        let mut cells = vec![
            d.name,
            availability.into(),
            if d.internal {
                "true".into()
            } else {
                String::new()
            },
            d.supported_protocols.join(","),
        ];
        cells.extend(some_enforce.then_some(enforced));
        cells
    };
    let mut header = vec!["name", "availability", "internal", "protocols"];
    header.extend(some_enforce.then_some("route policies"));
    s.ui.table("", &header, domains.into_iter().map(row).collect());
    Ok(())
}

fn shown_enforcement(domain: &Domain) -> String {
    match (domain.enforce_route_policies, &domain.route_policies_scope) {
        (false, _) => String::new(),
        (true, None) => "enforced".to_owned(),
        (true, Some(scope)) => format!("enforced ({scope})"),
    }
}

/// Adds to the body whether a new domain enforces route policies, and the scope of its callers.
fn enforce(p: &Parsed, body: &mut Value) -> Result<()> {
    let (enforced, scope) = (p.has("enforce-route-policies"), p.get("scope"));
    if let Some(scope) = scope {
        let known = ["any", "org", "space"].contains(&scope);
        let text = format!("--scope must be one of: any, org, space (got '{scope}')");
        ensure!(known, Usage(text));
        let text = "--scope can only be used with --enforce-route-policies";
        ensure!(enforced, Usage(text.into()));
    }
    if enforced {
        let text = "--enforce-route-policies needs --scope any, --scope org or --scope space";
        let scope = scope.ok_or_else(|| Usage(text.into()))?;
        body["enforce_route_policies"] = true.into();
        body["route_policies_scope"] = scope.into();
    }
    Ok(())
}

async fn create(s: &Session, body: &Value) -> Result<()> {
    s.call(Request::new(Method::POST, "/v3/domains").json(body)?)
        .await?;
    s.ui.ok();
    Ok(())
}

pub(super) async fn create_shared(s: &Session, p: &Parsed) -> Result<()> {
    let user = s.require_login()?;
    let name = p.arg(0);
    s.ui.flavor("Creating shared domain {} as {}...", &[name, &user]);
    let mut body = if p.has("internal") {
        json!({"name": name, "internal": true})
    } else {
        json!({"name": name})
    };
    enforce(p, &mut body)?;
    create(s, &body).await?;
    s.ui.line(match p.has("enforce-route-policies") {
        true => format!("TIP: Routes of domain '{name}' admit nobody until 'cf add-route-policy' names a caller."),
        false => format!(
            "TIP: Domain '{name}' is shared with all orgs. Run 'cf domains' to view available domains."
        ),
    });
    Ok(())
}

pub(super) async fn create_private(s: &Session, p: &Parsed) -> Result<()> {
    let user = s.require_login()?;
    let (org, name) = (p.arg(0), p.arg(1));
    s.ui.flavor(
        "Creating private domain {} for org {} as {}...",
        &[name, org, &user],
    );
    let org = s.org(org).await?;
    let mut body =
        json!({"name": name, "relationships": {"organization": {"data": {"guid": org.guid}}}});
    enforce(p, &mut body)?;
    create(s, &body).await?;
    s.ui.line(format!("TIP: Domain '{name}' is a private domain: its routes need no host, and other orgs cannot use it."));
    Ok(())
}

pub(super) async fn delete(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let wants_shared = spec.name == "delete-shared-domain";
    let (kind, other) = if wants_shared {
        ("shared", "private")
    } else {
        ("private", "shared")
    };
    let user = if wants_shared {
        s.require_login()?
    } else {
        s.require_org()?.user
    };
    let name = p.arg(0);
    let question = format!(
        "Really delete the {kind} domain {} and its routes? Apps lose these routes.",
        s.ui.named(name)
    );
    if !p.has("force") && !s.ui.confirm(&question)? {
        s.ui.line(format!("Domain '{name}' has not been deleted."));
        return p.end_early();
    }
    s.ui.flavor("Deleting domain {} as {}...", &[name, &user]);
    let found: Option<Domain> = s
        .first("/v3/domains", &[("names", &crate::api::filter(name))])
        .await?;
    match found {
        None => s.ui.warn(format!("Domain '{name}' does not exist.")),
        Some(domain) if domain.relationships.organization.guid().is_empty() != wants_shared => {
            bail!(
                "Domain '{name}' is a {other} domain, not a {kind} domain.\nTIP: Use 'cf delete-{other}-domain' to delete it."
            )
        }
        Some(domain) => s.delete(&format!("/v3/domains/{}", domain.guid)).await?,
    }
    s.ui.ok();
    Ok(())
}
