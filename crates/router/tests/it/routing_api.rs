//! Routes from a Routing API, beside those of NATS.

use crate::backends::Backend;
use crate::component_log::{keep_lines, line_about};
use crate::routing_api_server::{RoutingApiServer, route};
use crate::world::{World, as_gorouter, plain, wait_for};
use clients::http::Authorities;
use router::Settings;
use serde_json::Value;
use std::time::Duration;

/// Starts a router that reads all routes of the API with this interval.
async fn world(api: &RoutingApiServer, interval: Duration) -> World {
    World::with_routing_api(api.accepted(), settings(interval)).await
}

fn settings(interval: Duration) -> Settings {
    Settings {
        prune_interval: interval,
        ..as_gorouter()
    }
}

/// The interval with which the router reads all routes once, and then only events.
const SELDOM: Duration = Duration::from_secs(600);
const OFTEN: Duration = Duration::from_millis(40);

/// Returns the table's row of a route's only endpoint, if it has one.
async fn row(world: &World, uri: &str) -> Option<Value> {
    let table = world.table().await;
    let rows = table[uri].as_array()?;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.first().cloned()
}

async fn wait_for_ttl(world: &World, uri: &str, ttl: u64) {
    wait_for("the route as it is now", async || {
        row(world, uri).await.is_some_and(|row| row["ttl"] == ttl)
    })
    .await;
}

