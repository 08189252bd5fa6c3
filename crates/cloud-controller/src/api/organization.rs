//! The endpoints `/v3/organizations`.

use super::prelude::*;
use crate::actions::{self, audit, job};
use crate::db::domain::{self, Domain};
use crate::db::organization::Organization;
use crate::db::role::RoleType;
use crate::db::usage::Scope;
use crate::flags::Flag;
use crate::jobs;

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/organizations", list)
        .lists(&["names"])
        .post("/v3/organizations", create)
        .body(&["name", "suspended", "metadata"])
        .get("/v3/organizations/{guid}", show)
        .patch("/v3/organizations/{guid}", update)
        .body(&["name", "suspended", "metadata"])
        .delete("/v3/organizations/{guid}", remove)
        .get(
            "/v3/organizations/{guid}/domains",
            super::domain::of_organization,
        )
        .lists(super::domain::FILTERS)
        .get("/v3/organizations/{guid}/domains/default", default_domain)
        .get("/v3/organizations/{guid}/usage_summary", usage_summary)
        .get(
            "/v3/organizations/{guid}/users",
            super::user::of_organization,
        )
        .lists(super::user::FILTERS)
        .get(
            "/v3/organizations/{guid}/relationships/default_isolation_segment",
            no_segment,
        )
        .patch(
            "/v3/organizations/{guid}/relationships/default_isolation_segment",
            set_segment,
        )
        .body(&["data.guid"])
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

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let select = query.filter(who.visible::<Organization>(), "names", "name");
    let found = query.fetch(&mut conn, select).await?;
    Ok(ok(cc.page(
        &query,
        found.page,
        found.rows.iter().map(|row| present(&cc, row)).collect(),
    )))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who
        .find::<Organization>(&mut conn, &guid, Right::Read)
        .await?;
    Ok(ok(present(&cc, &found.row)))
}

/// Refuses callers who may not create organizations. Everybody may if the flag is on; administrators always may.
async fn may_create(conn: &mut Connection, who: &Principal) -> ApiResult<()> {
    if who.is_admin() || Flag::UserOrgCreation.is_on(conn).await? {
        Ok(())
    } else {
        Err(ApiError::not_authorized())
    }
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    may_create(&mut *cc.db.read().await?, &who).await?;
    let mut organization = Organization {
        name: body.required_string("name"),
        suspended: body.bool("suspended").unwrap_or_default(),
        ..Organization::fresh()
    };
    if let Some(metadata) = body.metadata() {
        organization
            .metadata
            .0
            .merge(&cc.settings.limits, metadata)?;
    }
    body.finish()?;
    if organization.suspended {
        who.must_be_admin()?;
    }
    let mut tx = cc.change().await?;
    may_create(&mut tx, &who).await?;
    let organization = actions::organization::create(&mut tx, &who, organization).await?;
    let target = (
        organization.guid.as_str(),
        "organization",
        organization.name.as_str(),
    );
    if !who.is_admin() {
        for kind in [RoleType::OrganizationUser, RoleType::OrganizationManager] {
            let (kind, me) = (
                format!("audit.user.{kind}_add"),
                (who.guid(), "user", who.name()),
            );
            audit::also(audit::record(&mut tx, &who, &kind, me, &organization, json!({})).await?);
        }
    }
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.organization.create",
        target,
        &organization,
        json!({ "request": { "name": organization.name } }),
    )
    .await?;
    tx.commit(trail).await?;
    Ok(created(present(&cc, &organization)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut organization = who
        .find::<Organization>(&mut tx, &guid, Right::ManageOrganization)
        .await?
        .row;
    let before = organization.name.clone();
    organization.name = body.optional_name("name").unwrap_or(organization.name);
    let suspended = body.bool("suspended").unwrap_or(organization.suspended);
    body.merge_metadata(&mut organization.metadata)?;
    let request = Value::Object(body.finish()?);
    // Clients send `false` with every change, so that a manager of an active organization may send it.
    if suspended {
        who.must_be_admin()?;
    }
    organization.suspended = suspended;
    let organization = actions::organization::update(&mut tx, organization).await?;
    let is_renamed = organization.name != before;
    if is_renamed {
        let place = db::process::Place::Organization(&guid);
        db::process::touch_in(&mut tx, place).await?;
        tx.sync();
    }
    let target = (guid.as_str(), "organization", organization.name.as_str());
    let (kind, data) = ("audit.organization.update", json!({ "request": request }));
    let trail = audit::record(&mut tx, &who, kind, target, &organization, data).await?;
    tx.commit(trail).await?;
    Ok(ok(present(&cc, &organization)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    who.find::<Organization>(&mut tx, &guid, Right::Admin)
        .await?;
    let resource = ("organizations", guid.as_str());
    let job = job::enqueue(&mut tx, &who, job::DELETE_ORGANIZATION, resource).await?;
    tx.commit(Unrecorded::ByJob).await?;
    jobs::wait(&cc, &job).await;
    Ok(cc.accepted(&job))
}

async fn default_domain(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    who.find::<Organization>(&mut conn, &guid, Right::Read)
        .await?;
    let shared = who
        .visible::<Domain>()
        .that(domain::is_shared())
        .that(domain::is_default());
    let domain = match shared.first(&mut conn).await? {
        Some(domain) => Some(domain),
        None => {
            let usable = who.visible::<Domain>().that(domain::is_usable_by(&guid));
            usable.that(domain::is_default()).first(&mut conn).await?
        }
    };
    let domain = domain.ok_or_else(|| ApiError::not_found("Domain"))?;
    Ok(ok(super::domain::present(&cc, &domain, &[])))
}

async fn usage_summary(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    who.find::<Organization>(&mut conn, &guid, Right::Read)
        .await?;
    let used = crate::quota::services::summary(&mut conn, Scope::Organization(&guid)).await?;
    Ok(ok(json!({ "usage_summary": used, "links": {
        "self": cc.link(&format!("/v3/organizations/{guid}/usage_summary")), "organization": cc.link(&format!("/v3/organizations/{guid}")),
    } })))
}

async fn no_segment(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    who.find::<Organization>(&mut conn, &guid, Right::Read)
        .await?;
    Ok(ok(present_no_segment(&cc, &guid)))
}

fn present_no_segment(cc: &Cc, guid: &str) -> Value {
    let path = format!("/v3/organizations/{guid}/relationships/default_isolation_segment");
    json!({ "data": null, "links": { "self": cc.link(&path) } })
}

/// Accepts only null, because there are no isolation segments.
async fn set_segment(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let wanted = body.read_to_one();
    body.finish()?;
    let mut conn = cc.db.read().await?;
    who.find::<Organization>(&mut conn, &guid, Right::ManageOrganization)
        .await?;
    match wanted {
        None => Ok(ok(present_no_segment(&cc, &guid))),
        Some(segment) => Err(ApiError::unprocessable(format!(
            "Unable to assign isolation segment with guid '{segment}'. Ensure it has been entitled to the organization."
        ))),
    }
}
