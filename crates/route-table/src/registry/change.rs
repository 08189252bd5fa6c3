//! Describes what an event did to the table, as a value that logs, metrics and later readers share.
//!
//! The router makes a change from the outcome of each call of the table. A registration that only refreshes an endpoint, or that
//! is older than what the table has, changes nothing and makes no value.

use super::endpoint::Endpoint;
use super::{Pruned, Registered, Unregistered};
use std::sync::Arc;

/// A change of the table, or an attempt that the table refused.
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: ChangeKind,
    /// The route as the message wrote it.
    pub uri: String,
    /// The endpoint: of a registration the one that the table holds since, of a removal the one that it held or that the message
    /// described. `None`: the change concerns a route without endpoints.
    pub endpoint: Option<Arc<Endpoint>>,
    /// The endpoint before the change, if its address was registered before.
    pub replaced: Option<Arc<Endpoint>>,
    pub route: RouteChange,
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The endpoint was added to the route.
    Registered,
    /// The endpoint took a new state.
    Changed,
    /// A message removed the endpoint.
    Unregistered,
    /// The endpoint was removed because it was silent for too long, or because it failed.
    Pruned,
    /// The endpoint of an app was removed because a component registered at its host.
    Evicted,
    /// The table refused a message because the host is a component's. Nothing changed.
    Refused(RefusedMessage),
    /// A route that had no endpoints any more ended.
    Forgotten,
}

/// The kind of a message that the table refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedMessage {
    Registration,
    Unregistration,
    /// The announcement that instances of a route are starting.
    Start,
}

/// The effect of a change on its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// The route existed before and exists after the change, or it exists neither before nor after.
    None,
    New,
    Gone,
}

impl ChangeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Changed => "changed",
            Self::Unregistered => "unregistered",
            Self::Pruned => "pruned",
            Self::Evicted => "evicted",
            Self::Refused(_) => "refused",
            Self::Forgotten => "forgotten",
        }
    }
}

impl RefusedMessage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registration => "registration",
            Self::Unregistration => "unregistration",
            Self::Start => "start",
        }
    }
}

impl RouteChange {
    /// Returns the name of the effect, or `None` if there was no effect.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::New => Some("new"),
            Self::Gone => Some("gone"),
        }
    }

    fn gone_if(gone: bool) -> Self {
        if gone { Self::Gone } else { Self::None }
    }
}

impl Change {
    fn new(kind: ChangeKind, uri: &str, endpoint: &Arc<Endpoint>, route: RouteChange) -> Self {
        Self {
            kind,
            uri: uri.to_owned(),
            endpoint: Some(endpoint.clone()),
            replaced: None,
            route,
        }
    }

    /// Returns the change that a registration made, or `None` if it changed nothing.
    pub fn registered(uri: &str, endpoint: &Arc<Endpoint>, outcome: Registered) -> Option<Self> {
        let (kind, route) = match outcome {
            Registered::Added { new_route: true } => (ChangeKind::Registered, RouteChange::New),
            Registered::Added { new_route: false } => (ChangeKind::Registered, RouteChange::None),
            Registered::Updated => (ChangeKind::Changed, RouteChange::None),
            Registered::Refused => (
                ChangeKind::Refused(RefusedMessage::Registration),
                RouteChange::None,
            ),
            Registered::Refreshed | Registered::Unmodified => return None,
        };
        Some(Self::new(kind, uri, endpoint, route))
    }

    /// Returns the change with the endpoint that was registered at this address before.
    pub fn replacing(self, replaced: Option<Arc<Endpoint>>) -> Self {
        Self { replaced, ..self }
    }

    /// Returns the change that an unregistration made, or `None` if there was no such endpoint. `endpoint` is the one that the
    /// message describes.
    pub fn unregistered(
        uri: &str,
        endpoint: &Arc<Endpoint>,
        outcome: Unregistered,
    ) -> Option<Self> {
        let (kind, route) = match outcome {
            Unregistered::Removed { route_gone } => {
                (ChangeKind::Unregistered, RouteChange::gone_if(route_gone))
            }
            Unregistered::Refused => (
                ChangeKind::Refused(RefusedMessage::Unregistration),
                RouteChange::None,
            ),
            Unregistered::NotFound => return None,
        };
        Some(Self::new(kind, uri, endpoint, route))
    }

    /// Returns the change for an endpoint that [`super::Registry::prune`] removed.
    pub fn pruned(pruned: Pruned) -> Self {
        Self::removed(ChangeKind::Pruned, pruned)
    }

    /// Returns the change for an endpoint that [`super::Registry::evict_apps`] removed.
    pub fn evicted(evicted: Pruned) -> Self {
        Self::removed(ChangeKind::Evicted, evicted)
    }

    fn removed(kind: ChangeKind, removed: Pruned) -> Self {
        Self {
            kind,
            uri: removed.uri,
            endpoint: Some(removed.endpoint),
            replaced: None,
            route: RouteChange::gone_if(removed.route_gone),
        }
    }

    /// Returns the change for an endpoint that [`super::Pool::fail`] removed. Its route stays, even without endpoints.
    pub fn failed(uri: &str, endpoint: &Arc<Endpoint>) -> Self {
        Self::new(ChangeKind::Pruned, uri, endpoint, RouteChange::None)
    }

