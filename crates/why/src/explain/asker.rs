//! The hops of the machine that asks: whether it reaches anything at all, whether its clock is right, and whether it knows the name
//! of the host.

use super::{CLOCK_TOLERANCE, Hops, normal};
use crate::component::Component::Client;
use crate::explanation::Verdict;
use crate::facts::Facts;

/// Adds the hops that come before all others. They are there only if something is wrong.
pub(super) fn check(facts: &Facts, hops: &mut Hops) {
    if let Some(problem) = silence(facts) {
        // The server of the bus is a program of its own, and may live longer than the process that started it.
        let but = match &facts.bus {
            Some(Ok(_)) => " but the message bus",
            _ => "",
        };
        let verdict = Verdict::wrong(
            format!("No component of the foundation answers{but}: {problem}."),
            "See whether the foundation runs and has not been paused, and whether a firewall of this machine drops its packets: iptables -S.",
        );
        hops.add((Client, "network"), "", "", verdict);
    }
    if let Some(skew) = own_skew(facts) {
        let direction = if skew > 0 { "behind" } else { "ahead of" };
        let verdict = Verdict::wrong(
            format!(
                "The clock of the machine that asks is {} s {direction} those of all cells and routers.",
                skew.abs()
            ),
            "Set the clock of this machine, and run an NTP client.",
        );
        hops.add((Client, "clock"), "", "", verdict);
    }
}

/// Returns the first problem if nobody who was asked has answered.
fn silence(facts: &Facts) -> Option<&str> {
    let problem = facts.route.as_ref().err()?;
    let are_silent = facts.routers.iter().all(|router| router.view.is_err());
    let has_asked = !facts.routers.is_empty() || facts.bus.as_ref().is_some_and(Result::is_err);
    (facts.desired.is_err() && are_silent && has_asked).then_some(problem.as_str())
}

/// Returns by how many seconds the clocks of all others are ahead, if they agree with each other and not with the asker's.
fn own_skew(facts: &Facts) -> Option<i64> {
    let cells = facts.inspections.values().flatten().map(|cell| cell.now);
    let views = facts.routers.iter().flat_map(|router| &router.view);
    let clocks = cells.chain(views.map(|view| view.now));
    let skews: Vec<i64> = clocks
        .filter(|now| *now != 0)
        .map(|now| now - facts.now)
        .collect();
    let (least, most) = (*skews.iter().min()?, *skews.iter().max()?);
    let agree = skews.len() > 1 && most - least <= CLOCK_TOLERANCE;
    let are_all_wrong = least > CLOCK_TOLERANCE || most < -CLOCK_TOLERANCE;
    (agree && are_all_wrong).then_some(least)
}

/// Adds the hop of the host's name, if it was tried. It is the last one, because requests need no name where the address is given.
pub(super) fn check_name(facts: &Facts, hops: &mut Hops) {
    let Some(name) = &facts.name else { return };
    let url = normal(&facts.url);
    let host = url.split('/').next().unwrap_or_default();
    let (found, verdict) = match name {
        Ok(addresses) => (addresses.join(", "), Verdict::Right),
        Err(problem) => (
            String::new(),
            Verdict::wrong(
                format!("This machine does not reach {host} by its name: {problem}."),
                "See the block of the foundation in /etc/hosts, which the role dns writes, or let the name server lead the domain to a router.",
            ),
        ),
    };
    hops.add((Client, "name"), host, found, verdict);
}
