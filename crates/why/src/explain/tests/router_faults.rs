//! The table of faults behind the cells: of emitters, of the bus, and of routers.

use super::faults::Fault;
use super::{view, views};
use crate::component::Component;

/// Faults behind the cells.
pub(super) const ROUTERS: &[Fault] = &[
    (
        "the emitter is stopped before it registered the instance",
        |facts| views(facts, |view| drop(view.endpoints.remove(1))),
        (Component::RouteEmitter, "router.register", "shop/1"),
        "the emitter of cell cell-1 does not register it",
    ),
    (
        "the emitter is stopped",
        |facts| views(facts, |view| view.endpoints[1].message_age = Some(95.0)),
        (Component::RouteEmitter, "router.register", "shop/1"),
        "has not registered shop/1 for 95 s",
    ),
    (
        "the bus is stopped",
        |facts| {
            facts.bus = Some(Err("connection refused".to_owned()));
            views(facts, |view| view.bus_is_connected = Some(false));
        },
        (Component::Nats, "bus", ""),
        "does not answer: connection refused",
    ),
    (
        "the bus loses all messages",
        |facts| {
            views(facts, |view| {
                view.last_message_age = Some(90.0);
                view.endpoints.clear();
            });
        },
        (Component::Nats, "bus", ""),
        "No message has reached a router for 90 s",
    ),
    (
        "one router has lost the bus",
        |facts| view(facts).bus_is_connected = Some(false),
        (Component::Router, "bus", "router-b"),
        "is not connected to the message bus",
    ),
    (
        "the clock of one router is wrong",
        |facts| view(facts).now -= 3600,
        (Component::Router, "clock", "router-b"),
        "3600 s behind",
    ),
    (
        "one router drains",
        |facts| view(facts).is_healthy = Some(false),
        (Component::Router, "health", "router-b"),
        "starting or draining",
    ),
    (
        "one router is paused",
        |facts| {
            facts.routers[1].view = Err("timed out after 5 s".to_owned());
            facts.routers[1].probe = Some(Err("timed out after 5 s".to_owned()));
        },
        (Component::Router, "page", "router-b"),
        "does not answer: timed out",
    ),
    (
        "one router lost a message",
        |facts| drop(view(facts).endpoints.remove(1)),
        (Component::Router, "table", "router-b for shop/1"),
        "has no endpoint 10.0.0.1:61011",
    ),
    (
        "one router has an old address",
        |facts| view(facts).endpoints[1].address = "10.0.0.1:61099".to_owned(),
        (Component::Router, "table", "router-b for shop/1"),
        "at 10.0.0.1:61099, and it is at 10.0.0.1:61011",
    ),
    (
        "one router has the endpoint without TLS",
        |facts| view(facts).endpoints[1].tls = false,
        (Component::Router, "table", "router-b for shop/1"),
        "with tls=false",
    ),
    (
        "one router expects the name of an earlier instance",
        |facts| view(facts).endpoints[1].server_cert_domain_san = "i9".to_owned(),
        (Component::Router, "table", "router-b for shop/1"),
        "expects the certificate name \"i9\"",
    ),
    (
        "an unregistration was lost",
        |facts| {
            let mut stale = view(facts).endpoints[1].clone();
            stale.address = "10.0.0.1:61044".to_owned();
            stale.instance_guid = "i9".to_owned();
            view(facts).endpoints.push(stale);
        },
        (Component::Router, "stale endpoint", "router-b"),
        "10.0.0.1:61044 of the instance i9",
    ),
    (
        "the limit of connections is reached",
        |facts| view(facts).endpoints[0].in_flight = 500,
        (Component::Router, "table", "router-b for shop/0"),
        "has 500 requests",
    ),
    (
        "no router serves the isolation segment",
        |facts| {
            facts.desired.as_mut().unwrap()[0].routes[0].isolation_segment = "iso".to_owned();
            views(facts, |view| {
                view.segments = Some(vec![String::new()]);
                view.endpoints.clear();
            });
        },
        (Component::Router, "segments", "router-a"),
        "No router serves the isolation segment \"iso\"",
    ),
    (
        "the bus refuses the foundation's user",
        |facts| {
            facts.bus = Some(Err("Authorization Violation".to_owned()));
            views(facts, |view| view.bus_is_connected = Some(false));
        },
        (Component::Nats, "bus", ""),
        "does not answer: Authorization Violation",
    ),
    (
        "all routers have lost the bus, which runs",
        |facts| {
            views(facts, |view| {
                view.bus_is_connected = Some(false);
                view.last_message_age = Some(300.0);
            });
        },
        (Component::Router, "bus", "router-a"),
        "is not connected to the message bus",
    ),
    (
        "one router lost a change",
        |facts| view(facts).endpoints[1].generation = 16,
        (Component::Router, "table", "router-b for shop/1"),
        "as of change 16, and Diego has change 17",
    ),
    (
        "one router serves the URL by a shorter route",
        |facts| {
            view(facts).route = Some("*.example.test".to_owned());
            view(facts).endpoints.truncate(1);
            view(facts).endpoints[0].address = "10.0.0.7:61001".to_owned();
            view(facts).endpoints[0].instance_guid = "i7".to_owned();
        },
        (Component::Router, "route", "router-b"),
        "by the route *.example.test, because its table lacks shop.example.test",
    ),
    (
        "a program registers a longer route of its own",
        |facts| {
            views(facts, |view| {
                view.route = Some("shop.example.test/cart".to_owned());
                view.endpoints.truncate(1);
                view.endpoints[0].address = "192.0.2.9:80".to_owned();
                view.endpoints[0].instance_guid.clear();
            });
        },
        (Component::Router, "route", "router-a"),
        "by the route shop.example.test/cart, which covers shop.example.test and is not stored",
    ),
    (
        "a program registers an endpoint of its own",
        |facts| {
            let mut stranger = view(facts).endpoints[1].clone();
            (stranger.address, stranger.tls) = ("192.0.2.9:80".to_owned(), false);
            stranger.instance_guid.clear();
            view(facts).endpoints.push(stranger);
        },
        (Component::Router, "stale endpoint", "router-b"),
        "192.0.2.9:80, which belongs to no instance",
    ),
    (
        "one router has another password",
        |facts| facts.routers[1].view = Err("it answered with status 401".to_owned()),
        (Component::Router, "page", "router-b"),
        "status 401",
    ),
];
