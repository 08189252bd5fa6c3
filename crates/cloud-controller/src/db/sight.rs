//! Decides who sees which rows, and to which place a row belongs.
//!
//! Every table that the API shows implements [`Seen`]: a condition for the rows that a user sees by their roles, and the
//! organization or space whose roles decide about writing. `api::lookup` is the only reader; the API cannot look up a table
//! without an implementation.

use super::app::App;
use super::audit_event::AuditEvent;
use super::build::Build;
use super::buildpack::Buildpack;
use super::deployment::Deployment;
use super::domain::Domain;
use super::droplet::Droplet;
use super::feature_flag::FeatureFlag;
use super::job::Job;
use super::organization::Organization;
use super::organization_quota::OrganizationQuota;
use super::package::Package;
use super::process::Process;
use super::role::Role;
use super::route::Route;
use super::route_policy::RoutePolicy;
use super::security_group::SecurityGroup;
use super::service_broker::{self, ServiceBroker};
use super::service_credential_binding::ServiceCredentialBinding;
use super::service_instance::ServiceInstance;
use super::service_route_binding::ServiceRouteBinding;
use super::service_usage_event::ServiceUsageEvent;
use super::sidecar::Sidecar;
use super::space::{self, Space};
use super::space_quota::SpaceQuota;
use super::stack::Stack;
use super::task::Task;
use super::usage_event::AppUsageEvent;
use super::user::User;
use super::{Arg, Condition, Connection, Row, by_guid};

/// A table whose rows callers may read.
pub(crate) trait Seen: Row {
    /// The noun in errors, as in `App not found`.
    const NOUN: &'static str;
    /// The SQL condition for the rows that a user sees; each `?` is the user's guid. If it is empty, every caller sees every
    /// row.
    const SEEN: &'static str;
    /// The condition for the rows of a list. It differs from `SEEN` where a list shows more than a request for a single row.
    const LISTED: &'static str = Self::SEEN;
    /// The rows to which a row belongs.
    type Of: Above;
    /// Returns the parent from which `Of` is loaded.
    fn parent(&self) -> Parent<'_>;
}

/// A table of the marketplace, which callers without a token may read too.
pub(crate) trait OnMarket: Seen {
    /// The condition for the rows that everybody sees.
    const PUBLIC: &'static str;
}

/// Builds the condition from a table's `SEEN` or `LISTED` for one user.
pub(crate) fn seen_by(seen: &'static str, user: &str) -> Condition {
    let user = std::iter::repeat_with(|| Arg::from(user));
    let args: Vec<Arg> = user.take(seen.matches('?').count()).collect();
    Condition::new(seen, args)
}

