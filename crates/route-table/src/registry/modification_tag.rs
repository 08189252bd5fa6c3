//! Orders the versions in which a Routing API describes one route: events and lists contain them in any order.

/// The version of a route from which an endpoint comes. NATS messages carry none, and their guid is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModificationTag {
    /// The identity of the route: a route that was deleted and made again has another one.
    pub guid: String,
    /// The number of the route's changes under this identity.
    pub index: u32,
}

impl ModificationTag {
    pub(super) fn as_view(&self) -> TagView<'_> {
        TagView {
            guid: &self.guid,
            index: self.index,
        }
    }
}

/// A view of a [`ModificationTag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagView<'a> {
    pub guid: &'a str,
    pub index: u32,
}

impl TagView<'_> {
    /// Returns whether `other` is newer, as far as that is known (as the Routing API's `models/route.go`). If either guid is
    /// empty or the guids differ, the later message wins.
    pub(super) fn is_succeeded_by(self, other: TagView<'_>) -> bool {
        let comparable = !self.guid.is_empty() && self.guid == other.guid;
        !comparable || self.index < other.index
    }

    /// Returns whether the removal of version `other` includes this version, which must be the same or an older one. If only one
    /// of the two has a guid, they are from different sources, and the removal does not include it.
    pub(super) fn ends_with(self, other: TagView<'_>) -> bool {
        self.guid.is_empty() == other.guid.is_empty()
            && (self == other || self.is_succeeded_by(other))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Table, spec};
    use super::super::{EndpointSpec, Registered, Unregistered};
    use super::*;

    fn tag(guid: &str, index: u32) -> ModificationTag {
        let guid = guid.to_owned();
        ModificationTag { guid, index }
    }

    fn tagged(guid: &str, index: u32, app: &str) -> EndpointSpec {
        EndpointSpec {
            modification_tag: tag(guid, index),
            ..spec(80, false, app, "0")
        }
    }

    #[test]
    fn newer_versions_replace_and_older_ones_do_not_remove() {
        for (old, new, succeeded, ended) in [
            (("a", 1), ("a", 2), true, true),
            (("a", 2), ("a", 2), false, true),
            (("a", 3), ("a", 2), false, false),
            (("a", 3), ("b", 0), true, true),
            (("", 3), ("a", 0), true, false),
            (("a", 3), ("", 0), true, false),
            (("", 0), ("", 0), true, true),
        ] {
            let of = |(guid, index)| TagView { guid, index };
            let (old, new) = (of(old), of(new));
            assert_eq!(old.is_succeeded_by(new), succeeded, "{old:?} {new:?}");
            assert_eq!(old.ends_with(new), ended, "{old:?} {new:?}");
        }
    }

    #[test]
    fn an_older_version_changes_nothing() {
        let table = Table::new();
        let app = || {
            let pool = table.registry.lookup("a.test", "").unwrap();
            pool.endpoints()[0].app_id().to_owned()
        };
        let added = Registered::Added { new_route: true };
        assert_eq!(table.register("a.test", tagged("g", 2, "two"), 0), added);
        assert_eq!(
            table.register("a.test", tagged("g", 1, "one"), 50),
            Registered::Unmodified
        );
        assert_eq!(app(), "two");
        assert_eq!(
            table.register("a.test", tagged("g", 2, "two"), 60),
            Registered::Refreshed
        );
        assert_eq!(
            table.register("a.test", tagged("g", 3, "three"), 61),
            Registered::Updated
        );
        assert_eq!(
            table.register("a.test", tagged("h", 0, "again"), 62),
            Registered::Updated
        );
        assert_eq!(app(), "again");
        assert_eq!(table.registry.endpoints(), 1);
    }

    #[test]
    fn an_older_version_does_not_keep_a_route_alive() {
        let table = Table::new();
        table.register("a.test", tagged("g", 2, "two"), 0);
        table.register("a.test", tagged("g", 1, "one"), 100);
        assert_eq!(table.registry.prune(table.at(121)).len(), 1);
    }

    #[test]
    fn one_source_does_not_remove_routes_of_the_other() {
        let table = Table::new();
        let address = spec(80, false, "", "").address();
        let withdraw = |tag: &ModificationTag| {
            let registry = &table.registry;
            registry.unregister_version("a.test", &address, tag, table.at(1))
        };
        let gone = Unregistered::Removed { route_gone: true };
        table.register("a.test", tagged("g", 2, "api"), 0);
        assert_eq!(withdraw(&tag("g", 1)), Unregistered::NotFound);
        assert_eq!(withdraw(&tag("g", 2)), gone);
        table.register("a.test", tagged("g", 2, "api"), 0);
        // An emitter registers the same address: the later message wins, and the endpoint now belongs to the emitter.
        assert_eq!(
            table.register("a.test", spec(80, false, "nats", "0"), 0),
            Registered::Updated
        );
        assert_eq!(withdraw(&tag("g", 9)), Unregistered::NotFound);
        let pool = table.registry.lookup("a.test", "").unwrap();
        assert_eq!(pool.endpoints()[0].app_id(), "nats");
        assert_eq!(
            table.registry.unregister("a.test", &address, table.at(1)),
            gone
        );
        assert_eq!(
            (table.registry.routes(), table.registry.endpoints()),
            (0, 0)
        );
    }
}
