//! The cell on which the instances of the tests run.

use kit::CancellationToken;
use kit::tls::Identity;
use std::time::Duration;
use testkit::http::serve;
use tokio::task::JoinHandle;
use wire::bbs::CellPresence;
use wire::locket::{Resource, TypeCode};

pub(crate) const CELL: &str = "cell-1";

/// Runs the BBS and a rep that accepts every call. The cell is registered as present, because the BBS takes an absent one for lost
/// after 15 seconds.
pub(crate) async fn run_beside(
    bbs: bbs::Bbs,
    identity: &Identity,
    stop: &CancellationToken,
) -> [JoinHandle<anyhow::Result<()>>; 2] {
    let locket_url = format!("https://{}", bbs.locket_addr());
    let bbs = tokio::spawn(bbs.run(stop.clone()));

    let rep = axum::Router::new().fallback(async || axum::http::StatusCode::ACCEPTED);
    let rep = serve(rep, Some(identity), stop.clone()).await;
    let cell = CellPresence {
        cell_id: CELL.to_owned(),
        rep_url: rep.url,
        ..CellPresence::default()
    };
    let presence = Resource {
        key: CELL.to_owned(),
        owner: CELL.to_owned(),
        value: cell.to_locket_value(),
        type_name: "presence".to_owned(),
        type_code: TypeCode::Presence as i32,
    };
    let locket = clients::locket::Client::new(locket_url, identity).unwrap();
    let day = Duration::from_secs(24 * 3600);
    locket.lock(presence, day).await.unwrap();
    [bbs, rep.running]
}
