//! `/v3/domains`

use super::organizations::merge_metadata;
use super::prelude::*;
use crate::actions::{self, audit, job};
use crate::db::domain::{self, Domain};
use crate::db::route;

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/domains", get(list).post(create))
        .route("/v3/domains/{guid}", get(show).patch(update).delete(remove))
        .route("/v3/domains/{guid}/route_reservations", get(reservations))
        .route(
            "/v3/domains/{guid}/relationships/shared_organizations",
            post(share),
        )
        .route(
            "/v3/domains/{guid}/relationships/shared_organizations/{organization}",
            delete(unshare),
        )
}

pub(super) fn present(cc: &Cc, domain: &Domain, shares: &[(String, String)]) -> Value {
    let path = format!("/v3/domains/{}", domain.guid);
    let mut links = cc.links(
        &path,
        &[("route_reservations", format!("{path}/route_reservations"))],
    );
    if let Some(organization) = &domain.organization_guid {
        links.insert(
            "organization".to_owned(),
            cc.link(&format!("/v3/organizations/{organization}")),
        );
        links.insert(
            "shared_organizations".to_owned(),
            cc.link(&format!("{path}/relationships/shared_organizations")),
        );
    }
    let shared: Vec<&String> = shares
        .iter()
        .filter(|(guid, _)| *guid == domain.guid)
        .map(|(_, organization)| organization)
        .collect();
    resource(
        &domain.guid,
        domain.created_at,
        domain.updated_at,
        json!({
            "name": domain.name,
            "internal": domain.internal,
            "router_group": null,
            "supported_protocols": ["http"],
            "relationships": { "organization": to_one(domain.organization_guid.as_deref()), "shared_organizations": to_many(&shared) },
            "metadata": domain.metadata.0.present(),
            "links": links,
        }),
    )
}

fn visible(who: &Principal) -> Select {
    if who.reads_all() {
        return Select::new();
    }
    let mine =
        "SELECT organization_guid FROM roles WHERE user_guid = ? AND organization_guid IS NOT NULL";
    let condition = format!(
        "(organization_guid IS NULL OR organization_guid IN ({mine}) OR guid IN (SELECT domain_guid FROM domain_shares WHERE organization_guid IN ({mine})))"
    );
    Select::new().and(&condition, [who.guid().into(), who.guid().into()])
}

async fn find(conn: &mut Connection, who: &Principal, guid: &str) -> ApiResult<Domain> {
    visible(who)
        .is("guid", guid)
        .first(conn)
        .await?
        .ok_or_else(|| ApiError::not_found("Domain"))
}

/// Shared domains are the admins', private ones their organization's managers'.
async fn must_own(conn: &mut Connection, who: &Principal, domain: &Domain) -> ApiResult<()> {
    match &domain.organization_guid {
        None => who.must_be_admin(),
        Some(organization) => allow(
            who.in_organization(conn, organization)
                .await?
                .manages_organization(),
        ),
    }
}

async fn page(cc: &Cc, uri: &Uri, select: Select) -> ApiResult {
    let query = Query::list(uri, &["names", "organization_guids"])?;
    let mut conn = cc.db.read().await?;
    let select = query.filter(
        query.filter(select, "names", "name"),
        "organization_guids",
        "organization_guid",
    );
    let found = query.fetch::<Domain>(&mut conn, select).await?;
    let shares = domain::shares(&mut conn, &found.guids()).await?;
    Ok(ok(cc.page(
        &query,
        found.total,
        found
            .rows
            .iter()
            .map(|row| present(cc, row, &shares))
            .collect(),
    )))
}

async fn list(State(cc): State<Cc>, who: Principal, uri: Uri) -> ApiResult {
    page(&cc, &uri, visible(&who)).await
}

pub(super) async fn of_organization(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    lookup::organization(&mut *cc.db.read().await?, &who, &guid).await?;
    page(&cc, &uri, domain::usable_by(&guid)).await
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let domain = find(&mut conn, &who, &guid).await?;
    let shares = domain::shares(&mut conn, std::slice::from_ref(&guid)).await?;
    Ok(ok(present(&cc, &domain, &shares)))
}

