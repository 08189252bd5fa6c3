//! Follows the network policies: it polls the policy server and hands the policies to garden.
//!
//! If the policy server does not answer, nothing changes: the last known policies stay in force.

use crate::cell::Cell;
use anyhow::{Context as _, Result, bail};
use garden::api::{Policy, PolicyProtocol};
use kit::CancellationToken;
use std::sync::Arc;
use std::time::Duration;
use wire::cc::{InternalPolicies, InternalPolicy};

/// The interval between two requests.
const EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

/// Follows the policies until shutdown. `url` serves the whole list of policies.
pub(crate) async fn follow(
    cell: Arc<Cell>,
    identity: kit::tls::Identity,
    url: String,
    shutdown: CancellationToken,
) {
    let http = match clients::http::client(&identity, Some(PATIENCE)) {
        Ok(http) => http,
        Err(error) => {
            tracing::error!(
                error = format!("{error:#}"),
                "network-policies-not-followed: the HTTP client cannot be made"
            );
            return;
        }
    };
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let asked = tokio::select! {
            () = shutdown.cancelled() => return,
            asked = once(&cell, &http, &url) => asked,
        };
        match (&asked, failing) {
            (Err(error), false) => tracing::warn!(
                error = format!("{error:#}"),
                "network-policies-not-read: those that were known stay in force"
            ),
            (Ok(()), true) => tracing::info!("network-policies-read-again"),
            _ => {}
        }
        failing = asked.is_err();
    }
}

async fn once(cell: &Cell, http: &reqwest::Client, url: &str) -> Result<()> {
    let answer = http
        .get(url)
        .send()
        .await
        .context("request the policies of the policy server")?;
    if !answer.status().is_success() {
        bail!("the policy server answered {}", answer.status());
    }
    let all: InternalPolicies = answer.json().await.context("read the policies")?;
    let policies = all
        .policies
        .iter()
        .map(policy)
        .collect::<Result<Vec<_>>>()?;
    let garden = cell.garden.clone();
    // Like every change of the firewall, this one is never interrupted half way.
    cell.whole(async move { garden.set_policies(policies).await })
        .await?
        .map_err(|error| anyhow::anyhow!("apply the policies: {error}"))
}

fn policy(policy: &InternalPolicy) -> Result<Policy> {
    let (source, destination) = (&policy.source, &policy.destination);
    let protocol = match destination.protocol.as_str() {
        "tcp" => PolicyProtocol::Tcp,
        "udp" => PolicyProtocol::Udp,
        other => bail!("policy protocol {other:?}: expected tcp or udp"),
    };
    let source_tag = u32::from_str_radix(&source.tag, 16)
        .ok()
        .filter(|tag| *tag != 0)
        .with_context(|| format!("policy tag {:?}: expected a hexadecimal number", source.tag))?;
    Ok(Policy {
        source: source.id.clone(),
        source_tag,
        destination: destination.id.clone(),
        protocol,
        ports: (destination.ports.start, destination.ports.end),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read() {
        let all: InternalPolicies = serde_json::from_str(
            r#"{"total_policies":1,"policies":[{"source":{"id":"a","tag":"00FF"},"destination":{"id":"b","tag":"0002","protocol":"udp","ports":{"start":5,"end":6}}}]}"#,
        )
        .unwrap();
        let read = policy(&all.policies[0]).unwrap();
        assert_eq!(
            (read.source_tag, read.protocol, read.ports),
            (255, PolicyProtocol::Udp, (5, 6))
        );
        let mut wrong = all.policies[0].clone();
        wrong.source.tag = "0".into();
        assert!(policy(&wrong).is_err(), "no mark at all would be everybody");
    }
}
