//! Tests of `X-Vcap-Request-Id`: the id of a request goes into its events and to the auctioneer.

use crate::fixture::{claim, desired, on};
use axum::Router;
use axum::routing::post;
use clients::request_id;
use http::HeaderMap;
use kit::CancellationToken;
use testkit::certs::shared_identity;
use testkit::components::Bbs;
use testkit::http::serve;
use testkit::wait::within;
use tokio::sync::mpsc;
use wire::bbs::Event;

#[tokio::test]
async fn the_id_of_a_request_goes_into_its_events_and_to_the_auctioneer() {
    let (sender, mut ids) = mpsc::unbounded_channel();
    let auctions = post(async move |headers: HeaderMap| {
        let _ = sender.send(request_id::of(&headers));
    });
    let stop = CancellationToken::new();
    let identity = shared_identity();
    let app = Router::new().route("/v1/lrps", auctions);
    let auctioneer = serve(app, Some(&identity), stop.clone()).await;
    let data = tempfile::tempdir().unwrap();
    let running = Bbs::start(data.path(), &identity, &auctioneer.url).await;
    let bbs = running.client();
    let mut events = bbs.instance_events("").await.unwrap();

    let desire = bbs.desire_lrp(desired("p", 1));
    request_id::scope("request-1".into(), desire).await.unwrap();
    assert_eq!(
        within("the auction", ids.recv()).await,
        Some("request-1".into())
    );
    let Event::DesiredLrpCreated(created) = events.next().await.unwrap() else {
        panic!("the LRP is desired first")
    };
    assert_eq!(created.trace_id, "request-1");
    let Event::ActualLrpInstanceCreated(created) = events.next().await.unwrap() else {
        panic!("the LRP has an instance")
    };
    assert_eq!(created.trace_id, "request-1");

    // The next call is not on behalf of that request.
    bbs.claim(&claim("p", 0, &on("a", "cell-1"))).await.unwrap();
    let Event::ActualLrpInstanceChanged(claimed) = events.next().await.unwrap() else {
        panic!("a claim is a change")
    };
    assert_eq!(claimed.trace_id, "");
    running.stop().await;
    stop.cancel();
}
