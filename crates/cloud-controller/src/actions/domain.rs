//! Creating and deleting domains.

use super::route;
use crate::db::domain::{self, Domain};
use crate::db::{self, Connection, route as routes};
use crate::error::{ApiError, ApiResult};
use crate::route_rules;

pub(crate) async fn create(conn: &mut Connection, domain: &Domain) -> ApiResult<()> {
    route_rules::check_domain_name(&domain.name).map_err(ApiError::unprocessable)?;
    let refused = |what: String| {
        ApiError::unprocessable(format!(
            "The domain name \"{}\" cannot be created because {what}",
            domain.name
        ))
    };
    if domain::by_name(conn, &domain.name).await?.is_some() {
        return Err(ApiError::unprocessable(format!(
            "The domain name \"{}\" is already in use",
            domain.name
        )));
    }
    let mut parent = domain.name.as_str();
    while let Some((label, rest)) = parent.split_once('.') {
        if let Some(above) = domain::by_name(conn, rest).await? {
            if above.organization_guid.is_some()
                && above.organization_guid != domain.organization_guid
            {
                return Err(refused(format!(
                    "\"{rest}\" is already reserved by another domain"
                )));
            }
            if parent == domain.name
                && !routes::of_domain(conn, &above.guid)
                    .await?
                    .iter()
                    .all(|route| !route.host.eq_ignore_ascii_case(label))
            {
                return Err(refused(format!(
                    "\"{}\" is already reserved by a route",
                    domain.name
                )));
            }
        }
        parent = rest;
    }
    let below = domain::below(conn, &domain.name).await?;
    if let Some(other) = below.iter().find(|other| {
        other.organization_guid != domain.organization_guid && domain.organization_guid.is_some()
    }) {
        return Err(refused(format!(
            "\"{}\" is already reserved by another domain",
            other.name
        )));
    }
    db::insert(conn, domain).await?;
    Ok(())
}

/// With its routes. Answers the processes whose routes change.
pub(crate) async fn delete(conn: &mut Connection, domain: &Domain) -> ApiResult<Vec<String>> {
    let mut processes = Vec::new();
    for route in routes::of_domain(conn, &domain.guid).await? {
        processes.extend(route::delete(conn, &route).await?);
    }
    db::delete::<Domain>(conn, &domain.guid).await?;
    Ok(processes)
}
