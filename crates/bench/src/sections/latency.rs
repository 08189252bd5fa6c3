//! router-latency: the time that a proxy adds to a response when it is half as busy as HAProxy can be. It uses an open loop: see
//! [`crate::open_loop`].

use super::{Saturation, cpu, order, progress};
use crate::ends::Ends;
use crate::peers::{Peer, Running, Scheme};
use crate::process::Ahead;
use crate::rig::{HOST, Rig};
use crate::table::{Table, verdict};
use crate::wrk;
use anyhow::{Context as _, Result};
use route_timing::statistics::{median, quantile};
use std::fmt::Write as _;

/// The latencies of each round in milliseconds.
#[derive(Default)]
struct Measured {
    p50: Vec<f64>,
    p99: Vec<f64>,
    p999: Vec<f64>,
    /// The p99 of the generator's own delay.
    late: Vec<f64>,
}

pub(super) fn run(rig: &Rig, saturation: &mut Saturation) -> Result<String> {
    let mut text = String::new();
    for (scheme, title) in [
        (Scheme::Http, "HTTP → HTTP"),
        (Scheme::Https, "HTTPS → HTTPS"),
    ] {
        let rate = half_of_haproxy(scheme, rig, saturation)?;
        let ends = Ends::start(rig)?;
        let mut peers = {
            let _backend = rig.with_backend(ends.ports());
            cpu::start_all(scheme, rig)?
        };
        peers.retain(|p| p.peer != Peer::HaproxyFile);
        let measured = rounds(&peers, scheme, rate, &ends, rig)?;
        let _ = write!(
            text,
            "### {title}, {rate:.0} requests/s\n\n{}\n\n",
            table(&peers, &measured)?
        );
    }
    Ok(text)
}

/// Returns half of HAProxy's rate at saturation, from this run's router-cpu or measured now.
fn half_of_haproxy(scheme: Scheme, rig: &Rig, saturation: &mut Saturation) -> Result<f64> {
    if let Some(rate) = saturation.get(&scheme) {
        return Ok(rate / 2.0);
    }
    let haproxy = Peer::Haproxy.start(scheme, rig)?;
    let url = haproxy.url(scheme);
    wrk::run(rig.load_core, &url, HOST, 1)?;
    let (rounds, duration) = rig.effort.short_rounds();
    let mut rates = Vec::new();
    for _ in 0..rounds {
        let load = wrk::run(rig.load_core, &url, HOST, duration.as_secs().max(1))?;
        rates.push(load.requests / load.elapsed.as_secs_f64());
    }
    let rate = median(&rates);
    saturation.insert(scheme, rate);
    Ok(rate / 2.0)
}

fn rounds(
    peers: &[Running],
    scheme: Scheme,
    rate: f64,
    ends: &Ends,
    rig: &Rig,
) -> Result<Vec<Measured>> {
    let _pinned = rig.pin()?;
    let processes = peers.iter().filter_map(Running::process);
    let _ahead = processes.map(Ahead::process).collect::<Result<Vec<_>>>()?;
    let mut measured: Vec<Measured> = peers.iter().map(|_| Measured::default()).collect();
    let (rounds, duration) = rig.effort.short_rounds();
    for round in 0..rounds {
        for at in order(round, peers.len()) {
            let target = peers[at].target(scheme, rig);
            let load = ends
                .load(&target, HOST, rate, duration)
                .with_context(|| peers[at].peer.name())?;
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| quantile(&load.latencies, q));
            let late = load.late_p99();
            measured[at].p50.push(p50);
            measured[at].p99.push(p99);
            measured[at].p999.push(p999);
            measured[at].late.push(late);
            progress(&format!(
                "   {scheme:?} round {} of {}: {:<26} p50 {p50:.3} p99 {p99:.3} p99.9 {p999:.3} ms, late {late:.3}",
                round + 1,
                rounds,
                peers[at].peer.name(),
            ));
        }
    }
    Ok(measured)
}

/// A function that picks one of the quantiles, with its value of every round.
type Pick = fn(&Measured) -> &Vec<f64>;

/// Returns whether our router competes with the peer. It does not with the floor and with the row without a proxy.
fn competes(peer: Peer) -> bool {
    matches!(peer, Peer::Haproxy | Peer::Nginx | Peer::Envoy)
}

/// Returns the generator's delay as text. A peer that always lags behind leaves no request that finds an idle connection.
fn late(measured: &Measured) -> String {
    let late = median(&measured.late);
    if late.is_nan() {
        "– (the peer cannot serve this rate)".into()
    } else {
        format!("{late:.3}")
    }
}

fn table(peers: &[Running], measured: &[Measured]) -> Result<String> {
    let at = |peer: Peer| peers.iter().position(|p| p.peer == peer);
    let direct = &measured[at(Peer::Direct).context("the row \"direct\" was not measured")?];
    let ours = &measured[at(Peer::Cupola).context("our router was not measured")?];
    let mut table = Table::new(&[
        "Peer",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "generator late, p99",
        "added p50",
        "added p99",
        "ours ÷ peer, p50",
        "p99",
    ]);
    for (peer, own) in peers.iter().zip(measured) {
        let ratio = |ours: &[f64], own: &[f64]| format!("{:.2}", median(ours) / median(own));
        table.row(&[
            peer.peer.name().to_owned(),
            format!("{:.3}", median(&own.p50)),
            format!("{:.3}", median(&own.p99)),
            format!("{:.3}", median(&own.p999)),
            late(own),
            format!("{:.3}", median(&own.p50) - median(&direct.p50)),
            format!("{:.3}", median(&own.p99) - median(&direct.p99)),
            ratio(&ours.p50, &own.p50),
            ratio(&ours.p99, &own.p99),
        ]);
    }
    if median(&direct.late) > median(&ours.p99) / 2.0 {
        return Ok(format!(
            "{table}\n\n**No result**: the generator could not keep up with this rate: without any proxy it is late by more than half of the router's p99."
        ));
    }
    let added = |own: &[f64], direct: &[f64]| median(own) - median(direct);
    let best = |pick: Pick| {
        let rivals = peers.iter().zip(measured).filter(|(p, _)| competes(p.peer));
        rivals
            .map(|(_, m)| added(pick(m), pick(direct)))
            .fold(f64::INFINITY, f64::min)
    };
    let mut text =
        format!("{table}\n\nAdded latency at most the best of HAProxy, nginx and Envoy + 10 %:");
    let picks: [(&str, Pick); 2] = [("p50", |m| &m.p50), ("p99", |m| &m.p99)];
    for (name, pick) in picks {
        let (own, best) = (added(pick(ours), pick(direct)), best(pick));
        let number = format!("{own:.3} ms, the best {best:.3} ms");
        // A rival at or below the direct row would make the bound negative, so our router may also be within the measurement's
        // noise.
        let _ = write!(
            text,
            " {name} {};",
            verdict(own <= best * 1.1 || own <= 0.0, &number)
        );
    }
    Ok(text.trim_end_matches(';').to_owned())
}
