//! Metrics, readiness, and what the page shows while a component is away.

use crate::fixture::Stage;
use testkit::metrics::value;
use testkit::wait::wait_for;

#[tokio::test]
async fn a_dashboard_without_the_bus_is_not_ready_and_shows_it() {
    let mut stage = Stage::start().await;
    let text = stage.observed.metrics.text();
    for (name, wanted) in [
        ("dashboard_sign_ins_total", 0.0),
        ("dashboard_sign_in_failures_total", 0.0),
        ("dashboard_taps_total", 0.0),
        ("dashboard_stream_skipped_total", 0.0),
        ("dashboard_sessions", 0.0),
        ("dashboard_streams", 0.0),
    ] {
        assert_eq!(value(&text, name), Some(wanted), "{name}");
    }
    stage.nats.kill();
    wait_for("the dashboard to be unready", async || {
        let unmet = stage.observed.readiness.unmet();
        unmet.iter().any(|need| need.contains("the message bus"))
    })
    .await;
    wait_for("the page to say so", async || {
        let picture = stage.get("/api/v1/picture").await;
        let sources = picture["health"]["sources"].to_string();
        match picture["health"]["state"] == "blind" && sources.contains("NATS") {
            true => Ok(()),
            false => Err(sources),
        }
    })
    .await;
}
