//! The last step: the answer is sent to the client until it ends, however it ends, and [`super::finish`] passes on its record.

use crate::observe::record::Record;
use crate::path::context::RequestContext;
use crate::path::exchange::{Delivery, Exchange, Relayed};
use crate::path::finish::finish;
use crate::path::protocol::patience;
use crate::path::tunnel::Tunnel;
use crate::worker::Worker;
use http_sides::Side;
use http1::{Framing, Known, Request};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The body of the answer; its head is the exchange's response.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A short text of the router's own. Nothing is sent to a client that has gone.
    Own { body: Vec<u8>, close: bool },
    /// The answer of a backend.
    Backend(Delivery),
    /// A backend's 101, after which client and backend talk to each other.
    Switch { delivery: Delivery, websocket: bool },
}

/// The next step on the client's connection.
#[derive(Debug)]
pub(crate) enum After {
    /// Another request may follow.
    Next,
    /// The connection is closed; the client may still be sending.
    Close,
    /// The connection is aborted without a clean end: the client has gone, or the answer is incomplete and must be seen as such.
    Abort,
    Tunnel(Box<Tunnel>),
}

/// The time that a client may take to end a body that is not read, and the bytes that the rest of it may have.
const SKIP: Duration = Duration::from_secs(1);
const MOST_SKIPPED: u64 = 256 << 10;

pub(crate) async fn deliver(
    context: RequestContext<'_>,
    exchange: &mut Exchange,
    answer: Answer,
) -> After {
    let worker = context.worker;
    let client = context.peer.address.as_str();
    if !exchange.response.fields.contains(Known::Date) && exchange.response.status != 101 {
        let date = worker.date();
        exchange.response.fields.append(Known::Date, &date);
    }
    let mut keep_alive = exchange.request.keep_alive && !worker.drain.has_begun();
    let mut record = context.record;
    record.answered(exchange.response.status);
    if let Some(error) = exchange.response.fields.get_text(Known::XCfRouterError) {
        // If the router did not set the field, the app did.
        record.router_error(error.to_owned());
    }
    // The next request can be read only after the rest of this request's body. The router does not wait for a long rest, and the
    // answer announces the close.
    keep_alive &= may_keep_alive(exchange);
    match answer {
        Answer::Own { body, close } => {
            keep_alive &= !close;
            let sent = send_own(exchange, &body, &mut keep_alive).await;
            record.sent = if exchange.request.is("HEAD") || exchange.response.status == 499 {
                0
            } else {
                body.len() as u64
            };
            finish(record, worker, client, context.host, &exchange.request);
            if sent {
                skip_rest_of_body(exchange, keep_alive).await
            } else {
                After::Abort
            }
        }
        Answer::Backend(mut delivery) => {
            let to = (exchange.request.version, exchange.request.is("HEAD"));
            let response = &mut exchange.response;
            exchange.client.send_response(response, to, &mut keep_alive);
            let relayed = exchange.relay(&mut delivery).await;
            record.received = delivery.upload.received;
            record.sent = delivery.sent;
            if let Some(reason) = relayed.reason() {
                record.broken(reason);
            }
            finish(record, worker, client, context.host, &exchange.request);
            after(exchange, delivery, relayed, keep_alive).await
        }
        Answer::Switch {
            delivery,
            websocket,
        } => switch(
            worker,
            client.to_owned(),
            exchange,
            delivery,
            (record, context.host),
            websocket,
        ),
    }
}

/// Returns whether the client's connection can carry another request after this one's answer.
fn may_keep_alive(exchange: &Exchange) -> bool {
    let asked_for_leave = exchange.request.fields.contains(Known::Expect);
    let most = if asked_for_leave { 0 } else { MOST_SKIPPED };
    exchange.client.body_is_within(most)
}

/// Sends the router's own body.
async fn send_own(exchange: &mut Exchange, body: &[u8], keep_alive: &mut bool) -> bool {
    if exchange.response.status == 499 {
        return false;
    }
    let to = (exchange.request.version, exchange.request.is("HEAD"));
    let response = &mut exchange.response;
    response
        .fields
        .set(Known::ContentLength, body.len().to_string().as_bytes());
    response.framing = match body.len() as u64 {
        0 => Framing::None,
        length => Framing::Length(length),
    };
    exchange.client.send_response(response, to, keep_alive);
    exchange.client.push(body);
    exchange.client.end_body();
    let settings = &exchange.worker.shared.settings;
    let deadline = Instant::now() + patience(settings.body_idle_timeout);
    let flushed = std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(flushed) = exchange.client.poll_flush(cx) {
            return std::task::Poll::Ready(flushed.is_ok());
        }
        exchange.timer.poll(cx, deadline).map(|()| false)
    });
    flushed.await
}

async fn after(
    exchange: &mut Exchange,
    delivery: Delivery,
    relayed: Relayed,
    keep_alive: bool,
) -> After {
    match relayed {
        Relayed::Whole if delivery.upload.done => {
            delivery.return_connection(&exchange.worker);
            if keep_alive {
                After::Next
            } else {
                After::Close
            }
        }
        // The backend has sent all of its answer without waiting for the end of the request.
        Relayed::Whole => {
            drop(delivery);
            skip_rest_of_body(exchange, keep_alive).await
        }
        Relayed::ClientGone | Relayed::BackendBroke | Relayed::TimedOut => {
            exchange.client.abort();
            After::Abort
        }
    }
}

/// Skips the rest of the request's body after the answer, because it precedes the next request.
async fn skip_rest_of_body(exchange: &mut Exchange, keep_alive: bool) -> After {
    if !keep_alive {
        return After::Close;
    }
    let Side::Http1(client) = &mut exchange.client else {
        return After::Next;
    };
    if client.body_ended() {
        client.forget_mark();
        return After::Next;
    }
    // The client asked for `100 Continue` and did not get it, so it may send its body or not.
    if exchange.request.fields.contains(Known::Expect) {
        return After::Close;
    }
    match timeout(SKIP, client.skip_body(MOST_SKIPPED)).await {
        Ok(true) => After::Next,
        _ => After::Close,
    }
}

fn switch(
    worker: &Arc<Worker>,
    client: String,
    exchange: &mut Exchange,
    delivery: Delivery,
    (record, host): (Record, http1::Span),
    websocket: bool,
) -> After {
    let Exchange {
        client: side,
        request,
        response,
        ..
    } = exchange;
    match side {
        Side::Http1(side) => side.send_informational(response),
        Side::Http2(_) => {
            // HTTP/2 uses 200 for this, and it has no connection to switch.
            response.status = 200;
            response.framing = Framing::UntilClose;
            response.fields.remove(Known::SecWebSocketAccept);
            side.send_response(response, (request.version, false), &mut true);
        }
    }
    side.become_tunnel();
    let mut backend = delivery.backend;
    backend.become_tunnel();
    let request: Request = std::mem::take(request);
    After::Tunnel(Box::new(Tunnel::new(
        worker.clone(),
        backend,
        delivery.in_flight,
        crate::path::tunnel::Closing {
            record,
            host,
            client,
            request,
        },
        websocket,
    )))
}
