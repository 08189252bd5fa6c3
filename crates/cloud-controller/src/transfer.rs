//! The transfer of bits into the blob store and out of it, for the API and for the internal listener.

use crate::bits::store::{Kind, Upload};
use crate::controller::Cc;
use crate::error::{ApiError, ApiResult};
use axum::body::Body as HttpBody;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http::header;
use std::io::Write as _;

/// A sink that writes an upload's chunks to the blob store from a blocking thread.
pub(crate) struct Sink {
    chunks: tokio::sync::mpsc::Sender<Bytes>,
    writer: tokio::task::JoinHandle<anyhow::Result<Upload>>,
    size: u64,
    limit: u64,
}

impl Sink {
    pub(crate) fn new(cc: &Cc) -> ApiResult<Self> {
        let mut upload = cc.blobs.begin()?;
        let (chunks, mut incoming) = tokio::sync::mpsc::channel::<Bytes>(16);
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = incoming.blocking_recv() {
                upload.write_all(&chunk)?;
            }
            Ok(upload)
        });
        Ok(Self {
            chunks,
            writer,
            size: 0,
            limit: cc.settings.max_package_bytes,
        })
    }

    pub(crate) async fn push(&mut self, chunk: Bytes) -> ApiResult<()> {
        self.size += chunk.len() as u64;
        if self.size > self.limit {
            return Err(ApiError::new(
                413,
                10008,
                "UnprocessableEntity",
                format!(
                    "The upload is larger than the limit of {} bytes",
                    self.limit
                ),
            ));
        }
        // A closed channel means that writing failed; `finish` returns the reason.
        let _ = self.chunks.send(chunk).await;
        Ok(())
    }

    pub(crate) async fn finish(self) -> ApiResult<Upload> {
        drop(self.chunks);
        Ok(self.writer.await.map_err(anyhow::Error::from)??)
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> ApiResult<T> {
    Ok(tokio::task::spawn_blocking(work)
        .await
        .map_err(anyhow::Error::from)?)
}

/// Sends a blob as the response's body, in chunks. A row without bits names no blob.
pub(crate) async fn send_blob(cc: &Cc, kind: Kind, name: Option<String>, noun: &str) -> ApiResult {
    let missing = || ApiError::not_found(noun);
    let name = name.ok_or_else(missing)?;
    let store = cc.blobs.clone();
    let blob = blocking(move || store.read(kind, &name))
        .await??
        .ok_or_else(missing)?;
    let length = blob.length;
    let kind = if kind == Kind::Package {
        "application/zip"
    } else {
        "application/gzip"
    };
    Ok((
        [
            (header::CONTENT_TYPE, kind.to_owned()),
            (header::CONTENT_LENGTH, length.to_string()),
        ],
        HttpBody::from_stream(blob.into_stream()),
    )
        .into_response())
}
