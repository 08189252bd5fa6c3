//! Stories of `cupola why` and of faults that somebody makes on a running foundation: in an app, on the cell, on the bus, on the machine
//! of a client. Each is named, and after its repair the route is right again.

use crate::why::{guilty, instance, named, push, why};
use crate::{Story, story};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command};
use testkit::foundation::{Foundation, sh, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story("why_apps_that_answer_badly_are_named", apps),
    story("why_rules_of_others_are_named", rules),
    story("why_a_flushed_firewall_is_named", flushed),
    story("why_a_lost_way_to_a_container_is_named", way),
    story("why_what_happens_on_the_bus_is_named", bus),
    story("why_the_client_s_side_is_named", client),
    story("why_what_users_changed_is_named", users),
];

const APP: &str = "whyfault";

/// Returns the host of an app that runs. The first story pushes it, and the last one deletes it.
fn app(f: &Foundation) -> Result<String> {
    let host = f.host(APP);
    if !f.cf(&["app", APP])?.status.success() {
        push(f, APP, "./proxy", "port")?;
    }
    named(f, &host, "")?;
    Ok(host)
}

/// Breaks something by a shell command, waits until the hop is named, mends it, and waits until the route is right again.
fn broken(f: &Foundation, url: &str, hop: &str, fault: &str, repair: &str) -> Result<()> {
    sh(fault)?;
    let seen = named(f, url, hop);
    sh(repair)?;
    seen?;
    named(f, url, "").map(drop)
}

/// A shell command that is repeated until this value is dropped, because the foundation repairs what it does.
struct Repeated(Child);

