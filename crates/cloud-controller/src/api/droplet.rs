//! The endpoints `/v3/droplets`.

use super::prelude::*;
use super::upload::receive;
use crate::actions::{self, audit, job};
use crate::auth::Access;
use crate::bits::droplet::{self as bits, DropletError};
use crate::bits::store::{Kind, Store, Stored, Upload};
use crate::db::app::App;
use crate::db::droplet::{self, Droplet, DropletState};
use crate::db::package::Package;
use crate::transfer::{blocking, send_blob};
use axum::extract::Multipart;
use axum::response::IntoResponse as _;
use http::{StatusCode, header};

const FILTERS: &[&str] = &[
    "app_guids",
    "space_guids",
    "organization_guids",
    "states",
    "current",
];

/// The commands of a droplet that callers see.
#[derive(Clone, Copy, Debug)]
enum Shown {
    All,
    /// No commands, for readers without a right to secrets.
    Redacted,
    InLists,
}

impl Shown {
    fn of(access: &Access) -> Self {
        if access.reads_secrets() {
            Self::All
        } else {
            Self::Redacted
        }
    }
}

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/droplets", list)
        .lists(FILTERS)
        .post("/v3/droplets", create)
        .takes(&["source_guid"])
        .body(&["relationships.app.data.guid", "process_types.*"])
        .get("/v3/droplets/{guid}", show)
        .patch("/v3/droplets/{guid}", update)
        .body(&["metadata"])
        .delete("/v3/droplets/{guid}", remove)
        .get("/v3/droplets/{guid}/download", download)
        .post("/v3/droplets/{guid}/upload", upload)
        .upload()
        .get("/v3/apps/{guid}/droplets", of_app)
        .lists(FILTERS)
        .get("/v3/apps/{guid}/droplets/current", current)
        .get("/v3/packages/{guid}/droplets", of_package)
        .lists(FILTERS)
}

fn present(cc: &Cc, droplet: &Droplet, shown: Shown) -> Value {
    let hidden = match shown {
        Shown::All => None,
        Shown::Redacted => Some("[PRIVATE DATA HIDDEN]"),
        Shown::InLists => Some("[PRIVATE DATA HIDDEN IN LISTS]"),
    };
    let process_types = match hidden {
        None => json!(droplet.process_types.0),
        Some(hidden) => json!({ "redacted_message": hidden }),
    };
    let path = format!("/v3/droplets/{}", droplet.guid);
    let app = format!("/v3/apps/{}", droplet.app_guid);
    let mut links = cc.links(&path, &[("app", app.clone())]);
    links.insert("assign_current_droplet".to_owned(), json!({ "href": cc.url(&format!("{app}/relationships/current_droplet")), "method": "PATCH" }));
    links.insert(
        "package".to_owned(),
        droplet
            .package_guid
            .as_ref()
            .map_or(Value::Null, |guid| cc.link(&format!("/v3/packages/{guid}"))),
    );
    if droplet.checksum.is_some() {
        links.insert("download".to_owned(), cc.link(&format!("{path}/download")));
    }
    if droplet.state == DropletState::AwaitingUpload {
        links.insert("upload".to_owned(), cc.post_link(&format!("{path}/upload")));
    }
    resource(
        &droplet.guid,
        droplet.created_at,
        droplet.updated_at,
        json!({
            "state": droplet.state,
            "error": droplet.error,
            "lifecycle": { "type": "buildpack", "data": {} },
            "execution_metadata": hidden.unwrap_or(&droplet.execution_metadata),
            "process_types": process_types,
            "checksum": droplet.checksum.as_ref().map(|value| json!({ "type": "sha256", "value": value })),
            "buildpacks": droplet.buildpacks.0,
            "stack": droplet.stack,
            "image": null,
            "relationships": { "app": to_one(Some(&droplet.app_guid)) },
            "metadata": droplet.metadata.0.present(),
            "links": links,
        }),
    )
}

