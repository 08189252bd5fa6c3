//! The endpoints `/v3/security_groups`: what containers may reach. Changes are applied to running instances at once, and to
//! running tasks by the sync, which a change wakes.

use super::prelude::*;
use crate::actions::job;
use crate::actions::security_group::{Scope as Reach, apply_to_running};
use crate::db::security_group::{self, Phase, SecurityGroup};
use crate::db::space::Space;

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/security_groups", list)
        .lists(&[
            "names",
            "globally_enabled_running",
            "globally_enabled_staging",
            "running_space_guids",
            "staging_space_guids",
        ])
        .post("/v3/security_groups", create)
        .body(&[
            "name",
            "rules[].protocol",
            "rules[].destination",
            "rules[].ports",
            "rules[].type",
            "rules[].code",
            "rules[].description",
            "rules[].log",
            "globally_enabled.running",
            "globally_enabled.staging",
            "relationships.running_spaces.data[].guid",
            "relationships.staging_spaces.data[].guid",
        ])
        .get("/v3/security_groups/{guid}", show)
        .patch("/v3/security_groups/{guid}", update)
        .body(&[
            "name",
            "rules[].protocol",
            "rules[].destination",
            "rules[].ports",
            "rules[].type",
            "rules[].code",
            "rules[].description",
            "rules[].log",
            "globally_enabled.running",
            "globally_enabled.staging",
        ])
        .delete("/v3/security_groups/{guid}", remove)
        .post(
            "/v3/security_groups/{guid}/relationships/{relationship}",
            bind,
        )
        .body(&["data[].guid"])
        .delete(
            "/v3/security_groups/{guid}/relationships/{relationship}/{space}",
            unbind,
        )
        .get("/v3/spaces/{guid}/running_security_groups", running)
        .lists(&["names"])
        .get("/v3/spaces/{guid}/staging_security_groups", staging)
        .lists(&["names"])
}

/// Returns the spaces to which a group is bound, as far as the caller sees them.
async fn spaces(
    conn: &mut Connection,
    who: &Principal,
    group: &str,
    phase: Phase,
) -> ApiResult<Vec<String>> {
    let bound = security_group::spaces(conn, group, phase).await?;
    let seen = who.visible::<Space>().any("guid", &bound).all(conn).await?;
    Ok(bound
        .into_iter()
        .filter(|guid| seen.iter().any(|space| space.guid == *guid))
        .collect())
}

async fn present(
    cc: &Cc,
    conn: &mut Connection,
    who: &Principal,
    group: &SecurityGroup,
) -> ApiResult<Value> {
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
                "running_spaces": to_many(&spaces(conn, who, &group.guid, Phase::Running).await?),
                "staging_spaces": to_many(&spaces(conn, who, &group.guid, Phase::Staging).await?),
            },
            "links": cc.links(&path, &[]),
        }),
    ))
}

async fn page(cc: &Cc, who: &Principal, query: &Query, select: Scope<SecurityGroup>) -> ApiResult {
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
    select = query.filter_by(
        select,
        "running_space_guids",
        security_group::BOUND_TO_RUNNING_IN_SPACES,
    );
    select = query.filter_by(
        select,
        "staging_space_guids",
        security_group::BOUND_TO_STAGING_IN_SPACES,
    );
    let found = query.fetch(&mut conn, select).await?;
    let mut resources = Vec::new();
    for group in &found.rows {
        resources.push(present(cc, &mut conn, who, group).await?);
    }
    Ok(ok(cc.page(query, found.page, resources)))
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    page(&cc, &who, &query, who.visible()).await
}

async fn running(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    of_space(cc, who, guid, query, Phase::Running).await
}

async fn staging(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    of_space(cc, who, guid, query, Phase::Staging).await
}

async fn of_space(cc: Cc, who: Principal, guid: String, query: Query, phase: Phase) -> ApiResult {
    who.find::<Space>(&mut *cc.db.read().await?, &guid, Right::Read)
        .await?;
    let groups = who.visible().that(security_group::holds_for(&guid, phase));
    page(&cc, &who, &query, groups).await
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who
        .find::<SecurityGroup>(&mut conn, &guid, Right::Read)
        .await?;
    Ok(ok(present(&cc, &mut conn, &who, &found.row).await?))
}

