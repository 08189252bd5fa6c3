//! A client's connection of HTTP/2: a task for each stream, and bounds for what a client may make the router keep.

use super::window::{self, Body, Window};
use crate::backend::fault::Fault;
use crate::path::answer::After;
use crate::path::context::Peer;
use crate::path::exchange::Exchange;
use crate::path::protocol::{self, patience};
use crate::path::rejection::Rejection;
use crate::path::route;
use crate::worker::Worker;
use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http_sides::checked::{Checked, ErrorSeen, ResetsSent};
use http_sides::drain::Watch;
use http_sides::gathered::Gathered;
use http_sides::stream::Stream;
use http_sides::timer::Timer;
use http_sides::{Http2, Side, request_from_http2};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The requests of one connection at a time.
const STREAMS: u32 = 250;
/// The bytes that small frames which arrived together may cost. (They are read from the library whether a backend reads or not.)
const SMALL_FRAMES: usize = 16 << 20;
/// The bytes of one stream that may wait for the socket.
const SEND_BUFFER: usize = 64 << 10;
/// The streams that the library may keep which were reset before they were accepted. One read brings fewer; rapid reset is ended
/// by a budget (`Budget` of the crate `http2`).
const PENDING_RESETS: usize = 1024;
/// The number of streams that the router broke off after which a connection accepts no new ones. The library counts those that
/// report stream errors of its client over the connection's whole life, and ends it with all its streams when they are too many.
const RETIRED_AFTER: u32 = 4096;
const LOCAL_RESETS: usize = 8192;
/// The streams that are remembered for a second after the router broke them off, because frames for them are on their way
/// already.
const REMEMBERED_RESETS: usize = 256;
/// The time that a client which was sent GOAWAY may take to send its last bytes.
const FAREWELL: Duration = Duration::from_secs(1);

pub(super) fn spawn(worker: Arc<Worker>, stream: Stream, peer: Peer) {
    let tasks = worker.tasks.clone();
    tasks.spawn(serve(worker, stream, peer));
}

async fn serve(worker: Arc<Worker>, stream: Stream, peer: Peer) {
    let settings = &worker.shared.settings;
    let most_head = protocol::request_limits(settings).bytes;
    let head = u32::try_from(most_head).unwrap_or(u32::MAX);
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(head)
        .initial_window_size(window::STREAM)
        .initial_connection_window_size(window::CONNECTION)
        .data_frame_budget(SMALL_FRAMES)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_RESETS))
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .enable_connect_protocol();
    let gathered = Gathered::new(stream);
    let (stream, error, resets) = Checked::client(gathered.clone(), most_head);
    let handshake = builder.handshake::<_, Bytes>(stream);
    let connection = match timeout(patience(settings.read_header_timeout), handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return ended(&error, &peer),
        Err(_) => return tracing::debug!(client = peer.address, "client-http2-silent"),
    };
    let mut client = ClientConnection {
        watch: Watch::new(worker.drain.clone()),
        worker,
        connection,
        gathered,
        error,
        resets,
        window: Window::default(),
        error_sent: false,
        timer: Timer::default(),
        idle_since: Some(Instant::now()),
        going_since: None,
    };
    let peer = Arc::new(peer);
    while let Some(accepted) = std::future::poll_fn(|cx| client.poll(cx)).await {
        match accepted {
            Ok((head, respond)) => {
                let body = client.begin(&head);
                let request = stream_request(client.worker.clone(), peer.clone(), head, respond);
                client.worker.tasks.spawn(async move {
                    request.await;
                    drop(body);
                });
            }
            Err(error) => return ended(&error, &peer),
        }
    }
}

fn ended(error: &h2::Error, peer: &Peer) {
    tracing::debug!(%error, client = peer.address, "client-connection-ended");
}

struct ClientConnection {
    worker: Arc<Worker>,
    connection: Connection<Checked, Bytes>,
    /// The frames to the client, gathered for one write.
    gathered: Gathered,
    /// The client's connection error, after which nothing more of it is read.
    error: ErrorSeen,
    /// Whether the client was sent that error.
    error_sent: bool,
    resets: ResetsSent,
    window: Window,
    timer: Timer,
    watch: Watch,
    /// The time since when there was no stream.
    idle_since: Option<Instant>,
    /// The time at which the client was sent GOAWAY.
    going_since: Option<Instant>,
}

type Accepted = Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>;

