//! A load balancer's probe, recognised by its `User-Agent`: any host, any path (as gorouter `handlers/proxy_healthcheck.go`).

use crate::path::answer::Answer;
use crate::path::exchange::Exchange;
use crate::worker::Shared;
use http1::Known;
use std::sync::atomic::Ordering;

pub(crate) fn answer(shared: &Shared, exchange: &mut Exchange) -> Option<Answer> {
    let agent = exchange.request.fields.get(Known::UserAgent);
    if agent.unwrap_or_default() != shared.settings.healthcheck_user_agent.as_bytes() {
        return None;
    }
    let (status, reason, body) = if shared.healthy.load(Ordering::Relaxed) {
        (200, "OK", &b"ok\n"[..])
    } else {
        (503, "Service Unavailable", &b""[..])
    };
    exchange.response.begin(status, reason);
    let fields = &mut exchange.response.fields;
    fields.append(Known::CacheControl, b"private, max-age=0");
    fields.append(Known::Expires, b"0");
    fields.append(Known::ContentType, b"text/plain; charset=utf-8");
    Some(Answer::Own {
        body: body.to_vec(),
        close: true,
    })
}
