//! This module identifies the caller of a request and decides what the caller may do.
//!
//! The scopes of the token decide first, before any row is read ([`Principal::of`], [`Principal::check_scope`]). Then the roles
//! in the database decide ([`Access`]). A row that the caller may not see results in 404, and a right that the caller does not
//! have results in 403. In a suspended organization or space every write is refused, except for administrators. `api::lookup`
//! applies these three steps in this order; no handler reads a row without it.

use crate::controller::Cc;
use crate::db::organization::Organization;
use crate::db::role::RoleType;
use crate::db::space::Space;
use crate::db::user;
use crate::db::{Connection, role};
use crate::error::{ApiError, ApiResult};
use crate::turns::{Turn, Work};
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use clients::uaa::{Claims, TokenError};
use http::{Method, header, request::Parts};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The caller of a request, as the verified token identifies it.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub claims: Claims,
    /// The `Authorization` header, with which this component sends requests on behalf of the caller.
    pub authorization: String,
    page_bytes: usize,
    /// The caller's turn, which is held while the request works.
    _turn: Option<Arc<Turn>>,
}

impl Principal {
    /// Returns the guid of the user, or the client id if the token belongs to a client.
    pub(crate) fn guid(&self) -> &str {
        self.claims
            .user_id
            .as_deref()
            .unwrap_or(&self.claims.client_id)
    }
    pub(crate) fn name(&self) -> &str {
        self.claims
            .user_name
            .as_deref()
            .unwrap_or(&self.claims.client_id)
    }
    pub(crate) fn is_admin(&self) -> bool {
        self.claims.is_admin()
    }
    pub(crate) fn reads_all(&self) -> bool {
        self.is_admin()
            || self.claims.has_scope("cloud_controller.admin_read_only")
            || self.claims.has_scope("cloud_controller.global_auditor")
    }
    /// Returns whether the caller reads secrets, such as environment variables, everywhere. Global auditors do not.
    pub(crate) fn reads_all_secrets(&self) -> bool {
        self.is_admin() || self.claims.has_scope("cloud_controller.admin_read_only")
    }

    /// Refuses everybody but administrators, for collections that only they write. The response does not depend on whether a
    /// guid exists.
    pub(crate) fn must_be_admin(&self) -> ApiResult<()> {
        if self.is_admin() {
            Ok(())
        } else {
            Err(ApiError::not_authorized())
        }
    }

    /// Returns the caller's rights in an organization, in a space of it, or on the platform.
    pub(crate) async fn access(
        &self,
        conn: &mut Connection,
        organization: Option<&Organization>,
        space: Option<&Space>,
    ) -> ApiResult<Access> {
        let roles = match organization {
            Some(organization) if !self.is_admin() => {
                let space = space.map(|space| space.guid.as_str());
                role::of_user(conn, self.guid(), &organization.guid, space).await?
            }
            _ => Vec::new(),
        };
        Ok(Access {
            admin: self.is_admin(),
            reads_all_secrets: self.reads_all_secrets(),
            reads_all: self.reads_all(),
            organization_suspended: organization.is_some_and(|organization| organization.suspended),
            space_suspended: space.is_some_and(|space| space.suspended),
            roles: roles.into_iter().map(|role| role.r#type).collect(),
        })
    }
}

/// A right that an endpoint requires of its caller, in addition to seeing the row. The letters are the columns of
/// `tests/it/role_table`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// No further right: everybody who sees the row may do it.
    Read,
    /// The right of A R D to read commands, manifests and packages.
    ReadSecrets,
    /// The right of A R D S to read the part of the environment that users set.
    ReadEnvironment,
    /// The right of all readers but S.
    DownloadDroplet,
    /// The right of A D.
    Develop,
    /// The right of A D S.
    Support,
    /// The right of A M P.
    ManageSpace,
    /// The right of A M.
    ManageOrganization,
    /// The right of A.
    Admin,
}

/// The rights of one caller in one organization or space, and the state of both.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    admin: bool,
    reads_all: bool,
    reads_all_secrets: bool,
    organization_suspended: bool,
    space_suspended: bool,
    roles: Vec<RoleType>,
}

const DEVELOPER: RoleType = RoleType::SpaceDeveloper;
const SUPPORTER: RoleType = RoleType::SpaceSupporter;
const SPACE_MANAGER: RoleType = RoleType::SpaceManager;
const SPACE_AUDITOR: RoleType = RoleType::SpaceAuditor;
const MANAGER: RoleType = RoleType::OrganizationManager;

impl Access {
    fn has(&self, any: &[RoleType]) -> bool {
        self.roles.iter().any(|role| any.contains(role))
    }

    fn holds(&self, right: Right) -> bool {
        match right {
            Right::Read => true,
            Right::ReadSecrets => self.reads_all_secrets || self.has(&[DEVELOPER]),
            Right::ReadEnvironment => self.reads_all_secrets || self.has(&[DEVELOPER, SUPPORTER]),
            Right::DownloadDroplet => {
                self.reads_all || self.has(&[DEVELOPER, SPACE_MANAGER, SPACE_AUDITOR, MANAGER])
            }
            Right::Develop => self.admin || self.has(&[DEVELOPER]),
            Right::Support => self.admin || self.has(&[DEVELOPER, SUPPORTER]),
            Right::ManageSpace => self.admin || self.has(&[SPACE_MANAGER, MANAGER]),
            Right::ManageOrganization => self.admin || self.has(&[MANAGER]),
            Right::Admin => self.admin,
        }
    }

