//! Registers a service broker of the platform at the Cloud Controller, by its public API. Brokers that are roles of a foundation call it.
//!
//! The Cloud Controller keeps what the broker registered last as annotations of it: a fingerprint, and the plans that were published. So a
//! start that changes nothing sends nothing, and a plan that an operator has closed stays closed.

use crate::http::{Authorities, Tls, client_with};
use crate::uaa::{ClientCredentials, TokenFetcher};
use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest wait for a job, in which the Cloud Controller fetches the catalog.
const JOB: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(250);

/// The annotation with the fingerprint of what was registered.
const FINGERPRINT: &str = "cupola.dev/fingerprint";
/// The annotation with the names of the plans that were published.
const PUBLISHED: &str = "cupola.dev/published-plans";

/// The Cloud Controller and the broker's client at the UAA, which needs the authority `cloud_controller.admin`.
#[derive(Clone)]
pub struct Config {
    pub uaa_url: String,
    pub client_id: String,
    pub client_secret: String,
    pub cloud_controller_url: String,
}

/// Prints no secret.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("cloud_controller_url", &self.cloud_controller_url)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// A broker as it is registered.
#[derive(Clone)]
pub struct Broker {
    pub name: String,
    pub url: String,
    pub username: String,
    pub password: String,
    /// A text that changes with everything that the Cloud Controller must learn: URL, password, catalog.
    pub fingerprint: String,
}

/// Prints no secret.
impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("name", &self.name)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The result of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    Created,
    Updated,
    /// The Cloud Controller knows all of it already.
    Unchanged,
}

/// A client of the Cloud Controller.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    tokens: TokenFetcher,
}

impl Client {
    pub fn new(config: Config) -> Result<Self> {
        let tls = Tls {
            authorities: Authorities::Pem(String::new()),
            identity: None,
        };
        Ok(Self {
            http: client_with(&tls, Some(TIMEOUT))?,
            url: config.cloud_controller_url.trim_end_matches('/').to_owned(),
            tokens: TokenFetcher::new(ClientCredentials {
                url: config.uaa_url.trim_end_matches('/').to_owned(),
                key: "uaa",
                id: config.client_id,
                secret: config.client_secret,
                tls,
                max_retries: 0,
                retry_interval: Duration::ZERO,
                expiration_buffer: Duration::from_secs(30),
            })?,
        })
    }

    /// Registers a broker, or changes its registration, and publishes plans that are new. It can be repeated.
    ///
    /// # Errors
    /// It fails if a component does not answer, if the Cloud Controller refuses, or if a broker of this name belongs to somebody else.
    pub async fn register(&self, broker: &Broker) -> Result<Registered> {
        let names = [("names", broker.name.as_str())];
        let found = self.get("/v3/service_brokers", &names).await?;
        let registered = match found["resources"].get(0) {
            None => {
                self.create(broker).await?;
                Registered::Created
            }
            Some(present) => {
                let annotations = &present["metadata"]["annotations"];
                ensure!(
                    !annotations[FINGERPRINT].is_null(),
                    "a service broker named {:?} exists that somebody else registered: rename it with `cf rename-service-broker`, or choose another name for this one",
                    broker.name
                );
                if annotations[FINGERPRINT] == broker.fingerprint {
                    return Ok(Registered::Unchanged);
                }
                self.update(broker, present).await?;
                Registered::Updated
            }
        };
        // The fingerprint is stored last, so that a registration that broke off is repeated.
        let published = self.publish(broker).await?;
        self.note(broker, &published).await?;
        Ok(registered)
    }

    async fn create(&self, broker: &Broker) -> Result<()> {
        let body = json!({
            "name": broker.name,
            "url": broker.url,
            "authentication": authentication(broker),
            "metadata": { "annotations": { FINGERPRINT: "" } },
        });
        self.change(Method::POST, "/v3/service_brokers", &body)
            .await
            .with_context(|| format!("register the service broker {}", broker.name))
    }

    async fn update(&self, broker: &Broker, present: &Value) -> Result<()> {
        let guid = present["guid"].as_str().unwrap_or_default();
        let body = json!({ "url": broker.url, "authentication": authentication(broker) });
        self.change(Method::PATCH, &format!("/v3/service_brokers/{guid}"), &body)
            .await
            .with_context(|| format!("change the service broker {}", broker.name))
    }

