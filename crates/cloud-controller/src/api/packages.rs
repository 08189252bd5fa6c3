//! `/v3/packages`, uploading their bits, and `resource_matches`.

use super::organizations::merge_metadata;
use super::prelude::*;
use crate::actions::{audit, job};
use crate::bits::package::{self as check, PackageError};
use crate::bits::store::{Blob, Kind, Upload};
use crate::db::package::Package;
use axum::body::Body as HttpBody;
use axum::extract::{DefaultBodyLimit, Multipart};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http::header;
use std::io::Write as _;

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/packages", get(list).post(create))
        .route(
            "/v3/packages/{guid}",
            get(show).patch(update).delete(remove),
        )
        .route(
            "/v3/packages/{guid}/upload",
            post(upload).layer(DefaultBodyLimit::disable()),
        )
        .route("/v3/packages/{guid}/download", get(download))
        .route("/v3/apps/{guid}/packages", get(of_app))
        .route("/v3/resource_matches", post(resource_matches))
}

fn present(cc: &Cc, package: &Package) -> Value {
    let path = format!("/v3/packages/{}", package.guid);
    let mut links = cc.links(&path, &[("app", format!("/v3/apps/{}", package.app_guid))]);
    links.insert("upload".to_owned(), cc.post_link(&format!("{path}/upload")));
    links.insert(
        "download".to_owned(),
        json!({ "href": cc.url(&format!("{path}/download")), "method": "GET" }),
    );
    resource(
        &package.guid,
        package.created_at,
        package.updated_at,
        json!({
            "type": package.r#type,
            "data": { "error": package.error, "checksum": { "type": "sha256", "value": package.checksum } },
            "state": package.state,
            "relationships": { "app": to_one(Some(&package.app_guid)) },
            "metadata": package.metadata.0.present(),
            "links": links,
        }),
    )
}

