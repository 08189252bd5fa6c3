//! The endpoints `/v3/apps`: the app itself, its state, its droplet, its environment.

use super::prelude::*;
use crate::actions::{self, audit, job, managed_binding};
use crate::db::app::{App, AppState};
use crate::db::droplet::Droplet;
use crate::db::environment_group;
use crate::db::process;
use crate::db::space::Space;
use crate::flags::Flag;
use crate::jobs;
use cc_rules::recipe::environment::vcap_application;

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/apps", list)
        .lists(&[
            "names",
            "organization_guids",
            "space_guids",
            "stacks",
            "lifecycle_type",
            "include",
        ])
        .post("/v3/apps", create)
        .body(&[
            "name",
            "lifecycle.type",
            "lifecycle.data.buildpacks",
            "lifecycle.data.stack",
            "environment_variables.*",
            "relationships.space.data.guid",
            "metadata",
        ])
        .get("/v3/apps/{guid}", show)
        .takes(&["include"])
        .patch("/v3/apps/{guid}", update)
        .body(&[
            "name",
            "lifecycle.type",
            "lifecycle.data.buildpacks",
            "lifecycle.data.stack",
            "metadata",
        ])
        .delete("/v3/apps/{guid}", remove)
        .post("/v3/apps/{guid}/actions/start", start)
        .post("/v3/apps/{guid}/actions/stop", stop)
        .post("/v3/apps/{guid}/actions/restart", restart)
        .post("/v3/apps/{guid}/actions/clear_buildpack_cache", clear_cache)
        .get("/v3/apps/{guid}/env", env)
        .get("/v3/apps/{guid}/environment_variables", variables)
        .patch("/v3/apps/{guid}/environment_variables", set_variables)
        .body(&["var.*"])
        .get("/v3/apps/{guid}/permissions", permissions)
        .get(
            "/v3/apps/{guid}/relationships/current_droplet",
            current_droplet,
        )
        .patch(
            "/v3/apps/{guid}/relationships/current_droplet",
            set_current_droplet,
        )
        .body(&["data.guid"])
}

pub(super) fn present(cc: &Cc, app: &App) -> Value {
    let path = format!("/v3/apps/{}", app.guid);
    let mut links = cc.links(
        &path,
        &[
            ("space", format!("/v3/spaces/{}", app.space_guid)),
            ("current_droplet", format!("{path}/droplets/current")),
        ],
    );
    for name in [
        "environment_variables",
        "processes",
        "packages",
        "droplets",
        "tasks",
        "revisions",
        "features",
    ] {
        links.insert(name.to_owned(), cc.link(&format!("{path}/{name}")));
    }
    links.insert(
        "deployed_revisions".to_owned(),
        cc.link(&format!("{path}/revisions/deployed")),
    );
    for name in ["start", "stop", "clear_buildpack_cache"] {
        links.insert(
            name.to_owned(),
            cc.post_link(&format!("{path}/actions/{name}")),
        );
    }
    resource(
        &app.guid,
        app.created_at,
        app.updated_at,
        json!({
            "name": app.name,
            "state": app.state,
            "lifecycle": present_lifecycle(&app.buildpacks.0, app.stack.as_deref()),
            "relationships": { "space": to_one(Some(&app.space_guid)), "current_droplet": to_one(app.droplet_guid.as_deref()) },
            "metadata": app.metadata.0.present(),
            "links": links,
        }),
    )
}

pub(super) fn present_lifecycle(buildpacks: &[String], stack: Option<&str>) -> Value {
    json!({ "type": "buildpack", "data": { "buildpacks": buildpacks, "stack": stack.unwrap_or(cc_rules::buildpacks::STACK) } })
}

