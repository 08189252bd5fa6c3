//! The endpoints `/v3/domains`.

use super::prelude::*;
use crate::actions::{self, audit, job};
use crate::db::domain::{self, Domain, PolicyScope};
use crate::db::organization::Organization;
use crate::db::route;
use crate::flags::Flag;
use crate::jobs;

pub(super) const FILTERS: &[&str] = &["names", "organization_guids"];

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/domains", list)
        .lists(FILTERS)
        .post("/v3/domains", create)
        .body(&[
            "name",
            "internal",
            "router_group.guid",
            "enforce_route_policies",
            "route_policies_scope",
            "relationships.organization.data.guid",
            "relationships.shared_organizations.data[].guid",
            "metadata",
        ])
        .get("/v3/domains/{guid}", show)
        .patch("/v3/domains/{guid}", update)
        .body(&["enforce_route_policies", "route_policies_scope", "metadata"])
        .delete("/v3/domains/{guid}", remove)
        .get("/v3/domains/{guid}/route_reservations", reservations)
        .takes(&["host", "path", "port"])
        .post(
            "/v3/domains/{guid}/relationships/shared_organizations",
            share,
        )
        .body(&["data[].guid"])
        .delete(
            "/v3/domains/{guid}/relationships/shared_organizations/{organization}",
            unshare,
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
            cc.post_link(&format!("{path}/relationships/shared_organizations")),
        );
    }
    let shared: Vec<&String> = shares
        .iter()
        .filter(|(guid, _)| *guid == domain.guid)
        .map(|(_, organization)| organization)
        .collect();
    let mut json = resource(
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
    );
    if domain.enforce_route_policies {
        json["enforce_route_policies"] = json!(true);
        json["route_policies_scope"] = json!(domain.route_policies_scope);
    }
    json
}

/// Reads whether a new domain enforces route policies, and their scope. It notes values that contradict each other.
fn read_policies(body: &mut Body, internal: bool) -> (bool, Option<PolicyScope>) {
    let enforced = body.bool("enforce_route_policies").unwrap_or_default();
    let scope = body.string("route_policies_scope");
    let known: Option<PolicyScope> = scope.as_deref().and_then(|scope| scope.parse().ok());
    if let (Some(scope), None) = (&scope, known) {
        body.problem(format!(
            "Route policies scope must be one of 'any', 'org', 'space' (route_policies_scope is '{scope}')"
        ));
    }
    if enforced && scope.is_none() {
        body.problem("Route policies scope is required when enforce_route_policies is true: set route_policies_scope to 'any', 'org' or 'space'");
    }
    if let (false, Some(scope)) = (enforced, &scope) {
        body.problem(format!(
            "Route policies scope '{scope}' has no effect without enforce_route_policies: set enforce_route_policies to true, or leave route_policies_scope out"
        ));
    }
    if enforced && internal {
        body.problem("Internal domains cannot have route policy enforcement. Internal routes bypass GoRouter.");
    }
    (enforced, known)
}

/// Returns the organizations with which domains are shared, as (domain, organization), as far as the caller sees them.
async fn shares(
    conn: &mut Connection,
    who: &Principal,
    domains: &[String],
) -> ApiResult<Vec<(String, String)>> {
    let all = domain::shares(conn, domains).await?;
    let guids = all.iter().map(|(_, organization)| organization);
    let seen = who.visible::<Organization>().any("guid", guids);
    let seen = seen.all(conn).await?;
    Ok(all
        .into_iter()
        .filter(|(_, guid)| seen.iter().any(|organization| &organization.guid == guid))
        .collect())
}

async fn page(cc: &Cc, who: &Principal, query: &Query, select: Scope<Domain>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let select = query.filter(
        query.filter(select, "names", "name"),
        "organization_guids",
        "organization_guid",
    );
    let found = query.fetch(&mut conn, select).await?;
    let shares = shares(&mut conn, who, &found.guids()).await?;
    Ok(ok(cc.page(
        query,
        found.page,
        found
            .rows
            .iter()
            .map(|row| present(cc, row, &shares))
            .collect(),
    )))
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    page(&cc, &who, &query, who.visible()).await
}

pub(super) async fn of_organization(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    who.find::<Organization>(&mut *cc.db.read().await?, &guid, Right::Read)
        .await?;
    let domains = who.visible().that(domain::is_usable_by(&guid));
    page(&cc, &who, &query, domains).await
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let domain = who.find::<Domain>(&mut conn, &guid, Right::Read).await?.row;
    let shares = shares(&mut conn, &who, std::slice::from_ref(&guid)).await?;
    Ok(ok(present(&cc, &domain, &shares)))
}

/// Returns the place of a domain's events. Shared domains belong to the platform.
fn place(domain: &Domain) -> audit::Place<'_> {
    match &domain.organization_guid {
        Some(organization) => audit::Place::Organization(organization),
        None => audit::Place::Platform,
    }
}

