//! `/v3/security_groups`: what containers may reach. Changes reach running instances at once, tasks when they start.

use super::prelude::*;
use crate::actions::job;
use crate::actions::security_group::{Scope, affected};
use crate::db::platform::{self, SecurityGroup};

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/security_groups", get(list).post(create))
        .route(
            "/v3/security_groups/{guid}",
            get(show).patch(update).delete(remove),
        )
        .route(
            "/v3/security_groups/{guid}/relationships/{relationship}",
            post(bind),
        )
        .route(
            "/v3/security_groups/{guid}/relationships/{relationship}/{space}",
            delete(unbind),
        )
        .route("/v3/spaces/{guid}/running_security_groups", get(running))
        .route("/v3/spaces/{guid}/staging_security_groups", get(staging))
}

async fn present(cc: &Cc, conn: &mut Connection, group: &SecurityGroup) -> ApiResult<Value> {
    let path = format!("/v3/security_groups/{}", group.guid);
    Ok(resource(
        &group.guid,
        group.created_at,
        group.updated_at,
        json!({
            "name": group.name,
            "globally_enabled": { "running": group.running, "staging": group.staging },
            "rules": group.rules.0,
            "relationships": {
                "running_spaces": to_many(&platform::group_spaces(conn, &group.guid, "running").await?),
                "staging_spaces": to_many(&platform::group_spaces(conn, &group.guid, "staging").await?),
            },
            "links": cc.links(&path, &[]),
        }),
    ))
}

async fn page(cc: &Cc, uri: &Uri, select: Select, own: &[&str]) -> ApiResult {
    let query = Query::list(uri, own)?;
    let mut conn = cc.db.read().await?;
    let mut select = query.filter(select, "names", "name");
    for (name, column) in [
        ("globally_enabled_running", "running"),
        ("globally_enabled_staging", "staging"),
    ] {
        if let Some(flag) = query.flag(name)? {
            select = select.is(column, i64::from(flag));
        }
    }
    let bound = |phase: &str| {
        format!(
            "guid IN (SELECT security_group_guid FROM security_group_spaces WHERE phase = '{phase}' AND space_guid IN (?))"
        )
    };
    select = query.filter_by(select, "running_space_guids", &bound("running"));
    select = query.filter_by(select, "staging_space_guids", &bound("staging"));
    let found = query.fetch::<SecurityGroup>(&mut conn, select).await?;
    let mut resources = Vec::new();
    for group in &found.rows {
        resources.push(present(cc, &mut conn, group).await?);
    }
    Ok(ok(cc.page(&query, found.total, resources)))
}

/// Admins see all; others the global ones and those of their spaces.
fn visible(who: &Principal) -> Select {
    if who.reads_all() {
        return Select::new();
    }
    let mine = "(running = 1 OR staging = 1 OR guid IN (SELECT g.security_group_guid FROM security_group_spaces g JOIN roles r ON r.space_guid = g.space_guid WHERE r.user_guid = ?))";
    Select::new().and(mine, [who.guid().into()])
}

async fn list(State(cc): State<Cc>, who: Principal, uri: Uri) -> ApiResult {
    let own = [
        "names",
        "globally_enabled_running",
        "globally_enabled_staging",
        "running_space_guids",
        "staging_space_guids",
    ];
    page(&cc, &uri, visible(&who), &own).await
}

async fn running(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    lookup::space(&mut *cc.db.read().await?, &who, &guid).await?;
    page(
        &cc,
        &uri,
        platform::groups_for(&guid, "running"),
        &["names"],
    )
    .await
}

async fn staging(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    lookup::space(&mut *cc.db.read().await?, &who, &guid).await?;
    page(
        &cc,
        &uri,
        platform::groups_for(&guid, "staging"),
        &["names"],
    )
    .await
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let group: Option<SecurityGroup> = visible(&who).is("guid", guid).first(&mut conn).await?;
    let group = group.ok_or_else(|| ApiError::not_found("Security group"))?;
    Ok(ok(present(&cc, &mut conn, &group).await?))
}

/// Reads name, rules and the global switches into a group.
fn read(body: &mut Body, group: &mut SecurityGroup) {
    group.name = body
        .optional_name("name")
        .unwrap_or(std::mem::take(&mut group.name));
    match body.value("rules") {
        None => {}
        Some(Value::Array(rules)) => match crate::diego::recipe_egress::rules(rules) {
            Ok(_) => group.rules.0.clone_from(rules),
            Err(error) => body.problem(error.to_string()),
        },
        Some(_) => body.problem("Rules must be an array"),
    }
    let switch = |body: &Body, phase: &str| {
        body.at(&format!("globally_enabled.{phase}"))
            .and_then(Value::as_bool)
    };
    group.running = switch(body, "running").unwrap_or(group.running);
    group.staging = switch(body, "staging").unwrap_or(group.staging);
}

