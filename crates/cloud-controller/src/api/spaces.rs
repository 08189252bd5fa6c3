//! `/v3/spaces`

use super::organizations::{self, merge_metadata};
use super::prelude::*;
use crate::actions::{self, audit, job};
use crate::db::organization::Organization;
use crate::db::space::Space;

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/spaces", get(list).post(create))
        .route("/v3/spaces/{guid}", get(show).patch(update).delete(remove))
        .route("/v3/spaces/{guid}/features", get(features))
        .route("/v3/spaces/{guid}/features/ssh", get(ssh).patch(set_ssh))
        .route("/v3/spaces/{guid}/routes", delete(delete_unmapped_routes))
        .route("/v3/spaces/{guid}/users", get(super::users::of_space))
        .route("/v3/spaces/{guid}/usage_summary", get(usage_summary))
        .route(
            "/v3/spaces/{guid}/relationships/isolation_segment",
            get(no_segment).patch(no_segment),
        )
}

pub(super) fn present(cc: &Cc, space: &Space) -> Value {
    let path = format!("/v3/spaces/{}", space.guid);
    let mut links = cc.links(
        &path,
        &[
            (
                "organization",
                format!("/v3/organizations/{}", space.organization_guid),
            ),
            ("features", format!("{path}/features")),
        ],
    );
    links.insert(
        "apply_manifest".to_owned(),
        cc.post_link(&format!("{path}/actions/apply_manifest")),
    );
    if let Some(quota) = &space.quota_guid {
        links.insert(
            "quota".to_owned(),
            cc.link(&format!("/v3/space_quotas/{quota}")),
        );
    }
    resource(
        &space.guid,
        space.created_at,
        space.updated_at,
        json!({
            "name": space.name,
            "suspended": false,
            "relationships": { "organization": to_one(Some(&space.organization_guid)), "quota": to_one(space.quota_guid.as_deref()) },
            "metadata": space.metadata.0.present(),
            "links": links,
        }),
    )
}

async fn list(State(cc): State<Cc>, who: Principal, uri: Uri) -> ApiResult {
    let query = Query::list(&uri, &["names", "organization_guids", "include"])?;
    let include = query.include(&["organization", "org"])?;
    let mut conn = cc.db.read().await?;
    let select = query.filter(who.sees_spaces(Select::new(), "guid"), "names", "name");
    let select = query.filter(select, "organization_guids", "organization_guid");
    let found = query.fetch::<Space>(&mut conn, select).await?;
    let mut answer = cc.page(
        &query,
        found.total,
        found.rows.iter().map(|row| present(&cc, row)).collect(),
    );
    if !include.is_empty() {
        answer["included"] =
            json!({ "organizations": included_organizations(&cc, &mut conn, &found.rows).await? });
    }
    Ok(ok(answer))
}

pub(super) async fn included_organizations(
    cc: &Cc,
    conn: &mut Connection,
    spaces: &[Space],
) -> ApiResult<Vec<Value>> {
    let guids: Vec<&String> = spaces
        .iter()
        .map(|space| &space.organization_guid)
        .collect();
    let rows: Vec<Organization> = Select::new().any("guid", guids).all(conn).await?;
    Ok(rows
        .iter()
        .map(|row| organizations::present(cc, row))
        .collect())
}

async fn show(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    let include = Query::only(&uri, &["include"])?.include(&["organization", "org"])?;
    let mut conn = cc.db.read().await?;
    let (space, _) = lookup::space(&mut conn, &who, &guid).await?;
    let mut answer = present(&cc, &space);
    if !include.is_empty() {
        answer["included"] =
            json!({ "organizations": included_organizations(&cc, &mut conn, &[space]).await? });
    }
    Ok(ok(answer))
}

