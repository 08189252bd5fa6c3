//! Organization and space quotas. They are kept and shown; nothing is refused because of one yet.

use super::prelude::*;
use crate::actions::job;
use crate::db::organization::{self, Organization, OrganizationQuota, SpaceQuota};

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/organization_quotas", get(list).post(create))
        .route(
            "/v3/organization_quotas/{guid}",
            get(show).patch(update).delete(remove),
        )
        .route(
            "/v3/organization_quotas/{guid}/relationships/organizations",
            post(assign),
        )
        .route("/v3/space_quotas", get(list_space).post(no_space_quota))
        .route("/v3/space_quotas/{guid}", get(show_space))
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

async fn present(cc: &Cc, conn: &mut Connection, quota: &OrganizationQuota) -> ApiResult<Value> {
    let organizations: Vec<String> = organization::of_quota(conn, &quota.guid)
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

async fn list(State(cc): State<Cc>, _who: Principal, uri: Uri) -> ApiResult {
    let query = Query::list(&uri, &["names", "organization_guids"])?;
    let mut conn = cc.db.read().await?;
    let select = query.filter(Select::new(), "names", "name");
    let select = query.filter_by(
        select,
        "organization_guids",
        "guid IN (SELECT quota_guid FROM organizations WHERE guid IN (?))",
    );
    let found = query.fetch::<OrganizationQuota>(&mut conn, select).await?;
    let mut resources = Vec::new();
    for quota in &found.rows {
        resources.push(present(&cc, &mut conn, quota).await?);
    }
    Ok(ok(cc.page(&query, found.total, resources)))
}

async fn show(State(cc): State<Cc>, _who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let quota: OrganizationQuota = lookup::row(&mut conn, &guid, "Organization quota").await?;
    Ok(ok(present(&cc, &mut conn, &quota).await?))
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

async fn create(State(cc): State<Cc>, who: Principal, body: Body) -> ApiResult {
    who.must_be_admin()?;
    let mut body = body.allow(&[
        "name",
        "apps",
        "services",
        "routes",
        "domains",
        "relationships",
    ]);
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
    let answer = present(&cc, &mut tx, &quota).await?;
    tx.commit().await?;
    Ok(created(answer))
}

async fn check_name(conn: &mut Connection, quota: &OrganizationQuota) -> ApiResult<()> {
    let taken = Select::new()
        .is("name", &quota.name)
        .and("guid <> ?", [(&quota.guid).into()])
        .exists::<OrganizationQuota>(conn)
        .await?;
    if taken {
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
    body: Body,
) -> ApiResult {
    who.must_be_admin()?;
    let mut body = body.allow(&["name", "apps", "services", "routes", "domains"]);
    let mut tx = cc.db.write().await?;
    let mut quota: OrganizationQuota = lookup::row(&mut tx, &guid, "Organization quota").await?;
    quota.name = body.optional_name("name").unwrap_or(quota.name);
    merge(&mut quota.limits.0, &body);
    body.finish()?;
    check_name(&mut tx, &quota).await?;
    quota.touch();
    db::update(&mut tx, &quota).await?;
    let answer = present(&cc, &mut tx, &quota).await?;
    tx.commit().await?;
    Ok(ok(answer))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    who.must_be_admin()?;
    let mut tx = cc.db.write().await?;
    let quota: OrganizationQuota = lookup::row(&mut tx, &guid, "Organization quota").await?;
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
    body: Body,
) -> ApiResult {
    who.must_be_admin()?;
    let mut body = body.allow(&["data"]);
    let organizations = body.read_to_many();
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let quota: OrganizationQuota = lookup::row(&mut tx, &guid, "Organization quota").await?;
    for guid in &organizations {
        let unknown = || {
            ApiError::unprocessable(format!(
                "Organizations with guids [\"{guid}\"] do not exist, or you do not have access to them."
            ))
        };
        db::by_guid::<Organization>(&mut tx, guid)
            .await?
            .ok_or_else(unknown)?;
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

async fn list_space(State(cc): State<Cc>, who: Principal, uri: Uri) -> ApiResult {
    let query = Query::list(&uri, &["names", "organization_guids", "space_guids"])?;
    let mut conn = cc.db.read().await?;
    let select = query.filter(
        who.sees_organizations(Select::new(), "organization_guid"),
        "names",
        "name",
    );
    let found = query
        .fetch::<SpaceQuota>(
            &mut conn,
            query.filter(select, "organization_guids", "organization_guid"),
        )
        .await?;
    Ok(ok(cc.page(&query, found.total, Vec::new())))
}

async fn show_space(_who: Principal) -> ApiResult {
    Err(ApiError::not_found("Space quota"))
}

async fn no_space_quota(_who: Principal) -> ApiResult {
    Err(ApiError::unprocessable(
        "Space quotas are not supported yet; use an organization quota",
    ))
}
