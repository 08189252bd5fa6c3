//! Syncs while instances start, and while two processes have one address.

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

#[test]
fn an_instance_that_starts_while_a_snapshot_is_fetched_keeps_its_routes() {
    let routes = || vec![route("a.x", 8080)];
    let mut table = table(vec![Event::DesiredSet(desired("p", 1, routes(), 1))]);
    // No instance runs here when the fetch begins, so that the snapshot does not ask for the routes of `p`.
    let marker = table.begin_sync();
    table.apply(Event::ActualSet(actual("p", 0, 1)));
    let snapshot = Snapshot {
        fresh_domains: HashSet::from(["cf-apps".to_owned()]),
        ..Snapshot::default()
    };
    let changes = table.sync(marker, snapshot);
    assert!(changes.unregister.is_empty(), "{changes:?}");
    assert_eq!(
        uris(&table.registrations().cloned().collect::<Vec<_>>()).first(),
        Some(&"a.x")
    );
}
