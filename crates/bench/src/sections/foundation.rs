//! foundation: the time from a change of a route at the Cloud Controller's API until a client sees it, and the memory of a
//! foundation. It boots one of its own, in a temporary folder, and uses plain sockets to its router and `/proc`.

mod api;
mod memory;

use super::progress;
use crate::rig::Effort;
use crate::table::{Table, verdict};
use anyhow::{Context as _, Result, ensure};
use api::{Api, Connection};
use route_timing::statistics::{milliseconds, quantile};
use std::time::{Duration, Instant};
use testkit::foundation::{Foundation, Mode, PASSWORD, example};

const APPS: usize = 10;

/// The name of a measurement, its times, and its bounds in ms for p50 and p99.
type Row = (&'static str, Vec<Duration>, Option<(f64, f64)>);

pub(super) fn run(effort: Effort) -> Result<String> {
    let rounds = if effort.rounds > 1 { 200 } else { 30 };
    let began = Instant::now();
    let mut f = Foundation::boot("", Mode::OneProcess, None)?;
    let first = began.elapsed();
    f.stop_cleanly()?;
    let mut ups = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        f.up()?;
        f.cf_ok(&["auth", "admin", PASSWORD])?;
        ups.push(began.elapsed());
        f.stop_cleanly()?;
    }
    progress("   up and login measured");
    f.up()?;
    f.cf_ok(&["target", "-o", "demo", "-s", "dev"])?;
    let pushes = (0..APPS).map(|n| push(&f, n)).collect::<Result<Vec<_>>>()?;
    progress(&format!("   {APPS} apps pushed"));
    let [answered, live, unanswered, gone] = changes(&f, rounds)?;
    let memory = memory::of(
        f.child
            .as_ref()
            .context("the foundation does not run")?
            .id(),
    )?;
    f.stop_cleanly()?;
    let rows: Vec<Row> = vec![
        (
            "first `up` of an empty data directory → login",
            vec![first],
            Some((5000.0, 5000.0)),
        ),
        ("`up` on existing data → login", ups, Some((5000.0, 5000.0))),
        (
            "push of the prebuilt proxy app → first 200",
            pushes,
            Some((6000.0, 6000.0)),
        ),
        ("map-route sent → answered", answered, None),
        ("map-route sent → first 200", live, Some((15.0, 60.0))),
        ("unmap-route sent → answered", unanswered, None),
        ("unmap-route sent → first 404", gone, Some((15.0, 60.0))),
    ];
    Ok(format!("{}\n\n{}", table(&rows), memory.text()))
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "What",
        "n",
        "least ms",
        "p50",
        "p99",
        "max",
        "Must (p50, p99)",
    ]);
    for (what, times, bounds) in rows {
        let times = milliseconds(times);
        let [least, p50, p99, most] = [0.0, 0.5, 0.99, 1.0].map(|q| quantile(&times, q));
        table.row(&[
            (*what).to_owned(),
            times.len().to_string(),
            format!("{least:.1}"),
            format!("{p50:.1}"),
            format!("{p99:.1}"),
            format!("{most:.1}"),
            bounds.map_or("–".into(), |(p50_most, p99_most)| {
                verdict(
                    p50 <= p50_most && p99 <= p99_most,
                    &format!("{p50:.1} (≤ {p50_most:.0}), {p99:.1} (≤ {p99_most:.0})"),
                )
            }),
        ]);
    }
    table
}

fn push(f: &Foundation, n: usize) -> Result<Duration> {
    let name = format!("bench{n}");
    let folder = example("proxy/bin");
    let began = Instant::now();
    f.cf_ok(&[
        "push",
        &name,
        "-p",
        &folder,
        "-b",
        "binary_buildpack",
        "-c",
        "./proxy",
        "-m",
        "64M",
        "-k",
        "128M",
    ])?;
    ensure!(
        f.get(&f.host(&name), "/")?.status == 200,
        "no 200 after push"
    );
    Ok(began.elapsed())
}

/// Measures map-route until its answer and until the first 200, and unmap-route until its answer and until the first 404.
fn changes(f: &Foundation, rounds: usize) -> Result<[Vec<Duration>; 4]> {
    let api = Api::new(f)?;
    let app = f.guid("bench0")?;
    let first = |path: &str| -> Result<String> {
        let page = f.cf_curl(path)?;
        let guid = page["resources"][0]["guid"].as_str();
        Ok(guid.with_context(|| format!("{path} is empty"))?.to_owned())
    };
    let domain = first("/v3/domains")?;
    let space = first("/v3/spaces?names=dev")?;
    let mut control = Connection::open(api.port)?;
    let mut data = Connection::open(api.port)?;
    let [mut answered, mut live, mut unanswered, mut gone] = [const { Vec::new() }; 4];
    for round in 0..rounds {
        let host = format!("round{round}");
        let route = api.create_route(&mut control, &host, &space, &domain)?;
        let path = format!("/v3/routes/{route}/destinations");
        let visible = format!("{host}.{}", f.domain);

        let body = format!(r#"{{"destinations":[{{"app":{{"guid":"{app}"}}}}]}}"#);
        let call = api.call("POST", &path, &body);
        let (sent, took, answer) = beside(&mut control, call, 200, || data.poll(&visible, 200))?;
        live.push(sent);
        answered.push(took);
        let destination = api::json(&answer)?["destinations"][0]["guid"]
            .as_str()
            .context("no destination guid")?
            .to_owned();

        let call = api.call("DELETE", &format!("{path}/{destination}"), "");
        let (sent, took, _) = beside(&mut control, call, 204, || data.poll(&visible, 404))?;
        gone.push(sent);
        unanswered.push(took);
        if round % 50 == 49 {
            progress(&format!(
                "   {} of {rounds} rounds of map-route and unmap-route",
                round + 1
            ));
        }
    }
    Ok([answered, live, unanswered, gone])
}

/// Sends a call and meanwhile observes its effect. Returns the time to the effect, the time to the answer, and the answer.
fn beside(
    control: &mut Connection,
    call: Vec<u8>,
    wanted: u16,
    see: impl FnOnce() -> Result<()>,
) -> Result<(Duration, Duration, Vec<u8>)> {
    let sent = Instant::now();
    std::thread::scope(|scope| {
        let answering = scope.spawn(move || -> Result<(Duration, Vec<u8>)> {
            let answer = control.request(&call)?;
            ensure!(
                api::status(&answer) == wanted,
                "expected {wanted}: {}",
                String::from_utf8_lossy(&answer)
            );
            Ok((sent.elapsed(), answer))
        });
        see()?;
        let seen = sent.elapsed();
        let joined = answering
            .join()
            .map_err(|_| anyhow::anyhow!("the calling thread panicked"))?;
        let (took, answer) = joined?;
        Ok((seen, took, answer))
    })
}
