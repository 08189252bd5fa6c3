//! The read API: `/api/v1/info`, `/api/v1/read/{source_id}`, `/api/v1/meta`, and the same paths below `/v1`.
//!
//! A refusal is a 404 with an empty body, as in Cloud Foundry's log-cache: a caller who may not read a source does not learn
//! whether it exists.

use crate::access::{Access, Refused};
use crate::protojson;
use crate::store::{Kind, Query, Store};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use kit::metrics::Counter;
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The API level of Cloud Foundry's log-cache that this server follows. Clients choose their paths by it.
const API_LEVEL: &str = "2.11.4";
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// The maximum compiled size of a name filter in bytes.
const MAX_REGEX: usize = 1 << 20;

#[derive(Clone, Debug)]
struct Api {
    store: Arc<Mutex<Store>>,
    access: Access,
    /// The envelopes that readers received.
    egress: Counter,
}

pub(crate) fn router(store: Arc<Mutex<Store>>, access: Access, egress: Counter) -> Router {
    let below = Router::new()
        .route("/info", get(info))
        .route("/read/{source_id}", get(read))
        .route("/meta", get(meta))
        .with_state(Api {
            store,
            access,
            egress,
        });
    Router::new()
        .nest("/api/v1", below.clone())
        .nest("/v1", below)
        .route("/healthz", get(|| async { "ok\n" }))
}

async fn info() -> Response {
    let uptime = std::fs::read_to_string("/proc/uptime")
        .ok()
        .and_then(|text| text.split(['.', ' ']).next().map(str::to_owned))
        .unwrap_or_else(|| "0".into());
    Json(json!({ "version": API_LEVEL, "vm_uptime": uptime })).into_response()
}

async fn read(
    State(api): State<Api>,
    Path(source_id): Path<String>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = api
        .access
        .may_read(authorization(&headers), &source_id)
        .await
    {
        return refusal(&refused);
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
    match parse(raw.as_deref().unwrap_or(""), now) {
        Ok(query) => {
            let batch = api
                .store
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .read(&source_id, &query);
            api.egress.add(batch.len() as u64);
            Json(protojson::read_response(&source_id, &batch)).into_response()
        }
        Err(why) => (
            StatusCode::BAD_REQUEST,
            Json(json!({ "error": why, "code": 3, "message": why })),
        )
            .into_response(),
    }
}

async fn meta(State(api): State<Api>, headers: HeaderMap) -> Response {
    match api.access.readable(authorization(&headers)).await {
        Err(refused) => refusal(&refused),
        Ok(readable) => {
            let mut meta = api
                .store
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .meta();
            meta.retain(|source, _| {
                readable
                    .as_ref()
                    .is_none_or(|readable| readable.contains(source))
            });
            Json(protojson::meta_response(&meta)).into_response()
        }
    }
}

fn authorization(headers: &HeaderMap) -> &str {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}

fn refusal(refused: &Refused) -> Response {
    match refused {
        Refused::NotFound => StatusCode::NOT_FOUND.into_response(),
        Refused::Unavailable => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Parses the query string of a read. The error describes what is wrong. `now` is in Unix nanoseconds.
fn parse(raw: &str, now: i64) -> Result<Query, String> {
    let mut query = Query {
        start: 0,
        end: now,
        limit: DEFAULT_LIMIT,
        descending: false,
        kinds: Vec::new(),
        name: None,
    };
    for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        let number = || {
            value
                .parse::<i64>()
                .map_err(|_| format!("{name}: {value:?} is not a number"))
        };
        match name {
            "start_time" => query.start = number()?,
            // Zero means unset, as everywhere in protobuf.
            "end_time" => query.end = Some(number()?).filter(|end| *end != 0).unwrap_or(now),
            "limit" => {
                query.limit = usize::try_from(number()?)
                    .map_err(|_| format!("limit: {value:?} is negative"))?
            }
            "descending" => query.descending = go_values::boolean(&value) == Some(true),
            "envelope_types" | "envelope_type" => query.kinds.extend(kind(&value)?),
            "name_filter" if !value.is_empty() => {
                let regex = regex::RegexBuilder::new(&value)
                    .size_limit(MAX_REGEX)
                    .build();
                query.name = Some(regex.map_err(|error| format!("name_filter: {error}"))?);
            }
            _ => {}
        }
    }
    match query.limit {
        0 => query.limit = DEFAULT_LIMIT,
        limit if limit > MAX_LIMIT => {
            return Err(format!("limit: {limit} is too much, at most {MAX_LIMIT}"));
        }
        _ => {}
    }
    if query.start > query.end {
        return Err(format!(
            "start_time ({}) must be before end_time ({})",
            query.start, query.end
        ));
    }
    Ok(query)
}

/// Parses the kind of envelopes; `None` means any kind.
fn kind(text: &str) -> Result<Option<Kind>, String> {
    Ok(Some(match text.to_ascii_uppercase().as_str() {
        "" | "ANY" | "0" => return Ok(None),
        "LOG" | "1" => Kind::Log,
        "COUNTER" | "2" => Kind::Counter,
        "GAUGE" | "3" => Kind::Gauge,
        "TIMER" | "4" => Kind::Timer,
        "EVENT" | "5" => Kind::Event,
        _ => {
            return Err(format!(
                "envelope_types: {text:?} is not LOG, COUNTER, GAUGE, TIMER or EVENT"
            ));
        }
    }))
}

/// Decodes a query: `%41` → `A`, `+` → space.
fn decoded(text: &str) -> String {
    let (mut out, bytes, mut at) = (Vec::with_capacity(text.len()), text.as_bytes(), 0);
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(escaped.unwrap_or(if bytes[at] == b'+' { b' ' } else { bytes[at] }));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_the_cli_writes_them() {
        let query = parse("descending=true&envelope_types=LOG&envelope_types=GAUGE&limit=1&start_time=-6795364578871345152", 100).unwrap();
        assert_eq!(
            (query.start, query.end, query.limit, query.descending),
            (-6_795_364_578_871_345_152, 100, 1, true)
        );
        assert_eq!(query.kinds, [Kind::Log, Kind::Gauge]);
        let query = parse("end_time=0&name_filter=%5Ecpu%24", 100).unwrap();
        assert_eq!(
            (query.end, query.limit, query.name.unwrap().as_str()),
            (100, 100, "^cpu$")
        );
        for (wrong, why) in [
            ("limit=1001", "limit"),
            ("start_time=x", "start_time"),
            ("envelope_types=X", "LOG"),
            ("name_filter=(", "name_filter"),
            ("start_time=9&end_time=3", "before"),
        ] {
            assert!(parse(wrong, 100).unwrap_err().contains(why), "{wrong}");
        }
    }
}
