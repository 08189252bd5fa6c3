//! The endpoints `/v3/organization_quotas`. [`crate::quota`] enforces what a quota limits.

use super::prelude::*;
use super::quota_limits::{all_found, keys, read_limits, show_limits};
use crate::actions::audit::{self, Place};
use crate::actions::job;
use crate::db::organization::{self, Organization};
use crate::db::organization_quota::{self, OrganizationQuota};
use crate::db::usage::Scope;
use crate::quota::{self, Limits};

const KEYS: &[&str] = keys!("domains.total_domains");
const NEW_KEYS: &[&str] = keys!(
    "domains.total_domains",
    "relationships.organizations.data[].guid"
);

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/organization_quotas", list)
        .lists(&["names", "organization_guids"])
        .post("/v3/organization_quotas", create)
        .body(NEW_KEYS)
        .get("/v3/organization_quotas/{guid}", show)
        .patch("/v3/organization_quotas/{guid}", update)
        .body(KEYS)
        .delete("/v3/organization_quotas/{guid}", remove)
        .post(
            "/v3/organization_quotas/{guid}/relationships/organizations",
            assign,
        )
        .body(&["data[].guid"])
}

const GROUPS: &[&str] = &["apps", "services", "routes", "domains"];

/// Returns the guids of the caller's organizations that have one of these quotas, as (quota, organization).
async fn applied(
    conn: &mut Connection,
    who: &Principal,
    quotas: &[OrganizationQuota],
) -> ApiResult<Vec<(String, String)>> {
    let rows = who
        .visible::<Organization>()
        .any("quota_guid", quotas.iter().map(|quota| &quota.guid))
        .all(conn)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.quota_guid, row.guid))
        .collect())
}

fn present(cc: &Cc, quota: &OrganizationQuota, applied: &[(String, String)]) -> Value {
    let organizations: Vec<&String> = applied
        .iter()
        .filter(|(guid, _)| *guid == quota.guid)
        .map(|(_, organization)| organization)
        .collect();
    let mut json = resource(
        &quota.guid,
        quota.created_at,
        quota.updated_at,
        json!({
            "name": quota.name,
            "relationships": { "organizations": to_many(&organizations) },
            "links": cc.links(&format!("/v3/organization_quotas/{}", quota.guid), &[]),
        }),
    );
    show_limits(&mut json, &quota.limits.0);
    json
}

async fn present_one(
    cc: &Cc,
    conn: &mut Connection,
    who: &Principal,
    quota: &OrganizationQuota,
) -> ApiResult<Value> {
    let applied = applied(conn, who, std::slice::from_ref(quota)).await?;
    Ok(present(cc, quota, &applied))
}

