//! foundation: the time from a change of a route at the Cloud Controller's API until a client sees it, and the memory of a
//! foundation. It boots one of its own, in a temporary folder. The crate `route-timing` measures the changes, as for `cupola bench
//! propagation`.

mod memory;

use super::progress;
use crate::rig::Effort;
use crate::table::{Table, verdict};
use anyhow::{Context as _, Result, bail, ensure};
use clients::http::Authorities;
use route_timing::statistics::{milliseconds, quantile, sorted};
use route_timing::{Api, ApiSettings, By, Change, Front, Settings, Size};
use std::time::{Duration, Instant};
use testkit::foundation::{Foundation, Mode, PASSWORD};

const APPS: usize = 10;

/// The name of a measurement, its sorted times in ms, and its bounds for p50 and p99.
pub(super) type Row = (&'static str, Vec<f64>, Option<(f64, f64)>);

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
            milliseconds(&[first]),
            Some((5000.0, 5000.0)),
        ),
        (
            "`up` on existing data → login",
            milliseconds(&ups),
            Some((5000.0, 5000.0)),
        ),
        (
            "push of the prebuilt proxy app → first 200",
            milliseconds(&pushes),
            Some((6000.0, 6000.0)),
        ),
        ("map-route sent → answered", answered, None),
        ("map-route sent → first 200", live, Some((15.0, 60.0))),
        ("unmap-route sent → answered", unanswered, None),
        ("unmap-route sent → first 404", gone, Some((15.0, 60.0))),
    ];
    Ok(format!("{}\n\n{}", table(&rows), memory.text()))
}

/// Returns the table of measurements.
pub(super) fn table(rows: &[Row]) -> Table {
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
        let [least, p50, p99, most] = [0.0, 0.5, 0.99, 1.0].map(|q| quantile(times, q));
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
    let began = Instant::now();
    f.push_proxy(&name)?;
    ensure!(
        f.get(&f.host(&name), "/")?.status == 200,
        "no 200 after push"
    );
    Ok(began.elapsed())
}

/// Measures map-route until its answer and until the first 200, and unmap-route until its answer and until the first 404. The times
/// are milliseconds.
fn changes(f: &Foundation, rounds: usize) -> Result<[Vec<f64>; 4]> {
    let port = &f.plan["http_port"];
    // The calls go over plain HTTP, as the requests for the routes do.
    let url = format!("http://{}:{port}", f.host("api"));
    let token = f.cf_ok(&["oauth-token"])?.trim().to_owned();
    let (_tokens, token) = tokio::sync::watch::channel(token);
    let settings = Settings {
        by: By::Api(ApiSettings {
            api: Api::new(&url, Authorities::Any, token)?,
            app: f.guid("bench0")?,
            expected: None,
            domain: None,
        }),
        fronts: vec![Front::new(&format!("127.0.0.1:{port}"), "/", false)?],
        size: Size {
            probes: rounds,
            apps: 1,
            routes_per_app: 0,
            churn: 0,
        },
        patience: Duration::from_secs(20),
        limit: Duration::from_secs(600),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let never = kit::CancellationToken::new();
    let measuring = route_timing::run(&settings, &never, |line| progress(&format!("   {line}")));
    let report = runtime.block_on(measuring)?;
    if let Some(fault) = report.fault() {
        bail!("map-route and unmap-route: {fault}");
    }
    let times = |change, kind| sorted(report.times(change, kind));
    Ok([
        times(Change::Mapped, 0),
        times(Change::Mapped, 1),
        times(Change::Unmapped, 0),
        times(Change::Unmapped, 1),
    ])
}