/// Reads name, rules and the global switches into a group.
fn read(body: &mut Body, group: &mut SecurityGroup) {
    group.name = body
        .optional_name("name")
        .unwrap_or(std::mem::take(&mut group.name));
    match body.value("rules") {
        None => {}
        Some(Value::Array(rules)) => match cc_rules::recipe::egress::rules(rules) {
            Ok(_) => group.rules.0.clone_from(rules),
            Err(error) => body.problem(error.to_string()),
        },
        Some(_) => body.problem("Rules must be an array"),
    }
    let switch = |body: &Body, phase: Phase| {
        body.at(&format!("globally_enabled.{phase}"))
            .and_then(Value::as_bool)
    };
    group.running = switch(body, Phase::Running).unwrap_or(group.running);
    group.staging = switch(body, Phase::Staging).unwrap_or(group.staging);
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    who.must_be_admin()?;
    let mut group = SecurityGroup {
        name: body.required_string("name"),
        ..SecurityGroup::fresh()
    };
    read(&mut body, &mut group);
    let spaces = [
        (Phase::Running, body.many_relationship("running_spaces")),
        (Phase::Staging, body.many_relationship("staging_spaces")),
    ];
    body.finish()?;
    let mut tx = cc.change().await?;
    check_name(&mut tx, &group).await?;
    db::insert(&mut tx, &group).await?;
    for (phase, guids) in spaces {
        for space in guids {
            who.existing::<Space>(&mut tx, &space, Right::ManageSpace, &unknown(&space))
                .await?;
            security_group::bind(&mut tx, &group.guid, &space, phase).await?;
        }
    }
    let scope = Reach::of(&mut tx, &group).await?;
    apply_to_running(&mut tx, scope).await?;
    let answer = present(&cc, &mut tx, &who, &group).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(created(answer))
}

fn unknown(space: &str) -> String {
    format!("Spaces with guids [\"{space}\"] do not exist, or you do not have access to them.")
}

async fn check_name(conn: &mut Connection, group: &SecurityGroup) -> ApiResult<()> {
    if security_group::is_name_taken(conn, group).await? {
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
    mut body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut group = who
        .find::<SecurityGroup>(&mut tx, &guid, Right::Admin)
        .await?
        .row;
    let before = Reach::of(&mut tx, &group).await?;
    read(&mut body, &mut group);
    body.finish()?;
    check_name(&mut tx, &group).await?;
    group.touch();
    db::update(&mut tx, &group).await?;
    let scope = before.and(Reach::of(&mut tx, &group).await?);
    apply_to_running(&mut tx, scope).await?;
    let answer = present(&cc, &mut tx, &who, &group).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(answer))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let group = who
        .find::<SecurityGroup>(&mut tx, &guid, Right::Admin)
        .await?
        .row;
    let scope = Reach::of(&mut tx, &group).await?;
    db::delete::<SecurityGroup>(&mut tx, &guid).await?;
    apply_to_running(&mut tx, scope).await?;
    let job = job::complete(&mut tx, "security_group.delete", ("security_groups", &guid)).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(cc.accepted(&job))
}

fn phase(relationship: &str) -> ApiResult<Phase> {
    match relationship {
        "running_spaces" => Ok(Phase::Running),
        "staging_spaces" => Ok(Phase::Staging),
        _ => Err(ApiError::unknown_request()),
    }
}

/// Binds a group to spaces. The readers of a space see its bound groups, so that only a visible group may be bound.
async fn bind(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, relationship)): Path<(String, String)>,
    mut body: Body,
) -> ApiResult {
    let phase = phase(&relationship)?;
    let mut tx = cc.change().await?;
    let group = who
        .find::<SecurityGroup>(&mut tx, &guid, Right::Read)
        .await?
        .row;
    let wanted = body.read_to_many();
    body.finish()?;
    for space in &wanted {
        who.existing::<Space>(&mut tx, space, Right::ManageSpace, &unknown(space))
            .await?;
        security_group::bind(&mut tx, &group.guid, space, phase).await?;
    }
    apply_to_running(&mut tx, Reach::bound(phase, &wanted)).await?;
    let mut answer = to_many(&spaces(&mut tx, &who, &guid, phase).await?);
    tx.commit(Unrecorded::NoSuchEvent).await?;
    answer["links"] = json!({ "self": cc.link(&format!("/v3/security_groups/{guid}/relationships/{relationship}")) });
    Ok(ok(answer))
}

async fn unbind(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, relationship, space)): Path<(String, String, String)>,
) -> ApiResult {
    let phase = phase(&relationship)?;
    let mut tx = cc.change().await?;
    who.find::<SecurityGroup>(&mut tx, &guid, Right::Read)
        .await?;
    let unbound = format!(
        "Unable to unbind security group from space with guid '{space}'. Ensure the space is bound to this security group."
    );
    who.existing::<Space>(&mut tx, &space, Right::ManageSpace, &unbound)
        .await?;
    if !security_group::unbind(&mut tx, &guid, &space, phase).await? {
        return Err(ApiError::unprocessable(unbound));
    }
    apply_to_running(&mut tx, Reach::bound(phase, std::slice::from_ref(&space))).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(no_content())
}
