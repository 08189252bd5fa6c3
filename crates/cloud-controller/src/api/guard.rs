//! The checks of every request before its handler: its path, query and body must be within limits.

use crate::controller::Cc;
use crate::error::{ApiError, ApiResult};
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use cc_rules::limits::Limits;
use futures::StreamExt as _;
use http::Uri;

/// Refuses a path or a query beyond the limits, before anything else is done for the request.
pub(super) fn check(limits: &Limits, uri: &Uri) -> ApiResult<()> {
    if uri.path().contains("%00") {
        let detail = "The request's path must not contain a NUL character";
        return Err(ApiError::bad_request(detail));
    }
    limits
        .check_query(uri.query().unwrap_or_default())
        .map_err(ApiError::bad_query)
}

/// The number of bytes of a too large body that are read before the refusal, so that its sender can read the response.
const DRAINED: usize = 64 << 20;

/// Reads the whole body, or refuses it with 413 when it is larger than `limit` bytes.
pub(super) async fn read_body(body: Body, limit: u32) -> ApiResult<Bytes> {
    let mut stream = body.into_data_stream();
    let (mut bytes, mut size) = (Vec::new(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| ApiError::message_parse())?;
        size += chunk.len();
        if size <= limit as usize {
            bytes.extend_from_slice(&chunk);
        } else if size > DRAINED {
            break;
        }
    }
    if size > limit as usize {
        return Err(ApiError::too_large(format!(
            "The request's body is larger than the limit of {limit} bytes"
        )));
    }
    Ok(bytes.into())
}

/// The text of a manifest as it was sent.
#[derive(Debug)]
pub(super) struct Yaml(pub(super) Bytes);

impl FromRequest<Cc> for Yaml {
    type Rejection = ApiError;
    async fn from_request(request: Request, cc: &Cc) -> Result<Self, ApiError> {
        read_body(request.into_body(), cc.settings.limits.manifest_bytes)
            .await
            .map(Self)
    }
}
