//! The story of a person who uses most of the client: many apps and routes, several users, crashes, restarts, sudden ends.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use testkit::foundation::{Foundation, PASSWORD, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story("tour_two_apps_share_a_route_and_a_path_has_its_own", shared),
    story("tour_a_wildcard_route_takes_what_no_other_takes", wildcard),
    story("tour_a_crash_tells_its_reason", crash),
    story("tour_usage_belongs_to_the_instance_that_runs", usage),
    story("tour_a_rolling_restart_answers_every_request", rolling),
    story("tour_a_plain_restart_lets_requests_wait", restart),
    story("tour_events_tell_the_apps_life", events),
    story("tour_an_auditor_looks_but_does_not_touch", auditor),
    story("tour_a_sudden_end_loses_no_change", sudden_end),
    story("tour_the_apps_leave_with_their_routes", leave),
];

const APP: &str = r#"import http.server, os
held = []
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/exit":
            os._exit(3)
        if self.path == "/grow":
            held.append(b"x" * (32 << 20))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["WHO"].encode())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Answer).serve_forever()
"#;

/// Creates a folder with an app and the manifest of two: `tour-one` and `tour-two`.
fn folder(f: &Foundation) -> Result<PathBuf> {
    let folder = f.folder().join("tour");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("app.py"), APP)?;
    let app = |name: &str| {
        format!(
            "- name: {name}\n  memory: 64M\n  disk_quota: 64M\n  buildpacks: [python_buildpack]\n  command: python3 app.py\n  env: {{WHO: {name}}}\n  path: .\n"
        )
    };
    let apps = [app("tour-one"), app("tour-two")].concat();
    let manifest = format!("applications:\n{apps}");
    std::fs::write(folder.join("manifest.yml"), manifest)?;
    Ok(folder)
}

fn shared(f: &mut Foundation) -> Result<()> {
    let manifest = folder(f)?.join("manifest.yml");
    f.cf_ok(&["push", "-f", &manifest.to_string_lossy()])?;
    let domain = f.domain.clone();
    for app in ["tour-one", "tour-two"] {
        f.cf_ok(&["map-route", app, &domain, "--hostname", "tour"])?;
    }
    let both = ["--hostname", "tour", "--path", "two"];
    f.cf_ok(&[["map-route", "tour-two", &domain].as_slice(), &both].concat())?;
    let host = f.host("tour");
    for app in ["tour-one", "tour-two"] {
        wait_for(&format!("{app} answers at the shared route"), 20, || {
            Ok((f.get(&host, "/")?.body == app).then_some(()))
        })?;
    }
    wait_for("only tour-two answers below /two", 20, || {
        Ok((f.get(&host, "/two/x")?.body == "tour-two").then_some(()))
    })?;
    for _ in 0..4 {
        ensure!(f.get(&host, "/two?x")?.body == "tour-two");
    }
    let refused = f.cf_fails(&["delete", "tour-one", "-r", "-f"])?;
    ensure!(refused.contains("mapped to more than one app"), "{refused}");
    Ok(())
}

fn wildcard(f: &mut Foundation) -> Result<()> {
    let domain = f.domain.clone();
    let mapped = f.cf_ok(&["map-route", "tour-one", &domain, "--hostname", "*"])?;
    ensure!(mapped.contains(" is live on "), "{mapped}");
    let any = f.host("nobody-has-this");
    wait_for("the wildcard route answers", 20, || {
        Ok((f.get(&any, "/")?.body == "tour-one").then_some(()))
    })?;
    ensure!(
        f.get(&f.host("tour-two"), "/")?.body == "tour-two",
        "an exact host wins"
    );
    f.cf_ok(&["delete-route", &domain, "--hostname", "*", "-f"])?;
    wait_for("the wildcard route is gone", 20, || {
        Ok((f.get(&any, "/")?.status == 404).then_some(()))
    })
}

