//! Tests of envelopes that are sent to the log drains of their app as well.

use crate::fixture::Stage;
use axum::routing::get;
use axum::{Json, Router};
use clients::loggregator::{Source, Stream};
use kit::CancellationToken;
use kit::reach::Reach;
use std::sync::Arc;
use std::time::Duration;
use testkit::certs::shared_identity;
use testkit::http::serve;
use testkit::metrics::value;
use testkit::net::listener;
use testkit::wait::{wait_for, within};
use tokio::io::AsyncReadExt as _;
use wire::cc::{DrainCredentials, DrainedApp, SyslogDrain, SyslogDrains};

/// Returns a list with these drains of the app `mine`.
fn list(urls: &[String]) -> SyslogDrains {
    let drain = |url: &String| SyslogDrain {
        url: url.clone(),
        credentials: vec![DrainCredentials {
            apps: vec![DrainedApp {
                hostname: "org.space.mine".to_owned(),
                app_id: "mine".to_owned(),
            }],
            ..DrainCredentials::default()
        }],
    };
    SyslogDrains {
        results: urls.iter().map(drain).collect(),
        next_id: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_stored_and_drained_and_trouble_is_a_line_of_the_app() {
    let (server, stop) = (listener().await, CancellationToken::new());
    let address = server.local_addr().unwrap();
    let drains = list(&[
        format!("syslog://{address}"),
        "syslog://127.0.0.2:1".to_owned(),
    ]);
    let controller = Router::new().route(
        "/internal/v5/syslog_drain_urls",
        get(move || async move { Json(drains) }),
    );
    let controller = serve(controller, Some(&shared_identity()), stop.clone()).await;
    let stage = Stage::start_draining(drains::Config {
        cloud_controller_url: controller.url,
        identity: shared_identity(),
        interval: Duration::from_millis(50),
        reach: Reach {
            allow: vec![address.into()],
            deny: vec![],
        },
        router: None,
        authorities: String::new(),
        has_tags: false,
        per_app: drains::Config::PER_APP,
        aggregate: Vec::new(),
    })
    .await;
    let observed = stage.observed.clone().unwrap();
    wait_for("both drains", async || {
        value(&observed.metrics.text(), "syslog_agent_drains") == Some(2.0)
    })
    .await;
    let (emitter, admin) = (stage.emitter(), stage.admin().await);
    let source = Source {
        source_id: "mine".to_owned(),
        instance_id: "3".to_owned(),
        source_type: "APP/PROC/WEB".to_owned(),
        tags: Arc::default(),
    };
    emitter.log(&source, Stream::Err, "one line");
    let (mut stream, _) = within("a connection", server.accept()).await.unwrap();
    let mut received = String::new();
    within("the line", async {
        let mut buffer = [0; 4096];
        while !received.contains("one line\n") {
            let count = stream.read(&mut buffer).await.unwrap();
            received.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    })
    .await;
    let header = " org.space.mine mine [APP/PROC/WEB/3] - - one line\n";
    assert!(received.contains(header), "{received}");

    // The other drain is on this machine, where nobody may send logs. Its trouble is a line of the app, which is drained too.
    let lines = stage.read("mine", 2, &admin).await;
    let reported = lines
        .iter()
        .find(|line| line["tags"]["source_type"] == "LGR")
        .unwrap();
    assert_eq!(reported["log"]["type"], "ERR");
    within("the report", async {
        let mut buffer = [0; 4096];
        while !received.contains("syslog://127.0.0.2:1 is blacklisted") {
            let count = stream.read(&mut buffer).await.unwrap();
            received.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    })
    .await;
    assert!(received.contains(" mine [LGR/0] - - "), "{received}");
    stop.cancel();
}
