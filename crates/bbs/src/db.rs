//! The file `bbs.db`: one row per desired LRP, actual LRP, task, domain and lock. SQL is here only.
//!
//! Rows hold the wire's messages as they are. Written by the store's writer, read once at start.

use crate::convert;
use crate::journal::Write;
use crate::state::{Cells, Desired, State, TaskRecord, now};
use anyhow::{Context as _, Result};
use prost::Message as _;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Connection as _, Row as _};
use std::path::Path;
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

pub(crate) async fn open(data_dir: &Path) -> Result<SqlitePool> {
    kit::db::open(&data_dir.join("bbs.db"), SCHEMA).await
}

/// All that was stored.
pub(crate) async fn load(pool: &SqlitePool) -> Result<State> {
    let mut state = State { cells: Cells::starting_at(now()), ..State::default() };
    for row in sqlx::query("SELECT process_guid, lrp FROM desired_lrps").fetch_all(pool).await.context("load desired LRPs")? {
        let (guid, blob): (String, Vec<u8>) = (row.get(0), row.get(1));
        let lrp = m::DesiredLrp::decode(blob.as_slice()).with_context(|| format!("decode stored desired LRP {guid}"))?;
        state.desired.insert(guid.into(), Desired::new(lrp));
    }
    for row in sqlx::query("SELECT process_guid, instance_index, lrp FROM actual_lrps").fetch_all(pool).await.context("load actual LRPs")? {
        let (guid, index, blob): (String, i32, Vec<u8>) = (row.get(0), row.get(1), row.get(2));
        let lrp = m::ActualLrp::decode(blob.as_slice()).with_context(|| format!("decode stored actual LRP {guid}/{index}"))?;
        state.load_actual(convert::stored_actual(&lrp).with_context(|| format!("stored actual LRP {guid}/{index} has state {:?}", lrp.state))?);
    }
    for row in sqlx::query("SELECT guid, task FROM tasks").fetch_all(pool).await.context("load tasks")? {
        let (guid, blob): (String, Vec<u8>) = (row.get(0), row.get(1));
        let wire = m::Task::decode(blob.as_slice()).with_context(|| format!("decode stored task {guid}"))?;
        let task = convert::stored_task(&wire).with_context(|| format!("stored task {guid} has state {}", wire.state))?;
        state.tasks.insert(guid.into(), TaskRecord { task, wire: Arc::new(wire) });
    }
    for row in sqlx::query("SELECT domain, expires_at FROM domains").fetch_all(pool).await.context("load domains")? {
        let (domain, expires): (String, Option<i64>) = (row.get(0), row.get(1));
        state.domains.insert(domain.into(), expires);
    }
    Ok(state)
}

/// The locks and presences, with their times to live in seconds.
pub(crate) async fn load_locks(pool: &SqlitePool) -> Result<Vec<(Resource, i64)>> {
    let rows = sqlx::query("SELECT resource, ttl_seconds FROM locks").fetch_all(pool).await.context("load locks")?;
    rows.iter().map(|row| Ok((Resource::decode(row.get::<Vec<u8>, _>(0).as_slice()).context("decode stored lock")?, row.get(1)))).collect()
}

/// Who this BBS is to locket: the same after each start.
pub(crate) async fn node_id(pool: &SqlitePool) -> Result<String> {
    let fresh = format!("bbs-{}", uuid::Uuid::new_v4());
    sqlx::query("INSERT INTO meta (key, value) VALUES ('node_id', $1) ON CONFLICT DO NOTHING").bind(fresh).execute(pool).await.context("store node id")?;
    Ok(sqlx::query("SELECT value FROM meta WHERE key = 'node_id'").fetch_one(pool).await.context("load node id")?.get(0))
}

/// Writes all of them in one transaction: when this returns they are durable.
pub(crate) async fn write<'a>(connection: &mut SqliteConnection, writes: impl Iterator<Item = &'a Write>) -> Result<()> {
    let mut transaction = connection.begin().await.context("begin transaction")?;
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
        query.execute(&mut *transaction).await.context("write row")?;
    }
    transaction.commit().await.context("commit transaction")
}
