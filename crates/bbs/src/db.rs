//! The file `bbs.db`: one row per desired LRP, actual LRP, task, domain and lock. All SQL of this crate is here.
//!
//! Rows hold the wire's messages unchanged. The store's writer writes them; they are read once at start.

use crate::convert;
use crate::journal::Write;
use crate::state::{Cells, Desired, State, TaskRecord, now};
use anyhow::{Context as _, Result, ensure};
use ids::{Domain, ProcessGuid, TaskGuid};
use kit::old_db::Database;
use lrp::Nanos;
use prost::Message as _;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _, Sqlite};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wire::bbs as m;
use wire::locket::Resource;

const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS desired_lrps (process_guid TEXT PRIMARY KEY, lrp BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS actual_lrps (process_guid TEXT NOT NULL, instance_index INTEGER NOT NULL, presence INTEGER NOT NULL, lrp BLOB NOT NULL,
       PRIMARY KEY (process_guid, instance_index, presence)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS tasks (guid TEXT PRIMARY KEY, task BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS domains (domain TEXT PRIMARY KEY, expires_at INTEGER) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS locks (key TEXT PRIMARY KEY, resource BLOB NOT NULL, ttl_seconds INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
];

pub(crate) async fn open(data_dir: &Path) -> Result<Database> {
    Database::open(&data_dir.join("bbs.db"), SCHEMA).await
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
    connection: PoolConnection<Sqlite>,
    file: PathBuf,
}

impl Tables {
    async fn open(database: &Database) -> Result<Self> {
        let file = database.path().to_owned();
        let connection = database.read().await;
        Ok(Self {
            connection: connection.with_context(|| format!("read {}", file.display()))?,
            file,
        })
    }

    async fn rows(&mut self, table: &str, columns: &str) -> Result<Vec<SqliteRow>> {
        sqlx::query(AssertSqlSafe(format!("SELECT {columns} FROM {table}")))
            .fetch_all(&mut *self.connection)
            .await
            .with_context(|| format!("load the table {table} of {}", self.file.display()))
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
            file = "bbs.db",
            table,
            key = self.key.as_deref().unwrap_or("(unreadable)"),
            error = format!("{:#}", self.error),
            "row-damaged: it is left out"
        );
    }
}

type Read<T> = Result<T, Damage>;

/// Reads one row. An error carries the row's first column.
fn read<T>(row: &SqliteRow, read: impl FnOnce(&str) -> Result<T>) -> Read<T> {
    let key = row.try_get::<String, _>(0);
    match key {
        Err(error) => Err(Damage {
            key: row.try_get_unchecked(0).ok(),
            error: error.into(),
        }),
        Ok(key) => read(&key).map_err(|error| Damage {
            key: Some(key),
            error,
        }),
    }
}

fn message<M: prost::Message + Default>(row: &SqliteRow) -> Result<M> {
    Ok(M::decode(row.try_get::<&[u8], _>(1)?)?)
}

fn desired(row: &SqliteRow) -> Read<(ProcessGuid, Desired)> {
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

fn actual(row: &SqliteRow) -> Read<lrp::ActualLrp> {
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

fn task(row: &SqliteRow) -> Read<(TaskGuid, TaskRecord)> {
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

fn domain(row: &SqliteRow) -> Read<(Domain, Option<Nanos>)> {
    read(row, |domain| Ok((domain.into(), row.try_get(1)?)))
}

fn lock(row: &SqliteRow) -> Read<(Resource, i64)> {
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
    let known = sqlx::query("SELECT value FROM meta WHERE key = 'node_id'")
        .fetch_optional(database.readers())
        .await
        .context("load the node id")?;
    if let Some(id) = known.and_then(|row| row.try_get(0).ok()) {
        return Ok(id);
    }
    let fresh = format!("bbs-{}", uuid::Uuid::new_v4());
    let change =
        sqlx::query("INSERT OR REPLACE INTO meta (key, value) VALUES ('node_id', $1)").bind(&fresh);
    database
        .execute(change)
        .await
        .context("store the node id")?;
    Ok(fresh)
}

/// Tests whether a change can be made durable: it writes one row and returns the error if that fails.
pub(crate) async fn try_to_write(database: &Database) -> Result<()> {
    let change = sqlx::query("INSERT OR REPLACE INTO meta (key, value) VALUES ('written', $1)")
        .bind(now().to_string());
    database.execute(change).await?;
    Ok(())
}

/// Writes all changes in one transaction. When it returns without an error, they are durable.
pub(crate) async fn write<'a>(
    database: &Database,
    writes: impl Iterator<Item = &'a Write>,
) -> Result<()> {
    let mut transaction = database.begin().await.context("begin a transaction")?;
    for write in writes {
        let query = match write {
            Write::Desired(guid, Some(lrp)) => {
                sqlx::query("INSERT INTO desired_lrps (process_guid, lrp) VALUES ($1, $2) ON CONFLICT (process_guid) DO UPDATE SET lrp = excluded.lrp").bind(guid.as_str()).bind(lrp.encode_to_vec())
            }
            Write::Desired(guid, None) => sqlx::query("DELETE FROM desired_lrps WHERE process_guid = $1").bind(guid.as_str()),
            Write::Actual(guid, index, presence, Some(row)) => {
                sqlx::query("INSERT INTO actual_lrps (process_guid, instance_index, presence, lrp) VALUES ($1, $2, $3, $4) ON CONFLICT (process_guid, instance_index, presence) DO UPDATE SET lrp = excluded.lrp")
                    .bind(guid.as_str())
                    .bind(index)
                    .bind(convert::presence(*presence) as i32)
                    .bind(convert::actual(row).encode_to_vec())
            }
            Write::Actual(guid, index, presence, None) => sqlx::query("DELETE FROM actual_lrps WHERE process_guid = $1 AND instance_index = $2 AND presence = $3")
                .bind(guid.as_str())
                .bind(index)
                .bind(convert::presence(*presence) as i32),
            Write::Task(guid, Some(task)) => sqlx::query("INSERT INTO tasks (guid, task) VALUES ($1, $2) ON CONFLICT (guid) DO UPDATE SET task = excluded.task").bind(guid.as_str()).bind(task.encode_to_vec()),
            Write::Task(guid, None) => sqlx::query("DELETE FROM tasks WHERE guid = $1").bind(guid.as_str()),
            Write::Domain(domain, Some(expires)) => {
                sqlx::query("INSERT INTO domains (domain, expires_at) VALUES ($1, $2) ON CONFLICT (domain) DO UPDATE SET expires_at = excluded.expires_at").bind(domain.as_str()).bind(expires)
            }
            Write::Domain(domain, None) => sqlx::query("DELETE FROM domains WHERE domain = $1").bind(domain.as_str()),
            Write::Lock(key, Some((resource, ttl))) => {
                sqlx::query("INSERT INTO locks (key, resource, ttl_seconds) VALUES ($1, $2, $3) ON CONFLICT (key) DO UPDATE SET resource = excluded.resource, ttl_seconds = excluded.ttl_seconds")
                    .bind(key.as_str())
                    .bind(resource.encode_to_vec())
                    .bind(ttl)
            }
            Write::Lock(key, None) => sqlx::query("DELETE FROM locks WHERE key = $1").bind(key.as_str()),
        };
        query
            .execute(&mut *transaction)
            .await
            .context("write a row")?;
    }
    transaction.commit().await.context("commit the transaction")
}
