//! The endpoints `/v3/service_credential_bindings`: bindings of service instances to apps, and keys. Keys of user-provided instances are
//! refused, as in the original. Bindings of managed instances are made and removed by jobs.
//!
//! A binding belongs to the space of its app, a key to that of its instance. Its credentials are shown by `…/details` alone, which leaves an
//! event; whoever may not see them does not find that endpoint.

use super::managed_instance::{parameters_of, plans_of, recorded};
use super::prelude::*;
use super::present::ok_ordered;
use super::service_instance::{present_operation, tolerate_full_disk};
use crate::actions::broker_call::{self, Subject, Task};
use crate::actions::service_credential_binding::{Bound, Order};
use crate::actions::{audit, managed_binding, service_credential_binding as verbs};
use crate::db::app::App;
use crate::db::service_credential_binding::{
    BindingType, OF_APP_NAMES, OF_INSTANCE_NAMES, OF_OFFERING_NAMES, OF_OFFERINGS, OF_PLAN_NAMES,
    OF_PLANS, ServiceCredentialBinding,
};
use crate::db::service_instance::{self, CREATE, DELETE, INITIAL, ServiceInstance};
use crate::db::space::Space;
use crate::jobs;
use axum::response::IntoResponse as _;
use cc_rules::ordered_json::OrderedJson;
use std::collections::BTreeSet;

const INCLUDES: &[&str] = &["app", "service_instance"];

const PATH: &str = "/v3/service_credential_bindings";

pub(super) fn routes() -> Endpoints {
    let one = "/v3/service_credential_bindings/{guid}";
    Endpoints::default()
        .get(PATH, list)
        .lists(&[
            "names",
            "type",
            "app_guids",
            "app_names",
            "service_instance_guids",
            "service_instance_names",
            "service_plan_guids",
            "service_plan_names",
            "service_offering_guids",
            "service_offering_names",
            "include",
        ])
        .post(PATH, create)
        .body(&[
            "type",
            "name",
            "strategy",
            "parameters.*",
            "relationships.app.data.guid",
            "relationships.service_instance.data.guid",
            "metadata",
        ])
        .get(one, show)
        .takes(&["include"])
        .patch(one, update)
        .body(&["metadata"])
        .delete(one, remove)
        .get(&format!("{one}/details"), details)
        .get(&format!("{one}/parameters"), parameters)
}

/// Shows a binding. `is_managed` says whether its instance is.
fn present(cc: &Cc, binding: &ServiceCredentialBinding, is_managed: bool) -> Value {
    let path = format!("{PATH}/{}", binding.guid);
    let instance = &binding.service_instance_guid;
    let mut links = cc.links(
        &path,
        &[
            ("details", format!("{path}/details")),
            (
                "service_instance",
                format!("/v3/service_instances/{instance}"),
            ),
        ],
    );
    if is_managed {
        let parameters = cc.link(&format!("{path}/parameters"));
        links.insert("parameters".to_owned(), parameters);
    }
    let mut relationships = json!({ "service_instance": to_one(Some(instance)) });
    if let Some(app) = &binding.app_guid {
        relationships["app"] = to_one(Some(app));
        links.insert("app".to_owned(), cc.link(&format!("/v3/apps/{app}")));
    }
    resource(
        &binding.guid,
        binding.created_at,
        binding.updated_at,
        json!({
            "name": binding.name,
            "type": binding.r#type,
            "last_operation": present_operation(&binding.last_operation.0),
            "relationships": relationships,
            "metadata": binding.metadata.0.present(),
            "links": links,
        }),
    )
}

async fn included(
    cc: &Cc,
    conn: &mut Connection,
    who: &Principal,
    include: &[String],
    bindings: &[ServiceCredentialBinding],
) -> ApiResult<Value> {
    let mut included = json!({});
    let asks_for = |what: &str| include.iter().any(|asked| asked == what);
    if asks_for("app") {
        let guids: BTreeSet<&String> = bindings
            .iter()
            .filter_map(|b| b.app_guid.as_ref())
            .collect();
        let rows: Vec<App> = who.visible().any("guid", guids).all(conn).await?;
        let shown = rows.iter().map(|row| super::app::present(cc, row));
        included["apps"] = shown.collect();
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
    let mut select = who.visible::<ServiceCredentialBinding>();
    if let Some(kind) = query.value("type") {
        if kind.parse::<BindingType>().is_err() {
            return Err(ApiError::bad_query("Type must be one of 'app', 'key'"));
        }
        select = select.is("type", kind);
    }
    for (name, column) in [
        ("names", "name"),
        ("app_guids", "app_guid"),
        ("service_instance_guids", "service_instance_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    for (name, condition) in [
        ("app_names", OF_APP_NAMES),
        ("service_instance_names", OF_INSTANCE_NAMES),
        ("service_plan_guids", OF_PLANS),
        ("service_plan_names", OF_PLAN_NAMES),
        ("service_offering_guids", OF_OFFERINGS),
        ("service_offering_names", OF_OFFERING_NAMES),
    ] {
        select = query.filter_by(select, name, condition);
    }
    let mut conn = cc.db.read().await?;
    let found = query.fetch(&mut conn, select).await?;
    let managed = managed_of(&mut conn, &found.rows).await?;
    let shown = found.rows.iter().map(|row| {
        let is_managed = managed.contains(&row.service_instance_guid);
        present(&cc, row, is_managed)
    });
    let resources = shown.collect();
    let mut answer = cc.page(&query, found.page, resources);
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &who, &include, &found.rows).await?;
    }
    Ok(ok(answer))
}

