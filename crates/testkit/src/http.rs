//! Peers of the component under test, which speak HTTP, and the client's side of a test.

use crate::net;
use axum::Router;
use kit::CancellationToken;
use kit::tls::{ClientAuth, Identity};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server that plays a peer.
#[derive(Debug)]
pub struct Peer {
    pub url: String,
    /// The running server. It ends when its token is cancelled.
    pub running: JoinHandle<anyhow::Result<()>>,
}

/// Serves `app` on a free port until `stop` is cancelled: over mutual TLS with an identity, otherwise over plain HTTP.
pub async fn serve(app: Router, identity: Option<&Identity>, stop: CancellationToken) -> Peer {
    serve_on(net::listener().await, app, identity, stop)
}

/// Serves `app` as [`serve`] does, on a listener whose address the app needs itself.
pub fn serve_on(
    listener: TcpListener,
    app: Router,
    identity: Option<&Identity>,
    stop: CancellationToken,
) -> Peer {
    let scheme = if identity.is_some() { "https" } else { "http" };
    let address = listener.local_addr().expect("the listener is bound");
    let tls = identity.map(|identity| {
        kit::tls::server_config(identity, ClientAuth::Required, &["h2", "http/1.1"])
            .expect("the identity is valid")
    });
    Peer {
        url: format!("{scheme}://{address}"),
        running: tokio::spawn(kit::http::serve(listener, tls, app, stop)),
    }
}

/// Returns a client that uses no proxy of the machine.
pub fn client() -> reqwest::Client {
    kit::tls::install_crypto();
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client without files can be built")
}

/// Reads an answer to its end. The body is JSON, or its text if it is no JSON.
pub async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.expect("the body arrives whole");
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, body)
}
