//! Compares what the components show, hop by hop.

use crate::hop::{Component, Hop, Outcome, Source, Walk};
use crate::observations::{Observations, Read};
use std::net::Ipv4Addr;
use wire::bbs::{ActualLrp, ActualLrpInstanceKey, ActualLrpNetInfo, PortMapping, state};

/// The port in the container at which Envoy accepts the router's connections.
const ENVOY_PORT: u32 = 61001;

/// Returns the path of the route: through its first app, and through that app's first instance.
pub fn walk(seen: &Observations) -> Walk {
    let (route, app) = (route(seen), app(seen));
    let (process, lrp) = process(seen, app.outcome.found());
    let running = lrp.and_then(Running::new);
    let running = running.as_ref();
    let mapped = running.and_then(Mapped::new);
    Walk {
        route: seen.route.clone(),
        hops: vec![
            route,
            app,
            process,
            instance(seen, lrp),
            cell(seen, running),
            container(seen, running),
            listener(seen, mapped),
            certificate(seen, running),
            translation(seen, mapped),
            registration(seen, mapped),
            endpoint(seen, mapped),
            answer(seen, mapped),
        ],
    }
}

/// An instance that runs, as the BBS lists it.
struct Running {
    key: ActualLrpInstanceKey,
    net: ActualLrpNetInfo,
}

impl Running {
    fn new(lrp: &ActualLrp) -> Option<Self> {
        (lrp.state == state::RUNNING).then(|| Self {
            key: lrp.instance_key.clone().unwrap_or_default(),
            net: lrp.net_info.clone().unwrap_or_default(),
        })
    }
}

/// A running instance with the port of the cell that leads to its Envoy.
#[derive(Clone, Copy)]
struct Mapped<'a> {
    key: &'a ActualLrpInstanceKey,
    net: &'a ActualLrpNetInfo,
    port: &'a PortMapping,
}

impl<'a> Mapped<'a> {
    fn new(running: &'a Running) -> Option<Self> {
        let mut ports = running.net.ports.iter();
        Some(Self {
            key: &running.key,
            net: &running.net,
            port: ports.find(|port| port.container_tls_proxy_port == ENVOY_PORT)?,
        })
    }

    /// Returns the address at which the router reaches the instance.
    fn address(&self) -> String {
        format!("{}:{}", self.net.address, self.port.host_tls_proxy_port)
    }
}

/// Compares what was read with facts of earlier hops, if both are there.
fn compare<T, F>(
    read: &Read<T>,
    facts: Option<F>,
    check: impl FnOnce(&T, F) -> Outcome,
) -> Outcome {
    match (read, facts) {
        (Err(problem), _) => Outcome::Unread {
            problem: problem.clone(),
        },
        (Ok(_), None) => Outcome::NotCompared,
        (Ok(shown), Some(facts)) => check(shown, facts),
    }
}

fn agrees(found: impl Into<String>) -> Outcome {
    Outcome::Agrees {
        found: found.into(),
    }
}

fn differs(problem: impl Into<String>) -> Outcome {
    Outcome::Differs {
        found: None,
        problem: problem.into(),
    }
}

fn differs_with(found: impl Into<String>, problem: impl Into<String>) -> Outcome {
    Outcome::Differs {
        found: Some(found.into()),
        problem: problem.into(),
    }
}

fn route(seen: &Observations) -> Hop {
    Hop {
        component: Component::CloudController,
        part: "route",
        source: Source::Routes,
        sought: Some(seen.route.clone()),
        outcome: compare(
            &seen.routes,
            Some(()),
            |routes, ()| match routes["resources"][0]["guid"].as_str() {
                Some(guid) => agrees(format!("{} ({guid})", seen.route)),
                None => differs("the Cloud Controller returned no route guid"),
            },
        ),
    }
}

fn app(seen: &Observations) -> Hop {
    Hop {
        component: Component::CloudController,
        part: "app",
        source: Source::Routes,
        sought: Some("the app of the route's first destination".to_owned()),
        outcome: compare(&seen.routes, Some(()), |routes, ()| {
            match routes["resources"][0]["destinations"][0]["app"]["guid"].as_str() {
                Some(guid) => agrees(guid),
                None => differs("the Cloud Controller returned no app guid of the destination"),
            }
        }),
    }
}

