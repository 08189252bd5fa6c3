//! The values that the router holds about one request while it handles it.

use crate::listen::front_tls::ClientTls;
use crate::observe::record::Record;
use crate::worker::Worker;
use http1::{Known, Request, Span};
use std::net::SocketAddr;
use std::sync::Arc;

/// The client of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: String,
    /// The client's address without the port, as `X-Forwarded-For` has it.
    pub(crate) ip: String,
    /// The client's TLS; `None`: the connection has no TLS.
    pub(crate) client: Option<Arc<ClientTls>>,
}

impl Peer {
    pub(crate) fn plain(addr: SocketAddr) -> Self {
        Self {
            address: addr.to_string(),
            ip: addr.ip().to_string(),
            client: None,
        }
    }
}

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
