//! The endpoints `/v3/space_quotas`: quotas that an organization's managers apply to its spaces.

use super::prelude::*;
use super::quota_limits::{all_found, keys, read_limits, show_limits};
use crate::actions::{audit, job};
use crate::db::organization::Organization;
use crate::db::space::{self, Space};
use crate::db::space_quota::{self, SpaceQuota};
use crate::db::usage::Scope;
use crate::quota::{self, Limits};

const KEYS: &[&str] = keys!();
const NEW_KEYS: &[&str] = keys!(
    "relationships.organization.data.guid",
    "relationships.spaces.data[].guid"
);

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/space_quotas", list)
        .lists(&["names", "organization_guids", "space_guids"])
        .post("/v3/space_quotas", create)
        .body(NEW_KEYS)
        .get("/v3/space_quotas/{guid}", show)
        .patch("/v3/space_quotas/{guid}", update)
        .body(KEYS)
        .delete("/v3/space_quotas/{guid}", remove)
        .post("/v3/space_quotas/{guid}/relationships/spaces", apply)
        .body(&["data[].guid"])
        .delete(
            "/v3/space_quotas/{guid}/relationships/spaces/{space}",
            unapply,
        )
}

const GROUPS: &[&str] = &["apps", "services", "routes"];

/// Returns the caller's spaces that have one of these quotas.
async fn applied(
    conn: &mut Connection,
    who: &Principal,
    quotas: &[SpaceQuota],
) -> ApiResult<Vec<Space>> {
    who.visible::<Space>()
        .any("quota_guid", quotas.iter().map(|quota| &quota.guid))
        .all(conn)
        .await
}

fn present(cc: &Cc, quota: &SpaceQuota, applied: &[Space]) -> Value {
    let spaces: Vec<&String> = applied
        .iter()
        .filter(|space| space.quota_guid.as_ref() == Some(&quota.guid))
        .map(|space| &space.guid)
        .collect();
    let organization = format!("/v3/organizations/{}", quota.organization_guid);
    let mut json = resource(
        &quota.guid,
        quota.created_at,
        quota.updated_at,
        json!({
            "name": quota.name,
            "relationships": {
                "organization": to_one(Some(&quota.organization_guid)),
                "spaces": to_many(&spaces),
            },
            "links": cc.links(
                &format!("/v3/space_quotas/{}", quota.guid),
                &[("organization", organization)],
            ),
        }),
    );
    show_limits(&mut json, &quota.limits.0);
    json
}

async fn present_one(
    cc: &Cc,
    conn: &mut Connection,
    who: &Principal,
    quota: &SpaceQuota,
) -> ApiResult<Value> {
    let applied = applied(conn, who, std::slice::from_ref(quota)).await?;
    Ok(present(cc, quota, &applied))
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let mut select = query.filter(who.visible::<SpaceQuota>(), "names", "name");
    select = query.filter(select, "organization_guids", "organization_guid");
    if let Some(spaces) = query.values("space_guids") {
        let theirs = who
            .visible::<Space>()
            .any("guid", spaces)
            .all(&mut conn)
            .await?;
        select = select.any(
            "guid",
            theirs.into_iter().filter_map(|space| space.quota_guid),
        );
    }
    let found = query.fetch(&mut conn, select).await?;
    let applied = applied(&mut conn, &who, &found.rows).await?;
    let resources = found
        .rows
        .iter()
        .map(|quota| present(&cc, quota, &applied))
        .collect();
    Ok(ok(cc.page(&query, found.page, resources)))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let quota = who
        .find::<SpaceQuota>(&mut conn, &guid, Right::Read)
        .await?
        .row;
    Ok(ok(present_one(&cc, &mut conn, &who, &quota).await?))
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    let mut limits = quota::unlimited();
    if let Some(limits) = limits.as_object_mut() {
        limits.remove("domains");
    }
    let mut quota = SpaceQuota {
        name: body.required_string("name"),
        organization_guid: body.required_relationship("organization"),
        limits: db::Json(limits),
        ..SpaceQuota::fresh()
    };
    read_limits(&mut body, &mut quota.limits.0, GROUPS);
    let spaces = body.many_relationship("spaces");
    body.finish()?;
    let mut tx = cc.change().await?;
    let unknown = format!(
        "Organization with guid '{}' does not exist, or you do not have access to it.",
        quota.organization_guid
    );
    who.existing::<Organization>(
        &mut tx,
        &quota.organization_guid,
        Right::ManageOrganization,
        &unknown,
    )
    .await?;
    check_name(&mut tx, &quota).await?;
    db::insert(&mut tx, &quota).await?;
    apply_to(&mut tx, &who, &quota, &spaces).await?;
    let answer = present_one(&cc, &mut tx, &who, &quota).await?;
    audit::also(audit::space_quota_of(&mut tx, &who, "apply", &quota, &spaces).await?);
    let trail = audit::space_quota(&mut tx, &who, "create", &quota).await?;
    tx.commit(trail).await?;
    Ok(created(answer))
}

