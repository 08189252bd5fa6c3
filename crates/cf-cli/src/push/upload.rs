//! Turns a folder into a package that is ready: files that the platform already has are left out, the rest is packed and sent.

use super::files::{self, Entry, Kind};
use super::{archive, is_animated, new_package};
use crate::api::error::{ApiError, Unreachable};
use crate::api::poll_delay;
use crate::api::types::{App, Checksum, Package, Resource};
use crate::session::Session;
use crate::units::kibibytes;
use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use reqwest::multipart::{Form, Part};
use serde_json::json;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;

/// The size in bytes from which the platform keeps files.
const SMALLEST_KNOWN: u64 = 64 * 1024;
const RESOURCES_PER_CALL: usize = 1000;
const ATTEMPTS: u32 = 3;
/// How long to wait for the response to a request without its bits.
const REFUSAL_WAIT: Duration = Duration::from_secs(3);

/// The data to send: a file that is removed afterwards, or the user's own archive.
enum Bits {
    Packed(tempfile::NamedTempFile),
    Archive(PathBuf),
}

impl Bits {
    fn path(&self) -> &Path {
        match self {
            Self::Packed(file) => file.path(),
            Self::Archive(path) => path,
        }
    }
}

/// Uploads `path` (a folder or a zip file) as a new package of the app. Returns the package when it is ready.
pub(super) async fn package(session: &Session, app: &App, path: &Path) -> Result<Package> {
    let ui = &session.ui;
    ui.line("Packaging files to upload...");
    let (bits, known) = bits(session, path).await?;
    let created = new_package(session, app).await?;
    match &bits {
        None => ui.line("All files found in remote cache; nothing to upload."),
        Some(_) => ui.line("Uploading files..."),
    }
    let mut package = upload(session, &created.guid, bits.as_ref(), &known).await?;
    ui.blank();
    ui.line("Waiting for API to complete processing files...");
    let begun = Instant::now();
    loop {
        match package.state.as_str() {
            "READY" => return Ok(package),
            "FAILED" => bail!(
                "Package processing of app '{}' failed: {}",
                app.name,
                package
                    .data
                    .error
                    .as_deref()
                    .unwrap_or("the platform reports no reason")
            ),
            "EXPIRED" => bail!(
                "The package of app '{}' expired before it was ready. Push again.",
                app.name
            ),
            _ => tokio::time::sleep(poll_delay(begun.elapsed())).await,
        }
        package = session
            .get(&format!("/v3/packages/{}", created.guid))
            .await?;
    }
}

/// Checks that a package can be made from `path`: a folder with files, or a zip file.
pub(super) fn check(path: &Path) -> Result<()> {
    if path.is_dir() {
        return files::collect(path).map(drop);
    }
    ensure!(
        path.is_file(),
        "The app path '{}' does not exist.",
        path.display()
    );
    let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    zip::ZipArchive::new(file)
        .map(drop)
        .with_context(|| format!("'{}' is neither a folder nor a zip file", path.display()))
}

/// Returns the archive to send (`None` if the platform has all files) and the files that the platform has.
async fn bits(session: &Session, path: &Path) -> Result<(Option<Bits>, Vec<Resource>)> {
    if path.is_file() {
        return Ok((Some(Bits::Archive(path.to_owned())), vec![]));
    }
    let root = path.to_owned();
    let (entries, resources) = tokio::task::spawn_blocking(move || {
        let entries = files::collect(&root)?;
        let resources = entries
            .iter()
            .filter_map(resource)
            .collect::<Result<Vec<_>>>()?;
        anyhow::Ok((entries, resources))
    })
    .await??;
    let known = known(session, &resources).await?;
    let known_paths: HashSet<String> = known.iter().map(|r| r.path.clone()).collect();
    if entries
        .iter()
        .filter(|e| e.kind != Kind::Folder)
        .all(|e| known_paths.contains(&e.path))
    {
        return Ok((None, known));
    }
    let packed = tokio::task::spawn_blocking(move || {
        archive::pack(&entries, |e| !known_paths.contains(&e.path))
    })
    .await??;
    Ok((Some(Bits::Packed(packed)), known))
}

/// Returns the description of a file that the platform may keep; `None` for others.
fn resource(entry: &Entry) -> Option<Result<Resource>> {
    match entry.kind {
        Kind::File { size } if size >= SMALLEST_KNOWN => {
            Some(files::sha1(&entry.source).map(|value| Resource {
                path: entry.path.clone(),
                mode: format!("{:04o}", entry.mode),
                checksum: Checksum { value },
                size_in_bytes: size,
            }))
        }
        _ => None,
    }
}

