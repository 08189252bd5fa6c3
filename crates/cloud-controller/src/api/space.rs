//! The endpoints `/v3/spaces`.

use super::prelude::*;
use crate::actions::{self, audit, job};
use crate::db::organization::Organization;
use crate::db::process;
use crate::db::space::Space;
use crate::db::usage::Scope;
use crate::jobs;

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/spaces", list)
        .lists(&["names", "organization_guids", "include"])
        .post("/v3/spaces", create)
        .body(&[
            "name",
            "suspended",
            "relationships.organization.data.guid",
            "metadata",
        ])
        .get("/v3/spaces/{guid}", show)
        .takes(&["include"])
        .patch("/v3/spaces/{guid}", update)
        .body(&["name", "suspended", "metadata"])
        .delete("/v3/spaces/{guid}", remove)
        .get("/v3/spaces/{guid}/features", features)
        .get("/v3/spaces/{guid}/features/{name}", feature)
        .patch("/v3/spaces/{guid}/features/{name}", set_feature)
        .body(&["enabled"])
        .delete("/v3/spaces/{guid}/routes", delete_unmapped_routes)
        .takes(&["unmapped"])
        .get("/v3/spaces/{guid}/users", super::user::of_space)
        .lists(super::user::FILTERS)
        .get("/v3/spaces/{guid}/usage_summary", usage_summary)
        .get(
            "/v3/spaces/{guid}/relationships/isolation_segment",
            no_segment,
        )
        .patch(
            "/v3/spaces/{guid}/relationships/isolation_segment",
            set_segment,
        )
        .body(&["data.guid"])
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
            "suspended": space.suspended,
            "relationships": { "organization": to_one(Some(&space.organization_guid)), "quota": to_one(space.quota_guid.as_deref()) },
            "metadata": space.metadata.0.present(),
            "links": links,
        }),
    )
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let include = query.include(&["organization", "org"])?;
    let mut conn = cc.db.read().await?;
    let select = query.filter(who.visible::<Space>(), "names", "name");
    let select = query.filter(select, "organization_guids", "organization_guid");
    let found = query.fetch(&mut conn, select).await?;
    let mut answer = cc.page(
        &query,
        found.page,
        found.rows.iter().map(|row| present(&cc, row)).collect(),
    );
    if !include.is_empty() {
        answer["included"] = json!({ "organizations": included_organizations(&cc, &mut conn, &who, &found.rows).await? });
    }
    Ok(ok(answer))
}

pub(super) async fn included_organizations(
    cc: &Cc,
    conn: &mut Connection,
    who: &Principal,
    spaces: &[Space],
) -> ApiResult<Vec<Value>> {
    let guids = spaces.iter().map(|space| &space.organization_guid);
    let rows: Vec<Organization> = who.visible().any("guid", guids).all(conn).await?;
    Ok(rows
        .iter()
        .map(|row| super::organization::present(cc, row))
        .collect())
}

