//! router-envelopes: what a request costs with everything on that a deployment has: our router tells a metron agent of it,
//! HAProxy a syslog server, both by UDP. As router-cpu, plain on both sides; the rounds of all peers interleaved.

use super::{Saturation, cpu};
use crate::peers::{Peer, Scheme};
use crate::rig::Rig;
use crate::table::verdict;
use anyhow::{Context as _, Result};

pub(super) fn run(rig: &Rig, _: &mut Saturation) -> Result<String> {
    let peers = cpu::start(Peer::TELLING, Scheme::Http, rig)?;
    let measured = cpu::rounds(&peers, Scheme::Http, rig)?;
    let (table, _) = cpu::table(&peers, &measured)?;
    let cost = |peer: Peer| {
        let of = cpu::per_request(&peers, &measured, peer);
        of.with_context(|| format!("{} was not measured", peer.name()))
    };
    let (telling, haproxy) = (cost(Peer::CupolaHeard)?, cost(Peer::HaproxyUdp)?);
    let (unheard, silent) = (cost(Peer::CupolaUnheard)?, cost(Peer::Cupola)?);
    let ratio = |a: f64, b: f64| format!("{a:.1} µs, {b:.1} µs, ratio {:.2}", a / b);
    let told = verdict(telling <= haproxy, &ratio(telling, haproxy));
    // A hundredth is the method's own noise.
    let nobody = verdict(unheard <= silent * 1.01, &ratio(unheard, silent));
    Ok(format!(
        "### HTTP → HTTP, everything told\n\n{table}\n\nWith a listener at most HAProxy's with its log by UDP: {told}\n\nNo cost while nobody listens: {nobody}\n"
    ))
}
