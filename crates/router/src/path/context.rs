//! The values that the router holds about one request while it handles it.

use crate::observe::record::Record;
use crate::path::route::Peer;
use crate::worker::Worker;
use http1::{Known, Request, Span};
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct RequestContext<'a> {
    pub(crate) worker: &'a Arc<Worker>,
    pub(crate) peer: &'a Peer,
    /// The client's `Host`, with its port, or empty: its position in the request's fields.
    pub(crate) host: Span,
    /// The id that the answer carries if the app does not set its own; empty until it is made.
    pub(crate) request_id: Span,
    pub(crate) record: Record,
}

impl<'a> RequestContext<'a> {
    pub(crate) fn new(worker: &'a Arc<Worker>, peer: &'a Peer, request: &Request) -> Self {
        Self {
            worker,
            peer,
            host: request.fields.span(Known::Host).unwrap_or_default(),
            request_id: Span::default(),
            record: Record::begin(peer.client.is_some()),
        }
    }
}
