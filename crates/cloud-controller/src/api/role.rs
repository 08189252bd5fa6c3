//! The endpoints `/v3/roles`.

use super::prelude::*;
use super::uaa_users;
use crate::actions::role as verbs;
use crate::actions::{audit, job};
use crate::db::organization::Organization;
use crate::db::role::{self, Role, RoleType};
use crate::db::space::Space;
use crate::db::user::{self, User};
use crate::flags::Flag;

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/roles", list)
        .lists(&[
            "types",
            "user_guids",
            "organization_guids",
            "space_guids",
            "include",
        ])
        .post("/v3/roles", create)
        .body(&[
            "type",
            "relationships.user.data.guid",
            "relationships.user.data.username",
            "relationships.user.data.origin",
            "relationships.organization.data.guid",
            "relationships.space.data.guid",
        ])
        .get("/v3/roles/{guid}", show)
        .takes(&["include"])
        .delete("/v3/roles/{guid}", remove)
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

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let include = query.include(&["user", "organization", "space"])?;
    let mut conn = cc.db.read().await?;
    let mut select = who.visible::<Role>();
    for (name, column) in [
        ("types", "type"),
        ("user_guids", "user_guid"),
        ("organization_guids", "organization_guid"),
        ("space_guids", "space_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    let found = query.fetch(&mut conn, select).await?;
    let mut answer = cc.page(
        &query,
        found.page,
        found.rows.iter().map(|row| present(&cc, row)).collect(),
    );
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &include, &found.rows).await?;
    }
    Ok(ok(answer))
}

/// Returns what `include` names. A caller who sees a role sees its user and its place.
async fn included(
    cc: &Cc,
    conn: &mut Connection,
    include: &[String],
    roles: &[Role],
) -> ApiResult<Value> {
    let mut included = serde_json::Map::new();
    for what in include {
        let (key, list): (_, Vec<Value>) = match what.as_str() {
            "user" => {
                let rows = user::of_roles(conn, roles).await?;
                let list = rows.iter().map(|row| super::user::present(cc, row));
                ("users", list.collect())
            }
            "space" => {
                let rows = role::spaces_of(conn, roles).await?;
                let list = rows.iter().map(|row| super::space::present(cc, row));
                ("spaces", list.collect())
            }
            _ => {
                let rows = role::organizations_of(conn, roles).await?;
                let list = rows.iter().map(|row| super::organization::present(cc, row));
                ("organizations", list.collect())
            }
        };
        included.insert(key.to_owned(), json!(list));
    }
    Ok(Value::Object(included))
}

async fn show(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let include = query.include(&["user", "organization", "space"])?;
    let mut conn = cc.db.read().await?;
    let role = who.find::<Role>(&mut conn, &guid, Right::Read).await?.row;
    let mut answer = present(&cc, &role);
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &include, &[role]).await?;
    }
    Ok(ok(answer))
}

/// The role that a request wants to assign, and its user.
#[derive(Debug)]
struct Wish {
    kind: RoleType,
    place: Place,
    user: Wanted,
}

#[derive(Debug)]
enum Place {
    Organization(String),
    Space(String),
}

/// The name of a user in a request.
#[derive(Debug)]
enum Wanted {
    Guid(String),
    Name {
        username: String,
        origin: Option<String>,
    },
}

fn read(mut body: Body) -> ApiResult<Wish> {
    let kind = body.required_string("type").parse::<RoleType>().ok();
    let place = match kind {
        Some(kind) if kind.is_of_organization() => {
            if body.relationship("space").is_some() {
                body.problem("Relationships cannot contain space for an organization role");
            }
            Place::Organization(body.required_relationship("organization"))
        }
        Some(_) => {
            if body.relationship("organization").is_some() {
                body.problem("Relationships cannot contain organization for a space role");
            }
            Place::Space(body.required_relationship("space"))
        }
        None => {
            let list: Vec<&str> = RoleType::ALL.iter().map(|kind| kind.as_str()).collect();
            body.problem(format!("Type must be one of the allowed types {list:?}"));
            Place::Space(String::new())
        }
    };
    let user = body
        .at("relationships.user.data")
        .cloned()
        .unwrap_or_default();
    let mut text = |key: &str| match user.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(_) => {
            body.problem(format!(
                "Relationships User {key} must be a string that is not empty"
            ));
            None
        }
    };
    let (guid, username, origin) = (text("guid"), text("username"), text("origin"));
    let user = match (guid, username) {
        (Some(_), Some(_)) => {
            body.problem("Relationships User must be named by guid or by username, not by both");
            Wanted::Guid(String::new())
        }
        (Some(_), None) if origin.is_some() => {
            body.problem("Relationships User origin can be given with a username only");
            Wanted::Guid(String::new())
        }
        (Some(guid), None) => Wanted::Guid(guid),
        (None, Some(username)) => Wanted::Name { username, origin },
        (None, None) => {
            body.problem("Relationships User guid can't be blank");
            Wanted::Guid(String::new())
        }
    };
    body.finish()?;
    let kind = kind.unwrap_or_default();
    Ok(Wish { kind, place, user })
}

