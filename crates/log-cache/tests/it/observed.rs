//! Tests of what operators see of a log-cache.

use crate::fixture::Stage;
use clients::loggregator::{Source, Stream};
use std::sync::Arc;
use std::time::Duration;
use testkit::metrics::value;

#[tokio::test]
async fn envelopes_are_counted_on_their_way_in_and_out() {
    let stage = Stage::start().await;
    let observed = stage.observed.clone().unwrap();
    let metric = |name: &str| value(&observed.metrics.text(), name);
    assert!(observed.readiness.unmet().is_empty());
    assert_eq!(
        metric("log_cache_cache_period_seconds"),
        None,
        "nothing is stored yet"
    );
    let (emitter, admin) = (stage.emitter(), stage.admin().await);
    let source = Source {
        source_id: "mine".into(),
        instance_id: "0".into(),
        source_type: "APP/PROC/WEB".into(),
        tags: Arc::default(),
    };
    for n in 0..3 {
        emitter.log(&source, Stream::Out, format!("line {n}"));
    }
    emitter.flush(Duration::from_secs(30)).await;
    stage.read("mine", 3, &admin).await;
    assert_eq!(metric("log_cache_ingress_total"), Some(3.0));
    assert_eq!(metric("log_cache_store_size"), Some(3.0));
    assert_eq!(metric("log_cache_sources"), Some(1.0));
    assert_eq!(metric("log_cache_expired_total"), Some(0.0));
    assert!(metric("log_cache_egress_total") >= Some(3.0));
    assert!(metric("log_cache_cache_period_seconds").is_some());
}