/// Returns the hop, and the actual LRP of the app.
fn process<'a>(seen: &'a Observations, app_guid: Option<&str>) -> (Hop, Option<&'a ActualLrp>) {
    let lrp = app_guid.and_then(|app_guid| {
        let mut lrps = seen.actual_lrps.iter().flatten();
        lrps.find(|lrp| process_guid(lrp).starts_with(app_guid))
    });
    let hop = Hop {
        component: Component::Bbs,
        part: "process guid",
        source: Source::ActualLrps,
        sought: app_guid.map(|app_guid| format!("a process guid that begins with {app_guid}")),
        outcome: compare(&seen.actual_lrps, app_guid, |_, app_guid| match lrp {
            Some(lrp) => agrees(process_guid(lrp)),
            None => differs(format!(
                "no actual LRP whose process guid begins with {app_guid}"
            )),
        }),
    };
    (hop, lrp)
}

fn process_guid(lrp: &ActualLrp) -> &str {
    lrp.key.as_ref().map_or("", |key| key.process_guid.as_str())
}

fn instance(seen: &Observations, lrp: Option<&ActualLrp>) -> Hop {
    Hop {
        component: Component::Bbs,
        part: "instance guid",
        source: Source::ActualLrps,
        sought: lrp.map(|lrp| format!("a running instance of {}", process_guid(lrp))),
        outcome: compare(&seen.actual_lrps, lrp, |_, lrp| match Running::new(lrp) {
            Some(running) => agrees(running.key.instance_guid),
            None => differs_with(
                lrp.state.as_str(),
                format!("the actual LRP is {}", lrp.state),
            ),
        }),
    }
}

fn cell(seen: &Observations, running: Option<&Running>) -> Hop {
    Hop {
        component: Component::Rep,
        part: "cell",
        source: Source::ActualLrps,
        sought: running.map(|running| format!("the address of cell {}", running.key.cell_id)),
        outcome: compare(&seen.actual_lrps, running, |_, Running { key, net }| {
            let found = format!("{} at {}", key.cell_id, net.address);
            if net.address.parse::<Ipv4Addr>().is_ok() {
                agrees(found)
            } else {
                let problem = format!("{:?} is not the address of a cell", net.address);
                differs_with(found, problem)
            }
        }),
    }
}

fn container(seen: &Observations, running: Option<&Running>) -> Hop {
    Hop {
        component: Component::Garden,
        part: "container",
        source: Source::ActualLrps,
        sought: running.map(|_| format!("a port mapping to {ENVOY_PORT}")),
        outcome: compare(&seen.actual_lrps, running, |_, running| {
            let found = format!("overlay IP {}", running.net.instance_address);
            match Mapped::new(running) {
                Some(_) => agrees(found),
                None => differs_with(found, format!("no port mapping to {ENVOY_PORT}")),
            }
        }),
    }
}

fn listener(seen: &Observations, mapped: Option<Mapped<'_>>) -> Hop {
    Hop {
        component: Component::Envoy,
        part: "listener",
        source: Source::EnvoyConfig,
        sought: mapped.map(|Mapped { net, port, .. }| {
            format!(
                "a listener on port {} and a cluster with {}",
                port.container_tls_proxy_port, net.instance_address
            )
        }),
        outcome: compare(&seen.envoy_config, mapped, |config, mapped| {
            let (port, overlay) = (mapped.port, &mapped.net.instance_address);
            let listener = format!("0.0.0.0:{}", port.container_tls_proxy_port);
            if !config.contains(&format!(
                "\"port_value\": {}",
                port.container_tls_proxy_port
            )) {
                differs(format!("Envoy has no listener on {listener}"))
            } else if !config.contains(overlay) {
                differs_with(listener, format!("Envoy's cluster does not name {overlay}"))
            } else {
                agrees(format!("{listener} → {overlay}:{}", port.container_port))
            }
        }),
    }
}

