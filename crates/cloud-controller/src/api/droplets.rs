//! `/v3/droplets`

use super::organizations::merge_metadata;
use super::packages::{Sink, blocking, delete_blobs, of_places, send_blob};
use super::prelude::*;
use crate::actions::{audit, job};
use crate::bits::store::Kind;
use crate::db::build::Droplet;
use axum::extract::{DefaultBodyLimit, Multipart};
use axum::response::IntoResponse as _;
use http::{StatusCode, header};

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/droplets", get(list).post(create))
        .route(
            "/v3/droplets/{guid}",
            get(show).patch(update).delete(remove),
        )
        .route("/v3/droplets/{guid}/download", get(download))
        .route(
            "/v3/droplets/{guid}/upload",
            post(upload).layer(DefaultBodyLimit::disable()),
        )
        .route("/v3/apps/{guid}/droplets", get(of_app))
        .route("/v3/apps/{guid}/droplets/current", get(current))
        .route("/v3/packages/{guid}/droplets", get(of_package))
}

fn present(cc: &Cc, droplet: &Droplet) -> Value {
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
    if droplet.state == "AWAITING_UPLOAD" {
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
            "execution_metadata": droplet.execution_metadata,
            "process_types": droplet.process_types.0,
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

async fn page(cc: &Cc, uri: &Uri, select: Select) -> ApiResult {
    let query = Query::list(
        uri,
        &[
            "app_guids",
            "space_guids",
            "organization_guids",
            "states",
            "current",
        ],
    )?;
    let mut conn = cc.db.read().await?;
    let select = query.filter(
        query.filter(select, "app_guids", "app_guid"),
        "states",
        "state",
    );
    let mut select = of_places(&query, select).and("state <> 'STAGING'", []);
    if query.flag("current")? == Some(true) {
        select = select.and("guid IN (SELECT droplet_guid FROM apps)", []);
    }
    let found = query.fetch::<Droplet>(&mut conn, select).await?;
    Ok(ok(cc.page(
        &query,
        found.total,
        found.rows.iter().map(|row| present(cc, row)).collect(),
    )))
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

async fn of_package(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    {
        let mut conn = cc.db.read().await?;
        let package: db::package::Package = lookup::row(&mut conn, &guid, "Package").await?;
        lookup::of_app(&mut conn, &who, &package.app_guid, "Package").await?;
    }
    page(&cc, &uri, Select::new().is("package_guid", guid)).await
}

async fn find(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
) -> ApiResult<(Droplet, crate::auth::Access)> {
    let droplet: Droplet = lookup::row(conn, guid, "Droplet").await?;
    let (_, _, access) = lookup::of_app(conn, who, &droplet.app_guid, "Droplet").await?;
    Ok((droplet, access))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    Ok(ok(present(&cc, &find(&mut conn, &who, &guid).await?.0)))
}

async fn current(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let (app, _, _) = lookup::app(&mut conn, &who, &guid).await?;
    let droplet: Droplet = lookup::row(
        &mut conn,
        app.droplet_guid.as_deref().unwrap_or_default(),
        "Droplet",
    )
    .await?;
    Ok(ok(present(&cc, &droplet)))
}

async fn create(State(cc): State<Cc>, who: Principal, body: Body) -> ApiResult {
    let mut body = body.allow(&["relationships", "process_types"]);
    let mut droplet = Droplet {
        app_guid: body.required_relationship("app"),
        state: "AWAITING_UPLOAD".to_owned(),
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
    let mut tx = cc.db.write().await?;
    let invalid = |_| {
        ApiError::unprocessable(
            "App with guid is invalid. Ensure it exists and you have access to it.",
        )
    };
    let (app, space, access) = lookup::app(&mut tx, &who, &droplet.app_guid)
        .await
        .map_err(invalid)?;
    allow(access.develops())?;
    droplet.stack = app
        .stack
        .clone()
        .or_else(|| Some(crate::buildpacks::STACK.to_owned()));
    db::insert(&mut tx, &droplet).await?;
    audit::record(
        &mut tx,
        &who,
        "audit.app.droplet.create",
        (&app.guid, "app", &app.name),
        Some(&space),
        json!({ "droplet_guid": droplet.guid }),
    )
    .await?;
    tx.commit().await?;
    Ok(created(present(&cc, &droplet)))
}

async fn upload(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut form: Multipart,
) -> ApiResult {
    {
        let mut conn = cc.db.read().await?;
        let (droplet, access) = find(&mut conn, &who, &guid).await?;
        allow(access.develops())?;
        if droplet.state != "AWAITING_UPLOAD" {
            return Err(ApiError::unprocessable(
                "Droplet may be uploaded only once. Create a new droplet to upload bits.",
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
        if field.name() == Some("bits") {
            let mut sink = Sink::new(&cc)?;
            while let Some(chunk) = field.chunk().await.map_err(broken)? {
                sink.push(chunk).await?;
            }
            received = Some(sink.finish().await?);
        }
    }
    let upload = received.ok_or_else(|| {
        ApiError::unprocessable("Bits can't be blank: send the droplet in the form field 'bits'")
    })?;
    let target = guid.clone();
    let blob = blocking(move || upload.commit(Kind::Droplet, &target)).await??;
    let mut tx = cc.db.write().await?;
    let (mut droplet, _) = find(&mut tx, &who, &guid).await?;
    droplet.checksum = Some(blob.sha256);
    "STAGED".clone_into(&mut droplet.state);
    droplet.touch();
    db::update(&mut tx, &droplet).await?;
    let job = job::complete(&mut tx, "droplet.upload", ("droplets", &guid)).await?;
    tx.commit().await?;
    let location = cc.url(&format!("/v3/jobs/{job}"));
    Ok((
        StatusCode::ACCEPTED,
        [(header::LOCATION, location)],
        axum::Json(present(&cc, &droplet)),
    )
        .into_response())
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let body = body.allow(&["metadata"]);
    let mut tx = cc.db.write().await?;
    let (mut droplet, access) = find(&mut tx, &who, &guid).await?;
    allow(access.develops())?;
    merge_metadata(&body, &mut droplet.metadata)?;
    body.finish()?;
    droplet.touch();
    db::update(&mut tx, &droplet).await?;
    tx.commit().await?;
    Ok(ok(present(&cc, &droplet)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.db.write().await?;
    let (droplet, access) = find(&mut tx, &who, &guid).await?;
    allow(access.develops())?;
    let app: db::app::App = lookup::row(&mut tx, &droplet.app_guid, "App").await?;
    if app.droplet_guid.as_ref() == Some(&guid) {
        return Err(ApiError::unprocessable(
            "The droplet is currently used by its app and cannot be deleted.",
        ));
    }
    db::delete::<Droplet>(&mut tx, &guid).await?;
    let job = job::complete(&mut tx, "droplet.delete", ("droplets", &guid)).await?;
    tx.commit().await?;
    delete_blobs(&cc, Vec::new(), vec![guid]);
    Ok(cc.accepted(&job))
}

async fn download(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    {
        let mut conn = cc.db.read().await?;
        let (_, access) = find(&mut conn, &who, &guid).await?;
        allow(access.develops())?;
    }
    send_blob(&cc, Kind::Droplet, &guid, "Droplet").await
}
