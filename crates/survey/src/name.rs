//! Tries the name of a URL's host as a client of this machine does: resolves it, and connects to its addresses.

use crate::within;
use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use why::Answer;

/// The time limit of a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// The most addresses that are tried.
const MOST: usize = 4;

/// Returns the addresses of the host at which connections to a port are accepted, or the reason why there are none.
pub(crate) async fn addresses(host: &str, port: u16) -> Answer<Vec<String>> {
    within(reached(host, port)).await
}

async fn reached(host: &str, port: u16) -> Result<Vec<String>> {
    let found = lookup_host((host, port)).await;
    let found = found.with_context(|| format!("the name {host} is not known"))?;
    let found: Vec<SocketAddr> = found.take(MOST).collect();
    let tries = found.iter().copied().map(|address| async move {
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
        matches!(connected, Ok(Ok(_))).then(|| address.ip().to_string())
    });
    let reached = futures::future::join_all(tries).await;
    let reached: Vec<String> = reached.into_iter().flatten().collect();
    let all: Vec<String> = found.iter().map(ToString::to_string).collect();
    ensure!(
        !reached.is_empty(),
        "it leads to {}, where nothing accepts connections",
        all.join(", ")
    );
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_leads_to_what_accepts_connections() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = addresses("127.0.0.1", port).await;
        assert_eq!(found, Ok(vec!["127.0.0.1".to_owned()]));
        drop(listener);
        let problem = addresses("127.0.0.1", port).await.unwrap_err();
        assert!(problem.contains("nothing accepts connections"), "{problem}");
    }
}
