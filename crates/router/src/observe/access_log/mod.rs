//! Writes one line per request, to a file and to the app's log stream (source type `RTR`).
//!
//! An [`Entry`] accompanies its request, whatever becomes of it, and writes its line at the end. It stores what the request's
//! head does not contain; everything else is read from the head when the line is written.

mod credentials;
mod file;
mod json;
mod line;
mod syslog;
mod writer;

use crate::backend::made::Made;
use crate::backend::peer;
use crate::config::{Lasting, LogField, RedactQuery};
use crate::listen::front_tls::ClientTls;
use crate::observe::envelopes::{self, Envelopes, Origin, Whole};
use crate::observe::metrics::Finished;
use crate::path::route::Peer;
use crate::path::tracing_headers;
use crate::worker::Worker;
use anyhow::Result;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use clients::loggregator::{Emitter, Source, Stream};
use http1::{Known, Request, Span};
use line::Line;
use routing::registry::Endpoint;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use writer::Writer;

/// The headers that the access log contains when tracing is on.
static ZIPKIN: [Known; 4] = [
    Known::XB3TraceId,
    Known::XB3SpanId,
    Known::XB3ParentSpanId,
    Known::B3,
];
static W3C: [Known; 2] = [Known::Traceparent, Known::Tracestate];

/// A request header that is written at the end of each line.
#[derive(Debug)]
pub(crate) struct LoggedHeader {
    name: String,
    /// The name in the log: `x_request_id`.
    label: String,
}

impl LoggedHeader {
    fn new(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let label = name.replace('-', "_");
        Self { name, label }
    }

    /// Returns the headers that the operator names, then those of the tracing that is on.
    fn of(settings: &Lasting) -> Vec<Self> {
        let asked = settings.logged_headers.iter();
        let mut names: Vec<&str> = asked.map(http::HeaderName::as_str).collect();
        let mut tracing = |on: bool, headers: &[Known]| {
            names.extend(headers.iter().filter(|_| on).map(|known| known.name()));
        };
        tracing(settings.zipkin, &ZIPKIN);
        tracing(settings.w3c, &W3C);
        names.into_iter().map(Self::new).collect()
    }
}

/// The destinations of lines.
#[derive(Debug)]
pub(crate) struct AccessLog {
    headers: Vec<LoggedHeader>,
    file: Option<Writer>,
    syslog: Option<syslog::Sender>,
    stream: Emitter,
    /// The sender of envelopes; `None`: metron gets no lines.
    envelopes: Option<Arc<Envelopes>>,
    /// This router's index, as the `RTR` lines' instance.
    index: String,
}

impl AccessLog {
    pub(crate) fn open(
        path: Option<&Path>,
        stream: Emitter,
        envelopes: Option<Arc<Envelopes>>,
        settings: &Lasting,
    ) -> Result<Self> {
        Ok(Self {
            headers: LoggedHeader::of(settings),
            file: path
                .map(|path| Writer::open(path, settings.access_log_rotation))
                .transpose()?,
            syslog: settings
                .syslog
                .as_ref()
                .map(|server| syslog::Sender::open(server, settings.compat_gorouter))
                .transpose()?,
            stream,
            envelopes: envelopes.filter(|envelopes| envelopes.wanted().logs),
            index: settings.index.to_string(),
        })
    }

    /// Returns the number of lines that were lost because the file or the syslog server was too slow.
    pub(crate) fn dropped(&self) -> u64 {
        let file = self.file.as_ref().map_or(0, Writer::dropped);
        file + self.syslog.as_ref().map_or(0, syslog::Sender::dropped)
    }

    /// Waits until everything is in the file.
    pub(crate) fn flush(&self) {
        if let Some(file) = &self.file {
            file.flush();
        }
    }

    /// Opens the file again, because it was renamed.
    pub(crate) fn reopen(&self) {
        if let Some(file) = &self.file {
            file.reopen();
        }
    }

    /// Writes the operator's line to file and syslog.
    fn write(&self, line: &[u8]) {
        if let Some(file) = &self.file {
            file.write(line);
        }
        if let Some(syslog) = &self.syslog {
            syslog.send(line);
        }
    }

    /// Returns whether apps get their lines.
    fn is_streamed(&self) -> bool {
        let heard = |envelopes: &Arc<Envelopes>| envelopes.has_listener();
        self.stream.is_open() || self.envelopes.as_ref().is_some_and(heard)
    }

    /// Writes the app's line, which always has gorouter's form.
    fn write_to_app(&self, line: &[u8], endpoint: Option<&Endpoint>, whole: &Line<'_>) {
        let Some(endpoint) = endpoint.filter(|endpoint| !peer::app_id(endpoint).is_empty()) else {
            return;
        };
        if let Some(envelopes) = &self.envelopes {
            envelopes.log(line, endpoint, || whole.shortened());
        }
        if self.stream.is_open() {
            let source = Source {
                source_id: peer::app_id(endpoint).to_owned(),
                instance_id: self.index.clone(),
                source_type: "RTR".into(),
                tags: peer::tags(endpoint),
            };
            let line = if line.len() > envelopes::LONGEST_LINE {
                whole.shortened()
            } else {
                line.to_vec()
            };
            self.stream.log(&source, Stream::Out, line);
        }
    }
}

