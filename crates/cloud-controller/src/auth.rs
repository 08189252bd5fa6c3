//! Who calls, and what they may do: scopes of the token first, roles in the database for everybody else.
//!
//! Something invisible is answered with 404, something visible but forbidden with 403.

use crate::controller::Cc;
use crate::db::{Connection, Select, role, space::Space};
use crate::error::ApiError;
use axum::extract::FromRequestParts;
use clients::uaa::{Claims, TokenError};
use http::{Method, header, request::Parts};

/// The caller of a request, from its verified token.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub claims: Claims,
    /// The `Authorization` header, to speak for the caller.
    pub authorization: String,
}

impl Principal {
    /// User id, or client id for clients.
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
    /// Secrets such as environment variables are not for global auditors.
    fn reads_all_secrets(&self) -> bool {
        self.is_admin() || self.claims.has_scope("cloud_controller.admin_read_only")
    }

    pub(crate) fn must_be_admin(&self) -> Result<(), ApiError> {
        if self.is_admin() {
            Ok(())
        } else {
            Err(ApiError::not_authorized())
        }
    }

    /// Restricts a list to organizations that the caller sees.
    pub(crate) fn sees_organizations(&self, select: Select, column: &str) -> Select {
        if self.reads_all() {
            select
        } else {
            role::in_visible_organizations(select, column, self.guid())
        }
    }
    /// Restricts a list to spaces whose apps the caller sees.
    pub(crate) fn sees_spaces(&self, select: Select, column: &str) -> Select {
        if self.reads_all() {
            select
        } else {
            role::in_visible_spaces(select, column, self.guid())
        }
    }
    /// Restricts a list to apps that the caller sees.
    pub(crate) fn sees_apps(&self, select: Select, column: &str) -> Select {
        if self.reads_all() {
            select
        } else {
            role::of_visible_apps(select, column, self.guid())
        }
    }
    /// Restricts a list of routes; organization auditors see them too.
    pub(crate) fn sees_routes(&self, select: Select, column: &str) -> Select {
        if self.reads_all() {
            select
        } else {
            role::with_visible_routes(select, column, self.guid())
        }
    }

    pub(crate) async fn in_organization(
        &self,
        conn: &mut Connection,
        organization: &str,
    ) -> Result<Access, ApiError> {
        self.access(conn, organization, None).await
    }

    pub(crate) async fn in_space(
        &self,
        conn: &mut Connection,
        space: &Space,
    ) -> Result<Access, ApiError> {
        self.access(conn, &space.organization_guid, Some(&space.guid))
            .await
    }

    async fn access(
        &self,
        conn: &mut Connection,
        organization: &str,
        space: Option<&str>,
    ) -> Result<Access, ApiError> {
        let roles = if self.is_admin() {
            Vec::new()
        } else {
            role::of_user(conn, self.guid(), organization, space).await?
        };
        Ok(Access {
            admin: self.is_admin(),
            reads_all: self.reads_all(),
            reads_all_secrets: self.reads_all_secrets(),
            roles: roles.into_iter().map(|role| role.r#type).collect(),
        })
    }
}

/// The rights of one caller in one organization or space.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    admin: bool,
    reads_all: bool,
    reads_all_secrets: bool,
    roles: Vec<String>,
}

impl Access {
    fn has(&self, any: &[&str]) -> bool {
        self.roles.iter().any(|role| any.contains(&role.as_str()))
    }
    pub(crate) fn reads_organization(&self) -> bool {
        self.reads_all || !self.roles.is_empty()
    }
    pub(crate) fn reads_space(&self) -> bool {
        self.reads_all
            || self.has(&[
                "space_developer",
                "space_manager",
                "space_auditor",
                "space_supporter",
                "organization_manager",
            ])
    }
    pub(crate) fn reads_routes(&self) -> bool {
        self.reads_space() || self.has(&["organization_auditor"])
    }
    pub(crate) fn reads_secrets(&self) -> bool {
        self.reads_all_secrets || self.has(&["space_developer", "space_supporter"])
    }
    pub(crate) fn develops(&self) -> bool {
        self.admin || self.has(&["space_developer"])
    }
    /// What supporters may do as well: start, stop, scale, routes.
    pub(crate) fn supports(&self) -> bool {
        self.admin || self.has(&["space_developer", "space_supporter"])
    }
    pub(crate) fn manages_space(&self) -> bool {
        self.admin || self.has(&["space_manager", "organization_manager"])
    }
    pub(crate) fn manages_organization(&self) -> bool {
        self.admin || self.has(&["organization_manager"])
    }
}

/// Turns a right into an answer: `allow(access.develops())?`.
pub(crate) fn allow(right: bool) -> Result<(), ApiError> {
    if right {
        Ok(())
    } else {
        Err(ApiError::not_authorized())
    }
}

impl FromRequestParts<Cc> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, cc: &Cc) -> Result<Self, ApiError> {
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
        };
        principal.check_scope(&parts.method)?;
        principal.remember(cc).await?;
        Ok(principal)
    }
}

impl Principal {
    fn check_scope(&self, method: &Method) -> Result<(), ApiError> {
        let reads = *method == Method::GET || *method == Method::HEAD;
        let wanted = if reads {
            "cloud_controller.read"
        } else {
            "cloud_controller.write"
        };
        if self.is_admin() || (reads && self.reads_all()) || self.claims.has_scope(wanted) {
            return Ok(());
        }
        Err(ApiError::new(
            403,
            10007,
            "InsufficientScope",
            "Your token lacks the necessary scopes to access this resource.",
        ))
    }

    /// A user's first request makes them known, so that others can give them roles by name.
    async fn remember(&self, cc: &Cc) -> Result<(), ApiError> {
        let known = cc
            .seen_users
            .lock()
            .expect("no panic while holding it")
            .get(self.guid())
            .is_some_and(|name| name == self.name());
        if known {
            return Ok(());
        }
        let mut tx = cc.db.write().await?;
        role::see_user(
            &mut tx,
            self.guid(),
            self.claims.user_name.as_deref(),
            self.claims.origin.as_deref(),
        )
        .await?;
        tx.commit().await?;
        cc.seen_users
            .lock()
            .expect("no panic while holding it")
            .insert(self.guid().to_owned(), self.name().to_owned());
        Ok(())
    }
}
