//! Registers the broker at the Cloud Controller, and publishes its plans.

use crate::broker::Broker;
use crate::catalog::{USER, catalog};
use crate::config::Registration;
use aws_lc_rs::digest::{SHA256, digest};
use clients::service_brokers::{self, Client, Registered};
use kit::CancellationToken;
use kit::backoff::Backoff;
use std::time::Duration;

/// The interval at which it is checked whether the server answers.
const PAUSE: Duration = Duration::from_millis(100);

/// Returns what is registered.
fn wanted(broker: &Broker, url: &str) -> service_brokers::Broker {
    let settings = broker.settings();
    let password = broker.secrets().broker_password.clone();
    let all = format!("{url}\n{USER}\n{password}\n{}", catalog(settings));
    let fingerprint = hex::encode(digest(&SHA256, all.as_bytes()));
    service_brokers::Broker {
        name: settings.name.clone(),
        url: url.to_owned(),
        username: USER.to_owned(),
        password,
        fingerprint,
    }
}

/// Registers the broker when its server answers, and tries again until it succeeds or the broker ends.
pub(crate) async fn run(
    broker: &Broker,
    url: &str,
    registration: &Registration,
    shutdown: &CancellationToken,
) {
    let config = service_brokers::Config {
        uaa_url: registration.uaa_url.clone(),
        client_id: registration.client_id.clone(),
        client_secret: registration.client_secret.clone(),
        cloud_controller_url: registration.cloud_controller_url.clone(),
    };
    let client = match Client::new(config) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "broker-not-registered");
            return;
        }
    };
    // An instance that is created at once finds a server.
    while !broker.metrics().server.is_met() {
        let pause = tokio::time::sleep(PAUSE);
        if shutdown.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
    let wanted = wanted(broker, url);
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
    let mut reported = String::new();
    loop {
        match shutdown.run_until_cancelled(client.register(&wanted)).await {
            None => return,
            Some(Ok(registered)) => {
                match registered {
                    Registered::Unchanged => tracing::debug!("broker-registered"),
                    Registered::Created | Registered::Updated => {
                        tracing::info!(name = wanted.name, ?registered, "broker-registered");
                    }
                }
                return;
            }
            Some(Err(error)) => {
                let error = format!("{error:#}");
                if reported != error {
                    tracing::warn!(error, "broker-not-registered-yet");
                    reported = error;
                }
            }
        }
        let pause = tokio::time::sleep(backoff.next_delay());
        if shutdown.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_fingerprint_changes_with_the_url_and_has_no_secret() {
        let broker = testing::broker();
        let one = wanted(&broker, "http://127.0.0.1:1");
        let other = wanted(&broker, "http://127.0.0.1:2");
        assert_ne!(one.fingerprint, other.fingerprint);
        assert_eq!(
            one.fingerprint,
            wanted(&broker, "http://127.0.0.1:1").fingerprint
        );
        assert!(!one.fingerprint.contains(&one.password));
    }
}
