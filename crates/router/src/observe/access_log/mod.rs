//! One line per request, to a file and to the app's log stream (source type `RTR`).
//!
//! An [`Entry`] lives as long as its request (as its response's body, or its tunnel) and writes its line when it is
//! dropped, so that no way out is forgotten: an entry dropped before an answer is a client that has gone, 499.

mod line;
mod writer;

use crate::backend::connect::Made;
use crate::config::{LogField, RedactQuery, Settings};
use crate::router::Shared;
use crate::tracing_headers::REQUEST_ID;
use crate::{forwarded, tracing_headers};
use anyhow::Result;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use clients::loggregator::{Emitter, Source, Stream};
use http::header::{HeaderMap, HeaderName, HeaderValue, REFERER, USER_AGENT};
use http::{Method, Request, StatusCode, Uri, Version};
use line::Line;
use routing::registry::Endpoint;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use writer::Writer;

/// Longest line for the log stream, which a datagram once limited.
const LONGEST_STREAMED: usize = 65_400;

/// A request header that stands at the end of each line.
#[derive(Debug)]
pub(crate) struct LoggedHeader {
    name: HeaderName,
    /// As in the log: `x_request_id`.
    label: String,
}

impl LoggedHeader {
    fn new(name: HeaderName) -> Self {
        let label = name.as_str().replace('-', "_");
        Self { name, label }
    }

    /// What the operator names, then what is on for tracing.
    fn of(settings: &Settings) -> Vec<Self> {
        let mut names = settings.log_format.extra_headers.clone();
        let mut tracing = |on: bool, headers: &[HeaderName]| {
            names.extend(headers.iter().filter(|_| on).cloned());
        };
        tracing(settings.zipkin, &tracing_headers::ZIPKIN);
        tracing(settings.w3c, &tracing_headers::W3C);
        names.into_iter().map(Self::new).collect()
    }
}

/// Where lines go.
#[derive(Debug)]
pub(crate) struct AccessLog {
    headers: Vec<LoggedHeader>,
    file: Option<Writer>,
    stream: Emitter,
    /// This router's index, as the `RTR` lines' instance.
    index: String,
}

impl AccessLog {
    pub(crate) fn open(path: Option<&Path>, stream: Emitter, settings: &Settings) -> Result<Self> {
        Ok(Self {
            headers: LoggedHeader::of(settings),
            file: path.map(Writer::open).transpose()?,
            stream,
            index: settings.index.to_string(),
        })
    }

    /// Lines that were lost because the file was too slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.file.as_ref().map_or(0, Writer::dropped)
    }

    /// Waits until everything is in the file.
    pub(crate) fn flush(&self) {
        if let Some(file) = &self.file {
            file.flush();
        }
    }

    fn write(&self, line: String, endpoint: Option<&Endpoint>) {
        if let Some(file) = &self.file {
            file.write(&line);
        }
        let Some(spec) = endpoint
            .map(Endpoint::spec)
            .filter(|spec| !spec.app_id.is_empty())
        else {
            return;
        };
        let source = Source {
            source_id: spec.app_id.to_owned(),
            instance_id: self.index.clone(),
            source_type: "RTR".into(),
            tags: Arc::new(spec.tags.to_map()),
        };
        let mut line = line;
        if line.len() > LONGEST_STREAMED {
            let at = (0..=LONGEST_STREAMED)
                .rev()
                .find(|&at| line.is_char_boundary(at))
                .unwrap_or(0);
            line.truncate(at);
            line.push_str("...X-TOO-LONG-TO-LOG--TRUNCATED");
        }
        self.stream.log(&source, Stream::Out, line);
    }
}

/// Attempts at backends, as far as the log tells of them.
#[derive(Debug, Default)]
struct Attempts {
    failed: u32,
    failed_time: Duration,
    /// Of the last one.
    started: Option<Instant>,
    made: Made,
}

impl Attempts {
    fn value(&self, field: LogField) -> String {
        let seconds = |time: Option<Duration>| match time {
            Some(time) => format!("{:.6}", time.as_secs_f64()),
            None => "\"-\"".into(),
        };
        match field {
            LogField::BackendTime => seconds(self.started.map(|started| started.elapsed())),
            LogField::DialTime => seconds(self.made.dial),
            LogField::DnsTime => seconds(None),
            LogField::TlsTime => seconds(self.made.tls),
            LogField::FailedAttempts => self.failed.to_string(),
            LogField::FailedAttemptsTime => seconds((self.failed > 0).then_some(self.failed_time)),
            LogField::LocalAddress => match self.made.local {
                Some(local) => format!("\"{local}\""),
                None => "\"-\"".into(),
            },
        }
    }

    /// ` name:value` each.
    fn fields(&self, fields: &[LogField]) -> String {
        fields.iter().fold(String::new(), |mut text, field| {
            let _ = write!(text, " {}:{}", field.name(), self.value(*field));
            text
        })
    }
}

/// One request's line in the making.
#[derive(Debug)]
pub(crate) struct Entry {
    shared: Arc<Shared>,
    started_at: SystemTime,
    started: Instant,
    host: String,
    method: Method,
    uri: Uri,
    version: Version,
    client: SocketAddr,
    endpoint: Option<Arc<Endpoint>>,
    backend_started: Option<Instant>,
    forwarded_for: Option<HeaderValue>,
    forwarded_proto: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    /// As many as the log has extra headers.
    extra: Vec<Option<HeaderValue>>,
    attempts: Attempts,
    router_error: String,
    status: Option<StatusCode>,
    received: Arc<AtomicU64>,
    sent: u64,
}

