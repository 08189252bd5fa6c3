//! A client's connection of HTTP/1: one request after the other.

use crate::path::answer::After;
use crate::path::context::Peer;
use crate::path::exchange::{Exchange, MOST_DISCARDED};
use crate::path::protocol::{self, patience};
use crate::path::rejection::{self, Rejection};
use crate::path::route;
use crate::worker::Worker;
use http_sides::drain::Watch;
use http_sides::stream::Stream;
use http_sides::timer::Timer;
use http_sides::{Http1, ReceivedHead, Side};
use http1::{Limits, Refusal, Version};
use std::io::Write as _;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The time that a client which sends nothing may take to end its connection after the router's close; the time that a sending
/// client may take; and the bytes that it may send (as nginx `lingering_close`).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_SENDING: Duration = Duration::from_secs(30);
const LINGER_BYTES: u64 = MOST_DISCARDED;

/// Serves the connection in a task of its own, which is kept small: there may be ten thousand.
pub(super) fn spawn(worker: Arc<Worker>, stream: Stream, peer: Peer) {
    let tasks = worker.tasks.clone();
    tasks.spawn(serve(worker, stream, peer));
}

async fn serve(worker: Arc<Worker>, stream: Stream, peer: Peer) {
    let side = Side::Http1(worker.http1(stream));
    let mut exchange = Exchange::new(worker.clone(), side);
    let after = requests(&worker, &mut exchange, &peer).await;
    let client = exchange.client;
    match after {
        After::Tunnel(tunnel) => {
            worker.tasks.spawn(tunnel.run(client));
        }
        After::Close => {
            if let Side::Http1(client) = client {
                linger(client, &worker, exchange.watch, exchange.timer).await;
            }
        }
        After::Next | After::Abort => {}
    }
}

/// Waits until the client has ended its connection, its time for that is over, or the router's own time is over.
async fn linger(mut client: Http1, worker: &Worker, mut watch: Watch, mut timer: Timer) {
    let last = Instant::now() + LINGER_SENDING;
    let mut silent = (client.lingered(), Instant::now());
    std::future::poll_fn(|cx| {
        watch.register(cx);
        if client.poll_linger(cx, LINGER_BYTES).is_ready() || worker.drain.is_over() {
            return Poll::Ready(());
        }
        if silent.0 != client.lingered() {
            silent = (client.lingered(), Instant::now());
        }
        timer.poll(cx, last.min(silent.1 + LINGER))
    })
    .await;
}

/// Serves requests until no more follow; never returns `Next`.
async fn requests(worker: &Arc<Worker>, exchange: &mut Exchange, peer: &Peer) -> After {
    let limits = protocol::request_limits(&worker.shared.settings);
    loop {
        match next(exchange, &limits).await {
            Next::Request => {}
            Next::Refused(refusal) => return refuse(exchange, refusal).await,
            Next::End => return After::Abort,
        }
        // This is boxed because a request in progress needs much more memory than a connection that waits for one.
        match Box::pin(route::serve(worker, peer, exchange)).await {
            After::Next => {}
            after => return after,
        }
    }
}

enum Next {
    Request,
    Refused(Refusal),
    End,
}

async fn next(exchange: &mut Exchange, limits: &Limits) -> Next {
    let idle_since = Instant::now();
    let mut head_since = None;
    std::future::poll_fn(|cx| poll_next(cx, exchange, limits, idle_since, &mut head_since)).await
}

fn poll_next(
    cx: &mut Context<'_>,
    exchange: &mut Exchange,
    limits: &Limits,
    idle_since: Instant,
    head_since: &mut Option<Instant>,
) -> Poll<Next> {
    let Exchange {
        worker,
        client: Side::Http1(client),
        request,
        response,
        timer,
        watch,
    } = exchange
    else {
        return Poll::Ready(Next::End);
    };
    watch.register(cx);
    worker.heads.provide(request, response);
    match client.poll_request(cx, request, limits) {
        Poll::Ready(Ok(ReceivedHead::Whole)) => return Poll::Ready(Next::Request),
        Poll::Ready(Ok(ReceivedHead::Refused(refusal))) => {
            return Poll::Ready(Next::Refused(refusal));
        }
        Poll::Ready(Ok(ReceivedHead::End { .. }) | Err(_)) => return Poll::Ready(Next::End),
        Poll::Pending => {}
    }
    let settings = &worker.shared.settings;
    let deadline = if client.has_begun() {
        *head_since.get_or_insert_with(Instant::now) + patience(settings.read_header_timeout)
    } else {
        worker.heads.reclaim(request, response);
        let until = idle_since + patience(settings.frontend_idle_timeout);
        let last_chance = worker.drain.idle_until();
        last_chance.map_or(until, |last_chance| last_chance.min(until))
    };
    if worker.drain.is_over() || timer.poll(cx, deadline).is_ready() {
        return Poll::Ready(Next::End);
    }
    Poll::Pending
}

/// Answers a request that could not be read. It has no route, and it is the last on its connection.
async fn refuse(exchange: &mut Exchange, refusal: Refusal) -> After {
    let (status, metrics) = (refusal.status(), &exchange.worker.shared.metrics);
    Rejection::Refused(refusal).count(metrics, status);
    tracing::debug!(%refusal, "request-refused");
    let reason = rejection::reason(status);
    let body = format!("{status} {reason}: {refusal}\n");
    let mut head = Vec::new();
    let version = Version::Http11.as_str();
    let _ = write!(
        head,
        "{version} {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
    );
    let error = rejection::refusal_error(refusal);
    if !error.is_empty() {
        let _ = write!(head, "X-Cf-RouterError: {error}\r\n");
    }
    let length = body.len();
    let _ = write!(
        head,
        "Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    if let Side::Http1(client) = &mut exchange.client {
        client.write_message(&head);
        let flushed = std::future::poll_fn(|cx| client.poll_flush(cx));
        let _ = timeout(LINGER, flushed).await;
    }
    After::Close
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand such connections may wait at a time.
    #[test]
    fn a_connection_that_waits_is_small() {
        fn size<A, B, C, F: Future>(_: impl FnOnce(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(serve);
        assert!(size < 2048, "{size} bytes");
    }
}