async fn page(cc: &Cc, query: &Query, select: Scope<Droplet>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let select = query.filter(
        query.filter(select, "app_guids", "app_guid"),
        "states",
        "state",
    );
    let mut select = query.of_places(select).that(droplet::is_staged());
    if query.flag("current")? == Some(true) {
        select = select.that(droplet::is_current());
    }
    let found = query.fetch(&mut conn, select).await?;
    Ok(ok(cc.page(
        query,
        found.page,
        found
            .rows
            .iter()
            .map(|row| present(cc, row, Shown::InLists))
            .collect(),
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

async fn of_package(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    who.find::<Package>(&mut *cc.db.read().await?, &guid, Right::Read)
        .await?;
    page(&cc, &query, who.visible().is("package_guid", guid)).await
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who.find::<Droplet>(&mut conn, &guid, Right::Read).await?;
    Ok(ok(present(&cc, &found.row, Shown::of(&found.access))))
}

/// Shows the current droplet with its commands, because every reader of an app knows what it runs.
async fn current(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let app = who.find::<App>(&mut conn, &guid, Right::Read).await?.row;
    let droplet = app.droplet_guid.unwrap_or_default();
    let found = who
        .find::<Droplet>(&mut conn, &droplet, Right::Read)
        .await?;
    Ok(ok(present(&cc, &found.row, Shown::All)))
}

async fn create(State(cc): State<Cc>, who: Principal, query: Query, mut body: Body) -> ApiResult {
    if let Some(source) = query.value("source_guid") {
        return copy(cc, who, source, body).await;
    }
    let mut droplet = Droplet {
        app_guid: body.required_relationship("app"),
        state: DropletState::AwaitingUpload,
        ..Droplet::fresh()
    };
    match body
        .value("process_types")
        .filter(|value| !value.is_null())
        .map(|value| serde_json::from_value(value.clone()))
    {
        None => {}
        Some(Ok(types)) => droplet.process_types.0 = types,
        Some(Err(_)) => body.problem("Process types must be an object of commands by process type"),
    }
    body.finish()?;
    let mut tx = cc.change().await?;
    let unseen = format!(
        "App with guid \"{}\" does not exist, or you do not have access to it.",
        droplet.app_guid
    );
    let found = who
        .named::<App>(&mut tx, &droplet.app_guid, Right::Develop, &unseen)
        .await?;
    let (app, space) = (found.row, found.of.space);
    droplet.stack = app
        .stack
        .clone()
        .or_else(|| Some(cc_rules::buildpacks::STACK.to_owned()));
    db::insert(&mut tx, &droplet).await?;
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.droplet.create",
        (&app.guid, "app", &app.name),
        &space,
        json!({ "droplet_guid": droplet.guid }),
    )
    .await?;
    tx.commit(trail).await?;
    Ok(created(present(&cc, &droplet, Shown::All)))
}

fn must_await_upload(droplet: &Droplet) -> ApiResult<()> {
    if droplet.state == DropletState::AwaitingUpload {
        return Ok(());
    }
    Err(ApiError::unprocessable(
        "Droplet may be uploaded only once. Create a new droplet to upload bits.",
    ))
}

/// Checks a droplet and stores it. No row names it yet.
fn accept(
    store: &Store,
    guid: &str,
    upload: Upload,
) -> anyhow::Result<Result<Stored, DropletError>> {
    let file = std::fs::File::open(upload.path())?;
    if let Err(problem) = bits::check(std::io::BufReader::new(file)) {
        return Ok(Err(problem));
    }
    Ok(Ok(store.store(upload, Kind::Droplet, guid)?))
}

/// Copies a droplet. The caller must see the source, and must have the right to develop the destination.
async fn copy(cc: Cc, who: Principal, source: &str, mut body: Body) -> ApiResult {
    let app = body.required_relationship("app");
    if body.has("process_types") {
        body.problem("Process types cannot be set on a copy");
    }
    body.finish()?;
    let mut tx = cc.change().await?;
    let source = who.find::<Droplet>(&mut tx, source, Right::Read).await?.row;
    let found = who.find::<App>(&mut tx, &app, Right::Develop).await?;
    let (app, space) = (found.row, found.of.space);
    let droplet = actions::copy::droplet(&source, &app)?;
    db::insert(&mut tx, &droplet).await?;
    let data =
        json!({ "droplet_guid": droplet.guid, "request": { "source_droplet_guid": source.guid } });
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.droplet.create",
        (&app.guid, "app", &app.name),
        &space,
        data,
    )
    .await?;
    tx.commit(trail).await?;
    let droplet = actions::copy::bits(&cc, source.blob, &droplet).await?;
    Ok(created(present(&cc, &droplet, Shown::All)))
}

async fn upload(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    form: Multipart,
) -> ApiResult {
    {
        let mut conn = cc.db.read().await?;
        let droplet = who
            .find::<Droplet>(&mut conn, &guid, Right::Develop)
            .await?
            .row;
        must_await_upload(&droplet)?;
    }
    let received = receive(&cc, form).await?;
    let upload = received.bits.ok_or_else(|| {
        ApiError::unprocessable("Bits can't be blank: send the droplet in the form field 'bits'")
    })?;
    let (store, target) = (cc.blobs.clone(), guid.clone());
    let checked = blocking(move || accept(&store, &target, upload)).await??;
    let mut tx = cc.change().await?;
    let found = who.find::<Droplet>(&mut tx, &guid, Right::Develop).await?;
    let (mut droplet, app) = (found.row, found.of.app);
    // Several uploads may have got to this point; the first one is accepted.
    must_await_upload(&droplet)?;
    droplet.touch();
    let stored = match checked {
        Ok(stored) => stored,
        Err(problem) => {
            let detail = format!("The droplet upload is invalid: {problem}");
            droplet.state = DropletState::Failed;
            droplet.error = Some(detail.clone());
            db::update(&mut tx, &droplet).await?;
            let data = json!({ "droplet_guid": guid, "error": detail });
            let kind = "audit.app.droplet.upload";
            let trail = audit::of_app(&mut tx, &who, kind, &app, data).await?;
            tx.commit(trail).await?;
            return Err(ApiError::unprocessable(detail));
        }
    };
    droplet.checksum = Some(stored.blob.sha256.clone());
    droplet.blob = Some(stored.name.clone());
    droplet.state = DropletState::Staged;
    db::update(&mut tx, &droplet).await?;
    let job = job::complete(&mut tx, "droplet.upload", ("droplets", &guid)).await?;
    let data = json!({ "droplet_guid": guid });
    let trail = audit::of_app(&mut tx, &who, "audit.app.droplet.upload", &app, data).await?;
    stored.keep();
    tx.commit(trail).await?;
    let location = cc.url(&format!("/v3/jobs/{job}"));
    Ok((
        StatusCode::ACCEPTED,
        [(header::LOCATION, location)],
        axum::Json(present(&cc, &droplet, Shown::All)),
    )
        .into_response())
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut droplet = who
        .find::<Droplet>(&mut tx, &guid, Right::Develop)
        .await?
        .row;
    body.merge_metadata(&mut droplet.metadata)?;
    body.finish()?;
    droplet.touch();
    db::update(&mut tx, &droplet).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present(&cc, &droplet, Shown::All)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = who.find::<Droplet>(&mut tx, &guid, Right::Develop).await?;
    if found.of.app.droplet_guid.as_ref() == Some(&guid) {
        return Err(ApiError::unprocessable(
            "The droplet is currently used by its app and cannot be deleted.",
        ));
    }
    db::delete::<Droplet>(&mut tx, &guid).await?;
    let job = job::complete(&mut tx, "droplet.delete", ("droplets", &guid)).await?;
    let (kind, data) = ("audit.app.droplet.delete", json!({ "droplet_guid": guid }));
    let trail = audit::of_app(&mut tx, &who, kind, &found.of.app, data).await?;
    tx.clean_up();
    tx.commit(trail).await?;
    Ok(cc.accepted(&job))
}

async fn download(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let found = who
        .find::<Droplet>(&mut *cc.db.read().await?, &guid, Right::DownloadDroplet)
        .await?;
    if found.row.state != DropletState::Staged {
        return Err(ApiError::unprocessable(
            "Only staged droplets can be downloaded.",
        ));
    }
    let (kind, data) = (
        "audit.app.droplet.download",
        json!({ "droplet_guid": guid }),
    );
    super::app::note_read(&cc, &who, &found.of.app, kind, data).await?;
    send_blob(&cc, Kind::Droplet, found.row.blob, "Droplet").await
}
