//! Verbs of domains: create and remove. They decide who may have which name.

use super::audit::{self, Target};
use super::job::Progress;
use super::managed_binding::Removal;
use super::route_deletion;
use crate::change::Change;
use crate::controller::Settings;
use crate::db::domain::{self, Domain};
use crate::db::service_instance::DELETE;
use crate::db::{self, Connection, route as routes};
use crate::error::{ApiError, ApiResult};
use crate::quota::{Meter, Subject};
use cc_rules::route_rules;

/// Creates a domain. The same rules apply to all callers, including administrators.
pub(crate) async fn create(
    conn: &mut Connection,
    settings: &Settings,
    domain: &Domain,
) -> ApiResult<()> {
    route_rules::check_domain_name(&domain.name)?;
    let shared = domain.organization_guid.is_none();
    settings
        .names
        .domain(&domain.name, shared)
        .map_err(|reserved| ApiError::unprocessable(reserved.of_domain(&domain.name)))?;
    if !shared
        && settings
            .reserved_private_domains
            .iter()
            .any(|suffix| suffix.eq_ignore_ascii_case(&domain.name))
    {
        return Err(ApiError::unprocessable(format!(
            "The \"{}\" domain is reserved and cannot be used for org-scoped domains.",
            domain.name
        )));
    }
    if domain::by_name(conn, &domain.name).await?.is_some() {
        return Err(ApiError::unprocessable(format!(
            "The domain name \"{}\" is already in use",
            domain.name
        )));
    }
    check_neighbours(conn, domain).await?;
    let Some(organization) = &domain.organization_guid else {
        db::insert(conn, domain).await?;
        return Ok(());
    };
    let meter = Meter::of_organization(conn, organization).await?;
    db::insert(conn, domain).await?;
    meter.check(conn, Subject::Domain).await
}

/// Refuses a name below a private domain of another organization, a name at or below the name of a route, and a private name
/// above a domain that does not belong to the same organization.
async fn check_neighbours(conn: &mut Connection, domain: &Domain) -> ApiResult<()> {
    let refused = |name: &str, by: &str| {
        ApiError::unprocessable(format!(
            "The domain name \"{}\" cannot be created because \"{name}\" is already reserved by {by}",
            domain.name
        ))
    };
    let mut name = domain.name.as_str();
    while let Some((label, rest)) = name.split_once('.') {
        if let Some(above) = domain::by_name(conn, rest).await? {
            if above.organization_guid.is_some()
                && above.organization_guid != domain.organization_guid
            {
                return Err(refused(rest, "another domain"));
            }
            if routes::has_host(conn, &above.guid, label).await? {
                return Err(refused(name, "a route"));
            }
        }
        name = rest;
    }
    if domain.organization_guid.is_none() {
        return Ok(());
    }
    let below = domain::below(conn, &domain.name).await?;
    match below
        .iter()
        .find(|other| other.organization_guid != domain.organization_guid)
    {
        Some(other) => Err(refused(&other.name, "another domain")),
        None => Ok(()),
    }
}

/// Removes one part of a domain: a route, and at last the domain itself. A job calls it until the domain is gone; it waits for the jobs
/// that remove the bindings of routes at their brokers. A removal that has failed since `since` ends it. Events are recorded in the name of
/// `actor`.
pub(crate) async fn delete_part(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (guid, since): (&str, i64),
) -> ApiResult<Progress> {
    let Some(domain) = db::by_guid::<Domain>(tx, guid).await? else {
        return Ok(Progress::Done);
    };
    if let Some(route) = routes::first_of_domain(tx, guid).await? {
        return match route_deletion::remove(tx, settings, actor, (&route, since)).await? {
            Removal::Gone => Ok(Progress::More),
            Removal::Waiting => Ok(Progress::waiting(since)),
            Removal::Failed(text) => Err(ApiError::unable(DELETE, text)),
        };
    }
    audit::also(audit::deleted_domain(tx, actor, &domain).await?);
    db::delete::<Domain>(tx, guid).await?;
    Ok(Progress::Done)
}
