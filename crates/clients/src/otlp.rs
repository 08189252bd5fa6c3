//! A client of a receiver of traces: OTLP over HTTP. The caller decides what is sent and when it is tried again.

use crate::http::{Authorities, Tls, client_with};
use anyhow::Result;
use std::time::Duration;
use wire::otlp::{Accepted, Traces};

/// The longest time for one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest text of an answer that an error has, in characters.
const LONGEST: usize = 200;

/// A receiver of traces.
#[derive(Clone, Debug)]
pub struct Receiver {
    http: reqwest::Client,
    url: String,
}

/// The reason why traces did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{url} answered {status}: {text}")]
    Refused {
        url: String,
        status: u16,
        text: String,
    },
}

impl ExportError {
    /// Returns whether the same traces may be accepted later, as the protocol defines it.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => matches!(status, 429 | 502 | 503 | 504),
        }
    }
}

impl Receiver {
    /// Makes a client of the receiver at this URL. A receiver with TLS must have a certificate of an authority that the machine trusts.
    pub fn new(url: &str) -> Result<Self> {
        let authorities = match url.starts_with("https://") {
            true => Authorities::System,
            false => Authorities::Pem(String::new()),
        };
        let tls = Tls {
            authorities,
            identity: None,
        };
        Ok(Self {
            http: client_with(&tls, Some(TIMEOUT))?,
            url: url.to_owned(),
        })
    }

    /// Sends traces. Returns what the receiver notes about those that it has not accepted; empty: it has accepted all.
    pub async fn send(&self, traces: &Traces) -> Result<String, ExportError> {
        let unreachable = |error: reqwest::Error| ExportError::Unreachable {
            url: self.url.clone(),
            reason: reason(&error),
        };
        let request = self.http.post(&self.url).json(traces);
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unreachable)?;
        if !status.is_success() {
            return Err(ExportError::Refused {
                url: self.url.clone(),
                status: status.as_u16(),
                text: text.trim().chars().take(LONGEST).collect(),
            });
        }
        let accepted: Accepted = serde_json::from_str(&text).unwrap_or_default();
        let noted = accepted.partial_success.unwrap_or_default().error_message;
        Ok(noted.chars().take(LONGEST).collect())
    }
}

/// Returns the innermost cause, because the outer ones only repeat the URL.
fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_refusals_are_tried_again() {
        let refused = |status| ExportError::Refused {
            url: "http://a.test".into(),
            status,
            text: "why".into(),
        };
        for (status, again) in [(400, false), (429, true), (500, false), (503, true)] {
            assert_eq!(refused(status).may_retry(), again, "{status}");
        }
        assert_eq!(refused(400).to_string(), "http://a.test answered 400: why");
    }
}
