//! A load balancer's probe, known by its `User-Agent`: any host, any path (as gorouter `handlers/proxy_healthcheck.go`).

use crate::body::ResponseBody;
use crate::router::Shared;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, EXPIRES, HeaderMap, HeaderValue, USER_AGENT,
};
use http::{Response, StatusCode};
use std::sync::atomic::Ordering;

pub(crate) fn answer(shared: &Shared, headers: &HeaderMap) -> Option<Response<ResponseBody>> {
    let agent = headers
        .get(USER_AGENT)
        .map_or(&b""[..], HeaderValue::as_bytes);
    if agent != shared.settings.healthcheck_user_agent.as_bytes() {
        return None;
    }
    let mut response = if shared.healthy.load(Ordering::Relaxed) {
        Response::new(ResponseBody::own("ok\n"))
    } else {
        let mut response = Response::new(ResponseBody::default());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    };
    let out = response.headers_mut();
    out.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("private, max-age=0"),
    );
    out.insert(EXPIRES, HeaderValue::from_static("0"));
    out.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    out.insert(CONNECTION, HeaderValue::from_static("close"));
    Some(response)
}
