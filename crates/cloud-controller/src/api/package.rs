//! The endpoints `/v3/packages`, uploads of their bits, and `resource_matches`.

use super::prelude::*;
use super::upload::receive;
use crate::actions::{audit, job};
use crate::bits::package::{self as check, PackageError};
use crate::bits::resources::{self, Kept, Resource};
use crate::bits::store::{Kind, Store, Stored, Upload};
use crate::db::app::App;
use crate::db::package::{Package, PackageState, PackageType};
use crate::flags::Flag;
use crate::transfer::{blocking, send_blob};
use axum::extract::Multipart;
use futures::StreamExt as _;
use std::collections::HashSet;

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
    select = query.of_places(select);
    let found = query.fetch(&mut conn, select).await?;
    Ok(ok(cc.page(
        query,
        found.page,
        found.rows.iter().map(|row| present(cc, row)).collect(),
    )))
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

/// Reads the type of a new package. A copy may leave it out.
fn package_type(body: &mut Body, is_copy: bool) -> PackageType {
    let name = if is_copy && !body.has("type") {
        PackageType::Bits.to_string()
    } else {
        body.required_string("type")
    };
    match name.parse::<PackageType>() {
        Ok(PackageType::Bits) => {
            let data = body.value("data").and_then(Value::as_object);
            if data.is_some_and(|data| !data.is_empty()) {
                body.problem("Data must be empty if provided for bits packages");
            }
        }
        Err(_) if name == "docker" => {
            body.problem("Docker packages are not supported yet; push the app's files");
        }
        Err(_) => body.problem("Type must be one of 'bits, docker'"),
    }
    PackageType::Bits
}

async fn create(State(cc): State<Cc>, who: Principal, query: Query, mut body: Body) -> ApiResult {
    let source = query.value("source_guid").map(str::to_owned);
    let mut bits = None;
    let mut package = Package {
        app_guid: body.required_relationship("app"),
        state: PackageState::AwaitingUpload,
        ..Package::fresh()
    };
    package.r#type = package_type(&mut body, source.is_some());
    body.merge_metadata(&mut package.metadata)?;
    body.finish()?;
    let mut tx = cc.change().await?;
    let unseen = "App is invalid. Ensure it exists and you have access to it.";
    let found = who
        .named::<App>(&mut tx, &package.app_guid, Right::Develop, unseen)
        .await?;
    let (app, space) = (found.row, found.of.space);
    let mut request = json!({ "type": package.r#type });
    if let Some(source) = &source {
        let from = source_of_copy(&mut tx, &who, source, &app).await?;
        package.state = PackageState::Copying;
        request = json!({ "source_package_guid": from.guid });
        bits = from.blob;
    }
    db::insert(&mut tx, &package).await?;
    let data = json!({ "package_guid": package.guid, "request": request });
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.package.create",
        (&app.guid, "app", &app.name),
        &space,
        data,
    )
    .await?;
    tx.commit(trail).await?;
    if source.is_some() {
        package = crate::actions::copy::bits(&cc, bits, &package).await?;
    }
    Ok(created(present(&cc, &package)))
}

/// Returns the source of a copy. A copy discloses source code, so that the caller needs the same right at its source.
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
    if from.state != PackageState::Ready {
        return Err(ApiError::unprocessable(format!(
            "Source package is not ready: its state is {}.",
            from.state
        )));
    }
    Ok(from)
}

fn ready(package: &mut Package, stored: &Stored) {
    package.state = PackageState::Ready;
    package.checksum = Some(stored.blob.sha256.clone());
    package.blob = Some(stored.name.clone());
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
    let mut tx = cc.change().await?;
    let mut package = who
        .find::<Package>(&mut tx, &guid, Right::Develop)
        .await?
        .row;
    if let Some(change) = &change {
        package.metadata.0.merge(&cc.settings.limits, change)?;
    }
    package.touch();
    db::update(&mut tx, &package).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present(&cc, &package)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = who.find::<Package>(&mut tx, &guid, Right::Develop).await?;
    db::delete::<Package>(&mut tx, &guid).await?;
    let job = job::complete(&mut tx, "package.delete", ("packages", &guid)).await?;
    let (kind, data) = ("audit.app.package.delete", json!({ "package_guid": guid }));
    let trail = audit::of_app(&mut tx, &who, kind, &found.of.app, data).await?;
    tx.clean_up();
    tx.commit(trail).await?;
    Ok(cc.accepted(&job))
}

