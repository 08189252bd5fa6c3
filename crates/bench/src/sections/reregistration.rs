//! router-reregistration: the cost of the steady stream of re-registrations: its CPU time, its effect on requests, and whether a
//! flood of 400,000 loses any.

use super::{Saturation, progress};
use crate::bus::Rate;
use crate::client::Target;
use crate::ends::Ends;
use crate::messages;
use crate::peers::{Cupola, Router, Scheme};
use crate::process::Ahead;
use crate::rig::{HOST, Rig, keep_to};
use crate::table::{Table, verdict};
use anyhow::{Result, anyhow};
use route_timing::statistics::{median, quantile, sorted};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The rate of 250,000 instances that are re-registered every 20 s.
const STEADY: Rate = Rate::even(12_500.0);
/// The rate at which the emitters of a thousand cells send the same messages: each sends those of all its instances at once.
const BY_CELLS: Rate = Rate {
    per_second: 12_500.0,
    at_once: 250,
};
/// A subject to which the router does not subscribe.
const UNREAD: &str = "bench.register";
const KNOWN: usize = 100_000;
const FLOOD: usize = 400_000;
const FLOOD_RATE: Rate = Rate::even(50_000.0);
/// The router's thread that reads from the bus.
pub(super) const BUS: &str = "router-bus";
/// The rate of the requests that run beside the stream; a fraction of what one worker serves.
const REQUESTS: f64 = 4_000.0;

pub(super) fn run(rig: &Rig, _: &mut Saturation) -> Result<String> {
    let router = Cupola::pinned(rig).start(rig)?;
    // This starts before nats-server and the publisher, which share its core only here.
    let ends = Ends::start(rig)?;
    {
        let _backend = rig.with_backend(ends.ports());
        router.register_backend(rig, Scheme::Http)?;
    }
    let known: Vec<Vec<u8>> = (0..KNOWN)
        .map(|n| messages::text(&messages::full(n, 61001)))
        .collect();
    router.load(known.iter())?;
    let mut costs = Vec::new();
    for (rate, how) in [
        (STEADY, "12,500/s, evenly: 12 or 13 each millisecond"),
        (
            BY_CELLS,
            "12,500/s, as a thousand cells send them: 250 at once",
        ),
        (FLOOD_RATE, "50,000/s, evenly"),
    ] {
        costs.push((how, cost(rig, &router, &known, rate, how)?));
    }
    let beside = beside_requests(rig, &router, &ends, &known)?;
    drop(router);
    let (kept, took) = flood(rig)?;
    let mut table = Table::new(&["What", "Measured", "Must"]);
    for (how, cost) in &costs {
        table.row(&[
            format!("CPU per re-registration of 800 bytes, {how} (the router's process, idle CPU subtracted)"),
            format!("{:.2} µs", cost.router),
            verdict(cost.router <= 3.3, &format!("{:.2} µs, ≤ 3.3 µs", cost.router)),
        ]);
        table.row(&[
            "the same stream to a reader that forgets it at once: the least that hearing a message costs, the kernel's waking and copying"
                .into(),
            format!("{:.2} µs", cost.least),
            format!("the router's own part: {:.2} µs", cost.router - cost.least),
        ]);
    }
    for (how, cost) in ["evenly", "250 at once"].iter().zip(&beside.cost) {
        let cost = median(cost);
        table.row(&[
            format!("the same for 12,500/s, {how}, while it answers {REQUESTS:.0} requests/s (its thread that reads the bus)"),
            format!("{cost:.2} µs"),
            verdict(cost <= 3.3, &format!("{cost:.2} µs, ≤ 3.3 µs")),
        ]);
    }
    let [quiet, past, drained, busy, by_cells] = [
        &beside.without,
        &beside.past,
        &beside.drained,
        &beside.with,
        &beside.by_cells,
    ]
    .map(|p99| median(p99));
    let moved = |to: f64| (to / quiet - 1.0) * 100.0;
    for (how, p99) in [("evenly", busy), ("250 at once", by_cells)] {
        table.row(&[
            format!(
                "p99 of {REQUESTS:.0} requests/s without → with 12,500 re-registrations/s, {how}"
            ),
            format!("{quiet:.3} → {p99:.3} ms"),
            verdict(
                moved(p99) <= 20.0,
                &format!("{:+.0} %, ≤ +20 %", moved(p99)),
            ),
        ]);
    }
    table.row(&[
        "the same stream to a subject without subscribers: what the publisher and nats-server do to the generator's core"
            .into(),
        format!("{quiet:.3} → {past:.3} ms"),
        format!("{:+.0} %", moved(past)),
    ]);
    table.row(&[
        "the same stream to a reader on the router's core that forgets it at once: the least that hearing it costs"
            .into(),
        format!("{quiet:.3} → {drained:.3} ms"),
        format!("{:+.0} %", moved(drained)),
    ]);
    table.row(&[
        format!(
            "{FLOOD} registrations of 800 bytes, sent in {:.1} s ({:.0}/s)",
            took.as_secs_f64(),
            FLOOD as f64 / took.as_secs_f64()
        ),
        format!("{kept} routes in the table"),
        verdict(
            kept == FLOOD as u64,
            &format!("{} lost", FLOOD as i128 - i128::from(kept)),
        ),
    ]);
    Ok(table.to_string())
}