/// Returns which of the files the platform already has. The push does not depend on this call.
async fn known(session: &Session, resources: &[Resource]) -> Result<Vec<Resource>> {
    #[derive(serde::Deserialize)]
    struct Matches {
        resources: Vec<Resource>,
    }
    let mut known = Vec::new();
    for chunk in resources.chunks(RESOURCES_PER_CALL) {
        match session
            .post::<Matches>("/v3/resource_matches", &json!({"resources": chunk}))
            .await
        {
            // Only entries that equal requested ones are used.
            Ok(matches) => {
                known.extend(matches.resources.into_iter().filter(|m| chunk.contains(m)))
            }
            Err(error)
                if error
                    .downcast_ref::<ApiError>()
                    .is_some_and(|e| e.status >= 500 || e.status == 404) =>
            {
                return Ok(vec![]);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(known)
}

/// Sends the bits. A broken connection is retried.
async fn upload(
    session: &Session,
    package_guid: &str,
    bits: Option<&Bits>,
    known: &[Resource],
) -> Result<Package> {
    let mut attempt = 1;
    loop {
        let done = upload_once(session, package_guid, bits, known).await;
        let is_broken = |error: &anyhow::Error| {
            error
                .downcast_ref::<Unreachable>()
                .is_some_and(Unreachable::may_pass)
        };
        if let (Err(error), Some(bits)) = (&done, bits)
            && is_broken(error)
            && let Some(refusal) = refusal(session, package_guid, bits).await
        {
            return Err(refusal);
        }
        match done {
            Err(error) if attempt < ATTEMPTS && is_broken(&error) => {
                session
                    .ui
                    .warn(format!("{error}\nRetrying upload due to an error..."));
                attempt += 1;
            }
            done => return done,
        }
    }
}

/// Returns the reason why the API refuses the bits. A server that refuses closes the connection while the bits are still being
/// sent, and its response is lost. So the same request is sent again up to the point where the bits begin, and the response is
/// awaited.
async fn refusal(session: &Session, package_guid: &str, bits: &Bits) -> Option<anyhow::Error> {
    let url = upload_url(session, package_guid);
    let size = std::fs::metadata(bits.path()).ok()?.len();
    let nothing = reqwest::Body::wrap_stream(futures::stream::pending::<std::io::Result<Bytes>>());
    let part = Part::stream_with_length(nothing, size).file_name("package.zip");
    let request = session
        .http()
        .ok()?
        .post(&url)
        .header("authorization", session.fresh_token(false).await.ok()?)
        .header("accept", "application/json")
        .multipart(Form::new().part("bits", part))
        .send();
    let answer = tokio::time::timeout(REFUSAL_WAIT, request).await.ok()?;
    let response = session.received(&url, answer).await.ok()?;
    (!response.is_success()).then(|| ApiError::of(&reqwest::Method::POST, &url, &response).into())
}

fn upload_url(session: &Session, package_guid: &str) -> String {
    format!(
        "{}/v3/packages/{package_guid}/upload",
        session.config().target
    )
}

async fn upload_once(
    session: &Session,
    package_guid: &str,
    bits: Option<&Bits>,
    known: &[Resource],
) -> Result<Package> {
    let url = upload_url(session, package_guid);
    let mut form = Form::new().text("resources", serde_json::to_string(known)?);
    let sent = Arc::new(AtomicU64::new(0));
    let mut size = 0;
    if let Some(bits) = bits {
        let file = tokio::fs::File::open(bits.path())
            .await
            .with_context(|| format!("open {}", bits.path().display()))?;
        size = file.metadata().await?.len();
        let part = Part::stream_with_length(
            reqwest::Body::wrap_stream(counted(file, sent.clone())),
            size,
        );
        form = form.part(
            "bits",
            part.file_name("package.zip").mime_str("application/zip")?,
        );
    }
    let token = session.fresh_token(false).await?;
    session
        .trace
        .request("POST", &url, &reqwest::header::HeaderMap::new(), None);
    let request = session
        .http()?
        .post(&url)
        .header("authorization", token)
        .header("accept", "application/json")
        .multipart(form)
        .send();
    let answer = with_progress(session, &sent, size, request).await;
    let response = session.received(&url, answer).await?;
    if !response.is_success() {
        return Err(ApiError::of(&reqwest::Method::POST, &url, &response).into());
    }
    response.json(&url)
}

fn counted(
    file: tokio::fs::File,
    sent: Arc<AtomicU64>,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> {
    futures::stream::try_unfold((file, sent), |(mut file, sent)| async move {
        let mut chunk = vec![0; 128 * 1024];
        let n = file.read(&mut chunk).await?;
        chunk.truncate(n);
        sent.fetch_add(n as u64, Ordering::Relaxed);
        Ok((n > 0).then(|| (Bytes::from(chunk), (file, sent))))
    })
}

/// Draws the bar while the request runs. Without a terminal it is drawn only once, when everything is sent.
async fn with_progress<T>(
    session: &Session,
    sent: &AtomicU64,
    size: u64,
    request: impl Future<Output = T>,
) -> T {
    tokio::pin!(request);
    let (ui, mut tick) = (
        &session.ui,
        tokio::time::interval(Duration::from_millis(100)),
    );
    let animated = is_animated(ui) && size > 0;
    let answer = loop {
        tokio::select! {
            answer = &mut request => break answer,
            _ = tick.tick() => if animated {
                ui.raw(format!("\r{}", bar(sent.load(Ordering::Relaxed), size)).as_bytes());
            }
        }
    };
    if size > 0 {
        let line = bar(sent.load(Ordering::Relaxed).min(size), size);
        ui.line(if animated { format!("\r{line}") } else { line });
    }
    answer
}

fn bar(sent: u64, size: u64) -> String {
    const WIDTH: u64 = 40;
    let sent = sent.min(size);
    let filled = (sent * WIDTH).checked_div(size).unwrap_or(WIDTH) as usize;
    let percent = if size == 0 {
        100.0
    } else {
        sent as f64 * 100.0 / size as f64
    };
    format!(
        " {} / {} [{}{}] {percent:.2}%",
        kibibytes(sent),
        kibibytes(size),
        "=".repeat(filled),
        "-".repeat(WIDTH as usize - filled)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills() {
        assert_eq!(
            bar(0, 2048),
            format!(" 0 B / 2.00 KiB [{}] 0.00%", "-".repeat(40))
        );
        assert_eq!(
            bar(2048, 2048),
            format!(" 2.00 KiB / 2.00 KiB [{}] 100.00%", "=".repeat(40))
        );
        assert!(bar(1024, 2048).ends_with("] 50.00%"));
    }
}
