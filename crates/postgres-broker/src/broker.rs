//! The verbs: create, change and remove an instance, bind and unbind. Each holds the lock of its instance, and each can be repeated:
//! what a broken attempt has left is completed or removed by the next one.

use crate::address::Address;
use crate::config::{Plan, Server, Settings};
use crate::db;
use crate::instance::{Instance, Place};
use crate::metrics::Metrics;
use crate::names::Guid;
use crate::scram;
use crate::secrets::{self, Secrets};
use serde_json::{Value, json};
use sqlx::PgConnection;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

/// The number of verbs at once. Each uses two of the connections that the server keeps for its administrator.
const AT_ONCE: usize = 8;
/// The pause between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(200);

/// The broker; it is cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Broker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    admin: Address,
    secrets: Secrets,
    metrics: Metrics,
    turns: Semaphore,
    /// Whether the server has the broker's table.
    prepared: OnceCell<()>,
    /// The longest wait for a server that does not answer, because it starts or starts again.
    patience: Duration,
}

/// The reason why a verb was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("PostgreSQL is not ready: {0}")]
    NotReady(String),
    #[error("another operation on the instance is in progress")]
    Busy,
    #[error("it does not exist")]
    Missing,
    #[error("it exists already with other attributes")]
    Conflict,
    #[error("{0}")]
    Refused(String),
    #[error("PostgreSQL refused: {0}")]
    Failed(#[source] sqlx::Error),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        match error {
            error if db::is_locked(&error) => Self::Busy,
            sqlx::Error::Io(error) => Self::NotReady(error.to_string()),
            error => Self::Failed(error),
        }
    }
}

/// Whether a thing was made now, or existed with the same attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    New,
    Existing,
}

/// A connection as the administrator, and the turn in which it may be used.
pub(crate) struct Session<'a> {
    pub(crate) conn: PgConnection,
    _turn: SemaphorePermit<'a>,
}

