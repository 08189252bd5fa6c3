//! Stories of `cupola why`: hops are broken for real, and the command names the guilty one.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::{Command, Stdio};
use testkit::foundation::{Foundation, binary, both, example, sh, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story("why_a_right_route_has_no_guilty_hop", right),
    story("why_the_control_plane_is_named", control_plane),
    story("why_the_app_is_named", app),
    story("why_a_stopped_envoy_is_named", envoy),
    story("why_the_firewall_is_named", firewall),
    story("why_developers_may_ask", developers),
];

/// The stories of a foundation of several processes, where one of them can be paused.
pub(crate) const OF_MANY: &[Story] = &[story("why_a_paused_process_is_named", paused)];

const APP: &str = "whyapp";

pub(crate) fn push(f: &Foundation, name: &str, command: &str, check: &str) -> Result<()> {
    let folder = example("proxy/bin");
    let arguments =
        format!("push {name} -p {folder} -b binary_buildpack -m 64M -k 128M -u {check} -c");
    let mut arguments: Vec<&str> = arguments.split(' ').collect();
    arguments.push(command);
    f.cf_ok(&arguments).map(drop)
}

/// Runs `cupola why URL --json`. Returns whether the exit code was 0, and the explanation.
pub(crate) fn why(f: &Foundation, url: &str) -> Result<(bool, Value)> {
    let output = Command::new(binary())
        .args(["why", url, "--json", "--data"])
        .arg(&f.data)
        .stdin(Stdio::null())
        .output()?;
    let explanation = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("cupola why {url}: {}", both(&output)))?;
    Ok((output.status.success(), explanation))
}