/// The CPU time of one message in µs, as medians of the rounds.
struct Cost {
    /// The time of the router.
    router: f64,
    /// The least time that any reader needs to receive it.
    least: f64,
}

fn cost(rig: &Rig, router: &Router, known: &[Vec<u8>], rate: Rate, how: &str) -> Result<Cost> {
    let _pinned = rig.pin()?;
    let seconds = rig.effort.seconds;
    let before = router.process.cpu()?;
    thread::sleep(Duration::from_secs(seconds));
    let idle = (router.process.cpu()? - before).as_secs_f64() / seconds as f64;
    let count = (rate.per_second * seconds as f64) as usize;
    let each = |seconds: f64| seconds / count as f64 * 1e6;
    let messages = || known.iter().cycle().take(count);
    // The cost of a wake-up on a shared host changes within seconds, so the two measurements alternate.
    let (mut routers, mut leasts) = (Vec::new(), Vec::new());
    for _ in 0..2 * rig.effort.rounds {
        let before = router.process.cpu()?;
        let took = router.nats.connect()?.register_at(rate, messages())?;
        thread::sleep(Duration::from_secs(1));
        let cpu = (router.process.cpu()? - before).as_secs_f64();
        routers.push(each(cpu - idle * (took.as_secs_f64() + 1.0)));
        let (_, drained) = beside_drain(rig, router, || {
            let mut bus = router.nats.connect()?;
            bus.publish_at(UNREAD, rate, messages())?;
            thread::sleep(Duration::from_secs(1));
            Ok(())
        })?;
        leasts.push(each(drained.as_secs_f64()));
    }
    let (routers, leasts) = (sorted(&routers), sorted(&leasts));
    progress(&format!(
        "   {how}: {routers:.2?} µs each, idle {:.2} %; received and dropped: {leasts:.2?} µs",
        idle * 100.0,
    ));
    Ok(Cost {
        router: median(&routers),
        least: median(&leasts),
    })
}

/// Runs a function while a reader on the router's core receives [`UNREAD`] and discards it. Also returns that reader's CPU time.
fn beside_drain<T>(
    rig: &Rig,
    router: &Router,
    run: impl FnOnce() -> Result<T>,
) -> Result<(T, Duration)> {
    let (stop, core) = (AtomicBool::new(false), rig.proxy_core);
    let mut reader = router.nats.connect()?;
    reader.subscribe(UNREAD)?;
    thread::scope(|scope| {
        let drain = scope.spawn(|| {
            keep_to(core)?;
            let _ahead = Ahead::this_thread()?;
            reader.drain(&stop)
        });
        let result = run();
        stop.store(true, Ordering::Relaxed);
        let cpu = drain
            .join()
            .map_err(|_| anyhow!("the reader's thread panicked"))??;
        Ok((result?, cpu))
    })
}

