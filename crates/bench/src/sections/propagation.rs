//! router-propagation: the time from `router.register` to the first 200, and from `router.unregister` to the first 404, with
//! tables of several sizes; and the floor of the same run: a NATS message to oneself and back, plus a plain request through the
//! router.

use super::{Saturation, progress};
use crate::bus::Bus;
use crate::client::{Client, Target};
use crate::messages;
use crate::peers::{Cupola, Router, Scheme};
use crate::rig::{HOST, Rig};
use crate::table::{Table, verdict};
use anyhow::{Result, ensure};
use route_timing::statistics::{milliseconds, quantile};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const TABLES: &[usize] = &[0, 100_000, 400_000];

/// The times in milliseconds, sorted.
struct Measured {
    register: Vec<f64>,
    unregister: Vec<f64>,
    echo: Vec<f64>,
    request: Vec<f64>,
}

impl Measured {
    fn floor(&self) -> f64 {
        quantile(&self.echo, 0.5) + quantile(&self.request, 0.5)
    }
}

pub(super) fn run(rig: &Rig, _: &mut Saturation) -> Result<String> {
    let hosts = if rig.effort.rounds > 1 { 500 } else { 100 };
    let router = Cupola::free().start(rig)?;
    router.register_backend(rig, Scheme::Http)?;
    let mut bus = router.nats.connect()?;
    let mut all = Vec::new();
    let mut loaded = 0;
    for &routes in TABLES {
        let more =
            (loaded..routes).map(|n| messages::text(&messages::small(&messages::host(n), 61001)));
        router.load(more)?;
        loaded = routes;
        std::thread::sleep(Duration::from_secs(1));
        let measured = measure(rig, &router, &mut bus, hosts)?;
        progress(&format!(
            "   {routes} routes: register p50 {:.3} ms, floor {:.3} ms",
            quantile(&measured.register, 0.5),
            measured.floor()
        ));
        all.push((routes, measured));
    }
    Ok(text(&all, hosts))
}

fn measure(rig: &Rig, router: &Router, bus: &mut Bus, hosts: usize) -> Result<Measured> {
    let target = Target {
        port: router.port(Scheme::Http),
        tls: None,
    };
    let mut client = Client::connect(&target)?;
    let mut own = router.nats.connect()?;
    own.subscribe("bench.echo")?;
    let (mut register, mut unregister, mut echo, mut request) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 0..hosts {
        let host = format!("fresh-{n}.apps.cupola.test");
        let payload = messages::text(&messages::small(&host, rig.backend_port(Scheme::Http)));
        echo.push(own.echo("bench.echo", &payload)?);
        let began = Instant::now();
        ensure!(client.get(HOST)? == 200, "{HOST} does not answer");
        request.push(began.elapsed());
        ensure!(
            client.get(&host)? == 404,
            "{host} answers before it was registered"
        );
        for (subject, wanted, times) in [
            ("router.register", 200, &mut register),
            ("router.unregister", 404, &mut unregister),
        ] {
            let sent = Instant::now();
            bus.publish(subject, &payload)?;
            while client.get(&host)? != wanted {
                ensure!(
                    sent.elapsed() < Duration::from_secs(10),
                    "{host} does not answer {wanted}"
                );
            }
            times.push(sent.elapsed());
        }
    }
    Ok(Measured {
        register: milliseconds(&register),
        unregister: milliseconds(&unregister),
        echo: milliseconds(&echo),
        request: milliseconds(&request),
    })
}

fn text(all: &[(usize, Measured)], hosts: usize) -> String {
    let mut table = Table::new(&["Other routes", "What", "p50 ms", "p90", "p99", "max"]);
    for (routes, measured) in all {
        for (what, times) in [
            ("register sent → first 200", &measured.register),
            ("unregister sent → first 404", &measured.unregister),
            ("floor: NATS echo", &measured.echo),
            ("floor: plain request", &measured.request),
        ] {
            let mut row = vec![routes.to_string(), what.to_owned()];
            row.extend([0.5, 0.9, 0.99, 1.0].map(|q| format!("{:.3}", quantile(times, q))));
            table.row(&row);
        }
    }
    let mut text = format!("{table}\n\n{hosts} fresh hosts for each table.");
    for (routes, measured) in all {
        let (p50, p99) = (
            quantile(&measured.register, 0.5),
            quantile(&measured.register, 0.99),
        );
        let floor = measured.floor();
        let _ = write!(
            text,
            "\n- {routes} routes: p50 at most the floor + 0.3 ms {}; p99 at most 3 ms {}",
            verdict(
                p50 <= floor + 0.3,
                &format!("{p50:.3} ms, floor {floor:.3} ms")
            ),
            verdict(p99 <= 3.0, &format!("{p99:.3} ms")),
        );
    }
    text
}