async fn check_name(conn: &mut Connection, quota: &SpaceQuota) -> ApiResult<()> {
    if space_quota::is_name_taken(conn, quota).await? {
        return Err(ApiError::unprocessable(format!(
            "Space Quota '{}' already exists.",
            quota.name
        )));
    }
    Ok(())
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut quota = who
        .find::<SpaceQuota>(&mut tx, &guid, Right::ManageOrganization)
        .await?
        .row;
    let before = Limits::read(&quota.limits.0);
    quota.name = body.optional_name("name").unwrap_or(quota.name);
    read_limits(&mut body, &mut quota.limits.0, GROUPS);
    body.finish()?;
    check_name(&mut tx, &quota).await?;
    let after = Limits::read(&quota.limits.0);
    if before.log_rate.is_none() {
        let spaces = space::of_quota(&mut tx, &quota.guid).await?;
        let places = spaces.iter().map(|space| Scope::Space(&space.guid));
        quota::must_limit_logs(&mut tx, &after, places).await?;
    }
    quota.touch();
    db::update(&mut tx, &quota).await?;
    let answer = present_one(&cc, &mut tx, &who, &quota).await?;
    let trail = audit::space_quota(&mut tx, &who, "update", &quota).await?;
    tx.commit(trail).await?;
    Ok(ok(answer))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let quota = who
        .find::<SpaceQuota>(&mut tx, &guid, Right::ManageOrganization)
        .await?
        .row;
    if !space::of_quota(&mut tx, &quota.guid).await?.is_empty() {
        return Err(ApiError::unprocessable(
            "This quota is applied to one or more spaces. Remove this quota from all spaces before deleting.",
        ));
    }
    db::delete::<SpaceQuota>(&mut tx, &guid).await?;
    let job = job::complete(&mut tx, "space_quota.delete", ("space_quotas", &guid)).await?;
    let trail = audit::space_quota(&mut tx, &who, "delete", &quota).await?;
    tx.commit(trail).await?;
    Ok(cc.accepted(&job))
}

/// Applies a quota to spaces. What they already use may stay, whatever the quota allows.
async fn apply_to(
    conn: &mut Connection,
    who: &Principal,
    quota: &SpaceQuota,
    spaces: &[String],
) -> ApiResult<()> {
    let found = who.visible::<Space>().any("guid", spaces).all(conn).await?;
    all_found("Spaces", spaces, found.iter().map(|space| &space.guid))?;
    if found
        .iter()
        .any(|space| space.organization_guid != quota.organization_guid)
    {
        return Err(ApiError::unprocessable(
            "Space quotas cannot be applied outside of their owning organization.",
        ));
    }
    let places = found.iter().map(|space| Scope::Space(&space.guid));
    quota::must_limit_logs(conn, &Limits::read(&quota.limits.0), places).await?;
    for guid in spaces {
        space::assign_quota(conn, guid, Some(&quota.guid)).await?;
    }
    Ok(())
}

async fn apply(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let spaces = body.read_to_many();
    body.finish()?;
    let mut tx = cc.change().await?;
    let quota = who
        .find::<SpaceQuota>(&mut tx, &guid, Right::ManageOrganization)
        .await?
        .row;
    apply_to(&mut tx, &who, &quota, &spaces).await?;
    let all: Vec<String> = space::of_quota(&mut tx, &guid)
        .await?
        .into_iter()
        .map(|space| space.guid)
        .collect();
    let trail = audit::space_quota_of(&mut tx, &who, "apply", &quota, &spaces).await?;
    tx.commit(trail).await?;
    let mut answer = to_many(&all);
    answer["links"] =
        json!({ "self": cc.link(&format!("/v3/space_quotas/{guid}/relationships/spaces")) });
    Ok(ok(answer))
}

async fn unapply(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, space)): Path<(String, String)>,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let quota = who
        .find::<SpaceQuota>(&mut tx, &guid, Right::ManageOrganization)
        .await?
        .row;
    let applied = space::of_quota(&mut tx, &quota.guid)
        .await?
        .iter()
        .any(|other| other.guid == space);
    if !applied {
        return Err(ApiError::unprocessable(format!(
            "Unable to remove quota from space with guid '{space}'. Ensure the space quota is applied to this space."
        )));
    }
    space::assign_quota(&mut tx, &space, None).await?;
    let gone = std::slice::from_ref(&space);
    let trail = audit::space_quota_of(&mut tx, &who, "remove", &quota, gone).await?;
    tx.commit(trail).await?;
    Ok(no_content())
}