    /// Returns the change for a route that [`super::Registry::forget_over`] or [`super::Registry::forget_left`] ended.
    pub fn forgotten(uri: &str) -> Self {
        Self {
            kind: ChangeKind::Forgotten,
            uri: uri.to_owned(),
            endpoint: None,
            replaced: None,
            route: RouteChange::Gone,
        }
    }

    /// Returns the change for an announcement that [`super::Registry::announce_start`] refused.
    pub fn start_refused(uri: &str) -> Self {
        Self {
            kind: ChangeKind::Refused(RefusedMessage::Start),
            uri: uri.to_owned(),
            endpoint: None,
            replaced: None,
            route: RouteChange::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Table, spec};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// The endpoints of a table by uri and address.
    type Held = BTreeSet<(String, String)>;

    fn held(table: &Table) -> Held {
        let pools = table.registry.snapshot();
        let endpoints = pools.iter().flat_map(|(uri, pool)| {
            let endpoints = pool.endpoints().into_iter();
            endpoints.map(move |endpoint| (uri.clone(), endpoint.address().to_owned()))
        });
        endpoints.collect()
    }

    fn follow(held: &mut Held, change: &Change) {
        let Some(endpoint) = &change.endpoint else {
            return;
        };
        let key = (change.uri.clone(), endpoint.address().to_owned());
        match change.kind {
            ChangeKind::Registered => assert!(held.insert(key), "registered twice: {change:?}"),
            ChangeKind::Changed => assert!(held.contains(&key), "not registered: {change:?}"),
            ChangeKind::Unregistered | ChangeKind::Pruned | ChangeKind::Evicted => {
                assert!(held.remove(&key), "not registered: {change:?}");
            }
            ChangeKind::Refused(_) | ChangeKind::Forgotten => {}
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Register(u16, bool),
        Unregister(u16),
        Prune,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..4_u16, any::<bool>()).prop_map(|(port, new)| Step::Register(port, new)),
            2 => (1..4_u16).prop_map(Step::Unregister),
            1 => Just(Step::Prune),
        ]
    }

    proptest! {
        /// A reader that follows all changes holds what the table holds.
        #[test]
        fn changes_add_up_to_the_table(
            steps in proptest::collection::vec((0..2_usize, step(), 0..70_u64), 1..50),
        ) {
            let table = Table::new();
            let (mut reader, mut now) = (Held::new(), 0);
            for (uri, step, pause) in steps {
                let uri = ["a.test", "b.test/path"][uri];
                now += pause;
                let changes: Vec<Change> = match step {
                    Step::Register(port, new) => {
                        let app = if new { "new" } else { "old" };
                        let mut endpoint = table.registry.endpoint(spec(port, false, app, ""));
                        let at = table.at(now);
                        let made = table.registry.register_with_place(uri, &mut endpoint, at, at);
                        let change = Change::registered(uri, &endpoint, made.outcome);
                        change.map(|change| change.replacing(made.replaced)).into_iter().collect()
                    }
                    Step::Unregister(port) => {
                        let endpoint = table.registry.endpoint(spec(port, false, "old", ""));
                        let address = endpoint.address();
                        let outcome = table.registry.unregister(uri, address, table.at(now));
                        Change::unregistered(uri, &endpoint, outcome).into_iter().collect()
                    }
                    Step::Prune => {
                        let pruned = table.registry.prune(table.at(now));
                        pruned.into_iter().map(Change::pruned).collect()
                    }
                };
                for change in &changes {
                    follow(&mut reader, change);
                }
                prop_assert_eq!(&reader, &held(&table));
            }
        }
    }

    #[test]
    fn a_message_that_changes_nothing_makes_no_change() {
        let table = Table::new();
        let endpoint = table.registry.endpoint(spec(1, false, "app", "0"));
        for outcome in [Registered::Refreshed, Registered::Unmodified] {
            assert!(Change::registered("a.test", &endpoint, outcome).is_none());
        }
        let outcome = Unregistered::NotFound;
        assert!(Change::unregistered("a.test", &endpoint, outcome).is_none());
    }

    #[test]
    fn a_change_names_its_effect_on_the_route() {
        let table = Table::new();
        let endpoint = table.registry.endpoint(spec(1, false, "app", "0"));
        let registered = |outcome| Change::registered("a.test", &endpoint, outcome).unwrap();
        let unregistered = |outcome| Change::unregistered("a.test", &endpoint, outcome).unwrap();
        let of = |change: Change| (change.kind.as_str(), change.route.as_str());
        let first = Registered::Added { new_route: true };
        let second = Registered::Added { new_route: false };
        let last = Unregistered::Removed { route_gone: true };
        let one_of_two = Unregistered::Removed { route_gone: false };
        assert_eq!(of(registered(first)), ("registered", Some("new")));
        assert_eq!(of(registered(second)), ("registered", None));
        assert_eq!(of(registered(Registered::Updated)), ("changed", None));
        assert_eq!(of(registered(Registered::Refused)), ("refused", None));
        assert_eq!(of(unregistered(last)), ("unregistered", Some("gone")));
        assert_eq!(of(unregistered(one_of_two)), ("unregistered", None));
        assert_eq!(of(unregistered(Unregistered::Refused)), ("refused", None));
        assert_eq!(of(Change::failed("a.test", &endpoint)), ("pruned", None));
        assert_eq!(of(Change::forgotten("a.test")), ("forgotten", Some("gone")));
        assert_eq!(of(Change::start_refused("a.test")), ("refused", None));
    }
}
