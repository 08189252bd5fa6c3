//! Reads the state of the cell's machine for [`inspection`](super::inspection): its disk, its table of connections, and whether it
//! passes packets on. What cannot be read is left out.

use std::path::Path;
use std::str::FromStr;
use wire::rep::InspectedMachine;

/// Returns the state now. `folder`: a folder on the disk of the containers.
pub(super) fn state(folder: &Path) -> InspectedMachine {
    InspectedMachine {
        tracked_connections: read("netfilter/nf_conntrack_count"),
        most_tracked_connections: read("netfilter/nf_conntrack_max"),
        forwards_packets: read::<u8>("ipv4/ip_forward").map(|value| value != 0),
        free_disk: kit::disk::room(folder).ok().map(|(free, _)| free),
    }
}

/// Returns a value of the kernel's network.
fn read<T: FromStr>(name: &str) -> Option<T> {
    let text = std::fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let state = state(Path::new("/"));
        assert!(state.free_disk.is_some() && state.forwards_packets.is_some());
        assert_eq!(super::state(Path::new("/missing")).free_disk, None);
        assert_eq!(read::<u64>("netfilter/missing"), None);
    }
}
