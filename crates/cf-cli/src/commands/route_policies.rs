//! Route policies: which apps may call a route of a domain that enforces policies.

use super::routes::{domain_of, names};
use crate::api::Request;
use crate::api::types::{Domain, Route, RoutePolicy};
use crate::args::{Flag, Parsed, Spec, Usage, switch, value};
use crate::session::{Session, Target};
use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeMap;

const GROUP: &str = "Route policies";
const POLICIES: &str = "/v3/route_policies";
const HOSTNAME: Flag = value(
    Some('n'),
    "hostname",
    "HOSTNAME",
    "Host name of the route (required)",
);
const PATH: Flag = value(Some('p'), "path", "PATH", "Path of the route");
const SOURCE_APP: Flag = value(
    None,
    "source-app",
    "APP_NAME",
    "App that may call the route (of the targeted space, unless --source-space names another)",
);
const SOURCE_SPACE: Flag = value(
    None,
    "source-space",
    "SPACE_NAME",
    "Space whose apps may call the route, or the space of --source-app",
);
const SOURCE_ORG: Flag = value(
    None,
    "source-org",
    "ORG_NAME",
    "Org whose apps may call the route, or the org of --source-space",
);
const SOURCE_ANY: Flag = switch(None, "source-any", "Every app may call the route");
const SOURCE: Flag = value(
    None,
    "source",
    "SOURCE",
    "Source in the form cf:app:GUID, cf:space:GUID, cf:org:GUID or cf:any",
);

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "route-policies",
        alias: "",
        group: GROUP,
        about: "List the route policies of the targeted space",
        args: &[],
        flags: &[
            value(Some('d'), "domain", "DOMAIN", "Only routes of this domain"),
            value(
                Some('n'),
                "hostname",
                "HOSTNAME",
                "Only routes of this host name",
            ),
            value(None, "path", "PATH", "Only routes of this path"),
            value(
                None,
                "labels",
                "SELECTOR",
                "Only policies with these labels",
            ),
        ],
        examples: &[
            "cf route-policies",
            "cf route-policies --domain apps.identity --hostname backend",
        ],
    },
    Spec {
        name: "add-route-policy",
        alias: "",
        group: GROUP,
        about: "Let an app, a space's apps, an org's apps or every app call a route",
        args: &["DOMAIN"],
        flags: &[
            HOSTNAME,
            PATH,
            SOURCE_APP,
            SOURCE_SPACE,
            SOURCE_ORG,
            SOURCE_ANY,
            SOURCE,
        ],
        examples: &[
            "cf add-route-policy apps.identity --hostname backend --source-app frontend",
            "cf add-route-policy apps.identity --hostname backend --source-app frontend --source-space other",
            "cf add-route-policy apps.identity --hostname backend --source-any",
        ],
    },
    Spec {
        name: "remove-route-policy",
        alias: "",
        group: GROUP,
        about: "Remove a route policy",
        args: &["DOMAIN"],
        flags: &[
            HOSTNAME,
            PATH,
            SOURCE_APP,
            SOURCE_SPACE,
            SOURCE_ORG,
            SOURCE_ANY,
            SOURCE,
            switch(Some('f'), "force", "Remove without asking"),
        ],
        examples: &[
            "cf remove-route-policy apps.identity --hostname backend --source-app frontend -f",
        ],
    },
];

