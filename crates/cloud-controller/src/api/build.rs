//! The endpoints `/v3/builds`.

use super::prelude::*;
use crate::actions::audit;
use crate::actions::build::{self as verbs, Wish};
use crate::db::app::App;
use crate::db::build::{Build, BuildState};
use crate::db::package::Package;

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/builds", list)
        .lists(FILTERS)
        .post("/v3/builds", create)
        .body(&[
            "package.guid",
            "lifecycle.type",
            "lifecycle.data.buildpacks",
            "lifecycle.data.stack",
            "staging_memory_in_mb",
            "staging_disk_in_mb",
            "metadata",
        ])
        .get("/v3/builds/{guid}", show)
        .patch("/v3/builds/{guid}", update)
        .body(&["metadata"])
        .get("/v3/apps/{guid}/builds", of_app)
        .lists(FILTERS)
}

fn present(cc: &Cc, build: &Build) -> Value {
    let staged = build
        .droplet_guid
        .as_ref()
        .filter(|_| build.state == BuildState::Staged);
    let mut links = cc.links(
        &format!("/v3/builds/{}", build.guid),
        &[("app", format!("/v3/apps/{}", build.app_guid))],
    );
    if let Some(droplet) = staged {
        links.insert(
            "droplet".to_owned(),
            cc.link(&format!("/v3/droplets/{droplet}")),
        );
    }
    resource(
        &build.guid,
        build.created_at,
        build.updated_at,
        json!({
            "state": build.state,
            "staging_memory_in_mb": build.memory_in_mb,
            "staging_disk_in_mb": build.disk_in_mb,
            "staging_log_rate_limit_bytes_per_second": -1,
            "error": build.error,
            "lifecycle": super::app::present_lifecycle(&build.buildpacks.0, Some(&build.stack)),
            "package": { "guid": build.package_guid },
            "droplet": staged.map(|guid| json!({ "guid": guid })),
            "relationships": { "app": to_one(Some(&build.app_guid)) },
            "created_by": { "guid": build.created_by_guid, "name": build.created_by_name, "email": build.created_by_name },
            "metadata": build.metadata.0.present(),
            "links": links,
        }),
    )
}

const FILTERS: &[&str] = &["app_guids", "package_guids", "states"];

async fn page(cc: &Cc, query: &Query, select: Scope<Build>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let mut select = select;
    for (name, column) in [
        ("app_guids", "app_guid"),
        ("package_guids", "package_guid"),
        ("states", "state"),
    ] {
        select = query.filter(select, name, column);
    }
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
    let build = who.find::<Build>(&mut conn, &guid, Right::Read).await?.row;
    Ok(ok(present(&cc, &build)))
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    let package = body
        .at("package.guid")
        .and_then(Value::as_str)
        .map(str::to_owned);
    if package.is_none() {
        body.problem("Package can't be blank");
    }
    let (buildpacks, stack) = super::app::lifecycle(&mut body);
    let most = i64::from(i32::MAX);
    let wish = Wish {
        buildpacks,
        stack,
        memory_in_mb: body.int("staging_memory_in_mb", 1..=most),
        disk_in_mb: body.int("staging_disk_in_mb", 1..=most),
    };
    let mut metadata = db::Json::default();
    body.merge_metadata(&mut metadata)?;
    body.finish()?;
    let mut tx = cc.change().await?;
    let unusable =
        "Unable to use package. Ensure that the package exists and you have access to it.";
    let guid = package.unwrap_or_default();
    let Found {
        row: package, of, ..
    } = who
        .usable::<Package>(&mut tx, &guid, Right::Support, unusable)
        .await?;
    let (app, space) = (of.app, of.space);
    let mut build = verbs::create(&mut tx, &cc.settings, &who, &app, &package, wish).await?;
    build.metadata = metadata;
    db::update(&mut tx, &build).await?;
    let data = json!({ "build_guid": build.guid, "package_guid": package.guid });
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.build.create",
        (&app.guid, "app", &app.name),
        &space,
        data,
    )
    .await?;
    tx.log_to_app(
        &app.guid,
        format!("Creating build for app with guid {}", app.guid),
    );
    tx.commit(trail).await?;
    crate::diego::staging::start(&cc, &build).await;
    Ok(created(present(&cc, &build)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut build = who.find::<Build>(&mut tx, &guid, Right::Develop).await?.row;
    body.merge_metadata(&mut build.metadata)?;
    body.finish()?;
    build.touch();
    db::update(&mut tx, &build).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present(&cc, &build)))
}
