//! Builds the recipes' input from database rows.

use super::driver::Driver;
use crate::BoundEgress;
use crate::clock;
use crate::db::app::App;
use crate::db::droplet::Droplet;
use crate::db::environment_group;
use crate::db::organization::Organization;
use crate::db::process::{self, CheckType, Process};
use crate::db::route::{self, Mapping};
use crate::db::security_group::{self, Phase, SecurityGroup};
use crate::db::service_credential_binding;
use crate::db::service_instance::ServiceInstance;
use crate::db::service_plan::{self, ServicePlan};
use crate::db::sidecar::{self, Sidecar};
use crate::db::space::{self, Space};
use crate::db::{self, Connection, Select};
use crate::sealing::Keyring;
use anyhow::{Context as _, Result};
use cc_rules::ordered_json::OrderedJson;
use cc_rules::recipe::routes::{HttpRoute, Routes};
use cc_rules::recipe::{
    self, AppIdentity, AppSpec, Artifact, CheckKind, HealthCheck, LiveState, ReadinessCheck,
    SidecarSpec,
};
use cc_rules::services::{self, Binding, Delivered, USER_PROVIDED};
use std::collections::{BTreeMap, HashSet};
use wire::lrp_routes::{ROUTE_POLICY_SCOPE, ROUTE_POLICY_SOURCES};

/// Returns the names and guids of an app, its space and its organization.
pub(crate) async fn identity(conn: &mut Connection, app: &App) -> Result<AppIdentity> {
    Ok(place(conn, app).await?.identity_of(app))
}

/// The space and the organization of an app.
struct Place {
    space: Space,
    organization: Organization,
}

async fn place(conn: &mut Connection, app: &App) -> Result<Place> {
    let found = space::with_organization(conn, &app.space_guid).await?;
    let (space, organization) =
        found.context("the app's space or its organization does not exist any more")?;
    Ok(Place {
        space,
        organization,
    })
}

impl Place {
    fn identity_of(self, app: &App) -> AppIdentity {
        AppIdentity {
            app_guid: app.guid.clone(),
            app_name: app.name.clone(),
            space_guid: self.space.guid,
            space_name: self.space.name,
            organization_guid: self.organization.guid,
            organization_name: self.organization.name,
        }
    }
}

/// Returns the variables of a group together with those of the app, which take precedence.
pub(crate) async fn environment(
    conn: &mut Connection,
    keys: &Keyring,
    group: &str,
    app: &App,
) -> Result<BTreeMap<String, String>> {
    let mut variables = environment_group::by_name(conn, group).await?.var.0;
    let own: BTreeMap<String, String> = keys.open_as(&app.guid, &app.environment)?;
    variables.extend(own);
    Ok(variables)
}

/// Returns the rules of all security groups that apply to an app's space in a phase, and those of the app's service bindings. A group
/// that is wrong allows nothing, because a wrong global group would otherwise stop every app. [`broken_groups`] reports such groups.
pub(crate) async fn egress(
    conn: &mut Connection,
    app: &App,
    phase: Phase,
    by_binding: &[BoundEgress],
) -> Result<Vec<serde_json::Value>> {
    let groups = security_group::all_for(&app.space_guid, phase)
        .readable::<SecurityGroup>(conn)
        .await?;
    let mut rules: Vec<serde_json::Value> = groups
        .rows
        .into_iter()
        .filter(|group| recipe::egress::rules(&group.rules.0).is_ok())
        .flat_map(|group| group.rules.0)
        .collect();
    if !by_binding.is_empty() {
        let brokers = service_credential_binding::broker_urls(conn, &app.guid).await?;
        rules.extend(bound_rules(by_binding, &brokers));
    }
    Ok(rules)
}

/// Returns the rules of an app that is bound to instances of these brokers: one for each address, for that address and port alone.
fn bound_rules(by_binding: &[BoundEgress], brokers: &[String]) -> Vec<serde_json::Value> {
    let is_bound = |bound: &&BoundEgress| {
        let url = bound.broker_url.trim_end_matches('/');
        brokers
            .iter()
            .any(|broker| broker.trim_end_matches('/') == url)
    };
    let bound = by_binding.iter().filter(is_bound);
    let rule = |address: &std::net::SocketAddrV4| {
        serde_json::json!({
            "protocol": "tcp",
            "destination": address.ip().to_string(),
            "ports": address.port().to_string(),
        })
    };
    bound
        .flat_map(|bound| bound.addresses.iter().map(rule))
        .collect()
}

