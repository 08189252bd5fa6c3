//! Organization and space quotas. They are kept and shown; nothing is refused because of one yet.

use super::prelude::*;
use crate::actions::job;
use crate::db::organization::{self, Organization, OrganizationQuota, SpaceQuota};

const KEYS: &[&str] = &[
    "name",
    "apps.total_memory_in_mb",
    "apps.per_process_memory_in_mb",
    "apps.total_instances",
    "apps.per_app_tasks",
    "apps.log_rate_limit_in_bytes_per_second",
    "services.paid_services_allowed",
    "services.total_service_instances",
    "services.total_service_keys",
    "routes.total_routes",
    "routes.total_reserved_ports",
    "domains.total_domains",
];

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/organization_quotas", list)
        .lists(&["names", "organization_guids"])
        .post("/v3/organization_quotas", create)
        .body(KEYS)
        .get("/v3/organization_quotas/{guid}", show)
        .patch("/v3/organization_quotas/{guid}", update)
        .body(KEYS)
        .delete("/v3/organization_quotas/{guid}", remove)
        .post(
            "/v3/organization_quotas/{guid}/relationships/organizations",
            assign,
        )
        .body(&["data[].guid"])
        .get("/v3/space_quotas", list_space)
        .lists(&["names", "organization_guids", "space_guids"])
        .post("/v3/space_quotas", no_space_quota)
        .raw()
        .get("/v3/space_quotas/{guid}", show_space)
}

/// Without limits.
pub(crate) fn unlimited() -> Value {
    json!({
        "apps": { "total_memory_in_mb": null, "per_process_memory_in_mb": null, "total_instances": null, "per_app_tasks": null, "log_rate_limit_in_bytes_per_second": null },
        "services": { "paid_services_allowed": true, "total_service_instances": null, "total_service_keys": null },
        "routes": { "total_routes": null, "total_reserved_ports": null },
        "domains": { "total_domains": null },
    })
}

/// The organizations that the caller sees are shown, and no others.
async fn present(
    cc: &Cc,
    conn: &mut Connection,
    who: &Principal,
    quota: &OrganizationQuota,
) -> ApiResult<Value> {
    let organizations: Vec<String> = who
        .visible::<Organization>()
        .is("quota_guid", &quota.guid)
        .all(conn)
        .await?
        .into_iter()
        .map(|row| row.guid)
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
    for (key, value) in quota.limits.0.as_object().into_iter().flatten() {
        json[key] = value.clone();
    }
    Ok(json)
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let select = query.filter(who.visible::<OrganizationQuota>(), "names", "name");
    let select = query.filter_by(
        select,
        "organization_guids",
        "guid IN (SELECT quota_guid FROM organizations WHERE guid IN (?))",
    );
    let found = query.fetch(&mut conn, select).await?;
    let mut resources = Vec::new();
    for quota in &found.rows {
        resources.push(present(&cc, &mut conn, &who, quota).await?);
    }
    Ok(ok(cc.page(&query, found.total, resources)))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let quota = who
        .find::<OrganizationQuota>(&mut conn, &guid, Right::Read)
        .await?
        .row;
    Ok(ok(present(&cc, &mut conn, &who, &quota).await?))
}

/// Overwrites the limits that the body gives.
fn merge(limits: &mut Value, body: &Body) {
    for group in ["apps", "services", "routes", "domains"] {
        for (key, value) in body
            .value(group)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            limits[group][key] = value.clone();
        }
    }
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    who.must_be_admin()?;
    let mut quota = OrganizationQuota {
        name: body.required_string("name"),
        limits: db::Json(unlimited()),
        ..OrganizationQuota::fresh()
    };
    merge(&mut quota.limits.0, &body);
    body.finish()?;
    let mut tx = cc.db.write().await?;
    check_name(&mut tx, &quota).await?;
    db::insert(&mut tx, &quota).await?;
    let answer = present(&cc, &mut tx, &who, &quota).await?;
    tx.commit().await?;
    Ok(created(answer))
}

async fn check_name(conn: &mut Connection, quota: &OrganizationQuota) -> ApiResult<()> {
    if organization::is_quota_name_taken(conn, quota).await? {
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
    let mut tx = cc.db.write().await?;
    let mut quota = who
        .find::<OrganizationQuota>(&mut tx, &guid, Right::Admin)
        .await?
        .row;
    quota.name = body.optional_name("name").unwrap_or(quota.name);
    merge(&mut quota.limits.0, &body);
    body.finish()?;
    check_name(&mut tx, &quota).await?;
    quota.touch();
    db::update(&mut tx, &quota).await?;
    let answer = present(&cc, &mut tx, &who, &quota).await?;
    tx.commit().await?;
    Ok(ok(answer))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    who.must_be_admin()?;
    let mut tx = cc.db.write().await?;
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
    tx.commit().await?;
    Ok(cc.accepted(&job))
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
    let mut tx = cc.db.write().await?;
    let quota = who
        .find::<OrganizationQuota>(&mut tx, &guid, Right::Admin)
        .await?
        .row;
    for guid in &organizations {
        let unseen = format!(
            "Organizations with guids [\"{guid}\"] do not exist, or you do not have access to them."
        );
        who.named::<Organization>(&mut tx, guid, Right::Admin, &unseen)
            .await?;
        organization::assign_quota(&mut tx, guid, &quota.guid).await?;
    }
    let all: Vec<String> = organization::of_quota(&mut tx, &guid)
        .await?
        .into_iter()
        .map(|row| row.guid)
        .collect();
    tx.commit().await?;
    let mut answer = to_many(&all);
    answer["links"] = json!({ "self": cc.link(&format!("/v3/organization_quotas/{guid}/relationships/organizations")) });
    Ok(ok(answer))
}

async fn list_space(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let select = query.filter(who.visible::<SpaceQuota>(), "names", "name");
    let select = query.filter(select, "organization_guids", "organization_guid");
    let select = query.filter_by(
        select,
        "space_guids",
        "guid IN (SELECT quota_guid FROM spaces WHERE guid IN (?))",
    );
    let found = query.fetch(&mut conn, select).await?;
    Ok(ok(cc.page(&query, found.total, Vec::new())))
}

async fn show_space(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    who.find::<SpaceQuota>(&mut *cc.db.read().await?, &guid, Right::Read)
        .await?;
    Err(ApiError::not_found("Space quota"))
}

async fn no_space_quota(_who: Principal) -> ApiResult {
    Err(ApiError::unprocessable(
        "Space quotas are not supported yet; use an organization quota",
    ))
}
