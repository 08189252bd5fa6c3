//! Addresses that move between processes, or that several have for a while.

use super::*;

/// Two processes have the address, because the BBS removes the old row late; one sync removes both.
#[test]
fn an_address_that_two_processes_leave_in_one_sync_is_unregistered() {
    // The table derives the processes in any order.
    for _ in 0..50 {
        let mut table = table(vec![
            Event::DesiredSet(desired("p", 1, vec![route("a.x", 8080)], 1)),
            Event::DesiredSet(desired("q", 1, vec![route("a.x", 8080)], 1)),
            Event::ActualSet(actual("p", 0, 1)),
            Event::ActualSet(actual("q", 0, 1)),
        ]);
        let marker = table.begin_sync();
        let changes = table.sync(marker, Snapshot::default());
        assert!(changes.register.is_empty(), "{changes:?}");
        assert_eq!(uris(&changes.unregister).first(), Some(&"a.x"));
    }
}