/// Returns the security groups that cannot be read or whose rules are wrong, with what is wrong.
pub(crate) async fn broken_groups(conn: &mut Connection) -> Result<BTreeMap<String, String>> {
    let groups = Select::new().readable::<SecurityGroup>(conn).await?;
    let wrong = groups.rows.iter().filter_map(|group| {
        let error = recipe::egress::rules(&group.rules.0).err()?;
        Some((group.guid.clone(), format!("{}: {error}", group.name)))
    });
    let broken = groups.broken.iter().map(|broken| {
        (
            broken.guid.clone().unwrap_or_default(),
            broken.problem.clone(),
        )
    });
    Ok(wrong.chain(broken).collect())
}

/// Returns the bindings of an app, with their credentials.
pub(crate) async fn bindings(
    conn: &mut Connection,
    keys: &Keyring,
    app: &App,
) -> Result<Vec<Binding>> {
    let mut all = Vec::new();
    for binding in service_credential_binding::active_of_app(conn, &app.guid).await? {
        let instance: ServiceInstance = db::by_guid(conn, &binding.service_instance_guid)
            .await?
            .context("the binding's service instance does not exist any more")?;
        let credentials = keys.open_json(&binding.guid, binding.credentials.as_ref())?;
        let (label, plan, tags) = offered(conn, &instance).await?;
        all.push(Binding {
            label,
            plan,
            tags,
            instance_guid: instance.guid,
            instance_name: instance.name,
            binding_guid: binding.guid,
            binding_name: binding.name,
            credentials: credentials.unwrap_or(OrderedJson::Null),
            syslog_drain_url: binding.syslog_drain_url,
        });
    }
    Ok(all)
}

/// Returns the label of an instance, its plan, and its tags with those of its offering. A user-provided instance has no plan.
async fn offered(
    conn: &mut Connection,
    instance: &ServiceInstance,
) -> Result<(String, Option<String>, Vec<String>)> {
    let Some(guid) = &instance.service_plan_guid else {
        let own = instance.tags.0.clone();
        return Ok((USER_PROVIDED.to_owned(), None, own));
    };
    let plan: ServicePlan = db::by_guid(conn, guid)
        .await?
        .context("the service instance's plan does not exist any more")?;
    let offering = service_plan::offering(conn, &plan)
        .await?
        .context("the plan's offering does not exist any more")?;
    let mut seen = HashSet::new();
    let mut tags = offering.tags.0;
    tags.extend_from_slice(&instance.tags.0);
    tags.retain(|tag| seen.insert(tag.clone()));
    Ok((offering.name, Some(plan.name), tags))
}

/// Returns the bindings of an app as its containers get them.
pub(crate) async fn services(
    conn: &mut Connection,
    keys: &Keyring,
    app: &App,
) -> Result<Delivered> {
    let bindings = bindings(conn, keys, app).await?;
    let delivered = services::deliver(&bindings, app.delivery.into());
    delivered.context("deliver the service bindings to the app")
}

impl Driver {
    /// Returns a process that should run, and its app.
    pub(crate) async fn wanted_process(
        &self,
        conn: &mut Connection,
        process_guid: &str,
    ) -> Result<Option<(Process, App)>> {
        let found = process::with_app(conn, process_guid).await?;
        Ok(found.filter(|(_, app)| app.is_started() && app.droplet_guid.is_some()))
    }

    /// Returns what should run of a process that should run, or `None` when it has no droplet any more.
    pub(crate) async fn wanted_spec(
        &self,
        conn: &mut Connection,
        (process, app): &(Process, App),
    ) -> Result<Option<AppSpec>> {
        let Some(droplet_guid) = &app.droplet_guid else {
            return Ok(None);
        };
        let Some(droplet): Option<Droplet> = db::by_guid(conn, droplet_guid).await? else {
            return Ok(None);
        };
        self.spec(conn, app, process, &droplet).await.map(Some)
    }

