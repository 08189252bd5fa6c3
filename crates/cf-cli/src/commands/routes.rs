//! Commands that create and delete routes, and map them to apps.

use crate::api::error::ApiError;
use crate::api::types::{App, Destination, Domain, Named, Reservation, Route};
use crate::api::{Request, with_query};
use crate::args::{Flag, Parsed, Spec, Usage, switch, value};
use crate::propagation;
use crate::session::{NoSuchDomain, Session, Target};
use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

const GROUP: &str = "Routes";
const HOSTNAME: Flag = value(
    Some('n'),
    "hostname",
    "HOSTNAME",
    "Host name of the route (required for shared domains)",
);
const PATH: Flag = value(None, "path", "PATH", "Path of the route");
const PORT: Flag = value(None, "port", "PORT", "Port of a TCP route");
const OPTION: Flag = value(
    Some('o'),
    "option",
    "KEY=VALUE",
    "Option of the route, such as loadbalancing=least-connection",
)
.repeats();

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "routes",
        alias: "r",
        group: GROUP,
        about: "List all routes in the current space or the current organization",
        args: &[],
        flags: &[switch(None, "org-level", "All routes of the targeted org")],
        examples: &["cf routes", "cf routes --org-level"],
    },
    Spec {
        name: "route",
        alias: "",
        group: GROUP,
        about: "Display route details and mapped destinations",
        args: &["DOMAIN"],
        flags: &[HOSTNAME, PATH, PORT],
        examples: &["cf route apps.cupola.test --hostname demo"],
    },
    Spec {
        name: "create-route",
        alias: "",
        group: GROUP,
        about: "Create a route for later use",
        args: &["DOMAIN"],
        flags: &[HOSTNAME, PATH, PORT, OPTION],
        examples: &["cf create-route apps.cupola.test --hostname demo --path /v2"],
    },
    Spec {
        name: "check-route",
        alias: "",
        group: GROUP,
        about: "Perform a check to determine whether a route currently exists or not",
        args: &["DOMAIN"],
        flags: &[HOSTNAME, PATH, PORT],
        examples: &["cf check-route apps.cupola.test --hostname demo"],
    },
    Spec {
        name: "map-route",
        alias: "",
        group: GROUP,
        about: "Map a route to an app",
        args: &["APP_NAME", "DOMAIN"],
        flags: &[
            HOSTNAME,
            PATH,
            PORT,
            OPTION,
            value(
                None,
                "app-protocol",
                "PROTOCOL",
                "Protocol of the app: http1 or http2",
            ),
            value(
                None,
                "app-port",
                "PORT",
                "Port on which the app listens for this route",
            ),
        ],
        examples: &[
            "cf map-route my-app apps.cupola.test --hostname demo",
            "cf map-route my-app apps.cupola.test -n demo --path /v2",
        ],
    },
    Spec {
        name: "update-route",
        alias: "",
        group: GROUP,
        about: "Change the options of a route",
        args: &["DOMAIN"],
        flags: &[
            HOSTNAME,
            PATH,
            OPTION,
            value(
                Some('r'),
                "remove-option",
                "KEY",
                "Option to remove; may be used several times",
            )
            .repeats(),
        ],
        examples: &[
            "cf update-route apps.cupola.test --hostname demo -o loadbalancing=least-connection",
            "cf update-route apps.cupola.test --hostname demo -r loadbalancing",
        ],
    },
    Spec {
        name: "unmap-route",
        alias: "",
        group: GROUP,
        about: "Remove a route from an app",
        args: &["APP_NAME", "DOMAIN"],
        flags: &[HOSTNAME, PATH, PORT],
        examples: &["cf unmap-route my-app apps.cupola.test --hostname demo"],
    },
    Spec {
        name: "delete-route",
        alias: "",
        group: GROUP,
        about: "Delete a route",
        args: &["DOMAIN"],
        flags: &[
            HOSTNAME,
            PATH,
            PORT,
            switch(Some('f'), "force", "Delete without asking"),
        ],
        examples: &["cf delete-route apps.cupola.test --hostname demo -f"],
    },
    Spec {
        name: "delete-orphaned-routes",
        alias: "",
        group: GROUP,
        about: "Delete all routes of the targeted space that lead to no app",
        args: &[],
        flags: &[switch(Some('f'), "force", "Delete without asking")],
        examples: &["cf delete-orphaned-routes -f"],
    },
];