async fn create(State(cc): State<Cc>, who: Principal, body: Body) -> ApiResult {
    let mut body = body.allow(&[
        "name",
        "internal",
        "router_group",
        "relationships",
        "metadata",
    ]);
    let name = body.required_string("name").to_ascii_lowercase();
    let organization_guid = body.relationship("organization");
    let shared = body.many_relationship("shared_organizations");
    if !shared.is_empty() && organization_guid.is_none() {
        body.problem(
            "Relationships cannot contain shared_organizations without an owning organization.",
        );
    }
    let internal = body.bool("internal").unwrap_or_default();
    if internal && organization_guid.is_some() {
        body.problem("Can not associate an internal domain with an organization");
    }
    if body
        .value("router_group")
        .is_some_and(|group| !group.is_null())
    {
        body.problem("Router groups are not available: TCP domains are not supported yet");
    }
    let mut domain = Domain {
        name,
        organization_guid,
        internal,
        ..Domain::fresh()
    };
    merge_metadata(&body, &mut domain.metadata)?;
    body.finish()?;
    let mut tx = cc.db.write().await?;
    if let Some(organization) = &domain.organization_guid {
        let invalid = |_| {
            ApiError::unprocessable(format!(
                "Organization with guid '{organization}' does not exist or you do not have access to it."
            ))
        };
        let (_, access) = lookup::organization(&mut tx, &who, organization)
            .await
            .map_err(invalid)?;
        allow(access.manages_organization())?;
    } else {
        who.must_be_admin()?;
    }
    actions::domain::create(&mut tx, &domain).await?;
    share_with(&mut tx, &who, &domain.guid, &shared).await?;
    let shares = domain::shares(&mut tx, std::slice::from_ref(&domain.guid)).await?;
    audit::record(
        &mut tx,
        &who,
        "audit.domain.create",
        (&domain.guid, "domain", &domain.name),
        None,
        json!({}),
    )
    .await?;
    tx.commit().await?;
    Ok(created(present(&cc, &domain, &shares)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let body = body.allow(&["metadata"]);
    let mut tx = cc.db.write().await?;
    let mut domain = find(&mut tx, &who, &guid).await?;
    must_own(&mut tx, &who, &domain).await?;
    merge_metadata(&body, &mut domain.metadata)?;
    body.finish()?;
    domain.touch();
    db::update(&mut tx, &domain).await?;
    let shares = domain::shares(&mut tx, std::slice::from_ref(&guid)).await?;
    tx.commit().await?;
    Ok(ok(present(&cc, &domain, &shares)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.db.write().await?;
    let domain = find(&mut tx, &who, &guid).await?;
    must_own(&mut tx, &who, &domain).await?;
    let touched = actions::domain::delete(&mut tx, &domain).await?;
    audit::record(
        &mut tx,
        &who,
        "audit.domain.delete-request",
        (&domain.guid, "domain", &domain.name),
        None,
        json!({}),
    )
    .await?;
    let job = job::complete(&mut tx, "domain.delete", ("domains", &guid)).await?;
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(cc.accepted(&job))
}

async fn reservations(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    let query = Query::only(&uri, &["host", "path", "port"])?;
    let mut conn = cc.db.read().await?;
    let domain = find(&mut conn, &who, &guid).await?;
    let port = query
        .value("port")
        .and_then(|port| port.parse().ok())
        .unwrap_or_default();
    let found = route::find(
        &mut conn,
        query.value("host").unwrap_or_default(),
        &domain.guid,
        query.value("path").unwrap_or_default(),
        port,
    )
    .await?;
    Ok(ok(json!({ "matching_route": found.is_some() })))
}

async fn share(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut body = body.allow(&["data"]);
    let organizations = body.read_to_many();
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let domain = find(&mut tx, &who, &guid).await?;
    must_own(&mut tx, &who, &domain).await?;
    if domain.organization_guid.is_none() {
        return Err(ApiError::unprocessable(
            "Domains can not be shared with other organizations unless they are scoped to an organization.",
        ));
    }
    share_with(&mut tx, &who, &guid, &organizations).await?;
    let shares = domain::shares(&mut tx, std::slice::from_ref(&guid)).await?;
    tx.commit().await?;
    Ok(ok(to_many(
        &shares
            .into_iter()
            .map(|(_, organization)| organization)
            .collect::<Vec<_>>(),
    )))
}

/// Lets these organizations use a private domain too.
async fn share_with(
    conn: &mut Connection,
    who: &Principal,
    domain_guid: &str,
    organizations: &[String],
) -> ApiResult<()> {
    for organization in organizations {
        let invalid = |_| {
            ApiError::unprocessable(format!(
                "Organization with guid '{organization}' does not exist, or you do not have access to it."
            ))
        };
        lookup::organization(conn, who, organization)
            .await
            .map_err(invalid)?;
        domain::share(conn, domain_guid, organization).await?;
    }
    Ok(())
}

async fn unshare(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, organization)): Path<(String, String)>,
) -> ApiResult {
    let mut tx = cc.db.write().await?;
    let domain = find(&mut tx, &who, &guid).await?;
    must_own(&mut tx, &who, &domain).await?;
    if !domain::unshare(&mut tx, &guid, &organization).await? {
        return Err(ApiError::unprocessable(format!(
            "Unable to unshare domain from organization with name '{organization}'. Ensure the domain is shared to this organization."
        )));
    }
    tx.commit().await?;
    Ok(no_content())
}
