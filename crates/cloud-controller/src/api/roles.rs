//! `/v3/roles`

use super::prelude::*;
use crate::actions::role::{self as verbs, ORGANIZATION_ROLES, SPACE_ROLES};
use crate::actions::{audit, job};
use crate::db::role::{Role, User};
use crate::db::space::Space;

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/roles", get(list).post(create))
        .route("/v3/roles/{guid}", get(show).delete(remove))
}

fn present(cc: &Cc, role: &Role) -> Value {
    let mut links = vec![("user", format!("/v3/users/{}", role.user_guid))];
    if let Some(guid) = &role.organization_guid {
        links.push(("organization", format!("/v3/organizations/{guid}")));
    }
    if let Some(guid) = &role.space_guid {
        links.push(("space", format!("/v3/spaces/{guid}")));
    }
    resource(
        &role.guid,
        role.created_at,
        role.updated_at,
        json!({
            "type": role.r#type,
            "relationships": {
                "user": to_one(Some(&role.user_guid)),
                "organization": to_one(role.organization_guid.as_deref()),
                "space": to_one(role.space_guid.as_deref()),
            },
            "links": cc.links(&format!("/v3/roles/{}", role.guid), &links),
        }),
    )
}

/// Roles in organizations and spaces that the caller sees.
fn visible(who: &Principal) -> Select {
    if who.reads_all() {
        return Select::new();
    }
    let condition = "(organization_guid IN (SELECT organization_guid FROM roles WHERE user_guid = ? AND organization_guid IS NOT NULL)
        OR space_guid IN (SELECT space_guid FROM roles WHERE user_guid = ? AND space_guid IS NOT NULL)
        OR space_guid IN (SELECT s.guid FROM spaces s JOIN roles r ON r.organization_guid = s.organization_guid WHERE r.user_guid = ? AND r.type = 'organization_manager'))";
    Select::new().and(
        condition,
        [who.guid().into(), who.guid().into(), who.guid().into()],
    )
}

async fn list(State(cc): State<Cc>, who: Principal, uri: Uri) -> ApiResult {
    let query = Query::list(
        &uri,
        &[
            "types",
            "user_guids",
            "organization_guids",
            "space_guids",
            "include",
        ],
    )?;
    let include = query.include(&["user", "organization", "space"])?;
    let mut conn = cc.db.read().await?;
    let mut select = visible(&who);
    for (name, column) in [
        ("types", "type"),
        ("user_guids", "user_guid"),
        ("organization_guids", "organization_guid"),
        ("space_guids", "space_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    let found = query.fetch::<Role>(&mut conn, select).await?;
    let mut answer = cc.page(
        &query,
        found.total,
        found.rows.iter().map(|row| present(&cc, row)).collect(),
    );
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &include, &found.rows).await?;
    }
    Ok(ok(answer))
}

async fn included(
    cc: &Cc,
    conn: &mut Connection,
    include: &[String],
    roles: &[Role],
) -> ApiResult<Value> {
    let mut included = serde_json::Map::new();
    for what in include {
        let (key, list) = match what.as_str() {
            "user" => {
                let rows: Vec<User> = Select::new()
                    .any("guid", roles.iter().map(|role| &role.user_guid))
                    .all(conn)
                    .await?;
                (
                    "users",
                    rows.iter()
                        .map(|row| super::users::present(cc, row))
                        .collect::<Vec<_>>(),
                )
            }
            "space" => {
                let rows: Vec<Space> = Select::new()
                    .any(
                        "guid",
                        roles.iter().filter_map(|role| role.space_guid.as_ref()),
                    )
                    .all(conn)
                    .await?;
                (
                    "spaces",
                    rows.iter()
                        .map(|row| super::spaces::present(cc, row))
                        .collect(),
                )
            }
            _ => {
                let rows = Select::new()
                    .any(
                        "guid",
                        roles
                            .iter()
                            .filter_map(|role| role.organization_guid.as_ref()),
                    )
                    .all(conn)
                    .await?;
                (
                    "organizations",
                    rows.iter()
                        .map(|row| super::organizations::present(cc, row))
                        .collect(),
                )
            }
        };
        included.insert(key.to_owned(), json!(list));
    }
    Ok(Value::Object(included))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let role: Option<Role> = visible(&who).is("guid", &guid).first(&mut conn).await?;
    Ok(ok(present(
        &cc,
        &role.ok_or_else(|| ApiError::not_found("Role"))?,
    )))
}

