//! Tests of what operators see of the UAA.

use crate::fixture::start;
use testkit::metrics::value;

#[tokio::test]
async fn log_ins_are_counted_by_their_outcome() {
    let uaa = start().await;
    let metric = |name: &str| value(&uaa.server.observed.metrics.text(), name).unwrap();
    uaa.login("admin", "sesame").await;
    uaa.login("admin", "wrong").await;
    uaa.login("nobody", "sesame").await;
    uaa.grant(("cc", "wrong"), &[("grant_type", "client_credentials")])
        .await;
    let audit = |what: &str| metric(&format!("uaa_audit_service_{what}_count_total"));
    assert_eq!(audit("user_authentication"), 1.0);
    assert_eq!(audit("user_authentication_failure"), 1.0);
    assert_eq!(audit("user_not_found"), 1.0);
    assert_eq!(audit("client_authentication"), 3.0);
    assert_eq!(audit("client_authentication_failure"), 1.0);
    assert_eq!(metric("uaa_requests_global_completed_count_total"), 4.0);
    assert_eq!(metric("uaa_server_inflight_count"), 0.0);
}

#[tokio::test]
async fn a_uaa_whose_database_is_gone_is_not_ready() {
    if testkit::postgres::is_chosen() {
        // The test of an outage checks it.
        return;
    }
    let uaa = start().await;
    let unmet = || uaa.server.observed.readiness.unmet();
    assert!(unmet().is_empty(), "{:?}", unmet());
    std::fs::remove_file(uaa.dir.path().join("uaa.db")).unwrap();
    assert!(
        unmet()[0].contains("was removed or replaced"),
        "{:?}",
        unmet()
    );
}
