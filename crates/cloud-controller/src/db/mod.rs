//! The database of the Cloud Controller: what users want. There is one file per noun. SQL is in this folder only: the other
//! layers use a [`Condition`], and a test keeps SQL out of them.
//!
//! Reads borrow a connection from a pool; requests and the controller's own work have separate pools. One transaction writes at
//! a time ([`transaction`]): every change begins in [`crate::change`], which owns the [`Writer`], and the platform's own rows are
//! written in an [`Upkeep`]. A handler holds either a reading connection or a change, never both at once.
//!
//! The database is a file of SQLite or a schema on a PostgreSQL server. Each statement is written once, in words that both
//! understand ([`kit::db`]); [`Condition::each`] is for those few conditions that have no common words. Several Cloud Controllers can
//! share a server: a [`Turn`] belongs to one of them at a time.

pub(crate) mod app;
pub(crate) mod audit_event;
pub(crate) mod build;
pub(crate) mod buildpack;
pub(crate) mod cleanup;
mod condition;
pub(crate) mod deployment;
pub(crate) mod destination;
pub(crate) mod domain;
pub(crate) mod droplet;
pub(crate) mod environment_group;
pub(crate) mod feature_flag;
pub(crate) mod job;
pub(crate) mod label;
pub(crate) mod network_policy;
pub(crate) mod organization;
pub(crate) mod organization_quota;
pub(crate) mod package;
pub(crate) mod process;
pub(crate) mod resource;
pub(crate) mod role;
pub(crate) mod route;
pub(crate) mod route_policy;
mod row;
mod schema;
pub(crate) mod sealed;
pub(crate) mod security_group;
mod select;
pub(crate) mod service_broker;
pub(crate) mod service_credential_binding;
pub(crate) mod service_instance;
pub(crate) mod service_instance_share;
pub(crate) mod service_offering;
pub(crate) mod service_plan;
pub(crate) mod service_plan_visibility;
pub(crate) mod service_route_binding;
pub(crate) mod service_usage_event;
pub(crate) mod sidecar;
pub(crate) mod sight;
pub(crate) mod space;
pub(crate) mod space_quota;
mod spelling;
pub(crate) mod stack;
pub(crate) mod stored_route;
pub(crate) mod syslog_drain;
pub(crate) mod task;
mod transaction;
pub(crate) mod usage;
pub(crate) mod usage_event;
pub(crate) mod user;

pub(crate) use audit_event::{Trail, Unrecorded};
pub(crate) use condition::{Condition, ListCondition, Order, When};
pub(crate) use kit::db::Connection;
pub(crate) use row::{
    Field, Json, Row, by_guid, column, delete, insert, readable_rows, rows, update, with_parent,
};
pub(crate) use select::{Arg, Broken, Portion, Readable, Select};
pub(crate) use spelling::{UnknownWord, spelled};
pub(crate) use transaction::{Tx, Upkeep, Writer};

use select::execute;

use kit::db::{Database, Location, Lock, Reader, Readers};
use std::time::Duration;

/// The number of connections for requests.
const READERS: u32 = 8;
const WAIT_FOR_READER: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(crate) struct Db {
    /// The database for all writes, and for reads of the driver, the sync and the cells. Callers of the API cannot block these
    /// reads.
    database: Database,
    /// The connections for requests, whose time for reading is limited.
    readers: Readers,
}

/// The right to do a work that only one Cloud Controller of a foundation does at a time. It ends when it is dropped.
#[derive(Debug)]
#[must_use = "the turn ends when it is dropped"]
pub(crate) struct Turn(Option<Lock>);

impl Turn {
    /// Ends the turn, and returns when the next one can begin.
    pub(crate) async fn end(self) {
        if let Some(lock) = self.0 {
            lock.release().await;
        }
    }
}

impl Db {
    /// Opens the database. Returns its handle, and its only writer. A request may read for `patience`.
    pub(crate) async fn open(
        location: &Location,
        patience: Duration,
    ) -> anyhow::Result<(Self, Writer)> {
        let database = Database::open(location, &schema::SCHEMA).await?;
        let writer = Writer::new(database.clone());
        let readers = database.readers(READERS, WAIT_FOR_READER, Some(patience));
        Ok((Self { database, readers }, writer))
    }

    /// Returns a connection for a request, which cannot write. A request that reads for too long is interrupted and gets a 503.
    pub(crate) async fn read(&self) -> sqlx::Result<Reader> {
        self.readers.acquire().await
    }

    /// Returns a connection for the controller's own work. It cannot write, and its reading time is not limited.
    pub(crate) async fn read_own(&self) -> sqlx::Result<Reader> {
        self.database.read().await
    }

