//! The endpoints `/v3/service_instances`: instances of services, which users provide or brokers make. What concerns managed ones alone is in
//! `managed_instance`.
//!
//! Credentials are sealed in the database and shown by their own endpoint alone, which leaves an event.

use super::fields::{self, Fields};
use super::managed_instance::{self as managed, Plans};
use super::prelude::*;
use super::present::ok_ordered;
use crate::actions::{self, audit};
use crate::clock;
use crate::db::service_instance::{
    self, InstanceType, LastOperation, OF_PLAN_NAMES, ServiceInstance,
};
use crate::db::space::Space;
use crate::flags::Flag;
use cc_rules::ordered_json::OrderedJson;
use cc_rules::services;
use serde_json::Map;

const PATH: &str = "/v3/service_instances";

pub(super) fn routes() -> Endpoints {
    let one = "/v3/service_instances/{guid}";
    Endpoints::default()
        .get(PATH, list)
        .lists(&[
            "names",
            "type",
            "space_guids",
            "organization_guids",
            "service_plan_guids",
            "service_plan_names",
        ])
        .takes(fields::OF_INSTANCES)
        .post(PATH, create)
        .body(&[
            "type",
            "name",
            "tags",
            "credentials.*",
            "syslog_drain_url",
            "route_service_url",
            "parameters.*",
            "relationships.space.data.guid",
            "relationships.service_plan.data.guid",
            "metadata",
        ])
        .get(one, show)
        .takes(fields::OF_INSTANCES)
        .patch(one, update)
        .body(&[
            "name",
            "tags",
            "credentials.*",
            "syslog_drain_url",
            "route_service_url",
            "parameters.*",
            "maintenance_info.version",
            "relationships.service_plan.data.guid",
            "metadata",
        ])
        .delete(one, remove)
        .takes(&["purge"])
        .get(&format!("{one}/credentials"), credentials)
        .get(&format!("{one}/parameters"), parameters)
        .get(&format!("{one}/permissions"), permissions)
        // The dashboards of brokers ask with the tokens of their users.
        .or_scope("cloud_controller_service_permissions.read")
}

pub(super) fn present(cc: &Cc, instance: &ServiceInstance, plans: &Plans) -> Value {
    let guid = &instance.guid;
    let path = format!("{PATH}/{guid}");
    let of = |kind: &str| format!("/v3/{kind}?service_instance_guids={guid}");
    let links = cc.links(
        &path,
        &[
            ("space", format!("/v3/spaces/{}", instance.space_guid)),
            (
                "service_credential_bindings",
                of("service_credential_bindings"),
            ),
            ("service_route_bindings", of("service_route_bindings")),
        ],
    );
    let mut shown = resource(
        guid,
        instance.created_at,
        instance.updated_at,
        json!({
            "name": instance.name,
            "tags": instance.tags.0,
            "last_operation": present_operation(&instance.last_operation.0),
            "type": instance.r#type,
            "relationships": { "space": to_one(Some(&instance.space_guid)) },
            "metadata": instance.metadata.0.present(),
            "links": links,
        }),
    );
    if instance.is_managed() {
        managed::add(cc, instance, plans, &mut shown);
    } else {
        shown["syslog_drain_url"] = json!(instance.syslog_drain_url);
        shown["route_service_url"] = json!(instance.route_service_url);
        shown["links"]["credentials"] = cc.link(&format!("{path}/credentials"));
    }
    shown
}

