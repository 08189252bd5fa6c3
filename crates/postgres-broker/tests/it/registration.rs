//! Tests of the registration at a real Cloud Controller.

use crate::fixture::{World, settings};
use postgres_broker::{Address, Registration, Server};
use serde_json::Value;
use testkit::certs::{identity, shared_identity};
use testkit::components::{Bbs, CloudController, Peers, Uaa};
use testkit::http::{answer, client};
use testkit::net::unused_address;
use testkit::postgres::Postgres;
use testkit::wait::wait_for;

const CLIENT: &str = "postgres_broker";
const SECRET: &str = "client-secret";

async fn get(cc: &CloudController, token: &str, path: &str) -> Value {
    let request = client().get(format!("{}{path}", cc.url));
    let response = request.header("authorization", token).send().await.unwrap();
    let (status, body) = answer(response).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_registers_itself_and_publishes_its_plans() {
    let data = tempfile::tempdir().unwrap();
    for folder in ["uaa", "bbs", "cc"] {
        std::fs::create_dir(data.path().join(folder)).unwrap();
    }
    let uaa = Uaa::start(&data.path().join("uaa"), |config| {
        let authorities = &["cloud_controller.admin"];
        config.clients = vec![uaa::Client::component(CLIENT, SECRET, authorities)];
    })
    .await;
    let identity_of_all = shared_identity();
    let auctioneer = format!("https://{}", unused_address());
    let bbs = Bbs::start(&data.path().join("bbs"), &identity_of_all, &auctioneer).await;
    let peers = Peers {
        bbs_url: bbs.url.clone(),
        uaa_url: uaa.url.clone(),
        identity: identity_of_all,
    };
    let cc = CloudController::start(&data.path().join("cc"), &peers, |_| {}).await;

    let server = Postgres::with_tls(&identity());
    let url = format!("{}?sslmode=require", server.url("postgres"));
    let own = tempfile::tempdir().unwrap();
    let settings = settings(
        own.path(),
        Server::Given(Address::parse(&url, None).unwrap()),
    );
    let registration = Registration {
        uaa_url: uaa.url.clone(),
        client_id: CLIENT.to_owned(),
        client_secret: SECRET.to_owned(),
        cloud_controller_url: cc.url.clone(),
    };
    let world = World::with(settings, own, Some(server), Some(registration)).await;

    let token = uaa.client_token(CLIENT, SECRET).await;
    let plans = wait_for("both plans to be public", async || {
        let plans = get(&cc, &token, "/v3/service_plans").await;
        let plans = plans["resources"].as_array().unwrap().clone();
        let is_public = |plan: &&Value| plan["visibility_type"] == "public";
        let public = plans.iter().filter(is_public).count();
        if public == 2 {
            Ok(plans)
        } else {
            Err(format!("{plans:?}"))
        }
    })
    .await;
    let mut names: Vec<&str> = plans
        .iter()
        .filter_map(|plan| plan["name"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["large", "small"]);
    let annotated = wait_for("the fingerprint", async || {
        let brokers = get(&cc, &token, "/v3/service_brokers?names=postgres").await;
        let broker = brokers["resources"][0].clone();
        let print = broker["metadata"]["annotations"]["cupola.dev/fingerprint"].clone();
        (print.as_str().is_some_and(|text| text.len() == 64)).then_some(broker)
    })
    .await;
    assert_eq!(annotated["url"], world.url.as_str());
    world.stop().await;
}