    /// Returns whether other Cloud Controllers can use the database at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        self.database.is_shared()
    }

    /// Begins the turn of a work, or returns `None` while another Cloud Controller has it. A file has only one user.
    pub(crate) async fn turn(&self, work: &'static str) -> sqlx::Result<Option<Turn>> {
        if !self.is_shared() {
            return Ok(Some(Turn(None)));
        }
        let lock = self.database.try_lock(work).await?;
        Ok(lock.map(|lock| Turn(Some(lock))))
    }

    /// Begins a transaction for the platform's own rows when the previous one has ended.
    pub(crate) async fn upkeep(&self) -> sqlx::Result<Upkeep> {
        Upkeep::begin(&self.database).await
    }

    /// Returns the reason why no change can be written at present, if there is one.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.database.trouble()
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.database.close().await;
    }
}

/// Records a change of stored data, and returns whether it was never done before in this database.
pub(crate) async fn is_first_run_of(
    conn: &mut Connection,
    migration: &'static str,
) -> sqlx::Result<bool> {
    let done = execute(
        conn,
        "INSERT INTO migrations (name) VALUES ($1) ON CONFLICT DO NOTHING",
        &[migration.into()],
    )
    .await?;
    Ok(done > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit::db::query;
    use std::path::Path;

    const FOREVER: &str =
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n";

    #[tokio::test]
    async fn a_request_that_reads_too_long_is_ended_and_its_connection_serves_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::File(folder.path().join("cc.db"));
        let (db, _writer) = Db::open(&location, Duration::from_millis(100))
            .await
            .unwrap();
        // There are more requests than connections.
        let hostile = (0..READERS + 4).map(|_| async {
            let mut conn = db.read().await.unwrap();
            query(FOREVER).fetch_one(&mut *conn).await.unwrap_err()
        });
        let own = async {
            let mut conn = db.read_own().await.unwrap();
            query("SELECT 1").fetch_one(&mut *conn).await.unwrap();
        };
        let (errors, ()) = tokio::join!(futures::future::join_all(hostile), own);
        for error in errors {
            let error = crate::error::ApiError::from(error);
            assert_eq!(error.status, 503, "{error}");
        }
        let mut conn = db.read().await.unwrap();
        query("SELECT 1").fetch_one(&mut *conn).await.unwrap();
        let refused = query("DELETE FROM apps").execute(&mut *conn).await;
        assert!(refused.is_err(), "a reader must not write");
        drop(conn);
        db.close().await;
    }

    /// Returns the SQL in a line of code, if there is any.
    fn sql_in(line: &str) -> Option<&'static str> {
        let code = line.trim_start();
        if code.starts_with("//") {
            return None;
        }
        [
            "db::query",
            "db::Builder",
            "query_as",
            "query_scalar",
            "AssertSqlSafe",
            "SELECT ",
            "INSERT ",
            "UPDATE ",
            "DELETE FROM",
            " FROM ",
            " WHERE ",
            "EXISTS (",
            " IS NULL",
            " IS NOT NULL",
            " IN (",
            " IN LIST(",
            " COLLATE ",
            "ORDER BY",
            " DESC\"",
            " LIKE ",
            "PRAGMA ",
            "json_each",
            "json_extract",
            "= ?",
            "> ?",
            "< ?",
            ", id\"",
        ]
        .into_iter()
        .find(|sql| code.contains(sql))
    }

    #[test]
    fn sql_is_found() {
        for line in [
            r#"kit::db::query("x")"#,
            r#".and("guid <> ?", [guid])"#,
            r#"let members = "guid IN (SELECT user_guid";"#,
            r#".order("id DESC")"#,
            r#".order("position, id")"#,
            r#".and("state = 'A' AND organization_guid IS NULL", [])"#,
        ] {
            assert!(sql_in(line).is_some(), "{line}");
        }
        for line in [
            "/// SELECT x FROM y",
            r#".is("guid", guid)"#,
            "let name = name.filter(|n| *n >= 1)?;",
        ] {
            assert_eq!(sql_in(line), None, "{line}");
        }
    }

    #[test]
    fn sql_is_in_db_alone() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let (mut folders, mut files, mut found) = (vec![src.clone()], 0, Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if path.is_dir() {
                    if path != src.join("db") {
                        folders.push(path);
                    }
                    continue;
                }
                if name.ends_with("tests.rs") {
                    continue;
                }
                files += 1;
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                for (at, line) in code.lines().enumerate() {
                    if let Some(sql) = sql_in(line) {
                        found.push(format!("{}:{} has {sql:?}", path.display(), at + 1));
                    }
                }
            }
        }
        assert!(files > 80, "{files} files were read");
        assert!(
            found.is_empty(),
            "SQL is outside of db/: give the condition or the statement a name in db/NOUN.rs\n{}",
            found.join("\n")
        );
    }

    #[tokio::test]
    async fn a_migration_runs_once() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::File(folder.path().join("cc.db"));
        for expected in [true, false] {
            let (db, _writer) = Db::open(&location, Duration::from_secs(1)).await.unwrap();
            let mut upkeep = db.upkeep().await.unwrap();
            assert_eq!(is_first_run_of(&mut upkeep, "x").await.unwrap(), expected);
            upkeep.commit().await.unwrap();
            db.close().await;
        }
    }
}