/// Reads the buildpacks and the stack from `lifecycle`.
pub(super) fn lifecycle(body: &mut Body) -> (Option<Vec<String>>, Option<String>) {
    let Some(lifecycle) = body
        .value("lifecycle")
        .filter(|value| !value.is_null())
        .cloned()
    else {
        return (None, None);
    };
    match lifecycle.get("type") {
        None | Some(Value::Null) => {}
        Some(kind) if kind == "buildpack" => {}
        Some(Value::String(other)) => body.problem(format!(
            "Lifecycle type '{other}' is not supported yet; it must be 'buildpack'"
        )),
        Some(_) => body.problem("Lifecycle type must be a string"),
    }
    let buildpacks = match lifecycle.pointer("/data/buildpacks") {
        None => None,
        Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(list)) => match list
            .iter()
            .map(|name| name.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
        {
            Some(list) => Some(list),
            None => {
                body.problem("Lifecycle Buildpacks can only contain strings");
                None
            }
        },
        Some(_) => {
            body.problem("Lifecycle Buildpacks must be an array");
            None
        }
    };
    let stack = match lifecycle.pointer("/data/stack") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name.clone()),
        Some(_) => {
            body.problem("Lifecycle Stack must be a string");
            None
        }
    };
    (buildpacks, stack)
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let include = query.include(&["space", "org", "space.organization"])?;
    let mut conn = cc.db.read().await?;
    let mut select = who.visible::<App>();
    for (name, column) in [
        ("names", "name"),
        ("space_guids", "space_guid"),
        ("lifecycle_type", "lifecycle_type"),
    ] {
        select = query.filter(select, name, column);
    }
    // An app without a stack has the default one.
    select = query.filter(select, "stacks", db::app::STACK);
    select = query.filter_by(select, "organization_guids", db::space::OF_ORGANIZATIONS);
    let found = query.fetch(&mut conn, select).await?;
    let mut answer = cc.page(
        &query,
        found.page,
        found.rows.iter().map(|row| present(&cc, row)).collect(),
    );
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &who, &include, &found.rows).await?;
    }
    Ok(ok(answer))
}

async fn included(
    cc: &Cc,
    conn: &mut Connection,
    who: &Principal,
    include: &[String],
    apps: &[App],
) -> ApiResult<Value> {
    let spaces: Vec<Space> = who
        .visible()
        .any("guid", apps.iter().map(|app| &app.space_guid))
        .all(conn)
        .await?;
    let mut included = json!({ "spaces": spaces.iter().map(|space| super::space::present(cc, space)).collect::<Vec<_>>() });
    if include.iter().any(|what| what != "space") {
        included["organizations"] =
            json!(super::space::included_organizations(cc, conn, who, &spaces).await?);
    }
    Ok(included)
}

async fn show(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let include = query.include(&["space", "org", "space.organization"])?;
    let mut conn = cc.db.read().await?;
    let app = who.find::<App>(&mut conn, &guid, Right::Read).await?.row;
    let mut answer = present(&cc, &app);
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &who, &include, &[app]).await?;
    }
    Ok(ok(answer))
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    let mut app = App {
        name: body.required_string("name"),
        space_guid: body.required_relationship("space"),
        state: AppState::Stopped,
        lifecycle_type: "buildpack".to_owned(),
        enable_ssh: true,
        ..App::fresh()
    };
    let (buildpacks, stack) = lifecycle(&mut body);
    (app.buildpacks.0, app.stack) = (buildpacks.unwrap_or_default(), stack);
    if let Some(variables) = body
        .value("environment_variables")
        .and_then(Value::as_object)
    {
        actions::app::set_environment(&cc.settings, &mut app, variables)?;
    }
    body.merge_metadata(&mut app.metadata)?;
    body.finish()?;
    let mut tx = cc.change().await?;
    let unseen = "Invalid space. Ensure that the space exists and you have access to it.";
    let space = who
        .named::<Space>(&mut tx, &app.space_guid, Right::Develop, unseen)
        .await?
        .row;
    actions::app::create(&mut tx, &cc.settings, &app).await?;
    audit::new_processes(&mut tx, &who, &app, &[]).await?;
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.create",
        (&app.guid, "app", &app.name),
        &space,
        json!({ "request": { "name": app.name } }),
    )
    .await?;
    tx.log_creation(&app.guid);
    tx.commit(trail).await?;
    Ok(created(present(&cc, &app)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let name = body.optional_name("name");
    let (buildpacks, stack) = lifecycle(&mut body);
    let metadata = body.metadata().cloned();
    let request = Value::Object(body.finish()?);
    let mut tx = cc.change().await?;
    let found = who.find::<App>(&mut tx, &guid, Right::Develop).await?;
    let (mut app, space) = (found.row, found.of.space);
    app.name = name.unwrap_or(app.name);
    app.buildpacks.0 = buildpacks.unwrap_or(app.buildpacks.0);
    app.stack = stack.or(app.stack);
    if let Some(change) = &metadata {
        app.metadata.0.merge(&cc.settings.limits, change)?;
    }
    actions::app::update(&mut tx, &mut app).await?;
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.update",
        (&app.guid, "app", &app.name),
        &space,
        json!({ "request": request }),
    )
    .await?;
    tx.log_to_app(&guid, format!("Updated app with guid {guid} ({request})"));
    tx.commit(trail).await?;
    Ok(ok(present(&cc, &app)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = who.find::<App>(&mut tx, &guid, Right::Develop).await?;
    let (app, space) = (found.row, found.of.space);
    if managed_binding::has_managed(&mut tx, &app).await? {
        let job = job::enqueue(&mut tx, &who, job::DELETE_APP, ("apps", &guid)).await?;
        tx.commit(Unrecorded::ByJob).await?;
        jobs::wait(&cc, &job).await;
        return Ok(cc.accepted(&job));
    }
    let actor = audit::actor(&who);
    actions::service_credential_binding::delete_of_app(&mut tx, actor, &app, &space).await?;
    actions::app::delete(&mut tx, &app).await?;
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.delete-request",
        (&app.guid, "app", &app.name),
        &space,
        json!({ "request": { "recursive": true } }),
    )
    .await?;
    let job = job::complete(&mut tx, "app.delete", ("apps", &guid)).await?;
    tx.commit(trail).await?;
    Ok(cc.accepted(&job))
}

async fn start(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    change_state(cc, who, guid, "start").await
}
async fn stop(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    change_state(cc, who, guid, "stop").await
}
async fn restart(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    change_state(cc, who, guid, "restart").await
}

async fn change_state(cc: Cc, who: Principal, guid: String, verb: &str) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = who.find::<App>(&mut tx, &guid, Right::Read).await?;
    // Every reader gets the error for an app that cannot start, even without the right to start it.
    if verb != "stop" {
        actions::app::must_have_droplet(&found.row)?;
    }
    found.access.must(Right::Support)?;
    let (mut app, space) = (found.row, found.of.space);
    match verb {
        "start" => actions::app::start(&mut tx, &mut app).await?,
        "stop" => actions::app::stop(&mut tx, &mut app).await?,
        _ => actions::app::restart(&mut tx, &mut app).await?,
    }
    let trail = audit::record(
        &mut tx,
        &who,
        &format!("audit.app.{verb}"),
        (&app.guid, "app", &app.name),
        &space,
        json!({}),
    )
    .await?;
    tx.log_to_app(
        &guid,
        format!(
            "Updated app with guid {guid} ({{\"state\"=>\"{}\"}})",
            app.state
        ),
    );
    tx.commit(trail).await?;
    Ok(ok(present(&cc, &app)))
}

