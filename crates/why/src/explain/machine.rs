//! The hops of a cell's machine, which are there only if something is wrong: its disk, its table of connections, and whether it passes
//! packets on.

use super::Hops;
use super::diego::Instance;
use crate::component::Component::{Iptables, Rep};
use crate::explanation::Verdict;
use wire::rep::InspectedMachine;

/// The free bytes below which nothing can be stored on the cell.
const FULL: u64 = 16 << 20;

/// Returns whether nothing can be stored on the disk of the containers.
pub(super) fn is_full(machine: &InspectedMachine) -> bool {
    machine.free_disk.is_some_and(|free| free < FULL)
}

pub(super) fn check(instance: &Instance<'_>, machine: &InspectedMachine, hops: &mut Hops) {
    let cell = &instance.actual.cell_id;
    if let Some(free) = machine.free_disk.filter(|_| is_full(machine)) {
        let verdict = Verdict::wrong(
            format!(
                "The disk of cell {cell} is full: {} KB are free.",
                free >> 10
            ),
            "Make room on the disk of the cell, or give it a larger one: docs/operations.md.",
        );
        hops.add((Rep, "disk"), &instance.name, "", verdict);
    }
    let connections = machine
        .tracked_connections
        .zip(machine.most_tracked_connections);
    if let Some((tracked, most)) = connections.filter(|(tracked, most)| tracked >= most) {
        let verdict = Verdict::wrong(
            format!(
                "The kernel of cell {cell} tracks {tracked} connections, and {most} is the most: it drops the packets of new ones."
            ),
            "Find who opens so many connections (conntrack -L), or raise net.netfilter.nf_conntrack_max.",
        );
        hops.add((Iptables, "connections"), &instance.name, "", verdict);
    }
    if machine.forwards_packets == Some(false) {
        let verdict = Verdict::wrong(
            format!(
                "The kernel of cell {cell} does not pass packets on to containers: net.ipv4.ip_forward is 0."
            ),
            "Switch it on again: sysctl -w net.ipv4.ip_forward=1.",
        );
        hops.add((Iptables, "forwarding"), &instance.name, "", verdict);
    }
}