/// The attempts at backends, as far as the log records them.
#[derive(Debug, Default)]
struct Attempts {
    failed: u32,
    failed_time: Duration,
    /// The beginning of the last attempt.
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
            // These values are the entry's own.
            LogField::CallerApp
            | LogField::CallerSpace
            | LogField::CallerOrganization
            | LogField::RoutePolicy
            | LogField::TlsSni => seconds(None),
            LogField::TlsTime => seconds(self.made.tls),
            LogField::FailedAttempts => self.failed.to_string(),
            LogField::FailedAttemptsTime => seconds((self.failed > 0).then_some(self.failed_time)),
            LogField::LocalAddress => match self.made.local {
                Some(local) => format!("\"{local}\""),
                None => "\"-\"".into(),
            },
        }
    }
}

/// The line of one request in the making.
#[derive(Debug)]
pub(crate) struct Entry {
    started_at: SystemTime,
    started: Instant,
    /// Whether the client came by TLS.
    tls: bool,
    endpoint: Option<Arc<Endpoint>>,
    backend_started: Option<Instant>,
    attempts: Attempts,
    router_error: String,
    /// The client; set only if the log records it.
    client: Option<Arc<ClientTls>>,
    route_policy: Option<&'static str>,
    status: u16,
    /// The bytes of the request's body.
    pub(crate) received: u64,
    /// The bytes of the response's body.
    pub(crate) sent: u64,
}

impl Entry {
    pub(crate) fn begin(tls: bool) -> Self {
        Self {
            started_at: SystemTime::now(),
            started: Instant::now(),
            tls,
            endpoint: None,
            backend_started: None,
            attempts: Attempts::default(),
            router_error: String::new(),
            client: None,
            route_policy: None,
            status: 0,
            received: 0,
            sent: 0,
        }
    }

    pub(crate) fn started_at(&self) -> SystemTime {
        self.started_at
    }

    pub(crate) fn backend_begins(&mut self, now: Instant) {
        self.backend_started = Some(now);
    }

    /// Records the endpoint that is being tried; the line names the last one.
    pub(crate) fn attempt_begins(&mut self, endpoint: &Arc<Endpoint>, now: Instant) {
        self.endpoint = Some(endpoint.clone());
        self.attempts.started = Some(now);
    }

    /// Records the endpoint that the line of a request names which is not sent.
    pub(crate) fn endpoint(&mut self, endpoint: Arc<Endpoint>) {
        self.endpoint = Some(endpoint);
    }

    /// Records the beginning of an attempt at a route service, which is not an endpoint of the route.
    pub(crate) fn attempt_without_endpoint(&mut self, now: Instant) {
        self.attempts.started = Some(now);
    }

    /// Records the end of an attempt. As in gorouter, the line describes the connection only if the attempt did not fail.
    pub(crate) fn attempt_ended(&mut self, made: Made, failed: bool) {
        self.attempts.made = if failed { Made::default() } else { made };
        if failed {
            self.attempts.failed += 1;
            let took = self.attempts.started.map(|started| started.elapsed());
            self.attempts.failed_time += took.unwrap_or_default();
        }
    }

    /// Records the client as its TLS handshake identified it.
    pub(crate) fn client(&mut self, client: Option<Arc<ClientTls>>) {
        self.client = client;
    }

    /// Records the verdict, `allowed` or `denied`.
    pub(crate) fn route_policy(&mut self, verdict: &'static str) {
        self.route_policy = Some(verdict);
    }

    fn value(&self, field: LogField) -> String {
        let client = self.client.as_deref();
        let caller = client.and_then(|client| client.caller.as_ref());
        let text = |text: Option<&str>| match text.filter(|text| !text.is_empty()) {
            Some(text) => line::quoted(text),
            None => "\"-\"".into(),
        };
        match field {
            LogField::CallerApp => text(caller.map(|caller| caller.app.as_str())),
            LogField::CallerSpace => text(caller.map(|caller| caller.space.as_str())),
            LogField::CallerOrganization => text(caller.map(|caller| caller.organization.as_str())),
            LogField::RoutePolicy => text(self.route_policy),
            LogField::TlsSni => text(client.and_then(|client| client.sni.as_deref())),
            attempts => self.attempts.value(attempts),
        }
    }

    fn values(&self, fields: &[LogField]) -> Vec<(&'static str, String)> {
        let values = fields
            .iter()
            .map(|field| (field.name(), self.value(*field)));
        values.collect()
    }

    /// Formats each field as ` name:value`.
    fn fields(&self, fields: &[LogField]) -> String {
        let values = self.values(fields).into_iter();
        values.fold(String::new(), |mut text, (name, value)| {
            let _ = write!(text, " {name}:{value}");
            text
        })
    }

    pub(crate) fn router_error(&mut self, error: String) {
        self.router_error = error;
    }

