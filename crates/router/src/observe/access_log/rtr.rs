//! The app's own lines of requests and of failed attempts: source type `RTR` of its log stream, and an envelope to metron.

use super::line::Line;
use crate::backend::peer;
use crate::observe::envelopes::{self, Envelopes};
use clients::loggregator::{Emitter, Source, Stream};
use route_table::registry::Endpoint;
use std::sync::Arc;

/// The destinations of apps' lines.
#[derive(Debug)]
pub(super) struct AppLines {
    pub(super) stream: Emitter,
    /// The sender of envelopes; `None`: metron gets no lines.
    pub(super) envelopes: Option<Arc<Envelopes>>,
    /// This router's index, as the lines' instance.
    pub(super) index: String,
}

impl AppLines {
    /// Returns whether apps get their lines.
    pub(super) fn are_streamed(&self) -> bool {
        let listens = |envelopes: &Arc<Envelopes>| envelopes.has_listener();
        self.stream.is_open() || self.envelopes.as_ref().is_some_and(listens)
    }

    /// Writes the app's line, which always has gorouter's form.
    pub(super) fn write(&self, line: &[u8], endpoint: Option<&Endpoint>, whole: &Line<'_>) {
        let Some(endpoint) = endpoint.filter(|endpoint| !peer::app_id(endpoint).is_empty()) else {
            return;
        };
        if let Some(envelopes) = &self.envelopes {
            envelopes.log(line, endpoint, || whole.shortened());
        }
        if self.has_stream() {
            let line = if line.len() > envelopes::LONGEST_LINE {
                whole.shortened()
            } else {
                line.to_vec()
            };
            self.stream_line(line, endpoint);
        }
    }

    /// Returns whether log streams get lines, as far as they do not go through metron.
    pub(super) fn has_stream(&self) -> bool {
        self.stream.is_open()
    }

    /// Writes a line to the log stream of the endpoint's app.
    pub(super) fn stream_line(&self, line: Vec<u8>, endpoint: &Endpoint) {
        if peer::app_id(endpoint).is_empty() {
            return;
        }
        let source = Source {
            source_id: peer::app_id(endpoint).to_owned(),
            instance_id: self.index.clone(),
            source_type: "RTR".into(),
            tags: peer::tags(endpoint),
        };
        self.stream.log(&source, Stream::Out, line);
    }
}
