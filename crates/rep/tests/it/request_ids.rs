//! Tests of `X-Vcap-Request-Id`: the BBS gets the id of the request with the reports that the request caused.

use crate::fixture::{Fixture, app};
use crate::stand_in_bbs::Call;
use clients::request_id;

#[tokio::test]
async fn an_instance_is_reported_with_the_id_of_its_request() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    request_id::scope("request-1".into(), fixture.place(&rep, app())).await;
    fixture
        .bbs
        .wait_for(|c| matches!(c, Call::Start(_)).then_some(()))
        .await;
    let ids = fixture.bbs.rows.lock().unwrap().request_ids.clone();
    for call in ["claim", "start"] {
        let found = ids.iter().find(|(path, _)| path.contains(call));
        assert_eq!(
            found.map(|(_, id)| id.as_str()),
            Some("request-1"),
            "{call}"
        );
    }
    rep.stop().await;
}