async fn wait_for_stream(api: &RoutingApiServer) {
    let nothing = route("nothing", 1, 1, ("x", 0));
    wait_for("an event stream", async || {
        api.send_event("Invalid", &nothing) > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_make_change_and_delete_routes() {
    let (api, backend) = (RoutingApiServer::started().await, Backend::start("x").await);
    let port = backend.addr.port();
    let version = |ttl, tag| route("App.test/Path", port, ttl, tag);
    api.set_routes(&[version(100, ("g", 5))]);
    let world = world(&api, SELDOM).await;
    wait_for_ttl(&world, "app.test/path", 100).await;
    assert_eq!(world.get("app.test", "/path/x").await.text(), "x");
    let seen = row(&world, "app.test/path").await.unwrap();
    assert_eq!(seen["address"], format!("127.0.0.1:{port}"));
    assert_eq!(
        (&seen["tls"], &seen["server_cert_domain_san"]),
        (&false.into(), &"from-the-api".into())
    );

    // An event that was sent after it shows that the event before was read.
    let marker = |n: u32| route("marker.test", 1, 10 + n, ("m", n));
    api.send_event("Upsert", &version(90, ("g", 4)));
    api.send_event("Upsert", &marker(1));
    wait_for_ttl(&world, "marker.test", 11).await;
    wait_for_ttl(&world, "app.test/path", 100).await;
    api.send_event("Delete", &version(90, ("g", 4)));
    api.send_event("Upsert", &marker(2));
    wait_for_ttl(&world, "marker.test", 12).await;
    assert!(
        world.handle.serves("app.test/path"),
        "an older version was deleted"
    );
    let metrics = world.handle.metrics_text();
    let unmodified = "registry_message{component=\"\",action=\"unmodified\"} 1\n";
    assert!(metrics.contains(unmodified), "{metrics}");

    api.send_event("Upsert", &version(80, ("g", 6)));
    wait_for_ttl(&world, "app.test/path", 80).await;
    api.send_event("Upsert", &version(70, ("another life", 0)));
    wait_for_ttl(&world, "app.test/path", 70).await;
    api.send_event("Delete", &version(70, ("another life", 0)));
    wait_for("the route to go", async || {
        world.get("app.test", "/path").await.status == 404
    })
    .await;
    assert_eq!(world.handle.routes(), 1);
    let happened = api.happened();
    assert_eq!((happened.tokens_given, happened.lists_read), (1, 1));
}

/// The API, the UAA and the router each present such a certificate.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_call_themselves_authorities_are_taken() {
    let api = RoutingApiServer::new();
    api.start_as(&api.ca.issue_authority(&["127.0.0.1"])).await;
    api.set_routes(&[route("a.test", 80, 120, ("g", 0))]);
    let mut config = api.config(Some(api.ca.issue_authority(&["router"])));
    config.oauth.as_mut().unwrap().tls.authorities = Authorities::Pem(api.ca.pem.clone());
    let world = World::with_routing_api(config, settings(OFTEN)).await;
    wait_for("the route", async || world.handle.serves("a.test")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_vanishes_from_the_list_is_gone() {
    let api = RoutingApiServer::started().await;
    let [one, two] = ["one.test", "two.test"].map(|uri| route(uri, 80, 120, (uri, 0)));
    api.set_routes(&[one.clone(), two.clone()]);
    let world = world(&api, OFTEN).await;
    wait_for("both routes", async || world.handle.routes() == 2).await;
    api.set_routes(std::slice::from_ref(&two));
    wait_for("one route", async || world.handle.routes() == 1).await;
    assert!(world.handle.serves("two.test"));
    // This also holds for a route that came by an event.
    wait_for_stream(&api).await;
    api.set_routes(&[one.clone(), two.clone()]);
    api.send_event("Upsert", &one);
    wait_for("both routes", async || world.handle.routes() == 2).await;
    api.set_routes(&[]);
    wait_for("no routes", async || world.handle.routes() == 0).await;
    assert_eq!(api.happened().tokens_given, 1, "a token is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_fetched_again() {
    let api = RoutingApiServer::started().await;
    let world = world(&api, OFTEN).await;
    wait_for("a list", async || api.happened().lists_read > 0).await;
    wait_for_stream(&api).await;
    let before = api.happened().tokens_given;
    api.revoke_tokens();
    api.set_routes(&[route("a.test", 80, 120, ("g", 0))]);
    wait_for("the route", async || world.handle.serves("a.test")).await;
    wait_for_stream(&api).await;
    let metrics = world.handle.metrics_text();
    assert!(metrics.contains("subscribe_events_errors 1\n"), "{metrics}");
    assert!(api.happened().refused > 0);
    assert_eq!(api.happened().tokens_given, before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_away_at_the_start_is_waited_for() {
    keep_lines();
    let (api, backend) = (RoutingApiServer::new(), Backend::start("x").await);
    let port = backend.addr.port();
    api.set_routes(&[route("api.test", port, 120, ("g", 0))]);
    let world = world(&api, SELDOM).await;
    let uaa = api.uaa_url();
    let line = line_about("failed-to-fetch-token", "url", &uaa).await;
    assert_eq!(line["key"], "oauth.token_endpoint");
    assert!(!format!("{line:?}").contains("secret"), "{line:?}");
    world.register("nats.test", "app", 0, backend.addr).await;
    assert_eq!(world.get("nats.test", "/").await.text(), "x");
    api.start().await;
    wait_for("the API's route", async || world.handle.serves("api.test")).await;
    assert_eq!(world.get("api.test", "/").await.text(), "x");
    assert_eq!(world.get("nats.test", "/").await.text(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_certificate_is_logged_as_the_reason() {
    keep_lines();
    let api = RoutingApiServer::started().await;
    api.set_routes(&[route("api.test", 80, 120, ("g", 0))]);
    let world = World::with_routing_api(api.config(None), settings(OFTEN)).await;
    let url = api.api_url();
    let line = line_about("failed-to-fetch-routes", "url", &url).await;
    assert_eq!(line["key"], "routing_api.uri");
    assert_eq!((world.handle.routes(), api.happened().lists_read), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_the_uaa_is_verified() {
    keep_lines();
    let api = RoutingApiServer::started().await;
    api.set_routes(&[route("api.test", 80, 120, ("g", 0))]);
    let with = |authorities| {
        let mut config = api.accepted();
        config.oauth.as_mut().unwrap().tls.authorities = authorities;
        World::with_routing_api(config, settings(SELDOM))
    };
    let stranger = with(Authorities::Pem(crate::certs::Ca::new().pem)).await;
    let uaa = api.uaa_url();
    let line = line_about("failed-to-fetch-token", "url", &uaa).await;
    assert!(
        line["error"].to_lowercase().contains("certificate"),
        "{line:?}"
    );
    assert_eq!(
        (stranger.handle.routes(), api.happened().tokens_given),
        (0, 0)
    );
    let world = with(Authorities::Pem(api.ca.pem.clone())).await;
    wait_for("the route", async || world.handle.serves("api.test")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sources_may_register_one_endpoint() {
    let (api, backend) = (RoutingApiServer::started().await, Backend::start("x").await);
    let registered = route("app.test", backend.addr.port(), 100, ("g", 0));
    let world = world(&api, SELDOM).await;
    wait_for_stream(&api).await;
    api.send_event("Upsert", &registered);
    wait_for_ttl(&world, "app.test", 100).await;
    // The latest registration wins.
    let registration = plain("app.test", "app", 0, backend.addr);
    world.publish("router.register", registration.clone()).await;
    wait_for_ttl(&world, "app.test", 120).await;
    // The endpoint no longer belongs to the Routing API.
    let marker = route("marker.test", 1, 10, ("m", 0));
    api.send_event("Delete", &registered);
    api.send_event("Upsert", &marker);
    wait_for_ttl(&world, "marker.test", 10).await;
    assert_eq!(world.get("app.test", "/").await.text(), "x");
    api.send_event("Upsert", &registered);
    wait_for_ttl(&world, "app.test", 100).await;
    // This repeats an earlier message byte for byte, but the endpoint has changed since.
    world.publish("router.register", registration.clone()).await;
    wait_for_ttl(&world, "app.test", 120).await;
    world.publish("router.unregister", registration).await;
    wait_for("the route to go", async || !world.handle.serves("app.test")).await;
    api.send_event("Upsert", &registered);
    wait_for_ttl(&world, "app.test", 100).await;
    assert_eq!(world.handle.routes(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_there_before_the_first_request() {
    let api = RoutingApiServer::started().await;
    api.set_routes(&[route("api.test", 80, 120, ("g", 0))]);
    let settings = Settings {
        start_delay: Duration::from_secs(5),
        ..settings(SELDOM)
    };
    let world = World::with_routing_api(api.accepted(), settings).await;
    assert!(world.handle.healthy() && world.handle.serves("api.test"));
}
