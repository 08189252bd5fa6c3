//! A client of a router's page `/tap`: the traces of the next requests to a host, as they end.

use crate::http::{Authorities, Tls, client_with};
use crate::sse;
use anyhow::{Context as _, Result, bail};
use std::time::Duration;
use wire::router::{RequestTrace, TAP_PATH, TapEnded, TapOpened, tap_event};

/// The longest wait for the beginning of the stream.
const PATIENCE: Duration = Duration::from_secs(10);

/// The operator's page of a router, and the right to read it.
#[derive(Clone)]
pub struct Page {
    /// The operator's listener: `http://127.0.0.1:8082`.
    pub url: String,
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The requests that a tap shows. `None` means the router's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub host: String,
    pub limit: Option<u64>,
    pub seconds: Option<u64>,
}

/// An event of a tap.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Opened(TapOpened),
    Request(Box<RequestTrace>),
    /// The last event.
    Ended(TapEnded),
}

/// An open tap.
#[derive(Debug)]
pub struct Tap(sse::Stream);

impl Page {
    /// Opens a tap. When it returns, the router shows every request that begins from now on.
    pub async fn tap(&self, wanted: &Wanted) -> Result<Tap> {
        let tls = Tls {
            authorities: Authorities::Pem(String::new()),
            identity: None,
        };
        let http = client_with(&tls, None)?;
        let mut query = vec![("host", wanted.host.clone())];
        for (key, number) in [("limit", wanted.limit), ("seconds", wanted.seconds)] {
            query.extend(number.map(|number| (key, number.to_string())));
        }
        let url = format!("{}{TAP_PATH}", self.url);
        let request = http.get(&url).query(&query);
        let request = request.basic_auth(&self.user, Some(&self.password));
        let answer = tokio::time::timeout(PATIENCE, request.send()).await;
        let answer = answer.with_context(|| format!("query {url}: no answer"))?;
        let answer = answer.with_context(|| format!("query {url}"))?;
        let status = answer.status();
        if !status.is_success() {
            let reason = answer.text().await.unwrap_or_default();
            bail!("the router answered {status} to {url}: {}", reason.trim());
        }
        Ok(Tap(sse::Stream::new(answer, "the tap")))
    }
}

impl Tap {
    /// Returns the next event. The future may be dropped and the call repeated.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = decode(&self.0.next().await?)? {
                return Ok(event);
            }
        }
    }
}

/// Reads an event. `None` means that its name is unknown.
fn decode(event: &sse::Event) -> Result<Option<Event>> {
    let data = &event.data;
    let read = match event.name.as_str() {
        tap_event::OPENED => serde_json::from_str(data).map(Event::Opened),
        tap_event::REQUEST => serde_json::from_str(data).map(Event::Request),
        tap_event::ENDED => serde_json::from_str(data).map(Event::Ended),
        _ => return Ok(None),
    };
    let read = read.with_context(|| format!("read the event {} of a tap", event.name))?;
    Ok(Some(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_by_their_names() {
        let event = |name: &str, data: &str| sse::Event {
            name: name.to_owned(),
            data: data.to_owned(),
        };
        let request = decode(&event("request", r#"{"host":"a.test","new":1}"#)).unwrap();
        assert!(matches!(request, Some(Event::Request(trace)) if trace.host == "a.test"));
        let ended = decode(&event("ended", r#"{"reason":"limit","requests":3}"#)).unwrap();
        let wanted = TapEnded {
            reason: "limit".into(),
            requests: 3,
            missed: 0,
        };
        assert_eq!(ended, Some(Event::Ended(wanted)));
        assert_eq!(decode(&event("later", "x")).unwrap(), None);
        assert!(decode(&event("request", "x")).is_err());
    }
}
