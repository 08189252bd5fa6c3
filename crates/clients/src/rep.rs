//! The HTTP clients of rep and auctioneer. The BBS and the auctioneer call reps; the BBS calls the auctioneer.
//!
//! They never retry: the caller knows whether another cell, another batch or the next convergence is the better retry.

use crate::request_id;
use anyhow::{Context as _, Result};
use kit::tls::Identity;
use std::time::Duration;
use wire::rep::{
    CellState, ContainerMetricsCollection, Inspection, LrpStartRequest, LrpUpdate,
    TaskStartRequest, Work, path,
};

/// A client of all reps, which addresses each by its `rep_url`. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
}

impl Client {
    /// Makes a client whose calls take at most ten seconds each.
    pub fn new(identity: &Identity) -> Result<Self> {
        Self::with_timeout(identity, Duration::from_secs(10))
    }

    pub fn with_timeout(identity: &Identity, timeout: Duration) -> Result<Self> {
        Ok(Self {
            http: crate::http::client(identity, Some(timeout))?,
        })
    }

    /// Makes a client, as [`with_timeout`](Self::with_timeout), with the caller's TLS configuration.
    pub fn with_tls(tls: rustls::ClientConfig, timeout: Duration) -> Result<Self> {
        Ok(Self {
            http: crate::http::client_of(tls, Some(timeout))?,
        })
    }

    /// Returns the state of a cell. It also fails when the cell reports that it is unhealthy (503), because such a cell is no
    /// candidate.
    pub async fn state(&self, rep_url: &str) -> Result<CellState> {
        let request = self.http.get(url(rep_url, path::STATE));
        let response = send(request, || format!("fetch the state of {rep_url}")).await?;
        response
            .json()
            .await
            .with_context(|| format!("decode the state of {rep_url}"))
    }

    /// Sends work to a cell and returns the part that the cell refused. An `Err` may hide a partial success.
    pub async fn perform(&self, rep_url: &str, work: &Work) -> Result<Work> {
        let request = self.http.post(url(rep_url, path::WORK)).json(work);
        let response = send(request, || format!("send work to {rep_url}")).await?;
        response
            .json()
            .await
            .with_context(|| format!("decode the work that {rep_url} refused"))
    }

    pub async fn stop_lrp(
        &self,
        rep_url: &str,
        process_guid: &str,
        instance_guid: &str,
    ) -> Result<()> {
        let request = self.http.post(url(
            rep_url,
            &lrp_path(path::STOP_LRP, process_guid, instance_guid),
        ));
        send(request, || {
            format!("stop instance {instance_guid} of {process_guid} on {rep_url}")
        })
        .await
        .map(drop)
    }

    /// Changes the internal routes and metric tags of a running instance.
    pub async fn update_lrp(&self, rep_url: &str, update: &LrpUpdate) -> Result<()> {
        let request = self
            .http
            .put(url(
                rep_url,
                &lrp_path(
                    path::UPDATE_LRP,
                    &update.process_guid,
                    &update.instance_guid,
                ),
            ))
            .json(update);
        send(request, || {
            format!(
                "update instance {} of {} on {rep_url}",
                update.instance_guid, update.process_guid
            )
        })
        .await
        .map(drop)
    }

    pub async fn cancel_task(&self, rep_url: &str, task_guid: &str) -> Result<()> {
        let request = self.http.post(url(
            rep_url,
            &path::CANCEL_TASK.replace("{task_guid}", task_guid),
        ));
        send(request, || format!("cancel task {task_guid} on {rep_url}"))
            .await
            .map(drop)
    }

    /// Makes the cell evacuate: other cells start its instances, and it ends when it is empty.
    pub async fn evacuate(&self, rep_url: &str) -> Result<()> {
        let request = self.http.post(url(rep_url, path::EVACUATE));
        send(request, || format!("request {rep_url} to evacuate"))
            .await
            .map(drop)
    }

    /// Returns what the cell has of an instance: container, firewall, Envoy and certificate.
    pub async fn inspect(&self, rep_url: &str, instance_guid: &str) -> Result<Inspection> {
        let path = lrp_path(path::INSPECTION, "", instance_guid);
        let response = send(self.http.get(url(rep_url, &path)), || {
            format!("inspect instance {instance_guid} on {rep_url}")
        })
        .await?;
        response
            .json()
            .await
            .with_context(|| format!("decode the inspection by {rep_url}"))
    }

    pub async fn container_metrics(&self, rep_url: &str) -> Result<ContainerMetricsCollection> {
        let request = self.http.get(url(rep_url, path::CONTAINER_METRICS));
        let response = send(request, || {
            format!("fetch the container metrics of {rep_url}")
        })
        .await?;
        response
            .json()
            .await
            .with_context(|| format!("decode the container metrics of {rep_url}"))
    }
}

/// A client of the auctioneer. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct AuctioneerClient {
    url: String,
    http: reqwest::Client,
}

impl AuctioneerClient {
    /// Makes a client of the auctioneer at `url`, for example `https://127.0.0.1:9016`.
    pub fn new(url: impl Into<String>, identity: &Identity) -> Result<Self> {
        Ok(Self {
            url: url.into(),
            http: crate::http::client(identity, Some(Duration::from_secs(10)))?,
        })
    }

    /// Requests auctions of LRPs. A success means that they are queued in memory: the BBS's convergence repeats lost requests.
    pub async fn request_lrp_auctions(&self, requests: &[LrpStartRequest]) -> Result<()> {
        let request = self
            .http
            .post(url(&self.url, path::AUCTION_LRPS))
            .json(requests);
        send(request, || "request LRP auctions".to_owned())
            .await
            .map(drop)
    }

    pub async fn request_task_auctions(&self, requests: &[TaskStartRequest]) -> Result<()> {
        let request = self
            .http
            .post(url(&self.url, path::AUCTION_TASKS))
            .json(requests);
        send(request, || "request task auctions".to_owned())
            .await
            .map(drop)
    }
}

fn url(base: &str, path: &str) -> String {
    format!("{}{path}", base.trim_end_matches('/'))
}

/// Returns a path with the guids in it. Guids have only characters that need no escaping (`^[a-zA-Z0-9_-]+$`).
fn lrp_path(template: &str, process_guid: &str, instance_guid: &str) -> String {
    template
        .replace("{process_guid}", process_guid)
        .replace("{instance_guid}", instance_guid)
}

async fn send(
    request: reqwest::RequestBuilder,
    what: impl Fn() -> String,
) -> Result<reqwest::Response> {
    let sent = request_id::attach(request).send().await;
    let response = sent.with_context(&what)?;
    let status = response.status();
    anyhow::ensure!(status.is_success(), "{}: status {status}", what());
    Ok(response)
}