async fn upload(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    form: Multipart,
) -> ApiResult {
    {
        let mut conn = cc.db.read().await?;
        Flag::AppBitsUpload.must_be_on(&mut conn, &who).await?;
        let package = who
            .find::<Package>(&mut conn, &guid, Right::Develop)
            .await?
            .row;
        must_await_upload(&package)?;
    }
    let received = receive(&cc, form).await?;
    if received.bits.is_none() && received.resources.is_empty() {
        return Err(ApiError::unprocessable(
            "Upload must include either resources or bits: send the app's files as a zip in the form field 'bits'",
        ));
    }
    let resources = resolve(&mut *cc.db.read().await?, &who, received.resources).await?;
    let (store, target) = (cc.blobs.clone(), guid.clone());
    let checked = blocking(move || accept(&store, &target, received.bits, &resources)).await?;
    let mut tx = cc.change().await?;
    let found = who.find::<Package>(&mut tx, &guid, Right::Develop).await?;
    let (mut package, app) = (found.row, found.of.app);
    // Several uploads may have got to this point; the first one is accepted, and its bits are the package's.
    must_await_upload(&package)?;
    let (stored, refusal) = match checked {
        Ok(accepted) => {
            ready(&mut package, &accepted.stored);
            db::resource::keep(&mut tx, &app.space_guid, &accepted.kept).await?;
            (Some(accepted.stored), None)
        }
        Err(Refused::Package(problem)) => {
            let detail = format!("The app upload is invalid: {problem}");
            package.state = PackageState::Failed;
            package.error = Some(detail.clone());
            package.touch();
            (None, Some(invalid_bits(detail)))
        }
        Err(Refused::Resource(problem)) => return Err(ApiError::unprocessable(problem)),
        Err(Refused::Storage(error)) => return Err(error.into()),
    };
    db::update(&mut tx, &package).await?;
    let data = json!({ "package_guid": guid });
    let kind = "audit.app.package.upload";
    audit::also(audit::of_app(&mut tx, &who, kind, &app, data.clone()).await?);
    let trail = audit::of_app(&mut tx, &who, "audit.app.upload-bits", &app, data).await?;
    let most = u64::from(cc.settings.limits.resource_pool_mb) << 20;
    let forgotten = db::resource::remove_surplus(&mut tx, most).await?;
    if let Some(stored) = stored {
        stored.keep();
    }
    tx.commit(trail).await?;
    cc.blobs.delete_later(Kind::Resource, forgotten);
    match refusal {
        Some(error) => Err(error),
        None => Ok(ok(present(&cc, &package))),
    }
}

/// Refuses further bits if the package does not await its upload.
fn must_await_upload(package: &Package) -> ApiResult<()> {
    match (package.state, &package.error) {
        (PackageState::AwaitingUpload, _) => Ok(()),
        // A client that retries must get the reason again.
        (PackageState::Failed, Some(reason)) => Err(invalid_bits(reason.clone())),
        _ => Err(ApiError::new(
            400,
            150_004,
            "PackageBitsAlreadyUploaded",
            "Bits have already been uploaded for this package: create a new package",
        )),
    }
}

fn invalid_bits(detail: String) -> ApiError {
    ApiError::new(400, 160_001, "AppBitsUploadInvalid", detail)
}

enum Refused {
    Package(PackageError),
    Resource(String),
    Storage(anyhow::Error),
}

/// A good package that is stored and that no row names yet, and those of its files that are kept for later uploads.
struct Accepted {
    stored: Stored,
    kept: Vec<Kept>,
}

fn accept(
    store: &Store,
    guid: &str,
    bits: Option<Upload>,
    resources: &[(Resource, String)],
) -> Result<Accepted, Refused> {
    let check = |upload: &Upload| {
        let file =
            std::fs::File::open(upload.path()).map_err(|error| Refused::Storage(error.into()))?;
        check::check(file, &check::Limits::default()).map_err(Refused::Package)
    };
    if let Some(bits) = &bits {
        check(bits)?;
    }
    let upload = match bits {
        Some(bits) if resources.is_empty() => bits,
        bits => {
            let whole = resources::complete(store, bits.as_ref(), resources)
                .map_err(Refused::Storage)?
                .map_err(Refused::Resource)?;
            check(&whole)?;
            whole
        }
    };
    let kept = resources::keep(store, upload.path()).map_err(Refused::Storage)?;
    let stored = store
        .store(upload, Kind::Package, guid)
        .map_err(Refused::Storage)?;
    Ok(Accepted { stored, kept })
}