    pub(crate) fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// Writes the line. `host`: the position of the client's `Host` in the request.
    pub(crate) fn finish(self, worker: &Worker, peer: &Peer, host: Span, request: &Request) {
        self.finish_for(worker, &peer.address, host, request);
    }

    /// Writes the line for a client whose connection has become a tunnel.
    pub(crate) fn finish_for(self, worker: &Worker, client: &str, host: Span, request: &Request) {
        let shared = &worker.shared;
        let total = self.started.elapsed();
        // The time between the sending of the request and the end of the answer is the app's, not ours.
        let ours = self.backend_started.map_or(total, |backend| {
            backend.saturating_duration_since(self.started)
        });
        let format = &shared.settings.log_format;
        let log = &shared.access_log;
        let endpoint = self.endpoint.as_deref();
        if log.file.is_some() || log.syslog.is_some() || log.is_streamed() {
            let extra_fields = if format.extra_fields.is_empty() {
                String::new()
            } else {
                self.fields(&format.extra_fields)
            };
            let fields = &request.fields;
            let uri = String::from_utf8_lossy(request.asked());
            let line = Line {
                host: fields.slice(host),
                started_at: worker.timestamp(self.started_at),
                method: request.method(),
                uri: &redacted(&uri, request.method(), format.redact_query),
                version: request.version,
                status: self.status,
                received: self.received,
                sent: self.sent,
                client: if format.without_source_ip {
                    "-"
                } else {
                    client
                },
                backend: endpoint.map_or("", Endpoint::address),
                with_forwarded_for: !format.without_forwarded_for,
                hide_credentials: format.redact_query == RedactQuery::Credentials,
                response_time: total,
                gorouter_time: ours,
                app_id: endpoint.map_or("", peer::app_id),
                app_index: endpoint.map_or("", peer::instance_index),
                instance_id: endpoint.map_or("", peer::instance_guid),
                router_error: &self.router_error,
                extra_fields: &extra_fields,
                extra_headers: &log.headers,
                fields,
            };
            let scratch = worker.scratch.lock();
            let mut scratch = scratch.unwrap_or_else(PoisonError::into_inner);
            if format.json {
                log.write(&json::line(&line, &self.values(&format.extra_fields)));
            }
            if !format.json || log.is_streamed() {
                scratch.clear();
                line.write_to(&mut scratch);
                if !format.json {
                    log.write(&scratch);
                }
                log.write_to_app(&scratch, endpoint, &line);
            }
        }
        if let Some(envelopes) = &shared.envelopes
            && envelopes.wanted().server_events
            && envelopes.has_listener()
            && request.fields.contains(Known::XVcapRequestId)
        {
            envelopes.request(&Whole {
                origin: self.origin(self.started, client, request),
                host: request.fields.slice(host),
                endpoint,
                status: self.status,
                sent: self.sent,
                went_out: self.backend_started.is_some(),
                trace: tracing_headers::ids(&request.fields, &shared.lasting),
            });
        }
        // gorouter counts every attempt, also those at a route service, which belongs to no component.
        if self.attempts.started.is_some() {
            let text = |of: fn(&Endpoint) -> &str| endpoint.map_or("", of);
            shared.metrics.finished(&Finished {
                component: text(peer::component),
                source_id: text(peer::source_id),
                app_id: text(peer::app_id),
                status: self.status,
                began: self.started_at,
                took: total,
                ours,
            });
        }
    }

    /// Returns the origin for an event that began at `since` and is over.
    pub(crate) fn origin<'r>(
        &self,
        since: Instant,
        client: &'r str,
        request: &'r Request,
    ) -> Origin<'r> {
        Origin {
            client,
            tls: self.tls,
            began: self.started_at + since.saturating_duration_since(self.started),
            took: since.elapsed(),
            request,
        }
    }
}

/// Returns the uri as the log may contain it.
fn redacted<'a>(uri: &'a str, method: &str, redact: RedactQuery) -> Cow<'a, str> {
    if redact == RedactQuery::Credentials {
        return credentials::hidden(uri);
    }
    if redact == RedactQuery::None || method != "GET" {
        return uri.into();
    }
    match uri.split_once('?') {
        // An empty query needs no redaction.
        Some((_, "")) => uri.into(),
        Some((path, query)) => match redact {
            RedactQuery::None | RedactQuery::Credentials => uri.into(),
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
        None => uri.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_gets_are_hidden() {
        let of = |method: &str, redact| redacted("/a?b=c", method, redact).into_owned();
        assert_eq!(of("GET", RedactQuery::None), "/a?b=c");
        assert_eq!(of("GET", RedactQuery::All), "/a");
        assert_eq!(of("POST", RedactQuery::All), "/a?b=c");
        let hidden = redacted("/a?password=b", "POST", RedactQuery::Credentials);
        assert_eq!(hidden, "/a?password=-");
        assert_eq!(redacted("/a?", "GET", RedactQuery::Hash), "/a?");
        assert_eq!(redacted("/a?", "GET", RedactQuery::All), "/a?");
        assert_eq!(
            of("GET", RedactQuery::Hash),
            "/a?hash=2fbe0fc5071afee65fb6ce14be6ea1f1d13b2bca"
        );
    }
}
