//! The hops of one instance on its cell: rep, container, app, Envoy and its certificate.

use super::diego::Instance;
use super::{CLOCK_TOLERANCE, Hops, firewall, machine, short};
use crate::component::Component::{App, Envoy, Garden, Iptables, Rep};
use crate::explanation::Verdict;
use crate::facts::Facts;
use wire::rep::{InspectedCertificate, InspectedContainer, Inspection, Read};

/// The port at which the first Envoy listener of an instance accepts connections.
const FIRST_PROXY_PORT: u16 = 61001;

/// Adds the hops of one instance on its cell.
pub(super) fn check(facts: &Facts, instance: &Instance<'_>, hops: &mut Hops) {
    let Some(inspection) = inspect(facts, instance, hops) else {
        return;
    };
    machine::check(instance, &inspection.machine, hops);
    let Some(container) = find_container(instance, inspection, hops) else {
        return;
    };
    let Some(mapping) = instance.mapping() else {
        let verdict = Verdict::wrong(
            format!(
                "The cell maps no port to port {} of {}.",
                instance.port, instance.name
            ),
            "Restart the app, so that its instances get the port: cupola cf restart APP.",
        );
        hops.add((Garden, "ports"), &instance.name, "", verdict);
        return;
    };
    check_app(instance, container, hops);
    let has_proxy = mapping.host_proxy != 0;
    let ports = match has_proxy {
        true => (mapping.host_proxy, mapping.proxy),
        false => (mapping.host, mapping.app),
    };
    firewall::check_filter(instance, container, &inspection.firewall, ports, hops);
    if has_proxy {
        check_listener(instance, container, mapping.proxy, hops);
        check_limits(instance, container, inspection, hops);
        check_network(instance, container, inspection, hops);
        check_certificate(instance, inspection, hops);
    }
    firewall::check(instance, container, &inspection.firewall, ports, hops);
}

/// Adds the hop of the cell. Returns the rep's answer.
fn inspect<'a>(facts: &Facts, instance: &Instance<'a>, hops: &mut Hops) -> Option<&'a Inspection> {
    let cell = &instance.actual.cell_id;
    let is_absent = facts
        .cells
        .as_ref()
        .is_ok_and(|cells| !cells.contains(cell));
    let (verdict, inspection) = match instance.inspection {
        _ if is_absent => (
            Verdict::wrong(
                format!(
                    "The cell {cell} of {} is not present at locket.",
                    instance.name
                ),
                "Start the role cell on its machine; the BBS places the instance on another cell meanwhile.",
            ),
            instance.inspection.and_then(|answer| answer.as_ref().ok()),
        ),
        None => (
            Verdict::unread(
                format!("The cell {cell} was not asked."),
                "Ask again; the list of cells has changed.",
            ),
            None,
        ),
        Some(Err(problem)) => (
            Verdict::wrong(
                format!("The rep of cell {cell} does not answer: {problem}."),
                if problem.contains("certificate") {
                    "See the clocks of both machines, and make new certificates of the components if theirs have expired: docs/operations.md."
                } else {
                    "See whether its process runs and has not been paused, and its log."
                },
            ),
            None,
        ),
        Some(Ok(inspection)) => (verdict_of(facts, instance, inspection), Some(inspection)),
    };
    let found = format!("{cell} at {}", instance.actual.address);
    hops.add((Rep, "cell"), &instance.name, found, verdict);
    inspection
}

fn verdict_of(facts: &Facts, instance: &Instance<'_>, inspection: &Inspection) -> Verdict {
    let cell = &instance.actual.cell_id;
    let (name, skew) = (&instance.name, inspection.now - facts.now);
    if skew.abs() > CLOCK_TOLERANCE {
        return Verdict::wrong(
            format!(
                "The clock of cell {cell} is {} s {}.",
                skew.abs(),
                if skew > 0 { "ahead" } else { "behind" }
            ),
            "Set the clock of the machine, and run an NTP client.",
        );
    }
    // The hop of the disk names the cause.
    if !inspection.cell_is_healthy && !machine::is_full(&inspection.machine) {
        return Verdict::wrong(
            format!("The cell {cell} reports that it is unhealthy."),
            "See the log of its role cell.",
        );
    }
    if inspection.state.is_empty() {
        return Verdict::wrong(
            format!(
                "The rep of cell {cell} has no instance {}.",
                short(&instance.actual.instance_guid)
            ),
            "The comparison of the cell with the BBS repairs it within 30 s; else see the log of its role cell.",
        );
    }
    if inspection.is_stopping {
        return Verdict::waits(
            format!("{name} is stopping on cell {cell}."),
            "Wait until another instance has replaced it.",
        );
    }
    if instance.is_running() && inspection.state != "running" {
        return Verdict::wrong(
            format!(
                "The BBS has {name} as RUNNING, and the rep of cell {cell} as {}.",
                inspection.state
            ),
            "The comparison of the cell with the BBS repairs it within 30 s; else see the log of its role cell.",
        );
    }
    Verdict::Right
}