/// Returns the managed instances of some bindings.
async fn managed_of(
    conn: &mut Connection,
    bindings: &[ServiceCredentialBinding],
) -> ApiResult<BTreeSet<String>> {
    let guids: BTreeSet<String> = bindings
        .iter()
        .map(|binding| binding.service_instance_guid.clone())
        .collect();
    let guids: Vec<String> = guids.into_iter().collect();
    let managed = service_instance::managed_among(conn, &guids).await?;
    Ok(managed.into_iter().collect())
}

async fn find(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
    right: Right,
) -> ApiResult<Found<ServiceCredentialBinding>> {
    who.find::<ServiceCredentialBinding>(conn, guid, right)
        .await
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
    let is_managed = managed_binding::is_of_managed(&mut conn, &binding).await?;
    let mut answer = present(&cc, &binding, is_managed);
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &who, &include, &[binding]).await?;
    }
    Ok(ok(answer))
}

/// Reads what a request to bind wants, and notes what is wrong with it. Returns the binding, and whether the app may have others to the
/// same instance.
fn read(body: &mut Body) -> (ServiceCredentialBinding, bool) {
    let mut binding = ServiceCredentialBinding {
        service_instance_guid: body.required_relationship("service_instance"),
        ..ServiceCredentialBinding::fresh()
    };
    let mut is_multiple = false;
    match body.string("type").unwrap_or_default().parse() {
        Ok(BindingType::App) => {
            binding.app_guid = Some(body.required_relationship("app"));
            binding.name = body.nullable_string("name").flatten();
            match body.string("strategy").as_deref() {
                None | Some("single") => {}
                Some("multiple") => is_multiple = true,
                Some(_) => body.problem("Strategy must be 'single' or 'multiple'"),
            }
        }
        Ok(BindingType::Key) => {
            binding.r#type = BindingType::Key;
            binding.name = Some(body.required_string("name"));
            if body.at("relationships.app").is_some() {
                body.problem("Relationships Unknown field(s): 'app'");
            }
        }
        Err(_) => body.problem("Type must be 'app' or 'key'"),
    }
    (binding, is_multiple)
}

async fn record(
    conn: &mut Connection,
    who: &Principal,
    verb: &str,
    (binding, space): (&ServiceCredentialBinding, &Space),
    request: Value,
) -> ApiResult<db::Trail> {
    let data = json!({ "request": request });
    verbs::record(conn, audit::actor(who), verb, (binding, space), data).await
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    let (mut binding, is_multiple) = read(&mut body);
    let parameters = parameters_of(&mut body)?;
    body.merge_metadata(&mut binding.metadata)?;
    let request = body.finish()?;
    let has_parameters = request.contains_key("parameters");
    let request = recorded(request);
    let mut tx = cc.change().await?;
    let guid = &binding.service_instance_guid;
    let unseen = format!("The service instance could not be found: '{guid}'");
    let instance = who
        .named::<ServiceInstance>(&mut tx, guid, Right::Read, &unseen)
        .await?;
    if has_parameters && !instance.row.is_managed() {
        return Err(ApiError::unprocessable(
            "Binding parameters are not supported for user-provided service instances",
        ));
    }
    let (settings, actor) = (&cc.settings, audit::actor(&who));
    let task = Task::new(request.clone(), parameters);
    let Some(guid) = binding.app_guid.clone() else {
        instance.access.must(Right::Develop)?;
        let key = (&mut binding, task);
        let job = verbs::create_key(&mut tx, settings, actor, &instance.row, key).await?;
        tx.commit(Unrecorded::ByJob).await?;
        jobs::wait_briefly(&cc, &job).await;
        return Ok(cc.accepted(&job));
    };
    let unseen = format!("The app could not be found: '{guid}'");
    let app = who
        .named::<App>(&mut tx, &guid, Right::Support, &unseen)
        .await?;
    let pair = (&app.row, &instance.row);
    let order = Order { is_multiple, task };
    match verbs::create(&mut tx, settings, actor, pair, (&mut binding, order)).await? {
        Bound::ByJob(job) => {
            tx.commit(Unrecorded::ByJob).await?;
            jobs::wait_briefly(&cc, &job).await;
            Ok(cc.accepted(&job))
        }
        Bound::Now => {
            let made = (&binding, &app.of.space);
            let trail = record(&mut tx, &who, "create", made, request).await?;
            tx.commit(trail).await?;
            Ok(created(present(&cc, &binding, false)))
        }
    }
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
            "The service binding is being deleted",
        ));
    }
    body.merge_metadata(&mut binding.metadata)?;
    let request = Value::Object(body.finish()?);
    binding.touch();
    db::update(&mut tx, &binding).await?;
    let is_managed = managed_binding::is_of_managed(&mut tx, &binding).await?;
    let trail = record(&mut tx, &who, "update", (&binding, &space), request).await?;
    tx.commit(trail).await?;
    Ok(ok(present(&cc, &binding, is_managed)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = find(&mut tx, &who, &guid, Right::Read).await?;
    found.access.must(match found.row.r#type {
        BindingType::App => Right::Support,
        BindingType::Key => Right::Develop,
    })?;
    let (mut binding, space) = (found.row, found.of.space);
    let operation = &binding.last_operation.0;
    if operation.is(CREATE, INITIAL) || operation.does(DELETE) {
        return Err(ApiError::unprocessable(
            "There is an operation in progress for the service binding.",
        ));
    }
    let actor = audit::actor(&who);
    if !managed_binding::is_of_managed(&mut tx, &binding).await? {
        let trail = verbs::delete(&mut tx, actor, &binding, &space).await?;
        tx.commit(trail).await?;
        return Ok(no_content());
    }
    if managed_binding::has_busy_instance(&mut tx, &binding).await? {
        return Err(ApiError::unprocessable(
            "There is an operation in progress for the service instance.",
        ));
    }
    let settings = &cc.settings;
    let job = managed_binding::begin_delete(&mut tx, settings, actor, &mut binding).await?;
    tx.commit(Unrecorded::ByJob).await?;
    jobs::wait_briefly(&cc, &job).await;
    Ok(cc.accepted(&job))
}

