//! Domains, and the organizations with which they are shared.

use super::{Arg, Condition, Connection, Json, Select, execute, rows, spelled};
use cc_rules::metadata::Metadata;
use kit::db::query;

spelled! {
    /// The part of the foundation whose apps a route policy may permit: all of it, the route's organization, or the route's space.
    PolicyScope { Any = "any", Org = "org", Space = "space" }
}

rows! {
    /// A domain. One without an organization is shared: everybody may use it. `route_policies_scope` is set if the domain
    /// enforces route policies.
    Domain in "domains" folding ["name"] {
        name: String, organization_guid: Option<String>, internal: bool, enforce_route_policies: bool, route_policies_scope: Option<PolicyScope>, metadata: Json<Metadata>,
    }
}

/// Selects the domains that an organization may use.
pub(crate) fn is_usable_by(organization: &str) -> Condition {
    let sql = "(organization_guid IS NULL OR organization_guid = ? OR guid IN (SELECT domain_guid FROM domain_shares WHERE organization_guid = ?))";
    Condition::new(sql, [organization.into(), organization.into()])
}

/// Selects the domains of no organization.
pub(crate) fn is_shared() -> Condition {
    Condition::new("organization_guid IS NULL", [])
}

/// Selects the domains that apps get without requesting one. Domains that enforce route policies are not among them, because
/// nobody could call an app that is pushed there.
pub(crate) fn is_default() -> Condition {
    Condition::new("internal = 0 AND enforce_route_policies = 0", [])
}

pub(crate) async fn by_name(conn: &mut Connection, name: &str) -> sqlx::Result<Option<Domain>> {
    Select::new().is("name", name).first(conn).await
}

/// Selects what an organization may use: shared domains, its own domains, and those that are shared with it.
pub(crate) fn usable_by(organization: &str) -> Select {
    Select::new().that(is_usable_by(organization))
}

pub(crate) async fn is_usable(
    conn: &mut Connection,
    domain: &str,
    organization: &str,
) -> sqlx::Result<bool> {
    usable_by(organization)
        .is("guid", domain)
        .exists::<Domain>(conn)
        .await
}

pub(crate) async fn of_routes(
    conn: &mut Connection,
    routes: &[super::route::Route],
) -> sqlx::Result<Vec<Domain>> {
    let guids = routes.iter().map(|route| &route.domain_guid);
    Select::new().any("guid", guids).all_readable(conn).await
}

/// Returns the first shared domain for apps, or else the organization's first private one.
pub(crate) async fn default_for(
    conn: &mut Connection,
    organization: &str,
) -> sqlx::Result<Option<Domain>> {
    let shared: Vec<Domain> = Select::new()
        .that(is_shared())
        .that(is_default())
        .all_readable(conn)
        .await?;
    let own = async |conn: &mut Connection| {
        let usable = usable_by(organization).that(is_default());
        usable.all_readable(conn).await
    };
    match shared.into_iter().next() {
        Some(domain) => Ok(Some(domain)),
        None => Ok(own(conn).await?.into_iter().next()),
    }
}

/// Returns the domains whose name ends with `.name`.
pub(crate) async fn below(conn: &mut Connection, name: &str) -> sqlx::Result<Vec<Domain>> {
    let ending = format!(".{name}").to_ascii_lowercase();
    Select::new()
        .and(
            "length(name) > length(?) AND substr(lower(name), length(name) - length(?) + 1) = ?",
            [ending.as_str(), &ending, &ending].map(Arg::from),
        )
        .all(conn)
        .await
}

pub(crate) async fn shares(
    conn: &mut Connection,
    domains: &[String],
) -> sqlx::Result<Vec<(String, String)>> {
    let rows = query(
        "SELECT domain_guid, organization_guid FROM domain_shares WHERE domain_guid IN LIST($1) ORDER BY id",
    )
    .bind(domains)
    .fetch_all(conn)
    .await?;
    Ok(super::readable_rows(&rows, |row| {
        Ok((row.try_get(0)?, row.try_get(1)?))
    }))
}

pub(crate) async fn share(
    conn: &mut Connection,
    domain: &str,
    organization: &str,
) -> sqlx::Result<()> {
    execute(
        conn,
        "INSERT INTO domain_shares (domain_guid, organization_guid) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        &[domain.into(), Arg::from(organization)],
    )
    .await
    .map(drop)
}

pub(crate) async fn unshare(
    conn: &mut Connection,
    domain: &str,
    organization: &str,
) -> sqlx::Result<bool> {
    let done = execute(
        conn,
        "DELETE FROM domain_shares WHERE domain_guid = $1 AND organization_guid = $2",
        &[domain.into(), Arg::from(organization)],
    )
    .await?;
    Ok(done > 0)
}
