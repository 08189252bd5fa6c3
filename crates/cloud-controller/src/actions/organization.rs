//! Verbs of organizations: create, change and remove.

use super::audit::{self, Target};
use super::job::Progress;
use super::{role, space};
use crate::auth::Principal;
use crate::change::Change;
use crate::controller::Settings;
use crate::db::organization::{self, Organization};
use crate::db::organization_quota;
use crate::db::role::RoleType;
use crate::db::{self, Connection, space as spaces};
use crate::error::{ApiError, ApiResult};

pub(crate) async fn create(
    conn: &mut Connection,
    who: &Principal,
    mut organization: Organization,
) -> ApiResult<Organization> {
    check_name(conn, &organization).await?;
    let quota = organization_quota::default_one(conn)
        .await?
        .ok_or_else(|| ApiError::from(anyhow::anyhow!("the default quota is missing")))?;
    organization.quota_guid = quota.guid;
    db::insert(conn, &organization).await?;
    if !who.is_admin() {
        for kind in [RoleType::OrganizationUser, RoleType::OrganizationManager] {
            role::grant(conn, kind, who.guid(), Some(&organization.guid), None).await?;
        }
    }
    Ok(organization)
}

pub(crate) async fn update(
    conn: &mut Connection,
    mut organization: Organization,
) -> ApiResult<Organization> {
    check_name(conn, &organization).await?;
    organization.touch();
    db::update(conn, &organization).await?;
    Ok(organization)
}

async fn check_name(conn: &mut Connection, organization: &Organization) -> ApiResult<()> {
    match organization::by_name(conn, &organization.name).await? {
        Some(other) if other.guid != organization.guid => {
            // Clients distinguish the two situations by their texts.
            let exists = db::by_guid::<Organization>(conn, &organization.guid).await?;
            let name = &organization.name;
            Err(ApiError::unprocessable(match exists {
                None => format!("Organization '{name}' already exists."),
                Some(_) => format!("Organization name '{name}' is already taken."),
            }))
        }
        _ => Ok(()),
    }
}

/// Removes one part of an organization: a part of a space, and at last the organization itself. A job calls it until the organization is
/// gone; see [`space::delete_part`]. Events are recorded in the name of `actor`.
pub(crate) async fn delete_part(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (guid, since): (&str, i64),
) -> ApiResult<Progress> {
    let Some(organization) = db::by_guid::<Organization>(tx, guid).await? else {
        return Ok(Progress::Done);
    };
    if let Some(space) = spaces::first_of_organization(tx, guid).await? {
        return match space::delete_part(tx, settings, actor, (&space.guid, since)).await? {
            Progress::Done => Ok(Progress::More),
            other => Ok(other),
        };
    }
    audit::also(audit::deleted_organization(tx, actor, &organization).await?);
    db::delete::<Organization>(tx, guid).await?;
    Ok(Progress::Done)
}