async fn create(State(cc): State<Cc>, who: Principal, body: Body) -> ApiResult {
    who.must_be_admin()?;
    let mut body = body.allow(&["name", "rules", "globally_enabled", "relationships"]);
    let mut group = SecurityGroup {
        name: body.required_string("name"),
        ..SecurityGroup::fresh()
    };
    read(&mut body, &mut group);
    let bound = |body: &Body, phase: &str| -> Vec<String> {
        let list = body
            .at(&format!("relationships.{phase}_spaces.data"))
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        list.iter()
            .filter_map(|space| space.get("guid").and_then(Value::as_str).map(str::to_owned))
            .collect()
    };
    let spaces = [
        ("running", bound(&body, "running")),
        ("staging", bound(&body, "staging")),
    ];
    body.finish()?;
    let mut tx = cc.db.write().await?;
    check_name(&mut tx, &group).await?;
    db::insert(&mut tx, &group).await?;
    for (phase, guids) in spaces {
        for space in guids {
            lookup::space(&mut tx, &who, &space).await?;
            platform::bind_group(&mut tx, &group.guid, &space, phase).await?;
        }
    }
    let scope = Scope::of(&mut tx, &group).await?;
    let touched = affected(&mut tx, scope).await?;
    let answer = present(&cc, &mut tx, &group).await?;
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(created(answer))
}

async fn check_name(conn: &mut Connection, group: &SecurityGroup) -> ApiResult<()> {
    let taken = Select::new()
        .is("name", &group.name)
        .and("guid <> ?", [(&group.guid).into()])
        .exists::<SecurityGroup>(conn)
        .await?;
    if taken {
        Err(ApiError::unprocessable(format!(
            "Security group with name '{}' already exists.",
            group.name
        )))
    } else {
        Ok(())
    }
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    who.must_be_admin()?;
    let mut body = body.allow(&["name", "rules", "globally_enabled"]);
    let mut tx = cc.db.write().await?;
    let mut group: SecurityGroup = lookup::row(&mut tx, &guid, "Security group").await?;
    let before = Scope::of(&mut tx, &group).await?;
    read(&mut body, &mut group);
    body.finish()?;
    check_name(&mut tx, &group).await?;
    group.touch();
    db::update(&mut tx, &group).await?;
    let scope = before.and(Scope::of(&mut tx, &group).await?);
    let touched = affected(&mut tx, scope).await?;
    let answer = present(&cc, &mut tx, &group).await?;
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(ok(answer))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    who.must_be_admin()?;
    let mut tx = cc.db.write().await?;
    let group: SecurityGroup = lookup::row(&mut tx, &guid, "Security group").await?;
    let scope = Scope::of(&mut tx, &group).await?;
    if !db::delete::<SecurityGroup>(&mut tx, &guid).await? {
        return Err(ApiError::not_found("Security group"));
    }
    let touched = affected(&mut tx, scope).await?;
    let job = job::complete(&mut tx, "security_group.delete", ("security_groups", &guid)).await?;
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(cc.accepted(&job))
}

fn phase(relationship: &str) -> ApiResult<&'static str> {
    match relationship {
        "running_spaces" => Ok("running"),
        "staging_spaces" => Ok("staging"),
        _ => Err(ApiError::unknown_request()),
    }
}

async fn bind(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, relationship)): Path<(String, String)>,
    body: Body,
) -> ApiResult {
    let phase = phase(&relationship)?;
    let mut body = body.allow(&["data"]);
    let spaces = body.read_to_many();
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let group: SecurityGroup = lookup::row(&mut tx, &guid, "Security group").await?;
    for space in &spaces {
        let (_, access) = lookup::space(&mut tx, &who, space).await?;
        allow(access.manages_space())?;
        platform::bind_group(&mut tx, &group.guid, space, phase).await?;
    }
    let touched = affected(&mut tx, Scope::bound(phase, &spaces)).await?;
    let mut answer = to_many(&platform::group_spaces(&mut tx, &guid, phase).await?);
    tx.commit().await?;
    cc.driver.settle(touched).await;
    answer["links"] = json!({ "self": cc.link(&format!("/v3/security_groups/{guid}/relationships/{relationship}")) });
    Ok(ok(answer))
}

async fn unbind(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, relationship, space)): Path<(String, String, String)>,
) -> ApiResult {
    let phase = phase(&relationship)?;
    let mut tx = cc.db.write().await?;
    let (_, access) = lookup::space(&mut tx, &who, &space).await?;
    allow(access.manages_space())?;
    if !platform::unbind_group(&mut tx, &guid, &space, phase).await? {
        return Err(ApiError::unprocessable(format!(
            "Unable to unbind security group from space with guid '{space}'. Ensure the space is bound to this security group."
        )));
    }
    let touched = affected(&mut tx, Scope::bound(phase, std::slice::from_ref(&space))).await?;
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(no_content())
}