    /// Makes plans visible to everybody that were never published. Returns the names of all plans.
    async fn publish(&self, broker: &Broker) -> Result<BTreeSet<String>> {
        let names = [
            ("service_broker_names", broker.name.as_str()),
            ("per_page", "5000"),
        ];
        let plans = self.get("/v3/service_plans", &names).await?;
        let before = self.broker(broker).await?;
        let before = before["metadata"]["annotations"][PUBLISHED].clone();
        let mut published: BTreeSet<String> = before
            .as_str()
            .unwrap_or_default()
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        for plan in plans["resources"].as_array().into_iter().flatten() {
            let name = plan["name"].as_str().unwrap_or_default();
            if !published.insert(name.to_owned()) {
                continue;
            }
            let guid = plan["guid"].as_str().unwrap_or_default();
            let path = format!("/v3/service_plans/{guid}/visibility");
            self.change(Method::PATCH, &path, &json!({ "type": "public" }))
                .await
                .with_context(|| format!("publish the plan {name}"))?;
        }
        Ok(published)
    }

    /// Stores what was registered.
    async fn note(&self, broker: &Broker, published: &BTreeSet<String>) -> Result<()> {
        let present = self.broker(broker).await?;
        let guid = present["guid"].as_str().unwrap_or_default();
        let names: Vec<&str> = published.iter().map(String::as_str).collect();
        let annotations = json!({ FINGERPRINT: broker.fingerprint, PUBLISHED: names.join(",") });
        let body = json!({ "metadata": { "annotations": annotations } });
        self.change(Method::PATCH, &format!("/v3/service_brokers/{guid}"), &body)
            .await
            .with_context(|| format!("annotate the service broker {}", broker.name))
    }

    async fn broker(&self, broker: &Broker) -> Result<Value> {
        let names = [("names", broker.name.as_str())];
        let found = self.get("/v3/service_brokers", &names).await?;
        let first = found["resources"].get(0).cloned();
        first.with_context(|| format!("the service broker {} was removed meanwhile", broker.name))
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let request = self.http.get(format!("{}{path}", self.url)).query(query);
        let (_, _, body) = self.send(request).await?;
        Ok(body)
    }

    /// Sends a change, and waits for its job if it has one.
    async fn change(&self, method: Method, path: &str, body: &Value) -> Result<()> {
        let request = self.http.request(method, format!("{}{path}", self.url));
        let (status, location, _) = self.send(request.json(body)).await?;
        match location {
            Some(job) if status == StatusCode::ACCEPTED => self.wait_for(&job).await,
            _ => Ok(()),
        }
    }

    async fn wait_for(&self, location: &str) -> Result<()> {
        // The API names its public address, which may not be reachable from here.
        let path = location.find("/v3/").map_or(location, |at| &location[at..]);
        let began = tokio::time::Instant::now();
        loop {
            let job = self.get(path, &[]).await?;
            match job["state"].as_str() {
                Some("COMPLETE") => return Ok(()),
                Some("FAILED") => bail!("{}", details(&job)),
                _ if began.elapsed() > JOB => bail!("the job {path} does not end"),
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Sends a request with a token. Returns the status, the location and the body of a success.
    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<(StatusCode, Option<String>, Value)> {
        let token = self.tokens.token(None).await?;
        let response = request
            .bearer_auth(token)
            .send()
            .await
            .context("ask the Cloud Controller")?;
        let status = response.status();
        let location = response.headers().get("location");
        let location = location.and_then(|value| Some(value.to_str().ok()?.to_owned()));
        let text = response
            .text()
            .await
            .context("read the Cloud Controller's answer")?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        ensure!(
            status.is_success(),
            "the Cloud Controller refused with {status}: {}",
            details(&body)
        );
        Ok((status, location, body))
    }
}

fn authentication(broker: &Broker) -> Value {
    json!({
        "type": "basic",
        "credentials": { "username": broker.username, "password": broker.password },
    })
}

/// Returns the details of all errors in a body.
fn details(body: &Value) -> String {
    let errors = body["errors"].as_array().into_iter().flatten();
    let details: Vec<&str> = errors
        .filter_map(|error| error["detail"].as_str())
        .collect();
    match details.is_empty() {
        true => "no reason was named".to_owned(),
        false => details.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let broker = Broker {
            name: "postgres".to_owned(),
            url: "http://127.0.0.1:1".to_owned(),
            username: "platform".to_owned(),
            password: "sesame".to_owned(),
            fingerprint: "f".to_owned(),
        };
        let config = Config {
            uaa_url: "http://127.0.0.1:1".to_owned(),
            client_id: "broker".to_owned(),
            client_secret: "sesame".to_owned(),
            cloud_controller_url: "http://127.0.0.1:1".to_owned(),
        };
        assert!(!format!("{broker:?} {config:?}").contains("sesame"));
    }

    #[test]
    fn reasons_are_collected() {
        let body = json!({"errors": [{"detail": "one"}, {"detail": "two"}, {}]});
        assert_eq!(details(&body), "one; two");
        assert_eq!(details(&Value::Null), "no reason was named");
    }
}