/// The guid from which the organization and space of a row are found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parent<'a> {
    Platform,
    Organization(&'a str),
    Space(&'a str),
    App(&'a str),
    Route(&'a str),
    ServiceInstance(&'a str),
    ServiceBroker(&'a str),
    ServiceOffering(&'a str),
}

/// The rows above a row. `load` returns `None` if a parent was removed, and the row with it.
pub(crate) trait Above: Sized + Send {
    fn load(
        conn: &mut Connection,
        parent: Parent<'_>,
    ) -> impl Future<Output = sqlx::Result<Option<Self>>> + Send;
    fn organization(&self) -> Option<&Organization>;
    fn space(&self) -> Option<&Space>;
}

/// The rows above a row that belongs to the platform.
#[derive(Clone, Debug)]
pub(crate) struct OfPlatform;

#[derive(Clone, Debug)]
pub(crate) struct OfOrganization {
    pub organization: Organization,
}

#[derive(Clone, Debug)]
pub(crate) struct OfSpace {
    pub space: Space,
    pub organization: Organization,
}

#[derive(Clone, Debug)]
pub(crate) struct OfApp {
    pub app: App,
    pub space: Space,
    pub organization: Organization,
}

/// The rows above a row that belongs to the platform, to an organization or to a space, such as a domain or a role.
#[derive(Clone, Debug)]
pub(crate) struct OfAny {
    pub space: Option<Space>,
    pub organization: Option<Organization>,
}

impl Above for OfPlatform {
    async fn load(_: &mut Connection, _: Parent<'_>) -> sqlx::Result<Option<Self>> {
        Ok(Some(Self))
    }
    fn organization(&self) -> Option<&Organization> {
        None
    }
    fn space(&self) -> Option<&Space> {
        None
    }
}

impl Above for OfOrganization {
    async fn load(conn: &mut Connection, parent: Parent<'_>) -> sqlx::Result<Option<Self>> {
        let Parent::Organization(guid) = parent else {
            return Ok(None);
        };
        Ok(by_guid(conn, guid)
            .await?
            .map(|organization| Self { organization }))
    }
    fn organization(&self) -> Option<&Organization> {
        Some(&self.organization)
    }
    fn space(&self) -> Option<&Space> {
        None
    }
}

impl Above for OfSpace {
    async fn load(conn: &mut Connection, parent: Parent<'_>) -> sqlx::Result<Option<Self>> {
        let guid = match parent {
            Parent::Space(guid) => guid.to_owned(),
            Parent::Route(guid) => match by_guid::<Route>(conn, guid).await? {
                Some(route) => route.space_guid,
                None => return Ok(None),
            },
            Parent::App(guid) => match by_guid::<App>(conn, guid).await? {
                Some(app) => app.space_guid,
                None => return Ok(None),
            },
            Parent::ServiceInstance(guid) => match by_guid::<ServiceInstance>(conn, guid).await? {
                Some(instance) => instance.space_guid,
                None => return Ok(None),
            },
            Parent::Platform
            | Parent::Organization(_)
            | Parent::ServiceBroker(_)
            | Parent::ServiceOffering(_) => return Ok(None),
        };
        let found = space::with_organization(conn, &guid).await?;
        Ok(found.map(|(space, organization)| Self {
            space,
            organization,
        }))
    }
    fn organization(&self) -> Option<&Organization> {
        Some(&self.organization)
    }
    fn space(&self) -> Option<&Space> {
        Some(&self.space)
    }
}

impl Above for OfApp {
    async fn load(conn: &mut Connection, parent: Parent<'_>) -> sqlx::Result<Option<Self>> {
        let Parent::App(guid) = parent else {
            return Ok(None);
        };
        let Some(app) = by_guid::<App>(conn, guid).await? else {
            return Ok(None);
        };
        let above = OfSpace::load(conn, Parent::Space(&app.space_guid)).await?;
        Ok(above.map(|above| Self {
            app,
            space: above.space,
            organization: above.organization,
        }))
    }
    fn organization(&self) -> Option<&Organization> {
        Some(&self.organization)
    }
    fn space(&self) -> Option<&Space> {
        Some(&self.space)
    }
}

impl Above for OfAny {
    async fn load(conn: &mut Connection, parent: Parent<'_>) -> sqlx::Result<Option<Self>> {
        Ok(match parent {
            Parent::Organization(_) => {
                OfOrganization::load(conn, parent).await?.map(|above| Self {
                    space: None,
                    organization: Some(above.organization),
                })
            }
            Parent::Space(_) | Parent::Route(_) | Parent::ServiceInstance(_) => {
                OfSpace::load(conn, parent).await?.map(|above| Self {
                    space: Some(above.space),
                    organization: Some(above.organization),
                })
            }
            Parent::App(_) => OfApp::load(conn, parent).await?.map(|above| Self {
                space: Some(above.space),
                organization: Some(above.organization),
            }),
            Parent::ServiceBroker(guid) => {
                let broker = by_guid::<ServiceBroker>(conn, guid).await?;
                return Self::of_broker(conn, broker).await;
            }
            Parent::ServiceOffering(guid) => {
                let broker = service_broker::of_offering(conn, guid).await?;
                return Self::of_broker(conn, broker).await;
            }
            Parent::Platform => Some(Self::PLATFORM),
        })
    }
    fn organization(&self) -> Option<&Organization> {
        self.organization.as_ref()
    }
    fn space(&self) -> Option<&Space> {
        self.space.as_ref()
    }
}

/// The spaces that a user reads: those in which the user has a role, and all of the organizations that the user manages.
macro_rules! readable_spaces {
    () => {
        "SELECT space_guid FROM roles WHERE user_guid = ? AND space_guid IS NOT NULL
         UNION SELECT s.guid FROM spaces s JOIN roles r ON r.organization_guid = s.organization_guid WHERE r.user_guid = ? AND r.type = 'organization_manager'"
    };
}

/// The spaces whose routes a user reads. Organization auditors see routes in addition to the readers of the space.
macro_rules! spaces_of_readable_routes {
    () => {
        concat!(
            readable_spaces!(),
            " UNION SELECT s.guid FROM spaces s JOIN roles r ON r.organization_guid = s.organization_guid WHERE r.user_guid = ? AND r.type = 'organization_auditor'"
        )
    };
}

/// The organizations in which a user has any role.
macro_rules! readable_organizations {
    () => {
        "SELECT organization_guid FROM roles WHERE user_guid = ? AND organization_guid IS NOT NULL
         UNION SELECT s.organization_guid FROM spaces s JOIN roles r ON r.space_guid = s.guid WHERE r.user_guid = ?"
    };
}

/// The organizations whose private domains a user reads. Plain members and billing managers do not see them.
macro_rules! organizations_of_readable_domains {
    () => {
        "SELECT organization_guid FROM roles WHERE user_guid = ? AND type IN ('organization_manager', 'organization_auditor')
         UNION SELECT s.organization_guid FROM spaces s JOIN roles r ON r.space_guid = s.guid WHERE r.user_guid = ?"
    };
}

mod market;

/// Implements [`Seen`] for the rows of an app, which belong to its space.
macro_rules! of_app {
    ($($row:ty = $noun:literal),* $(,)?) => {
        $(impl Seen for $row {
            const NOUN: &'static str = $noun;
            const SEEN: &'static str = concat!("app_guid IN (SELECT guid FROM apps WHERE space_guid IN (", readable_spaces!(), "))");
            type Of = OfApp;
            fn parent(&self) -> Parent<'_> {
                Parent::App(&self.app_guid)
            }
        })*
    };
}

of_app! {
    Process = "Process",
    Package = "Package",
    Droplet = "Droplet",
    Build = "Build",
    Deployment = "Deployment",
    Task = "Task",
    Sidecar = "Sidecar",
}

/// Implements [`Seen`] for rows of the platform, which only the platform's administrators may change.
macro_rules! of_platform {
    ($($row:ty = $noun:literal seen $seen:expr),* $(,)?) => {
        $(impl Seen for $row {
            const NOUN: &'static str = $noun;
            const SEEN: &'static str = $seen;
            type Of = OfPlatform;
            fn parent(&self) -> Parent<'_> {
                Parent::Platform
            }
        })*
    };
}

of_platform! {
    Stack = "Stack" seen "",
    Buildpack = "Buildpack" seen "",
    FeatureFlag = "Feature flag" seen "",
    OrganizationQuota = "Organization quota" seen "",
    // Every caller who knows a job's guid may read it.
    Job = "Job" seen "",
    User = "User" seen "(guid = ? OR guid IN (SELECT o.user_guid FROM roles o WHERE o.organization_guid IN
        (SELECT m.organization_guid FROM roles m WHERE m.user_guid = ? AND m.organization_guid IS NOT NULL)))",
    // Only callers who read everything see it.
    AppUsageEvent = "App usage event" seen "1 = 0",
    ServiceUsageEvent = "Service usage event" seen "1 = 0",
    SecurityGroup = "Security group" seen concat!(
        "(running = 1 OR staging = 1 OR guid IN (SELECT security_group_guid FROM security_group_spaces WHERE space_guid IN (", readable_spaces!(), ")))"
    ),
    AuditEvent = "Event" seen "(organization_guid IN (SELECT organization_guid FROM roles WHERE user_guid = ? AND type = 'organization_auditor')
        OR space_guid IN (SELECT space_guid FROM roles WHERE user_guid = ? AND type IN ('space_developer', 'space_auditor', 'space_supporter')))",
}

impl Seen for Organization {
    const NOUN: &'static str = "Organization";
    const SEEN: &'static str = concat!("guid IN (", readable_organizations!(), ")");
    type Of = OfOrganization;
    fn parent(&self) -> Parent<'_> {
        Parent::Organization(&self.guid)
    }
}

