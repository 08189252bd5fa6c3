//! The endpoints `/v3/service_route_bindings`: bindings of routes to the services that their requests visit first.
//!
//! A binding is seen in the space of its route. Who creates one needs the right in the space of the instance, as in the original. A user-provided
//! instance is bound at once, and a managed one by a job, which asks its broker.

use super::managed_instance::{parameters_of, plans_of, recorded};
use super::prelude::*;
use super::present::ok_ordered;
use super::service_instance::present_operation;
use crate::actions::broker_call::{self, Subject, Task};
use crate::actions::{audit, managed_route_binding as managed, service_route_binding as verbs};
use crate::db::route::Route;
use crate::db::service_credential_binding::OF_INSTANCE_NAMES;
use crate::db::service_instance::{self, CREATE, DELETE, INITIAL, LastOperation, ServiceInstance};
use crate::db::service_route_binding::ServiceRouteBinding;
use crate::db::space::Space;
use crate::jobs;
use cc_rules::ordered_json::OrderedJson;
use std::collections::BTreeSet;

const INCLUDES: &[&str] = &["route", "service_instance"];

const PATH: &str = "/v3/service_route_bindings";

pub(super) fn routes() -> Endpoints {
    let one = "/v3/service_route_bindings/{guid}";
    Endpoints::default()
        .get(PATH, list)
        .lists(&[
            "route_guids",
            "service_instance_guids",
            "service_instance_names",
            "include",
        ])
        .post(PATH, create)
        .body(&[
            "parameters.*",
            "relationships.route.data.guid",
            "relationships.service_instance.data.guid",
            "metadata",
        ])
        .get(one, show)
        .takes(&["include"])
        .patch(one, update)
        .body(&["metadata"])
        .delete(one, remove)
        .get(&format!("{one}/parameters"), parameters)
}

/// Presents a binding. Only those of managed instances may have parameters.
fn present(cc: &Cc, binding: &ServiceRouteBinding, is_managed: bool) -> Value {
    let (route, instance) = (&binding.route_guid, &binding.service_instance_guid);
    let path = format!("{PATH}/{}", binding.guid);
    let mut links = cc.links(
        &path,
        &[
            (
                "service_instance",
                format!("/v3/service_instances/{instance}"),
            ),
            ("route", format!("/v3/routes/{route}")),
        ],
    );
    if is_managed {
        let link = cc.link(&format!("{path}/parameters"));
        links.insert("parameters".to_owned(), link);
    }
    resource(
        &binding.guid,
        binding.created_at,
        binding.updated_at,
        json!({
            "route_service_url": binding.route_service_url,
            "last_operation": present_operation(&binding.last_operation.0),
            "metadata": binding.metadata.0.present(),
            "relationships": {
                "service_instance": to_one(Some(instance)),
                "route": to_one(Some(route)),
            },
            "links": links,
        }),
    )
}

async fn present_all(
    cc: &Cc,
    conn: &mut Connection,
    bindings: &[ServiceRouteBinding],
) -> ApiResult<Vec<Value>> {
    let instances: BTreeSet<&String> = bindings.iter().map(|b| &b.service_instance_guid).collect();
    let instances: Vec<String> = instances.into_iter().cloned().collect();
    let managed = service_instance::managed_among(conn, &instances).await?;
    let managed: BTreeSet<String> = managed.into_iter().collect();
    let one =
        |row: &ServiceRouteBinding| present(cc, row, managed.contains(&row.service_instance_guid));
    Ok(bindings.iter().map(one).collect())
}

async fn present_one(
    cc: &Cc,
    conn: &mut Connection,
    binding: &ServiceRouteBinding,
) -> ApiResult<Value> {
    let all = present_all(cc, conn, std::slice::from_ref(binding)).await?;
    Ok(all.into_iter().next().unwrap_or_default())
}

async fn included(
    cc: &Cc,
    conn: &mut Connection,
    who: &Principal,
    include: &[String],
    bindings: &[ServiceRouteBinding],
) -> ApiResult<Value> {
    let mut included = json!({});
    let asks_for = |what: &str| include.iter().any(|asked| asked == what);
    if asks_for("route") {
        let guids = bindings.iter().map(|binding| &binding.route_guid);
        let rows: Vec<Route> = who.visible().any("guid", guids).all(conn).await?;
        included["routes"] = json!(super::route::present_all(cc, conn, &rows).await?);
    }
    if asks_for("service_instance") {
        let guids: BTreeSet<&String> = bindings.iter().map(|b| &b.service_instance_guid).collect();
        let rows: Vec<ServiceInstance> = who.visible().any("guid", guids).all(conn).await?;
        let plans = plans_of(conn, &rows).await?;
        let shown = rows
            .iter()
            .map(|row| super::service_instance::present(cc, row, &plans));
        included["service_instances"] = shown.collect();
    }
    Ok(included)
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let include = query.include(INCLUDES)?;
    let mut select = who.visible::<ServiceRouteBinding>();
    for (name, column) in [
        ("route_guids", "route_guid"),
        ("service_instance_guids", "service_instance_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    select = query.filter_by(select, "service_instance_names", OF_INSTANCE_NAMES);
    let mut conn = cc.db.read().await?;
    let found = query.fetch(&mut conn, select).await?;
    let resources = present_all(&cc, &mut conn, &found.rows).await?;
    let mut answer = cc.page(&query, found.page, resources);
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &who, &include, &found.rows).await?;
    }
    Ok(ok(answer))
}