/// The source that a command line names.
#[derive(Debug, PartialEq, Eq)]
enum Named<'a> {
    Raw(&'a str),
    Any,
    Org(&'a str),
    Space {
        name: &'a str,
        org: Option<&'a str>,
    },
    App {
        name: &'a str,
        space: Option<&'a str>,
        org: Option<&'a str>,
    },
}

impl<'a> Named<'a> {
    /// Returns the source, of which the command line must name exactly one. A space may be given with its org, and an app with
    /// its space and org.
    fn of(p: &'a Parsed) -> Result<Self, Usage> {
        let (raw, app) = (p.get("source"), p.get("source-app"));
        let (space, org) = (p.get("source-space"), p.get("source-org"));
        let any = p.has("source-any");
        let given = [
            ("--source", raw.is_some()),
            ("--source-app", app.is_some()),
            ("--source-space", space.is_some() && app.is_none()),
            (
                "--source-org",
                org.is_some() && space.is_none() && app.is_none(),
            ),
            ("--source-any", any),
        ];
        let given: Vec<_> = given.iter().filter(|(_, is)| *is).map(|g| g.0).collect();
        if given.is_empty() {
            return Err(Usage("the required argument `one of: --source-app, --source-space, --source-org, --source-any, or --source` was not provided".into()));
        }
        if given.len() > 1 {
            let list = given.join(", ");
            return Err(Usage(format!(
                "The following arguments cannot be used together: {list}"
            )));
        }
        if app.is_some() && org.is_some() && space.is_none() {
            let text = "'--source-org' and '--source-space' must be used together.";
            return Err(Usage(text.into()));
        }
        Ok(match (raw, any, app, space, org) {
            (Some(raw), ..) => Self::Raw(raw),
            (_, true, ..) => Self::Any,
            (_, _, Some(name), space, org) => Self::App { name, space, org },
            (_, _, None, Some(name), org) => Self::Space { name, org },
            (.., org) => Self::Org(org.unwrap_or_default()),
        })
    }

    /// Returns the source in words, without guids, for the command's output.
    fn shown(&self) -> String {
        match self {
            Self::Raw(source) => format!("source: {source}"),
            Self::Any => "scope: any, source: any authenticated app".to_owned(),
            Self::Org(name) => format!("scope: org, source: {name}"),
            Self::Space { name, org } => match org {
                Some(org) => format!("scope: space, source: {name} (org: {org})"),
                None => format!("scope: space, source: {name}"),
            },
            Self::App { name, space, org } => match (space, org) {
                (Some(space), Some(org)) => {
                    format!("scope: app, source: {name} (space: {space}, org: {org})")
                }
                (Some(space), None) => format!("scope: app, source: {name} (space: {space})"),
                _ => format!("scope: app, source: {name}"),
            },
        }
    }

    /// Returns the source as `cf:app:GUID` and so on. Names are looked up among those that the user sees.
    async fn source(&self, s: &Session, target: &Target) -> Result<String> {
        let org = async |name: &Option<&str>| match name {
            Some(name) => Ok(s.org(name).await?.guid),
            None => anyhow::Ok(target.org.guid.clone()),
        };
        Ok(match self {
            Self::Raw(source) => checked(source)?.to_owned(),
            Self::Any => "cf:any".to_owned(),
            Self::Org(name) => format!("cf:org:{}", s.org(name).await?.guid),
            Self::Space { name, org: of } => {
                let space = s.space(name, &org(of).await?).await?;
                format!("cf:space:{}", space.guid)
            }
            Self::App {
                name,
                space,
                org: of,
            } => {
                let guid = match space {
                    Some(space) => s.space(space, &org(of).await?).await?.guid,
                    None => target.space.guid.clone(),
                };
                let Some(app) = s.find_app(name, &guid).await? else {
                    bail!(not_there(name, *space, target));
                };
                format!("cf:app:{}", app.guid)
            }
        })
    }
}

fn not_there(app: &str, space: Option<&str>, target: &Target) -> String {
    match space {
        Some(space) => format!("App '{app}' not found in space '{space}'."),
        None => format!(
            "App '{app}' not found in space '{}' / org '{}'.\nTIP: If the app is in a different space or org, use --source-space and/or --source-org flags.",
            target.space.name, target.org.name
        ),
    }
}

fn checked(source: &str) -> Result<&str> {
    let guid = ["cf:app:", "cf:space:", "cf:org:"]
        .iter()
        .find_map(|prefix| source.strip_prefix(prefix));
    ensure!(
        source == "cf:any" || guid.is_some_and(|guid| !guid.is_empty()),
        "--source '{source}' must be cf:app:GUID, cf:space:GUID, cf:org:GUID or cf:any"
    );
    Ok(source)
}

/// The route whose policies a command changes.
struct Guarded<'a> {
    domain: &'a str,
    host: &'a str,
    path: String,
}

