//! Verbs of service route bindings: bind a route to a service instance, and unbind it. Requests for a bound route go to the service
//! first, so each verb marks the processes behind the route; instances that run stay as they are.

use super::audit::{self, Target};
use super::route::{mark_processes_of, mark_processes_of_all};
use crate::change::Change;
use crate::controller::Settings;
use crate::db::domain::Domain;
use crate::db::route::Route;
use crate::db::service_instance::{CREATE, DELETE, FAILED, LastOperation, ServiceInstance};
use crate::db::service_route_binding::{self, ServiceRouteBinding};
use crate::db::space::Space;
use crate::db::{self, Connection, Json, Trail};
use crate::error::{ApiError, ApiResult};
use serde_json::{Value, json};

/// The permissions of an instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Whether requests may be forwarded to its service.
    pub forwards: bool,
    /// Whether it can be bound to anything.
    pub binds: bool,
}

/// Binds a route to a user-provided instance.
pub(crate) async fn create(
    tx: &mut Change,
    settings: &Settings,
    (route, instance): (&Route, &ServiceInstance),
    binding: &mut ServiceRouteBinding,
) -> ApiResult<()> {
    let terms = Terms {
        forwards: instance.is_route_service(),
        binds: true,
    };
    admit(tx, settings, (route, instance), terms).await?;
    binding
        .route_service_url
        .clone_from(&instance.route_service_url);
    binding.last_operation = Json(LastOperation::done(CREATE, None));
    db::insert(tx, binding).await?;
    mark_processes_of(tx, &route.guid).await
}

/// Refuses a route and an instance that cannot be bound. Returns a binding of both whose creation failed, which the new one replaces.
pub(super) async fn admit(
    tx: &mut Change,
    settings: &Settings,
    (route, instance): (&Route, &ServiceInstance),
    terms: Terms,
) -> ApiResult<Option<ServiceRouteBinding>> {
    let Some(domain) = db::by_guid::<Domain>(tx, &route.domain_guid).await? else {
        return Err(ApiError::not_found("Domain"));
    };
    let bound = service_route_binding::of_route(tx, &route.guid).await?;
    check((route, &domain), (instance, terms), bound.as_ref())?;
    let most = settings.limits.route_bindings_per_service_instance;
    let siblings = service_route_binding::count_of_instance(tx, &instance.guid).await?;
    if bound.is_none() && siblings >= i64::from(most) {
        return Err(ApiError::unprocessable(format!(
            "The service instance is bound to {most} routes already; an instance may be bound to at most {most}"
        )));
    }
    Ok(bound)
}

/// Checks a route and an instance that are to be bound. `bound`: the binding that the route has already.
fn check(
    (route, domain): (&Route, &Domain),
    (instance, terms): (&ServiceInstance, Terms),
    bound: Option<&ServiceRouteBinding>,
) -> ApiResult<()> {
    let refused = |text: &str| Err(ApiError::unprocessable(text));
    if !terms.forwards {
        return refused("This service instance does not support route binding");
    }
    if !terms.binds {
        return refused("This service instance does not support binding");
    }
    if domain.internal {
        return refused("Route services cannot be bound to internal routes");
    }
    if route.space_guid != instance.space_guid {
        return refused("The service instance and the route are in different spaces");
    }
    let is_other = |bound: &ServiceRouteBinding| bound.service_instance_guid != instance.guid;
    if bound.is_some_and(is_other) {
        return refused("A route may only be bound to a single service instance");
    }
    let operation = &instance.last_operation.0;
    if instance.is_managed() && operation.is(CREATE, FAILED) {
        return refused("Service instance not found");
    }
    if instance.is_managed() && operation.is_under_way() {
        return refused("There is an operation in progress for the service instance");
    }
    match bound.map(|bound| &bound.last_operation.0) {
        None => Ok(()),
        Some(operation) if operation.is(CREATE, FAILED) => Ok(()),
        Some(operation) if operation.r#type == DELETE => {
            refused("The binding is getting deleted or its deletion failed")
        }
        Some(_) => Err(ApiError::new(
            422,
            130_008,
            "ServiceInstanceAlreadyBoundToSameRoute",
            "The route and service instance are already bound.",
        )),
    }
}