impl Seen for Space {
    const NOUN: &'static str = "Space";
    const SEEN: &'static str = concat!("guid IN (", readable_spaces!(), ")");
    type Of = OfSpace;
    fn parent(&self) -> Parent<'_> {
        Parent::Space(&self.guid)
    }
}

impl Seen for App {
    const NOUN: &'static str = "App";
    const SEEN: &'static str = concat!("space_guid IN (", readable_spaces!(), ")");
    type Of = OfSpace;
    fn parent(&self) -> Parent<'_> {
        Parent::Space(&self.space_guid)
    }
}

/// An instance is seen in its own space and in those with which it is shared. Its own space decides about writing.
impl Seen for ServiceInstance {
    const NOUN: &'static str = "Service instance";
    const SEEN: &'static str = concat!(
        "(space_guid IN (",
        readable_spaces!(),
        ") OR guid IN (SELECT service_instance_guid FROM service_instance_shares WHERE space_guid IN (",
        readable_spaces!(),
        ")))"
    );
    type Of = OfSpace;
    fn parent(&self) -> Parent<'_> {
        Parent::Space(&self.space_guid)
    }
}

/// A binding is seen in the space of its app, or else in that of its instance.
impl Seen for ServiceCredentialBinding {
    const NOUN: &'static str = "Service credential binding";
    const SEEN: &'static str = concat!(
        "(app_guid IN (SELECT guid FROM apps WHERE space_guid IN (",
        readable_spaces!(),
        ")) OR (app_guid IS NULL AND service_instance_guid IN (SELECT guid FROM service_instances WHERE space_guid IN (",
        readable_spaces!(),
        "))))"
    );
    type Of = OfSpace;
    fn parent(&self) -> Parent<'_> {
        match &self.app_guid {
            Some(app) => Parent::App(app),
            None => Parent::ServiceInstance(&self.service_instance_guid),
        }
    }
}

