//! router-receipts: what the confirmation of changed routes costs the router. Its CPU at 1,000 changes per second, with generations,
//! which it confirms, and without; and its CPU per request for a route with a generation and for one without. Both are measured in turn.

use super::reregistration::BUS;
use super::{Saturation, progress};
use crate::bus::Rate;
use crate::messages;
use crate::peers::{Cupola, Router, Scheme};
use crate::rig::Rig;
use crate::table::{Table, verdict};
use crate::wrk;
use anyhow::{Context as _, Result};
use route_timing::statistics::{least, median};
use std::thread;
use std::time::{Duration, Instant};
use wire::router::{RegistryMessage, subject};

/// The number of changes in a second.
const CHANGES: f64 = 1_000.0;
/// The number of routes that change in turn.
const ROUTES: usize = 10_000;
/// Two routes to the backend that are alike, but the registration of the second one has a generation.
const UNNUMBERED: &str = "unchecked.apps.cupola.test";
const CONFIRMED: &str = "confirmed.apps.cupola.test";
/// The greatest share of the router's core that receipts may cost, and the greatest ratio of the costs of a request.
const MOST: f64 = 0.02;

/// The results of the rounds, without generations and with them.
#[derive(Default)]
struct Pair {
    without: Vec<f64>,
    with: Vec<f64>,
}

impl Pair {
    fn push(&mut self, with: bool, value: f64) {
        match with {
            true => self.with.push(value),
            false => self.without.push(value),
        }
    }
}

pub(super) fn run(rig: &Rig, _: &mut Saturation) -> Result<String> {
    let router = Cupola::pinned(rig).start(rig)?;
    let message = |host| messages::small(host, rig.backend_port(Scheme::Http));
    router.register_and_wait(&message(UNNUMBERED), UNNUMBERED)?;
    router.register_and_wait(&numbered(message(CONFIRMED), 1), CONFIRMED)?;
    confirms(&router)?;
    let idle = idle(rig, &router)?;
    let changes = changes(rig, &router)?;
    let requests = requests(rig, &router)?;
    Ok(text(idle, &changes, &requests))
}

/// Adds what makes a registration a change that the router confirms.
fn numbered(message: RegistryMessage, generation: u64) -> RegistryMessage {
    RegistryMessage {
        generation: Some(generation),
        emitted_at_ns: Some(1_700_000_000_000_000_000 + generation),
        ..message
    }
}

/// Returns change number `n`. Each differs from the last one of its route in a tag, so that the table changes in both cases.
fn change(n: usize, with_generation: bool) -> Vec<u8> {
    let mut message = messages::small(&messages::host(n % ROUTES), 61001);
    let tags = message.tags.get_or_insert_default();
    tags.insert("revision".to_owned(), n.to_string());
    messages::text(&match with_generation {
        true => numbered(message, n as u64 + 1),
        false => message,
    })
}

/// Checks that the router publishes receipts.
fn confirms(router: &Router) -> Result<()> {
    let mut bus = router.nats.connect()?;
    bus.subscribe(subject::RECEIPTS)?;
    bus.publish(subject::REGISTER, &change(0, true))?;
    bus.message().context("the router confirms no change")
}

/// Returns the share of a core that the reader of the bus uses while nothing happens.
fn idle(rig: &Rig, router: &Router) -> Result<f64> {
    let (before, began) = (router.process.thread_cpu(BUS)?, Instant::now());
    thread::sleep(Duration::from_secs(rig.effort.seconds));
    let cpu = router.process.thread_cpu(BUS)? - before;
    Ok(cpu.as_secs_f64() / began.elapsed().as_secs_f64())
}

