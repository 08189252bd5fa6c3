//! After `101 Switching Protocols`: bytes in both directions until one side ends.

use crate::observe::access_log::Entry;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use routing::registry::InFlight;
use std::sync::atomic::Ordering;

const BUFFER: usize = 16 << 10;

/// Both sides' promises to hand over their connection.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) client: OnUpgrade,
    pub(crate) backend: OnUpgrade,
    pub(crate) in_flight: InFlight,
}

impl Tunnel {
    pub(crate) async fn run(self, mut log: Box<Entry>) {
        let (client, backend) = match tokio::try_join!(self.client, self.backend) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "upgrade-failed"),
        };
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        if let Ok((up, down)) =
            tokio::io::copy_bidirectional_with_sizes(&mut client, &mut backend, BUFFER, BUFFER)
                .await
        {
            log.received().fetch_add(up, Ordering::Relaxed);
            log.sent(down);
        }
        drop(self.in_flight);
    }
}
