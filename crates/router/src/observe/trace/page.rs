//! The page `/tap`: the traces of the next requests to a host, as server-sent events ([`wire::router::tap_event`]).

use super::taps::{MOST_TAPS, Reader, Taps};
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use kit::CancellationToken;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wire::router::{TapEnded, TapOpened, tap_event};

/// The number of requests that a tap shows, if its reader names none, and the greatest number.
const REQUESTS: (u64, u64) = (100, 10_000);
/// The seconds for which a tap is open, if its reader names none, and the longest time.
const SECONDS: (u64, u64) = (600, 3600);
/// The time after which a silent stream gets a comment, so that a reader that has gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The query of the page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    host: String,
    limit: Option<u64>,
    seconds: Option<u64>,
}

impl Query {
    /// Returns what the tap shows, or what is wrong with the query.
    fn checked(self, router: &str) -> Result<TapOpened, String> {
        let between = |name: &str, given: Option<u64>, (usual, most): (u64, u64)| match given {
            Some(number) if number == 0 || number > most => Err(format!(
                "{name} is {number}: use a number from 1 to {most}\n"
            )),
            given => Ok(given.unwrap_or(usual)),
        };
        let is_host = |byte: u8| byte.is_ascii_graphic() && !b"/?#@\\".contains(&byte);
        if self.host.is_empty() || !self.host.bytes().all(is_host) {
            let host = &self.host;
            return Err(format!(
                "host is {host:?}, which is no host: use e.g. /tap?host=app.example.com\n"
            ));
        }
        Ok(TapOpened {
            router: router.to_owned(),
            limit: between("limit", self.limit, REQUESTS)?,
            seconds: between("seconds", self.seconds, SECONDS)?,
            host: self.host,
        })
    }
}

/// Opens a tap and returns its stream. `end`: the token that ends all streams of the page.
pub(crate) fn open(
    taps: &Arc<Taps>,
    router: &str,
    query: Query,
    end: CancellationToken,
) -> Response {
    let opened = match query.checked(router) {
        Ok(opened) => opened,
        Err(text) => return (StatusCode::BAD_REQUEST, text).into_response(),
    };
    let Some(reader) = taps.open(&opened.host, opened.limit) else {
        let text = format!("{MOST_TAPS} taps are open, and no more are permitted: end one\n");
        return (StatusCode::TOO_MANY_REQUESTS, text).into_response();
    };
    let stream = Stream {
        reader,
        end,
        deadline: Instant::now() + Duration::from_secs(opened.seconds),
        requests: 0,
        state: State::Opening(opened),
    };
    let events = futures::stream::unfold(stream, |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok::<Bytes, Infallible>(event.into()), stream))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
    ];
    (headers, Body::from_stream(events)).into_response()
}

/// The stream of one tap.
struct Stream {
    reader: Reader,
    end: CancellationToken,
    deadline: Instant,
    requests: u64,
    state: State,
}

enum State {
    /// The first event is still to be sent.
    Opening(TapOpened),
    Open,
    Ended,
}

impl Stream {
    /// Returns the text of the next event; `None`: the stream has ended.
    async fn next(&mut self) -> Option<String> {
        match std::mem::replace(&mut self.state, State::Open) {
            State::Opening(opened) => return Some(event(tap_event::OPENED, &opened)),
            State::Open => {}
            State::Ended => {
                self.state = State::Ended;
                return None;
            }
        }
        // The requests that have ended are shown before the end of the tap.
        tokio::select! {
            biased;
            trace = self.reader.next() => match trace {
                Some(trace) => {
                    self.requests += 1;
                    Some(event(tap_event::REQUEST, &*trace))
                }
                None => Some(self.ended("limit")),
            },
            () = self.end.cancelled() => Some(self.ended("stop")),
            () = tokio::time::sleep_until(self.deadline) => Some(self.ended("time")),
            () = tokio::time::sleep(KEEP_ALIVE) => Some(": still open\n\n".to_owned()),
        }
    }

    fn ended(&mut self, reason: &str) -> String {
        self.state = State::Ended;
        event(
            tap_event::ENDED,
            &TapEnded {
                reason: reason.to_owned(),
                requests: self.requests,
                missed: self.reader.missed(),
            },
        )
    }
}

fn event(name: &str, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::router::RequestTrace;

    fn query(host: &str, limit: Option<u64>, seconds: Option<u64>) -> Query {
        Query {
            host: host.into(),
            limit,
            seconds,
        }
    }

    #[test]
    fn a_query_is_bounded_and_faults_are_named() {
        let opened = query("App.test:80", None, None).checked("0-id").unwrap();
        assert_eq!((opened.limit, opened.seconds), (100, 600));
        assert_eq!((&*opened.host, &*opened.router), ("App.test:80", "0-id"));
        let fault = |query: Query| query.checked("0-id").unwrap_err();
        assert!(fault(query("a.test", Some(0), None)).starts_with("limit is 0: use a number"));
        assert!(fault(query("a.test", None, Some(3601))).starts_with("seconds is 3601"));
        for host in ["", "a.test/x", "a b"] {
            assert!(
                fault(query(host, None, None)).contains("is no host"),
                "{host}"
            );
        }
    }

    fn stream(taps: &Arc<Taps>, limit: u64, seconds: u64) -> Stream {
        Stream {
            reader: taps.open("a.test", limit).unwrap(),
            end: CancellationToken::new(),
            deadline: Instant::now() + Duration::from_secs(seconds),
            requests: 0,
            state: State::Open,
        }
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_reason() {
        let taps = Arc::<Taps>::default();
        let mut limited = stream(&taps, 1, 60);
        taps.show("a.test", &Arc::new(RequestTrace::default()));
        let first = limited.next().await.unwrap();
        assert!(first.starts_with("event: request\ndata: {"), "{first}");
        let last = limited.next().await.unwrap();
        assert_eq!(
            last,
            "event: ended\ndata: {\"reason\":\"limit\",\"requests\":1,\"missed\":0}\n\n"
        );
        assert_eq!(limited.next().await, None);

        let mut stopped = stream(&taps, 1, 60);
        stopped.end.cancel();
        assert!(stopped.next().await.unwrap().contains("\"stop\""));
        assert!(taps.any());
        drop(stopped);
        assert!(!taps.any(), "a dropped stream closes its tap");

        let mut late = stream(&taps, 1, 0);
        assert!(late.next().await.unwrap().contains("\"time\""));
    }
}