/// Passes the changed address of an instance on to its bindings. An instance with bound routes keeps an address, because requests
/// would otherwise reach the apps without a visit to the service, which may be what protects them.
pub(super) async fn follow(tx: &mut Change, instance: &ServiceInstance) -> ApiResult<()> {
    let bindings = service_route_binding::of_instance(tx, &instance.guid).await?;
    if !bindings.is_empty() && !instance.is_route_service() {
        let (name, routes) = (&instance.name, bindings.len());
        return Err(ApiError::unprocessable(format!(
            "The service instance '{name}' is bound to {routes} route(s), whose requests would reach the apps without it: unbind the routes before its route_service_url is removed"
        )));
    }
    let mut routes = Vec::new();
    for mut binding in bindings {
        if binding.route_service_url == instance.route_service_url {
            continue;
        }
        binding
            .route_service_url
            .clone_from(&instance.route_service_url);
        binding.touch();
        db::update(tx, &binding).await?;
        routes.push(binding.route_guid);
    }
    mark_processes_of_all(tx, &routes).await
}

/// Returns a binding as the target of an event. Bindings have no names.
fn target(binding: &ServiceRouteBinding) -> Target<'_> {
    (&binding.guid, "service_route_binding", "")
}

/// Records what was done with a binding.
pub(crate) async fn record(
    conn: &mut Connection,
    actor: Target<'_>,
    verb: &str,
    (binding, space): (&ServiceRouteBinding, &Space),
    request: Value,
) -> ApiResult<Trail> {
    let kind = format!("audit.service_route_binding.{verb}");
    let data = json!({ "request": request });
    audit::record_of(conn, actor, &kind, target(binding), space, data).await
}

/// Returns the request to remove a binding as its events have it.
pub(super) fn removal(binding: &ServiceRouteBinding) -> Value {
    json!({
        "app_guid": null,
        "route_guid": binding.route_guid,
        "service_instance_guid": binding.service_instance_guid,
    })
}

/// Removes a binding. The event is recorded in this space, in the name of `actor`.
pub(crate) async fn delete(
    tx: &mut Change,
    actor: Target<'_>,
    binding: &ServiceRouteBinding,
    space: &Space,
) -> ApiResult<Trail> {
    mark_processes_of(tx, &binding.route_guid).await?;
    remove(tx, actor, binding, space).await
}

/// Removes the row of a binding, and records that.
async fn remove(
    conn: &mut Connection,
    actor: Target<'_>,
    binding: &ServiceRouteBinding,
    space: &Space,
) -> ApiResult<Trail> {
    db::delete::<ServiceRouteBinding>(conn, &binding.guid).await?;
    record(conn, actor, "delete", (binding, space), removal(binding)).await
}

/// Removes the binding of a route, which is removed next. The processes behind the route are marked with it.
pub(crate) async fn delete_of_route(
    conn: &mut Connection,
    actor: Target<'_>,
    route: &Route,
) -> ApiResult<()> {
    let Some(binding) = service_route_binding::of_route(conn, &route.guid).await? else {
        return Ok(());
    };
    if let Some(space) = db::by_guid::<Space>(conn, &route.space_guid).await? {
        audit::also(remove(conn, actor, &binding, &space).await?);
    }
    Ok(())
}

