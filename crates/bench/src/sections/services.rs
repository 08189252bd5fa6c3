//! services: the time until a shell command has run in an instance, and until a list of a thousand service bindings is there. The
//! section boots a foundation of its own in a temporary folder.

use super::foundation::{Row, table};
use super::progress;
use crate::rig::Effort;
use anyhow::{Context as _, Result, ensure};
use route_timing::statistics::milliseconds;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::foundation::{Foundation, Mode, sh};

/// The apps, each of which is bound to every instance. An app has at most 100 bindings.
const APPS: usize = 10;
const INSTANCES: usize = 100;
const BINDINGS: &str = "/v3/service_credential_bindings";

pub(super) fn run(effort: Effort) -> Result<String> {
    let rounds = if effort.rounds > 1 { 50 } else { 5 };
    let mut f = Foundation::boot("", Mode::OneProcess, None)?;
    let measured = measure(&f, rounds);
    f.stop_cleanly()?;
    measured
}

fn measure(f: &Foundation, rounds: u32) -> Result<String> {
    let rows: Vec<Row> = vec![
        (
            "cf ssh APP -c true: process started → ended (a prompt comes earlier)",
            milliseconds(&sessions(f, rounds)?),
            Some((300.0, 300.0)),
        ),
        (
            "list of 1,000 service bindings: request sent → answered",
            milliseconds(&lists(f, rounds)?),
            Some((100.0, 100.0)),
        ),
    ];
    Ok(table(&rows).to_string())
}

fn sessions(f: &Foundation, rounds: u32) -> Result<Vec<Duration>> {
    f.push_proxy("shell")?;
    let session = || {
        let began = Instant::now();
        f.cf_ok(&["ssh", "shell", "-c", "true"])?;
        Ok(began.elapsed())
    };
    let times = (0..rounds).map(|_| session()).collect();
    progress("   sessions measured");
    times
}

/// Makes the bindings by the API, and lists them on one page. The client is curl, whose own clock is read.
fn lists(f: &Foundation, rounds: u32) -> Result<Vec<Duration>> {
    let space = f.cf_curl("/v3/spaces")?;
    let space = space["resources"][0]["guid"].as_str().context("a space")?;
    let space = json!({ "space": { "data": { "guid": space } } });
    let post = |path: &str, body: Value| {
        let made = f.cf_ok(&["curl", "-X", "POST", path, "-d", &body.to_string()])?;
        let made: Value = serde_json::from_str(&made).with_context(|| made.clone())?;
        let guid = made["guid"].as_str().with_context(|| made.to_string())?;
        Ok::<String, anyhow::Error>(guid.to_owned())
    };
    let mut apps = Vec::new();
    for n in 0..APPS {
        let body = json!({ "name": format!("bound{n}"), "relationships": space });
        apps.push(post("/v3/apps", body)?);
    }
    for n in 0..INSTANCES {
        let instance = json!({
            "type": "user-provided", "name": format!("service{n}"), "relationships": space,
            "credentials": { "uri": format!("https://user:secret@service{n}.example.com") },
        });
        let instance = post("/v3/service_instances", instance)?;
        for app in &apps {
            let relationships = json!({ "service_instance": { "data": { "guid": instance } }, "app": { "data": { "guid": app } } });
            post(
                BINDINGS,
                json!({ "type": "app", "relationships": relationships }),
            )?;
        }
        progress(&format!("   {} bindings made", (n + 1) * APPS));
    }
    let list = f.cf_curl(&format!("{BINDINGS}?per_page=1"))?;
    let all = &list["pagination"]["total_results"];
    ensure!(*all == APPS * INSTANCES, "there are {all} bindings");
    let token = f.cf_ok(&["oauth-token"])?;
    let (token, url) = (token.trim(), f.api());
    let list = || {
        let seconds = sh(&format!(
            "curl -skf --connect-to '::127.0.0.1:' -o /dev/null -w '%{{time_total}}' -H 'Authorization: {token}' '{url}{BINDINGS}?per_page=1000'"
        ))?;
        let seconds: f64 = seconds.trim().parse().with_context(|| seconds.clone())?;
        Ok(Duration::from_secs_f64(seconds))
    };
    (0..rounds).map(|_| list()).collect()
}
