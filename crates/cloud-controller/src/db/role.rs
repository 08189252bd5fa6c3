//! Roles of users in organizations and spaces.

use super::organization::Organization;
use super::space::Space;
use super::{Connection, Select, rows, spelled};

spelled! {
    RoleType {
        OrganizationUser = "organization_user",
        OrganizationAuditor = "organization_auditor",
        OrganizationManager = "organization_manager",
        OrganizationBillingManager = "organization_billing_manager",
        SpaceAuditor = "space_auditor",
        SpaceDeveloper = "space_developer",
        SpaceManager = "space_manager",
        SpaceSupporter = "space_supporter",
    }
}

impl RoleType {
    /// Returns whether it is a role in an organization itself; the others are roles in a space.
    pub(crate) fn is_of_organization(self) -> bool {
        matches!(
            self,
            Self::OrganizationUser
                | Self::OrganizationAuditor
                | Self::OrganizationManager
                | Self::OrganizationBillingManager
        )
    }
}

rows! {
    /// A role. Exactly one of `organization_guid` and `space_guid` is set.
    Role in "roles" { r#type: RoleType, user_guid: String, organization_guid: Option<String>, space_guid: Option<String> }
}

/// Returns all roles of a user in an organization itself and in one of its spaces, if a space is passed.
pub(crate) async fn of_user(
    conn: &mut Connection,
    user: &str,
    organization: &str,
    space: Option<&str>,
) -> sqlx::Result<Vec<Role>> {
    let space = space.unwrap_or("");
    Select::new()
        .is("user_guid", user)
        .and(
            "(organization_guid = ? OR space_guid = ?)",
            [organization.into(), space.into()],
        )
        .all_readable(conn)
        .await
}

pub(crate) async fn find(conn: &mut Connection, role: &Role) -> sqlx::Result<Option<Role>> {
    let select = Select::new()
        .is("type", role.r#type)
        .is("user_guid", &role.user_guid);
    match (&role.organization_guid, &role.space_guid) {
        (Some(organization), _) => select.is("organization_guid", organization),
        (None, space) => select.is("space_guid", space.as_deref().unwrap_or_default()),
    }
    .first(conn)
    .await
}

pub(crate) async fn spaces_of(conn: &mut Connection, roles: &[Role]) -> sqlx::Result<Vec<Space>> {
    let guids = roles.iter().filter_map(|role| role.space_guid.as_ref());
    Select::new().any("guid", guids).all_readable(conn).await
}

pub(crate) async fn organizations_of(
    conn: &mut Connection,
    roles: &[Role],
) -> sqlx::Result<Vec<Organization>> {
    let guids = roles
        .iter()
        .filter_map(|role| role.organization_guid.as_ref());
    Select::new().any("guid", guids).all_readable(conn).await
}

/// Returns whether a user has a role in any of an organization's spaces.
pub(crate) async fn has_any_in_spaces_of(
    conn: &mut Connection,
    user: &str,
    organization: &str,
) -> sqlx::Result<bool> {
    Select::new()
        .is("user_guid", user)
        .and(
            "space_guid IN (SELECT guid FROM spaces WHERE organization_guid = ?)",
            [organization.into()],
        )
        .exists::<Role>(conn)
        .await
}
