//! router-envelopes: the cost of a request with everything enabled that a deployment uses: our router sends envelopes to a metron
//! agent, and HAProxy sends its log to a syslog server, both by UDP. The method is that of router-cpu, plain on both sides; the
//! rounds of all peers alternate.

use super::{Saturation, cpu};
use crate::peers::{Peer, Scheme};
use crate::rig::Rig;
use crate::table::verdict;
use anyhow::{Context as _, Result};

pub(super) fn run(rig: &Rig, _: &mut Saturation) -> Result<String> {
    let peers = cpu::start(Peer::PRODUCTION, Scheme::Http, rig)?;
    let measured = cpu::rounds(&peers, Scheme::Http, rig)?;
    let (table, _) = cpu::table(&peers, &measured)?;
    let cost = |peer: Peer| {
        let of = cpu::per_request(&peers, &measured, peer);
        of.with_context(|| format!("{} was not measured", peer.name()))
    };
    let (read, haproxy) = (cost(Peer::CupolaEnvelopes)?, cost(Peer::HaproxyUdp)?);
    let (unread, without) = (cost(Peer::CupolaEnvelopesUnread)?, cost(Peer::Cupola)?);
    let ratio = |a: f64, b: f64| format!("{a:.1} µs, {b:.1} µs, ratio {:.2}", a / b);
    let beside_haproxy = verdict(read <= haproxy, &ratio(read, haproxy));
    // A hundredth is within the method's own noise.
    let unread = verdict(unread <= without * 1.01, &ratio(unread, without));
    Ok(format!(
        "### HTTP → HTTP, everything on\n\n{table}\n\nWith a listener at most HAProxy's with its log by UDP: {beside_haproxy}\n\nNo cost while nobody listens: {unread}\n"
    ))
}