/// A route as the user types it: domain, host, path, port.
pub(super) struct Wanted {
    domain: Domain,
    host: String,
    path: String,
    port: Option<u32>,
}

impl Wanted {
    pub(super) async fn of(s: &Session, spec: &Spec, p: &Parsed, domain: &str) -> Result<Self> {
        let port = p.number::<u32>(spec, "port")?;
        let path = match p.get("path").unwrap_or_default() {
            "" => String::new(),
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/{path}"),
        };
        let domain = s.domain(domain).await?;
        for (flag, is_of_tcp) in [("port", true), ("hostname", false), ("path", false)] {
            ensure!(
                p.get(flag).is_none() || domain.is_tcp() == is_of_tcp,
                Usage(format!(
                    "flag `--{flag}' has no effect here: domain '{}' has {} routes",
                    domain.name,
                    if is_of_tcp { "HTTP" } else { "TCP" }
                ))
            );
        }
        Ok(Self {
            domain,
            host: p.get("hostname").unwrap_or_default().to_owned(),
            path,
            port,
        })
    }

    pub(super) fn url(&self) -> String {
        url(&self.domain.name, &self.host, &self.path, self.port)
    }

    pub(super) async fn find(&self, s: &Session) -> Result<Option<Route>> {
        let port = self.port.unwrap_or(0).to_string();
        let mut query = vec![
            ("domain_guids", self.domain.guid.as_str()),
            ("hosts", &self.host),
            ("paths", &self.path),
        ];
        if self.domain.is_tcp() {
            query.push(("ports", &port));
        }
        s.first("/v3/routes", &query).await
    }

    pub(super) fn not_found(&self) -> String {
        let Self {
            domain,
            host,
            path,
            port,
        } = self;
        let part = |name: &str, value: &str| {
            if value.is_empty() {
                String::new()
            } else {
                format!(", {name} '{value}'")
            }
        };
        let port = port.map(|p| p.to_string()).unwrap_or_default();
        format!(
            "Route with domain '{}'{}{}{} not found.",
            domain.name,
            part("host", host),
            part("path", path),
            part("port", &port)
        )
    }
}

fn url(domain: &str, host: &str, path: &str, port: Option<u32>) -> String {
    let dot = if host.is_empty() { "" } else { "." };
    let port = port.map(|p| format!(":{p}")).unwrap_or_default();
    format!("{host}{dot}{domain}{port}{path}")
}

/// Returns the domain's name: the route's URL without host, port and path.
pub(super) fn domain_of(route: &Route) -> &str {
    let rest = route
        .url
        .strip_suffix(route.path.as_str())
        .unwrap_or(&route.url);
    let rest = if route.port.is_some() {
        rest.rsplit_once(':').map_or(rest, |(d, _)| d)
    } else {
        rest
    };
    if route.host.is_empty() {
        rest
    } else {
        rest.strip_prefix(route.host.as_str())
            .and_then(|r| r.strip_prefix('.'))
            .unwrap_or(rest)
    }
}

fn options(p: &Parsed) -> Result<Option<Map<String, Value>>> {
    let mut map = Map::new();
    for pair in p.all("option") {
        let (key, value) = pair.split_once('=').with_context(|| {
            Usage(format!(
                "invalid argument for flag `--option' (expected KEY=VALUE): {pair:?}"
            ))
        })?;
        map.insert(key.to_owned(), value.into());
    }
    Ok((!map.is_empty()).then_some(map))
}

fn shown_options(route: &Route) -> String {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    route
        .options
        .iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", text(v)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn announce(s: &Session, template: &str, names: &[&str], target: &Target) {
    let mut all = names.to_vec();
    all.extend([target.org.name.as_str(), &target.space.name, &target.user]);
    s.ui.flavor(template, &all);
}

