//! Verbs of route policies: create and remove. The permitted callers of a route are a part of its routes in Diego.

use super::route::mark_processes_of;
use crate::change::Change;
use crate::controller::Settings;
use crate::db;
use crate::db::domain::{Domain, PolicyScope};
use crate::db::route::Route;
use crate::db::route_policy::{self, RoutePolicy};
use crate::error::{ApiError, ApiResult};
use cc_rules::policy_source::PolicySource;

/// Creates a route policy, and marks the processes whose routes change.
pub(crate) async fn create(
    tx: &mut Change,
    settings: &Settings,
    route: &Route,
    domain: &Domain,
    source: &PolicySource,
    policy: &RoutePolicy,
) -> ApiResult<()> {
    check_domain(route, domain, source).map_err(ApiError::unprocessable)?;
    let siblings = route_policy::of_route(tx, &route.guid).await?;
    let most = settings.limits.route_policies_per_route;
    check_siblings(source, &siblings, most).map_err(ApiError::unprocessable)?;
    db::insert(tx, policy).await?;
    mark_processes_of(tx, &route.guid).await
}

/// Removes a route policy, and marks the processes whose routes change.
pub(crate) async fn delete(tx: &mut Change, policy: &RoutePolicy) -> ApiResult<()> {
    db::delete::<RoutePolicy>(tx, &policy.guid).await?;
    mark_processes_of(tx, &policy.route_guid).await
}

fn check_domain(route: &Route, domain: &Domain, source: &PolicySource) -> Result<(), String> {
    let name = &domain.name;
    if domain.internal {
        return Err(format!(
            "Cannot create route policies for routes on internal domains. Internal routes use container-to-container networking and bypass GoRouter: use network policies (the route's domain is '{name}')."
        ));
    }
    if !domain.enforce_route_policies {
        return Err(format!(
            "Cannot create route policies for route '{}': the route's domain does not have enforce_route_policies enabled. It is '{name}'; use a route on a domain that enforces them.",
            route.guid
        ));
    }
    let of_space = domain.route_policies_scope == Some(PolicyScope::Space);
    if of_space && matches!(source, PolicySource::Organization(_)) {
        return Err(format!(
            "Source '{source}' is not allowed: domain's route_policies_scope is 'space'. Use 'cf:app:<uuid>', 'cf:space:<uuid>' or 'cf:any'."
        ));
    }
    Ok(())
}

fn check_siblings(
    source: &PolicySource,
    siblings: &[RoutePolicy],
    most: u32,
) -> Result<(), String> {
    let text = source.to_string();
    if siblings.iter().any(|other| other.source == text) {
        return Err(format!(
            "A route policy with source '{source}' already exists for this route."
        ));
    }
    if *source == PolicySource::Any && !siblings.is_empty() {
        return Err(format!(
            "Source 'cf:any' cannot coexist with other route policies on the same route (there are {}); delete them first.",
            siblings.len()
        ));
    }
    if let Some(any) = siblings.iter().find(|other| other.source == "cf:any") {
        return Err(format!(
            "Source '{source}' cannot coexist with the existing 'cf:any' policy on this route; delete the policy '{}' first.",
            any.guid
        ));
    }
    if siblings.len() >= most as usize {
        return Err(format!(
            "A route has at most {most} route policies; use a 'cf:space:<uuid>' or 'cf:org:<uuid>' source in place of several."
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "d76446a1-f429-4444-8797-be2f78b75b08";

    fn siblings(sources: &[&str]) -> Vec<RoutePolicy> {
        let row = |source: &&str| RoutePolicy {
            source: (*source).to_owned(),
            ..RoutePolicy::fresh()
        };
        sources.iter().map(row).collect()
    }

    #[test]
    fn any_excludes_other_sources_and_no_source_occurs_twice() {
        let (app, any) = (PolicySource::App(GUID.into()), PolicySource::Any);
        let (own, space) = (format!("cf:app:{GUID}"), format!("cf:space:{GUID}"));
        for (source, others, wanted) in [
            (&app, vec![], None),
            (&any, vec![], None),
            (&app, vec![space.as_str()], None),
            (&app, vec![own.as_str()], Some("already exists")),
            (&any, vec!["cf:any"], Some("already exists")),
            (
                &any,
                vec![own.as_str()],
                Some("Source 'cf:any' cannot coexist"),
            ),
            (
                &app,
                vec!["cf:any"],
                Some("cannot coexist with the existing 'cf:any'"),
            ),
            (&app, vec![space.as_str(), "cf:org:x"], Some("at most 2")),
        ] {
            let checked = check_siblings(source, &siblings(&others), 2);
            match wanted {
                None => assert_eq!(checked, Ok(()), "{source} beside {others:?}"),
                Some(text) => assert!(checked.unwrap_err().contains(text), "{source} {others:?}"),
            }
        }
    }

    #[test]
    fn the_domain_must_enforce_policies() {
        let domain = |internal, enforced, scope| Domain {
            internal,
            enforce_route_policies: enforced,
            route_policies_scope: scope,
            ..Domain::fresh()
        };
        let org = PolicySource::Organization(GUID.into());
        let space = PolicySource::Space(GUID.into());
        let check = |domain: &Domain, source| check_domain(&Route::fresh(), domain, source);
        for scope in [PolicyScope::Any, PolicyScope::Org] {
            assert_eq!(check(&domain(false, true, Some(scope)), &org), Ok(()));
        }
        assert_eq!(
            check(&domain(false, true, Some(PolicyScope::Space)), &space),
            Ok(())
        );
        for (domain, text) in [
            (domain(true, false, None), "internal domains"),
            (domain(false, false, None), "enforce_route_policies"),
            (
                domain(false, true, Some(PolicyScope::Space)),
                "route_policies_scope is 'space'",
            ),
        ] {
            assert!(check(&domain, &org).unwrap_err().contains(text));
        }
    }
}
