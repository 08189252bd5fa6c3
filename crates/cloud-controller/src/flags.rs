//! Feature flags: what operators switch on and off, and which callers a flag that is off stops.

use crate::auth::Principal;
use crate::db::Connection;
use crate::db::feature_flag;
use crate::error::{ApiError, ApiResult};

/// The flags of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    AppBitsUpload,
    AppScaling,
    DiegoCnb,
    DiegoDocker,
    EnvVarVisibility,
    HashBasedRouting,
    HideMarketplaceFromUnauthenticatedUsers,
    PrivateDomainCreation,
    ResourceMatching,
    RouteCreation,
    RouteSharing,
    ServiceInstanceCreation,
    ServiceInstanceSharing,
    SetRolesByUsername,
    SpaceDeveloperEnvVarVisibility,
    SpaceScopedPrivateBrokerCreation,
    TaskCreation,
    UnsetRolesByUsername,
    UserOrgCreation,
}

impl Flag {
    pub(crate) const ALL: &[Self] = &[
        Self::AppBitsUpload,
        Self::AppScaling,
        Self::DiegoCnb,
        Self::DiegoDocker,
        Self::EnvVarVisibility,
        Self::HashBasedRouting,
        Self::HideMarketplaceFromUnauthenticatedUsers,
        Self::PrivateDomainCreation,
        Self::ResourceMatching,
        Self::RouteCreation,
        Self::RouteSharing,
        Self::ServiceInstanceCreation,
        Self::ServiceInstanceSharing,
        Self::SetRolesByUsername,
        Self::SpaceDeveloperEnvVarVisibility,
        Self::SpaceScopedPrivateBrokerCreation,
        Self::TaskCreation,
        Self::UnsetRolesByUsername,
        Self::UserOrgCreation,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AppBitsUpload => "app_bits_upload",
            Self::AppScaling => "app_scaling",
            Self::DiegoCnb => "diego_cnb",
            Self::DiegoDocker => "diego_docker",
            Self::EnvVarVisibility => "env_var_visibility",
            Self::HashBasedRouting => "hash_based_routing",
            Self::HideMarketplaceFromUnauthenticatedUsers => {
                "hide_marketplace_from_unauthenticated_users"
            }
            Self::PrivateDomainCreation => "private_domain_creation",
            Self::ResourceMatching => "resource_matching",
            Self::RouteCreation => "route_creation",
            Self::RouteSharing => "route_sharing",
            Self::ServiceInstanceCreation => "service_instance_creation",
            Self::ServiceInstanceSharing => "service_instance_sharing",
            Self::SetRolesByUsername => "set_roles_by_username",
            Self::SpaceDeveloperEnvVarVisibility => "space_developer_env_var_visibility",
            Self::SpaceScopedPrivateBrokerCreation => "space_scoped_private_broker_creation",
            Self::TaskCreation => "task_creation",
            Self::UnsetRolesByUsername => "unset_roles_by_username",
            Self::UserOrgCreation => "user_org_creation",
        }
    }

    /// Returns the value that the flag has until an operator changes it.
    pub(crate) fn default(self) -> bool {
        !matches!(
            self,
            Self::DiegoCnb
                | Self::DiegoDocker
                | Self::HashBasedRouting
                | Self::HideMarketplaceFromUnauthenticatedUsers
                | Self::RouteSharing
                | Self::ServiceInstanceSharing
                | Self::UserOrgCreation
        )
    }

    /// Returns whether the flag stops administrators, too.
    fn stops_admins(self) -> bool {
        matches!(
            self,
            Self::DiegoCnb
                | Self::DiegoDocker
                | Self::EnvVarVisibility
                | Self::HashBasedRouting
                | Self::RouteSharing
                | Self::ServiceInstanceSharing
                | Self::SpaceScopedPrivateBrokerCreation
        )
    }

    pub(crate) async fn is_on(self, conn: &mut Connection) -> ApiResult<bool> {
        Ok(feature_flag::by_name(conn, self.name())
            .await?
            .map_or(self.default(), |flag| flag.enabled))
    }

    /// Refuses with 403 and the flag's own message when the flag is off. Administrators pass most flags.
    pub(crate) async fn must_be_on(self, conn: &mut Connection, who: &Principal) -> ApiResult<()> {
        if who.is_admin() && !self.stops_admins() {
            return Ok(());
        }
        self.must_be_on_for_all(conn).await
    }

    /// Refuses with 403 when the flag is off, without an exception for administrators.
    pub(crate) async fn must_be_on_for_all(self, conn: &mut Connection) -> ApiResult<()> {
        match feature_flag::by_name(conn, self.name()).await? {
            Some(flag) if !flag.enabled => Err(ApiError::feature_disabled(
                self.name(),
                flag.custom_error_message.as_deref(),
            )),
            None if !self.default() => Err(ApiError::feature_disabled(self.name(), None)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Flag;

    #[test]
    fn every_flag_is_listed_once() {
        let mut names: Vec<_> = Flag::ALL.iter().map(|flag| flag.name()).collect();
        assert_eq!(names.len(), 19);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 19);
    }
}
