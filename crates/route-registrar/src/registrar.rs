//! The loop and its messages.

use anyhow::Result;
use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt as _;
use kit::CancellationToken;
use std::collections::BTreeMap;
use std::time::Duration;
use wire::router::{RegistryMessage, subject};

/// One backend and the uris that lead to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    pub uris: Vec<String>,
    pub host: String,
    /// Plain HTTP; 0 if there is none.
    pub port: u16,
    /// TLS, wins over `port`; 0 if there is none.
    pub tls_port: u16,
    /// The name in the backend's certificate; needed with `tls_port`.
    pub server_cert_domain_san: String,
    pub tags: BTreeMap<String, String>,
}

impl Route {
    fn message(&self, instance_id: &str) -> RegistryMessage {
        RegistryMessage {
            host: self.host.clone(),
            port: self.port,
            tls_port: (self.tls_port != 0).then_some(self.tls_port),
            uris: self.uris.clone(),
            private_instance_id: Some(instance_id.to_owned()),
            server_cert_domain_san: (!self.server_cert_domain_san.is_empty())
                .then(|| self.server_cert_domain_san.clone()),
            tags: (!self.tags.is_empty()).then(|| self.tags.clone()),
            ..RegistryMessage::default()
        }
    }
}

/// Keeps a set of routes registered.
#[derive(Debug)]
pub struct Registrar {
    nats: Client,
    messages: Vec<Bytes>,
    interval: Duration,
}

impl Registrar {
    /// `interval`: well below the routers' prune threshold (120 s); 20 s is usual.
    pub fn new(nats: Client, routes: &[Route], interval: Duration) -> Result<Self> {
        anyhow::ensure!(
            !interval.is_zero(),
            "registration interval of routes is 0: give it at least 1 s"
        );
        let instance_id = uuid::Uuid::new_v4().to_string();
        let mut messages = Vec::with_capacity(routes.len());
        for route in routes {
            anyhow::ensure!(
                !route.uris.is_empty(),
                "route to {}: no uri given",
                route.host
            );
            anyhow::ensure!(
                route.port != 0 || route.tls_port != 0,
                "route {:?}: neither port nor tls_port given",
                route.uris
            );
            anyhow::ensure!(
                route.tls_port == 0 || !route.server_cert_domain_san.is_empty(),
                "route {:?}: tls_port needs server_cert_domain_san",
                route.uris
            );
            messages.push(serde_json::to_vec(&route.message(&instance_id))?.into());
        }
        Ok(Self {
            nats,
            messages,
            interval,
        })
    }

    /// Registers until `shutdown`, then unregisters.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let mut starts = self.nats.subscribe(subject::START).await?;
        let mut tick = tokio::time::interval(self.interval);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = tick.tick() => {}
                start = starts.next() => {
                    anyhow::ensure!(start.is_some(), "the NATS subscription to router.start ended");
                    // This round counts: the next is an interval away.
                    tick.reset();
                }
            }
            self.publish(subject::REGISTER).await;
        }
        self.publish(subject::UNREGISTER).await;
        // The bus may be gone for good; nobody is left to tell then.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.nats.flush()).await;
        Ok(())
    }

    async fn publish(&self, subject: &'static str) {
        for message in &self.messages {
            if let Err(error) = self.nats.publish(subject, message.clone()).await {
                tracing::warn!(%error, subject, "publish-failed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_what_a_router_needs() {
        let route = Route {
            uris: vec!["api.test".into()],
            host: "127.0.0.1".into(),
            port: 8080,
            tags: [("component".to_owned(), "api".to_owned())].into(),
            ..Route::default()
        };
        let json = serde_json::to_value(route.message("me")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"host": "127.0.0.1", "port": 8080, "uris": ["api.test"], "private_instance_id": "me", "tags": {"component": "api"}})
        );
        let tls = Route {
            tls_port: 8443,
            server_cert_domain_san: "api".into(),
            ..route
        };
        let json = serde_json::to_value(tls.message("me")).unwrap();
        assert_eq!(
            (&json["tls_port"], &json["server_cert_domain_san"]),
            (&serde_json::json!(8443), &serde_json::json!("api"))
        );
    }
}