pub(super) async fn routes(s: &Session, p: &Parsed) -> Result<()> {
    let target = if p.has("org-level") {
        s.require_org()?
    } else {
        s.require_space()?
    };
    let filter = if p.has("org-level") {
        s.ui.flavor(
            "Getting routes for org {} as {}...",
            &[&target.org.name, &target.user],
        );
        ("organization_guids", target.org.guid.as_str())
    } else {
        announce(
            s,
            "Getting routes for org {} / space {} as {}...",
            &[],
            &target,
        );
        ("space_guids", target.space.guid.as_str())
    };
    s.ui.blank();
    let routes: Vec<Route> = s
        .list("/v3/routes", &[filter, ("per_page", "5000")])
        .await?;
    if routes.is_empty() {
        s.ui.line("No routes found.");
        return Ok(());
    }
    let apps = names(
        s,
        "/v3/apps",
        routes
            .iter()
            .flat_map(|r| &r.destinations)
            .filter_map(|d| d.app.guid.clone())
            .collect(),
    )
    .await?;
    let spaces = names(
        s,
        "/v3/spaces",
        routes
            .iter()
            .map(|r| r.relationships.space.guid().to_owned())
            .collect(),
    )
    .await?;
    let services = super::route_services::instances(s, &routes).await?;
    let row = |r: &Route| {
        let distinct = |each: &dyn Fn(&Destination) -> Option<String>| {
            r.destinations
                .iter()
                .filter_map(each)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
                .join(", ")
        };
        let name = |guid: &String| apps.get(guid).cloned();
        vec![
            spaces
                .get(r.relationships.space.guid())
                .cloned()
                .unwrap_or_default(),
            r.host.clone(),
            domain_of(r).to_owned(),
            r.port.map(|p| p.to_string()).unwrap_or_default(),
            r.path.clone(),
            r.protocol.clone(),
            distinct(&|d| d.protocol.clone()),
            distinct(&|d| d.port.map(|p| p.to_string())),
            distinct(&|d| d.app.guid.as_ref().and_then(name)),
            services.get(&r.guid).cloned().unwrap_or_default(),
            shown_options(r),
        ]
    };
    let header = [
        "space",
        "host",
        "domain",
        "port",
        "path",
        "protocol",
        "app-protocol",
        "app-port",
        "apps",
        "service instance",
        "options",
    ];
    s.ui.table("", &header, routes.iter().map(row).collect());
    Ok(())
}

/// Returns the names of resources by guid. One request fetches 200.
pub(super) async fn names(
    s: &Session,
    path: &str,
    guids: BTreeSet<String>,
) -> Result<BTreeMap<String, String>> {
    let guids: Vec<_> = guids.into_iter().filter(|g| !g.is_empty()).collect();
    let mut names = BTreeMap::new();
    for batch in guids.chunks(200) {
        let found: Vec<Named> = s
            .list(path, &[("guids", &batch.join(",")), ("per_page", "200")])
            .await?;
        names.extend(found.into_iter().map(|n| (n.guid, n.name)));
    }
    Ok(names)
}

pub(super) async fn route(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let wanted = Wanted::of(s, spec, p, p.arg(0)).await?;
    announce(
        s,
        "Showing route {} in org {} / space {} as {}...",
        &[&wanted.url()],
        &target,
    );
    s.ui.blank();
    let route = wanted.find(s).await?.with_context(|| wanted.not_found())?;
    let apps = names(
        s,
        "/v3/apps",
        route
            .destinations
            .iter()
            .filter_map(|d| d.app.guid.clone())
            .collect(),
    )
    .await?;
    s.ui.key_values(&[
        ("domain", wanted.domain.name.clone()),
        ("host", route.host.clone()),
        (
            "port",
            route.port.map(|p| p.to_string()).unwrap_or_default(),
        ),
        ("path", route.path.clone()),
        ("protocol", route.protocol.clone()),
        ("options", shown_options(&route)),
    ]);
    s.ui.blank();
    s.ui.line("Destinations:");
    let row = |d: &Destination| {
        let app = d
            .app
            .guid
            .as_ref()
            .and_then(|g| apps.get(g))
            .cloned()
            .unwrap_or_default();
        vec![
            app,
            d.app.process.kind.clone(),
            d.port.map(|p| p.to_string()).unwrap_or_default(),
            d.protocol.clone().unwrap_or_default(),
        ]
    };
    s.ui.table(
        "\t",
        &["app", "process", "port", "app-protocol"],
        route.destinations.iter().map(row).collect(),
    );
    Ok(())
}

async fn create(
    s: &Session,
    wanted: &Wanted,
    space_guid: &str,
    options: Option<Map<String, Value>>,
) -> Result<Route> {
    let mut body = json!({"relationships": {"space": {"data": {"guid": space_guid}}, "domain": {"data": {"guid": wanted.domain.guid}}}});
    let texts = [("host", &wanted.host), ("path", &wanted.path)];
    for (key, text) in texts.into_iter().filter(|(_, t)| !t.is_empty()) {
        body[key] = text.as_str().into();
    }
    if let Some(port) = wanted.port {
        body["port"] = port.into();
    }
    if let Some(options) = options {
        body["options"] = options.into();
    }
    s.post("/v3/routes", &body).await
}