    fn writes(right: Right) -> bool {
        !matches!(
            right,
            Right::Read | Right::ReadSecrets | Right::ReadEnvironment | Right::DownloadDroplet
        )
    }

    /// Refuses with 403 if the caller does not have the right, or if it is a right to write and the organization or space is
    /// suspended.
    pub(crate) fn must(&self, right: Right) -> ApiResult<()> {
        self.must_hold(right)?;
        if Self::writes(right) {
            self.must_be_active()?;
        }
        Ok(())
    }

    /// Refuses with 403 if the caller does not have the right, regardless of the state of the organization and the space.
    pub(crate) fn must_hold(&self, right: Right) -> ApiResult<()> {
        if self.holds(right) {
            Ok(())
        } else {
            Err(ApiError::not_authorized())
        }
    }

    /// Refuses with 403 when the organization or the space is suspended. Managers of the organization may change a suspended
    /// space.
    pub(crate) fn must_be_active(&self) -> ApiResult<()> {
        if self.admin {
            return Ok(());
        }
        if self.organization_suspended {
            return Err(ApiError::organization_suspended());
        }
        if self.space_suspended && !self.has(&[MANAGER]) {
            return Err(ApiError::space_suspended());
        }
        Ok(())
    }

    /// Returns whether a request that needs this right would be admitted.
    pub(crate) fn may(&self, right: Right) -> bool {
        self.must(right).is_ok()
    }

    /// Returns whether the caller may read commands and the system's part of the environment.
    pub(crate) fn reads_secrets(&self) -> bool {
        self.holds(Right::ReadSecrets)
    }
}

impl FromRequestParts<Cc> for Principal {
    type Rejection = ApiError;

    /// Returns the principal whose token `api::endpoint` has verified before. An open endpoint has no principal.
    async fn from_request_parts(parts: &mut Parts, _: &Cc) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(ApiError::not_authenticated)
    }
}

impl OptionalFromRequestParts<Cc> for Principal {
    type Rejection = ApiError;

    /// Returns the principal of a request to an open endpoint, if it sent a token.
    async fn from_request_parts(parts: &mut Parts, _: &Cc) -> Result<Option<Self>, ApiError> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

impl Principal {
    /// Verifies the request's token and returns its principal.
    pub(crate) async fn of(parts: &Parts, cc: &Cc) -> ApiResult<Self> {
        let authorization = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let claims = cc
            .verifier
            .verify(&authorization)
            .await
            .map_err(|error| match error {
                TokenError::Missing => ApiError::not_authenticated(),
                TokenError::Invalid(_) | TokenError::Expired => ApiError::invalid_token(),
                TokenError::Unreachable => ApiError::new(
                    503,
                    20004,
                    "UaaUnavailable",
                    "The UAA service is currently unavailable",
                ),
            })?;
        let principal = Self {
            claims,
            authorization,
            page_bytes: cc.settings.limits.page_bytes as usize,
            _turn: None,
        };
        if principal.guid().is_empty() {
            return Err(ApiError::invalid_token());
        }
        Ok(principal)
    }

    /// Refuses with 403 if the token lacks the scope for reading or for writing, and the other scope that suffices as well, if there
    /// is one. Roles and the existence of the resource do not matter.
    pub(crate) fn check_scope(&self, method: &Method, other: Option<&str>) -> ApiResult<()> {
        let reads = *method == Method::GET || *method == Method::HEAD;
        let wanted = if reads {
            "cloud_controller.read"
        } else {
            "cloud_controller.write"
        };
        let suffices = |scope: &str| self.claims.has_scope(scope);
        if self.is_admin()
            || (reads && self.reads_all())
            || suffices(wanted)
            || other.is_some_and(suffices)
        {
            Ok(())
        } else {
            Err(ApiError::not_authorized())
        }
    }

    /// Waits until the caller has few enough requests of this kind of work under way, so that other callers are served as well.
    pub(crate) async fn wait_for_turn(&mut self, cc: &Cc, work: Work) -> ApiResult<()> {
        self._turn = Some(Arc::new(
            cc.turns
                .take(self.guid(), work, &cc.settings.limits)
                .await?,
        ));
        Ok(())
    }

    /// Returns the maximum number of bytes of the rows that one list may read for the caller.
    pub(crate) fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Stores a user at the first request, so that others can assign roles to this user by name.
    pub(crate) async fn store_user(&self, cc: &Cc) -> ApiResult<()> {
        let known = cc
            .seen_users
            .lock()
            .expect("no panic while holding it")
            .get(self.guid())
            .is_some_and(|(name, at)| name == self.name() && !is_stale(cc, *at));
        if known {
            return Ok(());
        }
        let mut upkeep = cc.db.upkeep().await?;
        user::store_user(
            &mut upkeep,
            self.guid(),
            self.claims.user_name.as_deref(),
            self.claims.origin.as_deref(),
        )
        .await?;
        upkeep.commit().await?;
        cc.seen_users
            .lock()
            .expect("no panic while holding it")
            .insert(
                self.guid().to_owned(),
                (self.name().to_owned(), Instant::now()),
            );
        Ok(())
    }
}

/// The time after which a user is stored again if another Cloud Controller may have removed the row.
const SEEN_FOR: Duration = Duration::from_secs(60);

fn is_stale(cc: &Cc, stored: Instant) -> bool {
    cc.db.is_shared() && stored.elapsed() > SEEN_FOR
}