async fn page(cc: &Cc, uri: &Uri, select: Select) -> ApiResult {
    let query = Query::list(
        uri,
        &[
            "types",
            "states",
            "app_guids",
            "space_guids",
            "organization_guids",
        ],
    )?;
    let mut conn = cc.db.read().await?;
    let mut select = select;
    for (name, column) in [
        ("types", "type"),
        ("states", "state"),
        ("app_guids", "app_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    select = of_places(&query, select);
    let found = query.fetch::<Package>(&mut conn, select).await?;
    Ok(ok(cc.page(
        &query,
        found.total,
        found.rows.iter().map(|row| present(cc, row)).collect(),
    )))
}

/// `space_guids` and `organization_guids` of anything that belongs to an app.
pub(super) fn of_places(query: &Query, select: Select) -> Select {
    let select = query.filter_by(
        select,
        "space_guids",
        "app_guid IN (SELECT guid FROM apps WHERE space_guid IN (?))",
    );
    let in_organizations = "app_guid IN (SELECT a.guid FROM apps a JOIN spaces s ON s.guid = a.space_guid WHERE s.organization_guid IN (?))";
    query.filter_by(select, "organization_guids", in_organizations)
}

async fn list(State(cc): State<Cc>, who: Principal, uri: Uri) -> ApiResult {
    page(&cc, &uri, who.sees_apps(Select::new(), "app_guid")).await
}

async fn of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    lookup::app(&mut *cc.db.read().await?, &who, &guid).await?;
    page(&cc, &uri, Select::new().is("app_guid", guid)).await
}

async fn find(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
) -> ApiResult<(Package, crate::auth::Access)> {
    let package: Package = lookup::row(conn, guid, "Package").await?;
    let (_, _, access) = lookup::of_app(conn, who, &package.app_guid, "Package").await?;
    Ok((package, access))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    Ok(ok(present(&cc, &find(&mut conn, &who, &guid).await?.0)))
}

async fn create(State(cc): State<Cc>, who: Principal, uri: Uri, body: Body) -> ApiResult {
    let query = Query::only(&uri, &["source_guid"])?;
    let source = query.value("source_guid").map(str::to_owned);
    let mut body = body.allow(&["type", "relationships", "data", "metadata"]);
    let mut package = Package {
        app_guid: body.required_relationship("app"),
        state: "AWAITING_UPLOAD".to_owned(),
        ..Package::fresh()
    };
    package.r#type = if source.is_some() {
        "bits".to_owned()
    } else {
        body.required_string("type")
    };
    match package.r#type.as_str() {
        "bits" => {}
        "docker" => body.problem("Docker packages are not supported yet; push the app's files"),
        _ => body.problem("Type must be one of 'bits, docker'"),
    }
    merge_metadata(&body, &mut package.metadata)?;
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let invalid =
        |_| ApiError::unprocessable("App is invalid. Ensure it exists and you have access to it.");
    let (app, space, access) = lookup::app(&mut tx, &who, &package.app_guid)
        .await
        .map_err(invalid)?;
    allow(access.develops())?;
    if let Some(source) = &source {
        let (from, _) = find(&mut tx, &who, source).await?;
        let (store, to) = (cc.blobs.clone(), package.guid.clone());
        let blob = blocking(move || store.copy(Kind::Package, &from.guid, &to)).await??;
        ready(&mut package, blob);
    }
    db::insert(&mut tx, &package).await?;
    let data = json!({ "package_guid": package.guid, "request": { "type": package.r#type } });
    audit::record(
        &mut tx,
        &who,
        "audit.app.package.create",
        (&app.guid, "app", &app.name),
        Some(&space),
        data,
    )
    .await?;
    tx.commit().await?;
    Ok(created(present(&cc, &package)))
}

fn ready(package: &mut Package, blob: Blob) {
    "READY".clone_into(&mut package.state);
    package.checksum = Some(blob.sha256);
    package.error = None;
    package.touch();
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let body = body.allow(&["metadata"]);
    let mut tx = cc.db.write().await?;
    let (mut package, access) = find(&mut tx, &who, &guid).await?;
    allow(access.develops())?;
    merge_metadata(&body, &mut package.metadata)?;
    body.finish()?;
    package.touch();
    db::update(&mut tx, &package).await?;
    tx.commit().await?;
    Ok(ok(present(&cc, &package)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.db.write().await?;
    let (package, access) = find(&mut tx, &who, &guid).await?;
    allow(access.develops())?;
    db::delete::<Package>(&mut tx, &package.guid).await?;
    let job = job::complete(&mut tx, "package.delete", ("packages", &guid)).await?;
    tx.commit().await?;
    delete_blobs(&cc, vec![guid], Vec::new());
    Ok(cc.accepted(&job))
}

/// In the background; what is left behind after a failure is only space.
pub(super) fn delete_blobs(cc: &Cc, packages: Vec<String>, droplets: Vec<String>) {
    let store = cc.blobs.clone();
    tokio::task::spawn_blocking(move || {
        let all = packages
            .iter()
            .map(|guid| (Kind::Package, guid))
            .chain(droplets.iter().map(|guid| (Kind::Droplet, guid)));
        for (kind, guid) in all {
            if let Err(error) = store.delete(kind, guid) {
                tracing::warn!(error = format!("{error:#}"), "blob-not-deleted");
            }
        }
    });
}

async fn upload(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut form: Multipart,
) -> ApiResult {
    {
        let mut conn = cc.db.read().await?;
        let (package, access) = find(&mut conn, &who, &guid).await?;
        allow(access.develops())?;
        // A client that tries again must hear the reason again.
        if let ("FAILED", Some(reason)) = (package.state.as_str(), &package.error) {
            return Err(invalid_bits(reason.clone()));
        }
        if package.state != "AWAITING_UPLOAD" {
            return Err(ApiError::new(
                400,
                150_004,
                "PackageBitsAlreadyUploaded",
                "Bits have already been uploaded for this package: create a new package",
            ));
        }
        if !who.is_admin() {
            super::platform::must_be_on(&mut conn, "app_bits_upload").await?;
        }
    }
    let broken = |error: axum::extract::multipart::MultipartError| {
        ApiError::bad_request(format!(
            "The upload is not a complete multipart form: {error}"
        ))
    };
    let mut received = None;
    while let Some(mut field) = form.next_field().await.map_err(broken)? {
        if field.name() != Some("bits") {
            continue;
        }
        let mut sink = Sink::new(&cc)?;
        while let Some(chunk) = field.chunk().await.map_err(broken)? {
            sink.push(chunk).await?;
        }
        received = Some(sink.finish().await?);
    }
    let Some(upload) = received else {
        return Err(ApiError::unprocessable(
            "Upload must include either resources or bits: send the app's files as a zip in the form field 'bits'",
        ));
    };
    let target = guid.clone();
    let checked = blocking(move || accept(upload, &target)).await?;
    let mut tx = cc.db.write().await?;
    let (mut package, _) = find(&mut tx, &who, &guid).await?;
    let refusal = match checked {
        Ok(blob) => {
            ready(&mut package, blob);
            None
        }
        Err(Refused::Package(problem)) => {
            let detail = format!("The app upload is invalid: {problem}");
            "FAILED".clone_into(&mut package.state);
            package.error = Some(detail.clone());
            package.touch();
            Some(invalid_bits(detail))
        }
        Err(Refused::Storage(error)) => return Err(error.into()),
    };
    db::update(&mut tx, &package).await?;
    let app: db::app::App = lookup::row(&mut tx, &package.app_guid, "App").await?;
    let data = json!({ "package_guid": guid });
    audit::record(
        &mut tx,
        &who,
        "audit.app.package.upload",
        (&app.guid, "app", &app.name),
        None,
        data,
    )
    .await?;
    tx.commit().await?;
    match refusal {
        Some(error) => Err(error),
        None => Ok(ok(present(&cc, &package))),
    }
}

fn invalid_bits(detail: String) -> ApiError {
    ApiError::new(400, 160_001, "AppBitsUploadInvalid", detail)
}

enum Refused {
    Package(PackageError),
    Storage(anyhow::Error),
}

fn accept(upload: Upload, guid: &str) -> Result<Blob, Refused> {
    let file =
        std::fs::File::open(upload.path()).map_err(|error| Refused::Storage(error.into()))?;
    check::check(file, &check::Limits::default()).map_err(Refused::Package)?;
    upload.commit(Kind::Package, guid).map_err(Refused::Storage)
}

/// Writes an upload's chunks to the blob store from a blocking thread.
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
        // A closed channel means that writing failed; `finish` says why.
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

async fn download(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    {
        let mut conn = cc.db.read().await?;
        let (_, access) = find(&mut conn, &who, &guid).await?;
        allow(access.develops())?;
    }
    send_blob(&cc, Kind::Package, &guid, "Package").await
}

/// The file as the answer's body, in chunks.
pub(crate) async fn send_blob(cc: &Cc, kind: Kind, guid: &str, noun: &str) -> ApiResult {
    let file = cc
        .blobs
        .read(kind, guid)?
        .ok_or_else(|| ApiError::not_found(noun))?;
    let length = file.metadata().map_err(anyhow::Error::from)?.len();
    let stream =
        tokio_util::io::ReaderStream::with_capacity(tokio::fs::File::from_std(file), 256 * 1024);
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
        HttpBody::from_stream(stream),
    )
        .into_response())
}

/// Nothing is kept between pushes, so nothing matches; clients then upload everything.
async fn resource_matches(_who: Principal, body: Body) -> ApiResult {
    let mut body = body.allow(&["resources"]);
    if !body.value("resources").is_some_and(Value::is_array) {
        body.problem("Resources must be an array");
    }
    body.finish()?;
    Ok(created(json!({ "resources": [] })))
}