/// Returns the organization and, for a space role, the space. Callers who may not assign roles there are refused.
async fn place(
    conn: &mut Connection,
    who: &Principal,
    wish: &Wish,
) -> ApiResult<(Organization, Option<Space>)> {
    match &wish.place {
        Place::Organization(guid) => {
            let unknown = "Invalid organization. Ensure that the organization exists and you have access to it.";
            let found = who
                .existing::<Organization>(conn, guid, Right::ManageOrganization, unknown)
                .await?;
            Ok((found.row, None))
        }
        Place::Space(guid) => {
            let unknown = "Invalid space. Ensure that the space exists and you have access to it.";
            let found = who
                .existing::<Space>(conn, guid, Right::ManageSpace, unknown)
                .await?;
            Ok((found.of.organization, Some(found.row)))
        }
    }
}

async fn create(State(cc): State<Cc>, who: Principal, body: Body) -> ApiResult {
    let wish = read(body)?;
    {
        // A caller who may not assign roles here learns nothing about users.
        let mut conn = cc.db.read().await?;
        place(&mut conn, &who, &wish).await?;
        if matches!(wish.user, Wanted::Name { .. }) {
            Flag::SetRolesByUsername.must_be_on(&mut conn, &who).await?;
        }
    }
    let user = user_of(&cc, &who, &wish).await?;
    let mut tx = cc.change().await?;
    let (organization, space) = place(&mut tx, &who, &wish).await?;
    let user = user::add(&mut tx, user).await?;
    let role = match &space {
        None => verbs::create(&mut tx, wish.kind, &user, Some(&organization.guid), None).await?,
        Some(space) => verbs::create(&mut tx, wish.kind, &user, None, Some(space)).await?,
    };
    let name = user.username.clone().unwrap_or_else(|| user.guid.clone());
    let trail = audit::record(
        &mut tx,
        &who,
        &format!("audit.user.{}_add", wish.kind),
        (&user.guid, "user", &name),
        event_place(Some(&organization), space.as_ref()),
        json!({}),
    )
    .await?;
    tx.commit(trail).await?;
    Ok(created(present(&cc, &role)))
}

/// Returns the user whom a request names. Only the UAA knows whether a name is unique.
async fn user_of(cc: &Cc, who: &Principal, wish: &Wish) -> ApiResult<User> {
    match &wish.user {
        Wanted::Guid(guid) => {
            if let Some(user) = user::known(&mut *cc.db.read().await?, guid).await? {
                return Ok(user);
            }
            let found = uaa_users::of_guid(cc, who, guid).await;
            // This is a client, or a user whom the UAA could not look up because it is unavailable.
            Ok(found.unwrap_or_else(|| User {
                guid: guid.clone(),
                ..User::fresh()
            }))
        }
        Wanted::Name { username, origin } => {
            let found = match uaa_users::by_name(cc, who, username, origin.as_deref()).await {
                Some(found) => found,
                None => {
                    let mut conn = cc.db.read().await?;
                    user::by_name(&mut conn, username, origin.as_deref()).await?
                }
            };
            the_only_one(found, username, origin.as_deref(), &wish.place)
        }
    }
}

fn the_only_one(
    mut found: Vec<User>,
    username: &str,
    origin: Option<&str>,
    place: &Place,
) -> ApiResult<User> {
    if found.len() > 1 {
        let origins: Vec<&str> = found
            .iter()
            .map(|user| user.origin.as_deref().unwrap_or("uaa"))
            .collect();
        return Err(ApiError::unprocessable(format!(
            "Ambiguous user. User with username '{username}' exists in the following origins: {}. Specify an origin to disambiguate.",
            origins.join(", ")
        )));
    }
    found.pop().ok_or_else(|| {
        ApiError::unprocessable(match (place, origin) {
            // The text is the same as for a user outside the organization.
            (Place::Space(_), _) => verbs::OUTSIDE.to_owned(),
            (_, None) => format!("No user exists with the username '{username}'."),
            (_, Some(origin)) => {
                format!("No user exists with the username '{username}' and origin '{origin}'.")
            }
        })
    })
}

/// Returns the place of a role's event. The event of a space's role is seen in the space.
fn event_place<'a>(
    organization: Option<&'a Organization>,
    space: Option<&'a Space>,
) -> audit::Place<'a> {
    match (space, organization) {
        (Some(space), _) => space.into(),
        (None, Some(organization)) => organization.into(),
        (None, None) => audit::Place::Platform,
    }
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = who.find::<Role>(&mut tx, &guid, Right::Read).await?;
    found.access.must(if found.of.space.is_some() {
        Right::ManageSpace
    } else {
        Right::ManageOrganization
    })?;
    let (role, of) = (found.row, found.of);
    verbs::delete(&mut tx, &role).await?;
    let user = user::known(&mut tx, &role.user_guid).await?;
    let name = user.and_then(|user| user.username).unwrap_or_default();
    let trail = audit::record(
        &mut tx,
        &who,
        &format!("audit.user.{}_remove", role.r#type),
        (&role.user_guid, "user", &name),
        event_place(of.organization.as_ref(), of.space.as_ref()),
        json!({}),
    )
    .await?;
    let job = job::complete(&mut tx, "role.delete", ("roles", &guid)).await?;
    tx.commit(trail).await?;
    Ok(cc.accepted(&job))
}