/// Records an event of a domain. Cloud Foundry has no such event; it is ours.
async fn record(
    conn: &mut Connection,
    who: &Principal,
    kind: &str,
    domain: &Domain,
    data: Value,
) -> ApiResult<db::Trail> {
    let target = (domain.guid.as_str(), "domain", domain.name.as_str());
    audit::record(conn, who, kind, target, place(domain), data).await
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    let name = body.required_string("name");
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
    let (enforce_route_policies, route_policies_scope) = read_policies(&mut body, internal);
    let mut domain = Domain {
        name,
        organization_guid,
        internal,
        enforce_route_policies,
        route_policies_scope,
        ..Domain::fresh()
    };
    body.merge_metadata(&mut domain.metadata)?;
    body.finish()?;
    let mut tx = cc.change().await?;
    if let Some(organization) = &domain.organization_guid {
        let unknown = format!(
            "Organization with guid '{organization}' does not exist or you do not have access to it."
        );
        who.existing::<Organization>(&mut tx, organization, Right::ManageOrganization, &unknown)
            .await?;
        Flag::PrivateDomainCreation
            .must_be_on(&mut tx, &who)
            .await?;
    } else {
        who.must_be_admin()?;
    }
    actions::domain::create(&mut tx, &cc.settings, &domain).await?;
    share_with(&mut tx, &who, &domain, &shared).await?;
    let shares = shares(&mut tx, &who, std::slice::from_ref(&domain.guid)).await?;
    let kind = "audit.domain.create";
    let trail = record(&mut tx, &who, kind, &domain, json!({})).await?;
    tx.commit(trail).await?;
    Ok(created(present(&cc, &domain, &shares)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    for key in ["enforce_route_policies", "route_policies_scope"] {
        if body.has(key) {
            body.problem(format!(
                "'{key}' cannot be changed after the creation of a domain: create another domain with the wanted value"
            ));
        }
    }
    let mut tx = cc.change().await?;
    let mut domain = who
        .find::<Domain>(&mut tx, &guid, Right::ManageOrganization)
        .await?
        .row;
    body.merge_metadata(&mut domain.metadata)?;
    body.finish()?;
    domain.touch();
    db::update(&mut tx, &domain).await?;
    let shares = shares(&mut tx, &who, std::slice::from_ref(&guid)).await?;
    let trail = record(&mut tx, &who, "audit.domain.update", &domain, json!({})).await?;
    tx.commit(trail).await?;
    Ok(ok(present(&cc, &domain, &shares)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    who.find::<Domain>(&mut tx, &guid, Right::ManageOrganization)
        .await?;
    if !domain::shares(&mut tx, std::slice::from_ref(&guid))
        .await?
        .is_empty()
    {
        return Err(ApiError::unprocessable(
            "This domain is shared with other organizations. Unshare before deleting.",
        ));
    }
    let job = job::enqueue(&mut tx, &who, job::DELETE_DOMAIN, ("domains", &guid)).await?;
    tx.commit(Unrecorded::ByJob).await?;
    jobs::wait(&cc, &job).await;
    Ok(cc.accepted(&job))
}

async fn reservations(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let domain = who.find::<Domain>(&mut conn, &guid, Right::Read).await?.row;
    let port = match query.value("port") {
        None => 0,
        Some(port) => port
            .parse()
            .map_err(|_| ApiError::bad_query(format!("Port must be an integer (got '{port}')")))?,
    };
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
    mut body: Body,
) -> ApiResult {
    let organizations = body.read_to_many();
    body.finish()?;
    let mut tx = cc.change().await?;
    let domain = who
        .find::<Domain>(&mut tx, &guid, Right::ManageOrganization)
        .await?
        .row;
    if domain.organization_guid.is_none() {
        return Err(ApiError::unprocessable(
            "Domains can not be shared with other organizations unless they are scoped to an organization.",
        ));
    }
    share_with(&mut tx, &who, &domain, &organizations).await?;
    let shares = shares(&mut tx, &who, std::slice::from_ref(&guid)).await?;
    let data = json!({ "target_organization_guids": organizations });
    let trail = record(&mut tx, &who, "audit.domain.share", &domain, data).await?;
    tx.commit(trail).await?;
    Ok(ok(to_many(
        &shares
            .into_iter()
            .map(|(_, organization)| organization)
            .collect::<Vec<_>>(),
    )))
}

/// Shares a private domain with these organizations. The caller must manage each of them.
async fn share_with(
    conn: &mut Connection,
    who: &Principal,
    domain: &Domain,
    organizations: &[String],
) -> ApiResult<()> {
    for guid in organizations {
        let unusable = format!(
            "Organization with guid '{guid}' does not exist, or you do not have access to it: sharing a domain needs the role organization_manager there, and an organization that is not suspended."
        );
        who.share_target::<Organization>(conn, guid, Right::ManageOrganization, &unusable)
            .await?;
        if domain.organization_guid.as_ref() == Some(guid) {
            return Err(ApiError::unprocessable(
                "Domain cannot be shared with owning organization.",
            ));
        }
        domain::share(conn, &domain.guid, guid).await?;
    }
    Ok(())
}

/// Ends the sharing. The managers of either organization may do it.
async fn unshare(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, organization)): Path<(String, String)>,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let domain = who.find::<Domain>(&mut tx, &guid, Right::Read).await?;
    let unseen = format!(
        "Organization with guid '{organization}' does not exist, or you do not have access to it."
    );
    let manage = Right::ManageOrganization;
    let target = who
        .existing::<Organization>(&mut tx, &organization, Right::Read, &unseen)
        .await?;
    if !target.access.may(manage) && !domain.access.may(manage) {
        let owner = domain.access.must_hold(manage);
        owner.or_else(|_| target.access.must_hold(manage))?;
        return Err(ApiError::organization_suspended());
    }
    let target = who
        .named::<Organization>(&mut tx, &organization, Right::Read, &unseen)
        .await?;
    let name = &target.row.name;
    if route::is_domain_used_by(&mut tx, &guid, &organization).await? {
        return Err(ApiError::unprocessable(format!(
            "This domain has associated routes in organization '{name}'. Delete the routes before unsharing."
        )));
    }
    if !domain::unshare(&mut tx, &guid, &organization).await? {
        return Err(ApiError::unprocessable(format!(
            "Unable to unshare domain from organization with name '{name}'. Ensure the domain is shared to this organization."
        )));
    }
    let data = json!({ "target_organization_guid": organization });
    let trail = record(&mut tx, &who, "audit.domain.unshare", &domain.row, data).await?;
    tx.commit(trail).await?;
    Ok(no_content())
}