async fn create(State(cc): State<Cc>, who: Principal, body: Body) -> ApiResult {
    let mut body = body.allow(&["name", "relationships", "metadata"]);
    let mut space = Space {
        name: body.required_string("name"),
        organization_guid: body.required_relationship("organization"),
        allow_ssh: true,
        ..Space::fresh()
    };
    merge_metadata(&body, &mut space.metadata)?;
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let invalid = |_| {
        ApiError::unprocessable(
            "Invalid organization. Ensure the organization exists and you have access to it.",
        )
    };
    let (_, access) = lookup::organization(&mut tx, &who, &space.organization_guid)
        .await
        .map_err(invalid)?;
    allow(access.manages_organization())?;
    actions::space::create(&mut tx, &space).await?;
    let target = (space.guid.as_str(), "space", space.name.as_str());
    audit::record(
        &mut tx,
        &who,
        "audit.space.create",
        target,
        Some(&space),
        json!({ "request": { "name": space.name } }),
    )
    .await?;
    tx.commit().await?;
    Ok(created(present(&cc, &space)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut body = body.allow(&["name", "metadata"]);
    let mut tx = cc.db.write().await?;
    let (mut space, access) = lookup::space(&mut tx, &who, &guid).await?;
    allow(access.manages_space())?;
    space.name = body.optional_name("name").unwrap_or(space.name);
    merge_metadata(&body, &mut space.metadata)?;
    body.finish()?;
    let space = actions::space::update(&mut tx, space).await?;
    tx.commit().await?;
    Ok(ok(present(&cc, &space)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.db.write().await?;
    let (space, access) = lookup::space(&mut tx, &who, &guid).await?;
    allow(access.manages_organization())?;
    let touched = actions::space::delete(&mut tx, &space).await?;
    audit::record(
        &mut tx,
        &who,
        "audit.space.delete-request",
        (&space.guid, "space", &space.name),
        Some(&space),
        json!({}),
    )
    .await?;
    let job = job::complete(&mut tx, "space.delete", ("spaces", &guid)).await?;
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(cc.accepted(&job))
}

fn present_ssh(space: &Space) -> Value {
    json!({ "name": "ssh", "description": "Enable SSHing into apps in the space.", "enabled": space.allow_ssh })
}

async fn features(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let (space, _) = lookup::space(&mut conn, &who, &guid).await?;
    Ok(ok(
        json!({ "features": [present_ssh(&space)], "links": { "self": cc.link(&format!("/v3/spaces/{guid}/features")) } }),
    ))
}

async fn ssh(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    Ok(ok(present_ssh(
        &lookup::space(&mut conn, &who, &guid).await?.0,
    )))
}

async fn set_ssh(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut body = body.allow(&["enabled"]);
    let mut tx = cc.db.write().await?;
    let (mut space, access) = lookup::space(&mut tx, &who, &guid).await?;
    allow(access.manages_space())?;
    space.allow_ssh = body.bool("enabled").unwrap_or(space.allow_ssh);
    body.finish()?;
    let space = actions::space::update(&mut tx, space).await?;
    tx.commit().await?;
    Ok(ok(present_ssh(&space)))
}

async fn delete_unmapped_routes(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    if Query::only(&uri, &["unmapped"])?.flag("unmapped")? != Some(true) {
        return Err(ApiError::unprocessable(
            "Mass delete not supported for routes. Use 'unmapped' parameter to delete all unmapped routes.",
        ));
    }
    let mut tx = cc.db.write().await?;
    let (space, access) = lookup::space(&mut tx, &who, &guid).await?;
    allow(access.supports())?;
    let mut touched = Vec::new();
    for route in db::route::unmapped(&mut tx, &space.guid).await? {
        touched.extend(actions::route::delete(&mut tx, &route).await?);
    }
    let job = job::complete(&mut tx, "space.delete_unmapped_routes", ("spaces", &guid)).await?;
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(cc.accepted(&job))
}

async fn usage_summary(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    lookup::space(&mut conn, &who, &guid).await?;
    let condition =
        "app_guid IN (SELECT guid FROM apps WHERE state = 'STARTED' AND space_guid = ?)";
    let processes: Vec<db::process::Process> = Select::new()
        .and(condition, [guid.as_str().into()])
        .all(&mut conn)
        .await?;
    let (instances, memory) = processes.iter().fold((0, 0), |(n, mb), process| {
        (
            n + process.instances,
            mb + process.instances * process.memory_in_mb,
        )
    });
    Ok(ok(
        json!({ "usage_summary": { "started_instances": instances, "memory_in_mb": memory }, "links": {
        "self": cc.link(&format!("/v3/spaces/{guid}/usage_summary")), "space": cc.link(&format!("/v3/spaces/{guid}")),
    } }),
    ))
}

async fn no_segment(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    lookup::space(&mut conn, &who, &guid).await?;
    let path = format!("/v3/spaces/{guid}/relationships/isolation_segment");
    Ok(ok(
        json!({ "data": null, "links": { "self": cc.link(&path) } }),
    ))
}