/// Removes all bindings of an instance, which is removed next.
pub(super) async fn delete_of_instance(
    tx: &mut Change,
    actor: Target<'_>,
    instance: &ServiceInstance,
    space: &Space,
) -> ApiResult<()> {
    let bindings = service_route_binding::of_instance(tx, &instance.guid).await?;
    let routes: Vec<String> = bindings.iter().map(|one| one.route_guid.clone()).collect();
    mark_processes_of_all(tx, &routes).await?;
    for binding in &bindings {
        audit::also(remove(tx, actor, binding, space).await?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::service_instance::{IN_PROGRESS, INITIAL, InstanceType, SUCCEEDED, UPDATE};

    fn instance(guid: &str, space: &str, url: Option<&str>) -> ServiceInstance {
        ServiceInstance {
            guid: guid.to_owned(),
            space_guid: space.to_owned(),
            route_service_url: url.map(str::to_owned),
            ..ServiceInstance::fresh()
        }
    }

    fn operation(kind: &str, state: &str) -> Json<LastOperation> {
        let mut operation = LastOperation::default();
        operation.note(kind, state, None);
        Json(operation)
    }

    fn binding(instance: &str, kind: &str, state: &str) -> ServiceRouteBinding {
        ServiceRouteBinding {
            service_instance_guid: instance.to_owned(),
            last_operation: operation(kind, state),
            ..ServiceRouteBinding::fresh()
        }
    }

    #[test]
    fn a_route_and_an_instance_of_one_space_are_bound_once() {
        let route = Route {
            space_guid: "s".to_owned(),
            ..Route::fresh()
        };
        let domain = |internal| Domain {
            internal,
            ..Domain::fresh()
        };
        let bound = |instance: &str| binding(instance, CREATE, SUCCEEDED);
        let url = Some("https://service.test");
        for (instance, internal, bound, wanted) in [
            (instance("a", "s", url), false, None, ""),
            (
                instance("a", "s", None),
                false,
                None,
                "does not support route binding",
            ),
            (
                instance("a", "s", Some("")),
                true,
                None,
                "does not support route binding",
            ),
            (
                instance("a", "other", url),
                true,
                None,
                "cannot be bound to internal routes",
            ),
            (
                instance("a", "other", url),
                false,
                Some(bound("b")),
                "in different spaces",
            ),
            (
                instance("a", "s", url),
                false,
                Some(bound("a")),
                "are already bound.",
            ),
            (
                instance("a", "s", url),
                false,
                Some(bound("b")),
                "to a single service instance",
            ),
        ] {
            let terms = Terms {
                forwards: instance.is_route_service(),
                binds: true,
            };
            let domain = domain(internal);
            let checked = check((&route, &domain), (&instance, terms), bound.as_ref());
            match checked {
                Ok(()) => assert_eq!(wanted, "", "{instance:?}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!wanted.is_empty() && text.ends_with(wanted), "{text}");
                }
            }
        }
    }

    #[test]
    fn an_operation_of_the_instance_or_the_binding_comes_first() {
        let terms = Terms {
            forwards: true,
            binds: true,
        };
        let (route, domain) = (Route::fresh(), Domain::fresh());
        let managed = |kind: &str, state: &str| ServiceInstance {
            guid: "a".to_owned(),
            r#type: InstanceType::Managed,
            last_operation: operation(kind, state),
            ..ServiceInstance::fresh()
        };
        let ready = managed(UPDATE, FAILED);
        let checked = |instance: &ServiceInstance, terms, bound: Option<ServiceRouteBinding>| {
            let checked = check((&route, &domain), (instance, terms), bound.as_ref());
            checked.map_err(|error| error.to_string()).err()
        };
        let unbindable = Terms {
            binds: false,
            ..terms
        };
        let unforwarding = Terms {
            forwards: false,
            ..terms
        };
        let in_progress = "There is an operation in progress for the service instance";
        for (instance, terms, bound, wanted) in [
            (ready.clone(), terms, None, None),
            (
                ready.clone(),
                unforwarding,
                None,
                Some("This service instance does not support route binding"),
            ),
            (
                ready.clone(),
                unbindable,
                None,
                Some("This service instance does not support binding"),
            ),
            (
                managed(CREATE, FAILED),
                terms,
                None,
                Some("Service instance not found"),
            ),
            (managed(UPDATE, IN_PROGRESS), terms, None, Some(in_progress)),
            (managed(CREATE, INITIAL), terms, None, Some(in_progress)),
            (
                ready.clone(),
                terms,
                Some(binding("a", CREATE, FAILED)),
                None,
            ),
            (
                ready.clone(),
                terms,
                Some(binding("a", DELETE, FAILED)),
                Some("The binding is getting deleted or its deletion failed"),
            ),
            (
                ready,
                terms,
                Some(binding("a", CREATE, INITIAL)),
                Some("The route and service instance are already bound."),
            ),
        ] {
            let shown = format!("{:?} {bound:?}", instance.last_operation);
            assert_eq!(
                checked(&instance, terms, bound).as_deref(),
                wanted,
                "{shown}"
            );
        }
    }
}