pub(super) async fn create_route(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let options = options(p)?;
    let wanted = Wanted::of(s, spec, p, p.arg(0)).await?;
    announce(
        s,
        "Creating route {} for org {} / space {} as {}...",
        &[&wanted.url()],
        &target,
    );
    match create(s, &wanted, &target.space.guid, options).await {
        Ok(route) => s.ui.line(format!("Route {} has been created.", route.url)),
        Err(error) => match error.downcast_ref::<ApiError>() {
            Some(e) if e.has_detail("Route already exists") => s.ui.warn(e.to_string()),
            _ => return Err(error),
        },
    }
    s.ui.ok();
    Ok(())
}

pub(super) async fn check_route(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    s.require_login()?;
    s.ui.line("Checking for route...");
    let wanted = Wanted::of(s, spec, p, p.arg(0)).await?;
    let port = wanted.port.map(|p| p.to_string());
    let mut query = vec![];
    query.extend((!wanted.host.is_empty()).then_some(("host", wanted.host.as_str())));
    query.extend((!wanted.path.is_empty()).then_some(("path", wanted.path.as_str())));
    query.extend(port.as_deref().map(|p| ("port", p)));
    let found: Reservation = s
        .get(&with_query(
            &format!("/v3/domains/{}/route_reservations", wanted.domain.guid),
            &query,
        ))
        .await?;
    s.ui.line(format!(
        "Route '{}' {} exist.",
        wanted.url(),
        if found.matching_route {
            "does"
        } else {
            "does not"
        }
    ));
    s.ui.ok();
    Ok(())
}

fn is_web_of(destination: &Destination, app: &App) -> bool {
    destination.app.guid.as_deref() == Some(app.guid.as_str())
        && matches!(destination.app.process.kind.as_str(), "web" | "")
}

pub(super) async fn map_route(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let (options, app_port) = (options(p)?, p.number::<u16>(spec, "app-port")?);
    let (wanted, app) =
        tokio::try_join!(Wanted::of(s, spec, p, p.arg(1)), s.app(p.arg(0), &target))?;
    let url = wanted.url();
    let route = match wanted.find(s).await? {
        Some(_) if options.is_some() => anyhow::bail!(
            "Route {url} already exists: its options cannot be set by map-route. Use 'cf update-route' instead."
        ),
        Some(route) => route,
        None => {
            announce(
                s,
                "Creating route {} for org {} / space {} as {}...",
                &[&url],
                &target,
            );
            let route = create(s, &wanted, &target.space.guid, options).await?;
            s.ui.ok();
            route
        }
    };
    announce(
        s,
        "Mapping route {} to app {} in org {} / space {} as {}...",
        &[&url, &app.name],
        &target,
    );
    let protocol = p.get("app-protocol");
    let is_plain = app_port.is_none() && protocol.is_none();
    if is_plain && route.destinations.iter().any(|d| is_web_of(d, &app)) {
        s.ui.line(format!(
            "App '{}' is already mapped to route '{url}'. Nothing has been updated.",
            app.name
        ));
        s.ui.ok();
        return p.end_early();
    }
    let mut destination = json!({"app": {"guid": app.guid}});
    if let Some(protocol) = protocol {
        destination["protocol"] = protocol.into();
    }
    if let Some(port) = app_port {
        destination["port"] = port.into();
    }
    let body = json!({"destinations": [destination]});
    s.call(
        Request::new(
            Method::POST,
            format!("/v3/routes/{}/destinations", route.guid),
        )
        .json(&body)?,
    )
    .await?;
    if app.is_started() {
        crate::names::wait_for_app(s, &app.guid).await;
    }
    s.ui.ok();
    if app.is_started() {
        propagation::show(s, std::slice::from_ref(&route)).await;
    }
    Ok(())
}

