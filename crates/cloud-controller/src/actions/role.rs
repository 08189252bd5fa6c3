//! Verbs of roles: assign and remove.

use crate::db::role::{self, Role, RoleType};
use crate::db::space::Space;
use crate::db::user::User;
use crate::db::{self, Connection};
use crate::error::{ApiError, ApiResult};

/// The refusal of a role in a space for a user who has no role in its organization.
pub(crate) const OUTSIDE: &str = "Users cannot be assigned roles in a space if they do not have a role in that space's organization.";

/// Assigns a role. If the user has it already, it stays unchanged.
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

/// Assigns a role that the user must not have yet.
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

/// Removes a role. The role of a plain member stays as long as the user has roles in spaces of the organization.
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
