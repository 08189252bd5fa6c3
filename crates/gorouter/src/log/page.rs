//! Sets the level of a running process by HTTP, as debug servers of Cloud Foundry's components do:
//! `curl -X PUT -d debug http://127.0.0.1:17002/log-level`.

use super::Level;
use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::put;
use kit::CancellationToken;
use tokio::net::TcpListener;

/// Serves the page until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    level: Level,
    shutdown: CancellationToken,
) -> Result<()> {
    let app = Router::new()
        .route("/log-level", put(set))
        .with_state(level);
    kit::http::serve(listener, None, app, shutdown).await
}

async fn set(State(level): State<Level>, body: String) -> (StatusCode, String) {
    let wanted = match body.trim() {
        "0" | "d" => "debug",
        "1" | "i" => "info",
        "2" | "w" => "warn",
        "3" | "e" | "4" | "f" | "fatal" => "error",
        other => other,
    };
    if !matches!(wanted, "debug" | "info" | "warn" | "error") {
        let why = format!("{wanted:?} is none of debug, info, warn, error\n");
        return (StatusCode::BAD_REQUEST, why);
    }
    match level.set(wanted) {
        Ok(()) => (StatusCode::OK, format!("{wanted}\n")),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")),
    }
}