pub(super) async fn update_route(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let mut change = options(p)?.unwrap_or_default();
    change.extend(
        p.all("remove-option")
            .iter()
            .map(|key| (key.clone(), Value::Null)),
    );
    ensure!(
        !change.is_empty(),
        Usage("name an option to set (-o KEY=VALUE) or to remove (-r KEY)".into())
    );
    let target = s.require_space()?;
    let wanted = Wanted::of(s, spec, p, p.arg(0)).await?;
    announce(
        s,
        "Updating route {} for org {} / space {} as {}...",
        &[&wanted.url()],
        &target,
    );
    let route = wanted.find(s).await?.with_context(|| wanted.not_found())?;
    let _: Value = s
        .patch(
            &format!("/v3/routes/{}", route.guid),
            &json!({"options": change}),
        )
        .await?;
    s.ui.ok();
    Ok(())
}

pub(super) async fn unmap_route(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let (wanted, app) =
        tokio::try_join!(Wanted::of(s, spec, p, p.arg(1)), s.app(p.arg(0), &target))?;
    announce(
        s,
        "Removing route {} from app {} in org {} / space {} as {}...",
        &[&wanted.url(), &app.name],
        &target,
    );
    let route = wanted.find(s).await?.with_context(|| wanted.not_found())?;
    let mapped: Vec<_> = route
        .destinations
        .iter()
        .filter(|d| is_web_of(d, &app))
        .collect();
    if mapped.is_empty() {
        s.ui.warn("Route to be unmapped is not currently mapped to the application.");
    }
    for destination in mapped {
        s.delete(&format!(
            "/v3/routes/{}/destinations/{}",
            route.guid, destination.guid
        ))
        .await?;
    }
    s.ui.ok();
    if app.is_started() {
        propagation::show(s, std::slice::from_ref(&route)).await;
    }
    Ok(())
}

/// Deletes a route. A route that no longer exists counts as deleted.
pub(super) async fn delete_if_there(s: &Session, guid: &str) -> Result<()> {
    match s.delete(&format!("/v3/routes/{guid}")).await {
        Err(error)
            if error
                .downcast_ref::<ApiError>()
                .is_some_and(ApiError::is_not_found) =>
        {
            Ok(())
        }
        done => done,
    }
}

pub(super) async fn delete_route(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    s.require_space()?;
    let wanted = match Wanted::of(s, spec, p, p.arg(0)).await {
        // A route on a domain that does not exist counts as deleted.
        Err(error) if error.is::<NoSuchDomain>() => {
            s.ui.warn(error.to_string());
            s.ui.ok();
            return p.end_early();
        }
        wanted => wanted?,
    };
    let url = wanted.url();
    ensure!(
        wanted.port.is_none() || wanted.domain.is_tcp(),
        "Domain '{}' has no TCP routes: leave out --port.",
        wanted.domain.name
    );
    s.ui.line("This action impacts all apps using this route.");
    s.ui.line("Deleting this route will make apps unreachable via this route.");
    let question = format!("Really delete the route {}?", s.ui.named(&url));
    if !p.has("force") && !s.ui.confirm(&question)? {
        s.ui.line(format!("Route '{url}' has not been deleted."));
        return p.end_early();
    }
    s.ui.flavor("Deleting route {}...", &[&url]);
    match wanted.find(s).await? {
        Some(route) => s.delete(&format!("/v3/routes/{}", route.guid)).await?,
        None => {
            s.ui.line(format!("Unable to delete. {}", wanted.not_found()))
        }
    }
    s.ui.ok();
    Ok(())
}

pub(super) async fn delete_orphaned_routes(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    if !p.has("force") && !s.ui.confirm("Really delete orphaned routes?")? {
        s.ui.line("Routes have not been deleted.");
        return p.end_early();
    }
    announce(
        s,
        "Deleting orphaned routes in org {} / space {} as {}...",
        &[],
        &target,
    );
    s.delete(&format!(
        "/v3/spaces/{}/routes?unmapped=true",
        target.space.guid
    ))
    .await?;
    s.ui.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_composed_and_parsed() {
        assert_eq!(url("d.x", "h", "/p", None), "h.d.x/p");
        assert_eq!(url("tcp.x", "", "", Some(1024)), "tcp.x:1024");
        let check = |url: &str, host: &str, path: &str, port: Option<u32>| {
            let route = Route {
                url: url.into(),
                host: host.into(),
                path: path.into(),
                port,
                ..Route::default()
            };
            domain_of(&route).to_owned()
        };
        assert_eq!(check("h.d.x/p", "h", "/p", None), "d.x");
        assert_eq!(check("d.x", "", "", None), "d.x");
        assert_eq!(check("*.d.x", "*", "", None), "d.x");
        assert_eq!(check("tcp.x:1024", "", "", Some(1024)), "tcp.x");
    }
}