async fn find(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
    right: Right,
) -> ApiResult<Found<ServiceRouteBinding>> {
    who.find::<ServiceRouteBinding>(conn, guid, right).await
}

async fn show(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let include = query.include(INCLUDES)?;
    let mut conn = cc.db.read().await?;
    let binding = find(&mut conn, &who, &guid, Right::Read).await?.row;
    let mut answer = present_one(&cc, &mut conn, &binding).await?;
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &who, &include, &[binding]).await?;
    }
    Ok(ok(answer))
}

/// Returns the route of a new binding. Organization auditors, who see routes, do not find it here, because they do not see its space.
async fn find_route(conn: &mut Connection, who: &Principal, guid: &str) -> ApiResult<Found<Route>> {
    let unseen = format!("The route could not be found: {guid}");
    let found = who.named::<Route>(conn, guid, Right::Read, &unseen).await?;
    let space = &found.row.space_guid;
    who.named::<Space>(conn, space, Right::Read, &unseen)
        .await?;
    Ok(found)
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    let mut binding = ServiceRouteBinding {
        service_instance_guid: body.required_relationship("service_instance"),
        route_guid: body.required_relationship("route"),
        ..ServiceRouteBinding::fresh()
    };
    let parameters = parameters_of(&mut body)?;
    body.merge_metadata(&mut binding.metadata)?;
    let request = body.finish()?;
    let has_parameters = request.contains_key("parameters");
    let request = recorded(request);
    let mut tx = cc.change().await?;
    let guid = &binding.service_instance_guid;
    let unseen = format!("The service instance could not be found: {guid}");
    let instance = who
        .named::<ServiceInstance>(&mut tx, guid, Right::Support, &unseen)
        .await?;
    let route = find_route(&mut tx, &who, &binding.route_guid).await?.row;
    let (space, instance) = (instance.of.space, instance.row);
    let (pair, actor) = ((&route, &instance), audit::actor(&who));
    let settings = &cc.settings;
    if instance.is_managed() {
        let wish = (&mut binding, Task::new(request, parameters));
        let job = managed::create(&mut tx, settings, actor, pair, wish).await?;
        tx.commit(Unrecorded::ByJob).await?;
        jobs::wait_briefly(&cc, &job).await;
        return Ok(cc.accepted(&job));
    }
    if has_parameters {
        return Err(ApiError::unprocessable(
            "Binding parameters are not supported for user-provided service instances",
        ));
    }
    verbs::create(&mut tx, settings, pair, &mut binding).await?;
    let trail = verbs::record(&mut tx, actor, "create", (&binding, &space), request).await?;
    tx.commit(trail).await?;
    Ok(created(present(&cc, &binding, false)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = find(&mut tx, &who, &guid, Right::Develop).await?;
    let (mut binding, space) = (found.row, found.of.space);
    if binding.last_operation.0.does(DELETE) {
        return Err(ApiError::unprocessable(
            "The service route binding is being deleted",
        ));
    }
    body.merge_metadata(&mut binding.metadata)?;
    let request = body.finish()?.into();
    binding.touch();
    db::update(&mut tx, &binding).await?;
    let answer = present_one(&cc, &mut tx, &binding).await?;
    let actor = audit::actor(&who);
    let trail = verbs::record(&mut tx, actor, "update", (&binding, &space), request).await?;
    tx.commit(trail).await?;
    Ok(ok(answer))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = find(&mut tx, &who, &guid, Right::Support).await?;
    let (mut binding, space) = (found.row, found.of.space);
    let actor = audit::actor(&who);
    let subject = managed::instance_of(&mut tx, &binding).await?;
    if !subject.is_managed() {
        let trail = verbs::delete(&mut tx, actor, &binding, &space).await?;
        tx.commit(trail).await?;
        return Ok(no_content());
    }
    check_idle(&binding.last_operation.0, &subject.last_operation.0)?;
    let job = managed::begin_delete(&mut tx, &cc.settings, actor, &mut binding).await?;
    tx.commit(Unrecorded::ByJob).await?;
    jobs::wait_briefly(&cc, &job).await;
    Ok(cc.accepted(&job))
}

/// Refuses a removal while something else is done with the binding or its instance. A binding that its broker makes in the background can be
/// removed.
fn check_idle(binding: &LastOperation, instance: &LastOperation) -> ApiResult<()> {
    let what = if binding.is(CREATE, INITIAL) || binding.does(DELETE) {
        "binding"
    } else if instance.is_under_way() {
        "instance"
    } else {
        return Ok(());
    };
    Err(ApiError::unprocessable(format!(
        "There is an operation in progress for the service {what}."
    )))
}

/// Fetches the parameters from the broker. The right to write is checked, as the original does here, although nothing is written.
async fn parameters(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = find(&mut conn, &who, &guid, Right::Read).await?;
    must_be_made(&found.row.last_operation.0)?;
    found.access.must(Right::Develop)?;
    let instance = managed::instance_of(&mut conn, &found.row).await?;
    if !instance.is_managed() {
        return Err(ApiError::bad_request(
            "user provided service instances do not support fetching route bindings parameters.",
        ));
    }
    let subject = Subject::of(&mut conn, instance).await?;
    drop(conn);
    if !subject.offering.bindings_retrievable {
        return Err(ApiError::bad_request(
            "this service does not support fetching route bindings parameters.",
        ));
    }
    let broker = broker_call::address(&cc.settings.keys, &subject.broker)?;
    let (actor, kind, _) = audit::actor(&who);
    let caller = osb::Caller {
        user_guid: (kind == "user").then(|| actor.to_owned()),
        request_id: Some(clients::request_id::current()).filter(|id| !id.is_empty()),
    };
    let calls = cc.brokers.at(&broker, &caller);
    let instance = subject.instance.guid.as_str();
    let fetched = calls.fetch_binding(instance, &guid, &subject.ids()).await;
    let fetched = fetched.map_err(|error| broker_call::refused(&error))?;
    let nothing = OrderedJson::Object(Vec::new());
    Ok(ok_ordered(&fetched.parameters.unwrap_or(nothing)))
}

/// Answers 404 for a binding that its broker has not made, or does not keep.
fn must_be_made(operation: &LastOperation) -> ApiResult<()> {
    if operation.is(CREATE, service_instance::SUCCEEDED) {
        return Ok(());
    }
    let what = match operation.r#type == CREATE {
        true => "Creation",
        false => "Deletion",
    };
    let detail = format!("{what} of route binding {}", operation.state);
    Err(ApiError::new(404, 10010, "ResourceNotFound", detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::service_instance::{FAILED, IN_PROGRESS, SUCCEEDED, UPDATE};

    fn operation(kind: &str, state: &str) -> LastOperation {
        let mut operation = LastOperation::default();
        operation.note(kind, state, None);
        operation
    }

    #[test]
    fn a_binding_is_removed_while_nothing_else_is_done() {
        for (binding, instance, wanted) in [
            ((CREATE, SUCCEEDED), (CREATE, SUCCEEDED), ""),
            ((CREATE, IN_PROGRESS), (CREATE, SUCCEEDED), ""),
            ((CREATE, FAILED), (UPDATE, FAILED), ""),
            ((DELETE, FAILED), (CREATE, SUCCEEDED), ""),
            ((CREATE, INITIAL), (CREATE, SUCCEEDED), "service binding."),
            (
                (DELETE, IN_PROGRESS),
                (CREATE, SUCCEEDED),
                "service binding.",
            ),
            (
                (CREATE, SUCCEEDED),
                (UPDATE, IN_PROGRESS),
                "service instance.",
            ),
        ] {
            let [binding, instance] =
                [binding, instance].map(|(kind, state)| operation(kind, state));
            let checked = check_idle(&binding, &instance);
            let text = checked.map_err(|error| error.to_string()).err();
            let text = text.unwrap_or_default();
            assert!(
                text.ends_with(wanted) && text.is_empty() == wanted.is_empty(),
                "{text}"
            );
        }
    }

    #[test]
    fn parameters_are_those_of_a_binding_that_was_made() {
        for (kind, state, wanted) in [
            (CREATE, SUCCEEDED, ""),
            (CREATE, IN_PROGRESS, "Creation of route binding in progress"),
            (CREATE, FAILED, "Creation of route binding failed"),
            (DELETE, FAILED, "Deletion of route binding failed"),
        ] {
            let made = must_be_made(&operation(kind, state));
            let text = made.map_err(|error| error.to_string()).err();
            assert_eq!(text.unwrap_or_default(), wanted);
        }
    }
}
