//! The cell on which the instances of the tests run.

use kit::CancellationToken;
use kit::tls::Identity;
use std::time::Duration;
use testkit::components::Bbs;
use testkit::http::serve;
use tokio::task::JoinHandle;
use wire::bbs::CellPresence;
use wire::locket::{Resource, TypeCode};

pub(crate) const CELL: &str = "cell-1";

/// Runs a rep that accepts every call. The cell is registered as present, because the BBS takes an absent one for lost after 15
/// seconds.
pub(crate) async fn run_beside(
    bbs: &Bbs,
    identity: &Identity,
    stop: &CancellationToken,
) -> JoinHandle<anyhow::Result<()>> {
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
    let day = Duration::from_secs(24 * 3600);
    bbs.locket().lock(presence, day).await.unwrap();
    rep.running
}
