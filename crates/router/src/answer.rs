//! The last step: the answer goes to the client, to its end, whatever the end is, and the access log tells it.

use crate::context::RequestContext;
use crate::exchange::{Delivery, Exchange, Relayed};
use crate::observe::access_log::Entry;
use crate::protocol::patience;
use crate::router::Worker;
use crate::side::Side;
use crate::tunnel::Tunnel;
use http1::{Framing, Known, Request};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// What the client gets; its head is the exchange's response.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A few words of the router's own. Nothing for a client that has gone.
    Own { body: Vec<u8>, close: bool },
    /// A backend's.
    Backend(Delivery),
    /// A backend's 101, after which client and backend talk to each other.
    Switch { delivery: Delivery, websocket: bool },
}

/// What the client's connection is good for afterwards.
#[derive(Debug)]
pub(crate) enum After {
    /// Another request.
    Next,
    /// Nothing; the client may still be sending.
    Close,
    /// Nothing, and nobody is there, or nobody may believe that what was sent is whole.
    Abort,
    Tunnel(Box<Tunnel>),
}

/// How long a client may take to end a body that nobody wants, and how large the rest of it may be.
const SKIP: Duration = Duration::from_secs(1);
const MOST_SKIPPED: u64 = 256 << 10;

pub(crate) async fn deliver(
    context: RequestContext<'_>,
    exchange: &mut Exchange,
    answer: Answer,
) -> After {
    let worker = context.worker;
    if !exchange.response.fields.contains(Known::Date) && exchange.response.status != 101 {
        let date = worker.date();
        exchange.response.fields.append(Known::Date, &date);
    }
    let mut keep_alive = exchange.request.keep_alive && !worker.drain.has_begun();
    let mut log = context.log;
    log.answered(exchange.response.status);
    if let Some(error) = exchange.response.fields.get_text(Known::XCfRouterError) {
        // The app's own word, if it is not ours.
        log.router_error(error.to_owned());
    }
    // What is left of the request's body is in the way of the next one: too much of it is not waited for, and the client
    // learns so with the answer.
    keep_alive &= may_go_on(exchange);
    match answer {
        Answer::Own { body, close } => {
            keep_alive &= !close;
            let sent = own(exchange, &body, &mut keep_alive).await;
            log.sent = if exchange.request.is("HEAD") || exchange.response.status == 499 {
                0
            } else {
                body.len() as u64
            };
            log.finish(worker, context.peer, context.host, &exchange.request);
            if sent {
                settle(exchange, keep_alive).await
            } else {
                After::Abort
            }
        }
        Answer::Backend(mut delivery) => {
            let to = (exchange.request.version, exchange.request.is("HEAD"));
            let response = &mut exchange.response;
            exchange.client.send_response(response, to, &mut keep_alive);
            let relayed = exchange.relay(&mut delivery).await;
            log.received = delivery.upload.received;
            log.sent = delivery.sent;
            log.finish(worker, context.peer, context.host, &exchange.request);
            after(exchange, delivery, relayed, keep_alive).await
        }
        Answer::Switch {
            delivery,
            websocket,
        } => switch(
            worker,
            context.peer.address.clone(),
            exchange,
            delivery,
            (log, context.host),
            websocket,
        ),
    }
}

/// Whether the client's connection can take another request after this one's answer.
fn may_go_on(exchange: &Exchange) -> bool {
    let asked_for_leave = exchange.request.fields.contains(Known::Expect);
    let most = if asked_for_leave { 0 } else { MOST_SKIPPED };
    exchange.client.body_is_within(most)
}

/// Sends the router's own words.
async fn own(exchange: &mut Exchange, body: &[u8], keep_alive: &mut bool) -> bool {
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
            delivery.give_back(&exchange.worker);
            if keep_alive {
                After::Next
            } else {
                After::Close
            }
        }
        // The backend has said all it had to say, and not waited for the end of the request.
        Relayed::Whole => {
            drop(delivery);
            settle(exchange, keep_alive).await
        }
        Relayed::ClientGone | Relayed::BackendBroke | Relayed::TimedOut => {
            exchange.client.abort();
            After::Abort
        }
    }
}

/// The answer is out. What is left of the request's body is in the way of the next one.
async fn settle(exchange: &mut Exchange, keep_alive: bool) -> After {
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
    // Who asked for leave to send a body has not got it, and may send it or not.
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
    (log, host): (Entry, http1::Span),
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
            // There the word for it is 200, and there is no connection to switch.
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
        crate::tunnel::Told {
            log,
            host,
            client,
            request,
        },
        websocket,
    )))
}
