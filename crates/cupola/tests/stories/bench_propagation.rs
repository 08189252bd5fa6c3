//! `cupola bench propagation` by the API of a real foundation: it measures map-route, and leaves neither routes nor apps behind.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::{Command, Output, Stdio};
use testkit::foundation::{Foundation, PASSWORD, binary, both, end, example, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story("bench_propagation_measures_map_route", measured),
    story("bench_propagation_logs_in_and_pushes_an_app", pushed),
    story(
        "bench_propagation_is_interrupted_and_cleans_up",
        interrupted,
    ),
    story(
        "bench_propagation_measures_the_bus_of_a_foundation",
        by_the_bus,
    ),
];

/// Returns the command, with the login of the foundation's cf.
fn bench(f: &Foundation, arguments: &str) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["bench", "propagation", "--data"])
        .arg(&f.data)
        .args(arguments.split_whitespace())
        .env("CF_HOME", f.folder().join("home"))
        .env_remove("CF_PASSWORD")
        .stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> Result<Output> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "cupola bench propagation ended with {}:\n{}",
        output.status,
        both(&output)
    );
    Ok(output)
}

/// Returns the URLs of the routes of measurements.
fn routes(f: &Foundation) -> Result<Vec<String>> {
    let page = f.cf_curl("/v3/routes?per_page=5000")?;
    let all = page["resources"].as_array().context("no list of routes")?;
    let urls = all.iter().filter_map(|route| route["url"].as_str());
    let own = urls.filter(|url| url.starts_with("propbench-"));
    Ok(own.map(str::to_owned).collect())
}

fn nothing_is_left(f: &Foundation) -> Result<()> {
    let routes = routes(f)?;
    ensure!(routes.is_empty(), "routes are left: {}", routes.join(" "));
    let apps = f.cf_ok(&["apps"])?;
    ensure!(!apps.contains("propbench-"), "an app is left: {apps}");
    wait_for(
        "the router's table without routes of measurements",
        30,
        || {
            let table = f.table()?.to_string();
            Ok((!table.contains("propbench-")).then_some(()))
        },
    )
}

fn measured(f: &mut Foundation) -> Result<()> {
    let report = f.folder().join("bench.json");
    let image = f.folder().join("bench.svg");
    let arguments =
        "--app appB --probes 5 --routes-per-app 2 --churn 5 --expect ListenAddresses --json";
    let mut command = bench(f, arguments);
    command.arg(&report).arg("--svg").arg(&image);
    let table = both(&run(command)?);
    ensure!(table.contains("map: answered → serving"), "{table}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&report)?)?;
    let rows = report["rows"].as_array().context("no rows")?;
    ensure!(rows.len() == 7, "{report}");
    for row in rows {
        let times = row["times_ms"].as_array().context("no times")?;
        ensure!(times.len() == 5, "{row}");
    }
    // Requests wait for the next instance of a route only if one may come.
    let gone = rows
        .iter()
        .find(|row| row["what"] == "unmap: answered → gone");
    let mut gone: Vec<f64> = gone
        .and_then(|row| row["times_ms"].as_array())
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .collect();
    gone.sort_by(f64::total_cmp);
    ensure!(
        gone.get(2).is_some_and(|ms| *ms < 1000.0),
        "an unmapped route lets requests wait: {gone:?} ms"
    );
    ensure!(
        report["means"] == "api" && report["present_routes"] == 2 && report["churn"]["failed"] == 0,
        "{report}"
    );
    ensure!(
        std::fs::read_to_string(&image)?.starts_with("<svg "),
        "no image"
    );
    nothing_is_left(f)
}

fn pushed(f: &mut Foundation) -> Result<()> {
    let api = f.api();
    let arguments = format!(
        "--api {api} --skip-ssl-validation --user admin --org demo --space dev --probes 2 --push"
    );
    let mut command = bench(f, &arguments);
    command.arg(example("proxy")).env("CF_PASSWORD", PASSWORD);
    let output = both(&run(command)?);
    ensure!(output.contains("map: sent → serving"), "{output}");
    nothing_is_left(f)?;
    // The login of the user's own cf is as it was.
    f.cf_ok(&["app", "appB"]).map(drop)
}

fn interrupted(f: &mut Foundation) -> Result<()> {
    let mut child = bench(f, "--app appB --probes 200 --churn 5")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let made = wait_for("routes of a measurement", 30, || {
        Ok((!routes(f)?.is_empty()).then_some(()))
    });
    // It is ended also if the wait failed.
    let status = end(&mut child, Signal::SIGINT)?;
    made?;
    ensure!(status.code() == Some(1), "it ended with {status}");
    nothing_is_left(f)
}

fn by_the_bus(f: &mut Foundation) -> Result<()> {
    let mut command = bench(f, "--probes 5 --apps 3 --routes-per-app 2 --churn 20");
    // This folder of the cf CLI has no login.
    command.env("CF_HOME", f.folder().join("nobody"));
    let output = both(&run(command)?);
    ensure!(output.contains("register: sent → serving"), "{output}");
    ensure!(output.contains(" 0 wrong answers: "), "{output}");
    nothing_is_left(f)
}