/// Creates a completed job, because there is no cache of buildpacks to clear.
async fn clear_cache(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    who.find::<App>(&mut tx, &guid, Right::Support).await?;
    let job = job::complete(&mut tx, "buildpack_cache.delete", ("apps", &guid)).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(cc.accepted(&job))
}

/// Records an event when a caller reads secrets or downloads bits. If the disk accepts no writes, reading is possible without an
/// event.
pub(super) async fn note_read(
    cc: &Cc,
    who: &Principal,
    app: &App,
    kind: &str,
    data: Value,
) -> ApiResult<()> {
    let noted = async {
        let mut tx = cc.change().await?;
        let trail = audit::of_app(&mut tx, who, kind, app, data).await?;
        tx.commit(trail).await?;
        Ok::<(), ApiError>(())
    };
    match noted.await {
        Err(error) if error.status == http::StatusCode::SERVICE_UNAVAILABLE => {
            tracing::warn!(%error, kind, app = app.guid, "reading-not-recorded");
            Ok(())
        }
        result => result,
    }
}

async fn env(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let Found {
        row: app, access, ..
    } = find_with_environment(&mut conn, &who, &guid).await?;
    let process = process::of_type(&mut conn, &guid, "web")
        .await?
        .unwrap_or_default();
    let spec = cc
        .driver
        .spec(&mut conn, &app, &process, &Droplet::default())
        .await?;
    let answer = json!({
        "staging_env_json": environment_group::by_name(&mut conn, "staging").await?.var.0,
        "running_env_json": environment_group::by_name(&mut conn, "running").await?.var.0,
        "environment_variables": actions::app::environment(&cc.settings.keys, &app)?,
        "system_env_json": if access.reads_secrets() {
            let (name, value) = &spec.services.variable;
            json!({ name.as_str(): serde_json::from_str(value).unwrap_or_else(|_| json!(value)) })
        } else {
            json!({ "redacted_message": "[PRIVATE DATA HIDDEN]" })
        },
        "application_env_json": { "VCAP_APPLICATION": vcap_application(&spec) },
    });
    drop(conn);
    note_read(&cc, &who, &app, "audit.app.environment.show", json!({})).await?;
    Ok(ok(answer))
}