/// Refuses to show what a binding has that was not made.
fn must_be_made(binding: &ServiceCredentialBinding) -> ApiResult<()> {
    if binding.is_made() {
        return Ok(());
    }
    let noun = match binding.r#type {
        BindingType::App => "binding",
        BindingType::Key => "key",
    };
    let operation = &binding.last_operation.0;
    let what = match operation.r#type == CREATE {
        true => "Creation",
        false => "Deletion",
    };
    let state = &operation.state;
    Err(ApiError::new(
        404,
        10010,
        "ResourceNotFound",
        format!("{what} of service {noun} {state}"),
    ))
}

/// Shows the credentials, and records that somebody saw them. A caller who may not see them gets a 404, like one who does not see
/// the binding.
async fn details(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = find(&mut conn, &who, &guid, Right::Read).await?;
    if !found.access.reads_secrets() {
        return Err(ApiError::not_found("Service credential binding"));
    }
    let (binding, space) = (found.row, found.of.space);
    drop(conn);
    must_be_made(&binding)?;
    let credentials = cc
        .settings
        .keys
        .open_json(&guid, binding.credentials.as_ref())?;
    let noted = async {
        let mut tx = cc.change().await?;
        let mut request = json!({ "service_instance_guid": binding.service_instance_guid });
        if let Some(app) = &binding.app_guid {
            request["app_guid"] = json!(app);
        }
        let trail = record(&mut tx, &who, "show", (&binding, &space), request).await?;
        tx.commit(trail).await?;
        Ok::<(), ApiError>(())
    };
    tolerate_full_disk(noted.await, &guid)?;
    let shown = Details {
        credentials: credentials.as_ref(),
        syslog_drain_url: binding.syslog_drain_url.as_deref(),
    };
    Ok(axum::Json(shown).into_response())
}

/// The credentials of a binding. Absent values are left out.
#[derive(serde::Serialize)]
struct Details<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<&'a OrderedJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    syslog_drain_url: Option<&'a str>,
}

/// Fetches the parameters of a binding from its broker.
async fn parameters(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let binding = find(&mut conn, &who, &guid, Right::Read).await?.row;
    must_be_made(&binding)?;
    let not_supported = || {
        ApiError::new(
            400,
            90_007,
            "ServiceFetchBindingParametersNotSupported",
            "This service does not support fetching service binding parameters.",
        )
    };
    let subject = Subject::of_binding(&mut conn, &binding).await?;
    drop(conn);
    let subject = subject.filter(|subject| subject.offering.bindings_retrievable);
    let subject = subject.ok_or_else(not_supported)?;
    let broker = broker_call::address(&cc.settings.keys, &subject.broker)?;
    let caller = osb::Caller::default();
    let calls = cc.brokers.at(&broker, &caller);
    let instance = subject.instance.guid.as_str();
    let fetched = calls.fetch_binding(instance, &guid, &subject.ids()).await;
    let fetched = fetched.map_err(|error| broker_call::refused(&error))?;
    let nothing = OrderedJson::Object(Vec::new());
    Ok(ok_ordered(&fetched.parameters.unwrap_or(nothing)))
}
