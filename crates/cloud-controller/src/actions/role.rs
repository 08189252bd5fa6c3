//! Giving and taking roles.

use crate::db::role::{self, Role, RoleType};
use crate::db::space::Space;
use crate::db::user::User;
use crate::db::{self, Connection};
use crate::error::{ApiError, ApiResult};

/// A space's roles are for members of its organization.
pub(crate) const OUTSIDE: &str = "Users cannot be assigned roles in a space if they do not have a role in that space's organization.";

/// Gives a role; one that is there already stays.
pub(crate) async fn grant(
    conn: &mut Connection,
    kind: RoleType,
    user: &str,
    organization: Option<&str>,
    space: Option<&str>,
) -> ApiResult<Role> {
    let role = wanted(kind, user, organization, space);
    if let Some(role) = role::find(conn, &role).await? {
        return Ok(role);
    }
    db::insert(conn, &role).await?;
    Ok(role)
}

/// Gives a role that the user must not have yet.
pub(crate) async fn create(
    conn: &mut Connection,
    kind: RoleType,
    user: &User,
    organization: Option<&str>,
    space: Option<&Space>,
) -> ApiResult<Role> {
    if let Some(space) = space {
        let in_organization =
            role::of_user(conn, &user.guid, &space.organization_guid, None).await?;
        if in_organization.is_empty() {
            return Err(ApiError::unprocessable(OUTSIDE));
        }
    }
    let role = wanted(
        kind,
        &user.guid,
        organization,
        space.map(|space| space.guid.as_str()),
    );
    if role::find(conn, &role).await?.is_some() {
        let name = user.username.as_deref().unwrap_or(&user.guid);
        let place = if space.is_some() {
            "space"
        } else {
            "organization"
        };
        return Err(ApiError::unprocessable(format!(
            "User '{name}' already has '{kind}' role in this {place}."
        )));
    }
    db::insert(conn, &role).await?;
    Ok(role)
}

/// An organization's member with roles in its spaces stays a member.
pub(crate) async fn delete(conn: &mut Connection, role: &Role) -> ApiResult<()> {
    if role.r#type == RoleType::OrganizationUser
        && let Some(organization) = &role.organization_guid
        && role::has_any_in_spaces_of(conn, &role.user_guid, organization).await?
    {
        return Err(ApiError::unprocessable(
            "Cannot delete organization_user role while user has roles in spaces in that organization.",
        ));
    }
    db::delete::<Role>(conn, &role.guid).await?;
    Ok(())
}

fn wanted(kind: RoleType, user: &str, organization: Option<&str>, space: Option<&str>) -> Role {
    Role {
        r#type: kind,
        user_guid: user.to_owned(),
        organization_guid: organization.map(str::to_owned),
        space_guid: space.map(str::to_owned),
        ..Role::fresh()
    }
}