impl Broker {
    pub(crate) fn new(
        settings: Settings,
        admin: Address,
        secrets: Secrets,
        metrics: Metrics,
        patience: Duration,
    ) -> Self {
        Self(Arc::new(Shared {
            settings,
            admin,
            secrets,
            metrics,
            turns: Semaphore::new(AT_ONCE),
            prepared: OnceCell::new(),
            patience,
        }))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn admin(&self) -> &Address {
        &self.0.admin
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.0.secrets
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Connects to the server when it is this caller's turn.
    pub(crate) async fn session(&self) -> Result<Session<'_>, Fault> {
        let turn = self.0.turns.acquire().await;
        let turn = turn.map_err(|_| Fault::NotReady("the broker ends".to_owned()))?;
        let mut conn = self.connect().await?;
        let (prepared, first) = (&self.0.prepared, &mut conn);
        prepared
            .get_or_try_init(|| async move { db::prepare(first).await })
            .await?;
        Ok(Session { conn, _turn: turn })
    }

    /// Connects to the server, and tries again for a while if it does not answer.
    async fn connect(&self) -> Result<PgConnection, Fault> {
        let began = Instant::now();
        loop {
            match self.0.admin.connect_to_maintenance().await {
                Ok(conn) => return Ok(conn),
                Err(error) if began.elapsed() >= self.0.patience => {
                    return Err(Fault::NotReady(error.to_string()));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn inside(&self, database: &str) -> Result<PgConnection, Fault> {
        let connected = self.0.admin.connect(database).await;
        connected.map_err(|error| Fault::NotReady(error.to_string()))
    }

    /// Creates an instance.
    pub(crate) async fn create(
        &self,
        guid: Guid,
        plan_id: &str,
        plan: &Plan,
        place: Place,
    ) -> Result<Made, Fault> {
        let mut session = self.session().await?;
        let conn = &mut session.conn;
        db::lock(conn, guid).await?;
        if let Some(text) = db::description(conn, guid).await? {
            let same = Instance::parse(&text).is_some_and(|found| found.is_same(plan_id, &place));
            return if same {
                Ok(Made::Existing)
            } else {
                Err(Fault::Conflict)
            };
        }
        let (most, present) = (
            self.0.settings.instances,
            db::with_prefix(conn, "db").await?,
        );
        let others = present.iter().filter(|other| **other != guid).count();
        if others >= most as usize {
            return Err(Fault::Refused(format!(
                "the server has {others} databases already, and at most {most} are permitted; ask the operator"
            )));
        }
        db::create_owner(conn, guid).await?;
        self.prepare(conn, guid, &guid.database()).await?;
        db::limit(conn, &guid.database(), plan.connections).await?;
        let instance = Instance {
            plan_id: plan_id.to_owned(),
            plan: plan.clone(),
            created: time::OffsetDateTime::now_utc().unix_timestamp(),
            place: place.shortened(),
        };
        db::describe(conn, guid, &instance.text()).await?;
        tracing::info!(instance = %guid, plan = plan.name, "instance-created");
        Ok(Made::New)
    }

    /// Makes an empty database in which the owner's role may do everything.
    pub(crate) async fn prepare(
        &self,
        conn: &mut PgConnection,
        guid: Guid,
        name: &str,
    ) -> Result<(), Fault> {
        db::create_database(conn, name, &guid.owner()).await?;
        let mut inside = self.inside(name).await?;
        Ok(db::give_schema(&mut inside, &guid.owner()).await?)
    }

    /// Returns an instance that is complete.
    pub(crate) async fn find(
        &self,
        conn: &mut PgConnection,
        guid: Guid,
    ) -> Result<Instance, Fault> {
        let text = db::description(conn, guid).await?.ok_or(Fault::Missing)?;
        Instance::parse(&text).ok_or_else(|| {
            Fault::Refused(format!(
                "the description of the database {} is damaged: correct it in postgres_broker.instances, or remove the instance",
                guid.database()
            ))
        })
    }

    pub(crate) async fn show(&self, guid: Guid) -> Result<Instance, Fault> {
        let mut session = self.session().await?;
        self.find(&mut session.conn, guid).await
    }

    /// Gives an instance another plan, and takes its new names over.
    pub(crate) async fn change(
        &self,
        guid: Guid,
        plan: Option<(&str, &Plan)>,
        place: &Place,
    ) -> Result<(), Fault> {
        let mut session = self.session().await?;
        let conn = &mut session.conn;
        db::lock(conn, guid).await?;
        let mut instance = self.find(conn, guid).await?;
        if let Some((id, plan)) = plan {
            // A request for another name has the plan of the instance.
            if id != instance.plan_id {
                check_size(conn, guid, plan).await?;
            }
            db::limit(conn, &guid.database(), plan.connections).await?;
            for user in db::members(conn, guid, "u").await? {
                db::limit_user(conn, &user, plan.connections).await?;
            }
            id.clone_into(&mut instance.plan_id);
            instance.plan = plan.clone();
        }
        instance.place.follow(place);
        instance.place = instance.place.shortened();
        db::describe(conn, guid, &instance.text()).await?;
        tracing::info!(instance = %guid, plan = instance.plan.name, "instance-changed");
        Ok(())
    }

    /// Removes an instance with its users, and what a broken restore has left.
    pub(crate) async fn remove(&self, guid: Guid) -> Result<(), Fault> {
        let mut session = self.session().await?;
        let conn = &mut session.conn;
        db::lock(conn, guid).await?;
        let owner = guid.owner();
        let exists = db::description(conn, guid).await?.is_some()
            || db::has_database(conn, &guid.database()).await?
            || db::has_role(conn, &owner).await?;
        if !exists {
            return Err(Fault::Missing);
        }
        for name in [guid.database(), guid.restored(), guid.kept()] {
            db::drop_database(conn, &name).await?;
        }
        for prefix in ["u", "t"] {
            for user in db::members(conn, guid, prefix).await? {
                db::drop_role(conn, &user).await?;
            }
        }
        db::drop_role(conn, &owner).await?;
        db::forget(conn, guid).await?;
        tracing::info!(instance = %guid, "instance-removed");
        Ok(())
    }

    /// Makes a user for a binding. Returns its credentials.
    pub(crate) async fn bind(&self, guid: Guid, binding: Guid) -> Result<(Made, Value), Fault> {
        let mut session = self.session().await?;
        let conn = &mut session.conn;
        db::lock(conn, guid).await?;
        let instance = self.find(conn, guid).await?;
        let user = binding.user();
        let made = if !db::has_role(conn, &user).await? {
            Made::New
        } else if db::is_member(conn, guid, &user).await? {
            Made::Existing
        } else {
            return Err(Fault::Conflict);
        };
        let verifier = scram::verifier(&self.0.secrets.password(&user), secrets::salt());
        db::create_user(conn, &user, &guid.owner(), &verifier, true).await?;
        db::limit_user(conn, &user, instance.plan.connections).await?;
        if db::is_superuser(conn).await? {
            db::limit_temporary_files(conn, &user, instance.plan.storage_mb).await?;
        }
        if made == Made::New {
            tracing::info!(instance = %guid, binding = %binding, "binding-created");
        }
        Ok((made, self.credentials(guid, binding)))
    }

    /// Returns the credentials of a binding that exists.
    pub(crate) async fn show_binding(&self, guid: Guid, binding: Guid) -> Result<Value, Fault> {
        let mut session = self.session().await?;
        let conn = &mut session.conn;
        self.find(conn, guid).await?;
        match db::is_member(conn, guid, &binding.user()).await? {
            true => Ok(self.credentials(guid, binding)),
            false => Err(Fault::Missing),
        }
    }

    /// Removes a binding's user. Its sessions end, and what it owns stays in the database.
    pub(crate) async fn unbind(&self, guid: Guid, binding: Guid) -> Result<(), Fault> {
        let mut session = self.session().await?;
        let conn = &mut session.conn;
        db::lock(conn, guid).await?;
        let user = binding.user();
        if !db::is_member(conn, guid, &user).await? {
            return Err(Fault::Missing);
        }
        db::shut_out(conn, &user).await?;
        if db::has_database(conn, &guid.database()).await? {
            let mut inside = self.inside(&guid.database()).await?;
            db::disown(&mut inside, &user, &guid.owner()).await?;
        }
        db::drop_role(conn, &user).await?;
        tracing::info!(instance = %guid, binding = %binding, "binding-removed");
        Ok(())
    }

    /// Returns the host and the port at which apps connect.
    pub(crate) fn endpoint(&self) -> (&str, u16) {
        match &self.0.settings.server {
            Server::Own(own) => (&own.host, own.port),
            Server::Given(address) => (&address.host, address.port),
        }
    }

    fn credentials(&self, guid: Guid, binding: Guid) -> Value {
        let (host, port) = self.endpoint();
        let (user, database) = (binding.user(), guid.database());
        let password = self.0.secrets.password(&user);
        let in_url = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let mut credentials = json!({
            "uri": format!("postgres://{user}:{password}@{in_url}:{port}/{database}?sslmode=require"),
            "jdbcUrl": format!("jdbc:postgresql://{in_url}:{port}/{database}?user={user}&password={password}&sslmode=require"),
            "host": host,
            "hostname": host,
            "port": port,
            "database": database,
            "name": database,
            "username": user,
            "user": user,
            "password": password,
            "sslmode": "require",
        });
        if let Server::Own(own) = &self.0.settings.server {
            credentials["ca_certificate"] = own.identity.ca_pem.as_str().into();
        }
        credentials
    }
}

/// Refuses a plan whose storage is smaller than what the database has already.
async fn check_size(conn: &mut PgConnection, guid: Guid, plan: &Plan) -> Result<(), Fault> {
    let databases = db::databases(conn).await?;
    let own = databases.iter().find(|database| database.guid == guid);
    let mb = own.map_or(0, |own| own.bytes.unsigned_abs() >> 20);
    match mb > plan.storage_mb {
        true => Err(Fault::Refused(format!(
            "the database has {mb} MiB, and the plan {} permits {}: delete data first",
            plan.name, plan.storage_mb
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn credentials_name_the_server_the_user_and_the_authority() {
        let broker = testing::broker();
        let guid = Guid::parse("00000000-0000-4000-8000-000000000001").unwrap();
        let binding = Guid::parse("00000000-0000-4000-8000-000000000002").unwrap();
        let credentials = broker.credentials(guid, binding);
        let password = credentials["password"].as_str().unwrap();
        assert_eq!(
            credentials["uri"],
            format!(
                "postgres://u_00000000000040008000000000000002:{password}@10.255.3.1:5432/db_00000000000040008000000000000001?sslmode=require"
            )
        );
        assert_eq!(credentials["port"], 5432);
        assert_eq!(credentials["ca_certificate"], "the authority");
        assert_eq!(credentials, broker.credentials(guid, binding));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_plan_that_is_too_small_is_refused_and_a_new_name_is_not() {
        let world = testing::World::start();
        let guid = world.instance().await;
        // An empty database has some MiB.
        world.set_storage(guid, 1).await;
        let tiny = Plan {
            storage_mb: 1,
            ..testing::plan("tiny", 1)
        };
        let place = Place {
            name: "renamed".to_owned(),
            ..Place::default()
        };
        let changed = world
            .broker
            .change(guid, Some(("other", &tiny)), &place)
            .await;
        let text = changed.unwrap_err().to_string();
        assert!(text.contains("the plan tiny permits 1"), "{text}");
        let changed = world.broker.change(guid, Some(("id", &tiny)), &place).await;
        changed.unwrap();
        let found = world.broker.show(guid).await.unwrap();
        assert_eq!(
            (found.place.name.as_str(), found.plan.name.as_str()),
            ("renamed", "tiny")
        );
    }

    #[test]
    fn faults_show_what_is_wrong() {
        let io = std::io::Error::other("connection refused");
        let fault = Fault::from(sqlx::Error::Io(io));
        assert_eq!(
            fault.to_string(),
            "PostgreSQL is not ready: connection refused"
        );
    }
}
