//! Downloads to files and uploads from files, with the cell's identity. A transfer is retried if a retry can succeed.

use anyhow::{Context as _, Result, anyhow, bail};
use futures::StreamExt as _;
use kit::backoff::Backoff;
use sha2::Digest as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

const ATTEMPTS: u32 = 3;

#[derive(Clone, Debug)]
pub(crate) struct Transfers {
    http: reqwest::Client,
    temporary: PathBuf,
}

/// A file that is removed when this value is dropped.
#[derive(Debug)]
pub(crate) struct TempFile(PathBuf);

impl TempFile {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) file: TempFile,
    pub(crate) etag: Option<String>,
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

/// The expected hash of the content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checksum<'a> {
    pub(crate) algorithm: &'a str,
    pub(crate) value: &'a str,
}

impl Checksum<'_> {
    pub(crate) fn is_given(&self) -> bool {
        !self.value.is_empty()
    }
}

/// A failed try. `retry` is whether another try may succeed.
struct Failure {
    error: anyhow::Error,
    retry: bool,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            retry: true,
        }
    }
}

impl Transfers {
    pub(crate) fn new(
        identity: &kit::tls::Identity,
        limit: Duration,
        temporary: PathBuf,
    ) -> Result<Self> {
        let _ = std::fs::remove_dir_all(&temporary);
        std::fs::create_dir_all(&temporary)
            .with_context(|| format!("make directory {}", temporary.display()))?;
        Ok(Self {
            http: clients::http::client(identity, Some(limit))?,
            temporary,
        })
    }

    pub(crate) fn temp_file(&self) -> TempFile {
        TempFile(self.temporary.join(uuid::Uuid::new_v4().to_string()))
    }

    /// Downloads the content. Returns `None` if it was not modified since the content with `etag`.
    pub(crate) async fn fetch(
        &self,
        url: &str,
        checksum: &Checksum<'_>,
        etag: Option<&str>,
    ) -> Result<Option<Fetched>> {
        self.retried(|| self.fetch_once(url, checksum, etag))
            .await
            .with_context(|| format!("download {}", redact(url)))
    }

    async fn fetch_once(
        &self,
        url: &str,
        checksum: &Checksum<'_>,
        etag: Option<&str>,
    ) -> Result<Option<Fetched>, Failure> {
        let mut request = self.http.get(url);
        if let Some(etag) = etag {
            request = request.header("if-none-match", etag);
        }
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        if response.status() == reqwest::StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        check_status(&response)?;
        let etag = response
            .headers()
            .get("etag")
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        let file = self.temp_file();
        let mut out = tokio::fs::File::create(file.path())
            .await
            .context("create a temporary file")?;
        let (mut sha256, mut sha1, mut size) = (sha2::Sha256::new(), sha1::Sha1::new(), 0);
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(reqwest::Error::without_url)?;
            sha256.update(&chunk);
            if checksum.algorithm == "sha1" {
                sha1.update(&chunk);
            }
            size += chunk.len() as u64;
            out.write_all(&chunk)
                .await
                .context("write a temporary file")?;
        }
        out.flush().await.context("write a temporary file")?;
        let (sha256, sha1) = (hex::encode(sha256.finalize()), hex::encode(sha1.finalize()));
        if checksum.is_given() {
            let actual = match checksum.algorithm {
                "sha256" => &sha256,
                "sha1" => &sha1,
                other => {
                    return Err(Failure {
                        error: anyhow!(
                            "unsupported checksum algorithm {other:?}; expected sha1 or sha256"
                        ),
                        retry: false,
                    });
                }
            };
            if !actual.eq_ignore_ascii_case(checksum.value) {
                return Err(anyhow!(
                    "checksum mismatch: expected {} {}, got {actual}",
                    checksum.algorithm,
                    checksum.value
                )
                .into());
            }
        }
        Ok(Some(Fetched {
            file,
            etag,
            sha256,
            size,
        }))
    }

    /// Uploads the file as the body of a POST.
    pub(crate) async fn upload(&self, url: &str, file: &Path) -> Result<()> {
        self.retried(|| self.upload_once(url, file))
            .await
            .with_context(|| format!("upload to {}", redact(url)))
    }

    async fn upload_once(&self, url: &str, file: &Path) -> Result<(), Failure> {
        let file = tokio::fs::File::open(file)
            .await
            .context("open the file to upload")?;
        let length = file.metadata().await?.len();
        let body =
            reqwest::Body::wrap_stream(tokio_util::io::ReaderStream::with_capacity(file, 1 << 16));
        let request = self
            .http
            .post(url)
            .header("content-type", "application/octet-stream")
            .header("content-length", length)
            .body(body);
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        check_status(&response)
    }

    async fn retried<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        let mut backoff = Backoff::new(Duration::from_millis(300), Duration::from_secs(3));
        for left in (0..ATTEMPTS).rev() {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(failure) if left == 0 || !failure.retry => return Err(failure.error),
                Err(failure) => {
                    tracing::info!(error = format!("{:#}", failure.error), "transfer-retried");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
        bail!("no attempt was made")
    }
}

fn check_status(response: &reqwest::Response) -> Result<(), Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    Err(Failure {
        error: anyhow!("status {status}"),
        retry: status.is_server_error(),
    })
}

/// Returns the URL without user, password and query, because they may hold secrets.
fn redact(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            format!(
                "{scheme}://{}/{path}",
                authority.rsplit('@').next().unwrap_or_default()
            )
        }
        None => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_secrets() {
        assert_eq!(
            redact("https://u:p@host:1/a/b?token=x"),
            "https://host:1/a/b"
        );
    }
}
