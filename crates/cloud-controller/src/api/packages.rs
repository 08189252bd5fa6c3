//! `/v3/packages`, uploading their bits, and `resource_matches`.

use super::organizations::merge_metadata;
use super::prelude::*;
use crate::actions::{audit, job};
use crate::bits::package::{self as check, PackageError};
use crate::bits::store::{Blob, Kind, Upload};
use crate::db::app::App;
use crate::db::package::Package;
use crate::db::sight::Seen;
use crate::flags::Flag;
use axum::body::Body as HttpBody;
use axum::extract::Multipart;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http::header;
use std::io::Write as _;

const FILTERS: &[&str] = &[
    "types",
    "states",
    "app_guids",
    "space_guids",
    "organization_guids",
];

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/packages", list)
        .lists(FILTERS)
        .post("/v3/packages", create)
        .takes(&["source_guid"])
        .body(&[
            "type",
            "relationships.app.data.guid",
            "data.image",
            "data.username",
            "data.password",
            "metadata",
        ])
        .get("/v3/packages/{guid}", show)
        .patch("/v3/packages/{guid}", update)
        .body(&["metadata"])
        .delete("/v3/packages/{guid}", remove)
        .post("/v3/packages/{guid}/upload", upload)
        .upload()
        .get("/v3/packages/{guid}/download", download)
        .get("/v3/apps/{guid}/packages", of_app)
        .lists(FILTERS)
        .post("/v3/resource_matches", resource_matches)
        .body(&[
            "resources[].checksum.value",
            "resources[].size_in_bytes",
            "resources[].path",
            "resources[].mode",
        ])
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

async fn page(cc: &Cc, query: &Query, select: Scope<Package>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let mut select = select;
    for (name, column) in [
        ("types", "type"),
        ("states", "state"),
        ("app_guids", "app_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    select = of_places(query, select);
    let found = query.fetch(&mut conn, select).await?;
    Ok(ok(cc.page(
        query,
        found.total,
        found.rows.iter().map(|row| present(cc, row)).collect(),
    )))
}

/// `space_guids` and `organization_guids` of anything that belongs to an app.
pub(super) fn of_places<R: Seen>(query: &Query, select: Scope<R>) -> Scope<R> {
    let select = query.filter_by(
        select,
        "space_guids",
        "app_guid IN (SELECT guid FROM apps WHERE space_guid IN (?))",
    );
    let in_organizations = "app_guid IN (SELECT a.guid FROM apps a JOIN spaces s ON s.guid = a.space_guid WHERE s.organization_guid IN (?))";
    query.filter_by(select, "organization_guids", in_organizations)
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    page(&cc, &query, who.visible()).await
}

async fn of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    who.find::<App>(&mut *cc.db.read().await?, &guid, Right::Read)
        .await?;
    page(&cc, &query, who.visible().is("app_guid", guid)).await
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who.find::<Package>(&mut conn, &guid, Right::Read).await?;
    Ok(ok(present(&cc, &found.row)))
}

async fn create(State(cc): State<Cc>, who: Principal, query: Query, mut body: Body) -> ApiResult {
    let source = query.value("source_guid").map(str::to_owned);
    let mut package = Package {
        app_guid: body.required_relationship("app"),
        state: "AWAITING_UPLOAD".to_owned(),
        ..Package::fresh()
    };
    package.r#type = if source.is_some() && !body.has("type") {
        "bits".to_owned()
    } else {
        body.required_string("type")
    };
    match package.r#type.as_str() {
        "bits"
            if body
                .value("data")
                .and_then(Value::as_object)
                .is_some_and(|data| !data.is_empty()) =>
        {
            body.problem("Data must be empty if provided for bits packages");
        }
        "bits" => {}
        "docker" => body.problem("Docker packages are not supported yet; push the app's files"),
        _ => body.problem("Type must be one of 'bits, docker'"),
    }
    merge_metadata(&body, &mut package.metadata)?;
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let unseen = "App is invalid. Ensure it exists and you have access to it.";
    let found = who
        .named::<App>(&mut tx, &package.app_guid, Right::Develop, unseen)
        .await?;
    let (app, space) = (found.row, found.of.space);
    if let Some(source) = &source {
        let from = source_of_copy(&mut tx, &who, source, &app).await?;
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

/// A copy carries source code away, so that it needs the same right where it comes from.
async fn source_of_copy(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
    to: &App,
) -> ApiResult<Package> {
    let unseen = "Source package is invalid. Ensure it exists and you have access to it.";
    let from = who
        .named::<Package>(conn, guid, Right::Develop, unseen)
        .await?
        .row;
    if from.app_guid == to.guid {
        return Err(ApiError::unprocessable(
            "Source and destination app must not be the same.",
        ));
    }
    if from.state != "READY" {
        return Err(ApiError::unprocessable(format!(
            "Source package is not ready: its state is {}.",
            from.state
        )));
    }
    Ok(from)
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
    let change = body.metadata().cloned();
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let mut package = who
        .find::<Package>(&mut tx, &guid, Right::Develop)
        .await?
        .row;
    if let Some(change) = &change {
        package.metadata.0.merge(change)?;
    }
    package.touch();
    db::update(&mut tx, &package).await?;
    tx.commit().await?;
    Ok(ok(present(&cc, &package)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.db.write().await?;
    let package = who
        .find::<Package>(&mut tx, &guid, Right::Develop)
        .await?
        .row;
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
        Flag::AppBitsUpload.must_be_on(&mut conn, &who).await?;
        let package = who
            .find::<Package>(&mut conn, &guid, Right::Develop)
            .await?
            .row;
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
    let found = who.find::<Package>(&mut tx, &guid, Right::Develop).await?;
    let (mut package, app) = (found.row, found.of.app);
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
    let package = who
        .find::<Package>(&mut *cc.db.read().await?, &guid, Right::ReadSecrets)
        .await?
        .row;
    if package.state != "READY" {
        return Err(ApiError::unprocessable(
            "Package has no bits to download: its state is not READY.",
        ));
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
async fn resource_matches(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    Flag::AppBitsUpload
        .must_be_on(&mut *cc.db.read().await?, &who)
        .await?;
    if !body.value("resources").is_some_and(Value::is_array) {
        body.problem("Resources must be an array");
    }
    body.finish()?;
    Ok(created(json!({ "resources": [] })))
}
