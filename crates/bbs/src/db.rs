//! The database: one row per desired LRP, actual LRP, task, domain and lock. All SQL of this crate is here.
//!
//! Rows hold the wire's messages unchanged. The store's writer writes them; they are read once, when the BBS has its lock.

use crate::convert;
use crate::journal::Write;
use crate::state::{Cells, Desired, State, TaskRecord, now};
use anyhow::{Context as _, Result, ensure};
use ids::{Domain, ProcessGuid, TaskGuid};
use kit::db::{
    AssertSqlSafe, Connection, Database, Location, Migration, Query, Reader, Row, Schema, Server,
    query, query_scalar,
};
use lrp::Nanos;
use prost::Message as _;
use std::path::Path;
use std::sync::Arc;
use wire::bbs as m;
use wire::locket::Resource;

const SCHEMA: Schema = Schema {
    migrations: &[Migration::both(
        1,
        "desired LRPs, actual LRPs, tasks, domains and locks",
        TABLES,
    )],
    unversioned: UNVERSIONED,
};

const TABLES: &str = "
    CREATE TABLE desired_lrps (process_guid TEXT PRIMARY KEY, lrp BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE actual_lrps (process_guid TEXT NOT NULL, instance_index INTEGER NOT NULL, presence INTEGER NOT NULL, lrp BLOB NOT NULL,
       PRIMARY KEY (process_guid, instance_index, presence)) WITHOUT ROWID;
    CREATE TABLE tasks (guid TEXT PRIMARY KEY, task BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE domains (domain TEXT PRIMARY KEY, expires_at INTEGER) WITHOUT ROWID;
    CREATE TABLE locks (key TEXT PRIMARY KEY, resource BLOB NOT NULL, ttl_seconds INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;";

/// The statements of the time before there were versions.
const UNVERSIONED: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS desired_lrps (process_guid TEXT PRIMARY KEY, lrp BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS actual_lrps (process_guid TEXT NOT NULL, instance_index INTEGER NOT NULL, presence INTEGER NOT NULL, lrp BLOB NOT NULL,
       PRIMARY KEY (process_guid, instance_index, presence)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS tasks (guid TEXT PRIMARY KEY, task BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS domains (domain TEXT PRIMARY KEY, expires_at INTEGER) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS locks (key TEXT PRIMARY KEY, resource BLOB NOT NULL, ttl_seconds INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
];

pub(crate) async fn open(server: Option<&Server>, data_dir: &Path) -> Result<Database> {
    let location = Location::new(server, "bbs", data_dir.join("bbs.db"));
    Database::open(&location, &SCHEMA).await
}

/// Returns everything that is stored. A row that cannot be read is logged and left out.
pub(crate) async fn load(database: &Database) -> Result<State> {
    let mut state = State {
        cells: Cells::starting_at(now()),
        ..State::default()
    };
    let mut tables = Tables::open(database).await?;
    for row in tables.rows("desired_lrps", "process_guid, lrp").await? {
        match desired(&row) {
            Ok((guid, desired)) => {
                state.desired.insert(guid, desired);
            }
            // The instances of a damaged desired LRP keep running until a client desires it again.
            Err(damage) => {
                let named = message(&row).map(|lrp: m::DesiredLrp| lrp.process_guid);
                let names = damage.key.clone().into_iter().chain(named.ok());
                state.damaged.extend(names.map(ProcessGuid::from));
                damage.report("desired_lrps");
            }
        }
    }
    for row in tables
        .rows("actual_lrps", "process_guid, lrp, instance_index")
        .await?
    {
        match actual(&row) {
            Ok(actual) => state.load_actual(actual),
            Err(damage) => damage.report("actual_lrps"),
        }
    }
    for row in tables.rows("tasks", "guid, task").await? {
        match task(&row) {
            Ok((guid, task)) => {
                state.tasks.insert(guid, task);
            }
            Err(damage) => damage.report("tasks"),
        }
    }
    for row in tables.rows("domains", "domain, expires_at").await? {
        match domain(&row) {
            Ok((domain, expires)) => {
                state.domains.insert(domain, expires);
            }
            Err(damage) => damage.report("domains"),
        }
    }
    Ok(state)
}

/// Returns the locks and presences with their times to live in seconds. A row that cannot be read is logged, and its lock is
/// free.
pub(crate) async fn load_locks(database: &Database) -> Result<Vec<(Resource, i64)>> {
    let mut tables = Tables::open(database).await?;
    let rows = tables.rows("locks", "key, resource, ttl_seconds").await?;
    Ok(rows
        .iter()
        .filter_map(|row| lock(row).map_err(|damage| damage.report("locks")).ok())
        .collect())
}

/// A reader of whole tables. It has one connection: the pool would open a second one for the next table, and a file that was
/// moved away can be read, but not opened.
struct Tables {
    reader: Reader,
    place: String,
}

impl Tables {
    async fn open(database: &Database) -> Result<Self> {
        let place = database.place();
        let reader = database.read().await;
        Ok(Self {
            reader: reader.with_context(|| format!("read {place}"))?,
            place,
        })
    }

    async fn rows(&mut self, table: &str, columns: &str) -> Result<Vec<Row>> {
        query(AssertSqlSafe(format!("SELECT {columns} FROM {table}")))
            .fetch_all(&mut self.reader)
            .await
            .with_context(|| format!("load the table {table} of {}", self.place))
    }
}

/// A row that cannot be read.
struct Damage {
    /// The text of the row's first column, if it can be read.
    key: Option<String>,
    error: anyhow::Error,
}

impl Damage {
    fn report(self, table: &str) {
        tracing::error!(
            database = "bbs",
            table,
            key = self.key.as_deref().unwrap_or("(unreadable)"),
            error = format!("{:#}", self.error),
            "row-damaged: it is left out"
        );
    }
}

type Read<T> = Result<T, Damage>;

/// Reads one row. An error carries the row's first column.
fn read<T>(row: &Row, read: impl FnOnce(&str) -> Result<T>) -> Read<T> {
    let key = row.try_get::<String, _>(0);
    match key {
        Err(error) => Err(Damage {
            key: row
                .try_get::<&[u8], _>(0)
                .ok()
                .map(|key| String::from_utf8_lossy(key).into_owned()),
            error: error.into(),
        }),
        Ok(key) => read(&key).map_err(|error| Damage {
            key: Some(key),
            error,
        }),
    }
}

fn message<M: prost::Message + Default>(row: &Row) -> Result<M> {
    Ok(M::decode(row.try_get::<&[u8], _>(1)?)?)
}

fn desired(row: &Row) -> Read<(ProcessGuid, Desired)> {
    read(row, |guid| {
        let lrp: m::DesiredLrp = message(row)?;
        ensure!(
            lrp.process_guid == guid,
            "the row contains the desired LRP of process {:?}",
            lrp.process_guid
        );
        Ok((guid.into(), Desired::new(lrp)))
    })
}

fn actual(row: &Row) -> Read<lrp::ActualLrp> {
    read(row, |guid| {
        let (lrp, index): (m::ActualLrp, i32) = (message(row)?, row.try_get(2)?);
        let stored = convert::stored_actual(&lrp)
            .with_context(|| format!("its state {:?} is unknown or incomplete", lrp.state))?;
        let key = &stored.key;
        ensure!(
            key.process_guid.as_str() == guid && key.index == index,
            "the row contains the actual LRP {}/{}",
            key.process_guid,
            key.index
        );
        Ok(stored)
    })
}

fn task(row: &Row) -> Read<(TaskGuid, TaskRecord)> {
    read(row, |guid| {
        let wire: m::Task = message(row)?;
        ensure!(
            wire.task_guid == guid,
            "the row contains the task {:?}",
            wire.task_guid
        );
        let task = convert::stored_task(&wire)
            .with_context(|| format!("its state {} is unknown or incomplete", wire.state))?;
        let wire = Arc::new(wire);
        Ok((guid.into(), TaskRecord { task, wire }))
    })
}

fn domain(row: &Row) -> Read<(Domain, Option<Nanos>)> {
    read(row, |domain| Ok((domain.into(), row.try_get(1)?)))
}

fn lock(row: &Row) -> Read<(Resource, i64)> {
    read(row, |key| {
        let resource: Resource = message(row)?;
        ensure!(
            resource.key == key,
            "the row contains the lock {:?}",
            resource.key
        );
        Ok((resource, row.try_get(2)?))
    })
}

/// Returns the name under which this BBS owns its lock in locket. The name survives restarts.
pub(crate) async fn node_id(database: &Database) -> Result<String> {
    let mut reader = database.read().await.context("load the node id")?;
    let known: Option<String> = query_scalar("SELECT value FROM meta WHERE key = 'node_id'")
        .fetch_optional(&mut reader)
        .await
        .unwrap_or_default();
    drop(reader);
    if let Some(id) = known {
        return Ok(id);
    }
    let fresh = format!("bbs-{}", uuid::Uuid::new_v4());
    database
        .execute(meta("node_id", &fresh))
        .await
        .context("store the node id")?;
    Ok(fresh)
}

fn meta(key: &str, value: &str) -> Query {
    query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        .bind(key)
        .bind(value)
}

/// The proof that no other BBS has taken over a database that several can use. Each transaction checks it, because the lock alone
/// can be lost unnoticed, with its connection.
#[derive(Clone, Debug)]
pub(crate) struct Fence(Option<String>);

/// The error that another BBS has taken over the database. This one must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another BBS has taken over the database, so this one ends")]
pub(crate) struct TakenOver;

impl Fence {
    /// Takes the database over. The caller holds the lock. A file has no other users as long as it is locked.
    pub(crate) async fn raise(database: &Database) -> Result<Self> {
        if !database.is_shared() {
            return Ok(Self(None));
        }
        let owner = uuid::Uuid::new_v4().to_string();
        database
            .execute(meta("active", &owner))
            .await
            .context("store which BBS is active")?;
        Ok(Self(Some(owner)))
    }

    async fn check(&self, transaction: &mut Connection) -> Result<()> {
        let Some(owner) = &self.0 else {
            return Ok(());
        };
        let active: Option<String> = query_scalar("SELECT value FROM meta WHERE key = 'active'")
            .fetch_optional(transaction)
            .await
            .context("read which BBS is active")?;
        ensure!(active.as_ref() == Some(owner), TakenOver);
        Ok(())
    }
}

/// Tests whether a change can be made durable: it writes one row and returns the error if that fails.
pub(crate) async fn try_to_write(database: &Database, fence: &Fence) -> Result<()> {
    let mut transaction = database.begin().await?;
    fence.check(&mut transaction).await?;
    meta("written", &now().to_string())
        .execute(&mut transaction)
        .await?;
    Ok(transaction.commit().await?)
}

/// Writes all changes in one transaction. When it returns without an error, they are durable.
pub(crate) async fn write<'a>(
    database: &Database,
    fence: &Fence,
    writes: impl Iterator<Item = &'a Write>,
) -> Result<()> {
    let mut transaction = database.begin().await.context("begin a transaction")?;
    fence.check(&mut transaction).await?;
    for write in writes {
        let query = match write {
            Write::Desired(guid, Some(lrp)) => {
                query("INSERT INTO desired_lrps (process_guid, lrp) VALUES ($1, $2) ON CONFLICT (process_guid) DO UPDATE SET lrp = excluded.lrp").bind(guid.as_str()).bind(lrp.encode_to_vec())
            }
            Write::Desired(guid, None) => query("DELETE FROM desired_lrps WHERE process_guid = $1").bind(guid.as_str()),
            Write::Actual(guid, index, presence, Some(row)) => {
                query("INSERT INTO actual_lrps (process_guid, instance_index, presence, lrp) VALUES ($1, $2, $3, $4) ON CONFLICT (process_guid, instance_index, presence) DO UPDATE SET lrp = excluded.lrp")
                    .bind(guid.as_str())
                    .bind(*index)
                    .bind(convert::presence(*presence) as i32)
                    .bind(convert::actual(row).encode_to_vec())
            }
            Write::Actual(guid, index, presence, None) => query("DELETE FROM actual_lrps WHERE process_guid = $1 AND instance_index = $2 AND presence = $3")
                .bind(guid.as_str())
                .bind(*index)
                .bind(convert::presence(*presence) as i32),
            Write::Task(guid, Some(task)) => query("INSERT INTO tasks (guid, task) VALUES ($1, $2) ON CONFLICT (guid) DO UPDATE SET task = excluded.task").bind(guid.as_str()).bind(task.encode_to_vec()),
            Write::Task(guid, None) => query("DELETE FROM tasks WHERE guid = $1").bind(guid.as_str()),
            Write::Domain(domain, Some(expires)) => {
                query("INSERT INTO domains (domain, expires_at) VALUES ($1, $2) ON CONFLICT (domain) DO UPDATE SET expires_at = excluded.expires_at").bind(domain.as_str()).bind(*expires)
            }
            Write::Domain(domain, None) => query("DELETE FROM domains WHERE domain = $1").bind(domain.as_str()),
            Write::Lock(key, Some((resource, ttl))) => {
                query("INSERT INTO locks (key, resource, ttl_seconds) VALUES ($1, $2, $3) ON CONFLICT (key) DO UPDATE SET resource = excluded.resource, ttl_seconds = excluded.ttl_seconds")
                    .bind(key.as_str())
                    .bind(resource.encode_to_vec())
                    .bind(*ttl)
            }
            Write::Lock(key, None) => query("DELETE FROM locks WHERE key = $1").bind(key.as_str()),
        };
        query
            .execute(&mut transaction)
            .await
            .context("write a row")?;
    }
    transaction.commit().await.context("commit the transaction")
}
