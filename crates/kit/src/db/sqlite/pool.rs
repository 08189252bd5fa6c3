//! Connections to a file. They stay open, because opening the files beside the database anew would need room on the disk.

use super::statement::{self, SqliteRow, failed, in_place};
use crate::db::value::Value;
use crate::db::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest wait for a lock that another process holds on the file.
const BUSY: Duration = Duration::from_secs(10);
/// The number of prepared statements that a connection keeps.
const PREPARED: usize = 200;
/// The number of steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 10_000;

/// The access that a connection has to its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Write. A missing file is created.
    Write,
    Read,
}

/// Some connections to one file; cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::db) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    access: Access,
    patience: Duration,
    size: u32,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// Creates a pool of at most `size` connections. They are opened when they are needed.
    pub(super) fn new(path: &Path, access: Access, size: u32, patience: Duration) -> Self {
        Self(Arc::new(Shared {
            path: path.to_owned(),
            access,
            patience,
            size,
            permits: Arc::new(Semaphore::new(size as usize)),
            idle: Mutex::default(),
        }))
    }

    /// Returns a connection.
    ///
    /// # Errors
    /// It fails with [`Error::PoolTimedOut`] if none is returned in time, with [`Error::PoolClosed`] after [`Self::close`], or if
    /// the file cannot be opened.
    pub(in crate::db) async fn acquire(&self) -> Result<SqliteConnection> {
        let permit = self.0.permits.clone().acquire_owned();
        let permit = tokio::time::timeout(self.0.patience, permit)
            .await
            .map_err(|_| Error::PoolTimedOut)?
            .map_err(|_| Error::PoolClosed)?;
        let idle = self.0.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => in_place(|| open(&self.0.path, self.0.access))?,
        };
        Ok(SqliteConnection {
            connection: Some(Mutex::new(connection)),
            pool: self.0.clone(),
            _permit: permit,
        })
    }

    /// Waits until every connection is returned, and closes it.
    pub(in crate::db) async fn close(&self) {
        let all = self.0.permits.acquire_many(self.0.size).await;
        self.0.permits.close();
        drop(all);
        let idle = std::mem::take(&mut *self.0.idle());
        in_place(|| drop(idle));
    }
}

impl Shared {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path, access: Access) -> Result<Connection> {
    let create = match access {
        Access::Write => OpenFlags::SQLITE_OPEN_CREATE,
        Access::Read => OpenFlags::empty(),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    // One plan for all arguments of a statement. Without it SQLite makes a new plan each time that a statement with a join is used.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(failed)?;
    let settings =
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";
    statement::run(&connection, settings)?;
    if access == Access::Read {
        statement::run(&connection, "PRAGMA query_only = ON")?;
    }
    Ok(connection)
}

/// A connection to a file. It is returned to its pool when it is dropped.
#[derive(Debug)]
pub struct SqliteConnection {
    /// The connection, which is absent if it is closed. The lock is never taken: it makes the type one that threads can share.
    connection: Option<Mutex<Connection>>,
    pool: Arc<Shared>,
    /// The permit returns after the connection.
    _permit: OwnedSemaphorePermit,
}

impl SqliteConnection {
    /// Returns the connection, or an error if it is closed.
    fn get(&mut self) -> Result<&mut Connection> {
        let connection = self.connection.as_mut().ok_or(Error::PoolClosed)?;
        Ok(connection.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// Closes the connection. Every further statement fails.
    pub(in crate::db) fn close(&mut self) {
        self.connection = None;
    }

    /// Runs a text of one or more statements without arguments, in this thread.
    pub(in crate::db) fn run(&mut self, sql: &str) -> Result<()> {
        statement::run(self.get()?, sql)
    }

    /// Interrupts every statement that runs later than this.
    pub(in crate::db) fn interrupt_after(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let is_late = move || Instant::now() >= deadline;
        let connection = self.get()?;
        connection
            .progress_handler(STEPS, Some(is_late))
            .map_err(failed)
    }

    /// Runs a statement and returns the number of rows that it changed.
    pub(in crate::db) fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64> {
        let connection = self.get()?;
        in_place(|| statement::execute(connection, sql, values))
    }

    /// Reads rows for as long as `accept` returns true.
    pub(in crate::db) fn read(
        &mut self,
        sql: &str,
        values: &[Value],
        accept: impl FnMut(SqliteRow) -> bool,
    ) -> Result<()> {
        let connection = self.get()?;
        in_place(|| statement::read(connection, sql, values, accept))
    }
}

impl Drop for SqliteConnection {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let connection = connection.into_inner();
            let connection = connection.unwrap_or_else(PoisonError::into_inner);
            self.pool.idle().push(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::StatementStatus;

    #[test]
    fn a_statement_is_planned_once_for_all_arguments() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(&folder.path().join("x.db"), Access::Write).unwrap();
        let tables = "CREATE TABLE a (guid TEXT UNIQUE, b TEXT); CREATE TABLE b (guid TEXT UNIQUE)";
        statement::run(&connection, tables).unwrap();
        let join = "SELECT a.guid, b.guid FROM a JOIN b ON b.guid = a.b WHERE a.guid = $1";
        for guid in ["x", "y", "z"] {
            statement::read(&connection, join, &[guid.into()], |_| true).unwrap();
        }
        let join = connection.prepare_cached(join).unwrap();
        assert_eq!(join.get_status(StatementStatus::RePrepare), 0);
    }

    /// The options stand in `.cargo/config.toml`, which only a build in the workspace reads.
    #[test]
    fn sqlite_is_compiled_with_our_options() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(&folder.path().join("x.db"), Access::Write).unwrap();
        let option = "SELECT COUNT(*) FROM pragma_compile_options WHERE compile_options = 'DEFAULT_MEMSTATUS=0'";
        let found: i64 = connection.query_row(option, [], |row| row.get(0)).unwrap();
        assert_eq!(found, 1);
    }
}
