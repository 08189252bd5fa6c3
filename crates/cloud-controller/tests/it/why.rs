//! `GET /v3/why`: the way of a URL as far as the Cloud Controller and the BBS show it.

use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};

async fn why(f: &Foundation, url: &str) -> Value {
    f.get(&format!("/v3/why?url={url}")).await
}

/// Returns the component and the part of the guilty hop.
fn guilty(explanation: &Value) -> (&str, &str) {
    let at = explanation["guilty"].as_u64().unwrap();
    let hop = &explanation["hops"][usize::try_from(at).unwrap()];
    (
        hop["component"].as_str().unwrap(),
        hop["part"].as_str().unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_hop_that_is_wrong_moves_as_the_app_gets_further() {
    let f = Foundation::start().await;
    let route = f.create_route("web", "").await;
    let explanation = why(&f, &format!("https://web.{DOMAIN}/some/path")).await;
    assert_eq!(explanation["is_right"], false);
    assert_eq!(guilty(&explanation), ("cloud-controller", "destination"));

    let app = f.create_app("idle").await;
    f.map(&route, &app).await;
    let explanation = why(&f, &format!("web.{DOMAIN}")).await;
    assert_eq!(guilty(&explanation), ("cloud-controller", "destination"));

    let route = f.create_route("started", "").await;
    let app = f.started_app("started").await;
    f.map(&route, &app).await;
    let explanation = why(&f, &format!("started.{DOMAIN}")).await;
    let hops = explanation["hops"].as_array().unwrap();
    let right = hops.iter().filter(|hop| hop["verdict"] == "right");
    let right: Vec<&Value> = right.map(|hop| &hop["part"]).collect();
    assert_eq!(right, ["route", "destination", "desired LRP"]);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_route_with_the_longest_path_serves_a_url() {
    let f = Foundation::start().await;
    f.create_route("shop", "").await;
    f.create_route("shop", "/cart").await;
    f.create_route("*", "").await;
    for (url, served) in [
        ("shop", "shop"),
        ("shop/cart/1", "shop/cart"),
        ("shop/carts", "shop"),
        ("other/x", "*"),
    ] {
        let (host, path) = url
            .split_once('/')
            .map_or((url, String::new()), |(host, path)| {
                (host, format!("/{path}"))
            });
        let explanation = why(&f, &format!("{host}.{DOMAIN}{path}")).await;
        let found = explanation["hops"][0]["found"].as_str().unwrap();
        let (host, path) = served
            .split_once('/')
            .map_or((served, String::new()), |(host, path)| {
                (host, format!("/{path}"))
            });
        let expected = format!("{host}.{DOMAIN}{path} (");
        assert!(found.starts_with(&expected), "{url}: {found}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_is_needed_and_an_unknown_one_is_not_found() {
    let f = Foundation::start().await;
    let (status, answer) = f.call(Method::GET, "/v3/why", None).await;
    assert!(
        status == 400 && detail(&answer).contains("url must name a host"),
        "{answer}"
    );
    let (status, answer) = f
        .call(Method::GET, "/v3/why?url=none.example.com", None)
        .await;
    assert_eq!(status, 404, "{answer}");
    assert_eq!(answer["errors"][0]["title"], json!("CF-ResourceNotFound"));
    f.finish().await;
}
