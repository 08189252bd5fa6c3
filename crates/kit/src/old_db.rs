//! The embedded database: one SQLite file, with WAL and `synchronous=FULL`, so that a commit that returned is durable.
//!
//! Reads borrow one of a few connections, which cannot write. Every change goes through [`Database::begin`]: one transaction at a
//! time. A connection is closed if its BEGIN, COMMIT or ROLLBACK failed, or if its transaction was abandoned and cannot be rolled
//! back, so that every caller gets a connection in a known state. Errors of the disk carry a text that names it ([`Trouble`]).

use crate::disk::{self, Trouble};
use anyhow::{Context as _, Result};
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Sqlite, SqliteConnection};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The number of concurrent readers.
const READERS: u32 = 4;
/// The longest wait for one of the connections that read.
const PATIENCE: Duration = Duration::from_secs(30);
/// The free room below which no transaction begins, because it would fail at its end.
const ROOM: u64 = 1 << 20;

/// An open database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    readers: SqlitePool,
    /// The only connection that writes.
    writer: SqlitePool,
    file: Arc<File>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    folder: PathBuf,
    /// The device and inode at the time of opening.
    identity: (u64, u64),
}

impl File {
    fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
        let meta = std::fs::metadata(path)?;
        Ok((meta.dev(), meta.ino()))
    }

    /// Checks for conditions that would make a change fail or be lost, before it begins.
    fn check(&self) -> sqlx::Result<()> {
        self.trouble()
            .map_or(Ok(()), |trouble| Err(self.error(trouble)))
    }

    fn trouble(&self) -> Option<Trouble> {
        if Self::identity(&self.path).ok() != Some(self.identity) {
            return Some(Trouble::Gone);
        }
        (!disk::has(&self.folder, ROOM)).then_some(Trouble::Full)
    }

    fn error(&self, trouble: Trouble) -> sqlx::Error {
        tracing::error!(file = %self.path.display(), why = trouble.text(&self.folder), "database-not-written");
        sqlx::Error::Io(trouble.error(&self.folder))
    }

    /// Returns the error, with a text that names the disk if it is a failure of the disk.
    fn named(&self, error: sqlx::Error) -> sqlx::Error {
        match Trouble::of_database(&error) {
            Some(trouble @ (Trouble::Full | Trouble::ReadOnly | Trouble::Gone)) => {
                self.error(trouble)
            }
            Some(trouble) => {
                tracing::error!(file = %self.path.display(), %error, ?trouble, "database-failed");
                error
            }
            None => error,
        }
    }
}

impl Database {
    /// Opens the database file and applies `schema`. A missing file is created with mode 0600. `schema` is a list of idempotent
    /// statements; `ALTER TABLE … ADD COLUMN` counts as one.
    pub async fn open(path: &Path, schema: &[&str]) -> Result<Self> {
        let writer = open_writer(path).await?;
        migrate(path, &writer, schema).await?;
        ensure_ballast(path);
        Ok(Self {
            readers: readers(path, READERS, PATIENCE),
            writer,
            file: Arc::new(File {
                identity: File::identity(path)
                    .with_context(|| format!("examine {}", path.display()))?,
                folder: path.parent().unwrap_or(Path::new("/")).to_owned(),
                path: path.to_owned(),
            }),
        })
    }

    /// Returns a connection that reads.
    pub async fn read(&self) -> sqlx::Result<PoolConnection<Sqlite>> {
        self.readers.acquire().await
    }

    /// Returns the pool of connections that read.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Makes a change of one statement, in a transaction of its own. Returns the number of rows that it changed.
    pub async fn execute(&self, change: Query<'_, Sqlite, SqliteArguments>) -> sqlx::Result<u64> {
        let mut transaction = self.begin().await?;
        let done = change.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }

    /// Begins a transaction when its turn has come. Nothing else changes the database until it is committed or dropped.
    pub async fn begin(&self) -> sqlx::Result<Transaction> {
        self.file.check()?;
        let mut transaction = Transaction {
            connection: Some(self.writer.acquire().await?),
            file: self.file.clone(),
            end: End::Close,
        };
        // If the future is dropped before the answer comes, it is unknown whether the transaction has begun.
        sqlx::raw_sql("BEGIN IMMEDIATE")
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.file.named(error))?;
        transaction.end = End::RollBack;
        Ok(transaction)
    }

    /// Returns the reason why no change can begin at present, if there is one.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.file.trouble()?;
        Some(trouble.text(&self.file.folder))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Waits until every connection is returned, and closes it.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// The size of a file beside the database whose room the next start may use. SQLite cannot even read without a little room.
