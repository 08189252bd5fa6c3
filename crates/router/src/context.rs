//! What the router knows about one request while it handles it.

use crate::body::ResponseBody;
use crate::observe::access_log::Entry;
use crate::route::Peer;
use crate::router::Worker;
use crate::tunnel::Tunnel;
use http::HeaderValue;
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct RequestContext {
    pub(crate) worker: Arc<Worker>,
    pub(crate) peer: Peer,
    /// As in the request: with its port, or empty.
    pub(crate) host: String,
    /// Goes with the answer if the app does not set its own.
    pub(crate) request_id: HeaderValue,
    /// Writes the access log line when it is dropped: with the answer's body, with the tunnel, or with this context when
    /// the client has gone.
    pub(crate) log: Box<Entry>,
    /// Set when backend and client have agreed to switch protocols.
    pub(crate) tunnel: Option<Tunnel>,
}

impl RequestContext {
    pub(crate) fn new(worker: &Arc<Worker>, peer: Peer, request: &Request<Incoming>) -> Self {
        let host = match request.headers().get(http::header::HOST) {
            Some(host) => String::from_utf8_lossy(host.as_bytes()).into_owned(),
            None => request
                .uri()
                .authority()
                .map(ToString::to_string)
                .unwrap_or_default(),
        };
        let log = Box::new(Entry::begin(
            worker.shared.clone(),
            peer.addr,
            &host,
            request,
        ));
        Self {
            worker: worker.clone(),
            peer,
            host,
            request_id: HeaderValue::from_static(""),
            log,
            tunnel: None,
        }
    }

    /// The answer takes the log entry along.
    pub(crate) fn seal(mut self, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        self.log.answered(response.status());
        match self.tunnel.take() {
            Some(tunnel) => {
                self.worker.tasks.spawn(tunnel.run(self.log));
            }
            None => response.body_mut().set_log(self.log),
        }
        response
    }
}