impl Entry {
    pub(crate) fn begin<B>(
        shared: Arc<Shared>,
        client: SocketAddr,
        host: &str,
        request: &Request<B>,
    ) -> Self {
        Self {
            shared,
            started_at: SystemTime::now(),
            started: Instant::now(),
            host: host.to_owned(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            client,
            endpoint: None,
            backend_started: None,
            forwarded_for: None,
            forwarded_proto: None,
            referer: None,
            user_agent: None,
            request_id: None,
            extra: Vec::new(),
            attempts: Attempts::default(),
            router_error: String::new(),
            status: None,
            received: Arc::default(),
            sent: 0,
        }
    }

    /// Called as the handling goes on: the line shows them as the last step left them.
    pub(crate) fn request_headers(&mut self, headers: &HeaderMap) {
        self.forwarded_for = headers.get(forwarded::FOR).cloned();
        self.forwarded_proto = headers.get(forwarded::PROTO).cloned();
        self.referer = headers.get(REFERER).cloned();
        self.user_agent = headers.get(USER_AGENT).cloned();
        self.request_id = headers.get(REQUEST_ID).cloned();
        let extra = &self.shared.access_log.headers;
        self.extra = extra
            .iter()
            .map(|header| headers.get(&header.name).cloned())
            .collect();
    }

    pub(crate) fn backend_begins(&mut self) {
        self.backend_started = Some(Instant::now());
    }

    /// The endpoint that is being tried; the last one stands in the line.
    pub(crate) fn endpoint(&mut self, endpoint: &Arc<Endpoint>) {
        self.endpoint = Some(endpoint.clone());
    }

    pub(crate) fn attempt_begins(&mut self) {
        self.attempts.started = Some(Instant::now());
    }

    pub(crate) fn attempt_ended(&mut self, made: Made, failed: bool) {
        self.attempts.made = made;
        if failed {
            self.attempts.failed += 1;
            let took = self.attempts.started.map(|started| started.elapsed());
            self.attempts.failed_time += took.unwrap_or_default();
        }
    }

    pub(crate) fn router_error(&mut self, error: String) {
        self.router_error = error;
    }

    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Counts the request body's bytes; shared with the body.
    pub(crate) fn received(&self) -> Arc<AtomicU64> {
        self.received.clone()
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.router_error = "endpoint_failure (context canceled)".into();
        }
        let status = self.status.map_or(499, |status| status.as_u16());
        let total = self.started.elapsed();
        // What passed between the request's way out and the end of the answer is the app's time, not ours.
        let ours = self.backend_started.map_or(total, |backend| {
            backend.saturating_duration_since(self.started)
        });
        let spec = self.endpoint.as_ref().map(|endpoint| endpoint.spec());
        let format = &self.shared.settings.log_format;
        let uri = self.uri.path_and_query().map_or("/", |uri| uri.as_str());
        let line = Line {
            host: &self.host,
            started_at: self.started_at,
            method: self.method.as_str(),
            uri: &redacted(uri, &self.method, format.redact_query),
            version: self.version,
            status,
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent,
            referer: self.referer.as_ref().map(HeaderValue::as_bytes),
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
            client: (!format.without_source_ip).then_some(self.client),
            backend: self
                .endpoint
                .as_ref()
                .map_or("", |endpoint| endpoint.address()),
            forwarded_for: self
                .forwarded_for
                .as_ref()
                .filter(|_| !format.without_forwarded_for)
                .map(HeaderValue::as_bytes),
            forwarded_proto: self.forwarded_proto.as_ref().map(HeaderValue::as_bytes),
            request_id: self.request_id.as_ref().map(HeaderValue::as_bytes),
            response_time: total.as_secs_f64(),
            gorouter_time: ours.as_secs_f64(),
            app_id: spec.map_or("", |spec| spec.app_id),
            app_index: spec.map_or("", |spec| spec.instance_index),
            instance_id: spec.map_or("", |spec| spec.instance_id),
            router_error: &self.router_error,
            extra_fields: &self.attempts.fields(&format.extra_fields),
            extra_names: &self.shared.access_log.headers,
            extra_values: &self.extra,
        }
        .to_string();
        self.shared.metrics.finished(total, ours);
        self.shared.access_log.write(line, self.endpoint.as_deref());
    }
}

/// The uri as the log may tell it.
fn redacted<'a>(uri: &'a str, method: &Method, redact: RedactQuery) -> Cow<'a, str> {
    match uri.split_once('?') {
        Some((path, query)) if method == Method::GET => match redact {
            RedactQuery::None => uri.into(),
            RedactQuery::All => path.into(),
            RedactQuery::Hash => {
                let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, query.as_bytes());
                let mut text = format!("{path}?hash=");
                for byte in sum.as_ref() {
                    let _ = write!(text, "{byte:02x}");
                }
                text.into()
            }
        },
        _ => uri.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_gets_are_hidden() {
        let of = |method: Method, redact| redacted("/a?b=c", &method, redact).into_owned();
        assert_eq!(of(Method::GET, RedactQuery::None), "/a?b=c");
        assert_eq!(of(Method::GET, RedactQuery::All), "/a");
        assert_eq!(of(Method::POST, RedactQuery::All), "/a?b=c");
        assert_eq!(
            of(Method::GET, RedactQuery::Hash),
            "/a?hash=2fbe0fc5071afee65fb6ce14be6ea1f1d13b2bca"
        );
    }
}