const BALLAST: u64 = 256 << 10;

fn ballast(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".ballast");
    PathBuf::from(name)
}

/// Opens the connection that writes. On a disk without room it removes the ballast, so that the file can be opened.
async fn open_writer(path: &Path) -> Result<SqlitePool> {
    match pool(path, 1).await {
        Err(error) if std::fs::remove_file(ballast(path)).is_ok() => {
            tracing::warn!(error = format!("{error:#}"), "ballast-dropped");
            pool(path, 1).await
        }
        opened => opened,
    }
}

/// Writes the ballast if it is missing and the disk has room for it. Its bytes are not zero, because holes would not hold the
/// room.
fn ensure_ballast(path: &Path) {
    let ballast = ballast(path);
    let is_there = std::fs::metadata(&ballast).is_ok_and(|meta| meta.len() == BALLAST);
    let folder = path.parent().unwrap_or(Path::new("/"));
    if is_there || !disk::has(folder, BALLAST + ROOM) {
        return;
    }
    let bytes = vec![b'.'; usize::try_from(BALLAST).unwrap_or_default()];
    if let Err(error) = std::fs::write(&ballast, bytes) {
        tracing::warn!(%error, file = %ballast.display(), "ballast-not-kept");
    }
}

async fn pool(path: &Path, connections: u32) -> Result<SqlitePool> {
    if !path.exists() {
        use std::os::unix::fs::OpenOptionsExt as _;
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("create database {}", path.display()))?;
    }
    permanent_pool(connections)
        .connect_with(options(path))
        .await
        .with_context(|| {
            format!(
                "open database {}: if the file is damaged, replace it with a backup",
                path.display()
            )
        })
}

async fn migrate(path: &Path, pool: &SqlitePool, schema: &[&str]) -> Result<()> {
    for statement in schema {
        match sqlx::raw_sql(sqlx::AssertSqlSafe(*statement))
            .execute(pool)
            .await
        {
            Err(error) if !is_there_already(&error) => {
                return Err(error).with_context(|| format!("migrate database {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10))
}

/// Makes further connections to an open database, for a class of readers of its own. They cannot write. A caller that waits
/// longer than `patience` for one of them gets [`sqlx::Error::PoolTimedOut`].
pub fn readers(path: &Path, connections: u32, patience: Duration) -> SqlitePool {
    permanent_pool(connections)
        .acquire_timeout(patience)
        .connect_lazy_with(
            options(path)
                .create_if_missing(false)
                .pragma("query_only", "on"),
        )
}

/// Returns the options of a pool whose connections stay open, because reopening the files beside the database would need room on
/// the disk.
fn permanent_pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
}

/// The way in which a transaction's connection is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// No transaction is open on it, so the next caller may use it.
    Return,
    RollBack,
    /// Its state is unknown, so it is closed.
    Close,
}

/// A write transaction. It is rolled back if it is dropped without [`Self::commit`].
#[derive(Debug)]
pub struct Transaction {
    /// The connection, which is only absent during the drop.
    connection: Option<PoolConnection<Sqlite>>,
    file: Arc<File>,
    end: End,
}

impl Transaction {
    /// Commits the changes. After `Ok` all of them are durable; after an `Err` none is kept.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        self.end = End::Close;
        let file = self.file.clone();
        sqlx::raw_sql("COMMIT")
            .execute(&mut *self)
            .await
            .map_err(|error| file.named(error))?;
        self.end = End::Return;
        Ok(())
    }
}

const HELD: &str = "a transaction has its connection until it is dropped";

impl Deref for Transaction {
    type Target = SqliteConnection;
    fn deref(&self) -> &SqliteConnection {
        self.connection.as_ref().expect(HELD)
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect(HELD)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        match (self.end, tokio::runtime::Handle::try_current()) {
            (End::Return, _) => {}
            (End::RollBack, Ok(runtime)) => {
                runtime.spawn(roll_back(connection));
            }
            (End::Close | End::RollBack, _) => connection.close_on_drop(),
        }
    }
}

/// Rolls a transaction back. A statement that failed may have ended the transaction already; then there is nothing to roll back,
/// and it is unknown what the connection has done since, so it is closed.
async fn roll_back(mut connection: PoolConnection<Sqlite>) {
    let rolled_back = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
    if rolled_back.is_err() {
        let _ = connection.close().await;
    }
}

/// Returns whether a column exists already. SQLite has no `ADD COLUMN IF NOT EXISTS`.
fn is_there_already(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.message().starts_with("duplicate column name"))
}

#[cfg(test)]
mod tests;
