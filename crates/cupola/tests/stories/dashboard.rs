//! Stories of the picture: Debian's Chromium, driven by Playwright, sees a push travel, a broken route and its reason, and as a
//! developer no more than the API shows. With `CUPOLA_IMAGES=docs/images` the stories also write the screenshots of the documentation.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use testkit::foundation::{Foundation, PASSWORD, binary, both, example, root, sh};

pub(crate) const STORIES: &[Story] = &[
    story("dashboard_a_push_is_seen_travelling", push),
    story("dashboard_a_broken_route_is_seen_with_its_reason", broken),
    story("dashboard_a_developer_sees_what_the_api_shows", developer),
];

const APP: &str = "pictured";

/// Runs one part of the script. It prints what it saw when it fails.
fn drive(f: &Foundation, part: &str, more: Value) -> Result<()> {
    let cache = std::env::var_os("CUPOLA_CACHE").unwrap_or_else(|| "/var/cache/cupola".into());
    let python = PathBuf::from(cache).join("suites-venv/bin/python");
    ensure!(
        python.exists(),
        "{} is missing: run scripts/setup-tests through make test",
        python.display()
    );
    let images = std::env::var("CUPOLA_IMAGES").ok();
    let mut parameters = json!({
        "url": format!("https://{}:{}/", f.host("dashboard"), f.plan["https_port"]),
        "user": "admin",
        "password": PASSWORD,
        "host": f.host(APP),
        "app": APP,
        "images": images.map(|folder| root().join(folder)),
    });
    if let (Some(all), Value::Object(more)) = (parameters.as_object_mut(), more) {
        all.extend(more);
    }
    let script = root().join("crates/cupola/tests/stories/dashboard.py");
    let output = Command::new(python)
        .arg("-B")
        .arg(script)
        .arg(part)
        .arg(parameters.to_string())
        .output()
        .context("run the browser's script")?;
    ensure!(output.status.success(), "{part}:\n{}", both(&output));
    Ok(())
}

fn push(f: &mut Foundation) -> Result<()> {
    let folder = example("proxy/bin");
    let arguments = format!("push {APP} -p {folder} -b binary_buildpack -m 64M -k 128M -c ./proxy");
    let command: Vec<String> = std::iter::once(binary().to_string_lossy().into_owned())
        .chain(["cf".to_owned()])
        .chain(arguments.split(' ').map(str::to_owned))
        .collect();
    let home = f.folder().join("home");
    drive(f, "push", json!({"command": command, "home": home}))
}

fn broken(f: &mut Foundation) -> Result<()> {
    let lrp = f.instances(&f.guid(APP)?)?.into_iter().next();
    let lrp = lrp.context("the app has no instance")?;
    let port = lrp["ports"][0]["host_tls_proxy_port"].as_u64();
    let rule = format!(
        "OUTPUT -d {}/32 -p tcp -m tcp --dport {} -j DNAT --to-destination 192.0.2.1:61001",
        f.cell_ip(),
        port.context("no port")?
    );
    let insert = rule.replace("OUTPUT ", "OUTPUT 1 ");
    sh(&format!("iptables -w -t nat -I {insert}"))?;
    let seen = drive(f, "broken", json!({}));
    sh(&format!("iptables -w -t nat -D {rule}"))?;
    seen?;
    drive(f, "repaired", json!({}))
}

fn developer(f: &mut Foundation) -> Result<()> {
    f.cf_ok(&["create-user", "looker", "looker-password"])?;
    let user = json!({"user": "looker", "password": "looker-password"});
    drive(f, "developer", user)?;
    f.cf_ok(&["delete", APP, "-f", "-r"]).map(drop)
}
