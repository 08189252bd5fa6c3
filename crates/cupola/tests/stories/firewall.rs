//! Stories of a cell's firewall while it serves: damage by others is repaired, and changes by the platform apply at once.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::process::{Child, Command};
use testkit::foundation::{Foundation, example, sh, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story("firewall_a_flush_under_traffic_is_repaired", flushed),
    story(
        "firewall_security_groups_reach_running_apps",
        security_groups,
    ),
];

/// Returns the rules of one container, whose chain names contain `name`.
fn rules(name: &str) -> Result<String> {
    sh(&format!(
        "for t in filter nat; do iptables -w -t $t -S; done | grep -e '--{name}' || true"
    ))
}

fn flushed(f: &mut Foundation) -> Result<()> {
    push(f, "flushed")?;
    let host = f.host("flushed");
    let guid = f.instances(&f.guid("flushed")?)?[0]["instance_guid"].clone();
    // Other apps of earlier stories may still be stopping.
    let name: String = guid.as_str().unwrap_or_default().chars().take(20).collect();
    let before = rules(&name)?;
    ensure!(
        before.contains("netout--") && before.contains("DNAT"),
        "{before}"
    );
    for damage in [
        "iptables -w -F; iptables -w -t nat -F".to_owned(),
        "iptables -w -F; iptables -w -t nat -F; iptables -w -X; iptables -w -t nat -X".to_owned(),
        format!("iptables -w -t nat -F netin--{name}"),
        format!("iptables -w -D netout--{name} 1"),
    ] {
        sh(&damage)?;
        // Traffic continues meanwhile. Its result before the repair does not matter.
        wait_for(&format!("the rules as before `{damage}`"), 20, || {
            let _ = f.get(&host, "/id");
            Ok((sorted(&rules(&name)?) == sorted(&before)).then_some(()))
        })?;
        wait_for("the app's answer", 20, || {
            let answer = f.get(&host, "/id")?;
            let right = answer.body.contains(guid.as_str().unwrap_or_default());
            Ok((answer.status == 200 && right).then_some(()))
        })?;
    }
    let after = f.instances(&f.guid("flushed")?)?;
    ensure!(
        after.len() == 1 && after[0]["instance_guid"] == guid,
        "the instance was restarted: {after:?}"
    );
    f.cf_ok(&["delete", "flushed", "-f", "-r"]).map(drop)
}

fn sorted(rules: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = rules.lines().collect();
    lines.sort_unstable();
    lines
}

fn push(f: &Foundation, name: &str) -> Result<()> {
    let folder = example("proxy/bin");
    let options = [
        "-b",
        "binary_buildpack",
        "-c",
        "./proxy",
        "-m",
        "64M",
        "-k",
        "128M",
    ];
    let mut args = vec!["push", name, "-p", folder.as_str()];
    args.extend(options);
    f.cf_ok(&args).map(drop)
}

fn security_groups(f: &mut Foundation) -> Result<()> {
    push(f, "grouped")?;
    let outside = Outside::start()?;
    let instance = f.instances(&f.guid("grouped")?)?[0]["instance_guid"].clone();
    let reached = |wanted: bool| {
        let what = if wanted {
            "the way out"
        } else {
            "the way out is closed"
        };
        wait_for(what, 20, || {
            let script = "curl -s -o /dev/null --max-time 3 http://192.168.213.2:7001/; echo $?";
            let code = f.exec("grouped/0", &["bash", "-c", script])?;
            Ok(((code.trim() == "0") == wanted).then_some(()))
        })
    };
    reached(false)?;
    let space = f.cf_curl("/v3/spaces")?["resources"][0]["guid"].clone();
    let curl = |method: &str, path: &str, body: serde_json::Value| {
        let body = body.to_string();
        f.cf_ok(&["curl", "-X", method, path, "-d", &body])
    };
    let rules = json!([{ "protocol": "tcp", "destination": "192.168.213.2", "ports": "7001" }]);
    let group = curl(
        "POST",
        "/v3/security_groups",
        json!({ "name": "outside", "rules": rules }),
    )?;
    let group: serde_json::Value = serde_json::from_str(&group).context("read the group")?;
    let path = format!(
        "/v3/security_groups/{}",
        group["guid"].as_str().unwrap_or_default()
    );
    let bound = format!("{path}/relationships/running_spaces");
    curl("POST", &bound, json!({ "data": [{ "guid": space }] }))?;
    reached(true)?;
    let other = json!([{ "protocol": "tcp", "destination": "192.168.213.9", "ports": "7001" }]);
    curl("PATCH", &path, json!({ "rules": other }))?;
    reached(false)?;
    curl("PATCH", &path, json!({ "rules": rules }))?;
    reached(true)?;
    f.cf_ok(&["curl", "-X", "DELETE", &path])?;
    reached(false)?;
    drop(outside);
    let after = f.instances(&f.guid("grouped")?)?;
    ensure!(
        after.len() == 1 && after[0]["instance_guid"] == instance,
        "the instance was restarted: {after:?}"
    );
    f.cf_ok(&["delete", "grouped", "-f", "-r"]).map(drop)
}

/// A machine outside the cell: a network namespace with a web server.
struct Outside(Child);

impl Outside {
    fn start() -> Result<Self> {
        let inside = "ip link set lo up; while ! ip link set cpout1 up 2>/dev/null; do sleep 0.05; done; \
                      ip addr add 192.168.213.2/24 dev cpout1; exec python3 -m http.server 7001 >/dev/null 2>&1";
        let server = Command::new("unshare")
            .args(["-n", "sh", "-c", inside])
            .spawn()
            .context("run unshare")?;
        let started = Self(server);
        let pid = started.0.id();
        wait_for("the namespace", 20, || {
            let own = std::fs::read_link("/proc/self/ns/net")?;
            let theirs = std::fs::read_link(format!("/proc/{pid}/ns/net"))?;
            Ok((own != theirs).then_some(()))
        })?;
        sh(&format!(
            "ip link add cpout0 type veth peer name cpout1 netns {pid} && ip addr add 192.168.213.1/24 dev cpout0 && ip link set cpout0 up"
        ))?;
        wait_for("the web server outside", 20, || {
            Ok(sh("curl -s -o /dev/null --max-time 2 http://192.168.213.2:7001/").ok())
        })?;
        Ok(started)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = sh("ip link del cpout0");
    }
}
