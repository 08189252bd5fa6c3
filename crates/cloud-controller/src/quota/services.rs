//! The quotas of managed service instances and of keys, and the summary of all that quotas limit. A refusal has the original's text.

use crate::db::organization::Organization;
use crate::db::organization_quota::OrganizationQuota;
use crate::db::service_plan::ServicePlan;
use crate::db::space::Space;
use crate::db::space_quota::SpaceQuota;
use crate::db::usage::{self, Scope};
use crate::db::{self, Connection};
use crate::error::{ApiError, ApiResult};
use serde_json::{Value, json};

/// The limits of one quota on services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    instances: Option<i64>,
    keys: Option<i64>,
    paid: bool,
}

impl Limits {
    fn read(json: &Value) -> Self {
        let limit = |path: &str| json.pointer(path).and_then(Value::as_i64);
        let paid = json.pointer("/services/paid_services_allowed");
        Self {
            instances: limit("/services/total_service_instances"),
            keys: limit("/services/total_service_keys"),
            paid: paid.and_then(Value::as_bool).unwrap_or(true),
        }
    }
}

/// The quotas that apply to a space: its own one, if it has one, and that of its organization.
struct Quotas {
    space: Option<Limits>,
    organization: Option<Limits>,
}

async fn quotas(conn: &mut Connection, space: &Space) -> ApiResult<Quotas> {
    let own = match &space.quota_guid {
        Some(guid) => db::by_guid::<SpaceQuota>(conn, guid).await?,
        None => None,
    };
    let organization: Option<Organization> = db::by_guid(conn, &space.organization_guid).await?;
    let above = match organization {
        Some(organization) => {
            db::by_guid::<OrganizationQuota>(conn, &organization.quota_guid).await?
        }
        None => None,
    };
    Ok(Quotas {
        space: own.map(|quota| Limits::read(&quota.limits.0)),
        organization: above.map(|quota| Limits::read(&quota.limits.0)),
    })
}

fn is_full(limit: Option<i64>, used: i64) -> bool {
    limit.is_some_and(|limit| used >= limit)
}

/// Refuses one more managed instance of a plan in a space.
pub(crate) async fn check_instance(
    conn: &mut Connection,
    space: &Space,
    plan: &ServicePlan,
) -> ApiResult<()> {
    let quotas = quotas(conn, space).await?;
    if let Some(limits) = quotas.space {
        let used = usage::of_services(conn, Scope::Space(&space.guid)).await?;
        if is_full(limits.instances, used.instances) {
            return Err(refused("You have exceeded your space's services limit."));
        }
    }
    if let Some(limits) = quotas.organization {
        let scope = Scope::Organization(&space.organization_guid);
        let used = usage::of_services(conn, scope).await?;
        if is_full(limits.instances, used.instances) {
            return Err(refused(
                "You have exceeded your organization's services limit.",
            ));
        }
    }
    paid(&quotas, plan)
}

/// Refuses a plan that is not free, if the quotas of a space permit none.
pub(crate) async fn check_plan(
    conn: &mut Connection,
    space: &Space,
    plan: &ServicePlan,
) -> ApiResult<()> {
    paid(&quotas(conn, space).await?, plan)
}

fn paid(quotas: &Quotas, plan: &ServicePlan) -> ApiResult<()> {
    let permits = |limits: Option<Limits>| plan.free || limits.is_none_or(|limits| limits.paid);
    if !permits(quotas.space) {
        return Err(refused(
            "The service instance cannot be created because paid service plans are not allowed for your space.",
        ));
    }
    if !permits(quotas.organization) {
        return Err(refused(
            "The service instance cannot be created because paid service plans are not allowed.",
        ));
    }
    Ok(())
}

/// Refuses one more key of an instance in a space.
pub(crate) async fn check_key(conn: &mut Connection, space: &Space) -> ApiResult<()> {
    let quotas = quotas(conn, space).await?;
    if let Some(limits) = quotas.space {
        let used = usage::of_services(conn, Scope::Space(&space.guid)).await?;
        if is_full(limits.keys, used.keys) {
            return Err(refused(
                "You have exceeded your space's limit for service binding of type key.",
            ));
        }
    }
    if let Some(limits) = quotas.organization {
        let scope = Scope::Organization(&space.organization_guid);
        let used = usage::of_services(conn, scope).await?;
        if is_full(limits.keys, used.keys) {
            return Err(refused(
                "You have exceeded your organization's limit for service binding of type key.",
            ));
        }
    }
    Ok(())
}

fn refused(text: &str) -> ApiError {
    ApiError::unprocessable(text)
}

/// Returns the API's object of what is in use.
pub(crate) async fn summary(conn: &mut Connection, scope: Scope<'_>) -> ApiResult<Value> {
    let apps = usage::of_apps(conn, scope).await?;
    let routes = usage::of_routes(conn, scope).await?;
    let services = usage::of_services(conn, scope).await?;
    Ok(json!({
        "started_instances": apps.instances,
        "memory_in_mb": apps.memory_in_mb,
        "routes": routes.routes,
        "service_instances": services.instances,
        "reserved_ports": routes.reserved_ports,
        "domains": usage::private_domains(conn, scope).await?,
        "per_app_tasks": apps.tasks,
        "service_keys": services.keys,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_reached_and_absent_limits_permit_everything() {
        assert!(!is_full(None, 1_000_000));
        assert!(!is_full(Some(2), 1));
        assert!(is_full(Some(2), 2));
        assert!(is_full(Some(0), 0));
        let all = Limits::read(&json!({}));
        assert_eq!((all.instances, all.keys, all.paid), (None, None, true));
        let none = Limits::read(&json!({ "services": {
            "paid_services_allowed": false, "total_service_instances": 3, "total_service_keys": 0,
        } }));
        assert_eq!(
            (none.instances, none.keys, none.paid),
            (Some(3), Some(0), false)
        );
    }

    #[test]
    fn plans_that_are_not_free_need_both_quotas() {
        let limits = |paid| Limits {
            instances: None,
            keys: None,
            paid,
        };
        let refusal = |space, organization, free| {
            let quotas = Quotas {
                space,
                organization,
            };
            let plan = ServicePlan {
                free,
                ..ServicePlan::default()
            };
            paid(&quotas, &plan).err().map(|error| error.to_string())
        };
        let permitted = Some(limits(true));
        let forbidden = Some(limits(false));
        assert_eq!(refusal(None, permitted, false), None);
        assert_eq!(refusal(forbidden, forbidden, true), None);
        let text = refusal(forbidden, permitted, false).unwrap();
        assert!(text.ends_with("not allowed for your space."), "{text}");
        let text = refusal(None, forbidden, false).unwrap();
        assert!(text.ends_with("plans are not allowed."), "{text}");
    }
}