fn crash(f: &mut Foundation) -> Result<()> {
    let host = f.host("tour-one");
    let _ = f.get(&host, "/exit");
    let line = wait_for("cf events shows the crash", 20, || {
        let events = f.cf_ok(&["events", "tour-one"])?;
        let crash = events
            .lines()
            .find(|l| l.contains("audit.app.process.crash"));
        Ok(crash.map(str::to_owned))
    })?;
    ensure!(
        line.contains("reason: CRASHED") && line.contains("Exited with status 3"),
        "{line}"
    );
    wait_for("the app is back", 20, || {
        Ok((f.get(&host, "/")?.status == 200).then_some(()))
    })
}

/// Returns the memory of instance 0, as the API reports it.
fn memory(f: &Foundation, app: &str) -> Result<u64> {
    let stats = f.cf_curl(&format!("/v3/processes/{}/stats", f.guid(app)?))?;
    stats["resources"][0]["usage"]["mem"]
        .as_u64()
        .with_context(|| format!("{stats}"))
}

/// Returns the memory in MiB that a cf command shows for the first instance of an app with 64 MiB.
fn shown_memory(text: &str) -> Result<f64> {
    let figure = regex::Regex::new("([0-9.]+)([BKM]) of 64M")?;
    let found = figure
        .captures(text)
        .with_context(|| format!("no memory in\n{text}"))?;
    let number: f64 = found[1].parse()?;
    Ok(if &found[2] == "M" { number } else { 0.0 })
}

/// Lets the app grow, so that its figures differ from those of any new instance.
fn usage(f: &mut Foundation) -> Result<()> {
    const GROWN: u64 = 32;
    let grown = f.get(&f.host("tour-two"), "/grow")?;
    ensure!(grown.status == 200, "{}", grown.head);
    wait_for("memory of the instance is known", 60, || {
        Ok(Some(memory(f, "tour-two")?).filter(|bytes| *bytes > GROWN << 20))
    })?;
    let shown = f.cf_ok(&["restart", "tour-two"])?;
    ensure!(
        shown_memory(&shown)? < GROWN as f64,
        "a new instance shows the figures of the one before:\n{shown}"
    );
    Ok(())
}

/// Sends requests while a cf command runs. Returns the responses that were not 200, and the number of requests.
fn asked_during(f: &Foundation, host: &str, command: &[&str]) -> Result<(Vec<String>, u32)> {
    let (ended, requests) = (AtomicBool::new(false), AtomicU32::new(0));
    let bad = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut bad = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                match f.get(host, "/") {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => bad.push(answer.status.to_string()),
                    Err(error) => bad.push(format!("{error:#}")),
                }
                requests.fetch_add(1, Ordering::Relaxed);
            }
            bad
        });
        let done = f.cf_ok(command);
        ended.store(true, Ordering::Relaxed);
        let bad = asking.join().unwrap_or_default();
        done.map(|_| bad)
    })?;
    Ok((bad, requests.into_inner()))
}

fn rolling(f: &mut Foundation) -> Result<()> {
    let host = f.host("tour-one");
    let before = f.instances(&f.guid("tour-one")?)?;
    let command = ["restart", "tour-one", "--strategy", "rolling"];
    let (bad, requests) = asked_during(f, &host, &command)?;
    ensure!(
        bad.is_empty() && requests > 5,
        "{} of {requests} requests failed: {bad:?}",
        bad.len()
    );
    wait_for("no old instance is routed", 20, || {
        let after = f.table()?.to_string();
        let gone = |old: &Value| !after.contains(old["instance_guid"].as_str().unwrap_or("?"));
        Ok(before.iter().all(gone).then_some(()))
    })
}

/// Tests that the router always knows the route, although for a while no instance serves it.
fn restart(f: &mut Foundation) -> Result<()> {
    let host = f.host("tour-one");
    for command in ["restart", "restage"] {
        let (bad, requests) = asked_during(f, &host, &[command, "tour-one"])?;
        let unknown = bad.iter().filter(|answer| *answer == "404").count();
        ensure!(
            unknown == 0 && requests > 0,
            "{command}: {unknown} of {requests} requests found no route: {bad:?}"
        );
    }
    Ok(())
}

