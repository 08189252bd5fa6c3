//! router-cpu: the cost of a request for the proxy, in CPU time. One worker runs alone on its core; bodies have 1 kB; wrk has 64
//! keep-alive connections; the rounds of all peers alternate.

use super::{Saturation, order, progress};
use crate::peers::{Peer, Running, Scheme};
use crate::rig::{HOST, Rig};
use crate::table::{Table, verdict};
use crate::{h2load, wrk};
use anyhow::{Context as _, Result};
use route_timing::statistics::{least, median};
use std::fmt::Write as _;

#[derive(Default)]
pub(super) struct Measured {
    /// The proxy's CPU time per request in µs.
    per_request: Vec<f64>,
    requests_per_second: Vec<f64>,
    /// The share of one core that the proxy used, from 0 to 1.
    busy: Vec<f64>,
    /// The share that generator and backend used together.
    load_busy: Vec<f64>,
}

pub(super) fn run(rig: &Rig, saturation: &mut Saturation) -> Result<String> {
    let mut text = String::new();
    for (scheme, title) in [
        (Scheme::Http, "HTTP → HTTP"),
        (
            Scheme::Https,
            "HTTPS → HTTPS, the backend's name checked, client certificate shown",
        ),
    ] {
        let peers = start_all(scheme, rig)?;
        let measured = rounds(&peers, scheme, rig)?;
        if let Some(at) = peers.iter().position(|p| p.peer == Peer::Haproxy) {
            saturation.insert(scheme, median(&measured[at].requests_per_second));
        }
        let (table, ratio) = table(&peers, &measured)?;
        let met = per_request(&peers, &measured, Peer::Cupola)
            <= per_request(&peers, &measured, Peer::Haproxy);
        let verdict = verdict(met, &ratio);
        let _ = write!(
            text,
            "### {title}\n\n{table}\n\nAt most HAProxy's: {verdict}\n\n"
        );
    }
    Ok(text)
}

pub(super) fn start_all(scheme: Scheme, rig: &Rig) -> Result<Vec<Running>> {
    let mut peers = Peer::all(scheme).to_vec();
    if rig.beside.is_some() {
        peers.push(Peer::CupolaBeside);
    }
    start(&peers, scheme, rig)
}

pub(super) fn start(peers: &[Peer], scheme: Scheme, rig: &Rig) -> Result<Vec<Running>> {
    peers
        .iter()
        .map(|peer| {
            peer.start(scheme, rig)
                .with_context(|| format!("start {}", peer.name()))
        })
        .collect()
}

pub(super) fn rounds(peers: &[Running], scheme: Scheme, rig: &Rig) -> Result<Vec<Measured>> {
    let mut measured: Vec<Measured> = peers.iter().map(|_| Measured::default()).collect();
    for peer in peers {
        load(scheme, peer, rig, 1).with_context(|| format!("warm up {}", peer.peer.name()))?;
    }
    for round in 0..rig.effort.rounds {
        for at in order(round, peers.len()) {
            once(&peers[at], scheme, rig, &mut measured[at])
                .with_context(|| peers[at].peer.name())?;
            progress(&format!(
                "   {scheme:?} round {} of {}: {:<26} {:>6.1} µs {:>7.0}/s",
                round + 1,
                rig.effort.rounds,
                peers[at].peer.name(),
                measured[at].per_request.last().copied().unwrap_or_default(),
                measured[at]
                    .requests_per_second
                    .last()
                    .copied()
                    .unwrap_or_default(),
            ));
        }
    }
    Ok(measured)
}

fn load(scheme: Scheme, peer: &Running, rig: &Rig, seconds: u64) -> Result<wrk::Load> {
    let generator = match scheme {
        Scheme::Http | Scheme::Https => wrk::run,
        Scheme::Http2 => h2load::run,
    };
    generator(rig.load_core, &peer.url(scheme), HOST, seconds)
}

fn once(peer: &Running, scheme: Scheme, rig: &Rig, measured: &mut Measured) -> Result<()> {
    let cpu = || peer.process().map_or(Ok(Default::default()), |p| p.cpu());
    let (proxy, backend) = (cpu()?, rig.backend_process.cpu()?);
    let load = load(scheme, peer, rig, rig.effort.seconds)?;
    let proxy = (cpu()? - proxy).as_secs_f64();
    let backend = (rig.backend_process.cpu()? - backend + load.cpu).as_secs_f64();
    let elapsed = load.elapsed.as_secs_f64();
    measured.per_request.push(proxy / load.requests * 1e6);
    measured.requests_per_second.push(load.requests / elapsed);
    measured.busy.push(proxy / elapsed);
    measured.load_busy.push(backend / elapsed);
    Ok(())
}

/// Returns the median in µs.
pub(super) fn per_request(peers: &[Running], measured: &[Measured], peer: Peer) -> Option<f64> {
    Some(median(costs(peers, measured, peer)?))
}

/// Returns the costs in µs, one for each round.
fn costs<'m>(peers: &[Running], measured: &'m [Measured], peer: Peer) -> Option<&'m [f64]> {
    let at = peers.iter().position(|p| p.peer == peer)?;
    Some(&measured[at].per_request)
}

/// Returns the ratios of two peers' costs, one for each round.
pub(super) fn pairs(
    peers: &[Running],
    measured: &[Measured],
    ours: Peer,
    other: Peer,
) -> Option<Vec<f64>> {
    let ours = costs(peers, measured, ours)?.iter();
    let pairs = ours.zip(costs(peers, measured, other)?);
    Some(pairs.map(|(ours, other)| ours / other).collect())
}

/// Returns the table, and our cost beside HAProxy's.
pub(super) fn table(peers: &[Running], measured: &[Measured]) -> Result<(Table, String)> {
    let of = |peer| per_request(peers, measured, peer);
    let ours = of(Peer::Cupola).context("our router was not measured")?;
    let haproxy = of(Peer::Haproxy).context("HAProxy was not measured")?;
    let mut table = Table::new(&[
        "Peer",
        "CPU µs per request, median",
        "least",
        "ours ÷ peer",
        "requests/s",
        "its core busy",
        "generator's core busy",
        "RSS MB",
    ]);
    for (peer, measured) in peers.iter().zip(measured) {
        let cost = median(&measured.per_request);
        let own = peer.process().is_some();
        let when = |text: String| if own { text } else { "–".to_owned() };
        let rss = peer
            .process()
            .map_or(Ok(0.0), |p| p.memory().map(|m| m.rss))?;
        table.row(&[
            peer.peer.name().to_owned(),
            when(format!("{cost:.1}")),
            when(format!("{:.1}", least(&measured.per_request))),
            when(format!("{:.2}", ours / cost)),
            format!("{:.0}", median(&measured.requests_per_second)),
            when(format!("{:.0} %", median(&measured.busy) * 100.0)),
            format!("{:.0} %", median(&measured.load_busy) * 100.0),
            when(format!("{:.0}", rss / 1e6)),
        ]);
    }
    let ratio = format!(
        "{ours:.1} µs, HAProxy {haproxy:.1} µs, ratio {:.2}",
        ours / haproxy
    );
    Ok((table, ratio))
}
