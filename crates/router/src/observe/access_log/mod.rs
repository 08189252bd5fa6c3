//! Writes one line per request, to a file and to the app's log stream (source type `RTR`).
//!
//! The line is made when the request is over, from its record ([`crate::observe::record`]) and from its head.

mod attempt;
mod credentials;
mod extra;
mod file;
mod headers;
mod json;
mod line;
mod rtr;
mod syslog;
mod writer;

pub(crate) use attempt::{Attempt, Place};

use crate::backend::peer;
use crate::clock::Timestamp;
use crate::config::{Lasting, LogFormat, RedactQuery};
use crate::observe::envelopes::Envelopes;
use crate::observe::record::FinishedRequest;
use anyhow::Result;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use clients::loggregator::Emitter;
use headers::LoggedHeader;
use line::Line;
use route_table::registry::Endpoint;
use rtr::AppLines;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use writer::Writer;

/// The destinations of lines.
#[derive(Debug)]
pub(crate) struct AccessLog {
    headers: Vec<LoggedHeader>,
    file: Option<Writer>,
    syslog: Option<syslog::Sender>,
    apps: AppLines,
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
            apps: AppLines {
                stream,
                envelopes: envelopes.filter(|envelopes| envelopes.wanted().logs),
                index: settings.index.to_string(),
            },
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

    /// Returns whether any destination gets the lines of requests.
    pub(crate) fn is_open(&self) -> bool {
        self.file.is_some() || self.syslog.is_some() || self.apps.are_streamed()
    }

    /// Writes the lines of a finished request, the operator's and the app's. `began`: the time at which the request arrived.
    /// `scratch`: the buffer in which lines are built.
    pub(crate) fn request(
        &self,
        finished: &FinishedRequest<'_>,
        format: &LogFormat,
        began: Timestamp,
        scratch: &mut Vec<u8>,
    ) {
        let FinishedRequest {
            record, request, ..
        } = *finished;
        let endpoint = finished.endpoint();
        let extra_fields = extra::text(record, &format.extra_fields);
        let uri = String::from_utf8_lossy(request.received_target());
        let uri = redacted(&uri, request.method(), format.redact_query);
        let line = Line {
            host: finished.host,
            started_at: began,
            method: request.method(),
            uri: &uri,
            version: request.version,
            status: record.status,
            received: record.received,
            sent: record.sent,
            client: if format.without_source_ip {
                "-"
            } else {
                finished.client
            },
            backend: endpoint.map_or("", Endpoint::address),
            with_forwarded_for: !format.without_forwarded_for,
            hide_credentials: format.redact_query == RedactQuery::Credentials,
            response_time: finished.took,
            gorouter_time: finished.ours,
            app_id: endpoint.map_or("", peer::app_id),
            app_index: endpoint.map_or("", peer::instance_index),
            instance_id: endpoint.map_or("", peer::instance_guid),
            router_error: &record.router_error,
            extra_fields: &extra_fields,
            extra_headers: &self.headers,
            fields: &request.fields,
        };
        if format.json {
            self.write(&json::line(
                &line,
                &extra::values(record, &format.extra_fields),
            ));
        }
        if !format.json || self.apps.are_streamed() {
            scratch.clear();
            line.write_to(scratch);
            if !format.json {
                self.write(scratch);
            }
            self.apps.write(scratch, endpoint, &line);
        }
    }

    /// Writes a failed attempt to the log stream of its owner. The operator has it in the component log.
    pub(crate) fn attempt(&self, attempt: &Attempt<'_>) {
        if self.apps.has_stream()
            && let Some(line) = attempt.line()
        {
            self.apps.stream_line(line.into_bytes(), attempt.owner);
        }
    }

    /// Returns whether apps' log streams get lines of ours.
    pub(crate) fn has_app_streams(&self) -> bool {
        self.apps.has_stream()
    }

    /// Writes the trace of a request to the log stream of the app that was tried last.
    pub(crate) fn trace(&self, finished: &FinishedRequest<'_>, line: String) {
        if self.apps.has_stream()
            && let Some(endpoint) = finished.endpoint()
        {
            self.apps.stream_line(line.into_bytes(), endpoint);
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