fn certificate(seen: &Observations, running: Option<&Running>) -> Hop {
    Hop {
        component: Component::Envoy,
        part: "certificate",
        source: Source::Certificate,
        sought: running.map(|running| running.key.instance_guid.clone()),
        outcome: compare(&seen.certificate, running, |text, running| {
            let names = text.lines().last().unwrap_or_default().trim();
            let guid = &running.key.instance_guid;
            if names.contains(guid) {
                agrees(names)
            } else {
                differs_with(
                    names,
                    format!("the certificate's names {names:?} lack the instance guid {guid}"),
                )
            }
        }),
    }
}

fn translation(seen: &Observations, mapped: Option<Mapped<'_>>) -> Hop {
    let sought = mapped.map(|Mapped { net, port, .. }| {
        format!(
            "--dport {} -j DNAT --to-destination {}:{}",
            port.host_tls_proxy_port, net.instance_address, port.container_tls_proxy_port
        )
    });
    let outcome = compare(
        &seen.nat_rules,
        sought.as_ref(),
        |rules, sought| match rules.lines().find(|rule| rule.contains(sought)) {
            Some(rule) => agrees(rule),
            None => differs(format!("no DNAT rule {sought}")),
        },
    );
    Hop {
        component: Component::Iptables,
        part: "DNAT",
        source: Source::NatRules,
        sought,
        outcome,
    }
}

fn registration(seen: &Observations, mapped: Option<Mapped<'_>>) -> Hop {
    Hop {
        component: Component::Nats,
        part: "router.register",
        source: Source::Registrations,
        sought: mapped.map(|Mapped { key, net, port }| {
            format!(
                "host {:?} tls_port {} server_cert_domain_san {:?}",
                net.address, port.host_tls_proxy_port, key.instance_guid
            )
        }),
        outcome: compare(&seen.registration, mapped, |message, mapped| {
            let Some(message) = message else {
                return differs(format!(
                    "no router.register with {} was seen on NATS",
                    seen.route
                ));
            };
            let tls_port = message.tls_port.unwrap_or_default();
            let name = message.server_cert_domain_san.as_deref();
            let name = name.unwrap_or_default();
            let found = format!(
                "host {:?} tls_port {tls_port} uris {:?} server_cert_domain_san {name:?}",
                message.host, message.uris
            );
            if message.host != mapped.net.address
                || u32::from(tls_port) != mapped.port.host_tls_proxy_port
            {
                let problem = format!(
                    "the router.register message names {:?}:{tls_port}",
                    message.host
                );
                differs_with(found, problem)
            } else if name != mapped.key.instance_guid {
                let problem = format!("the router.register message names the certificate {name:?}");
                differs_with(found, problem)
            } else {
                agrees(found)
            }
        }),
    }
}

fn endpoint(seen: &Observations, mapped: Option<Mapped<'_>>) -> Hop {
    Hop {
        component: Component::Router,
        part: "table",
        source: Source::Table,
        sought: mapped.map(|mapped| format!("{} with TLS", mapped.address())),
        outcome: compare(&seen.table, mapped, |table, mapped| {
            let (route, address) = (&seen.route, mapped.address());
            let mut endpoints = table[route.as_str()].as_array().into_iter().flatten();
            match endpoints.find(|endpoint| endpoint["address"] == address.as_str()) {
                None => differs(format!("the router's table has no {address} under {route}")),
                Some(endpoint) if endpoint["tls"] != true => differs_with(
                    format!("{route} → {address}"),
                    "the router's endpoint is not TLS",
                ),
                Some(_) => agrees(format!("{route} → {address} tls=true")),
            }
        }),
    }
}

fn answer(seen: &Observations, mapped: Option<Mapped<'_>>) -> Hop {
    Hop {
        component: Component::Client,
        part: "answer",
        source: Source::Request,
        sought: mapped.map(|mapped| format!("200 through {}", mapped.address())),
        outcome: compare(&seen.answer, mapped, |status, mapped| {
            let found = format!("{status} through {}", mapped.address());
            if *status == 200 {
                agrees(found)
            } else {
                differs_with(found, format!("the route answered {status}"))
            }
        }),
    }
}

#[cfg(test)]
mod tests;
