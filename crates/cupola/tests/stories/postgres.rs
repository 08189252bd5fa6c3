//! Stories of the databases that a foundation provides: an app gets one by two commands, nobody else reaches it, and last night's
//! dump comes back.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use std::process::Command;
use std::time::Instant;
use testkit::foundation::{Foundation, binary, both, example, sh, wait_for};

pub(crate) const CONFIG: &str =
    "router: {register_interval: 5}\npostgres: {server: {connections: 60, memory_mb: 32}}\n";

pub(crate) const STORIES: &[Story] = &[
    story("postgres_an_app_gets_a_database", an_app_gets_a_database),
    story(
        "postgres_only_bound_apps_reach_it",
        only_bound_apps_reach_it,
    ),
    story("postgres_a_dump_comes_back", a_dump_comes_back),
    story("postgres_survives_a_kill", survives_a_kill),
    story("postgres_leaves_nothing", leaves_nothing),
];

fn push(f: &Foundation, name: &str, flags: &[&str]) -> Result<()> {
    let path = example("postgres");
    let push = ["push", name, "-p", &path, "-m", "64M", "-k", "128M"];
    f.cf_ok(&[&push[..], flags].concat()).map(drop)
}

/// Runs a statement in the app, and returns the status and the answer.
fn sql(f: &Foundation, path: &str, statement: &str) -> Result<(u16, String)> {
    let statement: String = statement
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let answer = f.get(&f.host("guestbook"), &format!("{path}?q={statement}"))?;
    Ok((answer.status, answer.body))
}

/// Waits until a statement has this answer.
fn wait_for_answer(f: &Foundation, path: &str, statement: &str, wanted: &str) -> Result<()> {
    wait_for(statement, 60, || {
        let (status, found) = sql(f, path, statement)?;
        ensure!(status == 200 && found == wanted, "{status}: {found}");
        Ok(Some(()))
    })
}

/// Waits until a statement fails.
fn wait_for_failure(f: &Foundation, path: &str) -> Result<String> {
    wait_for("the end of the access", 60, || {
        let (status, text) = sql(f, path, "SELECT 1")?;
        Ok((status == 500).then_some(text))
    })
}

/// Runs `cupola broker postgres …`.
fn broker(f: &Foundation, arguments: &[&str]) -> Result<String> {
    let config = f.config.as_ref().context("the foundation has a file")?;
    let output = Command::new(binary())
        .args(["broker", "postgres"])
        .args(arguments)
        .arg("--data")
        .arg(&f.data)
        .arg("--config")
        .arg(config)
        .output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", both(&output));
    Ok(both(&output))
}