/// A binding is seen in the space of its route. Organization auditors see the route and not what it is bound to.
impl Seen for ServiceRouteBinding {
    const NOUN: &'static str = "Service route binding";
    const SEEN: &'static str = concat!(
        "route_guid IN (SELECT guid FROM routes WHERE space_guid IN (",
        readable_spaces!(),
        "))"
    );
    type Of = OfSpace;
    fn parent(&self) -> Parent<'_> {
        Parent::Route(&self.route_guid)
    }
}

/// A route is found by the readers of its own space. A list also contains the routes that are shared with a readable space.
impl Seen for Route {
    const NOUN: &'static str = "Route";
    const SEEN: &'static str = concat!("space_guid IN (", spaces_of_readable_routes!(), ")");
    const LISTED: &'static str = concat!(
        "(space_guid IN (",
        spaces_of_readable_routes!(),
        ") OR guid IN (SELECT route_guid FROM route_shares WHERE space_guid IN (",
        spaces_of_readable_routes!(),
        ")))"
    );
    type Of = OfSpace;
    fn parent(&self) -> Parent<'_> {
        Parent::Space(&self.space_guid)
    }
}

/// The policies of a route are seen by those who see the route in its own space.
impl Seen for RoutePolicy {
    const NOUN: &'static str = "Route policy";
    const SEEN: &'static str = concat!(
        "route_guid IN (SELECT guid FROM routes WHERE space_guid IN (",
        spaces_of_readable_routes!(),
        "))"
    );
    type Of = OfSpace;
    fn parent(&self) -> Parent<'_> {
        Parent::Route(&self.route_guid)
    }
}

/// A shared domain is seen by everybody; a private one by its organization and by those with which it is shared.
impl Seen for Domain {
    const NOUN: &'static str = "Domain";
    const SEEN: &'static str = concat!(
        "(organization_guid IS NULL OR organization_guid IN (",
        organizations_of_readable_domains!(),
        ") OR guid IN (SELECT domain_guid FROM domain_shares WHERE organization_guid IN (",
        organizations_of_readable_domains!(),
        ")))"
    );
    type Of = OfAny;
    fn parent(&self) -> Parent<'_> {
        self.organization_guid
            .as_deref()
            .map_or(Parent::Platform, Parent::Organization)
    }
}

impl Seen for Role {
    const NOUN: &'static str = "Role";
    const SEEN: &'static str = concat!(
        "(organization_guid IN (",
        readable_organizations!(),
        ") OR space_guid IN (",
        readable_spaces!(),
        "))"
    );
    type Of = OfAny;
    fn parent(&self) -> Parent<'_> {
        match (&self.organization_guid, &self.space_guid) {
            (Some(organization), _) => Parent::Organization(organization),
            (None, Some(space)) => Parent::Space(space),
            (None, None) => Parent::Platform,
        }
    }
}

/// A space quota is seen by the managers of the organization, and by those with a role in a space to which it is applied.
impl Seen for SpaceQuota {
    const NOUN: &'static str = "Space quota";
    const SEEN: &'static str = "(organization_guid IN (SELECT organization_guid FROM roles WHERE user_guid = ? AND type = 'organization_manager')
        OR guid IN (SELECT s.quota_guid FROM spaces s JOIN roles r ON r.space_guid = s.guid WHERE r.user_guid = ? AND s.quota_guid IS NOT NULL))";
    type Of = OfOrganization;
    fn parent(&self) -> Parent<'_> {
        Parent::Organization(&self.organization_guid)
    }
}