/// Returns the app to callers for whom the two flags make its environment visible.
async fn find_with_environment(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
) -> ApiResult<Found<App>> {
    Flag::EnvVarVisibility.must_be_on(conn, who).await?;
    let found = who.find::<App>(conn, guid, Right::ReadEnvironment).await?;
    if !who.reads_all_secrets() {
        Flag::SpaceDeveloperEnvVarVisibility
            .must_be_on(conn, who)
            .await?;
    }
    Ok(found)
}

fn present_variables(cc: &Cc, app: &App) -> ApiResult<Value> {
    let path = format!("/v3/apps/{}", app.guid);
    let variables = actions::app::environment(&cc.settings.keys, app)?;
    Ok(
        json!({ "var": variables, "links": cc.links(&format!("{path}/environment_variables"), &[("app", path)]) }),
    )
}

async fn variables(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let app = find_with_environment(&mut conn, &who, &guid).await?.row;
    drop(conn);
    note_read(
        &cc,
        &who,
        &app,
        "audit.app.environment_variables.show",
        json!({}),
    )
    .await?;
    Ok(ok(present_variables(&cc, &app)?))
}

async fn set_variables(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = who.find::<App>(&mut tx, &guid, Right::Support).await?;
    let (mut app, space) = (found.row, found.of.space);
    let var = body.value("var").and_then(Value::as_object).cloned();
    if var.is_none() {
        body.problem("Var must be an object");
    }
    body.finish()?;
    actions::app::set_environment(&cc.settings, &mut app, &var.unwrap_or_default())?;
    app.touch();
    db::update(&mut tx, &app).await?;
    let data = json!({ "request": { "environment_variables": "[PRIVATE DATA HIDDEN]" } });
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.update",
        (&app.guid, "app", &app.name),
        &space,
        data,
    )
    .await?;
    tx.log_to_app(&guid, format!("Updated app with guid {guid} ({{\"environment_variables\"=>\"[PRIVATE DATA HIDDEN]\"}})"));
    tx.commit(trail).await?;
    Ok(ok(present_variables(&cc, &app)?))
}

async fn permissions(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let access = who.find::<App>(&mut conn, &guid, Right::Read).await?.access;
    Ok(ok(
        json!({ "read_basic_data": true, "read_sensitive_data": access.reads_secrets() }),
    ))
}

fn present_current(cc: &Cc, app: &App) -> Value {
    let path = format!("/v3/apps/{}", app.guid);
    let mut answer = to_one(app.droplet_guid.as_deref());
    answer["links"] = json!({ "self": cc.link(&format!("{path}/relationships/current_droplet")), "related": cc.link(&format!("{path}/droplets/current")) });
    answer
}

async fn current_droplet(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let app = who.find::<App>(&mut conn, &guid, Right::Read).await?.row;
    if app.droplet_guid.is_none() {
        return Err(ApiError::not_found("Droplet"));
    }
    Ok(ok(present_current(&cc, &app)))
}

async fn set_current_droplet(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let wanted = body.read_to_one();
    body.finish()?;
    let Some(wanted) = wanted else {
        return Err(ApiError::unprocessable(
            "Current droplet cannot be removed. Replace it with a preferred droplet.",
        ));
    };
    let mut tx = cc.change().await?;
    let found = who.find::<App>(&mut tx, &guid, Right::Support).await?;
    let (mut app, space) = (found.row, found.of.space);
    if db::deployment::active_of_app(&mut tx, &guid)
        .await?
        .is_some()
    {
        return Err(ApiError::unprocessable(
            "Unable to assign current droplet while the app has a deployment in progress. Wait for the deployment to complete or cancel it.",
        ));
    }
    let unseen =
        "Unable to assign current droplet. Ensure the droplet exists and belongs to this app.";
    let droplet = who
        .usable::<Droplet>(&mut tx, &wanted, Right::Support, unseen)
        .await?
        .row;
    let before = process::of_app(&mut tx, &guid).await?;
    actions::app::assign_droplet(&mut tx, &cc.settings, &mut app, &droplet).await?;
    audit::new_processes(&mut tx, &who, &app, &before).await?;
    let data = json!({ "request": { "droplet_guid": droplet.guid } });
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.droplet.mapped",
        (&app.guid, "app", &app.name),
        &space,
        data,
    )
    .await?;
    tx.commit(trail).await?;
    Ok(ok(present_current(&cc, &app)))
}