/// Returns the user to whose uploads a caller may refer: those in spaces that the caller develops. `None`, for administrators,
/// means all.
fn developer(who: &Principal) -> Option<&str> {
    (!who.is_admin()).then(|| who.guid())
}

/// Returns the contents of files that are named instead of sent. Only contents that the caller could have sent are found.
async fn resolve(
    conn: &mut Connection,
    who: &Principal,
    resources: Vec<Resource>,
) -> ApiResult<Vec<(Resource, String)>> {
    if resources.is_empty() {
        return Ok(Vec::new());
    }
    let known = db::resource::known(conn, developer(who), &resources).await?;
    resources
        .into_iter()
        .map(|resource| {
            let content = known.get(&(resource.sha1.clone(), resource.size)).cloned();
            match content {
                Some(content) => Ok((resource, content)),
                None => Err(ApiError::unprocessable(format!(
                    "The file '{}' with SHA-1 {} is not known; send it in 'bits'",
                    resource.path, resource.sha1
                ))),
            }
        })
        .collect()
}

async fn download(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let found = who
        .find::<Package>(&mut *cc.db.read().await?, &guid, Right::ReadSecrets)
        .await?;
    if found.row.state != PackageState::Ready {
        return Err(ApiError::unprocessable(
            "Package has no bits to download: its state is not READY.",
        ));
    }
    let (kind, data) = (
        "audit.app.package.download",
        json!({ "package_guid": guid }),
    );
    super::app::note_read(&cc, &who, &found.of.app, kind, data).await?;
    send_blob(&cc, Kind::Package, found.row.blob, "Package").await
}

/// Returns the files that need not be sent, because they are kept from an upload to a space where the caller develops.
async fn resource_matches(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    Flag::AppBitsUpload
        .must_be_on(&mut *cc.db.read().await?, &who)
        .await?;
    let list = body.value("resources").and_then(Value::as_array).cloned();
    match &list {
        None => body.problem("Resources must be an array"),
        Some(list) if list.is_empty() => body.problem("Resources must have at least 1 resource"),
        Some(_) => {}
    }
    let mut resources = Vec::new();
    for resource in list.iter().flatten() {
        match Resource::read(resource) {
            Ok(resource) => resources.push(resource),
            Err(problem) => {
                body.problem(problem);
                break;
            }
        }
    }
    body.finish()?;
    let mut conn = cc.db.read().await?;
    if !Flag::ResourceMatching.is_on(&mut conn).await? {
        return Ok(created(json!({ "resources": [] })));
    }
    let known = db::resource::known(&mut conn, developer(&who), &resources).await?;
    drop(conn);
    let kept = kept(&cc, known.values().cloned().collect()).await?;
    let matched: Vec<Value> = resources
        .iter()
        .filter(|resource| {
            known
                .get(&(resource.sha1.clone(), resource.size))
                .is_some_and(|content| kept.contains(content))
        })
        .map(Resource::present)
        .collect();
    Ok(created(json!({ "resources": matched })))
}

/// Returns those of the contents that the store has.
async fn kept(cc: &Cc, contents: HashSet<String>) -> ApiResult<HashSet<String>> {
    /// The number of contents that are looked up at the same time, because a bucket takes its time for each of them.
    const AT_ONCE: usize = 16;
    let look_up = |content: String| {
        let store = cc.blobs.clone();
        blocking(move || -> anyhow::Result<Option<String>> {
            let written = store.written(Kind::Resource, &content)?;
            Ok(written.map(|_| content))
        })
    };
    let look_ups: Vec<_> = contents.into_iter().map(look_up).collect();
    let mut looked_up = futures::stream::iter(look_ups).buffer_unordered(AT_ONCE);
    let mut kept = HashSet::new();
    while let Some(found) = looked_up.next().await {
        kept.extend(found??);
    }
    Ok(kept)
}