/// Measures the share of a core that the thread which reads the bus, changes the table and confirms uses during the changes.
fn changes(rig: &Rig, router: &Router) -> Result<Pair> {
    let _pinned = rig.pin()?;
    let count = (CHANGES * rig.effort.seconds as f64) as usize;
    let (mut pair, mut from) = (Pair::default(), 1);
    for round in 0..2 * rig.effort.rounds {
        // The order changes from round to round, because what comes first finds other caches.
        for with in [round % 2 == 0, round % 2 == 1] {
            let all: Vec<Vec<u8>> = (from..from + count).map(|n| change(n, with)).collect();
            from += count;
            let mut bus = router.nats.connect()?;
            let (before, began) = (router.process.thread_cpu(BUS)?, Instant::now());
            bus.register_at(Rate::even(CHANGES), all.iter())?;
            // The last receipts wait for some milliseconds.
            thread::sleep(Duration::from_millis(50));
            let cpu = router.process.thread_cpu(BUS)? - before;
            pair.push(with, cpu.as_secs_f64() / began.elapsed().as_secs_f64());
        }
        progress(&format!(
            "   round {} of {}: {:.2} % of a core without, {:.2} % with receipts",
            round + 1,
            2 * rig.effort.rounds,
            pair.without.last().copied().unwrap_or_default() * 100.0,
            pair.with.last().copied().unwrap_or_default() * 100.0,
        ));
    }
    Ok(pair)
}

/// Measures the router's CPU per request in µs.
fn requests(rig: &Rig, router: &Router) -> Result<Pair> {
    let url = format!("http://127.0.0.1:{}/", router.port(Scheme::Http));
    let host = |with| if with { CONFIRMED } else { UNNUMBERED };
    for with in [false, true] {
        wrk::run(rig.load_core, &url, host(with), 1)?;
    }
    let mut pair = Pair::default();
    for round in 0..rig.effort.rounds {
        for with in [round % 2 == 0, round % 2 == 1] {
            let before = router.process.cpu()?;
            let load = wrk::run(rig.load_core, &url, host(with), rig.effort.seconds)?;
            let cpu = router.process.cpu()? - before;
            pair.push(with, cpu.as_secs_f64() / load.requests * 1e6);
        }
    }
    Ok(pair)
}

fn text(idle: f64, changes: &Pair, requests: &Pair) -> String {
    let mut table = Table::new(&["What", "Without", "With receipts", "Difference", "Must"]);
    let (without, with) = (median(&changes.without), median(&changes.with));
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    table.row(&[
        format!("share of a core, {CHANGES:.0} changes/s (the router's thread of the bus)"),
        percent(without),
        percent(with),
        percent(with - without),
        verdict(
            with - without <= MOST,
            &format!("{}, ≤ {}", percent(with - without), percent(MOST)),
        ),
    ]);
    let each = |share: f64| format!("{:.2} µs", (share - idle) / CHANGES * 1e6);
    table.row(&[
        "CPU per change, idle CPU subtracted".to_owned(),
        each(without),
        each(with),
        format!("{:.2} µs", (with - without) / CHANGES * 1e6),
        "–".to_owned(),
    ]);
    let (without, with) = (median(&requests.without), median(&requests.with));
    let ratio = with / without;
    table.row(&[
        format!(
            "CPU per request, {} connections (least: {:.1} and {:.1} µs)",
            wrk::CONNECTIONS,
            least(&requests.without),
            least(&requests.with)
        ),
        format!("{without:.1} µs"),
        format!("{with:.1} µs"),
        format!("{:+.1} %", (ratio - 1.0) * 100.0),
        verdict(ratio <= 1.0 + MOST, &format!("ratio {ratio:.3}, ≤ 1.02")),
    ]);
    format!(
        "{table}\n\n{} rounds of changes and {} of requests for each case; medians.",
        changes.with.len(),
        requests.with.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_differs_from_the_last_one_of_its_route() {
        assert_ne!(change(1, false), change(1 + ROUTES, false));
        let read = |with| serde_json::from_slice::<RegistryMessage>(&change(7, with)).unwrap();
        let (without, with) = (read(false), read(true));
        assert_eq!((without.generation, with.generation), (None, Some(8)));
        assert!(without.emitted_at_ns.is_none() && with.emitted_at_ns.is_some());
        assert_eq!((without.uris, without.tags), (with.uris, with.tags));
    }

    #[test]
    fn the_table_compares_the_medians() {
        let pair = |without: f64, with: f64| Pair {
            without: vec![without],
            with: vec![with],
        };
        let text = text(0.001, &pair(0.011, 0.021), &pair(40.0, 42.0));
        assert!(
            text.contains("| 1.10 % | 2.10 % | 1.00 % | met: 1.00 %, ≤ 2.00 % |"),
            "{text}"
        );
        assert!(
            text.contains("| 10.00 µs | 20.00 µs | 10.00 µs |"),
            "{text}"
        );
        assert!(text.contains("**not met**: ratio 1.050"), "{text}");
    }
}
