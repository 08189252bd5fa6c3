//! Tests that components' hosts stay components', whatever is registered, and in whatever order.

use super::*;

struct Table {
    registry: Registry,
    start: Instant,
}

impl Table {
    /// Makes a table whose list contains `uaa.test` and everything below it; `shop.test` is a component that is not on the list.
    fn new() -> Self {
        Self::with(Settings {
            components: Some(ComponentHosts::new(["UAA.test", "*.uaa.test", "api.test"])),
            ..Settings::default()
        })
    }

    #[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
    fn with(settings: Settings) -> Self {
        let start = Instant::now();
        Self {
            registry: Registry::new(settings, start),
            start,
        }
    }

    fn register(&self, uri: &str, spec: &EndpointSpec) -> Registered {
        let endpoint = self.registry.endpoint(spec.clone());
        let registered = self.registry.register(uri, &endpoint, self.start);
        if endpoint.is_component() {
            self.registry.evict_apps(uri, self.start);
        }
        registered
    }

    /// Returns what answers: `component`, `app`, or an empty text.
    fn serves(&self, host: &str, path: &str) -> String {
        let pool = self.registry.lookup(host, path);
        let endpoints = pool.map_or_else(Vec::new, |pool| pool.endpoints());
        let names = endpoints.iter().map(|endpoint| endpoint.tag("component"));
        names.collect::<Vec<_>>().join(" ")
    }

    fn unregister(&self, uri: &str, spec: &EndpointSpec) -> Unregistered {
        self.registry.unregister_as(spec, uri, true, self.start)
    }
}

fn component(name: &str, port: u16) -> EndpointSpec {
    EndpointSpec {
        host: "127.0.0.1".into(),
        port,
        tags: [("component".to_owned(), name.to_owned())].into(),
        ..EndpointSpec::default()
    }
}

fn app(port: u16) -> EndpointSpec {
    EndpointSpec {
        host: "127.0.0.1".into(),
        port,
        app_id: "evil".into(),
        instance_id: "i".into(),
        instance_index: "0".into(),
        tags: [("component".to_owned(), "route-emitter".to_owned())].into(),
        ..EndpointSpec::default()
    }
}

const ADDED: Registered = Registered::Added { new_route: true };

#[test]
fn an_app_gets_no_part_of_a_listed_host() {
    let table = Table::new();
    // The three moments are before the component is registered, while it is, and after it has left.
    for moment in ["before", "with", "after"] {
        if moment == "with" {
            assert_eq!(table.register("uaa.test", &component("uaa", 1)), ADDED);
        }
        for uri in [
            "uaa.test",
            "UAA.test",
            "uaa.test.",
            "uaa.test/",
            "uaa.test/oauth",
            "uaa.test/oauth/token?x",
            "zone.uaa.test",
            "*.uaa.test",
            "a.b.uaa.test/x",
        ] {
            assert_eq!(
                table.register(uri, &app(2)),
                Registered::Refused,
                "{uri} {moment}"
            );
            assert!(!table.registry.announce_start(uri, table.start, table.start));
        }
        assert_eq!(
            table.register("*.test", &app(3)),
            if moment == "before" {
                ADDED
            } else {
                Registered::Refreshed
            }
        );
        let expected = if moment == "with" { "uaa" } else { "" };
        for path in ["/", "/oauth/token", "/x"] {
            assert_eq!(table.serves("uaa.test", path), expected, "{moment}");
        }
        assert_eq!(
            table.serves("zone.uaa.test", "/"),
            "",
            "no wildcard stands in"
        );
        assert_eq!(table.serves("www.test", "/"), "route-emitter");
        if moment == "with" {
            let gone = table.unregister("uaa.test", &component("uaa", 1));
            assert_eq!(gone, Unregistered::Removed { route_gone: true });
        }
    }
}

#[test]
fn a_component_regains_its_host_from_apps() {
    let table = Table::new();
    for uri in ["shop.test", "shop.test/cart", "shop.test/cart/x"] {
        assert_eq!(
            table.register(uri, &app(2)),
            ADDED,
            "the host is nobody's yet"
        );
    }
    table.register("other.test", &app(2));
    assert_eq!(
        table.register("shop.test", &component("shop", 1)),
        Registered::Added { new_route: false }
    );
    for path in ["/", "/cart", "/cart/x/y"] {
        assert_eq!(table.serves("shop.test", path), "shop", "{path}");
    }
    assert_eq!(table.serves("other.test", "/"), "route-emitter");
    for uri in ["shop.test", "shop.test/cart"] {
        assert_eq!(
            table.register(uri, &app(2)),
            Registered::Refused,
            "and again: {uri}"
        );
    }
    // A second component may stand beside the first.
    assert_eq!(
        table.register("shop.test/admin", &component("admin", 5)),
        ADDED
    );
    assert_eq!(table.serves("shop.test", "/admin"), "admin");
}

#[test]
fn a_components_wildcard_covers_every_host_below_it() {
    let table = Table::new();
    table.register("a.shop.test", &app(2));
    table.register("a.b.shop.test/x", &app(2));
    table.register("*.b.shop.test", &app(2));
    table.register("shop.test", &app(2));
    table.register("eshop.test", &app(2));
    table.register("*.shop.test", &component("shop", 1));
    for host in [
        "a.shop.test",
        "a.b.shop.test",
        "c.b.shop.test",
        "d.shop.test",
    ] {
        assert_eq!(table.serves(host, "/x"), "shop", "{host}");
        assert_eq!(table.register(host, &app(2)), Registered::Refused, "{host}");
    }
    assert_eq!(table.serves("shop.test", "/"), "route-emitter");
    assert_eq!(table.serves("eshop.test", "/"), "route-emitter");
}

#[test]
fn an_app_cannot_touch_a_components_endpoint() {
    let table = Table::new();
    for host in ["uaa.test", "shop.test"] {
        let own = component("own", 1);
        table.register(host, &own);
        // An app registers the component's own address, with settings of its own.
        let mut evil = app(1);
        evil.route_service_url = "https://evil.test".into();
        evil.options.balancing = Some(Balancing::LeastConnection);
        assert_eq!(table.register(host, &evil), Registered::Refused, "{host}");
        let pool = table.registry.lookup(host, "/").unwrap();
        assert_eq!(pool.route_service_url(), None);
        assert_eq!(pool.balancing(), Balancing::RoundRobin);
        assert_eq!(
            table.unregister(host, &evil),
            Unregistered::Refused,
            "{host}"
        );
        let nobody = EndpointSpec {
            tags: Default::default(),
            ..own.clone()
        };
        assert_eq!(table.unregister(host, &nobody), Unregistered::Refused);
        assert_eq!(table.serves(host, "/"), "own");
        assert_eq!(
            table.unregister(host, &own),
            Unregistered::Removed { route_gone: true }
        );
    }
}

#[test]
fn without_the_list_everybody_mixes_as_in_gorouter() {
    let table = Table::with(Settings::default());
    table.register("uaa.test", &component("uaa", 1));
    table.register("uaa.test", &app(2));
    assert_eq!(table.serves("uaa.test", "/"), "uaa route-emitter");
    let gone = table.unregister(
        "uaa.test",
        &EndpointSpec {
            app_id: "x".into(),
            ..component("uaa", 1)
        },
    );
    assert_eq!(gone, Unregistered::Removed { route_gone: false });
}