    /// Returns what the running instances of a process follow. It needs three queries, a quarter of those of [`Self::spec`].
    pub(crate) async fn live_state(
        &self,
        conn: &mut Connection,
        (process, app): &(Process, App),
    ) -> Result<LiveState> {
        let place = place(conn, app).await?;
        let mappings = self.mappings(conn, app, process).await?;
        self.live(conn, app, process, place, &mappings).await
    }

    /// Returns the destinations of a process that may be desired.
    async fn mappings(
        &self,
        conn: &mut Connection,
        app: &App,
        process: &Process,
    ) -> Result<Vec<Mapping>> {
        let mut mappings = route::mappings(conn, &app.guid, &process.r#type).await?;
        mappings.retain(|mapping| self.may_desire(mapping));
        Ok(mappings)
    }

    async fn live(
        &self,
        conn: &mut Connection,
        app: &App,
        process: &Process,
        place: Place,
        mappings: &[Mapping],
    ) -> Result<LiveState> {
        Ok(LiveState {
            identity: place.identity_of(app),
            process_guid: process.guid.clone(),
            version: process.version.clone(),
            process_type: process.r#type.clone(),
            instances: count(process.instances),
            routes: routes(mappings),
            egress_rules: egress(conn, app, Phase::Running, self.bound_egress()).await?,
            isolation_segment: None,
            annotation: clock::annotation(process.updated_at),
        })
    }

    /// Returns whether a stored route may be desired. A route that an older version stored under a name of the platform may not.
    pub(crate) fn may_desire(&self, mapping: &Mapping) -> bool {
        let names = self.names();
        let free = names.route(&mapping.host, &mapping.domain, mapping.shared);
        if let Err(reserved) = free {
            tracing::warn!(
                host = mapping.host,
                domain = mapping.domain,
                ?reserved,
                "route-not-desired: its name belongs to the platform; delete the route"
            );
        }
        free.is_ok()
    }

    /// Returns the recipe's input for a process, whether or not it should run.
    pub(crate) async fn spec(
        &self,
        conn: &mut Connection,
        app: &App,
        process: &Process,
        droplet: &Droplet,
    ) -> Result<AppSpec> {
        let place = place(conn, app).await?;
        let mappings = self.mappings(conn, app, process).await?;
        let ssh_allowed = self.permits_ssh() && app.enable_ssh && place.space.allow_ssh;
        let checksum = droplet.checksum.clone().unwrap_or_default();
        let command = process
            .command
            .clone()
            .filter(|command| !command.is_empty());
        Ok(AppSpec {
            live: self.live(conn, app, process, place, &mappings).await?,
            command: command
                .or_else(|| droplet.process_types.0.get(&process.r#type).cloned())
                .unwrap_or_default(),
            memory_mb: count(process.memory_in_mb),
            disk_mb: count(process.disk_in_mb),
            log_rate_limit: process.log_rate_limit,
            ports: ports(&mappings),
            sidecars: sidecars(conn, process).await?,
            environment: environment(conn, self.keys(), "running", app).await?,
            services: self::services(conn, self.keys(), app).await?,
            health_check: health_check(&process.health_check.0),
            readiness: readiness(&process.readiness_health_check.0),
            droplet: Artifact {
                url: format!(
                    "{}/internal/v2/droplets/{}/{checksum}/download",
                    self.internal_url(),
                    droplet.guid
                ),
                sha256: checksum,
            },
            lifecycle: self.lifecycle(),
            ssh_allowed,
            stack: droplet
                .stack
                .clone()
                .or_else(|| app.stack.clone())
                .unwrap_or_else(|| cc_rules::buildpacks::STACK.to_owned()),
            api_url: self.api_url().to_owned(),
        })
    }
}

async fn sidecars(conn: &mut Connection, process: &Process) -> Result<Vec<SidecarSpec>> {
    let beside = sidecar::beside(&process.app_guid, &process.r#type)
        .all::<Sidecar>(conn)
        .await?;
    Ok(beside
        .into_iter()
        .map(|sidecar| SidecarSpec {
            name: sidecar.name,
            command: sidecar.command,
            memory_mb: sidecar.memory_in_mb.map(count),
        })
        .collect())
}

fn count(number: i64) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

fn seconds(number: Option<i64>) -> Option<u32> {
    number.map(count)
}

/// Returns the ports of the destinations. A destination without a port has the default port.
fn ports(mappings: &[Mapping]) -> Vec<u16> {
    let mut ports: Vec<u16> = mappings.iter().map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn port(mapping: &Mapping) -> u16 {
    mapping
        .port
        .and_then(|port| u16::try_from(port).ok())
        .unwrap_or(recipe::DEFAULT_APP_PORT)
}

fn routes(mappings: &[Mapping]) -> Routes {
    // Routers and name servers compare hosts in lower case. A host whose spelling changes must not be unregistered and
    // registered at once.
    let uri = |mapping: &Mapping| {
        let [host, domain] = [&mapping.host, &mapping.domain].map(|name| name.to_ascii_lowercase());
        cc_rules::route_rules::url(&host, &domain, &mapping.path, 0)
    };
    let http = mappings
        .iter()
        .filter(|mapping| !mapping.internal)
        .map(|mapping| HttpRoute {
            uri: uri(mapping),
            port: port(mapping),
            protocol: Some(mapping.protocol.to_string()),
            options: options(mapping),
            route_service_url: mapping.route_service_url.clone(),
            generation: mapping.generation,
        });
    Routes {
        http: http.collect(),
        tcp: Vec::new(),
        internal: mappings
            .iter()
            .filter(|mapping| mapping.internal)
            .map(uri)
            .collect(),
    }
}

/// Returns the route's own options, and its policies in the form that the router reads.
fn options(mapping: &Mapping) -> Option<serde_json::Map<String, serde_json::Value>> {
    let mut options = mapping.options.clone().unwrap_or_default();
    if let Some(policy) = &mapping.policy {
        options.insert(ROUTE_POLICY_SCOPE.to_owned(), policy.scope.as_str().into());
        if !policy.sources.is_empty() {
            let sources = policy.sources.as_str().into();
            options.insert(ROUTE_POLICY_SOURCES.to_owned(), sources);
        }
    }
    (!options.is_empty()).then_some(options)
}

fn kind(check: &process::HealthCheck) -> CheckKind {
    match check.r#type {
        CheckType::Http => CheckKind::Http {
            endpoint: check.endpoint.clone().unwrap_or_else(|| "/".to_owned()),
        },
        CheckType::Process | CheckType::None => CheckKind::Process,
        CheckType::Port => CheckKind::Port,
    }
}

fn health_check(check: &process::HealthCheck) -> HealthCheck {
    HealthCheck {
        kind: kind(check),
        timeout: seconds(check.timeout),
        invocation_timeout: seconds(check.invocation_timeout),
        interval: seconds(check.interval),
    }
}

fn readiness(check: &process::HealthCheck) -> ReadinessCheck {
    ReadinessCheck {
        kind: kind(check),
        invocation_timeout: seconds(check.invocation_timeout),
        interval: seconds(check.interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bindings_of_the_configured_broker_open_its_addresses() {
        let by_binding = [BoundEgress {
            broker_url: "http://127.0.0.1:8086".to_owned(),
            addresses: vec!["10.255.3.1:5432".parse().unwrap()],
        }];
        let rules = |brokers: &[&str]| {
            let brokers: Vec<String> = brokers.iter().map(|url| (*url).to_owned()).collect();
            bound_rules(&by_binding, &brokers)
        };
        assert!(rules(&[]).is_empty());
        assert!(rules(&["http://127.0.0.1:80861", "http://broker.example"]).is_empty());
        let expected =
            serde_json::json!({"protocol": "tcp", "destination": "10.255.3.1", "ports": "5432"});
        let found = rules(&["http://broker.example", "http://127.0.0.1:8086/"]);
        assert_eq!(found, [expected]);
        assert!(recipe::egress::rules(&found).is_ok());
    }
}