fn an_app_gets_a_database(f: &mut Foundation) -> Result<()> {
    wait_for("the offering", 60, || {
        let plans = f.cf_curl("/v3/service_plans?names=small&service_offering_names=postgres")?;
        let plan = &plans["resources"][0];
        Ok((plan["visibility_type"] == "public").then_some(()))
    })?;
    let began = Instant::now();
    f.cf_ok(&["create-service", "postgres", "small", "db", "--wait"])?;
    push(f, "guestbook", &["--no-start"])?;
    f.cf_ok(&["bind-service", "guestbook", "db", "--wait"])?;
    f.cf_ok(&["start", "guestbook"])?;
    wait_for_answer(f, "/sql", "SELECT 7", "7")?;
    println!(
        "   from create-service to the first answer: {:.1} s",
        began.elapsed().as_secs_f64()
    );
    for statement in [
        "CREATE TABLE guests (name text)",
        "INSERT INTO guests VALUES ('Ada'), ('Grace')",
    ] {
        let (status, text) = sql(f, "/sql", statement)?;
        ensure!(status == 200, "{statement}: {text}");
    }
    wait_for_answer(f, "/new", "SELECT COUNT(*) FROM guests", "2")?;
    // No secret is in the logs of the server.
    let environment = f.cf_ok(&["env", "guestbook"])?;
    let password = environment
        .split("\"password\": \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .context("cf env shows the password to its owner")?;
    let folder = format!("{}-postgres/log", f.data.display());
    let found = sh(&format!("grep -rlF {password} {folder} || true"))?;
    ensure!(found.trim().is_empty(), "the password is in {found}");
    Ok(())
}

/// Returns what a process in the app gets that connects to the server.
fn reaches(f: &Foundation, app: &str, address: &str, port: u16) -> Result<String> {
    let script = format!(
        "import socket\ntry: socket.create_connection(('{address}', {port}), 10); print('open')\nexcept Exception as e: print(type(e).__name__)"
    );
    Ok(f.exec(app, &["python3", "-c", &script])?.trim().to_owned())
}

fn only_bound_apps_reach_it(f: &mut Foundation) -> Result<()> {
    push(f, "stranger", &[])?;
    let address = f.plan["cell_ip"].as_str().context("a cell IP")?.to_owned();
    let port = f.port("postgres");
    ensure!(reaches(f, "guestbook", &address, port)? == "open");
    ensure!(reaches(f, "stranger", &address, port)? == "ConnectionRefusedError");
    // The binding opens that port and no other of the machine.
    let bbs = f.port("bbs");
    ensure!(reaches(f, "guestbook", &address, bbs)? == "ConnectionRefusedError");
    // A rule for a range does not open the server.
    let network = address.rsplit_once('.').map_or("", |(network, _)| network);
    let rules = format!(
        r#"{{"name": "wide", "rules": [{{"protocol": "all", "destination": "{network}.0/24"}}], "globally_enabled": {{"running": true, "staging": false}}}}"#
    );
    f.cf_ok(&["curl", "/v3/security_groups", "-d", &rules])?;
    ensure!(reaches(f, "stranger", &address, port)? == "ConnectionRefusedError");
    f.cf_ok(&["delete", "-f", "-r", "stranger"]).map(drop)
}

fn a_dump_comes_back(f: &mut Foundation) -> Result<()> {
    let made = broker(f, &["dump", "demo/dev/db"])?;
    let listed = broker(f, &["list"])?;
    ensure!(listed.contains("demo/dev/db  small"), "{listed}");
    let name = made.split_whitespace().last().context("the dump's name")?;
    ensure!(listed.contains(name), "{name}: {listed}");
    let (status, text) = sql(f, "/new", "DROP TABLE guests")?;
    ensure!(status == 200, "{text}");
    broker(f, &["restore", "db", "--dump", name])?;
    wait_for_answer(f, "/new", "SELECT COUNT(*) FROM guests", "2")
}

fn survives_a_kill(f: &mut Foundation) -> Result<()> {
    let file = format!("{}-postgres/data/postmaster.pid", f.data.display());
    let first = std::fs::read_to_string(&file)?;
    let pid = first.lines().next().context("a process id")?.to_owned();
    sh(&format!("kill -KILL {pid}"))?;
    wait_for_answer(f, "/new", "SELECT COUNT(*) FROM guests", "2")
}

fn leaves_nothing(f: &mut Foundation) -> Result<()> {
    // The open connection ends with the binding, and a new one is refused by the cell.
    wait_for_answer(f, "/sql", "SELECT 1", "1")?;
    f.cf_ok(&["unbind-service", "guestbook", "db", "--wait"])?;
    wait_for_failure(f, "/sql")?;
    let text = wait_for("the end of the rule", 60, || {
        let (status, text) = sql(f, "/new", "SELECT 1")?;
        let is_refused = status == 500 && text.starts_with("ConnectionRefusedError");
        ensure!(is_refused, "{status}: {text}");
        Ok(Some(text))
    })?;
    ensure!(!text.is_empty());
    f.cf_ok(&["delete-service", "db", "-f", "--wait"])?;
    let listed = broker(f, &["list"])?;
    ensure!(!listed.contains("demo/dev/db"), "{listed}");
    ensure!(listed.contains("(removed)"), "its dump stays: {listed}");
    let groups = f.cf_curl("/v3/security_groups?names=wide")?;
    let group = groups["resources"][0]["guid"].as_str().unwrap_or_default();
    let path = format!("/v3/security_groups/{group}");
    f.cf_ok(&["curl", &path, "-X", "DELETE"])?;
    f.cf_ok(&["delete", "-f", "-r", "guestbook"]).map(drop)
}