fn events(f: &mut Foundation) -> Result<()> {
    f.cf_ok(&["scale", "tour-two", "-m", "80M", "-f"])?;
    let events = f.cf_ok(&["events", "tour-two"])?;
    for part in [
        "audit.app.create",
        "audit.app.apply_manifest",
        "audit.app.map-route",
        "audit.app.package.upload",
        "audit.app.build.create",
        "audit.app.process.scale",
        "memory_in_mb: 80",
    ] {
        ensure!(events.contains(part), "{part} is missing:\n{events}");
    }
    Ok(())
}

fn auditor(f: &mut Foundation) -> Result<()> {
    f.cf_ok(&["create-user", "tour-ann", "secret"])?;
    let role = ["set-space-role", "tour-ann", "demo", "dev", "SpaceAuditor"];
    f.cf_ok(&role)?;
    let home = f.folder().join("ann");
    let login = ["login", "-a", &f.api(), "--skip-ssl-validation"];
    let user = ["-u", "tour-ann", "-p", "secret", "-o", "demo", "-s", "dev"];
    let output = f.cf_in(&home, &[login.as_slice(), &user].concat())?;
    ensure!(output.status.success(), "{output:?}");
    for allowed in [
        &["app", "tour-one"][..],
        &["logs", "tour-one", "--recent"],
        &["events", "tour-one"],
        &["routes"],
    ] {
        let output = f.cf_in(&home, allowed)?;
        ensure!(output.status.success(), "{allowed:?}: {output:?}");
    }
    let domain = f.domain.clone();
    for refused in [
        &["stop", "tour-one"][..],
        &["delete", "tour-one", "-f"],
        &["env", "tour-one"],
        &["scale", "tour-one", "-i", "2"],
        &["map-route", "tour-one", &domain, "--hostname", "ann"],
    ] {
        let output = f.cf_in(&home, refused)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1) && text.contains("not authorized"),
            "{refused:?}: {output:?}"
        );
    }
    Ok(())
}

fn sudden_end(f: &mut Foundation) -> Result<()> {
    let domain = f.domain.clone();
    f.cf_ok(&["set-env", "tour-one", "DURABLE", "yes"])?;
    f.cf_ok(&["create-org", "tour-org"])?;
    f.cf_ok(&["map-route", "tour-one", &domain, "--hostname", "tour-late"])?;
    f.kill()?;
    f.up()?;
    f.cf_ok(&["auth", "admin", PASSWORD])?;
    f.cf_ok(&["target", "-o", "demo", "-s", "dev"])?;
    let host = f.host("tour-late");
    wait_for("the route of before the end answers", 20, || {
        Ok((f.get(&host, "/")?.status == 200).then_some(()))
    })?;
    let env = f.cf_ok(&["env", "tour-one"])?;
    ensure!(env.contains("DURABLE"), "{env}");
    f.cf_ok(&["delete-org", "tour-org", "-f"])?;
    Ok(())
}

fn leave(f: &mut Foundation) -> Result<()> {
    let domain = f.domain.clone();
    for path in [&[][..], &["--path", "two"]] {
        let route = ["delete-route", &domain, "--hostname", "tour", "-f"];
        f.cf_ok(&[route.as_slice(), path].concat())?;
    }
    for app in ["tour-one", "tour-two"] {
        f.cf_ok(&["delete", app, "-r", "-f"])?;
    }
    let routes = f.cf_curl("/v3/routes?per_page=5000")?;
    let left: Vec<&Value> = routes["resources"]
        .as_array()
        .context("no list")?
        .iter()
        .filter(|r| r["host"].as_str().is_some_and(|h| h.starts_with("tour")))
        .collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
