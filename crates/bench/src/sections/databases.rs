//! databases: the time until an app has a database and has used it. The section boots a foundation of its own, which runs the broker of
//! PostgreSQL databases, in a temporary folder.

use super::foundation::{Row, table};
use super::progress;
use crate::rig::Effort;
use anyhow::{Result, ensure};
use route_timing::statistics::milliseconds;
use std::time::Instant;
use testkit::foundation::{Foundation, Mode, example, wait_for};

const CONFIG: &str = "postgres: {}\n";

pub(super) fn run(effort: Effort) -> Result<String> {
    let rounds = if effort.rounds > 1 { 10 } else { 2 };
    let mut f = Foundation::boot(CONFIG, Mode::OneProcess, None)?;
    wait_for("the offering", 60, || {
        let plans = f.cf_curl("/v3/service_plans?names=small&service_offering_names=postgres")?;
        Ok((plans["resources"][0]["visibility_type"] == "public").then_some(()))
    })?;
    let (mut created, mut bound, mut pushed) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..rounds {
        let (app, instance) = (format!("app{n}"), format!("db{n}"));
        let began = Instant::now();
        f.cf_ok(&["create-service", "postgres", "small", &instance, "--wait"])?;
        created.push(began.elapsed());
        let began = Instant::now();
        let path = example("postgres");
        f.cf_ok(&[
            "push",
            &app,
            "-p",
            &path,
            "-m",
            "64M",
            "-k",
            "128M",
            "--no-start",
        ])?;
        let binding = Instant::now();
        f.cf_ok(&["bind-service", &app, &instance, "--wait"])?;
        bound.push(binding.elapsed());
        f.cf_ok(&["start", &app])?;
        let host = f.host(&app);
        wait_for("the answer to the first query", 60, || {
            let answer = f.get(&host, "/sql?q=SELECT%207")?;
            ensure!(
                answer.status == 200 && answer.body == "7",
                "{}: {}",
                answer.status,
                answer.body
            );
            Ok(Some(()))
        })?;
        pushed.push(began.elapsed());
        progress(&format!("   database {n} used"));
    }
    f.stop_cleanly()?;
    let rows: Vec<Row> = vec![
        (
            "create-service --wait of a database",
            milliseconds(&created),
            None,
        ),
        ("bind-service --wait", milliseconds(&bound), None),
        (
            "push of a Python app with a database → answer to its first query",
            milliseconds(&pushed),
            Some((15_000.0, 15_000.0)),
        ),
    ];
    Ok(table(&rows).to_string())
}