pub(super) fn present_operation(operation: &LastOperation) -> Value {
    json!({
        "type": operation.r#type,
        "state": operation.state,
        "description": operation.description,
        "created_at": clock::rfc3339(operation.created_at),
        "updated_at": clock::rfc3339(operation.updated_at),
    })
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let fields = Fields::of(&query)?;
    let mut select = who.visible::<ServiceInstance>();
    if let Some(kind) = query.value("type") {
        check_type(kind).map_err(ApiError::bad_query)?;
        select = select.is("type", kind);
    }
    for (name, column) in [
        ("names", "name"),
        ("service_plan_guids", "service_plan_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    select = query.filter_by(select, "service_plan_names", OF_PLAN_NAMES);
    if let Some(spaces) = query.values("space_guids") {
        select = select.that(service_instance::is_of_or_shared_with(&spaces));
    }
    if let Some(organizations) = query.values("organization_guids") {
        select = select.that(service_instance::is_of_or_shared_within(&organizations));
    }
    let mut conn = cc.db.read().await?;
    let found = query.fetch(&mut conn, select).await?;
    let plans = managed::plans_of(&mut conn, &found.rows).await?;
    let shown = found.rows.iter().map(|row| present(&cc, row, &plans));
    let resources = shown.collect();
    let mut answer = cc.page(&query, found.page, resources);
    if let Some(included) = fields.included(&mut conn, &found.rows).await? {
        answer["included"] = included;
    }
    Ok(ok(answer))
}

fn check_type(kind: &str) -> Result<InstanceType, &'static str> {
    let known = kind.parse::<InstanceType>();
    known.map_err(|_| "Type must be one of 'managed', 'user-provided'")
}

async fn show(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let fields = Fields::of(&query)?;
    let mut conn = cc.db.read().await?;
    let instance = find(&mut conn, &who, &guid, Right::Read).await?.row;
    let plans = managed::plans_of(&mut conn, std::slice::from_ref(&instance)).await?;
    let mut answer = present(&cc, &instance, &plans);
    if let Some(included) = fields.included(&mut conn, &[instance]).await? {
        answer["included"] = included;
    }
    Ok(ok(answer))
}

async fn find(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
    right: Right,
) -> ApiResult<Found<ServiceInstance>> {
    who.find::<ServiceInstance>(conn, guid, right).await
}

/// The part of a request that creates or changes an instance. Absent fields stay as they are.
#[derive(Default)]
pub(super) struct Wish {
    pub tags: Option<Vec<String>>,
    /// The new credentials. `Some(None)`: the instance has none from now on.
    credentials: Option<Option<OrderedJson>>,
    syslog_drain_url: Option<Option<String>>,
    route_service_url: Option<Option<String>>,
}

impl Wish {
    pub(super) fn read(cc: &Cc, body: &mut Body) -> ApiResult<Self> {
        let syslog_drain_url =
            read_url(body, "syslog_drain_url", services::syslog_drain_url_problem);
        let route_service_url = read_url(
            body,
            "route_service_url",
            services::route_service_url_problem,
        );
        Ok(Self {
            tags: read_tags(body),
            credentials: read_credentials(cc, body)?,
            syslog_drain_url,
            route_service_url,
        })
    }

    fn apply(self, cc: &Cc, instance: &mut ServiceInstance) -> ApiResult<()> {
        if let Some(tags) = self.tags {
            instance.tags.0 = tags;
        }
        if let Some(credentials) = &self.credentials {
            instance.credentials = cc
                .settings
                .keys
                .seal_json(&instance.guid, credentials.as_ref())?;
        }
        if let Some(url) = self.syslog_drain_url {
            instance.syslog_drain_url = url;
        }
        if let Some(url) = self.route_service_url {
            instance.route_service_url = url;
        }
        Ok(())
    }
}

/// Reads the name without the spaces around it.
pub(super) fn read_name(body: &mut Body) -> String {
    let name = body.required_string("name");
    if name.trim().is_empty() && !name.is_empty() {
        body.problem("Name can't be blank");
    }
    name.trim().to_owned()
}

fn read_tags(body: &mut Body) -> Option<Vec<String>> {
    let tags = match body.value("tags")? {
        Value::Null => Some(Vec::new()),
        Value::Array(list) => {
            let texts = list.iter().map(|tag| tag.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<String>>>()
        }
        _ => {
            body.problem("Tags must be an array");
            return None;
        }
    };
    let Some(tags) = tags else {
        body.problem("Tags must be a list of strings");
        return None;
    };
    if let Some(problem) = services::tags_problem(&tags) {
        body.problem(problem);
    }
    Some(tags)
}

/// Reads the credentials in the order of their keys. Those that are no object were noted by `Body`.
fn read_credentials(cc: &Cc, body: &mut Body) -> ApiResult<Option<Option<OrderedJson>>> {
    let Some(credentials) = body.ordered("credentials")? else {
        return Ok(None);
    };
    let most = cc.settings.limits.credentials_bytes as usize;
    let size = credentials.text().len();
    if size > most {
        body.problem(format!(
            "Credentials must be at most {most} bytes as JSON (got {size})"
        ));
    }
    let is_object = matches!(credentials, OrderedJson::Object(_));
    Ok(Some(is_object.then_some(credentials)))
}

/// Reads an address without the spaces around it.
fn read_url(
    body: &mut Body,
    field: &str,
    problem: fn(&str) -> Option<&'static str>,
) -> Option<Option<String>> {
    let url = body.nullable_string(field)?;
    let url = url.map(|url| url.trim().to_owned());
    if let Some(problem) = url.as_deref().and_then(problem) {
        body.problem(problem);
    }
    Some(url)
}

/// Notes the keys of managed instances in the body of a user-provided one, and the other way round.
fn check_keys(body: &mut Body, kind: InstanceType) {
    let foreign: &[&str] = match kind {
        InstanceType::UserProvided => &[
            "parameters",
            "maintenance_info",
            "relationships.service_plan",
        ],
        InstanceType::Managed => &["credentials", "syslog_drain_url", "route_service_url"],
    };
    for key in foreign {
        if body.at(key).is_some() {
            body.problem(format!("Unknown field(s): '{key}'"));
        }
    }
}

/// Returns the request as its event has it, without credentials.
fn recorded(mut request: Map<String, Value>) -> Value {
    if let Some(credentials) = request.get_mut("credentials") {
        *credentials = json!("[REDACTED]");
    }
    json!({ "request": request })
}

async fn record(
    conn: &mut Connection,
    who: &Principal,
    verb: &str,
    instance: &ServiceInstance,
    space: &Space,
    data: Value,
) -> ApiResult<db::Trail> {
    let kind = format!("audit.user_provided_service_instance.{verb}");
    let target = actions::service_instance::target(instance);
    audit::record(conn, who, &kind, target, space, data).await
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    let flag = Flag::ServiceInstanceCreation;
    flag.must_be_on(&mut *cc.db.read().await?, &who).await?;
    let kind = check_type(&body.string("type").unwrap_or_default());
    let mut instance = ServiceInstance {
        name: read_name(&mut body),
        space_guid: body.required_relationship("space"),
        ..ServiceInstance::fresh()
    };
    match kind {
        Ok(kind) => {
            instance.r#type = kind;
            check_keys(&mut body, kind);
        }
        Err(problem) => body.problem(problem),
    }
    let wish = Wish::read(&cc, &mut body)?;
    let order = match instance.is_managed() {
        true => Some(managed::Order::read(&mut body)?),
        false => None,
    };
    body.merge_metadata(&mut instance.metadata)?;
    let request = body.finish()?;
    wish.apply(&cc, &mut instance)?;
    let mut tx = cc.change().await?;
    flag.must_be_on(&mut tx, &who).await?;
    let unseen = "Invalid space. Ensure that the space exists and you have access to it.";
    let space = who
        .named::<Space>(&mut tx, &instance.space_guid, Right::Develop, unseen)
        .await?
        .row;
    if let Some(order) = order {
        let wanted = (&mut instance, &space);
        return managed::create(&cc, &who, tx, wanted, (order, request)).await;
    }
    actions::service_instance::create(&mut tx, &cc.settings, &mut instance).await?;
    let data = recorded(request);
    let trail = record(&mut tx, &who, "create", &instance, &space, data).await?;
    tx.commit(trail).await?;
    Ok(created(present(&cc, &instance, &Plans::new())))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = find(&mut tx, &who, &guid, Right::Develop).await?;
    check_keys(&mut body, found.row.r#type);
    if found.row.is_managed() {
        return managed::update(&cc, &who, tx, found, body).await;
    }
    let (mut instance, space) = (found.row, found.of.space);
    let before = instance.clone();
    if body.has("name") {
        instance.name = read_name(&mut body);
    }
    let wish = Wish::read(&cc, &mut body)?;
    body.merge_metadata(&mut instance.metadata)?;
    let request = body.finish()?;
    wish.apply(&cc, &mut instance)?;
    actions::service_instance::update(&mut tx, &cc.settings.keys, &mut instance).await?;
    let data = recorded(request);
    let trail = record(&mut tx, &who, "update", &before, &space, data).await?;
    tx.commit(trail).await?;
    Ok(ok(present(&cc, &instance, &Plans::new())))
}

/// Removes an instance. To purge a user-provided one is the same as to delete it, because no broker has a part of it.
async fn remove(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let purge = query.flag("purge")?.unwrap_or_default();
    let mut tx = cc.change().await?;
    let found = find(&mut tx, &who, &guid, Right::Develop).await?;
    let (instance, space) = (found.row, found.of.space);
    if instance.is_managed() {
        return managed::remove(&cc, &who, tx, (instance, space), purge).await;
    }
    let actor = audit::actor(&who);
    let trail = actions::service_instance::delete(&mut tx, actor, &instance, &space).await?;
    tx.commit(trail).await?;
    Ok(no_content())
}

/// Shows the credentials, and records that somebody saw them. If the disk accepts no writes, reading is possible without an event.
async fn credentials(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = find(&mut conn, &who, &guid, Right::Read).await?;
    if found.row.is_managed() {
        return Err(ApiError::not_found("Service instance"));
    }
    found.access.must(Right::ReadSecrets)?;
    let (instance, space) = (found.row, found.of.space);
    drop(conn);
    let opened = cc
        .settings
        .keys
        .open_json(&guid, instance.credentials.as_ref())?;
    let noted = async {
        let mut tx = cc.change().await?;
        let data = json!({ "request": null });
        let trail = record(&mut tx, &who, "show", &instance, &space, data).await?;
        tx.commit(trail).await?;
        Ok::<(), ApiError>(())
    };
    tolerate_full_disk(noted.await, &guid)?;
    Ok(ok_ordered(
        &opened.unwrap_or(OrderedJson::Object(Vec::new())),
    ))
}

/// Passes an error on, unless the event of a read could not be written because the disk accepts no writes.
pub(super) fn tolerate_full_disk(noted: ApiResult<()>, guid: &str) -> ApiResult<()> {
    match noted {
        Err(error) if error.status == http::StatusCode::SERVICE_UNAVAILABLE => {
            tracing::warn!(%error, guid, "reading-not-recorded");
            Ok(())
        }
        result => result,
    }
}

async fn parameters(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let found = find(&mut *cc.db.read().await?, &who, &guid, Right::Read).await?;
    match found.row.is_managed() {
        true => managed::parameters(&cc, &who, found).await,
        false => Err(managed::not_supported()),
    }
}

/// Shows what the caller may do. It answers for every instance, also for one that the caller does not see.
async fn permissions(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let hidden = who.known::<ServiceInstance>(&mut conn, &guid).await?;
    let seen = find(&mut conn, &who, &guid, Right::Read).await;
    Ok(ok(
        json!({ "manage": hidden.access.may(Right::Develop), "read": seen.is_ok() }),
    ))
}