/// Adds the hop of the container, and returns it.
fn find_container<'a>(
    instance: &Instance<'_>,
    inspection: &'a Inspection,
    hops: &mut Hops,
) -> Option<&'a InspectedContainer> {
    let Some(container) = &inspection.container else {
        if let Err(problem) = inspection.firewall.get()
            && !problem.is_empty()
        {
            let verdict = Verdict::wrong(
                format!(
                    "Garden on the cell of {} does not answer: {problem}.",
                    instance.name
                ),
                "See the log of the role cell.",
            );
            hops.add((Garden, "container"), &instance.name, "", verdict);
            return None;
        }
        let (reason, remedy) = (
            format!("Garden has no container of {}.", instance.name),
            "The rep reports the loss and the BBS starts another; else see the log of the role cell.",
        );
        let verdict = if instance.is_running() {
            Verdict::wrong(reason, remedy)
        } else {
            Verdict::waits(reason, "Wait until it is made.")
        };
        hops.add((Garden, "container"), &instance.name, "", verdict);
        return None;
    };
    let running = container
        .processes
        .iter()
        .filter(|p| p.exit_status.is_none());
    let found = format!("{}, {} processes", container.address, running.count());
    let mut processes = container.processes.iter();
    let envoy = processes.find(|process| process.id == "envoy");
    let (component, verdict) = match envoy.and_then(|envoy| envoy.exit_status) {
        Some(status) => (
            Envoy,
            Verdict::wrong(
                format!("Envoy in {} has ended with status {status}.", instance.name),
                "The rep restarts the instance; the app's log shows what Envoy printed.",
            ),
        ),
        None => (Garden, Verdict::Right),
    };
    hops.add((component, "container"), &instance.name, found, verdict);
    Some(container)
}

/// Returns whether something listens on the port at an address that Envoy or a router can reach.
fn listens(container: &InspectedContainer, port: u16) -> bool {
    let mut ports = container.listeners.iter().filter_map(|address| {
        let (host, port) = address.rsplit_once(':')?;
        Some((host, port.parse::<u16>().ok()?))
    });
    let is_reachable = |host: &str| {
        ["0.0.0.0", "[::]", container.address.as_str()].contains(&host)
            || host == format!("[::ffff:{}]", container.address)
    };
    ports.any(|(host, listening)| listening == port && is_reachable(host))
}

fn check_app(instance: &Instance<'_>, container: &InspectedContainer, hops: &mut Hops) {
    let (name, port) = (&instance.name, instance.port);
    let own: &[u16] = &[2222, 61001, 61002, 61003, 61443];
    let apps = container.listeners.iter().filter(|address| {
        let port = address
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        port.is_some_and(|port| !own.contains(&port))
    });
    let apps: Vec<&str> = apps.map(String::as_str).collect();
    let found = format!("listens on {}", apps.join(", "));
    let remedy = format!("Let it listen on 0.0.0.0:{port}, which the variable PORT names.");
    let verdict = if listens(container, port) {
        Verdict::Right
    } else if apps.is_empty() && !instance.is_running() {
        Verdict::waits(format!("The app {name} does not listen yet."), remedy)
    } else if apps.is_empty() {
        Verdict::wrong(
            format!("The app {name} does not listen on port {port}."),
            remedy,
        )
    } else {
        Verdict::wrong(
            format!(
                "The app {name} listens on {}, not on 0.0.0.0:{port}.",
                apps.join(", ")
            ),
            remedy,
        )
    };
    hops.add((App, "port"), name, found, verdict);
}

fn check_listener(
    instance: &Instance<'_>,
    container: &InspectedContainer,
    port: u16,
    hops: &mut Hops,
) {
    let found = format!("0.0.0.0:{port} → {}:{}", container.address, instance.port);
    let verdict = if listens(container, port) {
        Verdict::Right
    } else if instance.is_running() {
        Verdict::wrong(
            format!("Envoy of {} does not listen on port {port}.", instance.name),
            format!(
                "Restart the instance: cupola cf restart-app-instance {}.",
                numbered(&instance.name)
            ),
        )
    } else {
        Verdict::waits(
            format!("Envoy of {} does not listen yet.", instance.name),
            "Wait for a moment.",
        )
    };
    hops.add((Envoy, "listener"), &instance.name, found, verdict);
}

