//! router-envelopes: the cost of a request with everything enabled that a deployment uses: our router sends envelopes to a metron
//! agent, and HAProxy sends its log to a syslog server, both by UDP. The method is that of router-cpu, plain on both sides; the
//! rounds of all peers alternate. A verdict is about the median of the rounds' ratios: two peers of one round share the machine's
//! state, which changes from round to round.

use super::{Saturation, cpu};
use crate::peers::{Peer, Scheme};
use crate::rig::Rig;
use crate::table::verdict;
use anyhow::{Context as _, Result};
use route_timing::statistics::{least, median, most};

pub(super) fn run(rig: &Rig, _: &mut Saturation) -> Result<String> {
    let peers = cpu::start(Peer::PRODUCTION, Scheme::Http, rig)?;
    let measured = cpu::rounds(&peers, Scheme::Http, rig)?;
    let (table, _) = cpu::table(&peers, &measured)?;
    let beside = |ours: Peer, other: Peer, bound: f64| {
        let pairs = cpu::pairs(&peers, &measured, ours, other)
            .with_context(|| format!("{} was not measured", other.name()))?;
        let ratio = median(&pairs);
        let (least, most) = (least(&pairs), most(&pairs));
        let text = format!("ratio {ratio:.2}, the rounds' from {least:.2} to {most:.2}");
        anyhow::Ok(verdict(ratio <= bound, &text))
    };
    let beside_haproxy = beside(Peer::CupolaEnvelopes, Peer::HaproxyUdp, 1.0)?;
    let one_by_one = beside(Peer::CupolaEnvelopesOneByOne, Peer::HaproxyUdp, 1.0)?;
    // A hundredth is within the method's own noise.
    let unread = beside(Peer::CupolaEnvelopesUnread, Peer::Cupola, 1.01)?;
    Ok(format!(
        "### HTTP → HTTP, everything on\n\n{table}\n\nWith a listener that reads as log-cache does at most HAProxy's with its log by UDP: {beside_haproxy}\n\nWith a listener that reads one by one at most the same: {one_by_one}\n\nNo cost while nobody listens: {unread}\n"
    ))
}
