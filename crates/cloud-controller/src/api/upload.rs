//! Reads the form of an upload.

use super::prelude::*;
use crate::bits::resources::Resource;
use crate::bits::store::Upload;
use crate::transfer::Sink;
use axum::extract::Multipart;
use axum::extract::multipart::Field;

/// The content of a form.
#[derive(Debug)]
pub(super) struct Received {
    pub bits: Option<Upload>,
    pub resources: Vec<Resource>,
}

/// Reads the form to its end. A field other than `bits` and `resources` is refused by name.
pub(super) async fn receive(cc: &Cc, mut form: Multipart) -> ApiResult<Received> {
    let mut received = Received {
        bits: None,
        resources: Vec::new(),
    };
    while let Some(mut field) = form.next_field().await.map_err(broken)? {
        match field.name() {
            Some("bits") if received.bits.is_none() => {
                let mut sink = Sink::new(cc)?;
                while let Some(chunk) = field.chunk().await.map_err(broken)? {
                    sink.push(chunk).await?;
                }
                received.bits = Some(sink.finish().await?);
            }
            Some("resources") => received.resources = resources(cc, &mut field).await?,
            other => {
                return Err(ApiError::unprocessable(format!(
                    "The form has an unknown or repeated field '{}'; send 'bits' once, and 'resources'",
                    other.unwrap_or_default()
                )));
            }
        }
    }
    Ok(received)
}

fn broken(error: axum::extract::multipart::MultipartError) -> ApiError {
    ApiError::bad_request(format!(
        "The upload is not a complete multipart form: {error}"
    ))
}

async fn resources(cc: &Cc, field: &mut Field<'_>) -> ApiResult<Vec<Resource>> {
    let most = cc.settings.limits.body_bytes;
    let mut text = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(broken)? {
        text.extend_from_slice(&chunk);
        if text.len() > most as usize {
            return Err(ApiError::too_large(format!(
                "The form field 'resources' is larger than the limit of {most} bytes"
            )));
        }
    }
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let list: Value = serde_json::from_slice(&text).map_err(|_| ApiError::message_parse())?;
    let Value::Array(list) = &list else {
        return Err(ApiError::unprocessable("Resources must be an array"));
    };
    list.iter()
        .map(Resource::read)
        .collect::<Result<_, _>>()
        .map_err(ApiError::unprocessable)
}