impl ClientConnection {
    /// Accounts for a new stream. Returns its body, if it has one.
    fn begin(&mut self, head: &Request<RecvStream>) -> Option<Body> {
        if head.body().is_end_stream() {
            return None;
        }
        let (body, size) = self.window.begin(&self.worker.windows);
        if let Some(size) = size {
            self.connection.set_target_window_size(size);
        }
        Some(body)
    }

    /// Returns the next stream; `None`: no more follow.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Accepted>> {
        let next = self.poll_next(cx);
        // After a stream this is polled again at once, so nothing is sent yet. An error shows when the socket is read.
        if !matches!(next, Poll::Ready(Some(Ok(_)))) {
            let _ = self.gathered.poll_send(cx);
        }
        next
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Accepted>> {
        self.watch.register(cx);
        let must_go = self.worker.drain.has_begun() || self.resets.sent() >= RETIRED_AFTER;
        if must_go && self.going_since.is_none() {
            self.go();
        }
        if let Poll::Ready(accepted) = self.poll_accept(cx) {
            self.idle_since = None;
            return Poll::Ready(accepted);
        }
        if self.worker.drain.is_over() {
            return Poll::Ready(None);
        }
        if self.connection.has_streams() {
            self.idle_since = None;
            // Streams have timers of their own; a stream that ends wakes this task.
            return Poll::Pending;
        }
        let idle_since = *self.idle_since.get_or_insert_with(Instant::now);
        let deadline = match self.going_since {
            Some(since) => since.max(idle_since) + FAREWELL,
            None => idle_since + patience(self.worker.shared.settings.frontend_idle_timeout),
        };
        if self.timer.poll(cx, deadline).is_pending() {
            return Poll::Pending;
        }
        if self.going_since.is_some() {
            return Poll::Ready(None);
        }
        self.go();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Returns the next stream. Streams that came before an error are accepted first.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Accepted>> {
        let accepted = self.connection.poll_accept(cx);
        if accepted.is_ready() || self.error_sent {
            return accepted;
        }
        let Some(error) = self.error.get() else {
            return accepted;
        };
        tracing::debug!(fault = %error, "client-http2-fault");
        self.error_sent = true;
        self.connection.abrupt_shutdown(Reason::from(error.code()));
        self.connection.poll_accept(cx)
    }

    /// Sends GOAWAY: streams that are open may end.
    fn go(&mut self) {
        self.connection.graceful_shutdown();
        self.going_since = Some(Instant::now());
    }
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        self.window.shrink(&self.worker.windows);
    }
}

fn announces_empty_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH);
    length.is_some_and(|length| length.as_bytes().iter().all(|digit| *digit == b'0'))
}

async fn stream_request(
    worker: Arc<Worker>,
    peer: Arc<Peer>,
    head: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let gone = std::future::poll_fn(|cx| Poll::Ready(respond.poll_reset(cx).is_ready())).await;
    let (parts, mut body) = head.into_parts();
    let mut ended = body.is_end_stream();
    if !gone && !ended && announces_empty_body(&parts.headers) {
        // The head announces an empty body, and only its end is missing: until the end arrives, the head may be wrong.
        let limit = patience(worker.shared.settings.body_idle_timeout);
        while !ended {
            ended = match timeout(limit, body.data()).await {
                Ok(None) => true,
                Ok(Some(Ok(data))) if data.is_empty() => body.is_end_stream(),
                _ => return respond.send_reset(Reason::PROTOCOL_ERROR),
            };
        }
    }
    let side = Side::Http2(Box::new(Http2::from_client(body, respond)));
    let mut exchange = Exchange::new(worker.clone(), side);
    let head = Request::from_parts(parts, ());
    let limits = protocol::request_limits(&worker.shared.settings);
    let understood = request_from_http2(&head, ended, &limits, &mut exchange.request);
    drop(head);
    let after = match understood {
        // The client cancelled the stream together with its beginning: no backend sees it.
        _ if gone => {
            let cancelled = Rejection::Backend(Fault::ClientGone);
            route::reject(&worker, &peer, &mut exchange, cancelled).await
        }
        Ok(()) => route::serve(&worker, &peer, &mut exchange).await,
        Err(refusal) => {
            let refused = Rejection::Refused(refusal);
            route::reject(&worker, &peer, &mut exchange, refused).await
        }
    };
    if let After::Tunnel(tunnel) = after {
        worker.tasks.spawn(tunnel.run(exchange.client));
    }
}
