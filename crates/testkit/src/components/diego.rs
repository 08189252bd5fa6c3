//! A BBS with its locket.

use crate::wait::within;
use crate::{net, postgres};
use clients::locket::Client as Locket;
use kit::CancellationToken;
use kit::db::Server;
use kit::metrics::Observed;
use kit::reconcile::LastPass;
use kit::tls::Identity;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A running BBS. It stops when it is dropped.
#[derive(Debug)]
pub struct Bbs {
    pub url: String,
    /// The `host:port` of locket.
    pub locket_address: String,
    pub last_convergence: LastPass,
    /// Its metrics and its readiness.
    pub observed: Observed,
    identity: Identity,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Bbs {
    /// Starts a BBS on the files in `data`, which must exist. The identity is that of the BBS and of its clients.
    ///
    /// Convergence runs when something changes or falls due, and otherwise once an hour, which is longer than every wait: a test sees
    /// the effects of events only.
    pub async fn start(data: &Path, identity: &Identity, auctioneer_url: &str) -> Self {
        Self::start_on(postgres::server(data), data, identity, auctioneer_url).await
    }

    /// Starts a BBS on a database server.
    pub async fn start_on(
        database: Option<Server>,
        data: &Path,
        identity: &Identity,
        auctioneer_url: &str,
    ) -> Self {
        let config = bbs::Config {
            listener: net::listener().await,
            locket_listener: net::listener().await,
            data_dir: data.to_owned(),
            database,
            identity: identity.clone(),
            auctioneer_url: auctioneer_url.to_owned(),
            convergence_interval: Duration::from_secs(3600),
        };
        let built = bbs::Bbs::build(config).await.expect("the BBS starts");
        let (url, locket_address) = (
            format!("https://{}", built.addr()),
            built.locket_addr().to_string(),
        );
        let (last_convergence, observed) = (built.last_convergence(), built.observed());
        let stop = CancellationToken::new();
        let running = tokio::spawn(built.run(stop.clone()));
        Self {
            url,
            locket_address,
            last_convergence,
            observed,
            identity: identity.clone(),
            stop,
            running,
        }
    }

    pub fn client(&self) -> clients::bbs::Client {
        clients::bbs::Client::new(&self.url, &self.identity).expect("the identity is valid")
    }

    pub fn locket(&self) -> Locket {
        let url = format!("https://{}", self.locket_address);
        Locket::new(url, &self.identity).expect("the identity is valid")
    }

    /// Stops the BBS, and checks that it ends well.
    pub async fn stop(self) {
        self.stop.cancel();
        self.ended().await.expect("the BBS ends well");
    }

    /// Waits until the BBS ends by itself, and returns its result.
    pub async fn ended(mut self) -> anyhow::Result<()> {
        let ended = within("the end of the BBS", &mut self.running).await;
        ended.expect("the BBS does not panic")
    }
}

impl Drop for Bbs {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