async fn create(State(cc): State<Cc>, who: Principal, body: Body) -> ApiResult {
    let mut body = body.allow(&["type", "relationships"]);
    let kind = body.required_string("type");
    let (for_organization, for_space) = (
        ORGANIZATION_ROLES.contains(&kind.as_str()),
        SPACE_ROLES.contains(&kind.as_str()),
    );
    if !for_organization && !for_space {
        let list: Vec<&str> = ORGANIZATION_ROLES
            .iter()
            .chain(SPACE_ROLES)
            .copied()
            .collect();
        body.problem(format!("Type must be one of the allowed types {list:?}"));
    }
    let organization = if for_organization {
        body.required_relationship("organization")
    } else {
        String::new()
    };
    let space = if for_space {
        body.required_relationship("space")
    } else {
        String::new()
    };
    let user = body
        .at("relationships.user.data")
        .cloned()
        .unwrap_or_default();
    let text = |key: &str| user.get(key).and_then(Value::as_str).map(str::to_owned);
    let (guid, username, origin) = (text("guid"), text("username"), text("origin"));
    if guid.is_none() && username.is_none() {
        body.problem("Relationships User guid can't be blank");
    }
    body.finish()?;
    let user = user_of(
        &cc,
        &who,
        guid.as_deref(),
        username.as_deref(),
        origin.as_deref(),
    )
    .await?;
    let mut tx = cc.db.write().await?;
    if db::by_guid::<User>(&mut tx, &user.guid).await?.is_none() {
        db::insert(&mut tx, &user).await?;
    }
    let role = if for_organization {
        let invalid = |_| {
            ApiError::unprocessable(
                "Invalid organization. Ensure that the organization exists and you have access to it.",
            )
        };
        let (_, access) = lookup::organization(&mut tx, &who, &organization)
            .await
            .map_err(invalid)?;
        allow(access.manages_organization())?;
        verbs::create(&mut tx, &kind, &user, Some(&organization), None).await?
    } else {
        let invalid = |_| {
            ApiError::unprocessable(
                "Invalid space. Ensure that the space exists and you have access to it.",
            )
        };
        let (space, access) = lookup::space(&mut tx, &who, &space)
            .await
            .map_err(invalid)?;
        allow(access.manages_space())?;
        verbs::create(&mut tx, &kind, &user, None, Some(&space)).await?
    };
    let name = user.username.clone().unwrap_or_else(|| user.guid.clone());
    audit::record(
        &mut tx,
        &who,
        &format!("audit.user.{kind}_add"),
        (&user.guid, "user", &name),
        None,
        json!({}),
    )
    .await?;
    tx.commit().await?;
    Ok(created(present(&cc, &role)))
}

/// By guid or by name; the UAA is asked when nobody of that name was seen here.
async fn user_of(
    cc: &Cc,
    who: &Principal,
    guid: Option<&str>,
    username: Option<&str>,
    origin: Option<&str>,
) -> ApiResult<User> {
    let known: Option<User> = {
        let mut conn = cc.db.read().await?;
        let select = match (guid, username) {
            (Some(guid), _) => Select::new().is("guid", guid),
            (None, name) => {
                let select = Select::new().is("username", name.unwrap_or_default());
                origin.map_or(select.clone(), |origin| select.is("origin", origin))
            }
        };
        select.first(&mut conn).await?
    };
    if let Some(user) = known {
        return Ok(user);
    }
    if let Some(user) = super::users::find_in_uaa(cc, who, guid, username, origin).await {
        return Ok(user);
    }
    match (guid, username) {
        // A client, or a user of an UAA that cannot be asked.
        (Some(guid), _) => Ok(User {
            guid: guid.to_owned(),
            ..User::fresh()
        }),
        (None, name) => Err(ApiError::unprocessable(format!(
            "No user exists with the username '{}'.",
            name.unwrap_or_default()
        ))),
    }
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.db.write().await?;
    let role: Option<Role> = visible(&who).is("guid", &guid).first(&mut tx).await?;
    let role = role.ok_or_else(|| ApiError::not_found("Role"))?;
    let right = match (&role.organization_guid, &role.space_guid) {
        (Some(organization), _) => who
            .in_organization(&mut tx, organization)
            .await?
            .manages_organization(),
        (None, space) => {
            let space: Space =
                lookup::row(&mut tx, space.as_deref().unwrap_or_default(), "Role").await?;
            who.in_space(&mut tx, &space).await?.manages_space()
        }
    };
    allow(right)?;
    verbs::delete(&mut tx, &role).await?;
    audit::record(
        &mut tx,
        &who,
        &format!("audit.user.{}_remove", role.r#type),
        (&role.user_guid, "user", ""),
        None,
        json!({}),
    )
    .await?;
    let job = job::complete(&mut tx, "role.delete", ("roles", &guid)).await?;
    tx.commit().await?;
    Ok(cc.accepted(&job))
}