/// Returns `component part` of the guilty hop, or an empty text.
pub(crate) fn guilty(explanation: &Value) -> String {
    let at = explanation["guilty"].as_u64();
    let at = at.and_then(|at| usize::try_from(at).ok());
    at.map_or_else(String::new, |at| {
        let hop = &explanation["hops"][at];
        let text = |key: &str| hop[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", text("component"), text("part"))
    })
}

/// Waits until `cupola why` names this hop; an empty text means that the route is right.
pub(crate) fn named(f: &Foundation, url: &str, hop: &str) -> Result<Value> {
    wait_for(&format!("{hop:?} as the guilty hop of {url}"), 60, || {
        let (is_right, explanation) = why(f, url)?;
        let found = guilty(&explanation);
        ensure!(
            is_right == found.is_empty(),
            "the exit code disagrees: {explanation}"
        );
        ensure!(found == hop, "{found:?} is named: {explanation}");
        Ok(Some(explanation))
    })
}

fn right(f: &mut Foundation) -> Result<()> {
    push(f, APP, "./proxy", "port")?;
    let explanation = named(f, &f.host(APP), "")?;
    let hops = explanation["hops"].as_array().context("no hops")?;
    for part in [
        "route",
        "actual LRP",
        "port",
        "certificate",
        "DNAT",
        "router.register",
        "table",
        "answer",
    ] {
        ensure!(
            hops.iter().any(|hop| hop["part"] == part),
            "no hop {part}: {explanation}"
        );
    }
    let text = Command::new(binary())
        .args(["why", &f.host(APP), "--data"])
        .arg(&f.data)
        .output()?;
    ensure!(
        both(&text).contains("The route is right."),
        "{}",
        both(&text)
    );
    Ok(())
}

fn control_plane(f: &mut Foundation) -> Result<()> {
    named(f, &f.host("nobody-has-this"), "cloud-controller route")?;
    let host = f.host(APP);
    f.cf_ok(&["stop", APP])?;
    named(f, &host, "cloud-controller destination")?;
    f.cf_ok(&["start", APP])?;
    named(f, &host, "")?;
    let domain = host.split_once('.').map_or("", |(_, domain)| domain);
    f.cf_ok(&["unmap-route", APP, domain, "--hostname", APP])?;
    named(f, &host, "cloud-controller destination")?;
    // A request that failed has its reason, too.
    f.get(&host, "/")?;
    let (_, explanation) = why(f, &host)?;
    let failure = &explanation["failures"][0];
    ensure!(
        failure["component"] == "router" && failure["reason"].is_string(),
        "{explanation}"
    );
    f.cf_ok(&["map-route", APP, domain, "--hostname", APP])?;
    named(f, &host, "").map(drop)
}

fn app(f: &mut Foundation) -> Result<()> {
    // The health check of the process does not notice that the app listens on another port.
    push(f, "whyport", "PORT=9099 ./proxy", "process")?;
    let explanation = named(f, &f.host("whyport"), "app port")?;
    let text = explanation.to_string();
    ensure!(text.contains(":9099, not on 0.0.0.0:8080"), "{text}");
    f.cf_ok(&["delete", "whyport", "-f", "-r"]).map(drop)
}

/// Returns the container address, the host port and the guid of an app's instance.
pub(crate) fn instance(f: &Foundation, app: &str) -> Result<(String, u64, String)> {
    let lrp = f.instances(&f.guid(app)?)?.into_iter().next();
    let lrp = lrp.with_context(|| format!("{app} has no instance"))?;
    let port = lrp["ports"][0]["host_tls_proxy_port"].as_u64();
    let text = |key: &str| lrp[key].as_str().unwrap_or_default().to_owned();
    Ok((
        text("instance_address"),
        port.context("no port")?,
        text("instance_guid"),
    ))
}

fn envoy(f: &mut Foundation) -> Result<()> {
    let host = f.host(APP);
    // The processes of the instance's Envoy are those in the network namespace that has its address.
    let pid = f.exec(
        &format!("{APP}/0"),
        &["bash", "-c", "readlink /proc/self/ns/net"],
    )?;
    let found = sh(&format!(
        "for p in $(pgrep -x envoy); do [ \"$(readlink /proc/$p/ns/net)\" = \"{}\" ] && echo $p; done || true",
        pid.trim()
    ))?;
    let pid = found
        .split_whitespace()
        .next()
        .context("no Envoy was found")?;
    sh(&format!("kill -STOP {pid}"))?;
    let seen = named(f, &host, "envoy certificate");
    sh(&format!("kill -CONT {pid}"))?;
    seen?;
    named(f, &host, "").map(drop)
}

fn firewall(f: &mut Foundation) -> Result<()> {
    let host = f.host(APP);
    let (address, port, _) = instance(f, APP)?;
    let cell = f.cell_ip();
    for (rule, hop) in [
        (
            format!(
                "-t nat -I OUTPUT 1 -d {cell}/32 -p tcp -m tcp --dport {port} -j DNAT --to-destination 192.0.2.1:61001"
            ),
            "iptables DNAT",
        ),
        (
            format!("-I OUTPUT 1 -d {address}/32 -j DROP"),
            "iptables filter",
        ),
    ] {
        sh(&format!("iptables -w {rule}"))?;
        let seen = named(f, &host, hop);
        sh(&format!(
            "iptables -w {}",
            rule.replace("-I OUTPUT 1", "-D OUTPUT")
        ))?;
        seen?;
        named(f, &host, "")?;
    }
    Ok(())
}

fn developers(f: &mut Foundation) -> Result<()> {
    let explanation = f.cf_curl(&format!("/v3/why?url={}", f.host(APP)))?;
    ensure!(explanation["is_right"] == true, "{explanation}");
    f.cf_ok(&["delete", APP, "-f", "-r"]).map(drop)
}

fn paused(f: &mut Foundation) -> Result<()> {
    push(f, APP, "./proxy", "port")?;
    let host = f.host(APP);
    named(f, &host, "")?;
    for (roles, hop) in [
        ("router", "router page"),
        ("cell,dns", "rep cell"),
        ("uaa,log-cache,cloud-controller", "cloud-controller route"),
        ("bbs,auctioneer", "bbs desired LRP"),
    ] {
        f.signal(roles, Signal::SIGSTOP)?;
        let seen = named(f, &host, hop);
        f.signal(roles, Signal::SIGCONT)?;
        seen?;
        named(f, &host, "")?;
    }
    // The server of the bus is a child of its role's process.
    let program = f.programs().join("nats-server");
    let found = sh(&format!(
        "for p in $(pgrep -x nats-server); do [ \"$(readlink /proc/$p/exe)\" = \"{}\" ] && echo $p; done || true",
        program.display()
    ))?;
    let pid = found
        .split_whitespace()
        .next()
        .context("no nats-server was found")?;
    sh(&format!("kill -STOP {pid}"))?;
    let seen = named(f, &host, "nats bus");
    sh(&format!("kill -CONT {pid}"))?;
    seen?;
    named(f, &host, "")?;
    f.cf_ok(&["delete", APP, "-f", "-r"]).map(drop)
}