impl Repeated {
    fn start(command: &str) -> Result<Self> {
        let command = format!("while :; do {command}; sleep 0.02; done");
        let child = Command::new("bash")
            .args(["-c", &command])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn apps(f: &mut Foundation) -> Result<()> {
    let serve = "import socket; s = socket.create_server(('0.0.0.0', 8080))";
    let crash = "import sys; sys.exit(3)";
    let local = "import socket; s = socket.create_server(('127.0.0.1', 8080)); import time; time.sleep(1e6)";
    let mute = format!("{serve}; import time; time.sleep(1e6)");
    let closing = format!("{serve}; [c.close() for c, _ in iter(s.accept, 0)]");
    let nonsense = format!(
        "{serve}; [(c.recv(999), c.sendall(b'nonsense'), c.close()) for c, _ in iter(s.accept, 0)]"
    );
    for (name, program, hop) in [
        ("whycrash", crash, "bbs actual LRP"),
        ("whylocal", local, "app port"),
        ("whymute", mute.as_str(), "app answer"),
        ("whyclosing", closing.as_str(), "app answer"),
        ("whynonsense", nonsense.as_str(), "app answer"),
    ] {
        let pushed = push(
            f,
            name,
            &format!("exec python3 -c \"{program}\""),
            "process",
        );
        // The push of an app that crashes fails.
        ensure!(pushed.is_ok() || name == "whycrash", "{pushed:?}");
        named(f, &f.host(name), hop)?;
        f.cf_ok(&["delete", name, "-f", "-r"])?;
    }
    Ok(())
}

fn rules(f: &mut Foundation) -> Result<()> {
    let host = app(f)?;
    let (address, port, _) = instance(f, APP)?;
    let cell = f.cell_ip();
    let mut rules = vec![
        format!("INPUT 1 -s {address}/32 -j DROP"),
        format!(
            "OUTPUT 1 -d {address}/32 -p tcp -m tcp --dport 61001 -j REJECT --reject-with tcp-reset"
        ),
        format!("OUTPUT 1 -d {address}/24 -p tcp -j DROP"),
    ];
    // Not every kernel has this table.
    let has_raw = sh("iptables -w -t raw -S").is_ok();
    if has_raw {
        let rule = format!("OUTPUT 1 -d {cell}/32 -p tcp -m tcp --dport {port} -j DROP -t raw");
        rules.push(rule);
    }
    for rule in rules {
        let delete = rule.replacen(" 1 ", " ", 1);
        let (fault, repair) = (
            format!("iptables -w -I {rule}"),
            format!("iptables -w -D {delete}"),
        );
        broken(f, &host, "iptables filter", &fault, &repair)?;
    }
    Ok(())
}

fn flushed(f: &mut Foundation) -> Result<()> {
    let host = app(f)?;
    let (_, port, _) = instance(f, APP)?;
    let chain = sh(&format!(
        "iptables -w -t nat -S | awk '/--dport {port} / {{print $2; exit}}'"
    ))?;
    let chain = chain.trim();
    ensure!(chain.starts_with("netin--"), "chain {chain:?}");
    for (command, hop) in [
        (format!("iptables -w -t nat -F {chain}"), "iptables DNAT"),
        (
            format!("iptables -w -t nat -D OUTPUT -j {chain} 2>/dev/null"),
            "iptables DNAT",
        ),
        (
            "echo 0 > /proc/sys/net/ipv4/ip_forward".to_owned(),
            "iptables forwarding",
        ),
    ] {
        let repeated = Repeated::start(&command)?;
        let seen = named(f, &host, hop);
        drop(repeated);
        seen?;
        // Garden repairs all of this.
        named(f, &host, "")?;
    }
    Ok(())
}

fn way(f: &mut Foundation) -> Result<()> {
    let host = app(f)?;
    let (address, _, _) = instance(f, APP)?;
    let rule = format!("to {address}/32 blackhole pref 100");
    broken(
        f,
        &host,
        "garden network",
        &format!("ip rule add {rule}"),
        &format!("ip rule del {rule}"),
    )
}

/// Publishes a message on the bus as another program would.
fn publish(f: &Foundation, subject: &str, message: &Value) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", f.port("nats")))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    lines.next().context("no greeting of nats-server")??;
    let login = json!({"verbose": false, "user": "nats", "pass": f.plan["nats_password"]});
    let message = message.to_string();
    write!(
        stream,
        "CONNECT {login}\r\nPUB {subject} {}\r\n{message}\r\nPING\r\n",
        message.len()
    )?;
    for line in lines {
        let line = line?;
        ensure!(!line.starts_with("-ERR"), "{line}");
        if line.starts_with("PONG") {
            return Ok(());
        }
    }
    bail!("nats-server closed the connection")
}

fn bus(f: &mut Foundation) -> Result<()> {
    let host = app(f)?;
    // Another program registers an endpoint, where nothing listens, for the route and for a longer one.
    let below = format!("{host}/deep");
    for (url, hop) in [(&host, "router stale endpoint"), (&below, "router route")] {
        let stranger = json!({"host": "127.0.0.1", "port": 9, "uris": [url]});
        // A router removes an endpoint at which a request failed, so it is registered again for each look.
        let seen = wait_for(&format!("{hop} of {url}"), 60, || {
            publish(f, "router.register", &stranger)?;
            let (_, explanation) = why(f, url)?;
            let found = guilty(&explanation);
            ensure!(found == hop, "{found:?} is named: {explanation}");
            Ok(Some(()))
        });
        publish(f, "router.unregister", &stranger)?;
        seen?;
        named(f, url, "")?;
    }

    // The table loses the endpoint, until the emitter repeats its message.
    let row = f.table()?[&host][0].clone();
    let address = row["address"].as_str().context("no address")?;
    let (ip, port) = address.rsplit_once(':').context("no port")?;
    let lost = json!({
        "host": ip, "port": 0, "tls_port": port.parse::<u16>()?, "uris": [host],
        "private_instance_id": row["private_instance_id"], "server_cert_domain_san": row["server_cert_domain_san"],
    });
    wait_for("the lost endpoint to be named", 60, || {
        publish(f, "router.unregister", &lost)?;
        let (_, explanation) = why(f, &host)?;
        let found = guilty(&explanation);
        // If requests to the instance failed lately, that may have removed it as well.
        let hops = ["route-emitter router.register", "router table"];
        ensure!(
            hops.contains(&found.as_str()),
            "{found:?} is named: {explanation}"
        );
        Ok(Some(()))
    })?;
    named(f, &host, "").map(drop)
}

fn client(f: &mut Foundation) -> Result<()> {
    let host = app(f)?;
    // The file may be a mount of its own, so it is written in place.
    let saved = f.folder().join("hosts");
    let saved = saved.display();
    sh(&format!("cp /etc/hosts {saved}"))?;
    let restore = format!("cat {saved} > /etc/hosts");
    for edit in [
        format!("grep -v ' {host}$' {saved} > /etc/hosts"),
        format!("sed 's/^127.0.0.1 {host}$/127.0.0.9 {host}/' {saved} > /etc/hosts"),
    ] {
        broken(f, &host, "client name", &edit, &restore)?;
    }

    // The router's certificate is for the foundation's own domain.
    named(f, &format!("https://{host}/"), "")?;
    let domain = "whyfault.test";
    f.cf_ok(&["create-shared-domain", domain])?;
    f.cf_ok(&["map-route", APP, domain, "--hostname", "front"])?;
    let other = format!("front.{domain}");
    named(f, &other, "")?;
    named(f, &format!("https://{other}/"), "router certificate")?;
    f.cf_ok(&["delete-route", domain, "--hostname", "front", "-f"])?;
    f.cf_ok(&["delete-shared-domain", domain, "-f"]).map(drop)
}

fn users(f: &mut Foundation) -> Result<()> {
    let host = app(f)?;
    f.cf_ok(&["scale", APP, "-i", "0"])?;
    named(f, &host, "cloud-controller destination")?;
    f.cf_ok(&["scale", APP, "-i", "1"])?;
    named(f, &host, "")?;
    let internal = "apps.internal";
    f.cf_ok(&["map-route", APP, internal, "--hostname", APP])?;
    named(f, &format!("{APP}.{internal}"), "cloud-controller route")?;
    f.cf_ok(&["delete-route", internal, "--hostname", APP, "-f"])?;
    // The routes of components are no routes of the Cloud Controller, and yet right.
    named(f, &f.host("api"), "")?;
    f.cf_ok(&["delete", APP, "-f", "-r"])?;
    named(f, &host, "cloud-controller route").map(drop)
}