async fn record(
    conn: &mut Connection,
    who: &Principal,
    verb: &str,
    quota: &OrganizationQuota,
    place: Place<'_>,
) -> ApiResult<db::Trail> {
    let target = (
        quota.guid.as_str(),
        "organization_quota",
        quota.name.as_str(),
    );
    let kind = format!("audit.organization_quota.{verb}");
    audit::record(conn, who, &kind, target, place, json!({})).await
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let mut select = query.filter(who.visible::<OrganizationQuota>(), "names", "name");
    if let Some(organizations) = query.values("organization_guids") {
        let theirs = who
            .visible::<Organization>()
            .any("guid", organizations)
            .all(&mut conn)
            .await?;
        select = select.any("guid", theirs.into_iter().map(|row| row.quota_guid));
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
        .find::<OrganizationQuota>(&mut conn, &guid, Right::Read)
        .await?
        .row;
    Ok(ok(present_one(&cc, &mut conn, &who, &quota).await?))
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    who.must_be_admin()?;
    let mut quota = OrganizationQuota {
        name: body.required_string("name"),
        limits: db::Json(quota::unlimited()),
        ..OrganizationQuota::fresh()
    };
    read_limits(&mut body, &mut quota.limits.0, GROUPS);
    let organizations = body.many_relationship("organizations");
    body.finish()?;
    let mut tx = cc.change().await?;
    check_name(&mut tx, &quota).await?;
    db::insert(&mut tx, &quota).await?;
    audit::also(assign_to(&mut tx, &who, &quota, &organizations).await?);
    let answer = present_one(&cc, &mut tx, &who, &quota).await?;
    let trail = record(&mut tx, &who, "create", &quota, Place::Platform).await?;
    tx.commit(trail).await?;
    Ok(created(answer))
}

async fn check_name(conn: &mut Connection, quota: &OrganizationQuota) -> ApiResult<()> {
    if organization_quota::is_name_taken(conn, quota).await? {
        Err(ApiError::unprocessable(format!(
            "Organization Quota '{}' already exists.",
            quota.name
        )))
    } else {
        Ok(())
    }
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    who.must_be_admin()?;
    let mut tx = cc.change().await?;
    let mut quota = who
        .find::<OrganizationQuota>(&mut tx, &guid, Right::Admin)
        .await?
        .row;
    let before = Limits::read(&quota.limits.0);
    quota.name = body.optional_name("name").unwrap_or(quota.name);
    read_limits(&mut body, &mut quota.limits.0, GROUPS);
    body.finish()?;
    check_name(&mut tx, &quota).await?;
    let after = Limits::read(&quota.limits.0);
    if before.log_rate.is_none() {
        let organizations = organization::of_quota(&mut tx, &quota.guid).await?;
        let places = organizations
            .iter()
            .map(|row| Scope::Organization(&row.guid));
        quota::must_limit_logs(&mut tx, &after, places).await?;
    }
    quota.touch();
    db::update(&mut tx, &quota).await?;
    let answer = present_one(&cc, &mut tx, &who, &quota).await?;
    let trail = record(&mut tx, &who, "update", &quota, Place::Platform).await?;
    tx.commit(trail).await?;
    Ok(ok(answer))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    who.must_be_admin()?;
    let mut tx = cc.change().await?;
    let quota = who
        .find::<OrganizationQuota>(&mut tx, &guid, Right::Admin)
        .await?
        .row;
    if quota.name == "default" || !organization::of_quota(&mut tx, &guid).await?.is_empty() {
        return Err(ApiError::unprocessable(
            "This quota is applied to one or more organizations. Apply a different quota to those organizations before deleting.",
        ));
    }
    db::delete::<OrganizationQuota>(&mut tx, &guid).await?;
    let job = job::complete(
        &mut tx,
        "organization_quota.delete",
        ("organization_quotas", &guid),
    )
    .await?;
    let trail = record(&mut tx, &who, "delete", &quota, Place::Platform).await?;
    tx.commit(trail).await?;
    Ok(cc.accepted(&job))
}

/// Assigns a quota to organizations. What they already use may stay, whatever the quota allows.
async fn assign_to(
    conn: &mut Connection,
    who: &Principal,
    quota: &OrganizationQuota,
    organizations: &[String],
) -> ApiResult<db::Trail> {
    let found = who
        .visible::<Organization>()
        .any("guid", organizations)
        .all(conn)
        .await?;
    all_found(
        "Organizations",
        organizations,
        found.iter().map(|row| &row.guid),
    )?;
    let places = organizations.iter().map(|guid| Scope::Organization(guid));
    quota::must_limit_logs(conn, &Limits::read(&quota.limits.0), places).await?;
    let mut trail = db::Trail::from(Unrecorded::NothingChanged);
    for guid in organizations {
        organization::assign_quota(conn, guid, &quota.guid).await?;
        trail = record(conn, who, "apply", quota, Place::Organization(guid)).await?;
    }
    Ok(trail)
}

async fn assign(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    who.must_be_admin()?;
    let organizations = body.read_to_many();
    body.finish()?;
    let mut tx = cc.change().await?;
    let quota = who
        .find::<OrganizationQuota>(&mut tx, &guid, Right::Admin)
        .await?
        .row;
    let trail = assign_to(&mut tx, &who, &quota, &organizations).await?;
    let all: Vec<String> = organization::of_quota(&mut tx, &guid)
        .await?
        .into_iter()
        .map(|row| row.guid)
        .collect();
    tx.commit(trail).await?;
    let mut answer = to_many(&all);
    answer["links"] = json!({ "self": cc.link(&format!("/v3/organization_quotas/{guid}/relationships/organizations")) });
    Ok(ok(answer))
}
