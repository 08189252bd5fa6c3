//! The endpoints `/v3/service_credential_bindings`: bindings of service instances to apps. Keys of user-provided instances are refused,
//! as in the original.
//!
//! A binding belongs to the space of its app. Its credentials are shown by `…/details` alone, which leaves an event; whoever may not see
//! them does not find that endpoint.

use super::prelude::*;
use super::service_instance::{present_operation, tolerate_full_disk};
use crate::actions::{self, audit};
use crate::db::app::App;
use crate::db::service_credential_binding::{
    BindingType, OF_APP_NAMES, OF_INSTANCE_NAMES, ServiceCredentialBinding,
};
use crate::db::service_instance::ServiceInstance;
use crate::db::space::Space;
use axum::response::IntoResponse as _;
use cc_rules::ordered_json::OrderedJson;
use std::collections::BTreeSet;

const INCLUDES: &[&str] = &["app", "service_instance"];

/// The filters on plans and offerings, which no binding has.
const OF_BROKERS: &[&str] = &[
    "service_plan_guids",
    "service_plan_names",
    "service_offering_guids",
    "service_offering_names",
];

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
            "include",
        ])
        .takes(OF_BROKERS)
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

fn present(cc: &Cc, binding: &ServiceCredentialBinding) -> Value {
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
        let shown = rows
            .iter()
            .map(|row| super::service_instance::present(cc, row));
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
    select = query.filter_by(select, "app_names", OF_APP_NAMES);
    select = query.filter_by(select, "service_instance_names", OF_INSTANCE_NAMES);
    if OF_BROKERS.iter().any(|name| query.value(name).is_some()) {
        select = select.that(db::Condition::never());
    }
    let mut conn = cc.db.read().await?;
    let found = query.fetch(&mut conn, select).await?;
    let resources = found.rows.iter().map(|row| present(&cc, row)).collect();
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
    let mut answer = present(&cc, &binding);
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &who, &include, &[binding]).await?;
    }
    Ok(ok(answer))
}

/// Reads what a request to bind wants, and notes what is wrong with it.
fn read(body: &mut Body) -> ServiceCredentialBinding {
    let mut binding = ServiceCredentialBinding {
        service_instance_guid: body.required_relationship("service_instance"),
        ..ServiceCredentialBinding::fresh()
    };
    match body.string("type").unwrap_or_default().parse() {
        Ok(BindingType::App) => {
            binding.app_guid = Some(body.required_relationship("app"));
            binding.name = body.nullable_string("name").flatten();
            // One binding for each instance is all that an app may have, so 'multiple' is refused where it would matter.
            let strategy = body.string("strategy");
            if strategy.is_some_and(|strategy| !["single", "multiple"].contains(&&*strategy)) {
                body.problem("Strategy must be 'single' or 'multiple'");
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
    binding
}

async fn record(
    conn: &mut Connection,
    who: &Principal,
    verb: &str,
    binding: &ServiceCredentialBinding,
    space: &Space,
    request: Value,
) -> ApiResult<db::Trail> {
    let kind = format!("audit.service_binding.{verb}");
    let target = actions::service_credential_binding::target(binding);
    let data = json!({ "request": request });
    audit::record(conn, who, &kind, target, space, data).await
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    let mut binding = read(&mut body);
    body.merge_metadata(&mut binding.metadata)?;
    let request = body.finish()?;
    let mut tx = cc.change().await?;
    let guid = &binding.service_instance_guid;
    let unseen = format!("The service instance could not be found: '{guid}'");
    let instance = who
        .named::<ServiceInstance>(&mut tx, guid, Right::Read, &unseen)
        .await?;
    if request.contains_key("parameters") {
        return Err(ApiError::unprocessable(
            "Binding parameters are not supported for user-provided service instances",
        ));
    }
    let Some(guid) = &binding.app_guid else {
        instance.access.must(Right::Develop)?;
        return Err(ApiError::unprocessable(
            "Service credential bindings of type 'key' are not supported for user-provided service instances.",
        ));
    };
    let unseen = format!("The app could not be found: '{guid}'");
    let app = who
        .named::<App>(&mut tx, guid, Right::Support, &unseen)
        .await?;
    let pair = (&app.row, &instance.row);
    let settings = &cc.settings;
    actions::service_credential_binding::create(&mut tx, settings, pair, &mut binding).await?;
    let (space, request) = (&app.of.space, Value::Object(request));
    let trail = record(&mut tx, &who, "create", &binding, space, request).await?;
    tx.commit(trail).await?;
    Ok(created(present(&cc, &binding)))
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
    body.merge_metadata(&mut binding.metadata)?;
    let request = Value::Object(body.finish()?);
    binding.touch();
    db::update(&mut tx, &binding).await?;
    let trail = record(&mut tx, &who, "update", &binding, &space, request).await?;
    tx.commit(trail).await?;
    Ok(ok(present(&cc, &binding)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = find(&mut tx, &who, &guid, Right::Support).await?;
    let (binding, space) = (found.row, found.of.space);
    let actor = audit::actor(&who);
    let trail =
        actions::service_credential_binding::delete(&mut tx, actor, &binding, &space).await?;
    tx.commit(trail).await?;
    Ok(no_content())
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
    let credentials = cc
        .settings
        .keys
        .open_json(&guid, binding.credentials.as_ref())?;
    let noted = async {
        let mut tx = cc.change().await?;
        let request = json!({
            "service_instance_guid": binding.service_instance_guid,
            "app_guid": binding.app_guid,
        });
        let trail = record(&mut tx, &who, "show", &binding, &space, request).await?;
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

async fn parameters(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    find(&mut *cc.db.read().await?, &who, &guid, Right::Read).await?;
    Err(ApiError::new(
        400,
        90_007,
        "ServiceFetchBindingParametersNotSupported",
        "This service does not support fetching service binding parameters.",
    ))
}
