//! `/v3/organizations`

use super::prelude::*;
use crate::actions::{self, audit, job};
use crate::db::organization::Organization;
use crate::db::{Json, domain};

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/organizations", get(list).post(create))
        .route(
            "/v3/organizations/{guid}",
            get(show).patch(update).delete(remove),
        )
        .route(
            "/v3/organizations/{guid}/domains",
            get(super::domains::of_organization),
        )
        .route(
            "/v3/organizations/{guid}/domains/default",
            get(default_domain),
        )
        .route("/v3/organizations/{guid}/usage_summary", get(usage_summary))
        .route(
            "/v3/organizations/{guid}/users",
            get(super::users::of_organization),
        )
        .route(
            "/v3/organizations/{guid}/relationships/default_isolation_segment",
            get(no_segment).patch(no_segment),
        )
}

pub(super) fn present(cc: &Cc, organization: &Organization) -> Value {
    let path = format!("/v3/organizations/{}", organization.guid);
    let links = [
        ("domains", format!("{path}/domains")),
        ("default_domain", format!("{path}/domains/default")),
        (
            "quota",
            format!("/v3/organization_quotas/{}", organization.quota_guid),
        ),
    ];
    resource(
        &organization.guid,
        organization.created_at,
        organization.updated_at,
        json!({
            "name": organization.name,
            "suspended": organization.suspended,
            "relationships": { "quota": to_one(Some(&organization.quota_guid)) },
            "metadata": organization.metadata.0.present(),
            "links": cc.links(&path, &links),
        }),
    )
}

async fn list(State(cc): State<Cc>, who: Principal, uri: Uri) -> ApiResult {
    let query = Query::list(&uri, &["names"])?;
    let mut conn = cc.db.read().await?;
    let select = query.filter(
        who.sees_organizations(Select::new(), "guid"),
        "names",
        "name",
    );
    let found = query.fetch(&mut conn, select).await?;
    Ok(ok(cc.page(
        &query,
        found.total,
        found.rows.iter().map(|row| present(&cc, row)).collect(),
    )))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    Ok(ok(present(
        &cc,
        &lookup::organization(&mut conn, &who, &guid).await?.0,
    )))
}

async fn create(State(cc): State<Cc>, who: Principal, body: Body) -> ApiResult {
    let mut body = body.allow(&["name", "suspended", "relationships", "metadata"]);
    let mut organization = Organization {
        name: body.required_string("name"),
        suspended: body.bool("suspended").unwrap_or_default(),
        ..Organization::fresh()
    };
    if let Some(metadata) = body.metadata() {
        organization.metadata.0.merge(metadata)?;
    }
    body.finish()?;
    let mut tx = cc.db.write().await?;
    if !who.is_admin() {
        let enabled = super::platform::flag_is_on(&mut tx, "user_org_creation").await?;
        allow(enabled)?;
    }
    let organization = actions::organization::create(&mut tx, &who, organization).await?;
    let target = (
        organization.guid.as_str(),
        "organization",
        organization.name.as_str(),
    );
    audit::record(
        &mut tx,
        &who,
        "audit.organization.create",
        target,
        None,
        json!({ "request": { "name": organization.name } }),
    )
    .await?;
    tx.commit().await?;
    Ok(created(present(&cc, &organization)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut body = body.allow(&["name", "suspended", "metadata"]);
    let mut tx = cc.db.write().await?;
    let (mut organization, access) = lookup::organization(&mut tx, &who, &guid).await?;
    allow(access.manages_organization())?;
    organization.name = body.optional_name("name").unwrap_or(organization.name);
    if let Some(suspended) = body.bool("suspended") {
        who.must_be_admin()?;
        organization.suspended = suspended;
    }
    merge_metadata(&body, &mut organization.metadata)?;
    body.finish()?;
    let organization = actions::organization::update(&mut tx, organization).await?;
    tx.commit().await?;
    Ok(ok(present(&cc, &organization)))
}

/// Of any resource's update.
pub(super) fn merge_metadata(
    body: &Body,
    metadata: &mut Json<crate::metadata::Metadata>,
) -> ApiResult<()> {
    match body.metadata() {
        Some(change) => metadata.0.merge(change),
        None => Ok(()),
    }
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.db.write().await?;
    let (organization, _) = lookup::organization(&mut tx, &who, &guid).await?;
    who.must_be_admin()?;
    let touched = actions::organization::delete(&mut tx, &organization).await?;
    let target = (
        organization.guid.as_str(),
        "organization",
        organization.name.as_str(),
    );
    audit::record(
        &mut tx,
        &who,
        "audit.organization.delete-request",
        target,
        None,
        json!({}),
    )
    .await?;
    let job = job::complete(&mut tx, "organization.delete", ("organizations", &guid)).await?;
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(cc.accepted(&job))
}

async fn default_domain(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    lookup::organization(&mut conn, &who, &guid).await?;
    let domain = domain::default_for(&mut conn, &guid)
        .await?
        .ok_or_else(|| ApiError::not_found("Domain"))?;
    Ok(ok(super::domains::present(&cc, &domain, &[])))
}

async fn usage_summary(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    lookup::organization(&mut conn, &who, &guid).await?;
    let condition = "app_guid IN (SELECT a.guid FROM apps a JOIN spaces s ON s.guid = a.space_guid WHERE a.state = 'STARTED' AND s.organization_guid = ?)";
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
        "self": cc.link(&format!("/v3/organizations/{guid}/usage_summary")), "organization": cc.link(&format!("/v3/organizations/{guid}")),
    } }),
    ))
}

async fn no_segment(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    lookup::organization(&mut conn, &who, &guid).await?;
    let path = format!("/v3/organizations/{guid}/relationships/default_isolation_segment");
    Ok(ok(
        json!({ "data": null, "links": { "self": cc.link(&path) } }),
    ))
}
