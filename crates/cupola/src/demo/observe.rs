//! Reads what the components of the demo's foundation show about a route, for [`why::walk`].

use super::client::CfClient;
use crate::plan::Plan;
use crate::{exec, routes};
use anyhow::{Result, ensure};
use futures::StreamExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::process::Command;
use why::{Observations, Read};
use wire::bbs::{ActualLrp, ActualLrpsRequest};
use wire::router::{RegistryMessage, subject};

/// A NATS subscriber that keeps every `router.register` message.
pub(super) struct Registrations {
    _client: async_nats::Client,
    seen: Arc<Mutex<Vec<RegistryMessage>>>,
}

impl Registrations {
    pub(super) async fn listen(plan: &Plan) -> Result<Self> {
        let client = clients::nats::connect(&plan.nats(), "demo", |_| async {}).await?;
        let mut messages = client.subscribe(subject::REGISTER).await?;
        client.flush().await?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                if let Ok(message) = serde_json::from_slice(&message.payload) {
                    sink.lock().expect("no panic while held").push(message);
                }
            }
        });
        Ok(Self {
            _client: client,
            seen,
        })
    }

    /// Returns the last message that names the route.
    fn last(&self, route: &str) -> Option<RegistryMessage> {
        let seen = self.seen.lock().expect("no panic while held");
        seen.iter()
            .rev()
            .find(|message| message.uris.iter().any(|uri| uri == route))
            .cloned()
    }
}

/// The interfaces of a foundation on this machine.
pub(super) struct Observer<'a> {
    /// The data directory.
    pub(super) data: &'a Path,
    pub(super) plan: &'a Plan,
    pub(super) client: &'a CfClient,
    pub(super) registrations: &'a Registrations,
    /// The instance whose container is examined, as `cupola exec` names it.
    pub(super) instance: &'a str,
}

impl Observer<'_> {
    /// Reads everything about a route. `status` is the status of the answer to a request for it.
    pub(super) async fn observe(&self, route: &str, status: u16) -> Observations {
        let host = route.split('.').next().unwrap_or_default();
        let routes = self.client.get(&format!("/v3/routes?hosts={host}")).await;
        Observations {
            route: route.to_owned(),
            routes: read(routes),
            actual_lrps: read(self.actual_lrps().await),
            envoy_config: read(self.envoy_config().await),
            certificate: read(self.certificate().await),
            nat_rules: read(nat_rules().await),
            registration: Ok(self.registrations.last(route)),
            table: read(routes::table(self.plan).await),
            answer: Ok(status),
        }
    }

    async fn actual_lrps(&self) -> Result<Vec<ActualLrp>> {
        let bbs = exec::bbs_client(self.data, self.plan)?;
        Ok(bbs.actual_lrps(&ActualLrpsRequest::default()).await?)
    }

    async fn envoy_config(&self) -> Result<String> {
        self.inside(&["curl", "-s", "http://localhost:61003/config_dump"])
            .await
    }

    async fn certificate(&self) -> Result<String> {
        self.inside(&[
            "bash",
            "-c",
            "openssl x509 -in $CF_INSTANCE_CERT -noout -ext subjectAltName",
        ])
        .await
    }

    /// Runs a command in the app's container with `cupola exec`.
    async fn inside(&self, command: &[&str]) -> Result<String> {
        let output = Command::new(std::env::current_exe()?)
            .args(["exec", "--data"])
            .arg(self.data)
            .arg(self.instance)
            .arg("--")
            .args(command)
            .stdin(Stdio::null())
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "cupola exec {} ended with {}: {}",
            command.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

async fn nat_rules() -> Result<String> {
    let rules = Command::new("iptables")
        .args(["-w", "-t", "nat", "-S"])
        .output()
        .await?;
    Ok(String::from_utf8_lossy(&rules.stdout).into_owned())
}

fn read<T>(result: Result<T>) -> Read<T> {
    result.map_err(|error| format!("{error:#}"))
}