/// The p99 of each round in ms.
#[derive(Default)]
struct Beside {
    /// The requests run without a stream.
    without: Vec<f64>,
    /// A stream of the same size runs, to which no process subscribes.
    past: Vec<f64>,
    /// A stream runs that a reader on the router's core receives and discards.
    drained: Vec<f64>,
    with: Vec<f64>,
    /// The router receives the stream, 250 messages at once.
    by_cells: Vec<f64>,
    /// The CPU time of one of the messages meanwhile in µs, for an even stream and for one with 250 at once.
    cost: [Vec<f64>; 2],
}

fn beside_requests(rig: &Rig, router: &Router, ends: &Ends, known: &[Vec<u8>]) -> Result<Beside> {
    let _pinned = rig.pin()?;
    let _ahead = Ahead::process(&router.process)?;
    let target = Target {
        port: router.port(Scheme::Http),
        tls: None,
    };
    let (rounds, duration) = rig.effort.short_rounds();
    let p99 = || -> Result<f64> {
        let load = ends.load(&target, HOST, REQUESTS, duration)?;
        Ok(quantile(&load.latencies, 0.99))
    };
    let p99_beside = |subject: &str, rate: Rate| -> Result<f64> {
        let stop = AtomicBool::new(false);
        let mut bus = router.nats.connect()?;
        thread::scope(|scope| {
            let stream = scope.spawn(|| {
                let messages = known.iter().cycle();
                let messages = messages.take_while(|_| !stop.load(Ordering::Relaxed));
                bus.publish_at(subject, rate, messages)
            });
            let measured = p99();
            stop.store(true, Ordering::Relaxed);
            stream
                .join()
                .map_err(|_| anyhow!("the stream's thread panicked"))??;
            measured
        })
    };
    // It also measures the cost of a message for a router that serves requests.
    let registering = |rate: Rate| -> Result<(f64, f64)> {
        let (before, from) = (router.process.thread_cpu(BUS)?, Instant::now());
        let p99 = p99_beside("router.register", rate)?;
        let messages = from.elapsed().as_secs_f64() * rate.per_second;
        let cpu = router.process.thread_cpu(BUS)? - before;
        Ok((p99, cpu.as_secs_f64() / messages * 1e6))
    };
    let mut beside = Beside::default();
    for round in 0..rounds {
        let (without, past) = (p99()?, p99_beside(UNREAD, STEADY)?);
        let (drained, _) = beside_drain(rig, router, || p99_beside(UNREAD, STEADY))?;
        let (with, cost) = registering(STEADY)?;
        let (by_cells, cost_by_cells) = registering(BY_CELLS)?;
        progress(&format!(
            "   round {} of {}: p99 {without:.3}, past the router {past:.3}, drained {drained:.3}, with {with:.3}, as cells send {by_cells:.3} ms; {cost:.2} and {cost_by_cells:.2} µs each",
            round + 1,
            rounds,
        ));
        beside.without.push(without);
        beside.past.push(past);
        beside.drained.push(drained);
        beside.with.push(with);
        beside.by_cells.push(by_cells);
        beside.cost[0].push(cost);
        beside.cost[1].push(cost_by_cells);
    }
    Ok(beside)
}

/// Returns the number of routes in a fresh router's table when everything has been sent, and the time that sending took.
fn flood(rig: &Rig) -> Result<(u64, Duration)> {
    let router = Cupola::free().start(rig)?;
    let all: Vec<Vec<u8>> = (0..FLOOD)
        .map(|n| messages::text(&messages::full(n, 61001)))
        .collect();
    let took = router.nats.connect()?.register_at(FLOOD_RATE, all.iter())?;
    let kept = settled(&router)?;
    progress(&format!("   flood: {kept} of {FLOOD} in the table"));
    Ok((kept, took))
}

/// Returns the table's size once it has not grown for three seconds.
fn settled(router: &Router) -> Result<u64> {
    let mut routes = router.routes()?;
    loop {
        thread::sleep(Duration::from_secs(3));
        let now = router.routes()?;
        if now == routes {
            return Ok(now);
        }
        routes = now;
    }
}
