//! The commands that show a route: what they show of a real change is what happened.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use testkit::foundation::{Foundation, binary, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story(
        "a_route_is_watched_from_the_call_to_the_answer_and_back",
        watched_route,
    ),
    story("a_request_is_tapped_with_its_time_per_hop", tapped_request),
];

/// A `cupola watch` or `cupola tap` that is killed if the story fails half way.
struct Watching {
    child: Child,
    /// The file with its output.
    output: PathBuf,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watching {
    fn start(f: &Foundation, command: &str, host: &str) -> Result<Self> {
        let output = f.folder().join(format!("{command}.json"));
        let child = Command::new(binary())
            .args([command, host, "--json", "--data"])
            .arg(&f.data)
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .spawn()?;
        Ok(Self { child, output })
    }

    /// Waits for the first step of a component whose text contains this one.
    fn step(&self, component: &str, text: &str) -> Result<Value> {
        let what = format!("a step of {component} with {text:?}");
        wait_for(&what, 30, || {
            let lines = std::fs::read_to_string(&self.output)?;
            // The last line may not be complete yet.
            let mut steps = lines
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            Ok(steps.find(|step| {
                let shown = step["text"].as_str().unwrap_or_default();
                step["component"] == component && shown.contains(text)
            }))
        })
    }
}

fn cupola(f: &Foundation, args: &[&str]) -> Result<String> {
    let output = Command::new(binary())
        .args(args)
        .arg("--data")
        .arg(&f.data)
        .stdin(Stdio::null())
        .output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cupola {args:?}: {complaint}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn watched_route(f: &mut Foundation) -> Result<()> {
    let host = f.host("seen");
    let watching = Watching::start(f, "watch", &host)?;
    watching.step("client", "answered with 404")?;
    f.cf_ok(&["map-route", "appB", &f.domain, "--hostname", "seen"])?;
    let call = watching.step("cloud-controller", "POST /v3/routes/")?;
    let desired = watching.step("bbs", "added")?;
    watching.step("nats", "router.register")?;
    let table = watching.step("router", "table: registered")?;
    let answer = watching.step("client", "answered with 200, before with 404")?;
    let id = call["vcap_request_id"].as_str().context("no id")?;
    let ids = desired["vcap_request_id"].as_str().unwrap_or_default();
    ensure!(ids.contains(id), "{call} {desired}");
    let mut last = f64::MIN;
    for step in [&call, &desired, &table, &answer] {
        let since = step["since_first_ms"].as_f64().context("no milliseconds")?;
        ensure!(since >= last, "{step} is not in order");
        last = since;
    }
    f.cf_ok(&["unmap-route", "appB", &f.domain, "--hostname", "seen"])?;
    watching.step("bbs", "removed")?;
    watching.step("router", "table: unregistered")?;
    watching.step("client", "before with 200")?;
    let time = table["time"].as_str().context("no time")?;
    let met = cupola(f, &["routes", &host, "--at", time])?;
    ensure!(met.contains("endpoints: 1"), "{met}");
    let now = cupola(f, &["routes", &host])?;
    ensure!(now.contains("no route"), "{now}");
    let changed = cupola(f, &["routes", "--diff", time, "now"])?;
    ensure!(changed.contains(&format!("- {host} → ")), "{changed}");
    Ok(())
}

fn tapped_request(f: &mut Foundation) -> Result<()> {
    let host = f.host("appb");
    let tapping = Watching::start(f, "tap", &host)?;
    let trace = wait_for("the trace of a request", 60, || {
        ensure!(f.get(&host, "/id?secret=1")?.status == 200);
        let lines = std::fs::read_to_string(&tapping.output)?;
        // The last line may not be complete yet.
        let mut traces = lines
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(traces.find(|trace| trace["status"] == 200))
    })?;
    ensure!(trace["path"] == "/id", "{trace}");
    let attempts = trace["attempts"].as_array().context("no attempts")?;
    let attempt = attempts.last().context("no attempt")?;
    let instances = f.instances(&f.guid("appB")?)?;
    let instance = attempt["instance_id"].as_str().unwrap_or_default();
    ensure!(
        instances.iter().any(|own| own["instance_guid"] == instance),
        "{attempt} is none of the app's instances"
    );
    ensure!(attempt["is_tls"] == true, "{attempt}");
    // Our Envoys forward bytes, so nothing separates the sidecar from the app.
    ensure!(attempt["app_ms"].is_null(), "{attempt}");
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let total = number(&trace["total_ms"]);
    ensure!(
        total > 0.0 && number(&attempt["answer_ms"]) <= total,
        "{trace}"
    );
    Ok(())
}