async fn show(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let include = query.include(&["organization", "org"])?;
    let mut conn = cc.db.read().await?;
    let space = who.find::<Space>(&mut conn, &guid, Right::Read).await?.row;
    let mut answer = present(&cc, &space);
    if !include.is_empty() {
        answer["included"] = json!({ "organizations": included_organizations(&cc, &mut conn, &who, &[space]).await? });
    }
    Ok(ok(answer))
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    let mut space = Space {
        name: body.required_string("name"),
        organization_guid: body.required_relationship("organization"),
        suspended: body.bool("suspended").unwrap_or_default(),
        allow_ssh: true,
        ..Space::fresh()
    };
    body.merge_metadata(&mut space.metadata)?;
    body.finish()?;
    let mut tx = cc.change().await?;
    let unseen = "Invalid organization. Ensure the organization exists and you have access to it.";
    let guid = &space.organization_guid;
    who.named::<Organization>(&mut tx, guid, Right::ManageOrganization, unseen)
        .await?;
    actions::space::create(&mut tx, &space).await?;
    let target = (space.guid.as_str(), "space", space.name.as_str());
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.space.create",
        target,
        &space,
        json!({ "request": { "name": space.name } }),
    )
    .await?;
    tx.commit(trail).await?;
    Ok(created(present(&cc, &space)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = who
        .find::<Space>(&mut tx, &guid, Right::ManageSpace)
        .await?;
    if body.has("suspended") {
        found.access.must(Right::ManageOrganization)?;
    }
    let mut space = found.row;
    space.suspended = body.bool("suspended").unwrap_or(space.suspended);
    let before = space.name.clone();
    space.name = body.optional_name("name").unwrap_or(space.name);
    body.merge_metadata(&mut space.metadata)?;
    let request = Value::Object(body.finish()?);
    let space = actions::space::update(&mut tx, space).await?;
    let is_renamed = space.name != before;
    if is_renamed {
        process::touch_in(&mut tx, process::Place::Space(&guid)).await?;
        tx.sync();
    }
    let target = (guid.as_str(), "space", space.name.as_str());
    let (kind, data) = ("audit.space.update", json!({ "request": request }));
    let trail = audit::record(&mut tx, &who, kind, target, &space, data).await?;
    tx.commit(trail).await?;
    Ok(ok(present(&cc, &space)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    who.find::<Space>(&mut tx, &guid, Right::ManageOrganization)
        .await?;
    let job = job::enqueue(&mut tx, &who, job::DELETE_SPACE, ("spaces", &guid)).await?;
    tx.commit(Unrecorded::ByJob).await?;
    jobs::wait(&cc, &job).await;
    Ok(cc.accepted(&job))
}

fn present_ssh(space: &Space) -> Value {
    json!({ "name": "ssh", "description": "Enable SSHing into apps in the space.", "enabled": space.allow_ssh })
}

async fn features(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let space = who.find::<Space>(&mut conn, &guid, Right::Read).await?.row;
    Ok(ok(
        json!({ "features": [present_ssh(&space)], "links": { "self": cc.link(&format!("/v3/spaces/{guid}/features")) } }),
    ))
}

fn must_be_ssh(name: &str) -> ApiResult<()> {
    if name == "ssh" {
        Ok(())
    } else {
        Err(ApiError::not_found("Feature"))
    }
}

async fn feature(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, name)): Path<(String, String)>,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let space = who.find::<Space>(&mut conn, &guid, Right::Read).await?.row;
    must_be_ssh(&name)?;
    Ok(ok(present_ssh(&space)))
}

async fn set_feature(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, name)): Path<(String, String)>,
    mut body: Body,
) -> ApiResult {
    let enabled = body.bool("enabled");
    if enabled.is_none() {
        body.problem("Enabled must be a boolean");
    }
    body.finish()?;
    let mut tx = cc.change().await?;
    let mut space = who
        .find::<Space>(&mut tx, &guid, Right::ManageSpace)
        .await?
        .row;
    must_be_ssh(&name)?;
    space.allow_ssh = enabled.unwrap_or(space.allow_ssh);
    let space = actions::space::update(&mut tx, space).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present_ssh(&space)))
}

async fn delete_unmapped_routes(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    if query.flag("unmapped")? != Some(true) {
        return Err(ApiError::unprocessable(
            "Mass delete not supported for routes. Use 'unmapped' parameter to delete all unmapped routes.",
        ));
    }
    let mut tx = cc.change().await?;
    who.find::<Space>(&mut tx, &guid, Right::Support).await?;
    let operation = job::DELETE_UNMAPPED_ROUTES;
    let job = job::enqueue(&mut tx, &who, operation, ("spaces", &guid)).await?;
    tx.commit(Unrecorded::ByJob).await?;
    jobs::wait(&cc, &job).await;
    Ok(cc.accepted(&job))
}

async fn usage_summary(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    who.find::<Space>(&mut conn, &guid, Right::Read).await?;
    let used = crate::quota::services::summary(&mut conn, Scope::Space(&guid)).await?;
    Ok(ok(json!({ "usage_summary": used, "links": {
        "self": cc.link(&format!("/v3/spaces/{guid}/usage_summary")), "space": cc.link(&format!("/v3/spaces/{guid}")),
    } })))
}

async fn no_segment(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    who.find::<Space>(&mut conn, &guid, Right::Read).await?;
    Ok(ok(present_no_segment(&cc, &guid)))
}

fn present_no_segment(cc: &Cc, guid: &str) -> Value {
    let path = format!("/v3/spaces/{guid}/relationships/isolation_segment");
    json!({ "data": null, "links": { "self": cc.link(&path) } })
}

/// Accepts only null, because there are no isolation segments. A suspension does not matter here.
async fn set_segment(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who.find::<Space>(&mut conn, &guid, Right::Read).await?;
    found.access.must_hold(Right::ManageOrganization)?;
    let wanted = body.read_to_one();
    body.finish()?;
    match wanted {
        None => Ok(ok(present_no_segment(&cc, &guid))),
        Some(segment) => Err(ApiError::unprocessable(format!(
            "Unable to assign isolation segment with guid '{segment}'. Ensure it has been entitled to the organization that this space belongs to."
        ))),
    }
}