impl<'a> Guarded<'a> {
    fn of(p: &'a Parsed) -> Result<Self, Usage> {
        let missing = || Usage("the required flag `-n, --hostname' was not specified".into());
        Ok(Self {
            domain: p.arg(0),
            host: p.get("hostname").ok_or_else(missing)?,
            path: with_slash(p.get("path").unwrap_or_default()),
        })
    }

    fn url(&self) -> String {
        format!("{}.{}{}", self.host, self.domain, self.path)
    }

    async fn find(&self, s: &Session, domain: &Domain) -> Result<Route> {
        let query = [
            ("domain_guids", domain.guid.as_str()),
            ("hosts", self.host),
            ("paths", &self.path),
        ];
        let found = s.first("/v3/routes", &query).await?;
        found.with_context(|| format!("Route '{}' not found.", self.url()))
    }
}

fn with_slash(path: &str) -> String {
    match path {
        "" => String::new(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    }
}

pub(super) async fn add(s: &Session, p: &Parsed) -> Result<()> {
    let (named, guarded) = (Named::of(p)?, Guarded::of(p)?);
    let target = s.require_space()?;
    let source = named.source(s, &target).await?;
    let names = [guarded.url(), target.user];
    s.ui.flavor(
        "Adding route policy for route {} as {}...",
        &[&names[0], &names[1]],
    );
    s.ui.line(format!("  {}", named.shown()));
    s.ui.line(format!("  source: {source}"));
    let domain = s.domain(guarded.domain).await?;
    ensure!(
        domain.enforce_route_policies,
        "Domain '{}' does not have route policy enforcement enabled.",
        domain.name
    );
    let route = guarded.find(s, &domain).await?;
    let body =
        json!({"source": source, "relationships": {"route": {"data": {"guid": route.guid}}}});
    s.call(Request::new(Method::POST, POLICIES).json(&body)?)
        .await?;
    s.ui.ok();
    Ok(())
}

pub(super) async fn remove(s: &Session, p: &Parsed) -> Result<()> {
    let (named, guarded) = (Named::of(p)?, Guarded::of(p)?);
    let target = s.require_space()?;
    let source = named.source(s, &target).await?;
    let url = guarded.url();
    let question = format!(
        "Really remove route policy with source {} for route {}?",
        s.ui.named(&source),
        s.ui.named(&url)
    );
    if !p.has("force") && !s.ui.confirm(&question)? {
        s.ui.line("Route policy has not been removed.");
        return p.end_early();
    }
    s.ui.flavor(
        "Removing route policy for route {} as {}...",
        &[&url, &target.user],
    );
    let domain = s.domain(guarded.domain).await?;
    let route = guarded.find(s, &domain).await?;
    let policies: Vec<RoutePolicy> = s.list(POLICIES, &[("route_guids", &route.guid)]).await?;
    let policy = policies.iter().find(|policy| policy.source == source);
    let policy =
        policy.with_context(|| format!("Route policy with source '{source}' not found."))?;
    s.delete(&format!("{POLICIES}/{}", policy.guid)).await?;
    s.ui.ok();
    Ok(())
}

pub(super) async fn policies(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    s.ui.flavor(
        "Getting route policies in org {} / space {} as {}...",
        &[&target.org.name, &target.space.name, &target.user],
    );
    s.ui.blank();
    let of_space = ("space_guids", target.space.guid.as_str());
    let mut query = vec![of_space, ("per_page", "5000")];
    if let Some(labels) = p.get("labels") {
        query.push(("label_selector", labels));
    }
    let policies: Vec<RoutePolicy> = s.list(POLICIES, &query).await?;
    let routes: Vec<Route> = s
        .list("/v3/routes", &[of_space, ("per_page", "5000")])
        .await?;
    let path = p.get("path").map(with_slash);
    let (domain, host) = (p.get("domain"), p.get("hostname"));
    let is_wanted = |route: &Route| {
        domain.is_none_or(|name| domain_of(route) == name)
            && host.is_none_or(|host| route.host == host)
            && path.as_ref().is_none_or(|path| route.path == *path)
    };
    let routes: BTreeMap<&str, &Route> = routes
        .iter()
        .filter(|route| is_wanted(route))
        .map(|route| (route.guid.as_str(), route))
        .collect();
    let sources = source_names(s, &policies).await?;
    let rows: Vec<_> = policies
        .iter()
        .filter_map(|policy| Some(row(policy, routes.get(policy.route_guid())?, &sources)))
        .collect();
    if rows.is_empty() {
        s.ui.line("No route policies found.");
        return Ok(());
    }
    let header = ["host", "domain", "path", "source", "scope", "name"];
    s.ui.table("", &header, rows);
    Ok(())
}

fn row(policy: &RoutePolicy, route: &Route, names: &BTreeMap<String, String>) -> Vec<String> {
    let (scope, guid) = policy.parts();
    vec![
        route.host.clone(),
        domain_of(route).to_owned(),
        route.path.clone(),
        policy.source.clone(),
        scope.to_owned(),
        names.get(guid).cloned().unwrap_or_default(),
    ]
}

/// Returns the names of the sources that the user sees, by guid.
async fn source_names(s: &Session, policies: &[RoutePolicy]) -> Result<BTreeMap<String, String>> {
    let of = |wanted: &str| {
        let parts = policies.iter().map(RoutePolicy::parts);
        let fitting = parts.filter(|(scope, _)| *scope == wanted);
        fitting.map(|(_, guid)| guid.to_owned()).collect()
    };
    let mut found = names(s, "/v3/apps", of("app")).await?;
    found.extend(names(s, "/v3/spaces", of("space")).await?);
    found.extend(names(s, "/v3/organizations", of("org")).await?);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    fn named(words: &str) -> Result<String, String> {
        let all = format!("apps.identity --hostname back {words}");
        let words: Vec<String> = all.split_whitespace().map(str::to_owned).collect();
        let parsed = args::parse(&SPECS[1], &words).unwrap();
        Named::of(&parsed)
            .map(|named| named.shown())
            .map_err(|usage| usage.to_string())
    }

    #[test]
    fn one_source_and_where_it_is() {
        for (words, shown) in [
            ("--source-app front", "scope: app, source: front"),
            (
                "--source-app front --source-space dev",
                "scope: app, source: front (space: dev)",
            ),
            (
                "--source-app front --source-space dev --source-org demo",
                "scope: app, source: front (space: dev, org: demo)",
            ),
            ("--source-space dev", "scope: space, source: dev"),
            (
                "--source-space dev --source-org demo",
                "scope: space, source: dev (org: demo)",
            ),
            ("--source-org demo", "scope: org, source: demo"),
            ("--source-any", "scope: any, source: any authenticated app"),
            ("--source cf:any", "source: cf:any"),
        ] {
            assert_eq!(named(words).as_deref(), Ok(shown), "{words}");
        }
        for (words, text) in [
            ("", "one of: --source-app"),
            ("--source-any --source cf:any", "--source, --source-any"),
            ("--source-app a --source-any", "--source-app, --source-any"),
            (
                "--source-space a --source-any",
                "--source-space, --source-any",
            ),
            ("--source-app a --source-org b", "must be used together"),
        ] {
            assert!(named(words).unwrap_err().contains(text), "{words}");
        }
    }

    #[test]
    fn a_raw_source_is_looked_at() {
        for source in ["cf:any", "cf:app:g", "cf:space:g", "cf:org:g"] {
            assert_eq!(checked(source).unwrap(), source);
        }
        for source in ["", "any", "cf:any:g", "cf:app:", "app:g", "cf:user:g"] {
            assert!(checked(source).is_err(), "{source}");
        }
    }
}