/// Adds a hop if the container's limits of connections refuse those to Envoy, which listens.
fn check_limits(
    instance: &Instance<'_>,
    container: &InspectedContainer,
    inspection: &Inspection,
    hops: &mut Hops,
) {
    let problem = inspection
        .envoy
        .as_ref()
        .and_then(|envoy| envoy.get().err());
    let is_refused = problem.is_some_and(|problem| problem.contains("refused"));
    if is_refused && listens(container, FIRST_PROXY_PORT) && container.refused_packets > 0 {
        let verdict = Verdict::wrong(
            format!(
                "{} has as many connections as its limits permit: {} packets were refused.",
                instance.name, container.refused_packets
            ),
            "Scale the app out, or raise cell.limits.network.connections_in.",
        );
        hops.add((Iptables, "limits"), &instance.name, "", verdict);
    }
}

/// Adds a hop if packets of the cell do not reach the container, although Envoy listens there.
fn check_network(
    instance: &Instance<'_>,
    container: &InspectedContainer,
    inspection: &Inspection,
    hops: &mut Hops,
) {
    let envoy = inspection.envoy.as_ref();
    let Some(problem) = envoy.and_then(|envoy| envoy.get().err()) else {
        return;
    };
    if problem.starts_with("connect") && listens(container, FIRST_PROXY_PORT) {
        let verdict = Verdict::wrong(
            format!(
                "Packets of the cell do not reach the container of {} at {}, where Envoy listens: {problem}.",
                instance.name, container.address
            ),
            "See the container's link, its route and the rules of other programs on the cell: ip route, tc qdisc, nft list ruleset.",
        );
        hops.add((Garden, "network"), &instance.name, "", verdict);
    }
}

/// Returns `app index` for `app/index`.
fn numbered(name: &str) -> String {
    name.replace('/', " ")
}

fn check_certificate(instance: &Instance<'_>, inspection: &Inspection, hops: &mut Hops) {
    let restart = format!(
        "Restart the instance: cupola cf restart-app-instance {}.",
        numbered(&instance.name)
    );
    let Some(envoy) = &inspection.envoy else {
        let verdict = Verdict::unread(
            format!(
                "Envoy of {} was not asked for its certificate.",
                instance.name
            ),
            restart,
        );
        hops.add((Envoy, "certificate"), &instance.name, "", verdict);
        return;
    };
    let (found, verdict) = certificate(instance, inspection.now, envoy, restart);
    hops.add((Envoy, "certificate"), &instance.name, found, verdict);
}

fn certificate(
    instance: &Instance<'_>,
    now: i64,
    envoy: &Read<InspectedCertificate>,
    restart: String,
) -> (String, Verdict) {
    let name = &instance.name;
    let certificate = match envoy.get() {
        Ok(certificate) => certificate,
        Err(problem) if instance.is_running() => {
            let reason = format!("Envoy of {name} does not complete a TLS handshake: {problem}.");
            return (String::new(), Verdict::wrong(reason, restart));
        }
        Err(_) => {
            let reason = format!("Envoy of {name} does not answer yet.");
            return (String::new(), Verdict::waits(reason, "Wait for a moment."));
        }
    };
    let found = format!(
        "{}, valid for {} s",
        certificate.names.join(", "),
        certificate.not_after - now
    );
    let guid = &instance.actual.instance_guid;
    let verdict = if !certificate.names.contains(guid) {
        let names = certificate.names.join(", ");
        Verdict::wrong(
            format!(
                "Envoy of {name} presents a certificate of another instance: its names are {names}, and {guid} is not among them."
            ),
            restart,
        )
    } else if certificate.not_after <= now {
        Verdict::wrong(
            format!(
                "The certificate of {name} expired {} s ago.",
                now - certificate.not_after
            ),
            "See the log of the role cell: it renews certificates before they expire. A restart of the instance makes a new one.",
        )
    } else if certificate.not_before > now {
        Verdict::wrong(
            format!(
                "The certificate of {name} is valid in {} s only.",
                certificate.not_before - now
            ),
            "Set the clocks of the machines, and run an NTP client.",
        )
    } else {
        Verdict::Right
    };
    (found, verdict)
}
